"""Optimizers over the `Tensor`s of `reference.autodiff`."""

import numpy as np

from reference.autodiff import rounded


class Optimizer:
    """What all optimizers share: the parameters, and forgetting their gradients."""

    def __init__(self, parameters, learning_rate):
        if not learning_rate >= 0:
            raise ValueError(f"learning_rate is {learning_rate}; expected 0 or more")
        self.parameters = list(parameters)
        self.learning_rate = learning_rate

    def zero_grad(self, set_to_none=True):
        """Forget the gradients: None by default, arrays of zeros if not `set_to_none`."""
        for parameter in self.parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = np.zeros_like(parameter.grad)


class SGD(Optimizer):
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
        super().__init__(parameters, learning_rate)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected a number in [0, 1)")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
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


class Adam(Optimizer):
    """Adam: steps of the size of the learning rate, whatever the scale of the gradients.

    parameters: Tensors; learning_rate >= 0; beta1, beta2 in [0, 1); epsilon >= 0, in units of the
    gradient. Step t, counted from 1, for the gradient g of weight w, from m = v = 0:

        m = beta1 * m + (1 - beta1) * g           v = beta2 * v + (1 - beta2) * g**2
        w = w - learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)

    `parameter.data` is replaced, never written into. Raises ValueError for values out of range.
    Source: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1.
    """

    def __init__(self, parameters, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        super().__init__(parameters, learning_rate)
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and epsilon >= 0):
            raise ValueError(
                f"beta1 {beta1}, beta2 {beta2}, epsilon {epsilon}; "
                "expected [0, 1), [0, 1), 0 or more"
            )
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.steps = 0
        self.means = [np.zeros_like(parameter.data) for parameter in self.parameters]
        self.squares = [np.zeros_like(parameter.data) for parameter in self.parameters]

    def step(self):
        """Update every parameter that has a gradient."""
        self.steps += 1
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            number = parameter.dtype.type
            beta1, beta2, one = number(self.beta1), number(self.beta2), number(1)
            gradient = parameter.grad
            self.means[i] = beta1 * self.means[i] + (one - beta1) * gradient
            self.squares[i] = beta2 * self.squares[i] + (one - beta2) * gradient**2
            mean = self.means[i] / number(1 - self.beta1**self.steps)
            root = np.sqrt(self.squares[i] / number(1 - self.beta2**self.steps))
            change = number(self.learning_rate) * mean / (root + number(self.epsilon))
            parameter.data = parameter.data - change
