"""One call seeds all generators: Python's, NumPy's and the framework's.

A run draws from several: `random` shuffles lists of files, NumPy augments images, the framework
makes the first weights, masks and permutations. Who seeds one of them repeats a part of the run.

    lightning.seed_everything(7)            random.seed(7), numpy.random.seed(7),
    keras.utils.set_random_seed(7)          and the seed of the framework

Sources: class 123, homework 4;
https://lightning.ai/docs/pytorch/stable/common/trainer.html#reproducibility,
https://lightning.ai/docs/fabric/stable/api/generated/lightning.fabric.utilities.seed.html,
https://keras.io/api/utils/python_utils/#setrandomseed-function
"""

import random
from contextlib import contextmanager

import numpy as np

from fixtures.matrix import behaviour


@contextmanager
def unseeded_afterwards():
    """The generators of Python and NumPy are left as they were found."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def drawn_in_lightning(cell, seed):
    """Three numbers of each: Python, NumPy, torch."""
    import lightning
    import torch

    with torch.random.fork_rng():
        lightning.seed_everything(seed)
        return [
            [random.random() for _ in range(3)],
            np.random.rand(3).tolist(),
            torch.rand(3, dtype=cell.dtype, device=cell.device).tolist(),
        ]


def drawn_in_keras(cell, seed):
    """Three numbers of each: Python, NumPy, Keras."""
    import keras

    keras.utils.set_random_seed(seed)
    try:
        return [
            [random.random() for _ in range(3)],
            np.random.rand(3).tolist(),
            cell.to_numpy(keras.random.uniform((3,), dtype=cell.dtype)).tolist(),
        ]
    finally:
        keras.utils.set_random_seed(cell.seed)


@behaviour(
    "lightning.seed-everything",
    frameworks="lightning keras",
    precisions="float32",
    modes="eager",
    catches="lightning.seed-everything-leaves-numpy lightning.seed-everything-leaves-python "
    "keras.set-random-seed-leaves-python",
)
def test_seed_everything(drawn, cell, expect, monkeypatch):
    """The same seed gives the same numbers from all three generators, another seed others.

    Python's and NumPy's are those that `random.seed(7)` and `numpy.random.seed(7)` give.
    """
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # both are set by Lightning, and put back here
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    with unseeded_afterwards():
        first, other, again = drawn(cell, 7), drawn(cell, 8), drawn(cell, 7)
    expected = [random.Random(7), np.random.RandomState(7)]
    expect.exactly(
        observed=first[0], expected=[expected[0].random() for _ in range(3)], what="Python's"
    )
    expect.exactly(observed=first[1], expected=expected[1].rand(3), what="NumPy's")
    for what, one, same, different in zip(
        ("Python's", "NumPy's", "the framework's"), first, again, other, strict=True
    ):
        expect.exactly(observed=same, expected=one, what=f"{what}, drawn again")
        expect.exactly(observed=one == different, expected=False, what=f"{what}, another seed")
