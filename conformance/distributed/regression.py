"""The problem the specs of distributed training share: a line through eight rows, three times."""

import numpy as np

from fixtures.precision import round_to

START = np.array([0.5, -1.25, 0.75])  # every precision holds them
LEARNING_RATE = 1 / 16
STEPS = 3


def parts_of_steps(precision: str, sizes: tuple[int, ...]) -> list[list[tuple]]:
    """For each of three steps the parts (x, y) of its rows that the replicas hold, `sizes` rows.

    Normal numbers rounded to the precision: x (rows, 3), y (rows,). Other sizes with the same sum
    divide the same rows.
    """
    rng = np.random.default_rng(172)
    ends = np.cumsum(sizes)
    steps = []
    for _ in range(STEPS):
        x = round_to(rng.normal(size=(ends[-1], 3)), precision)
        y = round_to(rng.normal(size=ends[-1]), precision)
        steps.append(list(zip(np.split(x, ends[:-1]), np.split(y, ends[:-1]), strict=True)))
    return steps
