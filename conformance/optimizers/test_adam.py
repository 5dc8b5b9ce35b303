"""Adam and AdamW: two moving averages, their bias correction, and where epsilon stands.

Adam keeps a moving average m of the gradients and one of their squares, v. Both start at zero, so
both are divided by 1 - beta**t after t steps. One step, for the gradient g of weight w:

    m = beta1 * m + (1 - beta1) * g           v = beta2 * v + (1 - beta2) * g**2

    torch, optax   w = w - rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)
    Keras          w = w - rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

Keras computes what Kingma and Ba call epsilon hat: its epsilon is added to the uncorrected root. It
acts like an epsilon that is 1 / sqrt(1 - beta2**t) times larger, 31.6 times at the first step of
the default beta2 = 0.999. AdamW multiplies the weights by 1 - rate * weight_decay besides; the
decay does not pass through m and v, where a large gradient would divide it away.

                  m and v are called           epsilon is added to
    torch         exp_avg, exp_avg_sq          sqrt(v / (1 - beta2**t))
    Keras         momentum, velocity           sqrt(v)
    optax         mu, nu                       sqrt(v / (1 - beta2**t))

Sources: class 113, definitions of Adam, beta_1, beta_2, epsilon and AdamW, topics 6 and 7;
class 122, objective (equivalences 1:1); Kingma and Ba (2015), arXiv:1412.6980; Loshchilov and
Hutter (2019), arXiv:1711.05101;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html,
https://keras.io/api/optimizers/adam/, https://keras.io/api/optimizers/adamw/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adamw
"""

import numpy as np

from conformance.optimizers.ten_steps import START, ten_gradients, thirds
from fixtures.matrix import behaviour
from fixtures.precision import Bound, unit_roundoff
from reference.optimizers import Computed, adam_update

# Every format holds these exactly.
LEARNING_RATE = 1 / 8
BETA1 = 7 / 8
BETA2 = 3 / 4

# Without jit JAX compiles dozens of little programs for each precision.
EAGER_JAX = "jax-*float16-eager keras_jax-*float16-eager"

# Whether epsilon is added to the uncorrected root.
epsilon_hat_in_numpy = False
epsilon_hat_in_torch = False
epsilon_hat_in_tensorflow = True
epsilon_hat_in_keras = True
epsilon_hat_in_jax = False


def trained_in_numpy(cell, start, steps, epsilon, weight_decay=None):
    import numpy as np

    from reference.optimizers import adam_update

    weights = [array.astype(cell.dtype) for array in start]
    states = [[np.zeros_like(weight)] * 2 + [np.ones_like(weight)] * 2 for weight in weights]
    for gradients in steps:
        for i, gradient in enumerate(gradients):
            weights[i], *states[i] = adam_update(
                weights[i],
                gradient.astype(cell.dtype),
                *states[i],
                learning_rate=LEARNING_RATE,
                beta1=BETA1,
                beta2=BETA2,
                epsilon=epsilon,
                weight_decay=weight_decay or 0.0,
            )
    return weights, [state[0] for state in states], [state[1] for state in states], len(steps)


def trained_in_torch(cell, start, steps, epsilon, weight_decay=None, **implementation):
    import inspect

    import torch

    parameters = [torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in start]
    options = {"lr": LEARNING_RATE, "betas": (BETA1, BETA2), "eps": epsilon, **implementation}
    if weight_decay is None:
        optimizer = torch.optim.Adam(parameters, **options)
    else:
        optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay, **options)
    # The method's decorators break the graph on purpose; what they wrap is compiled as a whole.
    plain_step = inspect.unwrap(type(optimizer).step)
    step = cell.compile(lambda: plain_step(optimizer)) if cell.is_compiled else optimizer.step
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=cell.dtype, device=cell.device)
        with torch.no_grad():
            step()
    states = [optimizer.state[parameter] for parameter in parameters]
    return (
        [parameter.clone() for parameter in parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        int(states[0]["step"]),
    )


def trained_in_tensorflow(cell, start, steps, epsilon, weight_decay=None):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(array, dtype=cell.dtype) for array in start]
    options = {"beta_1": BETA1, "beta_2": BETA2, "epsilon": epsilon}
    if weight_decay is None:
        optimizer = keras.optimizers.Adam(LEARNING_RATE, **options)
    else:
        optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=weight_decay, **options)
    optimizer.build(variables)

    @cell.compile
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for gradients in steps:
        step([tf.constant(gradient, cell.dtype) for gradient in gradients])
    return (
        [tf.identity(variable) for variable in variables],
        [slot.numpy() for slot in optimizer.variables if "momentum" in slot.name],
        [slot.numpy() for slot in optimizer.variables if "velocity" in slot.name],
        int(keras.ops.convert_to_numpy(optimizer.iterations)),
    )


def trained_in_keras(cell, start, steps, epsilon, weight_decay=None):
    import keras

    variables = [keras.Variable(array, dtype=cell.dtype) for array in start]
    options = {"beta_1": BETA1, "beta_2": BETA2, "epsilon": epsilon}
    if weight_decay is None:
        optimizer = keras.optimizers.Adam(LEARNING_RATE, **options)
    else:
        optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=weight_decay, **options)
    for gradients in steps:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, cell.dtype) for gradient in gradients], variables
        )
    return (
        variables,
        [slot for slot in optimizer.variables if "momentum" in slot.name],
        [slot for slot in optimizer.variables if "velocity" in slot.name],
        int(keras.ops.convert_to_numpy(optimizer.iterations)),
    )


def trained_in_jax(cell, start, steps, epsilon, weight_decay=None):
    import jax.numpy as jnp
    import optax

    weights = [jnp.asarray(array, cell.dtype) for array in start]
    options = {"b1": BETA1, "b2": BETA2, "eps": epsilon}
    if weight_decay is None:
        optimizer = optax.adam(LEARNING_RATE, **options)
    else:
        optimizer = optax.adamw(LEARNING_RATE, weight_decay=weight_decay, **options)
    state = optimizer.init(weights)

    @cell.compile
    def step(weights, state, gradients):
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    for gradients in steps:
        gradients = [jnp.asarray(gradient, cell.dtype) for gradient in gradients]
        weights, state = step(weights, state, gradients)
    moments = state[0]
    return weights, moments.mu, moments.nu, int(moments.count)


def adam(start, steps, precision, *, epsilon_hat, epsilon, weight_decay=0.0):
    """The reference: weight, average gradient, average square of one parameter, with error bounds.

    start: array of any shape; steps: gradients of that shape, one for each step.
    """
    unit = unit_roundoff(precision)
    zero, one = np.zeros_like(start), np.ones_like(start)
    weight, *state = (Computed(array, unit) for array in (start, zero, zero, one, one))
    for gradient in steps:
        weight, *state = adam_update(
            weight,
            gradient,
            *state,
            learning_rate=LEARNING_RATE,
            beta1=BETA1,
            beta2=BETA2,
            epsilon=epsilon,
            epsilon_hat=epsilon_hat,
            weight_decay=weight_decay,
        )
    return weight, *state[:2]


def bound_of(computed, precision):
    return Bound(absolute=computed.error, because=f"running error analysis in {precision}")


def check(expect, cell, epsilon_hat, result, start, steps, **options):
    """Compare weights, both averages and the number of steps with the float64 update."""
    *observed, count = result
    expect.exactly(observed=count, expected=len(steps), what="number of steps")
    names = ("weights", "average gradient", "average square")
    for i, parameter in enumerate(("matrix", "vector")):
        gradients = [step[i] for step in steps]
        expected = adam(start[i], gradients, cell.precision, epsilon_hat=epsilon_hat, **options)
        for name, values, computed in zip(names, observed, expected, strict=True):
            expect.within(
                bound_of(computed, cell.precision),
                observed=values[i],
                expected=computed.value,
                what=f"{name} of the {parameter}",
            )


@behaviour(
    "optimizers.adam-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=f"{EAGER_JAX} torch-*-float64-compiled torch-*float16-compiled",
    catches="keras.adam-counts-its-steps-from-two[!*-bfloat16-*] "
    "torch.adam-stops-after-its-first-step "
    "torch.adam-epsilon-beside-the-uncorrected-root[!*-bfloat16-*] "
    "optax.adam-without-bias-correction "
    "keras.learning-rate-off-by-a-thousandth[keras_tensorflow-*|!*-float16-*]",
)
def test_adam_update(trained, epsilon_hat, cell, expect):
    """Adam divides the corrected average gradient by the root of the corrected average square.

    Ten steps with learning rate 1/8, beta1 7/8, beta2 3/4 and epsilon 1/64. Weights and both
    averages may differ from the float64 update by the rounding errors that a running error analysis
    adds up, two for each operation of a step. The optimizer counts ten steps.
    """
    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    result = trained(cell, start, steps, epsilon=1 / 64)
    check(expect, cell, epsilon_hat, result, start, steps, epsilon=1 / 64)


@behaviour(
    "optimizers.adamw-decoupled-decay",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=f"{EAGER_JAX} torch-*-compiled",
    catches="torch.adamw-decays-like-adam optax.adamw-spares-vectors",
)
def test_adamw_decoupled_decay(trained, epsilon_hat, cell, expect):
    """AdamW takes learning rate times weight decay times w off, outside the averages.

    With learning rate 1/8 and weight decay 1 each step keeps 7/8 of a weight besides its Adam step,
    and the averages are those of the gradients alone. Roundings as in adam-update.
    """
    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    result = trained(cell, start, steps, epsilon=1 / 64, weight_decay=1.0)
    check(expect, cell, epsilon_hat, result, start, steps, epsilon=1 / 64, weight_decay=1.0)


@behaviour(
    "optimizers.torch-implementations-agree",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"torch": "torch>=2.4"},
    catches="torch.foreach-adamw-decays-like-adam torch.fused-adam-through-float32",
)
def test_torch_implementations_agree(trained, epsilon_hat, cell, expect):
    """foreach=True, fused=True and neither are three implementations of one AdamW.

    Each of them must follow the float64 update, as in adamw-decoupled-decay.
    """
    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    for implementation in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        result = trained(cell, start, steps, epsilon=1 / 64, weight_decay=1.0, **implementation)
        check(expect, cell, epsilon_hat, result, start, steps, epsilon=1 / 64, weight_decay=1.0)


# ----------------------------------------------------------------------------------------------
# Where epsilon stands. At the first step m / (1 - beta1) = g and v / (1 - beta2) = g**2, so with
# g = 1/2, epsilon = 1/2 and beta2 = 3/4 a step of torch is 1/2 / (1/2 + 1/2) = 1/2 of the learning
# rate, and one of Keras (1/2 * 1/2) / (1/2 * 1/2 + 1/2) = 1/3 of it.

first_step_in_numpy = 1 / 2
first_step_in_torch = 1 / 2
first_step_in_tensorflow = 1 / 3
first_step_in_keras = 1 / 3
first_step_in_jax = 1 / 2


@behaviour(
    "defaults.adam-epsilon-placement",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=f"{EAGER_JAX} torch-*-compiled",
    catches="torch.adam-epsilon-beside-the-uncorrected-root",
)
def test_adam_epsilon_placement(trained, epsilon_hat, first_step, cell, expect):
    """torch and optax add epsilon to the corrected root, Keras to the uncorrected one.

    With a gradient of 1/2, epsilon 1/2 and beta2 3/4 the first step is 1/2 of the learning rate in
    torch and optax, 1/3 of it in Keras. Ten steps with that epsilon follow the float64 update of
    the same convention. Roundings as in adam-update.
    """
    zeros, halves = [np.zeros((2, 3)), np.zeros(4)], [np.full((2, 3), 0.5), np.full(4, -0.5)]
    matrix, vector = trained(cell, zeros, [halves], epsilon=1 / 2)[0]
    for observed, zero, half in zip((matrix, vector), zeros, halves, strict=True):
        weight, *_ = adam(zero, [half], cell.precision, epsilon_hat=epsilon_hat, epsilon=1 / 2)
        expect.within(
            bound_of(weight, cell.precision),
            observed=observed,
            expected=-np.sign(half) * first_step * LEARNING_RATE,
            what="weights after the first step",
        )

    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    result = trained(cell, start, steps, epsilon=1 / 2)
    check(expect, cell, epsilon_hat, result, start, steps, epsilon=1 / 2)
