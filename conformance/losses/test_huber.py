"""Huber's loss: the square of a small error, the size of a large one, and delta between them.

    huber(r) = r² / 2                        for |r| <= delta       slope r
               delta * (|r| - delta / 2)     beyond                 slope delta * sign(r)

    r                 1      -1       3        -5           slopes
    delta = 2         1/2    1/2      4        8            1, -1, 2, -2
    delta = 1/2       3/8    3/8      11/8     19/8         1/2, -1/2, 1/2, -1/2

Value and slope meet at delta: that is what the factor delta beyond it and the half of delta are
for, and neither shows where delta is 1. torch.nn.SmoothL1Loss(beta) is huber / beta, the same
where both are 1: its slope far out is always 1.

Sources: class 101, definitions (MSE, MAE); Huber 1964, doi:10.1214/aoms/1177703732;
https://docs.pytorch.org/docs/stable/generated/torch.nn.HuberLoss.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html,
https://keras.io/api/losses/regression_losses/#huber-class,
https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses.huber_loss
"""

import numpy as np
import pytest

from fixtures.matrix import behaviour
from fixtures.matrix.needs import unmet_requirement

RESIDUALS = np.array([1.0, -1.0, 3.0, -5.0])
EXPECTED = {
    2.0: ([1 / 2, 1 / 2, 4, 8], [1, -1, 2, -2]),
    1 / 2: ([3 / 8, 3 / 8, 11 / 8, 19 / 8], [1 / 2, -1 / 2, 1 / 2, -1 / 2]),
}

# One compiled precision of torch tells what the compiler does, and JAX without jit compiles every
# operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_jax-*float16-eager"
)


# Each program returns (what, delta, mean of the losses, its gradient or None) of each loss it has.


def losses_in_numpy(cell):
    residuals = RESIDUALS.astype(cell.dtype)
    size = np.abs(residuals)
    for delta in EXPECTED:
        values = np.where(size <= delta, residuals**2 / 2, delta * (size - delta / 2))
        yield "Huber", delta, values.mean(), np.clip(residuals, -delta, delta) / 4


def losses_in_torch(cell):
    """SmoothL1Loss times its beta is Huber's loss. Its gradient in float16 came with torch 2.10."""
    import torch

    if cell.precision == "float16" and (need := unmet_requirement("torch>=2.10")):
        pytest.skip(f"cannot-run: needs {need}")

    @cell.compile
    def means(residuals):
        zeros = torch.zeros_like(residuals)
        found = {}
        for delta in EXPECTED:
            found["HuberLoss", delta] = torch.nn.HuberLoss(delta=delta)(residuals, zeros)
            smooth = torch.nn.SmoothL1Loss(beta=delta)(residuals, zeros)
            found["SmoothL1Loss", delta] = delta * smooth
        return found

    residuals = torch.tensor(RESIDUALS, dtype=cell.dtype, device=cell.device, requires_grad=True)
    for (what, delta), mean in means(residuals).items():
        residuals.grad = None
        mean.backward(retain_graph=True)
        yield what, delta, mean, residuals.grad


def losses_in_keras(cell):
    """Keras has no call that returns a gradient."""
    import keras

    residuals = keras.ops.convert_to_tensor(RESIDUALS, dtype=cell.dtype)
    zeros = keras.ops.zeros_like(residuals)
    for delta in EXPECTED:
        yield "Huber", delta, keras.losses.Huber(delta=delta)(zeros, residuals), None
        yield "huber", delta, keras.losses.huber(zeros, residuals, delta=delta), None


def losses_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    def means_and_gradients(residuals):
        def mean(residuals, delta):
            return optax.huber_loss(residuals, jnp.zeros_like(residuals), delta=delta).mean()

        return [jax.value_and_grad(mean)(residuals, delta) for delta in EXPECTED]

    found = means_and_gradients(jnp.asarray(RESIDUALS, cell.dtype))
    for delta, (mean, gradient) in zip(EXPECTED, found, strict=True):
        yield "huber_loss", delta, mean, gradient


@behaviour(
    "losses.huber-delta",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"torch": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    costly=COSTLY,
    catches="torch.huber-loss-ignores-delta[*-eager] torch.smooth-l1-is-huber[*-eager] "
    "keras.huber-is-not-continuous optax.huber-is-not-continuous",
)
def test_huber_delta(losses, cell, expect):
    """r² / 2 up to delta and delta (|r| - delta / 2) beyond, with slopes that stop at delta.

    Means of four, 13/4 for delta 2 and 9/8 for 1/2, and a quarter of each slope. All numbers are
    dyadic fractions of few digits: exact.
    """
    for what, delta, mean, gradient in losses(cell):
        values, slopes = EXPECTED[delta]
        expect.exactly(
            observed=mean,
            expected=np.mean(values),
            what=f"{what} of {delta}",
            other_precision="Keras's losses are float32 unless told otherwise",
        )
        if gradient is not None:
            expected = np.array(slopes) / 4
            expect.exactly(observed=gradient, expected=expected, what=f"{what}: slopes of {delta}")
