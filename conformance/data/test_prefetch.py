"""prefetch: the next elements are made while this one is used. It changes when, never what.

torch does the same in its worker processes, whose prefetch_factor says how many batches each of
them keeps ready.

Sources: class 124, definition 5 and frequent question 2;
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#prefetch,
https://docs.pytorch.org/docs/stable/data.html
"""

from fixtures.matrix import behaviour

BATCHES = [[0, 1, 4, 9], [16, 25, 36, 49], [64, 81, 100, 121], [144, 169]]


class Squares:
    """The squares of 0, 1, ..., 13: three batches of four, and one of two."""

    def __len__(self):
        return 14

    def __getitem__(self, index):
        return index**2


def epochs_in_tensorflow(cell):
    """Two epochs without prefetch, and with 1, 3, more than there are, and a number tuned."""
    import tensorflow as tf

    batches = tf.data.Dataset.range(14).map(lambda x: x**2).batch(4)
    pipelines = {
        "no prefetch": batches,
        "prefetch(1)": batches.prefetch(1),
        "prefetch(3)": batches.prefetch(3),
        "prefetch(50)": batches.prefetch(50),
        "prefetch(AUTOTUNE)": batches.prefetch(tf.data.AUTOTUNE),
        "before batch": tf.data.Dataset.range(14).map(lambda x: x**2).prefetch(5).batch(4),
        "parallel map": tf.data.Dataset.range(14)
        .map(lambda x: x**2, num_parallel_calls=3)
        .prefetch(2)
        .batch(4),
    }
    return {
        what: [[batch.tolist() for batch in pipeline.as_numpy_iterator()] for _ in range(2)]
        for what, pipeline in pipelines.items()
    }


def epochs_in_torch(cell):
    import torch

    found = {}
    for ahead in (1, 3):
        loader = torch.utils.data.DataLoader(
            Squares(), batch_size=4, num_workers=1, prefetch_factor=ahead
        )
        found[f"prefetch_factor={ahead}"] = [[batch.tolist() for batch in loader] for _ in range(2)]
    return found


@behaviour(
    "data.prefetch-same-elements",
    frameworks="torch tensorflow",
    precisions="float32",
    modes="eager",
    catches="torch.workers-lose-the-last-partial-batch "
    "tensorflow.tuned-prefetch-loses-the-last-element "
    "tensorflow.batch-drops-the-remainder",
)
def test_prefetch_same_elements(epochs, cell, expect):
    """However much is prefetched, the same batches come in the same order, in every epoch.

    The squares of 0..13 in batches of four. A map with parallel calls keeps the order as well,
    since tf.data is deterministic unless told otherwise.
    """
    for what, found in epochs(cell).items():
        expect.exactly(
            observed={"first epoch": found[0], "second epoch": found[1]},
            expected={"first epoch": BATCHES, "second epoch": BATCHES},
            what=what,
        )
