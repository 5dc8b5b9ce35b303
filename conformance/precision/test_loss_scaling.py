"""Loss scaling: keep small float16 gradients alive, and step over those that overflow.

float16 ends at 6e-8 below and 65,504 above. The loss is therefore multiplied by a scale before the
backward pass and the gradients are divided by it before the step. Too large a scale makes gradients
infinite; so the scale is dynamic: at a gradient that is not finite the step is skipped, weights and
optimizer state stay as they were, and the scale is halved; after a number of good steps in a row it
is doubled.

                                    first scale   good steps to double   who divides
    torch.amp.GradScaler            65,536        2,000                  scaler.step
    keras LossScaleOptimizer        32,768        2,000                  optimizer.apply
    optax.apply_if_finite           (none)        (none)                 (it only skips)

Here the first scale is 8 and doubles after 3 good steps. Seven steps of SGD (learning rate 1/2,
momentum 1/2) see the gradients 1, 2, infinity, 1, 3, 1 and 2; only numbers with few bits appear,
and nothing is rounded.

Sources: class 171, definition 4, common mistake 3; Micikevicius et al. 2018 (arXiv:1710.03740),
section 3.2; https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling,
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping,
https://keras.io/api/optimizers/loss_scale_optimizer/,
https://optax.readthedocs.io/en/latest/api/transformations.html
"""

import math

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated

GRADIENTS = (1.0, 2.0, math.inf, 1.0, 3.0, 1.0, 2.0)

# After each step. The momentum is 1, 5/2, (skipped), 9/4, 33/8, 49/16, 113/32.
WEIGHTS = [-0.5, -1.75, -1.75, -2.875, -4.9375, -6.46875, -8.234375]
SCALES = [8.0, 8.0, 4.0, 4.0, 4.0, 8.0, 8.0]


def scaled_training_in_torch(cell):
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.5, momentum=0.5)
    scaler = torch.amp.GradScaler(cell.device.type, init_scale=8.0, growth_interval=3)
    weights, scales = [], []
    for gradient in GRADIENTS:
        optimizer.zero_grad()
        scaler.scale((w * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        weights.append(w.detach().clone())
        scales.append(scaler.get_scale())
    return weights, scales


@behaviour(
    "precision.torch-gradscaler-dynamics",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.gradscaler-steps-over-infinity torch.gradscaler-counts-on-after-infinity",
)
def test_torch_gradscaler_dynamics(scaled_training, cell, expect):
    """GradScaler skips a step that overflowed and halves the scale; good steps double it.

    From 8, with growth_interval=3: 8, 8, 4 at the infinite gradient, 4, 4, 8 after three good steps
    in a row (not four since the first), 8. Weights and momentum do not move at the infinite one,
    and all others are plain SGD with the gradients unscaled.
    """
    weights, scales = scaled_training(cell)
    expect.exactly(observed=scales, expected=SCALES, what="scales")
    expect.exactly(observed=weights, expected=[[w] for w in WEIGHTS], what="weights")


def scaled_training_in_keras(cell):
    """The loss w * x has the gradient x. `scale_loss` of 1 tells the scale."""
    import keras
    import numpy as np

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype)
    model = keras.Sequential([keras.Input((1,)), layer])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5, momentum=0.5), initial_scale=8.0, dynamic_growth_steps=3
    )
    cell.compile_model(model, optimizer=optimizer, loss=lambda y, output: keras.ops.sum(output))
    weights, scales = [], []
    for gradient in GRADIENTS:
        x = np.full((1, 1), gradient, "float32")
        model.fit(x, x, epochs=1, verbose=0)
        weights.append(keras.ops.convert_to_numpy(layer.kernel)[0])
        scales.append(float(optimizer.scale_loss(1.0)))
    return weights, scales


@behaviour(
    "precision.keras-loss-scale-dynamics",
    frameworks="keras",
    precisions="float32 mixed_float16",
    modes="eager compiled",
    costly="keras_torch-*-compiled",
    catches="keras.loss-scale-applies-infinite-gradients keras.loss-scale-grows-a-step-late",
)
def test_keras_loss_scale_dynamics(scaled_training, cell, expect):
    """LossScaleOptimizer skips a step that overflowed and halves the scale; good steps double it.

    From 8, with dynamic_growth_steps=3: 8, 8, 4 at the infinite gradient, 4, 4, 8, 8. Weights and
    velocity do not move at the infinite one; all others are plain SGD with gradients unscaled.
    """
    weights, scales = scaled_training(cell)
    expect.exactly(observed=scales, expected=SCALES, what="scales")
    expect.exactly(observed=weights, expected=[[w] for w in WEIGHTS], what="weights")


# ----------------------------------------------------------------------------------------------
# What it starts with.


def scale_in_torch(cell):
    import torch

    scaler = torch.amp.GradScaler(cell.device.type)
    return scaler.get_scale(), scaler.get_growth_interval()


def scale_in_keras(cell):
    import keras

    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    return float(optimizer.scale_loss(1.0)), optimizer.dynamic_growth_steps


first_scale_in_torch = (65536.0, 2000)
first_scale_in_keras = (32768.0, 2000)


@behaviour(
    "defaults.loss-scale",
    frameworks="torch keras",
    precisions="float32",
    modes="eager",
    catches="torch.gradscaler-starts-at-keras-scale",
)
def test_loss_scale(scale, first_scale, cell, expect):
    """Loss scaling starts at 2^16 in torch, 2^15 in Keras, and doubles after 2,000 good steps."""
    expect.exactly(observed=scale(cell), expected=first_scale, what="first scale and interval")


# ----------------------------------------------------------------------------------------------
# Skipping alone, and not for ever: of three infinite gradients in a row only two are forgiven.


def guarded_training_in_jax(cell):
    import jax.numpy as jnp
    import optax

    sgd = optax.sgd(0.5, momentum=0.5)
    optimizer = optax.apply_if_finite(sgd, max_consecutive_errors=2)
    w = jnp.zeros(1, cell.dtype)
    state = optimizer.init(w)

    @cell.compile
    def train_step(w, state, gradient):
        updates, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, updates), state

    weights = []
    for gradient in (*GRADIENTS, -math.inf, -math.inf, -math.inf):
        w, state = train_step(w, state, jnp.full(1, gradient, cell.dtype))
        weights.append(w)
    return weights


@behaviour(
    "precision.optax-apply-if-finite",
    frameworks="jax",
    precisions="float64 float32 float16",
    modes="eager compiled",
    needs={"jax": "optax>=0.2"},
    costly="jax-*-float64-eager jax-*-float16-eager",
    catches="optax.apply-if-finite-forgives-one-more optax.skipped-steps-fade-the-momentum",
)
def test_optax_apply_if_finite(guarded_training, cell, expect):
    """optax.apply_if_finite skips a step whose gradient is not finite: no update, no new momentum.

    It has no scale to halve. After max_consecutive_errors=2 skipped steps in a row it gives up and
    applies the third, which makes the weight infinite.
    """
    expected = [*WEIGHTS, WEIGHTS[-1], WEIGHTS[-1], math.inf]
    expect.exactly(
        observed=guarded_training(cell), expected=[[w] for w in expected], what="weights"
    )


# ----------------------------------------------------------------------------------------------
# Clipping. The gradient is (3, 4), its norm 5; clipped to 2.5 it is (3/2, 2). Scaled by 8 it is
# (24, 32): clipped in that state it is (3/2, 2), too, and after the division by 8 (3/16, 1/4).


def clipped_in_torch(cell, unscale):
    import torch

    w = torch.zeros(2, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    scaler = torch.amp.GradScaler(cell.device.type, init_scale=8.0)
    gradient = torch.tensor([3.0, 4.0], dtype=cell.dtype, device=cell.device)
    scaler.scale((w * gradient).sum()).backward()
    if unscale:
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_([w], 2.5)
    scaler.step(optimizer)
    scaler.update()
    return w


def mistake_in_torch(cell):
    return clipped_in_torch(cell, unscale=False)


def fix_in_torch(cell):
    return clipped_in_torch(cell, unscale=True)


CLIPPED = "the roundings of two squares, a sum, a root, a quotient and two products; 1e-6 of norm 5"


def clipping_bound(precision):
    return Bound(relative=accumulated(7, precision) + 1e-6 / 5, because=CLIPPED)


@behaviour(
    "precision.gradscaler-clip-order",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.gradscaler-unscales-twice",
)
def test_gradscaler_clip_order(mistake, fix, cell, expect):
    """unscale_ comes before clip_grad_norm_, or the step is smaller by the scale.

    With it w is -(3/2, 2): scaler.step knows that the gradients are unscaled, and does not divide
    again. Without it w is -(3/16, 1/4). torch divides by the norm and 1e-6.
    """
    bound = clipping_bound(cell.precision)
    expect.within(
        bound, observed=mistake(cell), expected=[-3 / 16, -1 / 4], what="w, clipped first"
    )
    expect.within(bound, observed=fix(cell), expected=[-3 / 2, -2.0], what="w, unscaled first")


def step_in_keras(cell):
    """The loss of one sample (3, 4) is its product with the weights."""
    import keras
    import numpy as np

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype)
    model = keras.Sequential([keras.Input((2,)), layer])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1.0, global_clipnorm=2.5), initial_scale=8.0
    )
    cell.compile_model(model, optimizer=optimizer, loss=lambda y, output: keras.ops.sum(output))
    model.fit(np.array([[3.0, 4.0]]), np.zeros((1, 1)), epochs=1, verbose=0)
    return keras.ops.convert_to_numpy(layer.kernel)[:, 0]


@behaviour(
    "precision.loss-scale-before-clipping",
    frameworks="keras",
    precisions="float32 mixed_float16",
    modes="eager compiled",
    costly="keras_torch-*-compiled",
    catches="keras.loss-scale-divides-after-clipping",
)
def test_loss_scale_before_clipping(step, cell, expect):
    """LossScaleOptimizer divides the gradients before the optimizer inside clips them: -(3/2, 2).

    The weights are float32 in mixed precision, too, and so is what clips; (3, 4) times 8 is exact.
    """
    bound = clipping_bound("float32")
    expect.within(bound, observed=step(cell), expected=[-3 / 2, -2.0], what="w")
