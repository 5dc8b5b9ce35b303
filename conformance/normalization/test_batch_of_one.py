"""BatchNorm and a batch of one sample: there is nothing to compare it with.

The variance of one number is 0, and the number equals its own mean, so whatever comes in, beta goes
out: all information is lost. torch refuses, the others do it. A last batch of one sample is enough:
drop it. One image is no such case, because its positions are averaged over as well.

Sources: class 110, common mistake 1;
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html,
https://keras.io/api/layers/normalization_layers/batch_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html,
https://docs.pytorch.org/docs/stable/data.html (drop_last)
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded, unit_roundoff
from reference import layers

convention_in_numpy = layers.KERAS
convention_in_torch = layers.TORCH
convention_in_lightning = layers.TORCH
convention_in_tensorflow = layers.KERAS
convention_in_keras = layers.KERAS
convention_in_jax = layers.FLAX

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

SAMPLE = np.array([[0.5, -0.25, 0.125]])
GAMMA = np.array([3.0, 2.0, 0.5])
BETA = np.array([2.0, -1.0, 0.25])


def momentum_rounding(convention):
    """Keras and Flax are given momentum = 0.99, whose rounding is 99 times larger in 1 - 0.99."""
    weight = convention.weight_of_batch
    return (1 - weight) / weight * unit_roundoff("float64")


# ----------------------------------------------------------------------------------------------
# Everybody but torch: the output is beta, and the running variance shrinks.


def normalised_in_numpy(cell):
    x, gamma, beta = (array.astype(cell.dtype) for array in (SAMPLE, GAMMA, BETA))
    epsilon = cell.dtype.type(layers.KERAS.epsilon)
    output, _, _ = layers.batch_normalization_training(x, gamma, beta, epsilon)
    zero, one = np.zeros(3, cell.dtype), np.ones(3, cell.dtype)
    return output, *layers.update_running_statistics(zero, one, x, 0.01, unbiased=False)


def normalised_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    layer.build((None, 3))
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    forward = cell.compile(lambda x: layer(x, training=True))
    output = forward(tf.constant(SAMPLE, cell.dtype))
    return output, tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)


def normalised_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    layer.build((None, 3))
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    output = layer(keras.ops.convert_to_tensor(SAMPLE, dtype=cell.dtype), training=True)
    return output, layer.moving_mean.numpy(), layer.moving_variance.numpy()


def normalised_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        3,
        scale_init=lambda key, shape, dtype: jnp.asarray(GAMMA, dtype),
        bias_init=lambda key, shape, dtype: jnp.asarray(BETA, dtype),
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )
    forward = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)
    output = forward(layer, jnp.asarray(SAMPLE, cell.dtype))
    return output, jnp.array(layer.mean), jnp.array(layer.var)


@behaviour(
    "normalization.batchnorm-batch-of-one",
    frameworks="numpy tensorflow keras jax",
    precisions={
        "numpy": "float64 float32",
        "tensorflow": "float64 float32",
        "others": "float32",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs=NEEDS,
    catches="keras.batchnorm-momentum-reversed flax.batchnorm-keeps-unbiased-variance",
)
def test_batchnorm_batch_of_one(normalised, convention, cell, expect):
    """In training a single sample comes out as beta, and its variance of 0 enters the statistics.

    Written as x * scale + (beta - mean * scale) the two products cancel, up to eight roundings of
    their size: the scale is gamma / sqrt(epsilon). The running mean moves to 0.01 x, the running
    variance to 0.99, in five roundings.
    """
    output, mean, variance = normalised(cell)
    product = np.abs(SAMPLE) * GAMMA / np.sqrt(convention.epsilon)
    bound = rounded(8, cell.precision, terms=[product.max(), product.max(), np.abs(BETA).max()])
    expect.within(bound, observed=output, expected=BETA[None, :], what="output")

    bound = Bound(
        relative=accumulated(5, cell.precision) + momentum_rounding(convention),
        because="5 roundings, and that of momentum",
    )
    keep = 1 - convention.weight_of_batch
    expect.within(bound, observed=mean, expected=(1 - keep) * SAMPLE[0], what="running mean")
    expect.within(bound, observed=variance, expected=np.full(3, keep), what="running variance")


# ----------------------------------------------------------------------------------------------
# torch: an error, after four batches of two and a last one of one sample.

NINE_SAMPLES = np.array([[1.0], [3.0], [2.0], [6.0], [0.0], [8.0], [5.0], [7.0], [9.0]])


def mistake_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    samples = torch.tensor(NINE_SAMPLES, device=cell.device, dtype=cell.dtype)
    for batch in torch.utils.data.DataLoader(samples, batch_size=2):
        layer(batch)


def fix_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    samples = torch.tensor(NINE_SAMPLES, device=cell.device, dtype=cell.dtype)
    for batch in torch.utils.data.DataLoader(samples, batch_size=2, drop_last=True):
        layer(batch)
    layer.eval()
    with torch.no_grad():
        return layer.running_mean.clone(), layer.running_var.clone(), layer(samples[8:])


def fitted(cell, **loader_options):
    """A LightningModule with one BatchNorm layer after an epoch of batches of two."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.BatchNorm1d(1)

        def training_step(self, batch, batch_index):
            return self.layer(batch).sum()

        def predict_step(self, batch, batch_index):
            return self.layer(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    model = Model()
    samples = torch.tensor(NINE_SAMPLES, dtype=cell.dtype)
    loader = torch.utils.data.DataLoader(samples, batch_size=2, **loader_options)
    trainer = lightning.Trainer(max_epochs=1, **cell.trainer_options)
    trainer.fit(model, loader)
    (prediction,) = trainer.predict(model, torch.utils.data.DataLoader(samples[8:]))
    return model.layer.running_mean.clone(), model.layer.running_var.clone(), prediction


def mistake_in_lightning(cell):
    fitted(cell)


def fix_in_lightning(cell):
    return fitted(cell, drop_last=True)


@behaviour(
    "normalization.batchnorm-batch-of-one-error",
    frameworks="torch lightning",
    precisions="float64 float32",
    modes="eager",
    catches="torch.batchnorm-takes-a-batch-of-one",
)
def test_batchnorm_batch_of_one_error(mistake, fix, convention, cell, expect):
    """torch raises ValueError at the last batch; drop_last=True cures it; eval() takes one sample.

    Five roundings in each of four updates of the running statistics; eight in the output, where
    x * scale and mean * scale may cancel.
    """
    with expect.raises(ValueError, match="Expected more than 1 value per channel"):
        mistake(cell)

    mean, variance, output = fix(cell)
    expected_mean, expected_variance = np.zeros(1), np.ones(1)
    for i in (0, 2, 4, 6):
        expected_mean, expected_variance = layers.update_running_statistics(
            expected_mean, expected_variance, NINE_SAMPLES[i : i + 2], 0.1, unbiased=True
        )
    bound = Bound(
        relative=accumulated(20, cell.precision) + 4 * momentum_rounding(convention),
        because="20 roundings, and those of momentum",
    )
    expect.within(bound, observed=mean, expected=expected_mean, what="running mean")
    expect.within(bound, observed=variance, expected=expected_variance, what="running variance")
    scale = 1 / np.sqrt(expected_variance + convention.epsilon)
    expect.within(
        rounded(28, cell.precision, terms=[9 * scale[0], (expected_mean * scale)[0]]),
        observed=output,
        expected=((9 - expected_mean) * scale)[None, :],
        what="output of one sample in inference",
    )


# ----------------------------------------------------------------------------------------------
# One image of 2 x 3 pixels and two channels: six values per channel are enough.

IMAGE = np.array(
    [[[1.0, 4.0], [2.0, 0.0], [6.0, 8.0]], [[3.0, 0.0], [5.0, 4.0], [7.0, 2.0]]]
)  # (height, width, channels)


def pixels_in_numpy(cell):
    x = IMAGE.reshape(6, 2).astype(cell.dtype)
    one, zero = np.ones(2, cell.dtype), np.zeros(2, cell.dtype)
    epsilon = cell.dtype.type(layers.KERAS.epsilon)
    output, _, _ = layers.batch_normalization_training(x, one, zero, epsilon)
    return output


def pixels_in_torch(cell):
    """Channels come before height and width."""
    import torch

    layer = torch.nn.BatchNorm2d(2, device=cell.device, dtype=cell.dtype)
    x = torch.tensor(IMAGE, device=cell.device, dtype=cell.dtype).permute(2, 0, 1)[None]
    with torch.no_grad():
        return layer(x)[0].permute(1, 2, 0).reshape(6, 2)


def pixels_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    output = layer(tf.constant(IMAGE[None], cell.dtype), training=True)
    return tf.reshape(output, (6, 2))


def pixels_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    output = layer(keras.ops.convert_to_tensor(IMAGE[None], dtype=cell.dtype), training=True)
    return keras.ops.reshape(output, (6, 2))


def pixels_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(2, dtype=cell.dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed))
    return layer(jnp.asarray(IMAGE[None], cell.dtype)).reshape(6, 2)


@behaviour(
    "normalization.batchnorm-one-image",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"keras": "float32", "others": "float64 float32"},
    modes="eager",
    needs=NEEDS,
    catches="keras.batchnorm-epsilon-beside-the-root flax.statistics-in-bfloat16",
)
def test_batchnorm_one_image(pixels, convention, cell, expect):
    """A batch of one image is normalised over its positions, channel by channel, in training too.

    Both channels have six values: means 4 and 3, biased variances 14/3 and 23/3. About six
    roundings in each of mean and variance, twice those relative to the variance where it is the
    mean of squares less the square of the mean, and eight in the output: 26, of the size of x
    and of the mean over the deviation.
    """
    x = IMAGE.reshape(6, 2)
    expected, mean, variance = layers.batch_normalization_training(x, 1.0, 0.0, convention.epsilon)
    largest = (np.abs(x).max(axis=0) + mean) / np.sqrt(variance + convention.epsilon)
    bound = rounded(26, cell.precision, terms=[largest.max()])
    expect.within(bound, observed=pixels(cell), expected=expected, what="normalised pixels")
