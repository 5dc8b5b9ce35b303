"""RMSprop: gradients divided by the root of their average square.

One step, for the gradient g of weight w, from averages of zero and without bias correction:

    square = decay * square + (1 - decay) * g**2      mean = decay * mean + (1 - decay) * g
    torch          w = w - rate * g / (sqrt(square) + epsilon)
    Keras, optax   w = w - rate * g / sqrt(square + epsilon)

The centered variant puts square - mean**2, the variance, in the place of square. With momentum the
steps are accumulated, velocity = momentum * velocity + step; what the velocity holds differs:

              decay is called   epsilon is added to     velocity accumulates
    torch     alpha             the root                g / root
    Keras     rho               the variance            rate * g / root
    optax     decay             the variance            -rate * g / root
                                (the root, if eps_in_sqrt=False)

Sources: class 113, definition of RMSProp, topic 5; class 122, objective (equivalences 1:1);
Hinton (2012), Neural Networks for Machine Learning, lecture 6e; Graves (2013), arXiv:1308.0850;
https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html,
https://keras.io/api/optimizers/rmsprop/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.rmsprop
"""

import numpy as np

from conformance.optimizers.ten_steps import START, ten_gradients, thirds
from fixtures.matrix import behaviour
from fixtures.precision import Bound, unit_roundoff
from reference.optimizers import Computed, rmsprop_update

# Every format holds these exactly.
LEARNING_RATE = 1 / 8
DECAY = 3 / 4
EPSILON = 2.0

# Whether epsilon is added under the root, and what a velocity is in units of torch's.
epsilon_in_root_in_numpy = False
epsilon_in_root_in_torch = False
epsilon_in_root_in_tensorflow = True
epsilon_in_root_in_keras = True
epsilon_in_root_in_jax = True

velocity_scale_in_numpy = 1
velocity_scale_in_torch = 1
velocity_scale_in_tensorflow = LEARNING_RATE
velocity_scale_in_keras = LEARNING_RATE
velocity_scale_in_jax = -LEARNING_RATE


def trained_in_numpy(cell, start, steps, **options):
    import numpy as np

    from reference.optimizers import rmsprop_update

    weights = [array.astype(cell.dtype) for array in start]
    states = [[np.zeros_like(weight)] * 3 for weight in weights]
    for gradients in steps:
        for i, gradient in enumerate(gradients):
            weights[i], *states[i] = rmsprop_update(
                weights[i],
                gradient.astype(cell.dtype),
                *states[i],
                learning_rate=LEARNING_RATE,
                decay=DECAY,
                epsilon=EPSILON,
                epsilon_in_root=False,
                **options,
            )
    squares, means, velocities = zip(*states, strict=True)
    return weights, {"square": squares, "mean": means, "velocity": velocities}


def trained_in_torch(cell, start, steps, **options):
    import inspect

    import torch

    parameters = [torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in start]
    optimizer = torch.optim.RMSprop(
        parameters, lr=LEARNING_RATE, alpha=DECAY, eps=EPSILON, **options
    )
    # The method's decorators break the graph on purpose; what they wrap is compiled as a whole.
    plain_step = inspect.unwrap(torch.optim.RMSprop.step)
    step = cell.compile(lambda: plain_step(optimizer)) if cell.is_compiled else optimizer.step
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=cell.dtype, device=cell.device)
        with torch.no_grad():
            step()
    names = {"square": "square_avg", "mean": "grad_avg", "velocity": "momentum_buffer"}
    states = [optimizer.state[parameter] for parameter in parameters]
    return [parameter.clone() for parameter in parameters], {
        name: [state[key] for state in states] for name, key in names.items() if key in states[0]
    }


def trained_in_tensorflow(cell, start, steps, **options):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras.optimizers.RMSprop(LEARNING_RATE, rho=DECAY, epsilon=EPSILON, **options)
    optimizer.build(variables)

    @cell.compile
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for gradients in steps:
        step([tf.constant(gradient, cell.dtype) for gradient in gradients])
    names = {"square": "velocity", "mean": "average_gradient", "velocity": "momentum"}
    return [tf.identity(variable) for variable in variables], {
        name: [slot.numpy() for slot in optimizer.variables if key in slot.name]
        for name, key in names.items()
    }


def trained_in_keras(cell, start, steps, **options):
    import keras

    variables = [keras.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras.optimizers.RMSprop(LEARNING_RATE, rho=DECAY, epsilon=EPSILON, **options)
    for gradients in steps:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, cell.dtype) for gradient in gradients], variables
        )
    names = {"square": "velocity", "mean": "average_gradient", "velocity": "momentum"}
    return variables, {
        name: [slot for slot in optimizer.variables if key in slot.name]
        for name, key in names.items()
    }


def trained_in_jax(cell, start, steps, **options):
    import jax.numpy as jnp
    import optax

    weights = [jnp.asarray(array, cell.dtype) for array in start]
    optimizer = optax.rmsprop(LEARNING_RATE, decay=DECAY, eps=EPSILON, **options)
    state = optimizer.init(weights)

    @cell.compile
    def step(weights, state, gradients):
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    for gradients in steps:
        gradients = [jnp.asarray(gradient, cell.dtype) for gradient in gradients]
        weights, state = step(weights, state, gradients)
    averages, _, trace = state
    kept = {"square": averages.nu}
    if options:
        kept |= {"mean": averages.mu, "velocity": trace.trace}
    return weights, kept


def check(expect, cell, result, epsilon_in_root, velocity_scale, start, steps, **options):
    """Compare weights and what the optimizer keeps with the float64 update."""
    weights, kept = result
    unit = unit_roundoff(cell.precision)
    names = ["square", "mean", "velocity"] if options else ["square"]
    for i, parameter in enumerate(("matrix", "vector")):
        zero = np.zeros_like(start[i])
        weight, *state = (Computed(array, unit) for array in (start[i], zero, zero, zero))
        for gradients in steps:
            weight, *state = rmsprop_update(
                weight,
                gradients[i],
                *state,
                learning_rate=LEARNING_RATE,
                decay=DECAY,
                epsilon=EPSILON,
                epsilon_in_root=epsilon_in_root,
                **options,
            )
        state = dict(zip(("square", "mean", "velocity"), state, strict=True))
        comparisons = [("weights", weights[i], weight, 1)]
        for name in names:
            scale = velocity_scale if name == "velocity" else 1
            comparisons.append((name, kept[name][i], state[name], scale))
        for name, observed, expected, scale in comparisons:
            expect.within(
                Bound(
                    absolute=expected.error * abs(scale),
                    because=f"running error analysis of ten steps in {cell.precision}",
                ),
                observed=observed,
                expected=expected.value * scale,
                what=f"{name} of the {parameter}",
            )


@behaviour(
    "optimizers.rmsprop-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    # Without jit JAX compiles dozens of little programs for each precision; torch compiles for
    # seconds what adam-update compiles as well.
    costly="jax-*float16-eager keras_jax-*float16-eager torch-*-compiled",
    catches="torch.rmsprop-epsilon-under-the-root optax.rmsprop-epsilon-outside-the-root",
)
def test_rmsprop_update(trained, epsilon_in_root, velocity_scale, cell, expect):
    """RMSprop divides by the root of the average square; Keras and optax add epsilon under it.

    Ten steps with learning rate 1/8, decay 3/4 and an epsilon of 2, so large that its place shows
    in bfloat16 too: plain, and then centered with momentum 3/4. Weights, averages and velocities
    may differ from the float64 update by the rounding errors that a running error analysis adds up,
    two for each operation of a step.
    """
    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    for options in ({}, {"centered": True, "momentum": 3 / 4}):
        result = trained(cell, start, steps, **options)
        check(expect, cell, result, epsilon_in_root, velocity_scale, start, steps, **options)
