"""SGD by hand, and the equivalence of the two momentum conventions."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.optimizers import SGD, Adam


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
