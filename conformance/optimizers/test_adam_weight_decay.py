"""The two meanings of weight decay in Adam: a part of the gradient, or apart from it.

An L2 penalty of decay / 2 * w**2 adds decay * w to the gradient g of each weight. For plain SGD
that is weight decay. Adam however divides what it gets by its own size, and the decay with it: a
weight with large gradients hardly decays. Decoupled decay, the W of AdamW, takes rate * decay * w
off the weight itself, whatever the gradient. One name, two meanings:

                       L2, through the averages           decoupled
    torch              Adam(weight_decay=...)             AdamW(weight_decay=...)
    Keras              a regularizer in the loss          any optimizer(weight_decay=...), Adam too
    optax              chain(add_decayed_weights, adam)   adamw(weight_decay=...)

Two weights of 2 with the gradients 1 and -3, decay 1, rate 1/2, epsilon 1. With both betas 0 the
averages are those of this one step, and Adam moves by rate * G / (|G| + 1):

                   G          Adam's step         weight
    L2           1 + 2 = 3     1/2 * 3/4       2 - 3/8        = 13/8
                -3 + 2 = -1   -1/2 * 1/2       2 + 1/4        =  9/4
    decoupled        1         1/2 * 1/2       2 - 1/4 - 1    =  3/4
                    -3        -1/2 * 3/4       2 + 3/8 - 1    = 11/8

The common mistake is to read the left column's name and to expect the right one's weights: a model
that moves from Keras to torch with Adam(weight_decay=...) trains with another penalty.

Sources: class 113, common mistake 2, question 1, definitions of AdamW; Loshchilov and Hutter
(2019), arXiv:1711.05101; https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html,
https://keras.io/api/optimizers/adam/,
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.add_decayed_weights
"""

from fixtures.matrix import behaviour

WEIGHTS = [2.0, 2.0]
GRADIENTS = [1.0, -3.0]
RATE = 1 / 2
DECAY = 1.0
EPSILON = 1.0

L2 = [13 / 8, 9 / 4], [3.0, -1.0]
DECOUPLED = [3 / 4, 11 / 8], [1.0, -3.0]


def l2_in_numpy(cell):
    """The weights after one step, and the average gradients that Adam keeps."""
    import numpy as np

    weights = np.array(WEIGHTS, cell.dtype)
    return _step_in_numpy(cell, weights, np.array(GRADIENTS, cell.dtype) + DECAY * weights)


def decoupled_in_numpy(cell):
    import numpy as np

    weights, gradients = np.array(WEIGHTS, cell.dtype), np.array(GRADIENTS, cell.dtype)
    return _step_in_numpy(cell, weights, gradients, weight_decay=DECAY)


def _step_in_numpy(cell, weights, gradients, **decay):
    import numpy as np

    from reference.optimizers import adam_update

    zeros, ones = np.zeros_like(weights), np.ones_like(weights)
    options = {"learning_rate": RATE, "beta1": 0, "beta2": 0, "epsilon": EPSILON, **decay}
    weights, averages, *_ = adam_update(weights, gradients, zeros, zeros, ones, ones, **options)
    return weights, averages


def l2_in_torch(cell, **implementation):
    import torch

    return _step_in_torch(cell, torch.optim.Adam, **implementation)


def decoupled_in_torch(cell, **implementation):
    import torch

    return _step_in_torch(cell, torch.optim.AdamW, **implementation)


def flagged_in_torch(cell, **implementation):
    import torch

    return _step_in_torch(cell, torch.optim.Adam, decoupled_weight_decay=True, **implementation)


def _step_in_torch(cell, optimizer_class, **options):
    import torch

    weights = torch.tensor(WEIGHTS, dtype=cell.dtype, device=cell.device)
    weights.grad = torch.tensor(GRADIENTS, dtype=cell.dtype, device=cell.device)
    optimizer = optimizer_class(
        [weights], lr=RATE, betas=(0.0, 0.0), eps=EPSILON, weight_decay=DECAY, **options
    )
    optimizer.step()
    return weights, optimizer.state[weights]["exp_avg"]


def l2_in_keras(cell):
    """What a regularizer adds to the gradient, keras.regularizers.L2(DECAY / 2), added here."""
    import keras

    weights = keras.Variable(WEIGHTS, dtype=cell.dtype)
    penalty = DECAY * keras.ops.convert_to_tensor(weights)
    return _step_in_keras(cell, weights, penalty)


def decoupled_in_keras(cell):
    """The argument of Adam: Keras needs no AdamW for it."""
    import keras

    weights = keras.Variable(WEIGHTS, dtype=cell.dtype)
    return _step_in_keras(cell, weights, 0.0, weight_decay=DECAY)


def _step_in_keras(cell, weights, penalty, **decay):
    import keras

    optimizer = keras.optimizers.Adam(RATE, beta_1=0.0, beta_2=0.0, epsilon=EPSILON, **decay)
    gradients = keras.ops.convert_to_tensor(GRADIENTS, cell.dtype) + penalty
    optimizer.apply([gradients], [weights])
    (averages,) = (slot for slot in optimizer.variables if "momentum" in slot.name)
    return weights, averages


def l2_in_jax(cell):
    import optax

    decay = optax.add_decayed_weights(DECAY)
    optimizer = optax.chain(decay, optax.adam(RATE, b1=0.0, b2=0.0, eps=EPSILON))
    weights, (_, (moments, _)) = _step_in_jax(cell, optimizer)
    return weights, moments.mu


def decoupled_in_jax(cell):
    import optax

    optimizer = optax.adamw(RATE, b1=0.0, b2=0.0, eps=EPSILON, weight_decay=DECAY)
    weights, (moments, *_) = _step_in_jax(cell, optimizer)
    return weights, moments.mu


def _step_in_jax(cell, optimizer):
    import jax.numpy as jnp
    import optax

    @cell.compile
    def step(weights, gradients):
        updates, state = optimizer.update(gradients, optimizer.init(weights), weights)
        return optax.apply_updates(weights, updates), state

    return step(jnp.asarray(WEIGHTS, cell.dtype), jnp.asarray(GRADIENTS, cell.dtype))


def _check(expect, observed, expected, name):
    for what, seen, wanted in zip(("weights", "averages"), observed, expected, strict=True):
        expect.exactly(observed=seen, expected=wanted, what=f"{what}, {name}")


@behaviour(
    "optimizers.adam-weight-decay-argument",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.adam-decays-like-adamw torch.adamw-decays-like-adam "
    "keras.adam-decay-joins-the-gradient optax.adamw-spares-vectors "
    "optax.adam-without-bias-correction",
)
def test_adam_weight_decay_argument(l2, decoupled, cell, expect):
    """With L2 the weights of 2 become 13/8 and 9/4, with decoupled decay 3/4 and 11/8.

    L2 passes through the averages, which hold 3 and -1: gradient and decay. Decoupled decay does
    not: they hold the gradients 1 and -3. Adam(weight_decay=...) is the former in torch and the
    latter in Keras.
    """
    _check(expect, l2(cell), L2, "L2")
    _check(expect, decoupled(cell), DECOUPLED, "decoupled")


@behaviour(
    "optimizers.adam-weight-decay-implementations",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.foreach-adam-decays-like-adamw torch.fused-adam-forgets-its-decay "
    "torch.foreach-adamw-decays-like-adam",
)
def test_adam_weight_decay_implementations(l2, decoupled, cell, expect):
    """foreach=True and fused=True change the speed of Adam, and not what its decay means."""
    for implementation in ("foreach", "fused"):
        options = {implementation: True}
        _check(expect, l2(cell, **options), L2, f"L2, {implementation}")
        _check(expect, decoupled(cell, **options), DECOUPLED, f"decoupled, {implementation}")


@behaviour(
    "optimizers.adam-decoupled-flag",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"torch": "torch>=2.7"},
    catches="torch.adam-ignores-decoupled-weight-decay",
)
def test_adam_decoupled_flag(flagged, cell, expect):
    """Adam(decoupled_weight_decay=True) is AdamW: "equivalent to AdamW", in all implementations."""
    for implementation in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        _check(expect, flagged(cell, **implementation), DECOUPLED, f"flagged, {implementation}")


# ----------------------------------------------------------------------------------------------
# Plain SGD does not tell the two apart: 2 - 1/2 * (1 + 2) = 2 - 1/2 * 1 - 1/2 * 2 = 1/2, and for
# the gradient -3 it is 2 + 1/2 = 5/2. So torch's SGD and Keras's agree, whatever they call it.


def plain_in_torch(cell):
    """The weights after a step of SGD: the decay in the gradient, and as the argument."""
    import torch

    results = []
    for penalty, decay in ((DECAY, 0.0), (0.0, DECAY)):
        weights = torch.tensor(WEIGHTS, dtype=cell.dtype, device=cell.device)
        gradients = torch.tensor(GRADIENTS, dtype=cell.dtype, device=cell.device)
        weights.grad = gradients + penalty * weights
        torch.optim.SGD([weights], lr=RATE, weight_decay=decay).step()
        results.append(weights)
    return results


def plain_in_keras(cell):
    import keras

    results = []
    for penalty, decay in ((DECAY, None), (0.0, DECAY)):
        weights = keras.Variable(WEIGHTS, dtype=cell.dtype)
        gradients = keras.ops.convert_to_tensor(GRADIENTS, cell.dtype)
        gradients = gradients + penalty * keras.ops.convert_to_tensor(weights)
        keras.optimizers.SGD(RATE, weight_decay=decay).apply([gradients], [weights])
        results.append(weights)
    return results


def plain_in_jax(cell):
    """Before sgd the decay is multiplied by the rate with the gradient; behind it, it is not."""
    import jax.numpy as jnp
    import optax

    weights, gradients = jnp.asarray(WEIGHTS, cell.dtype), jnp.asarray(GRADIENTS, cell.dtype)
    results = []
    for optimizer in (
        optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE)),
        optax.chain(optax.sgd(RATE), optax.add_decayed_weights(-RATE * DECAY)),
    ):
        updates, _ = optimizer.update(gradients, optimizer.init(weights), weights)
        results.append(optax.apply_updates(weights, updates))
    return results


@behaviour(
    "optimizers.sgd-l2-equals-decay",
    frameworks="torch keras jax",
    precisions="float64 float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.sgd-halves-weight-decay keras.weight-decay-forgets-the-rate "
    "optax.weight-decay-off-by-a-thousandth",
)
def test_sgd_l2_equals_decay(plain, cell, expect):
    """For SGD an L2 penalty and decay off the weights are one: 1/2 and 5/2 either way."""
    for what, observed in zip(("in the gradient", "decoupled"), plain(cell), strict=True):
        expect.exactly(observed=observed, expected=[1 / 2, 5 / 2], what=f"weights, decay {what}")


# ----------------------------------------------------------------------------------------------
# In Keras weight_decay is an argument of every optimizer. With gradients of 0 none of these moves
# a weight by itself, and 1 becomes 1 - 1/2 * 1/2 = 3/4, then 9/16.

DECAYING = ["SGD", "RMSprop", "Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Adadelta", "Lion"]


def decayed_in_keras(cell):
    """The weight after each of two steps with gradient 0, for each optimizer."""
    import keras

    weights = {}
    for name in DECAYING:
        weight = keras.Variable([1.0], dtype=cell.dtype)
        optimizer = getattr(keras.optimizers, name)(RATE, weight_decay=0.5)
        steps = []
        for _ in range(2):
            optimizer.apply([keras.ops.zeros((1,), cell.dtype)], [weight])
            steps.append(keras.ops.convert_to_numpy(weight).copy())
        weights[name] = steps
    return weights


@behaviour(
    "optimizers.keras-weight-decay",
    frameworks="keras",
    precisions="float64 float32",
    modes="eager",
    catches="keras.adam-decay-joins-the-gradient keras.weight-decay-forgets-the-rate",
)
def test_keras_weight_decay(decayed, cell, expect):
    """Every optimizer of Keras takes rate * decay of a weight off it, also without a gradient."""
    for name, weights in decayed(cell).items():
        expect.exactly(observed=weights, expected=[[3 / 4], [9 / 16]], what=f"weights, {name}")
