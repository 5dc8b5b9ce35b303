"""tf.data cache: what it keeps is what came before it, exactly as it came.

`cache()` keeps the elements of the first full pass. What stands before it (reading, decoding, map)
runs once; what stands after it runs in every epoch. So the order of the calls decides:

    map -> cache -> shuffle     the map runs once, every epoch has an order of its own
    shuffle -> cache            the order of the first epoch, for ever (the common mistake)
    cache -> map                the map runs for every element of every epoch

Sources: class 124, definition 6, common mistake 2, exercise 3, learning outcomes 3 and 5;
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#cache,
https://www.tensorflow.org/guide/data_performance
"""

from fixtures.matrix import behaviour

SAMPLES = 64
EPOCHS = 3


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, seed=cell.seed).cache()


def fix_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).cache().shuffle(SAMPLES, seed=cell.seed)


@behaviour(
    "data.cache-before-shuffle",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.cache-does-nothing tensorflow.shuffle-repeats-the-first-order "
    "tensorflow.shuffle-does-nothing",
)
def test_cache_before_shuffle(mistake, fix, cell, expect):
    """shuffle then cache freezes the first epoch's order; cache then shuffle reshuffles it.

    Every epoch is complete in both. Two right orders of 64 agree once in 10⁸⁹ times.
    """
    for what, samples, distinct in (
        ("shuffle, cache", mistake(cell), 1),
        ("cache, shuffle", fix(cell), EPOCHS),
    ):
        orders = [tuple(samples.as_numpy_iterator()) for _ in range(EPOCHS)]
        for order in orders:
            expect.exactly(observed=sorted(order), expected=list(range(SAMPLES)), what=what)
            is_sorted = list(order) == sorted(order)
            expect.exactly(observed=is_sorted, expected=False, what=f"{what}: not shuffled")
        expect.exactly(
            observed=len(set(orders)), expected=distinct, what=f"{what}: number of orders"
        )


# ----------------------------------------------------------------------------------------------
# How often the map runs: the elements it was called with, epoch by epoch.


def counted(calls):
    """x -> 10 x, on elements of a tf.data pipeline, noting every call in Python."""
    import tensorflow as tf

    def times_ten(x):
        calls.append(int(x))
        return 10 * x

    return lambda x: tf.numpy_function(times_ten, [x], tf.int64)


def pipelines_in_tensorflow(cell, calls):
    import tensorflow as tf

    numbers = tf.data.Dataset.range(20)
    return {
        "map": numbers.map(counted(calls)),
        "map, cache": numbers.map(counted(calls)).cache(),
        "cache, map": numbers.cache().map(counted(calls)),
        "map, batch, cache": numbers.map(counted(calls)).batch(8).cache().unbatch(),
    }


@behaviour(
    "data.cache-skips-map",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.cache-does-nothing",
)
def test_cache_skips_map(pipelines, cell, expect):
    """A map before cache runs once per element, not once per epoch; elsewhere it runs each epoch.

    Twenty elements in three epochs are 20 calls with map before cache, else 60, and the elements
    are the same. Building a pipeline calls nothing.
    """
    calls = []
    found = pipelines(cell, calls)
    expect.exactly(observed=len(calls), expected=0, what="calls while building")
    for what, pipeline in found.items():
        calls.clear()
        for epoch in range(EPOCHS):
            elements = list(pipeline.as_numpy_iterator())
            expect.exactly(
                observed=elements, expected=list(range(0, 200, 10)), what=f"{what}, epoch {epoch}"
            )
        times = 1 if what.endswith("cache") else EPOCHS
        expect.exactly(
            observed=sorted(calls),
            expected=sorted(times * list(range(20))),
            what=f"calls of {what}",
        )


# ----------------------------------------------------------------------------------------------
# A pass that stops early keeps nothing.


def partial_in_tensorflow(cell, calls):
    import tensorflow as tf

    return tf.data.Dataset.range(20).map(counted(calls)).cache()


def taken_in_tensorflow(cell, calls):
    import tensorflow as tf

    return tf.data.Dataset.range(20).map(counted(calls)).take(5).cache()


@behaviour(
    "data.cache-needs-full-pass",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.cache-does-nothing tensorflow.cache-keeps-an-unfinished-pass "
    "tensorflow.take-takes-one-more",
)
def test_cache_needs_full_pass(partial, taken, cell, expect):
    """A first pass that stops early is not kept: the next calls the map for all 20 elements again.

    The pass after that calls it no more. take(5) before cache makes the short pass a full one.
    """
    calls = []
    stopped = partial(cell, calls)
    iterator = stopped.as_numpy_iterator()
    for element in range(5):
        expect.exactly(observed=next(iterator), expected=10 * element, what="element")
    del iterator
    calls.clear()
    for what, expected in (("second pass", list(range(20))), ("third pass", [])):
        elements = list(stopped.as_numpy_iterator())
        expect.exactly(observed=elements, expected=list(range(0, 200, 10)), what=what)
        expect.exactly(observed=str(calls), expected=str(expected), what=f"calls in the {what}")
        calls.clear()

    short = taken(cell, calls)
    for epoch in range(2):
        elements = list(short.as_numpy_iterator())
        expect.exactly(observed=elements, expected=[0, 10, 20, 30, 40], what=f"epoch {epoch}")
    expect.exactly(observed=calls, expected=[0, 1, 2, 3, 4], what="calls with take(5)")
