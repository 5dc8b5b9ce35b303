"""tf.data: what cache() and prefetch() give, and when they give nothing.

`cache()` keeps the elements of the first epoch, so from the second on a costly `map` is not run
again. It can only give as much as the map took.

`prefetch()` loads the next batch while the model trains on this one. Where both take equally long,
an epoch takes about half the time; where one of them takes nearly all of it, hardly less. But
tf.data has long appended a prefetch of its own to a pipeline that ends without one (the option
`inject_prefetch`), and so the same code gains nothing by another; the gain that is documented shows
when the option is switched off.

Loading and training are waits here, 2 ms a batch each, as for a file and for a GPU: a wait needs no
core, so the time is that of the pipeline and not that of the machine.

Sources: class 124, topic 4, exercise 3, common mistake 4, homework;
catalogue: data.cached-epoch-faster, data.prefetch-overlap;
https://www.tensorflow.org/guide/data_performance,
https://www.tensorflow.org/api_docs/python/tf/data/experimental/OptimizationOptions
"""

import time

import numpy as np

from fixtures.precision import Bound
from fixtures.speed import Variant, claim

EXACT = Bound(because="the same elements in the same order")

# ----------------------------------------------------------------------------------------------
# A costly map: 128 images, each enlarged, blurred and brought back to 28 x 28.

IMAGES = np.sin(np.arange(128 * 28 * 28.0)).reshape(128, 28, 28, 1)


def cached_in_tensorflow(cell):
    import tensorflow as tf

    blur = tf.ones([5, 5, 1, 1], cell.dtype) / 25

    def augment(image):
        large = tf.image.resize(image[None], [56, 56])
        return tf.image.resize(tf.nn.conv2d(large, blur, strides=1, padding="SAME"), [28, 28])[0]

    costly = tf.data.Dataset.from_tensor_slices(tf.constant(IMAGES, cell.dtype)).map(augment)

    def epoch_of(dataset):
        batches = dataset.batch(32)
        return lambda: [tf.reduce_sum(batch) for batch in batches]

    return Variant("map", epoch_of(costly)), Variant("map, cache", epoch_of(costly.cache()))


@claim(
    "speed.cached-epoch",
    claimed="faster from the second epoch on",
    low=1.0,
    source="class 124, homework",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
)
def test_cached_epoch(cached, cell, speed):
    """With cache() an epoch after the first is faster: it does not run the map again.

    The first call of each variant is its first epoch, which fills the cache and is not timed.
    """
    speed.compare(*cached(cell), within=EXACT)


# ----------------------------------------------------------------------------------------------
# Ten batches that take as long to load as to train on.

BATCHES = 10
WAIT = 0.002


def epoch_in_tensorflow(cell, name, *, is_prefetched, is_injected=True):
    import tensorflow as tf

    def load(number):
        time.sleep(WAIT)
        return number

    dataset = tf.data.Dataset.range(BATCHES)
    dataset = dataset.map(lambda number: tf.numpy_function(load, [number], tf.int64))
    if is_prefetched:
        dataset = dataset.prefetch(2)
    if not is_injected:
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        dataset = dataset.with_options(options)

    def epoch():
        batches = []
        for batch in dataset:
            time.sleep(WAIT)
            batches.append(batch)
        return batches

    return Variant(name, epoch)


@claim(
    "speed.prefetch",
    claimed="about 2 times faster",
    low=1.6,  # of ten batches the first is waited for in any case: 20 waits against 11
    high=2.4,
    both=True,
    source="class 124, topic 4",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
)
def test_prefetch(epoch, cell, speed):
    """prefetch() halves an epoch in which loading and training take equally long.

    Both variants are as everyone writes them, so tf.data appends its own prefetch to the first.
    """
    speed.compare(
        epoch(cell, "no prefetch", is_prefetched=False),
        epoch(cell, "prefetch(2)", is_prefetched=True),
        within=EXACT,
    )


@claim(
    "speed.prefetch-without-injection",
    claimed="about 2 times faster",
    low=1.6,
    high=2.4,
    both=True,
    source="class 124, topic 4",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
)
def test_prefetch_without_injection(epoch, cell, speed):
    """prefetch() halves such an epoch where tf.data may not append one itself."""
    speed.compare(
        epoch(cell, "no prefetch", is_prefetched=False, is_injected=False),
        epoch(cell, "prefetch(2)", is_prefetched=True, is_injected=False),
        within=EXACT,
    )
