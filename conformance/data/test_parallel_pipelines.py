"""tf.data in parallel: faster, and the same elements in the same batches and the same order.

map(f, num_parallel_calls=n) works on n elements at once and still hands them over in their order:
it waits for a slow one, unless deterministic=False gives that up. batch(..., num_parallel_calls=n)
copies n batches at once; which elements they hold, and whether the rest is dropped, stays as it is.

Sequences of different lengths are batched with others of their kind. bucket_by_sequence_length has
a bucket for each interval between the boundaries; a boundary is the first length that no longer
belongs to the bucket below it.

Sources: class 124, definitions 3 and 4, topics (num_parallel_calls), common mistake 3; class 125,
topics 5;
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#map,
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#batch,
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#bucket_by_sequence_length
"""

import threading
import time

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# Element 0 is finished a moment after element 2: it waits for it, ten seconds at most.


def mapped_in_tensorflow(cell, **options):
    import tensorflow as tf

    two_is_done = threading.Event()

    def tenfold(number):
        if number == 0:
            two_is_done.wait(10)
            time.sleep(0.05)
        elif number == 2:
            two_is_done.set()
        return number * 10

    elements = tf.data.Dataset.range(6).map(
        lambda number: tf.numpy_function(tenfold, [number], tf.int64), **options
    )
    own_threads = tf.data.Options()
    own_threads.threading.private_threadpool_size = 4
    return [int(element) for element in elements.with_options(own_threads).as_numpy_iterator()]


@behaviour(
    "data.parallel-map-keeps-the-order",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.parallel-map-hands-over-what-is-ready",
)
def test_parallel_map_keeps_the_order(mapped, cell, expect):
    """0, 10, 20, 30, 40, 50: elements 1 and 2 are ready before 0, and wait for their turn."""
    tens = [0, 10, 20, 30, 40, 50]
    expect.exactly(observed=mapped(cell, num_parallel_calls=3), expected=tens, what="elements")
    expect.exactly(
        observed=mapped(cell, num_parallel_calls=3, deterministic=True),
        expected=tens,
        what="elements, deterministic=True",
    )


# ----------------------------------------------------------------------------------------------
# 22 numbers in batches of 4: five batches of four, and one of two.


def batches_in_tensorflow(cell, **options):
    import tensorflow as tf

    batches = tf.data.Dataset.range(22).batch(4, **options)
    found = [batch.tolist() for batch in batches.as_numpy_iterator()]
    return {"announced": int(batches.cardinality()), "batches": found}


@behaviour(
    "data.parallel-batches",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.parallel-batch-keeps-the-remainder tensorflow.batch-drops-the-remainder",
)
def test_parallel_batches(batches, cell, expect):
    """batch(4, num_parallel_calls=2) makes the batches of batch(4), with the rest and without."""
    whole = [[4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3] for k in range(5)]
    expect.exactly(
        observed=batches(cell, num_parallel_calls=2),
        expected={"announced": 6, "batches": [*whole, [20, 21]]},
        what="batches",
    )
    expect.exactly(
        observed=batches(cell, num_parallel_calls=2, drop_remainder=True),
        expected={"announced": 5, "batches": whole},
        what="batches without the rest",
    )


# ----------------------------------------------------------------------------------------------
# Sequences of one to six ones, boundaries 3 and 5: lengths 1 and 2, 3 and 4, 5 and more.


def buckets_in_tensorflow(cell):
    import tensorflow as tf

    lengths = tf.data.Dataset.from_tensor_slices([6, 3, 1, 4, 2, 5])
    batches = lengths.map(lambda length: tf.ones((length,), tf.int32)).bucket_by_sequence_length(
        lambda sequence: tf.shape(sequence)[0],
        bucket_boundaries=[3, 5],
        bucket_batch_sizes=[2, 2, 2],
    )
    return {f"up to {batch.shape[1]}": batch.tolist() for batch in batches.as_numpy_iterator()}


@behaviour(
    "data.bucket-boundaries",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.bucket-boundary-in-the-lower-bucket",
)
def test_bucket_boundaries(buckets, cell, expect):
    """Lengths 1 and 2, 3 and 4, 5 and 6 share a batch, padded with zeros to the longer of the two.

    A sequence as long as a boundary begins the next bucket. Of 24 places three are filling; in one
    batch of six it would be 15 of 36.
    """
    expect.exactly(
        observed=buckets(cell),
        expected={
            "up to 2": [[1, 0], [1, 1]],
            "up to 4": [[1, 1, 1, 0], [1, 1, 1, 1]],
            "up to 6": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]],
        },
        what="batches",
    )
