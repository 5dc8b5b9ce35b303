"""checkpoints_iterator: an evaluation that follows a training, checkpoint by checkpoint.

One program trains and saves, another waits for what is saved and evaluates it:

    for path in tf.train.checkpoints_iterator(folder, timeout=..., timeout_fn=...):

It goes on for as long as there are new checkpoints. Only when none has come for `timeout` seconds
it asks `timeout_fn`: True, and it ends; False, and it waits on. Without one it ends.

Here the evaluation of each checkpoint but the third saves the next, so with a timeout of 0 the
third is followed by none:

    checkpoint      1    2    3    (none)
    timeout_fn                     is asked

Sources: class 104, learning outcome 5;
https://www.tensorflow.org/api_docs/python/tf/train/checkpoints_iterator,
https://github.com/tensorflow/tensorflow/blob/v2.20.0/tensorflow/python/training/checkpoint_utils.py
"""

from fixtures.matrix import behaviour


def followed_in_tensorflow(cell, folder, answers=None):
    """(numbers of the checkpoints, how many there were whenever timeout_fn was asked)."""
    import tensorflow as tf

    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(w=tf.Variable(0.0, dtype=cell.dtype)), str(folder), max_to_keep=None
    )
    numbers, asked = [], []

    def timeout_fn():
        asked.append(len(numbers))
        return answers[len(asked) - 1]

    manager.save()
    for path in tf.train.checkpoints_iterator(
        str(folder), timeout=0, timeout_fn=timeout_fn if answers else None
    ):
        numbers.append(int(path.rpartition("-")[2]))
        if len(numbers) < 3:
            manager.save()
    return numbers, asked


@behaviour(
    "persistence.checkpoints-iterator",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.checkpoints-iterator-ends-after-one",
)
def test_checkpoints_iterator(followed, cell, expect, tmp_path):
    """Without timeout_fn it gives each new checkpoint, and ends when there is none."""
    numbers, _ = followed(cell, tmp_path)
    expect.exactly(observed=numbers, expected=[1, 2, 3], what="checkpoints")


@behaviour(
    "persistence.checkpoints-iterator-timeout",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.checkpoints-iterator-ends-after-one",
)
def test_checkpoints_iterator_timeout(followed, cell, expect, tmp_path):
    """timeout_fn is asked when no checkpoint came in time, and not before: False, and then True."""
    numbers, asked = followed(cell, tmp_path, answers=[False, True])
    expect.exactly(observed=numbers, expected=[1, 2, 3], what="checkpoints before the timeout")
    expect.exactly(observed=asked, expected=[3, 3], what="checkpoints seen when it was asked")
