"""BatchNorm: what it does in training, what it does in inference, and what it remembers.

In training a batch is normalised by its own mean and variance, and running statistics move a little
towards them. In inference the running statistics are used and stay as they are. Every framework
agrees on that, and no two agree on the details:

                    weight of a batch   variance kept    epsilon   mode unless told otherwise
    torch           0.1                 unbiased, n-1    1e-5      training (until model.eval())
    Keras           0.01                biased, n        1e-3      inference (unless training=True)
    Flax NNX        0.01                biased, n        1e-5      training (until model.eval())

Sources: class 110, definitions and common mistake 3; class 121, common mistake 5; class 122,
definition of train/eval; class 173, definition 7; Ioffe and Szegedy 2015 (arXiv:1502.03167);
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html,
https://keras.io/api/layers/normalization_layers/batch_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded, unit_roundoff
from fixtures.precision.roundoff import storage_precision
from reference import layers

convention_in_numpy = layers.TORCH
convention_in_torch = layers.TORCH
convention_in_lightning = layers.TORCH
convention_in_tensorflow = layers.KERAS
convention_in_keras = layers.KERAS
convention_in_jax = layers.FLAX

# Ten samples of one feature: two batches of four and a last one of two. Their means (2.5, 5, 2) and
# biased variances (1.25, 5, 1) are exact in every format, so only the updates round.
SAMPLES = np.array([[1.0], [2.0], [3.0], [4.0], [2.0], [4.0], [6.0], [8.0], [1.0], [3.0]])
BATCHES = (SAMPLES[:4], SAMPLES[4:8], SAMPLES[8:])

# Flax creates running statistics in float32, whatever the layer's dtype.
OTHER_PRECISION = "Flax keeps running statistics in float32"

# torch.compile on Keras's train step costs tens of seconds for each shape of batch.
COSTLY = "keras_torch-*-compiled"


def running_statistics(convention, batches):
    """The reference: running mean and variance from 0 and 1 over the batches, in float64."""
    mean, variance = np.zeros(1), np.ones(1)
    for batch in batches:
        mean, variance = layers.update_running_statistics(
            mean, variance, batch, convention.weight_of_batch, convention.unbiased
        )
    return mean, variance


def update_bound(convention, roundings, precision):
    """`roundings` in the precision, and one in the weight before it gets there.

    Keras and Flax are given momentum = 0.99 and compute the weight 1 - momentum in double: the
    rounding of 0.99 is 99 times larger relative to 0.01.
    """
    weight = convention.weight_of_batch
    rounding_of_momentum = (1 - weight) / weight * unit_roundoff("float64")
    return Bound(
        relative=accumulated(roundings, storage_precision(precision)) + rounding_of_momentum,
        because=f"{roundings} roundings in {storage_precision(precision)} and that of momentum",
    )


# ----------------------------------------------------------------------------------------------
# Statistics after training on three batches, the last one partial.


def statistics_in_numpy(cell):
    mean, variance = np.zeros(1, cell.dtype), np.ones(1, cell.dtype)
    for batch in BATCHES:
        mean, variance = layers.update_running_statistics(
            mean, variance, batch.astype(cell.dtype), momentum_of_new=0.1, unbiased=True
        )
    return mean, variance


def statistics_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    forward = cell.compile(layer)
    with torch.no_grad():
        for batch in BATCHES:
            forward(torch.tensor(batch, device=cell.device, dtype=cell.dtype))
    return layer.running_mean.clone(), layer.running_var.clone()


def statistics_in_lightning(cell):
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.BatchNorm1d(1)
            self.network = cell.compile(self.layer)

        def training_step(self, batch, batch_index):
            return self.network(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    model = Model()
    samples = torch.tensor(SAMPLES, dtype=cell.dtype)
    batches_of_four = torch.utils.data.DataLoader(samples, batch_size=4)
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, batches_of_four)
    return model.layer.running_mean.clone(), model.layer.running_var.clone()


def statistics_in_tensorflow(cell):
    """A custom loop: the tape, and training=True on every call."""
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    layer.build((None, 1))

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2)
        return tape.gradient(loss, layer.trainable_variables)

    for batch in BATCHES:
        train_step(tf.constant(batch, cell.dtype))
    return tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)


def statistics_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    model = keras.Sequential([keras.Input((1,)), layer])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(0.0), loss="mse")
    model.fit(SAMPLES, SAMPLES, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return layer.moving_mean, layer.moving_variance


def statistics_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        1, dtype=cell.compute_dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed)
    )
    train_step = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)
    for batch in BATCHES:
        train_step(layer, jnp.asarray(batch, cell.dtype))
    return jnp.array(layer.mean), jnp.array(layer.var)


@behaviour(
    "normalization.batchnorm-moving-average-update",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "jax": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes="eager compiled",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    costly=COSTLY,
    catches="torch.batchnorm-keeps-biased-variance torch.batchnorm-weighs-compiled-batches-more "
    "torch.batchnorm-statistics-through-float32 keras.batchnorm-momentum-reversed "
    "keras.batchnorm-keeps-unbiased-variance[!*-bfloat16-*] "
    "torch.batchnorm-skips-a-partial-batch[*-eager] "
    "keras.mixed-batchnorm-statistics-in-16-bits[*-eager] "
    "flax.batchnorm-keeps-unbiased-variance[*-float32-compiled]",
)
def test_batchnorm_moving_average_update(statistics, convention, cell, expect):
    """Each training batch moves the running mean and variance by the framework's own weight.

    running = (1 - weight) * running + weight * batch, starting from mean 0 and variance 1; torch
    keeps the unbiased variance, Keras and Flax the biased one. After three batches that is a mean
    of 0.8525 and a variance of 1.9285 in torch, 0.0940025 and 1.04205025 in Keras and Flax.

    Ten roundings at most lie on the path of any number: three in each update (the weight, the
    product, the sum), and one in the division by n - 1.
    """
    mean, variance = statistics(cell)
    expected_mean, expected_variance = running_statistics(convention, BATCHES)
    bound = update_bound(convention, 10, cell.precision)
    expect.within(
        bound,
        observed=mean,
        expected=expected_mean,
        what="running mean",
        other_precision=OTHER_PRECISION,
    )
    expect.within(
        bound,
        observed=variance,
        expected=expected_variance,
        what="running variance",
        other_precision=OTHER_PRECISION,
    )


# ----------------------------------------------------------------------------------------------
# The common mistake: a loop that trains in inference mode. Nothing moves.


def without_training_in_numpy(cell):
    x = SAMPLES.astype(cell.dtype)
    mean, variance = np.zeros(1, cell.dtype), np.ones(1, cell.dtype)
    layers.batch_normalization_inference(x, 1, 0, mean, variance, 1e-5)
    return mean, variance


def with_training_in_numpy(cell):
    x = BATCHES[0].astype(cell.dtype)
    zero, one = np.zeros(1, cell.dtype), np.ones(1, cell.dtype)
    return layers.update_running_statistics(zero, one, x, momentum_of_new=0.1, unbiased=True)


def without_training_in_torch(cell):
    """The model was put into inference mode for validation, and never back."""
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    layer.eval()
    with torch.no_grad():
        cell.compile(layer)(torch.tensor(BATCHES[0], device=cell.device, dtype=cell.dtype))
    return layer.running_mean.clone(), layer.running_var.clone()


def with_training_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    layer.eval()
    layer.train()
    with torch.no_grad():
        cell.compile(layer)(torch.tensor(BATCHES[0], device=cell.device, dtype=cell.dtype))
    return layer.running_mean.clone(), layer.running_var.clone()


def fit_or_validate(cell, run):
    """A LightningModule with one BatchNorm layer, after `run(trainer, model, loader)`."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.BatchNorm1d(1)
            self.network = cell.compile(self.layer)

        def training_step(self, batch, batch_index):
            return self.network(batch).sum()

        def validation_step(self, batch, batch_index):
            self.network(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    model = Model()
    one_batch = torch.utils.data.DataLoader(
        torch.tensor(BATCHES[0], dtype=cell.dtype), batch_size=4
    )
    run(lightning.Trainer(max_epochs=1, **cell.trainer_options), model, one_batch)
    return model.layer.running_mean.clone(), model.layer.running_var.clone()


def without_training_in_lightning(cell):
    """The Trainer's validation loop puts the model into inference mode by itself."""
    return fit_or_validate(
        cell, lambda trainer, model, loader: trainer.validate(model, loader, verbose=False)
    )


def with_training_in_lightning(cell):
    return fit_or_validate(cell, lambda trainer, model, loader: trainer.fit(model, loader))


def without_training_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    layer.build((None, 1))

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x) ** 2)
        return tape.gradient(loss, layer.trainable_variables)

    train_step(tf.constant(BATCHES[0], cell.dtype))
    return tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)


def with_training_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    layer.build((None, 1))

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2)
        return tape.gradient(loss, layer.trainable_variables)

    train_step(tf.constant(BATCHES[0], cell.dtype))
    return tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)


def without_training_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    layer(keras.ops.convert_to_tensor(BATCHES[0], dtype=layer.compute_dtype))
    return layer.moving_mean, layer.moving_variance


def with_training_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    layer(keras.ops.convert_to_tensor(BATCHES[0], dtype=layer.compute_dtype), training=True)
    return layer.moving_mean, layer.moving_variance


def without_training_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        1, dtype=cell.compute_dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed)
    )
    layer.eval()
    cell.compile(lambda layer, x: layer(x), jit=nnx.jit)(layer, jnp.asarray(BATCHES[0], cell.dtype))
    return jnp.array(layer.mean), jnp.array(layer.var)


def with_training_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        1, dtype=cell.compute_dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed)
    )
    layer.train()
    cell.compile(lambda layer, x: layer(x), jit=nnx.jit)(layer, jnp.asarray(BATCHES[0], cell.dtype))
    return jnp.array(layer.mean), jnp.array(layer.var)


@behaviour(
    "normalization.batchnorm-training-flag",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "jax": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    catches="torch.batchnorm-keeps-biased-variance torch.batchnorm-weighs-compiled-batches-more "
    "torch.batchnorm-statistics-through-float32 keras.batchnorm-momentum-reversed "
    "flax.batchnorm-keeps-unbiased-variance[*-float32-eager]",
)
def test_batchnorm_training_flag(without_training, with_training, convention, cell, expect):
    """Statistics move in training only: in a TensorFlow custom loop, only with training=True.

    In inference mode a batch leaves the running mean at exactly 0 and the variance at exactly 1:
    the model looks trained, and then predicts with statistics of data it never saw. In training
    mode the batch [1, 2, 3, 4] moves them towards its mean 2.5 and its variance. Five roundings:
    the weight, a division by n - 1, the product, the other product, the sum.
    """
    mean, variance = without_training(cell)
    expect.exactly(
        observed=mean,
        expected=[0.0],
        what="running mean, not in training",
        other_precision=OTHER_PRECISION,
    )
    expect.exactly(
        observed=variance,
        expected=[1.0],
        what="running variance, not in training",
        other_precision=OTHER_PRECISION,
    )

    mean, variance = with_training(cell)
    expected_mean, expected_variance = running_statistics(convention, BATCHES[:1])
    bound = update_bound(convention, 5, cell.precision)
    expect.within(
        bound,
        observed=mean,
        expected=expected_mean,
        what="running mean, in training",
        other_precision=OTHER_PRECISION,
    )
    expect.within(
        bound,
        observed=variance,
        expected=expected_variance,
        what="running variance, in training",
        other_precision=OTHER_PRECISION,
    )


# ----------------------------------------------------------------------------------------------
# What the layer returns, in both modes: by the statistics of the batch, then by running ones that
# were set to mean 1 and variance 4.


def outputs_in_numpy(cell):
    x = BATCHES[0].astype(cell.dtype)
    one, four = np.ones(1, cell.dtype), np.full(1, 4, cell.dtype)
    epsilon = cell.dtype.type(layers.TORCH.epsilon)
    training, _, _ = layers.batch_normalization_training(x, one, 0 * one, epsilon)
    inference = layers.batch_normalization_inference(x, one, 0 * one, one, four, epsilon)
    return training, inference


def outputs_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    x = torch.tensor(BATCHES[0], device=cell.device, dtype=cell.dtype)
    with torch.no_grad():
        training = cell.compile(layer)(x)
        layer.running_mean.fill_(1.0)
        layer.running_var.fill_(4.0)
        layer.eval()
        inference = cell.compile(layer)(x)
    return training, inference


def outputs_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    layer.build((None, 1))
    x = tf.constant(BATCHES[0], cell.dtype)
    training = cell.compile(lambda x: layer(x, training=True))(x)
    layer.moving_mean.assign([1.0])
    layer.moving_variance.assign([4.0])
    inference = cell.compile(lambda x: layer(x, training=False))(x)
    return training, inference


def outputs_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    x = keras.ops.convert_to_tensor(BATCHES[0], dtype=layer.compute_dtype)
    training = layer(x, training=True)
    layer.moving_mean.assign([1.0])
    layer.moving_variance.assign([4.0])
    return training, layer(x, training=False)


def outputs_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        1, dtype=cell.compute_dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed)
    )
    # The mean begins at 0 and the variance at 1: make that 1 and 4.
    statistics = jax.tree.map(lambda initial: 3 * initial + 1, nnx.state(layer, nnx.BatchStat))
    x = jnp.asarray(BATCHES[0], cell.dtype)
    forward = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)
    layer.train()
    training = forward(layer, x)
    nnx.update(layer, statistics)
    layer.eval()
    return training, forward(layer, x)


@behaviour(
    "normalization.batchnorm-outputs",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "jax": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    catches="keras.batchnorm-keeps-unbiased-variance[!*bfloat16*] "
    "flax.normalization-through-float32 "
    "torch.batchnorm-in-eval-uses-the-batch[torch-*-float32-eager]",
)
def test_batchnorm_outputs(outputs, convention, cell, expect):
    """Training normalises by the biased statistics of the batch, inference by the running ones.

    [1, 2, 3, 4] becomes (x - 2.5) / sqrt(1.25 + epsilon) in training, and (x - 1) / sqrt(4 +
    epsilon) with a running mean of 1 and a running variance of 4, with the framework's epsilon.

    Eight roundings at most: epsilon, the sum, the root, the reciprocal, and two products and two
    sums of x * scale + shift. That form lets x * scale and mean * scale cancel: hence an absolute
    part of the size of both.
    """
    training, inference = outputs(cell)
    for what, observed, mean, variance in (
        ("output in training", training, 2.5, 1.25),
        ("output in inference", inference, 1.0, 4.0),
    ):
        scale = 1 / np.sqrt(variance + convention.epsilon)
        bound = rounded(8, cell.precision, terms=[SAMPLES[3, 0] * scale, mean * scale])
        expected = (BATCHES[0] - mean) * scale
        expect.within(bound, observed=observed, expected=expected, what=what)
