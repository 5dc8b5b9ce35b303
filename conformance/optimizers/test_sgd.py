"""SGD: plain, with momentum, and with Nesterov's momentum.

Plain SGD subtracts learning rate times gradient. Momentum averages the directions: one step, for
the gradient g of weight w, starting from velocity v = 0, is

    torch, optax   v = momentum * v + g                  w = w - learning_rate * v
                                             (Nesterov)  w = w - learning_rate * (g + momentum * v)
    Keras          v = momentum * v - learning_rate * g  w = w + v
                                             (Nesterov)  w = w + momentum * v - learning_rate * g

Keras's velocity is -learning_rate times torch's, so with a constant learning rate the weights are
the same. When the rate changes, torch applies the new one to the whole velocity and Keras to new
gradients only: the way to lower it in the middle of a training is not the same.

No network is needed to see it: ten gradients that change sign and size are handed to the optimizer.

Sources: class 113, definitions of SGD, momentum and Nesterov, topics 2 and 3; Polyak (1964);
Sutskever et al. (2013), On the importance of initialization and momentum in deep learning;
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://keras.io/api/optimizers/sgd/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.sgd
"""

import numpy as np

from conformance.optimizers.ten_steps import START, thirds
from fixtures.matrix import behaviour
from fixtures.precision import Bound, unit_roundoff
from reference.optimizers import Computed, sgd_update

# Ten gradients for each of the two parameters.
GRADIENTS = [
    (np.array([[1.0, -2.0, 0.5], [3.0, -0.25, 4.0]]), np.array([2.0, -1.0, 0.25, 3.0])),
    (np.array([[-0.5, 1.0, 2.0], [1.5, 0.75, -3.0]]), np.array([-1.5, 4.0, 0.5, -0.25])),
    (np.array([[2.0, 0.25, -1.0], [-2.0, 3.0, 0.5]]), np.array([0.75, -2.0, 3.0, 1.0])),
    (np.array([[4.0, -1.5, 0.75], [0.5, -1.0, 1.0]]), np.array([-4.0, 0.5, -1.0, 2.5])),
    (np.array([[-1.0, 3.0, -2.5], [1.0, 0.25, -0.75]]), np.array([1.0, -0.75, 2.0, -3.0])),
    (np.array([[0.25, -0.5, 3.0], [-4.0, 2.0, 1.5]]), np.array([-0.5, 1.5, -2.5, 0.5])),
    (np.array([[-3.0, 2.0, 1.0], [0.75, -1.5, 2.5]]), np.array([3.0, -3.0, 0.75, 1.25])),
    (np.array([[1.5, -4.0, -0.25], [2.0, 0.5, -2.0]]), np.array([-0.25, 2.0, 1.5, -1.5])),
    (np.array([[-0.75, 0.5, 1.25], [-1.0, -3.0, 0.25]]), np.array([2.5, 0.25, -3.0, 4.0])),
    (np.array([[2.0, 1.0, -1.0], [0.5, 4.0, 3.0]]), np.array([-1.0, -0.5, 1.0, -2.0])),
]
# Every format holds these exactly.
LEARNING_RATE = 1 / 8
MOMENTUM = 3 / 4

# What an optimizer calls its velocity is torch's v times this.
velocity_scale_in_numpy = 1
velocity_scale_in_torch = 1
velocity_scale_in_tensorflow = -LEARNING_RATE
velocity_scale_in_keras = -LEARNING_RATE
velocity_scale_in_jax = 1

# momentum-update and adam-update compile the same machinery in float32.
COSTLY = "torch-*-compiled"


def trained_in_numpy(cell, start, steps, momentum=0.0, nesterov=False):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    parameters = [Tensor(array.astype(cell.dtype)) for array in start]
    optimizer = SGD(parameters, LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.astype(cell.dtype)
        optimizer.step()
    return parameters, optimizer.velocities


def trained_in_torch(cell, start, steps, momentum=0.0, nesterov=False):
    import inspect

    import torch

    parameters = [torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in start]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    # The method's decorators break the graph on purpose; what they wrap is compiled as a whole.
    plain_step = inspect.unwrap(torch.optim.SGD.step)
    step = cell.compile(lambda: plain_step(optimizer)) if cell.is_compiled else optimizer.step
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=cell.dtype, device=cell.device)
        with torch.no_grad():
            step()
    weights = [parameter.clone() for parameter in parameters]
    if not momentum:
        return weights, []
    return weights, [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]


def trained_in_tensorflow(cell, start, steps, momentum=0.0, nesterov=False):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    optimizer.build(variables)

    @cell.compile
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for gradients in steps:
        step([tf.constant(gradient, cell.dtype) for gradient in gradients])
    weights = [tf.identity(variable) for variable in variables]
    velocities = [slot for slot in optimizer.variables if "momentum" in slot.name]
    return weights, [tf.identity(velocity.value) for velocity in velocities]


def trained_in_keras(cell, start, steps, momentum=0.0, nesterov=False):
    import keras

    variables = [keras.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    for gradients in steps:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, cell.dtype) for gradient in gradients], variables
        )
    return variables, [slot for slot in optimizer.variables if "momentum" in slot.name]


def trained_in_jax(cell, start, steps, momentum=None, nesterov=False):
    import jax
    import jax.numpy as jnp
    import optax

    weights = [jnp.asarray(array, cell.dtype) for array in start]
    optimizer = optax.sgd(LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    state = optimizer.init(weights)

    @cell.compile
    def step(weights, state, gradients):
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    for gradients in steps:
        gradients = [jnp.asarray(gradient, cell.dtype) for gradient in gradients]
        weights, state = step(weights, state, gradients)
    return weights, jax.tree.leaves(state)


def check(expect, cell, trained, velocity_scale, **options):
    """Compare weights and velocities after ten steps with the float64 update."""
    start = thirds(START, cell.precision)
    steps = [thirds(gradients, cell.precision) for gradients in GRADIENTS]
    weights, velocities = trained(cell, start, steps, **options)
    unit = unit_roundoff(cell.precision)
    for i, what in enumerate(("matrix", "vector")):
        weight, velocity = Computed(start[i], unit), Computed(np.zeros_like(start[i]), unit)
        for gradients in steps:
            weight, velocity = sgd_update(
                weight, gradients[i], velocity, learning_rate=LEARNING_RATE, **options
            )
        because = f"running error analysis of ten steps in {cell.precision}"
        expect.within(
            Bound(absolute=weight.error, because=because),
            observed=weights[i],
            expected=weight.value,
            what=what,
        )
        if options:
            expect.within(
                Bound(absolute=velocity.error * abs(velocity_scale), because=because),
                observed=velocities[i],
                expected=velocity.value * velocity_scale,
                what=f"velocity of the {what}",
            )


@behaviour(
    "optimizers.sgd-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=COSTLY,
    catches="torch.float64-tensors-through-float32",
)
def test_sgd_update(trained, velocity_scale, cell, expect):
    """SGD subtracts learning rate times gradient, from every parameter, at every step: w - g / 8.

    The weights after ten steps may differ from the float64 update by the rounding errors that a
    running error analysis adds up, two for each operation of a step.
    """
    check(expect, cell, trained, velocity_scale)


@behaviour(
    "optimizers.momentum-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.momentum-is-an-average[*-eager] torch.momentum-dampened-by-a-thousandth "
    "optax.momentum-in-bfloat16",
)
def test_momentum_update(trained, velocity_scale, cell, expect):
    """Momentum 3/4: v = 3/4 v + g and w = w - v / 8; the velocity Keras keeps is -v / 8.

    Ten steps, weights and velocities; roundings are counted as in sgd-update.
    """
    check(expect, cell, trained, velocity_scale, momentum=MOMENTUM)


@behaviour(
    "optimizers.nesterov-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=COSTLY,
    catches="torch.nesterov-is-plain-momentum torch.momentum-dampened-by-a-thousandth "
    "optax.momentum-in-bfloat16",
)
def test_nesterov_update(trained, velocity_scale, cell, expect):
    """Nesterov looks ahead: v is the same, but the step is w = w - (g + 3/4 v) / 8.

    Ten steps, weights and velocities; roundings are counted as in sgd-update.
    """
    check(expect, cell, trained, velocity_scale, momentum=MOMENTUM, nesterov=True)


# ----------------------------------------------------------------------------------------------
# A learning rate that changes. Three gradients of 1 with momentum 1/2, at the rates 1/2, 1/2, 1/4:
#
#     torch, optax  v = 1, 3/2, 7/4            w = -1/2, -5/4, -5/4 - 7/4 * 1/4 = -27/16
#     Keras         v = -1/2, -3/4, -5/8       w = -1/2, -5/4, -5/4 - 5/8 = -15/8

w_after_the_change_in_numpy = -27 / 16
w_after_the_change_in_torch = -27 / 16
w_after_the_change_in_tensorflow = -15 / 8
w_after_the_change_in_keras = -15 / 8
w_after_the_change_in_jax = -27 / 16


def slowed_down_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype))
    optimizer = SGD([w], learning_rate=1 / 2, momentum=1 / 2)
    for rate in (1 / 2, 1 / 2, 1 / 4):
        optimizer.learning_rate = rate
        w.grad = np.ones(1, cell.dtype)
        optimizer.step()
    return w


def slowed_down_in_torch(cell):
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=1 / 2, momentum=1 / 2)
    for rate in (1 / 2, 1 / 2, 1 / 4):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = torch.ones_like(w)
        optimizer.step()
    return w


def slowed_down_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(1 / 2, momentum=1 / 2)
    for rate in (1 / 2, 1 / 2, 1 / 4):
        optimizer.learning_rate = rate
        optimizer.apply_gradients([(tf.ones(1, cell.dtype), w)])
    return w


def slowed_down_in_keras(cell):
    import keras

    w = keras.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(1 / 2, momentum=1 / 2)
    for rate in (1 / 2, 1 / 2, 1 / 4):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.ones(1, cell.dtype)], [w])
    return w


def slowed_down_in_jax(cell):
    import jax.numpy as jnp
    import optax

    w = jnp.zeros(1, cell.dtype)
    schedule = optax.piecewise_constant_schedule(1 / 2, {2: 1 / 2})
    optimizer = optax.sgd(schedule, momentum=1 / 2)
    state = optimizer.init(w)
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones_like(w), state, w)
        w = optax.apply_updates(w, updates)
    return w


@behaviour(
    "defaults.momentum-formula",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.velocity-keeps-its-old-rate",
)
def test_momentum_formula(slowed_down, w_after_the_change, cell, expect):
    """When the rate is halved, the next step is 7/16 in torch and optax, and still 5/8 in Keras.

    Powers of two and their sums: nothing rounds.
    """
    expect.exactly(observed=slowed_down(cell), expected=[w_after_the_change], what="w")
