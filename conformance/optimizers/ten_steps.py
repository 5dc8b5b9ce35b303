"""What the specs of the optimizers feed them: two parameters, and ten gradients for each.

A third of each number is used, rounded to the cell's precision: its last bit is set as often as
not, so that a detour through a narrower format shows.
"""

import numpy as np

from fixtures.precision import round_to

START = (np.array([[1.0, -2.0, 0.5], [0.25, 2.0, -1.5]]), np.array([1.5, -0.5, 2.0, -1.0]))

# The gradients change sign and size from step to step.
DIRECTIONS = (np.array([[1.0, -2.0, 3.0], [-0.5, 2.0, -1.0]]), np.array([2.0, -3.0, 1.0, 0.5]))
SIZES = (1.0, -2.0, 0.5, 3.0, -0.25, 4.0, -1.0, 2.0, -3.0, 0.75)


def thirds(arrays, precision):
    """A third of each array, rounded to the precision."""
    return [round_to(array / 3, precision) for array in arrays]


def ten_gradients(precision):
    """Gradient t of a parameter: size t of its direction, shifted by the size from the far end."""
    return [
        thirds([size * direction + shift for direction in DIRECTIONS], precision)
        for size, shift in zip(SIZES, reversed(SIZES), strict=True)
    ]
