"""SGD by hand, and the equivalence of the two momentum conventions."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.optimizers import (
    SGD,
    Adam,
    Computed,
    adam_update,
    nadam_update,
    rmsprop_update,
    sgd_update,
)


def weight_after(gradients, learning_rate, **options):
    """The weight after each step from 1.0, for given gradients; learning_rate per step."""
    parameter = Tensor(1.0, requires_grad=True)
    optimizer = SGD([parameter], learning_rate[0], **options)
    weights = []
    for gradient, rate in zip(gradients, learning_rate, strict=True):
        parameter.grad = np.asarray(gradient)
        optimizer.learning_rate = rate
        optimizer.step()
        weights.append(float(parameter.data))
    return weights


def keras_weight_after(gradients, learning_rate, momentum, nesterov):
    """The update as keras.io/api/optimizers/sgd states it."""
    weight, velocity, weights = 1.0, 0.0, []
    for gradient, rate in zip(gradients, learning_rate, strict=True):
        velocity = momentum * velocity - rate * gradient
        weight += momentum * velocity - rate * gradient if nesterov else velocity
        weights.append(weight)
    return weights


def test_plain_and_momentum_steps_by_hand():
    """Binary fractions: exact. Velocities with momentum 0.5: 1, then 0.5 + 2 = 2.5."""
    assert weight_after([1.0, 2.0], [0.5, 0.5]) == [0.5, -0.5]
    assert weight_after([1.0, 2.0], [0.5, 0.5], momentum=0.5) == [0.5, -0.75]
    # Nesterov steps: 1 + 0.5 * 1 = 1.5, then 2 + 0.5 * 2.5 = 3.25.
    assert weight_after([1.0, 2.0], [0.5, 0.5], momentum=0.5, nesterov=True) == [0.25, -1.375]


@pytest.mark.parametrize("nesterov", [False, True])
def test_torch_and_keras_conventions_agree_only_while_the_rate_is_constant(nesterov):
    gradients, constant, halved = [1.0, 2.0, -3.0], [0.5, 0.5, 0.5], [0.5, 0.25, 0.25]
    options = {"momentum": 0.5, "nesterov": nesterov}
    assert weight_after(gradients, constant, **options) == keras_weight_after(
        gradients, constant, **options
    )
    assert weight_after(gradients, halved, **options) != keras_weight_after(
        gradients, halved, **options
    )


def test_on_a_parabola_each_step_shrinks_the_weight_by_the_same_factor():
    """Of w**2 / 2 the gradient is w: w becomes (1 - 0.25) w."""
    weight = Tensor(1.0, requires_grad=True)
    optimizer = SGD([weight], 0.25)
    for step in range(1, 6):
        optimizer.zero_grad()
        (weight * weight / 2).backward()
        optimizer.step()
        assert weight.data == 0.75**step


def test_forgetting_zero_grad_doubles_the_second_gradient():
    weight = Tensor(3.0, requires_grad=True)
    optimizer = SGD([weight], 0.0)
    for expected in (6, 12):
        (weight * weight).backward()
        optimizer.step()
        assert weight.grad == expected
    optimizer.zero_grad()
    (weight * weight).backward()
    assert weight.grad == 6


def test_zero_grad_sets_none_by_default_and_zeros_on_request():
    used, unused = Tensor([1.0, 2.0], requires_grad=True), Tensor(1.0, requires_grad=True)
    optimizer = SGD([used, unused], 0.1)
    used.sum().backward()
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(used.grad, [0, 0])
    assert unused.grad is None
    optimizer.zero_grad()
    assert used.grad is None


def test_zeros_keep_the_momentum_going_and_none_stops_the_weight():
    weight = Tensor(1.0, requires_grad=True)
    optimizer = SGD([weight], 0.5, momentum=0.5)
    weight.sum().backward()
    optimizer.step()  # velocity 1
    optimizer.zero_grad()
    optimizer.step()
    assert weight.data == 0.5
    weight.grad = np.asarray(0.0)
    optimizer.step()  # velocity 0.5
    assert weight.data == 0.25


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_update_keeps_the_dtype_and_the_callers_array(dtype):
    if dtype == "bfloat16":
        from ml_dtypes import bfloat16 as dtype
    array = np.ones((), dtype)
    weight = Tensor(array, requires_grad=True)
    optimizer = SGD([weight], 0.1, momentum=0.9, nesterov=True)
    weight.sum().backward()
    optimizer.step()
    assert weight.dtype == optimizer.velocities[0].dtype == array.dtype
    assert weight.data < 1 and array == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"learning_rate": -0.1}, "expected 0 or more"),
        ({"learning_rate": float("nan")}, "expected 0 or more"),
        ({"learning_rate": 0.1, "momentum": 1.0}, r"in \[0, 1\)"),
        ({"learning_rate": 0.1, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SGD([], **options)


def weights_under_adam(gradients, **options):
    parameter = Tensor(np.array([1.0]), requires_grad=True)
    optimizer = Adam([parameter], **options)
    weights = []
    for gradient in gradients:
        parameter.grad = np.array([gradient])
        optimizer.step()
        weights.append(float(parameter.data[0]))
    return weights


@pytest.mark.parametrize("gradient", [1e-3, 1.0, -5.0])
def test_adam_steps_by_the_learning_rate(gradient):
    """A constant gradient has mean g and mean square g**2 from the first step on: steps of 1/4."""
    weights = weights_under_adam(
        [gradient] * 3, learning_rate=0.25, beta1=0.5, beta2=0.75, epsilon=0.0
    )
    expected = 1 - np.sign(gradient) * 0.25 * np.arange(1, 4)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=16 * 2.0**-53)


def test_adam_two_steps_by_hand():
    """beta1 1/2 and beta2 3/4, gradients 1 and 2, epsilon 1: it stands outside the root.

    Step 1: m = 1/2, v = 1/4, corrected 1 and 1. Step 2: m = 5/4 over 3/4, v = 19/16 over 7/16.
    """
    first = 1 - 0.5 * 1 / (1 + 1)
    second = first - 0.5 * (5 / 3) / (np.sqrt(19 / 7) + 1)
    weights = weights_under_adam([1.0, 2.0], learning_rate=0.5, beta1=0.5, beta2=0.75, epsilon=1.0)
    np.testing.assert_allclose(weights, [first, second], rtol=8 * 2.0**-53)


def test_adam_skips_parameters_without_gradient_and_keeps_the_dtype():
    parameter = Tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer = Adam([parameter], learning_rate=0.5)
    optimizer.step()
    assert parameter.data.tolist() == [1.0, 1.0]
    parameter.grad = np.ones(2, np.float32)
    optimizer.step()
    assert parameter.data.dtype == np.float32
    assert (parameter.data < 1).all()


@pytest.mark.parametrize("wrong", [{"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": -1.0}])
def test_adam_refuses_values_out_of_range(wrong):
    with pytest.raises(ValueError, match="expected"):
        Adam([], 0.1, **wrong)


# ----------------------------------------------------------------------------------------------
# The updates as functions of arrays.


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_sgd_function_is_the_sgd_class(nesterov):
    """Two steps from weight 1 and velocity 0, in binary fractions: exact."""
    weight, velocity, weights = 1.0, 0.0, []
    for gradient in (1.0, 2.0):
        weight, velocity = sgd_update(
            weight, gradient, velocity, learning_rate=0.5, momentum=0.5, nesterov=nesterov
        )
        weights.append(weight)
    assert weights == ([0.25, -1.375] if nesterov else [0.5, -0.75])
    assert velocity == 2.5


def adam_weights(gradients, **options):
    weight, state, weights = 1.0, (0.0, 0.0, 1.0, 1.0), []
    for gradient in gradients:
        weight, *state = adam_update(weight, gradient, *state, **options)
        weights.append(weight)
    return weights


def test_epsilon_stands_outside_the_corrected_or_the_uncorrected_root():
    """beta1 1/2, beta2 3/4, gradients 1 and 2, epsilon 1, as in the test of the class above.

    Uncorrected roots are sqrt(1/4) and sqrt(19/16); the corrections are (1/2)/(1/2) = 1 and
    sqrt(7/16)/(3/4).
    """
    options = {"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.75, "epsilon": 1.0}
    first = 1 - 0.5 * 1 / (1 + 1)
    second = first - 0.5 * (5 / 3) / (np.sqrt(19 / 7) + 1)
    np.testing.assert_allclose(adam_weights([1.0, 2.0], **options), [first, second], rtol=1e-15)

    first = 1 - 0.5 * 1 * 0.5 / (0.5 + 1)
    second = first - 0.5 * (np.sqrt(7 / 16) / 0.75) * 1.25 / (np.sqrt(19 / 16) + 1)
    np.testing.assert_allclose(
        adam_weights([1.0, 2.0], epsilon_hat=True, **options), [first, second], rtol=1e-15
    )


def test_weight_decay_is_decoupled_from_the_gradient():
    """Without gradient every step multiplies the weight by 1 - 0.5 * 0.25 = 7/8."""
    options = {"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.75, "epsilon": 1.0}
    weights = adam_weights([0.0, 0.0, 0.0], weight_decay=0.25, **options)
    assert weights == [7 / 8, 49 / 64, 343 / 512]


def rmsprop_weights(gradients, **options):
    weight, state, weights = 1.0, (0.0, 0.0, 0.0), []
    for gradient in gradients:
        weight, *state = rmsprop_update(weight, gradient, *state, decay=0.75, **options)
        weights.append(weight)
    return weights


def test_rmsprop_two_steps_by_hand():
    """Gradients 2 and 4: squares 1 and 3/4 + 4 = 19/4, means 1/2 and 3/8 + 1 = 11/8."""
    options = {"learning_rate": 0.5, "epsilon": 3.0}
    outside = [1 - 0.5 * 2 / 4, 0.75 - 0.5 * 4 / (np.sqrt(19 / 4) + 3)]
    inside = [1 - 0.5 * 2 / 2, 0.5 - 0.5 * 4 / np.sqrt(19 / 4 + 3)]
    np.testing.assert_allclose(
        rmsprop_weights([2.0, 4.0], epsilon_in_root=False, **options), outside, rtol=1e-15
    )
    np.testing.assert_allclose(
        rmsprop_weights([2.0, 4.0], epsilon_in_root=True, **options), inside, rtol=1e-15
    )
    velocities = [2 / np.sqrt(1 - 1 / 4 + 3), 4 / np.sqrt(19 / 4 - 121 / 64 + 3)]
    velocities[1] += 0.5 * velocities[0]
    np.testing.assert_allclose(
        rmsprop_weights([2.0, 4.0], epsilon_in_root=True, centered=True, momentum=0.5, **options),
        1 - 0.5 * np.cumsum(velocities),
        rtol=1e-15,
    )


# ----------------------------------------------------------------------------------------------
# How far rounding may carry them.

UNIT = 2.0**-11  # of float16


def test_a_computed_array_bounds_what_float16_does():
    """2000 random expressions in float16 stay within the bound, and some use a third of it."""
    generator = np.random.default_rng(0)
    a, b, c = generator.uniform(0.5, 4, (3, 2000)).astype(np.float16)

    def expression(a, b, c):
        return np.sqrt(a * a + b / c) - (b + 2) * c / 4

    computed = expression(*(Computed(x.astype(np.float64), UNIT) for x in (a, b, c)))
    exact = expression(*(x.astype(np.float64) for x in (a, b, c)))
    np.testing.assert_array_equal(computed.value, exact)
    share = np.abs(expression(a, b, c).astype(np.float64) - exact) / computed.error
    assert share.max() < 1
    assert share.max() > 0.15


@pytest.mark.parametrize(
    "operation, error",
    [
        (lambda x, y: x + y, 0.25 + 0.5),
        (lambda x, y: x - y, 0.25 + 0.5),
        (lambda x, y: x * y, 4.25 * 8.5 - 4 * 8),
        (lambda x, y: x / y, 4.25 / 7.5 - 4 / 8),
        (lambda x, y: np.sqrt(x), 2 - np.sqrt(3.75)),
        (lambda x, y: 1 - x, 0.25),
    ],
)
def test_operations_pass_the_errors_of_their_operands_on(operation, error):
    """With no rounding of their own: the farthest that 4 ± 1/4 and 8 ± 1/2 can go."""
    result = operation(Computed(4.0, 0.0, 0.25), Computed(8.0, 0.0, 0.5))
    np.testing.assert_allclose(result.error, error, rtol=1e-14)


def test_operations_add_roundings_of_their_own_and_nothing_else_is_understood():
    assert (Computed(3.0, UNIT) + 1).error == 2 * UNIT * 4
    with pytest.raises(TypeError):
        np.exp(Computed(3.0, UNIT))


@pytest.mark.parametrize("momentum_decay, expected", [(None, -4 / 3), (0.0, -17 / 15)])
def test_nadam_takes_the_average_of_the_next_step(momentum_decay, expected):
    """m and v are 1/2. Momenta of 1/2: 1/4 / (1 - 1/4) + 1; of 1/4: 1/8 / (1 - 1/16) + 1."""
    weight, mean, square, *_ = nadam_update(
        np.zeros(1),
        np.ones(1),
        np.zeros(1),
        np.zeros(1),
        np.ones(1),
        np.ones(1),
        np.ones(1),
        learning_rate=1.0,
        beta1=0.5,
        beta2=0.5,
        epsilon=0.0,
        momentum_decay=momentum_decay,
    )
    assert (mean, square) == (0.5, 0.5)
    np.testing.assert_allclose(weight, expected, rtol=2**-50)
