"""Binary cross-entropy: from probabilities, from logits, and where a probability is zero.

For the probability p of a target t the loss is -[t log p + (1 - t) log(1 - p)]; for its logit
z = log(p / (1 - p)) that is max(z, 0) - z t + log(1 + exp(-|z|)), which is the same number while p
has digits left. At p = 0 and t = 1 the first is infinite, and what a library says is its own
choice; the second still knows how wrong the model was:

                        p = 0, t = 1              z = -8192, t = 1
    torch               100 (log p >= -100)       8192
    Keras               16.1 (p >= 1e-7)          8192
    by hand             infinite                  8192

Sources: class 101, definitions (BCE) and common mistake 2; class 100, common mistake 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html,
https://www.tensorflow.org/api_docs/python/tf/nn/sigmoid_cross_entropy_with_logits,
https://keras.io/api/losses/probabilistic_losses/,
https://optax.readthedocs.io/en/latest/api/losses.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to, rounded
from reference import losses

# Eighths: p, 1 - p and the products p (1 - p) are exact. One target is not a class but a weight.
PROBABILITIES = np.array([0.75, 0.25, 0.5, 0.125])
TARGETS = np.array([1.0, 0.0, 0.25, 1.0])
LOGITS = np.log(PROBABILITIES / (1 - PROBABILITIES))

# One compiled precision of torch tells what the compiler does, Keras's train step takes it half a
# minute, and JAX without jit compiles every operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_torch-*-compiled keras_jax-*-float64-eager keras_jax-*float16-*"
)


# ----------------------------------------------------------------------------------------------
# Each program returns the mean loss and its gradient with respect to what it was given.


def of_probabilities_in_numpy(cell):
    from reference.autodiff import Tensor

    p = Tensor(PROBABILITIES.astype(cell.dtype), requires_grad=True)
    t = Tensor(TARGETS.astype(cell.dtype))
    loss = -(t * p.log() + (1.0 - t) * (1.0 - p).log()).mean()
    loss.backward()
    return loss, p.grad


def of_probabilities_in_torch(cell):
    import torch

    p = torch.tensor(PROBABILITIES, device=cell.device, dtype=cell.dtype, requires_grad=True)
    t = torch.tensor(TARGETS, device=cell.device, dtype=cell.dtype)
    loss = cell.compile(torch.nn.functional.binary_cross_entropy)(p, t)
    loss.backward()
    return loss, p.grad


def of_probabilities_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    @cell.compile
    def loss_and_gradient(p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            loss = keras.losses.binary_crossentropy(tf.constant(TARGETS, p.dtype), p)
        return loss, tape.gradient(loss, p)

    return loss_and_gradient(tf.constant(PROBABILITIES, cell.dtype))


def of_probabilities_in_keras(cell):
    import keras

    return loss_and_gradient_by_fit(cell, PROBABILITIES, keras.losses.binary_crossentropy)


def of_probabilities_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    @jax.value_and_grad
    def loss_and_gradient(p):
        t = jnp.asarray(TARGETS, p.dtype)
        return -(t * jnp.log(p) + (1 - t) * jnp.log(1 - p)).mean()

    return loss_and_gradient(jnp.asarray(PROBABILITIES, cell.dtype))


def of_logits_in_numpy(cell):
    z, t = LOGITS.astype(cell.dtype), TARGETS.astype(cell.dtype)
    return losses.sigmoid_cross_entropy(z, t), losses.sigmoid_cross_entropy_gradient(z, t)


def of_logits_in_torch(cell):
    import torch

    z = torch.tensor(LOGITS, device=cell.device, dtype=cell.dtype, requires_grad=True)
    t = torch.tensor(TARGETS, device=cell.device, dtype=cell.dtype)
    loss = cell.compile(torch.nn.functional.binary_cross_entropy_with_logits)(z, t)
    loss.backward()
    return loss, z.grad


def of_logits_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def loss_and_gradient(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            t = tf.constant(TARGETS, z.dtype)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=z))
        return loss, tape.gradient(loss, z)

    return loss_and_gradient(tf.constant(LOGITS, cell.dtype))


def of_logits_in_keras(cell):
    import keras

    def cross_entropy(targets, logits):
        return keras.losses.binary_crossentropy(targets, logits, from_logits=True)

    return loss_and_gradient_by_fit(cell, LOGITS, cross_entropy)


def of_logits_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    @jax.value_and_grad
    def loss_and_gradient(z):
        return optax.sigmoid_binary_cross_entropy(z, jnp.asarray(TARGETS, z.dtype)).mean()

    return loss_and_gradient(jnp.asarray(LOGITS, cell.dtype))


def loss_and_gradient_by_fit(cell, values, cross_entropy):
    """Keras has no call that returns a gradient, but SGD with learning rate 1 subtracts it.

    `values` (probabilities or logits) are the weights of the model; they are one sample's.
    """
    import keras

    class Values(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.values = self.add_weight(shape=(1, len(values)), initializer="zeros")

        def call(self, inputs):
            return keras.ops.multiply(inputs, self.values)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **options):
            return keras.ops.sum(cross_entropy(y, y_pred))

    model = Values()
    model.values.assign(values[None])
    one, targets = np.ones((1, 1)), TARGETS[None]
    loss = model.compute_loss(
        y=keras.ops.convert_to_tensor(targets, dtype=cell.dtype), y_pred=model(one)
    )
    before = cell.to_numpy(model.values)
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0))
    model.fit(one, targets, batch_size=1, epochs=1, verbose=0)
    return loss, (before - cell.to_numpy(model.values))[0]


@behaviour(
    "losses.bce-formula",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly=COSTLY,
    catches="optax.sigmoid-cross-entropy-in-bfloat16 "
    "keras.binary-labels-smoothed-by-a-thousandth[tensorflow-*|keras_tensorflow-*-float32-eager] "
    "torch.bce-weighs-positives-a-thousandth-more[*-eager]",
)
def test_bce_formula(of_probabilities, of_logits, cell, expect):
    """The mean of -[t log p + (1 - t) log(1 - p)], and the same of z = log(p / (1 - p)).

    For p = 3/4, 1/4, 1/2, 1/8 and t = 1, 0, 1/4, 1 that is 0.837. The gradients are
    (p - t) / (p (1 - p)) / 4 and (p - t) / 4.

    Sixteen roundings at most: two logarithms, or an exponential and a logarithm (four each), two
    products, two sums, three of the mean and its division.
    """
    expected = -np.mean(TARGETS * np.log(PROBABILITIES) + (1 - TARGETS) * np.log(1 - PROBABILITIES))
    slopes = (PROBABILITIES - TARGETS) / (PROBABILITIES * (1 - PROBABILITIES)) / 4
    check(of_probabilities(cell), PROBABILITIES, expected, slopes, "probabilities", cell, expect)

    logits = round_to(LOGITS, cell.precision)
    expected = losses.sigmoid_cross_entropy(logits, TARGETS)
    slopes = losses.sigmoid_cross_entropy_gradient(logits, TARGETS)
    check(of_logits(cell), logits, expected, slopes, "logits", cell, expect)


def check(loss_and_gradient, given, expected_loss, expected_gradient, name, cell, expect):
    loss, gradient = loss_and_gradient
    bound = rounded(16, cell.precision, terms=[1.0])
    expect.within(bound, observed=loss, expected=expected_loss, what=f"loss of {name}")
    bound = rounded(16, cell.precision)
    # What the gradient is a difference of: (t / p - (1 - t) / (1 - p)) / 4, or (p - t) / 4.
    terms = (
        (TARGETS / given + (1 - TARGETS) / (1 - given)) / 4 if name == "probabilities" else 1 / 2
    )
    absolute = bound.relative * terms
    if cell.framework == "keras":
        absolute += accumulated(1, cell.precision) * (np.abs(given) + np.abs(expected_gradient))
    bound = Bound(bound.relative, bound.absolute + absolute, because=bound.because)
    expect.within(
        bound,
        observed=gradient,
        expected=expected_gradient,
        what=f"gradient of {name}",
        other_precision="in Keras it is a difference of weights, taken in float64",
    )


# ----------------------------------------------------------------------------------------------
# A probability of zero for what was true, and what the logit form says instead.


def of_zero_in_numpy(cell):
    with np.errstate(divide="ignore"):
        return -np.log(np.zeros(1, cell.dtype))[0]


def of_zero_in_torch(cell):
    import torch

    zero = torch.zeros(1, device=cell.device, dtype=cell.dtype)
    one = torch.ones(1, device=cell.device, dtype=cell.dtype)
    return torch.nn.functional.binary_cross_entropy(zero, one)


def of_zero_in_keras(cell):
    import keras

    zero = keras.ops.zeros((1, 1), dtype=cell.dtype)
    one = keras.ops.ones((1, 1), dtype=cell.dtype)
    return keras.ops.binary_crossentropy(one, zero)


def of_zero_in_tensorflow(cell):
    import tensorflow as tf

    return -tf.math.log(tf.zeros(1, cell.dtype))[0]


def of_zero_in_jax(cell):
    import jax.numpy as jnp

    return -jnp.log(jnp.zeros(1, cell.dtype))[0]


def infinite(cell):
    return np.inf


def limit_in_torch(cell):
    """The logarithm is documented to stop at -100."""
    return 100.0


def limit_in_keras(cell):
    """The probability stops at keras.config.epsilon(), 1e-7, which the precision rounds."""
    return -np.log(round_to(1e-7, cell.precision))


limit_in_numpy = infinite
limit_in_tensorflow = infinite
limit_in_jax = infinite

WRONG_LOGITS = np.array([[-8192.0, 8192.0, 8192.0, -8192.0]])
WRONG_TARGETS = np.array([[1.0, 0.0, 1.0, 0.0]])


def of_wrong_logits_in_numpy(cell):
    z, t = WRONG_LOGITS.astype(cell.dtype), WRONG_TARGETS.astype(cell.dtype)
    return losses.sigmoid_cross_entropy(z, t), losses.sigmoid_cross_entropy_gradient(z, t)


def of_wrong_logits_in_torch(cell):
    import torch

    z = torch.tensor(WRONG_LOGITS, device=cell.device, dtype=cell.dtype, requires_grad=True)
    t = torch.tensor(WRONG_TARGETS, device=cell.device, dtype=cell.dtype)
    loss = cell.compile(torch.nn.functional.binary_cross_entropy_with_logits)(z, t)
    loss.backward()
    return loss, z.grad


def of_wrong_logits_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def loss_and_gradient(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            t = tf.constant(WRONG_TARGETS, z.dtype)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=z))
        return loss, tape.gradient(loss, z)

    return loss_and_gradient(tf.constant(WRONG_LOGITS, cell.dtype))


def of_wrong_logits_in_keras(cell):
    import keras

    logits = keras.ops.convert_to_tensor(WRONG_LOGITS, dtype=cell.dtype)
    targets = keras.ops.convert_to_tensor(WRONG_TARGETS, dtype=cell.dtype)
    each = keras.ops.binary_crossentropy(targets, logits, from_logits=True)
    return keras.ops.sum(each) / WRONG_LOGITS.size, None


def of_wrong_logits_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    @jax.value_and_grad
    def loss_and_gradient(z):
        return optax.sigmoid_binary_cross_entropy(z, jnp.asarray(WRONG_TARGETS, z.dtype)).mean()

    return loss_and_gradient(jnp.asarray(WRONG_LOGITS, cell.dtype))


@behaviour(
    "losses.bce-extreme-probability",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    costly=f"{COSTLY} jax-*-eager",
    catches="torch.bce-clamps-probabilities[*-eager] tensorflow.sigmoid-cross-entropy-overflows",
)
def test_bce_extreme_probability(of_zero, limit, of_wrong_logits, cell, expect):
    """p = 0 for a true target costs infinity, in torch 100, in Keras -log 1e-7; a logit its size.

    Two logits of ±8192 with the wrong sign and two with the right one: the mean is exactly 4096,
    the gradient exactly ∓1/4 and 0.
    """
    expect.within(
        rounded(8, cell.precision, terms=[1.0]),
        observed=of_zero(cell),
        expected=limit(cell),
        what="loss of p = 0",
    )
    loss, gradient = of_wrong_logits(cell)
    expect.exactly(observed=loss, expected=4096.0, what="loss of logits")
    if gradient is not None:
        expected = np.array([[-0.25, 0.25, 0.0, 0.0]])
        expect.exactly(observed=gradient, expected=expected, what="gradient of logits")
