"""Labels that are to be ignored: padding of sentences, pixels that nobody has labelled.

An ignored label has no loss and no gradient, and it is not counted in the mean either. Four
predictions of two classes; the first two are kept, with losses of 8192 and 0, and the others, which
would have 8192 and 8192, are ignored:

    mean of those kept               (8192 + 0) / 2                 = 4096
    mean with the ignored            (8192 + 0 + 8192 + 8192) / 4   = 6144
    ignored, and yet in the mean     (8192 + 0 + 0 + 0) / 4         = 2048

    torch        ignore_index, -100 unless told otherwise
    Keras        ignore_class, none unless told otherwise
    TensorFlow   tf.boolean_mask of the losses, and then the mean
    Optax        the losses' own mean(where=...)

The ignored label may be a class, such as 0 for padding, or lie outside all classes, such as -1.

Sources: class 141, exercise 1; class 145, homework 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html,
https://keras.io/api/losses/probabilistic_losses/#sparsecategoricalcrossentropy-class,
https://www.tensorflow.org/api_docs/python/tf/boolean_mask,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.mean.html
"""

import numpy as np

from fixtures.matrix import behaviour

KEPT = np.array([True, True, False, False])
MEAN, SUM, MEAN_WITH_THE_IGNORED = 4096.0, 8192.0, 6144.0
# (softmax - one-hot) / 2 for those kept.
GRADIENT = np.array([[0.5, -0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])

# One compiled precision of torch tells what the compiler does, Keras's train step takes it half a
# minute, and JAX without jit compiles every operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_torch-*-compiled keras_jax-*-float64-eager"
)

FLOAT32 = "Keras's losses are float32 unless told otherwise"


def logits_and_labels(ignored):
    """Logits that favour the class 0, 1, 1, 1, by 8192, for the labels 1, 1, ignored, ignored."""
    logits = np.array([[8192.0, 0.0], [0.0, 8192.0], [0.0, 8192.0], [0.0, 8192.0]])
    return logits, np.where(KEPT, 1, ignored)


# ----------------------------------------------------------------------------------------------
# Each program returns (mean, sum, gradient of the mean or None) with `ignored` left out.


def losses_in_numpy(cell, ignored):
    from reference import losses

    logits, labels = logits_and_labels(ignored)
    kept, labels = logits[labels != ignored].astype(cell.dtype), labels[labels != ignored]
    gradient = np.zeros_like(logits, cell.dtype)
    gradient[KEPT] = losses.softmax_cross_entropy_gradient(kept, labels)
    mean = losses.softmax_cross_entropy(kept, labels)
    return mean, mean * cell.dtype.type(len(kept)), gradient


def losses_in_torch(cell, ignored):
    import torch

    logits, labels = logits_and_labels(ignored)
    labels = torch.tensor(labels, device=cell.device)
    logits = torch.tensor(logits, dtype=cell.dtype, device=cell.device, requires_grad=True)

    @cell.compile
    def mean_and_sum(logits, labels):
        mean = torch.nn.CrossEntropyLoss(ignore_index=ignored)
        total = torch.nn.CrossEntropyLoss(ignore_index=ignored, reduction="sum")
        return mean(logits, labels), total(logits, labels)

    mean, total = mean_and_sum(logits, labels)
    mean.backward()
    return mean, total, logits.grad


def losses_in_tensorflow(cell, ignored):
    import tensorflow as tf

    logits, labels = logits_and_labels(ignored)

    @cell.compile
    def losses_and_gradient(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            kept = labels != ignored
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.where(kept, labels, 0), logits=logits
            )
            mean = tf.reduce_mean(tf.boolean_mask(each, kept))
        return mean, tf.reduce_sum(tf.boolean_mask(each, kept)), tape.gradient(mean, logits)

    return losses_and_gradient(tf.constant(logits, cell.dtype), tf.constant(labels))


def losses_in_keras(cell, ignored):
    """The gradient is what SGD with learning rate 1 subtracts from logits that are weights."""
    import keras

    logits, labels = logits_and_labels(ignored)

    def cross_entropy(**options):
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=ignored, **options
        )

    class Logits(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.logits = self.add_weight(shape=logits.shape, initializer="zeros")

        def call(self, inputs):
            return keras.ops.multiply(inputs, self.logits)

    model = Logits()
    model.logits.assign(logits)
    ones = np.ones((4, 1))
    given = keras.ops.convert_to_tensor(labels), model(ones)
    found = [cross_entropy()(*given), cross_entropy(reduction="sum")(*given)]
    cell.compile_model(
        model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss=cross_entropy()
    )
    model.fit(ones, labels, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return *found, logits - cell.to_numpy(model.logits)


def losses_in_jax(cell, ignored):
    import jax
    import jax.numpy as jnp
    import optax

    logits, labels = logits_and_labels(ignored)

    @cell.compile
    def losses_and_gradient(logits, labels):
        kept = labels != ignored

        def losses_of(logits):
            each = optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.where(kept, labels, 0)
            )
            return each.mean(where=kept), each.sum(where=kept)

        gradient, total = jax.grad(losses_of, has_aux=True)(logits)
        return losses_of(logits)[0], total, gradient

    return losses_and_gradient(jnp.asarray(logits, cell.dtype), jnp.asarray(labels))


@behaviour(
    "losses.ignored-labels",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"keras": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes="eager compiled",
    needs={"jax": "optax>=0.2"},
    costly=COSTLY,
    catches="torch.ignored-labels-count-in-the-mean[*-eager] "
    "torch.cross-entropy-ignores-only-its-default[*-eager] "
    "keras.ignored-labels-count-in-the-mean optax.integer-labels-count-from-one",
)
def test_ignored_labels(losses, cell, expect):
    """Ignored labels add nothing to the sum, the mean is over the others, their gradient is 0.

    Mean 4096, sum 8192, gradient ∓1/2 for the first sample alone, for each of the ignored labels 0
    and -1. Exponentials of -8192 are 0, and every other number is a power of two: exact.
    """
    for ignored in (0, -1):
        mean, total, gradient = losses(cell, ignored)
        expect.exactly(
            observed=mean,
            expected=MEAN,
            what=f"mean without label {ignored}",
            other_precision=FLOAT32,
        )
        expect.exactly(
            observed=total,
            expected=SUM,
            what=f"sum without label {ignored}",
            other_precision=FLOAT32,
        )
        expect.exactly(
            observed=gradient,
            expected=GRADIENT,
            what=f"gradient without label {ignored}",
            other_precision="in Keras it is a difference of weights, taken in float64",
        )


# ----------------------------------------------------------------------------------------------
# The common mistakes: nothing is said about padding, or it is only multiplied by 0.


def mistakes_in_torch(cell):
    import torch

    logits, labels = logits_and_labels(ignored=0)
    logits = torch.tensor(logits, dtype=cell.dtype, device=cell.device)
    labels = torch.tensor(labels, device=cell.device)
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    kept = torch.tensor(KEPT, device=cell.device)
    return each.mean(), (each * kept).mean()


def mistakes_in_keras(cell):
    import keras

    logits, labels = logits_and_labels(ignored=0)
    logits = keras.ops.convert_to_tensor(logits, dtype=cell.dtype)
    labels = keras.ops.convert_to_tensor(labels)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return loss(labels, logits), loss(labels, logits, sample_weight=KEPT.astype("float32"))


def mistakes_in_jax(cell):
    import jax.numpy as jnp
    import optax

    logits, labels = logits_and_labels(ignored=0)
    each = optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(logits, cell.dtype), jnp.asarray(labels)
    )
    return each.mean(), (each * KEPT).mean()


@behaviour(
    "losses.padding-counted-by-mistake",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.cross-entropy-takes-zero-for-padding "
    "keras.class-weights-in-the-divisor optax.integer-labels-count-from-one",
)
def test_padding_counted_by_mistake(mistakes, cell, expect):
    """Nobody knows that class 0 is padding unless told, and a weight of 0 still counts in the mean.

    Without a word about it the mean is 6144; with losses times 0 for padding it is 2048, a half of
    what those kept have, and the more padding a batch has, the smaller its gradients are.
    """
    untold, multiplied = mistakes(cell)
    expect.exactly(observed=untold, expected=MEAN_WITH_THE_IGNORED, what="mean with padding")
    expect.exactly(observed=multiplied, expected=2048.0, what="mean of losses times 0 for padding")
