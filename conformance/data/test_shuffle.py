"""Shuffling: every epoch visits every sample exactly once, and no two epochs in the same order.

                how                                      order of the next epoch
    torch       DataLoader(shuffle=True)                 drawn anew from the generator
    Lightning   the same loader, iterated by a Trainer   likewise
    tf.data     shuffle(n)                               drawn anew (reshuffle_each_iteration)
    Keras       fit(shuffle=True), the default           drawn anew "before each epoch"
    JAX         random.permutation(key, n)               that of the key: split one for every epoch

Keras on TensorFlow falls short of its own words: once a global seed is set, its random state starts
anew with every epoch, and all epochs have the order of the first (the ledger holds the entry).

tf.data shuffles what fits into a buffer: it fills the buffer, hands out a random element and puts
the next one in its place. Only a buffer of the whole data set gives every order an equal chance,
and what stands before and after `shuffle` decides what is mixed.

With 64 samples two right permutations agree once in 64! ≈ 10⁸⁹ times, so a test that demands
different orders never fails by chance. Where chances are larger they stand in the docstring.

Sources: class 122, exercise 5 (DataLoader); class 124, exercise 4, definition 3, common mistakes 1
and 2 (shuffle and its buffer); class 173, common mistake 4 (keys);
https://docs.pytorch.org/docs/stable/data.html,
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#shuffle,
https://keras.io/api/models/model_training_apis/,
https://docs.jax.dev/en/latest/_autosummary/jax.random.permutation.html
"""

import itertools
from collections import Counter

import numpy as np
from scipy import stats

from fixtures.matrix import behaviour
from fixtures.precision import Bound

SAMPLES = 64
BATCH = 24  # two batches of 24 and one of 16
EPOCHS = 3

# ----------------------------------------------------------------------------------------------
# Each program returns the orders in which three epochs visited the samples 0, 1, ..., 63.


def orders_in_torch(cell, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(
        range(SAMPLES), batch_size=BATCH, shuffle=True, generator=generator
    )
    return [torch.cat(list(loader)).tolist() for _ in range(EPOCHS)]


def orders_in_lightning(cell, seed):
    import lightning
    import torch

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.orders = [[] for _ in range(EPOCHS)]

        def training_step(self, batch, batch_index):
            self.orders[self.current_epoch] += batch.tolist()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    generator = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(
        range(SAMPLES), batch_size=BATCH, shuffle=True, generator=generator
    )
    model = Watch()
    lightning.Trainer(max_epochs=EPOCHS, **cell.trainer_options).fit(model, loader)
    return model.orders


def orders_in_tensorflow(cell, seed):
    import tensorflow as tf

    samples = tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, seed=seed).batch(BATCH)
    return [tf.concat(list(samples), axis=0).numpy().tolist() for _ in range(EPOCHS)]


def orders_in_keras(cell, seed):
    """Sample i has gradient 1 for weight i alone: the weights tell what each batch held.

    Within a batch the order makes no difference to a model, and is not seen.
    """
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((SAMPLES,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
        ]
    )
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, output: keras.ops.sum(output),
    )
    orders = [[] for _ in range(EPOCHS)]

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.order = orders[epoch]

        def on_train_batch_begin(self, batch, logs=None):
            self.before = self.model.get_weights()[0]

        def on_train_batch_end(self, batch, logs=None):
            visits = (self.before - self.model.get_weights()[0]).ravel().astype(int)
            self.order += np.repeat(np.arange(SAMPLES), visits).tolist()

    one_hot, targets = np.eye(SAMPLES, dtype="float32"), np.zeros((SAMPLES, 1), "float32")
    model.fit(
        one_hot,
        targets,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=True,
        callbacks=[Watch()],
        verbose=0,
    )
    return orders


def orders_in_jax(cell, seed):
    import jax

    key = jax.random.key(seed)
    orders = []
    for _ in range(EPOCHS):
        key, epoch_key = jax.random.split(key)
        orders.append(jax.random.permutation(epoch_key, SAMPLES).tolist())
    return orders


@behaviour(
    "data.reshuffle-each-iteration",
    frameworks="torch lightning tensorflow keras jax",
    precisions="float32",
    modes="eager",
    catches="torch.shuffle-repeats-the-first-order torch.shuffle-ignores-its-generator "
    "torch.shuffle-replaces-one-sample tensorflow.shuffle-repeats-the-first-order "
    "tensorflow.shuffle-ignores-its-seed keras.fit-ignores-shuffle "
    "keras.fit-shuffles-within-batches-only jax.permutation-ignores-its-key "
    "jax.permutation-has-a-memory",
)
def test_reshuffle_each_iteration(orders, cell, expect):
    """A shuffled epoch visits every sample exactly once, and every epoch has an order of its own.

    Sixty-four samples in batches of 24: the last batch has sixteen and leaves nobody out. The same
    seed gives the same three orders again, another seed gives others.
    """
    others = orders(cell, cell.seed + 1)
    first = orders(cell, cell.seed)
    again = orders(cell, cell.seed)
    for epoch, order in enumerate(first):
        expect.exactly(
            observed=sorted(order), expected=list(range(SAMPLES)), what=f"samples of epoch {epoch}"
        )
        is_sorted = order == sorted(order)
        expect.exactly(observed=is_sorted, expected=False, what=f"epoch {epoch} not shuffled")
    expect.exactly(observed=again, expected=first, what="orders of the same seed")
    expect.exactly(observed=others[0] == first[0], expected=False, what="orders ignore the seed")
    distinct = len(set(map(tuple, first)))
    expect.exactly(observed=distinct, expected=EPOCHS, what="number of different orders")


# ----------------------------------------------------------------------------------------------
# The ways, meant or not, to see one order in every epoch.


def frozen_in_torch(cell):
    """The mistake of seeding inside the loop over epochs."""
    import torch

    generator = torch.Generator()
    loader = torch.utils.data.DataLoader(
        range(SAMPLES), batch_size=BATCH, shuffle=True, generator=generator
    )
    orders = []
    for _ in range(EPOCHS):
        generator.manual_seed(cell.seed)
        orders.append(torch.cat(list(loader)).tolist())
    return orders


def frozen_in_tensorflow(cell):
    import tensorflow as tf

    samples = tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, reshuffle_each_iteration=False)
    return [list(samples.as_numpy_iterator()) for _ in range(EPOCHS)]


def frozen_in_jax(cell):
    """The mistake of using one key in every epoch."""
    import jax

    key = jax.random.key(cell.seed)
    return [jax.random.permutation(key, SAMPLES).tolist() for _ in range(EPOCHS)]


@behaviour(
    "data.reshuffle-switched-off",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="eager",
    catches="torch.shuffle-ignores-its-generator tensorflow.shuffle-always-reshuffles "
    "jax.permutation-has-a-memory",
)
def test_reshuffle_switched_off(frozen, cell, expect):
    """One shuffled order repeats in every epoch when the randomness starts anew with each.

    torch: the generator is seeded in the loop; tf.data: reshuffle_each_iteration=False; JAX: the
    key is not split. Still a permutation, and not the order of the data.
    """
    first, *later = frozen(cell)
    expect.exactly(observed=sorted(first), expected=list(range(SAMPLES)), what="samples")
    expect.exactly(observed=first == sorted(first), expected=False, what="data not shuffled")
    expect.exactly(observed=later, expected=[first, first], what="orders of epochs 1 and 2")


# ----------------------------------------------------------------------------------------------
# Every order equally likely.

FALSE_ALARM = 1e-9
SHUFFLES = 12000
PERMUTATIONS = list(itertools.permutations(range(4)))


def binomial_bound(trials, probability, counts):
    """The bound of each of so many binomial counts that all of them keep, but once in 10⁹ runs."""
    mean, tail = trials * probability, FALSE_ALARM / counts / 2
    least = stats.binom.ppf(tail, trials, probability)
    most = stats.binom.isf(tail, trials, probability)
    return Bound(
        absolute=max(mean - least, most - mean),
        because=f"exact tails of Binomial({trials}, {probability:.3g}), {FALSE_ALARM} in all",
    )


def shuffles_in_torch(cell):
    import torch

    generator = torch.Generator().manual_seed(cell.seed)
    loader = torch.utils.data.DataLoader(range(4), batch_size=4, shuffle=True, generator=generator)
    return [next(iter(loader)).tolist() for _ in range(SHUFFLES)]


def shuffles_in_tensorflow(cell):
    import tensorflow as tf

    shuffled = tf.data.Dataset.range(4).shuffle(4, seed=cell.seed).repeat(SHUFFLES)
    return next(iter(shuffled.batch(4 * SHUFFLES))).numpy().reshape(SHUFFLES, 4).tolist()


def shuffles_in_jax(cell):
    import jax

    keys = jax.random.split(jax.random.key(cell.seed), SHUFFLES)
    return jax.vmap(lambda key: jax.random.permutation(key, 4))(keys).tolist()


@behaviour(
    "data.shuffle-full-buffer-uniform",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="eager",
    catches="torch.shuffle-prefers-some-orders tensorflow.shuffle-buffer-one-short "
    "jax.permutation-prefers-some-orders",
)
def test_shuffle_full_buffer_uniform(shuffles, cell, expect):
    """Four elements, shuffled whole, come in each of their 24 orders equally often.

    In 12000 shuffles every order is seen Binomial(12000, 1/24) times, 500 on average, and every
    element comes first, second, third or last Binomial(12000, 1/4) times. The bounds of the 24 + 16
    counts are exact tails of 10⁻⁹/40 each. A buffer of three never hands out the last element
    first; the naive shuffle, which exchanges each element with any, brings the second one first
    3516 times, 516 more than the 3000 of a sound one, and the bound is 320.
    """
    seen = shuffles(cell)
    counts = Counter(map(tuple, seen))
    expect.exactly(observed=sorted(counts), expected=PERMUTATIONS, what="orders seen")
    expect.within(
        binomial_bound(SHUFFLES, 1 / 24, counts=40),
        observed=np.array([counts[order] for order in PERMUTATIONS]),
        expected=np.full(24, SHUFFLES / 24),
        what="shuffles of each order",
    )
    places = [seen_at.count(element) for seen_at in zip(*seen, strict=True) for element in range(4)]
    expect.within(
        binomial_bound(SHUFFLES, 1 / 4, counts=40),
        observed=np.array(places),
        expected=np.full(16, SHUFFLES / 4),
        what="visits of each element to each place",
    )


# ----------------------------------------------------------------------------------------------
# A small buffer.

ELEMENTS, BUFFER = 1000, 10


def rolling_in_tensorflow(cell):
    import tensorflow as tf

    elements = tf.data.Dataset.range(ELEMENTS).shuffle(BUFFER, seed=cell.seed)
    return [np.array(list(elements.as_numpy_iterator())) for _ in range(EPOCHS)]


@behaviour(
    "data.shuffle-buffer-bound",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.shuffle-buffer-one-short tensorflow.shuffle-does-nothing",
)
def test_shuffle_buffer_bound(rolling, cell, expect):
    """shuffle(B) draws from a rolling buffer: output i has an input index below i + B.

    With B = 10 and sorted data the output stays almost sorted. Each of the first 1000 - 9 draws
    takes the newest element of the buffer (index i + B - 1) with probability 1/10: the count is
    Binomial(991, 1/10), 99 on average; three epochs give a false alarm once in 10⁹ runs.
    """
    draws = ELEMENTS - BUFFER + 1
    for epoch, order in enumerate(rolling(cell)):
        expect.exactly(
            observed=sorted(order), expected=list(range(ELEMENTS)), what=f"elements, epoch {epoch}"
        )
        ahead = order - np.arange(ELEMENTS)
        expect.exactly(observed=int(ahead.max()), expected=BUFFER - 1, what="furthest look ahead")
        expect.within(
            binomial_bound(draws, 1 / 10, counts=EPOCHS),
            observed=np.sum(ahead == BUFFER - 1),
            expected=draws / 10,
            what="draws of the newest element",
        )


# ----------------------------------------------------------------------------------------------
# The common mistakes: shuffle in the wrong place.


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).batch(8).shuffle(SAMPLES, seed=cell.seed)


def fix_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, seed=cell.seed).batch(8)


def blocks(batches):
    """The batches in the order of their first sample."""
    return sorted(batch.tolist() for batch in batches.as_numpy_iterator())


@behaviour(
    "data.batch-before-shuffle",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.shuffle-does-nothing",
)
def test_batch_before_shuffle(mistake, fix, cell, expect):
    """batch before shuffle permutes whole batches: the same samples stay together for ever.

    Shuffled first, samples meet others in each epoch. The eight blocks of eight come back by
    chance with probability 8!·8!⁸/64!, below 10⁻⁴⁷.
    """
    consecutive = np.arange(SAMPLES).reshape(8, 8).tolist()
    batches, mixed = mistake(cell), fix(cell)
    for epoch in range(EPOCHS):
        what = f"batches of epoch {epoch}"
        expect.exactly(observed=blocks(batches), expected=consecutive, what=what)
        found = blocks(mixed)
        expect.exactly(observed=sorted(sum(found, [])), expected=list(range(SAMPLES)), what=what)
        expect.exactly(observed=found == consecutive, expected=False, what="same blocks")


def blurred_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).repeat(EPOCHS).shuffle(SAMPLES, seed=cell.seed)


def separate_in_tensorflow(cell):
    import tensorflow as tf

    return tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, seed=cell.seed).repeat(EPOCHS)


@behaviour(
    "data.repeat-before-shuffle",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.shuffle-does-nothing tensorflow.shuffle-repeats-the-first-order",
)
def test_repeat_before_shuffle(blurred, separate, cell, expect):
    """repeat before shuffle blurs the epochs: a sample comes twice before another came at all.

    shuffle before repeat finishes each epoch. In the blurred order all 192 visits are still made,
    but the first 64 are no permutation: draw k has at most 2(64 - k) of the 64 places of the buffer
    to its credit, so they are one with probability below 32!/32³² ≈ 2·10⁻¹³.
    """
    everybody = list(range(SAMPLES))
    order = list(separate(cell).as_numpy_iterator())
    epochs = [order[start : start + SAMPLES] for start in range(0, len(order), SAMPLES)]
    expect.exactly(observed=[sorted(epoch) for epoch in epochs], expected=EPOCHS * [everybody])
    distinct = len(set(map(tuple, epochs)))
    expect.exactly(observed=distinct, expected=EPOCHS, what="number of different orders")

    order = list(blurred(cell).as_numpy_iterator())
    expect.exactly(observed=sorted(order), expected=sorted(EPOCHS * everybody), what="all visits")
    is_permutation = sorted(order[:SAMPLES]) == everybody
    expect.exactly(observed=is_permutation, expected=False, what="first 64 visits a permutation")
