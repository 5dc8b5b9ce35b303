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


# ----------------------------------------------------------------------------------------------
# The same updates as functions of arrays, for trajectories under given gradients. Each takes and
# returns arrays of one shape, or `Computed` ones, which know how far rounding may carry them.


def sgd_update(weight, gradient, velocity, *, learning_rate, momentum=0.0, nesterov=False):
    """One step of `SGD` in the convention of torch: the new (weight, velocity)."""
    velocity = momentum * velocity + gradient
    direction = gradient + momentum * velocity if nesterov else velocity
    return weight - learning_rate * direction, velocity


def adam_update(
    weight,
    gradient,
    mean,
    square,
    power1,
    power2,
    *,
    learning_rate,
    beta1,
    beta2,
    epsilon,
    epsilon_hat=False,
    weight_decay=0.0,
):
    """One step of Adam or AdamW: the new (weight, mean, square, power1, power2).

    mean and square start at 0; power1 and power2, which are beta1**t and beta2**t, at 1.

                      w = w - learning_rate * weight_decay * w, and then
        torch, optax  w = w - learning_rate * (mean / (1 - power1))
                                            / (sqrt(square / (1 - power2)) + epsilon)
        Keras         w = w - learning_rate * sqrt(1 - power2) / (1 - power1)
                                            * mean / (sqrt(square) + epsilon)

    The second is `epsilon_hat`: there epsilon acts as epsilon / sqrt(1 - power2) would in the
    first. Sources: Kingma and Ba (2015), arXiv:1412.6980, algorithm 1 and the note at the end of
    its section 2; Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 2.
    """
    power1, power2 = power1 * beta1, power2 * beta2
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * (gradient * gradient)
    if epsilon_hat:
        rate = learning_rate * np.sqrt(1 - power2) / (1 - power1)
        change = rate * mean / (np.sqrt(square) + epsilon)
    else:
        root = np.sqrt(square / (1 - power2))
        change = learning_rate * (mean / (1 - power1)) / (root + epsilon)
    if weight_decay:
        weight = weight - learning_rate * weight_decay * weight
    return weight - change, mean, square, power1, power2


def nadam_update(
    weight,
    gradient,
    mean,
    square,
    power,
    power2,
    product,
    *,
    learning_rate,
    beta1,
    beta2,
    epsilon,
    momentum_decay=None,
):
    """One step of Nadam: the new (weight, mean, square, power, power2, product).

    mean and square start at 0; power, which is 0.96**(t * momentum_decay), power2, which is
    beta2**t, and product, that of all momenta up to step t, at 1. The momentum of step t is

        mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2), or beta1 without momentum_decay
        product = mu(1) * ... * mu(t)
        w = w - learning_rate / (sqrt(square / (1 - power2)) + epsilon)
              * (mu(t + 1) * mean / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product))

    Source: Dozat (2016), Incorporating Nesterov Momentum into Adam, algorithm 8 of the report.
    """
    power2 = power2 * beta2
    if momentum_decay is None:
        momentum = following = beta1
    else:
        power = power * 0.96**momentum_decay
        momentum = beta1 * (1 - 0.5 * power)
        following = beta1 * (1 - 0.5 * (power * 0.96**momentum_decay))
    product = product * momentum
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * (gradient * gradient)
    ahead = following * mean / (1 - product * following)
    direction = ahead + (1 - momentum) * gradient / (1 - product)
    root = np.sqrt(square / (1 - power2))
    change = learning_rate * direction / (root + epsilon)
    return weight - change, mean, square, power, power2, product


def rmsprop_update(
    weight,
    gradient,
    square,
    mean,
    velocity,
    *,
    learning_rate,
    decay,
    epsilon,
    epsilon_in_root,
    momentum=0.0,
    centered=False,
):
    """One step of RMSprop: the new (weight, square, mean, velocity), all but weight from 0.

        square = decay * square + (1 - decay) * g**2       mean = decay * mean + (1 - decay) * g
        variance = square, or square - mean**2 where `centered`
        velocity = momentum * velocity + g / root          w = w - learning_rate * velocity

    root is sqrt(variance) + epsilon in torch, sqrt(variance + epsilon) where `epsilon_in_root`, as
    in Keras and optax. Source: Hinton, Neural Networks for Machine Learning, lecture 6e (2012);
    Graves (2013), arXiv:1308.0850, equations 38 to 45, for the centered variant with momentum.
    """
    square = decay * square + (1 - decay) * (gradient * gradient)
    mean = decay * mean + (1 - decay) * gradient
    variance = square - mean * mean if centered else square
    root = np.sqrt(variance + epsilon) if epsilon_in_root else np.sqrt(variance) + epsilon
    velocity = momentum * velocity + gradient / root
    return weight - learning_rate * velocity, square, mean, velocity


class Computed(np.lib.mixins.NDArrayOperatorsMixin):
    """An array, and a bound on the rounding error a computation of it has gathered so far.

    value   float64 array: what exact arithmetic gives
    error   float64 array: how far from it arithmetic of unit roundoff `unit` may be

    +, -, *, / and np.sqrt work between such arrays and with plain arrays and numbers, which are
    taken to be exact. Every operation passes the errors of its operands on and adds `ROUNDINGS`
    roundings of its result: its own, and one for a library that takes another valid way there (a
    product more, another order, a root that is not correctly rounded).
    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3 (running
    error analysis).
    """

    ROUNDINGS = 2

    def __init__(self, value, unit, error=0.0):
        self.value = np.asarray(value, np.float64)
        self.unit = unit
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs or ufunc not in _PASSED_ON:
            return NotImplemented
        operands = [x if isinstance(x, Computed) else Computed(x, self.unit) for x in inputs]
        value = ufunc(*(operand.value for operand in operands))
        error = _PASSED_ON[ufunc](value, *operands)
        return Computed(
            value, self.unit, error + self.ROUNDINGS * self.unit * (np.abs(value) + error)
        )


def _sum_error(value, a, b):
    return a.error + b.error


def _product_error(value, a, b):
    return np.abs(a.value) * b.error + a.error * (np.abs(b.value) + b.error)


def _quotient_error(value, a, b):
    return (a.error + np.abs(value) * b.error) / (np.abs(b.value) - b.error)


def _root_error(value, a):
    return value - np.sqrt(np.maximum(a.value - a.error, 0))


# operation -> the error its operands pass on to its result, at most
_PASSED_ON = {
    np.add: _sum_error,
    np.subtract: _sum_error,
    np.multiply: _product_error,
    np.divide: _quotient_error,
    np.sqrt: _root_error,
}
