"""Lockstep training: equal weights, equal batches, and how far rounding may carry the losses.

Two correct frameworks that start from the same weights and see the same batches print the same
losses but for rounding. How much rounding is allowed has no useful worst case: fifty steps of a
network multiply every error by an unknown factor. So the reference measures it. The same training
runs again in float64 with random errors of the size of the lower precision committed by every
operation (Monte Carlo arithmetic), and the spread of its losses is the allowance.
"""

from dataclasses import dataclass

import numpy as np

from reference.training import initial_mlp, monte_carlo_rounding, train_mlp

SIMULATIONS = 4

# float64 cannot simulate its own roundoff. Deviations of first order are proportional to u, so they
# are measured at this u and scaled; no ReLU changes sides at either.
_SCALED_FROM = 2.0**-34

# Libraries add 16-bit products up in float32, or wider.
_ACCUMULATOR = 2.0**-24


@dataclass(frozen=True)
class Lockstep:
    """One training run that every framework can repeat exactly.

    images         (steps * batch_size, features) in [0, 1], float64
    labels         (steps * batch_size,) int64
    parameters     pairs (weight (inputs, outputs), bias (outputs,)), float64
    batch_size     step k takes images[k * batch_size : (k + 1) * batch_size], in order
    """

    images: np.ndarray
    labels: np.ndarray
    parameters: list[tuple[np.ndarray, np.ndarray]]
    batch_size: int
    learning_rate: float
    momentum: float

    @property
    def batches(self) -> list[np.ndarray]:
        return np.arange(len(self.images)).reshape(-1, self.batch_size)

    def losses(self, perturb=None) -> np.ndarray:
        """The loss of each step before its update, (steps,) float64."""
        losses, _ = train_mlp(
            self.images,
            self.labels,
            self.parameters,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            batches=self.batches,
            perturb=perturb,
        )
        return losses

    def spread(self, unit_roundoff: float, rounding=None) -> np.ndarray:
        """How far rounding errors of size u carried the losses, at most, up to each step: (steps,).

        The maximum over `SIMULATIONS` seeds and over all steps so far. `rounding(array)`, given for
        the 16-bit formats, rounds every result to nearest in one simulation more: there an update
        smaller than half the spacing of the weights is lost each time, a drift that random errors,
        which cancel, do not show.
        """
        simulated = max(unit_roundoff, _SCALED_FROM)
        accumulator = min(simulated, _ACCUMULATOR)
        exact = self.losses()
        deviations = [
            np.abs(self.losses(monte_carlo_rounding(simulated, seed, accumulator)) - exact)
            for seed in range(SIMULATIONS)
        ]
        if rounding is not None:
            deviations.append(np.abs(self.losses(lambda result, *_: rounding(result)) - exact))
        scale = unit_roundoff / simulated
        return np.maximum.accumulate(np.max(deviations, axis=0)) * scale


def lockstep(images, labels, *, steps, batch_size, hidden, learning_rate, momentum, seed, rounding):
    """The run over the first `steps * batch_size` images, from Glorot-uniform weights of `seed`.

    images (n, features), labels (n,); hidden: units of the hidden layers. `rounding(array)` rounds
    images and weights to the precision that will see them, so that all start from equal numbers.
    """
    count = steps * batch_size
    sizes = (images.shape[1], *hidden, int(labels.max()) + 1)
    return Lockstep(
        images=rounding(images[:count]),
        labels=labels[:count],
        parameters=[(rounding(w), rounding(b)) for w, b in initial_mlp(sizes, seed)],
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
    )
