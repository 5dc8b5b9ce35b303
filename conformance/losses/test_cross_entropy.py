"""Cross-entropy: integer or one-hot labels, logits or probabilities, large logits, weights.

For logits z and the label k the loss is -log softmax(z)[k], and the gradient of its mean over n
samples is (softmax - one_hot) / n. Whichever way the numbers come in, that is the answer; but only
the way from logits survives large ones. A probability of e^-8192 is zero in every format, and from
there the logarithm cannot come back:

                                            loss 8192 from logits      from probabilities
    torch, TensorFlow, JAX, log by hand     8192                       infinite, gradient NaN
    Keras, from_logits=False                8192                       16.1 (clipped to 1e-7)

Sources: class 101, learning outcomes 1 and 5, definition (sparse); class 122, topics
(CrossEntropyLoss); Goodfellow, Bengio and Courville 2016, section 6.2.2.3;
https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html,
https://www.tensorflow.org/api_docs/python/tf/nn/softmax_cross_entropy_with_logits,
https://keras.io/api/losses/probabilistic_losses/,
https://optax.readthedocs.io/en/latest/api/losses.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to, rounded
from reference import losses

# Four samples of three classes. Small integers: no format rounds them, nor their differences.
LOGITS = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 2.0], [4.0, 4.0, 0.0], [-2.0, 1.0, 0.0]])
LABELS = np.array([2, 0, 1, 1])
ONE_HOT = np.eye(3)[LABELS]

EXPECTED_LOSS = losses.softmax_cross_entropy(LOGITS, LABELS)
EXPECTED_GRADIENT = losses.softmax_cross_entropy_gradient(LOGITS, LABELS)

DIFFERENCE = "in Keras it is a difference of weights, taken in float64"
SPARSE = "on JAX, Keras multiplies by one-hot labels in float32"

# One compiled precision of torch tells what the compiler does, Keras's train step takes it half a
# minute, and JAX without jit compiles every operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_torch-*-compiled keras_jax-*-float64-eager keras_jax-*float16-*"
)


def loss_and_gradient_by_fit(cell, targets, cross_entropy):
    """Keras has no call that returns a gradient, but SGD with learning rate 1 subtracts it."""
    import keras

    class Logits(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.logits = self.add_weight(shape=LOGITS.shape, initializer="zeros")

        def call(self, inputs):
            return keras.ops.multiply(inputs, self.logits)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **options):
            return keras.ops.sum(cross_entropy(y, y_pred)) / len(LABELS)

    model = Logits()
    model.logits.assign(LOGITS)
    loss = model.compute_loss(y=keras.ops.convert_to_tensor(targets), y_pred=model(np.ones((4, 1))))
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0))
    model.fit(np.ones((4, 1)), targets, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return loss, LOGITS - cell.to_numpy(model.logits)


# ----------------------------------------------------------------------------------------------
# Integer labels and one-hot labels. A program returns, for each, the mean loss and its gradient.


def sparse_and_one_hot_in_numpy(cell):
    from reference.autodiff import Tensor

    logits = Tensor(LOGITS.astype(cell.dtype), requires_grad=True)
    sparse = losses.softmax_cross_entropy(logits, LABELS)
    sparse.backward()
    sparse_gradient, logits.grad = logits.grad, None
    one_hot = -(logits.log_softmax() * Tensor(ONE_HOT.astype(cell.dtype))).sum(axis=1).mean()
    one_hot.backward()
    return (sparse, sparse_gradient), (one_hot, logits.grad)


def sparse_and_one_hot_in_torch(cell):
    import torch

    cross_entropy = cell.compile(torch.nn.functional.cross_entropy)
    found = []
    for target in (
        torch.tensor(LABELS, device=cell.device),
        torch.tensor(ONE_HOT, device=cell.device, dtype=cell.dtype),
    ):
        logits = torch.tensor(LOGITS, device=cell.device, dtype=cell.dtype, requires_grad=True)
        loss = cross_entropy(logits, target)
        loss.backward()
        found.append((loss, logits.grad))
    return found


def sparse_and_one_hot_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def sparse(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits)
            loss = tf.reduce_mean(each)
        return loss, tape.gradient(loss, logits)

    @cell.compile
    def one_hot(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            labels = tf.constant(ONE_HOT, logits.dtype)
            each = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(each)
        return loss, tape.gradient(loss, logits)

    logits = tf.constant(LOGITS, cell.dtype)
    return sparse(logits), one_hot(logits)


def sparse_and_one_hot_in_keras(cell):
    import keras

    def sparse(targets, logits):
        return keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)

    def one_hot(targets, logits):
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)

    return (
        loss_and_gradient_by_fit(cell, LABELS, sparse),
        loss_and_gradient_by_fit(cell, ONE_HOT, one_hot),
    )


def sparse_and_one_hot_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    @jax.value_and_grad
    def sparse(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)).mean()

    @cell.compile
    @jax.value_and_grad
    def one_hot(logits):
        return optax.softmax_cross_entropy(logits, jnp.asarray(ONE_HOT, logits.dtype)).mean()

    logits = jnp.asarray(LOGITS, cell.dtype)
    return sparse(logits), one_hot(logits)


@behaviour(
    "losses.sparse-equals-categorical",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    needs={"jax": "optax>=0.2"},
    costly=COSTLY,
    catches="optax.integer-labels-count-from-one "
    "keras.sparse-cross-entropy-ignores-from-logits[*-float32-eager|!*_torch-*] "
    "tensorflow.one-hot-labels-smoothed-by-a-thousandth "
    "torch.gradient-off-by-a-thousandth[torch-*-float32-eager]",
)
def test_sparse_equals_categorical(sparse_and_one_hot, cell, expect):
    """Integer labels and their one-hot vectors give the same mean loss and the same gradient.

    The loss is log(sum(exp(z - max))) - (z[k] - max): the exponential and the logarithm may each
    err by four roundings, two sums precede and four follow; the argument's relative error becomes
    an absolute one in the logarithm. The gradient is a softmax (an exponential, two sums, a
    division), one subtraction and the division by four; Keras shows it as a difference of weights
    of up to 4, rounded once more.
    """
    for what, (loss, gradient) in zip(
        ("integer labels", "one-hot labels"), sparse_and_one_hot(cell), strict=True
    ):
        bound = rounded(14, cell.precision, terms=[1.0])
        expect.within(
            bound,
            observed=loss,
            expected=EXPECTED_LOSS,
            what=f"loss of {what}",
            other_precision=SPARSE,
        )
        expect.within(
            gradient_bound(cell, 10),
            observed=gradient,
            expected=EXPECTED_GRADIENT,
            what=f"gradient of {what}",
            other_precision=DIFFERENCE,
        )


def gradient_bound(cell, roundings):
    """Of (softmax - one_hot) / 4, whose terms are at most 1/4; of w - (w - g) too in Keras."""
    bound = rounded(roundings, cell.precision, terms=[1 / 4])
    if cell.framework != "keras":
        return bound
    stored = accumulated(1, cell.precision) * (np.abs(LOGITS) + 1 / 4)
    return Bound(bound.relative, bound.absolute + stored, because=f"{bound.because}, and of w - g")


# ----------------------------------------------------------------------------------------------
# From probabilities: softmax first, then the loss that expects probabilities.


def from_probabilities_in_numpy(cell):
    from reference.autodiff import Tensor

    logits = Tensor(LOGITS.astype(cell.dtype), requires_grad=True)
    powers = logits.exp()
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    loss = -probabilities.log()[np.arange(4), LABELS].mean()
    loss.backward()
    return loss, logits.grad


def from_probabilities_in_torch(cell):
    import torch

    @cell.compile
    def loss_of(logits, labels):
        return torch.nn.functional.nll_loss(torch.log(torch.softmax(logits, dim=1)), labels)

    logits = torch.tensor(LOGITS, device=cell.device, dtype=cell.dtype, requires_grad=True)
    loss = loss_of(logits, torch.tensor(LABELS, device=cell.device))
    loss.backward()
    return loss, logits.grad


def from_probabilities_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def loss_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_probabilities = tf.math.log(tf.nn.softmax(logits))
            loss = -tf.reduce_mean(tf.gather(log_probabilities, LABELS, axis=1, batch_dims=1))
        return loss, tape.gradient(loss, logits)

    return loss_and_gradient(tf.constant(LOGITS, cell.dtype))


def from_probabilities_in_keras(cell):
    """The softmax is written out: from keras.ops.softmax, Keras would take the logits back."""
    import keras

    def cross_entropy(targets, logits):
        powers = keras.ops.exp(logits)
        probabilities = powers / keras.ops.sum(powers, axis=1, keepdims=True)
        return keras.losses.categorical_crossentropy(targets, probabilities)

    return loss_and_gradient_by_fit(cell, ONE_HOT, cross_entropy)


def from_probabilities_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    @jax.value_and_grad
    def loss_and_gradient(logits):
        probabilities = jax.nn.softmax(logits)
        return -jnp.log(probabilities[jnp.arange(4), jnp.asarray(LABELS)]).mean()

    return loss_and_gradient(jnp.asarray(LOGITS, cell.dtype))


@behaviour(
    "losses.logits-equal-probabilities",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly=COSTLY,
    catches="torch.softmax-through-float32[*-eager] jax.softmax-in-bfloat16 "
    "tensorflow.softmax-through-float32",
)
def test_logits_equal_probabilities(from_probabilities, cell, expect):
    """-log of the softmax gives the loss and the gradient that the logits give, for small logits.

    A probability passes through 8 roundings (the exponential 4, two sums, the division, and its
    normalisation once more in Keras: 3), which the logarithm turns into an absolute error; four of
    the logarithm and four of the mean follow. Backwards 1/p meets p again: as many roundings more.
    """
    loss, gradient = from_probabilities(cell)
    bound = rounded(19, cell.precision, terms=[1.0])
    expect.within(bound, observed=loss, expected=EXPECTED_LOSS, what="loss")
    expect.within(
        gradient_bound(cell, 30),
        observed=gradient,
        expected=EXPECTED_GRADIENT,
        what="gradient",
        other_precision=DIFFERENCE,
    )


# ----------------------------------------------------------------------------------------------
# The common mistake: softmax, then the logarithm. ±8192 is near ±1e4 and exact in every format, and
# so are its loss, a difference of logits, and the gradient, all of whose probabilities are 0 or 1.
# The mistake is never compiled: a compiler may write log(softmax(z)) as log_softmax(z) and cure it,
# as TensorFlow's does.

LARGE = np.array([[8192.0, 0.0, -8192.0]] * 3 + [[-8192.0, 0.0, 8192.0]])
LARGE_LABELS = np.array([0, 1, 2, 0])
LARGE_LOSSES = np.array([0.0, 8192.0, 16384.0, 16384.0])
LARGE_GRADIENT = np.array([[0, 0, 0], [1, -1, 0], [1, 0, -1], [-1, 0, 1]]) / 4


def infinite_loss(cell):
    return Bound(), np.array([0.0, np.inf, np.inf, np.inf])


def clipped_loss(cell):
    """-log(epsilon), whose epsilon = 1e-7 the precision rounds, and the loss eight times more.

    The first sample's probability 1 is clipped to 1 - epsilon, which 16 bits round to 1.
    """
    epsilon = round_to(1e-7, cell.precision)
    certain = -np.log(round_to(1 - 1e-7, cell.precision))
    return (
        rounded(8, cell.precision, terms=[1.0]),
        np.array([certain, *(-np.log(epsilon) for _ in range(3))]),
    )


symptom_in_numpy = infinite_loss
symptom_in_torch = infinite_loss
symptom_in_tensorflow = infinite_loss
symptom_in_keras = clipped_loss
symptom_in_jax = infinite_loss


def mistake_in_numpy(cell):
    from reference.autodiff import Tensor

    logits = Tensor(LARGE.astype(cell.dtype), requires_grad=True)
    powers = (logits - logits.data.max(axis=1, keepdims=True)).exp()
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -probabilities.log()[np.arange(4), LARGE_LABELS]
        each.mean().backward()
    return each, logits.grad


def fix_in_numpy(cell):
    from reference.autodiff import Tensor

    logits = Tensor(LARGE.astype(cell.dtype), requires_grad=True)
    each = -logits.log_softmax()[np.arange(4), LARGE_LABELS]
    each.mean().backward()
    return each, logits.grad


def mistake_in_torch(cell):
    import torch

    logits = torch.tensor(LARGE, device=cell.device, dtype=cell.dtype, requires_grad=True)
    labels = torch.tensor(LARGE_LABELS, device=cell.device)
    log_probabilities = torch.log(torch.softmax(logits, dim=1))
    each = torch.nn.functional.nll_loss(log_probabilities, labels, reduction="none")
    each.mean().backward()
    return each, logits.grad


def fix_in_torch(cell):
    import torch

    @cell.compile
    def loss_of(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    logits = torch.tensor(LARGE, device=cell.device, dtype=cell.dtype, requires_grad=True)
    each = loss_of(logits, torch.tensor(LARGE_LABELS, device=cell.device))
    each.mean().backward()
    return each, logits.grad


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    logits = tf.constant(LARGE, cell.dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_probabilities = tf.math.log(tf.nn.softmax(logits))
        each = -tf.gather(log_probabilities, LARGE_LABELS, axis=1, batch_dims=1)
        loss = tf.reduce_mean(each)
    return each, tape.gradient(loss, logits)


def fix_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def losses_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(LARGE_LABELS, logits)
            loss = tf.reduce_mean(each)
        return each, tape.gradient(loss, logits)

    return losses_and_gradient(tf.constant(LARGE, cell.dtype))


def mistake_in_keras(cell):
    """Probabilities are what the loss expects unless told from_logits=True; it clips them."""
    import keras

    probabilities = np.exp(LARGE - LARGE.max(axis=1, keepdims=True))  # exactly 0 and 1
    return (
        keras.losses.categorical_crossentropy(
            keras.ops.convert_to_tensor(np.eye(3)[LARGE_LABELS], dtype=cell.dtype),
            keras.ops.convert_to_tensor(probabilities, dtype=cell.dtype),
        ),
        None,
    )


def fix_in_keras(cell):
    import keras

    @cell.compile
    def loss_of(labels, logits):
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    labels = keras.ops.convert_to_tensor(LARGE_LABELS)
    return loss_of(labels, keras.ops.convert_to_tensor(LARGE, dtype=cell.dtype)), None


def mistake_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def loss_of(logits):
        each = -jnp.log(jax.nn.softmax(logits))[jnp.arange(4), jnp.asarray(LARGE_LABELS)]
        return each.mean(), each

    gradient, each = jax.grad(loss_of, has_aux=True)(jnp.asarray(LARGE, cell.dtype))
    return each, gradient


def fix_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    def losses_and_gradient(logits):
        def loss_of(logits):
            each = optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.asarray(LARGE_LABELS)
            )
            return each.mean(), each

        gradient, each = jax.grad(loss_of, has_aux=True)(logits)
        return each, gradient

    return losses_and_gradient(jnp.asarray(LARGE, cell.dtype))


@behaviour(
    "losses.cross-entropy-of-large-logits",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    needs={"jax": "optax>=0.2"},
    costly=f"{COSTLY} jax-*-eager",
    catches="torch.cross-entropy-by-way-of-probabilities[*-eager] "
    "keras.sparse-cross-entropy-ignores-from-logits[keras_tensorflow-*-eager] "
    "torch.cross-entropy-clips-logits-of-16-bits[*-eager] "
    "optax.integer-labels-count-from-one[*-float32-*]",
)
def test_cross_entropy_of_large_logits(mistake, symptom, fix, cell, expect):
    """From logits of ±8192 the losses are exactly 0, 8192 and 16384, the gradients exactly ±1/4.

    By way of probabilities, which are 0 or 1, they are infinite and the gradient has NaN in it;
    Keras clips a probability at 1e-7 and reports 16.1 for each. (Keras's own gradient is the
    business of losses.sparse-equals-categorical.)
    """
    bound, expected = symptom(cell)
    each, gradient = mistake(cell)
    expect.within(bound, observed=each, expected=expected, what="losses of probabilities")
    if gradient is not None:
        has_nan = bool(np.isnan(cell.to_numpy(gradient)).any())
        expect.exactly(observed=has_nan, expected=True, what="NaN in that gradient")
    each, gradient = fix(cell)
    expect.exactly(
        observed=each, expected=LARGE_LOSSES, what="losses of logits", other_precision=SPARSE
    )
    if gradient is not None:
        expect.exactly(observed=gradient, expected=LARGE_GRADIENT, what="gradient of logits")


# ----------------------------------------------------------------------------------------------
# Weights: the mean of a weighted batch. The classes weigh 1, 2 and 4, so the samples, in the order
# of LABELS, weigh 4, 1, 2 and 2, together 9. torch divides by 9, Keras by 4.

CLASS_WEIGHTS = np.array([1.0, 2.0, 4.0])
SAMPLE_WEIGHTS = CLASS_WEIGHTS[LABELS]

divisor_in_torch = SAMPLE_WEIGHTS.sum()
divisor_in_keras = len(SAMPLE_WEIGHTS)


def weighted_in_torch(cell):
    import torch

    weights = torch.tensor(CLASS_WEIGHTS, device=cell.device, dtype=cell.dtype)
    cross_entropy = cell.compile(torch.nn.CrossEntropyLoss(weight=weights))
    logits = torch.tensor(LOGITS, device=cell.device, dtype=cell.dtype, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor(LABELS, device=cell.device))
    loss.backward()
    return loss, logits.grad


def weighted_in_keras(cell):
    """The loss that `fit` shows is kept in float32, so it is asked for its gradient alone."""
    import keras

    class Logits(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.logits = self.add_weight(shape=LOGITS.shape, initializer="zeros")

        def call(self, inputs):
            return keras.ops.multiply(inputs, self.logits)

    model = Logits()
    model.logits.assign(LOGITS)
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        np.ones((4, 1)),
        LABELS,
        batch_size=4,
        shuffle=False,
        class_weight=dict(enumerate(CLASS_WEIGHTS)),
        epochs=1,
        verbose=0,
    )
    return None, LOGITS - cell.to_numpy(model.logits)


@behaviour(
    "losses.class-weights-mean",
    frameworks="torch keras",
    precisions={"torch": "float64 float32 bfloat16 float16", "keras": "float32"},
    modes="eager compiled",
    costly=f"{COSTLY} torch-*-compiled",
    catches="torch.weighted-cross-entropy-divides-by-the-batch "
    "keras.class-weights-in-the-divisor[keras_torch-*-eager]",
)
def test_class_weights_mean(weighted, divisor, cell, expect):
    """With class weights torch divides the sum by the samples' weights, Keras by their number.

    Weights of 4, 1, 2 and 2: torch's mean is sum(w * loss) / 9, Keras's sum(w * loss) / 4, and the
    gradients follow. Fourteen roundings of the loss, as without weights, and four more of the
    weighted sum, its divisor and the division, on each of the four terms.
    """
    loss, gradient = weighted(cell)
    expected_loss, expected_gradient = losses.weighted_softmax_cross_entropy(
        LOGITS, LABELS, SAMPLE_WEIGHTS, divisor
    )
    largest = SAMPLE_WEIGHTS.sum() / divisor
    if loss is not None:
        bound = rounded(18, cell.precision, terms=[largest])
        expect.within(bound, observed=loss, expected=expected_loss, what="weighted mean")
    bound = rounded(14, cell.precision, terms=[SAMPLE_WEIGHTS.max() / divisor])
    if cell.framework == "keras":
        stored = accumulated(1, cell.precision) * (np.abs(LOGITS) + 1)
        bound = Bound(
            bound.relative, bound.absolute + stored, because=f"{bound.because}, and of w - g"
        )
    expect.within(
        bound,
        observed=gradient,
        expected=expected_gradient,
        what="gradient",
        other_precision=DIFFERENCE,
    )
