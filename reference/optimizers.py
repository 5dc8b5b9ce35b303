"""Optimizers over the `Tensor`s of `reference.autodiff`."""

import numpy as np

from reference.autodiff import rounded


class SGD:
    """Stochastic gradient descent with momentum.

    parameters: Tensors; learning_rate >= 0; momentum in [0, 1); nesterov needs momentum > 0.
    One step, for the gradient g of weight w, starting from velocity v = 0:

        torch   v = momentum * v + g                    w = w - learning_rate * v
                                            (nesterov)  w = w - learning_rate * (g + momentum * v)
        Keras   v = momentum * v - learning_rate * g    w = w + v
                                            (nesterov)  w = w + momentum * v - learning_rate * g

    This class computes the first. Keras's v is -learning_rate times torch's, so with a constant
    learning rate the weights are the same; when it changes, torch applies the new rate to the
    whole velocity, Keras only to new gradients. `parameter.data` is replaced, never written into.
    Raises ValueError for values outside these ranges.
    Sources: Polyak (1964); Sutskever et al. (2013), On the importance of initialization and
    momentum; https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html;
    https://keras.io/api/optimizers/sgd/.
    """

    def __init__(self, parameters, learning_rate, momentum=0.0, nesterov=False):
        if not learning_rate >= 0:
            raise ValueError(f"learning_rate is {learning_rate}; expected 0 or more")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected a number in [0, 1)")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.velocities = [np.zeros_like(parameter.data) for parameter in self.parameters]

    def step(self):
        """Update every parameter that has a gradient."""
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            if gradient is None:
                continue
            number = parameter.dtype.type  # Python numbers would promote some dtypes
            direction = gradient
            if self.momentum:
                momentum = number(self.momentum)
                velocity = rounded(rounded(momentum * self.velocities[i]) + gradient)
                self.velocities[i] = direction = velocity
                if self.nesterov:
                    direction = rounded(gradient + rounded(momentum * velocity))
            change = rounded(number(self.learning_rate) * direction)
            parameter.data = rounded(parameter.data - change)

    def zero_grad(self, set_to_none=True):
        """Forget the gradients: None by default, arrays of zeros if not `set_to_none`."""
        for parameter in self.parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = np.zeros_like(parameter.grad)
