"""The mask of dropout: a new one for every batch, one for a whole channel if asked, none at rate 1.

A mask that stays the same is a smaller network, not dropout; and what keeps it fresh is state (a
seed that advances, a key that is split), the very thing that compiled code must be told about.

Neighbouring pixels carry the same information, so dropping them one by one hides little. Spatial
dropout drops a channel at all its positions (Tompson et al. 2015):

    torch          Dropout1d, Dropout2d, Dropout3d   (batch, channels, positions)
    Keras          SpatialDropout1D, or Dropout(noise_shape=(None, 1, channels))
    tf.nn.dropout  noise_shape=[batch, 1, channels]
    Flax NNX       Dropout(broadcast_dims=(1,))

Sources: class 116, topics (dropout), definitions (Dropout), learning outcome 2; class 173,
definition 7; Srivastava et al. 2014, Dropout, section 4; Tompson et al. 2015 (arXiv:1411.4280),
section 3.2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout2d.html,
https://keras.io/api/layers/regularization_layers/dropout/,
https://keras.io/api/layers/regularization_layers/spatial_dropout1d/,
https://www.tensorflow.org/api_docs/python/tf/nn/dropout,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/stochastic.html
"""

import numpy as np

from fixtures.matrix import behaviour
from reference.statistics import binomial_limits

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

# ----------------------------------------------------------------------------------------------
# Six batches of one sample: all 64 features of batch k are 2^-k, k = 1 ... 6. The loss is minus the
# sum of weight times dropped feature. With rate 1/2 what is kept is doubled, and the learning rate
# is 1/2: a step adds 2^-k to the weights of the features that batch k kept.

FEATURES = 64
BATCHES = np.array([[0.5**k] * FEATURES for k in range(1, 7)])


def weights_in_torch(cell):
    import torch

    model = torch.nn.Sequential(
        torch.nn.Dropout(0.5),
        torch.nn.Linear(FEATURES, 1, bias=False, device=cell.device, dtype=cell.dtype),
    )
    torch.nn.init.zeros_(model[1].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    forward = cell.compile(model)
    for batch in torch.tensor(BATCHES, device=cell.device, dtype=cell.dtype):
        optimizer.zero_grad()
        (-forward(batch)).backward()
        optimizer.step()
    return model[1].weight.detach()[0]


def weights_in_tensorflow(cell):
    """A custom loop with a layer of Keras."""
    import keras
    import tensorflow as tf

    dropout = keras.layers.Dropout(0.5, dtype=cell.dtype.name)
    weights = tf.Variable(tf.zeros((FEATURES,), cell.dtype))

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_sum(weights * dropout(x, training=True))
        weights.assign_sub(tf.cast(0.5, cell.dtype) * tape.gradient(loss, weights))

    for batch in BATCHES:
        train_step(tf.constant(batch, cell.dtype))
    return tf.identity(weights)


def weights_in_keras(cell):
    """Two calls of fit, of three batches each."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dropout(0.5, dtype=cell.dtype),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype),
        ]
    )
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(0.5),
        loss=lambda target, output: -keras.ops.mean(output),
    )
    for half in (BATCHES[:3], BATCHES[3:]):
        model.fit(half, np.zeros((3, 1)), batch_size=1, shuffle=False, verbose=0)
    return model.get_weights()[0].ravel()


def weights_in_jax(cell):
    """The layer keeps the stream of its keys, and nnx.jit carries it from call to call."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def train_step(dropout, weights, x):
        gradient = jax.grad(lambda weights, dropped: -(weights * dropped).sum())
        return weights - jnp.asarray(0.5, cell.dtype) * gradient(weights, dropout(x))

    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(cell.seed))
    step = cell.compile(train_step, jit=nnx.jit)
    weights = jnp.zeros((FEATURES,), cell.dtype)
    for batch in BATCHES:
        weights = step(dropout, weights, jnp.asarray(batch, cell.dtype))
    return weights


@behaviour(
    "regularization.dropout-fresh-mask-per-batch",
    frameworks="torch tensorflow keras jax",
    precisions={"keras": "float32 mixed_bfloat16", "others": "float64 float32 bfloat16 float16"},
    modes="eager compiled",
    needs=NEEDS,
    costly="torch-*-float64-compiled torch-*float16-compiled keras_torch-*-compiled "
    "jax-*float16-eager",
    catches="keras.seed-advances-in-eager-calls-only flax.dropout-repeats-its-mask[*-float32-*]",
)
def test_dropout_fresh_mask_per_batch(weights, cell, expect):
    """Six steps of one compiled training function draw six different masks.

    The weights spell the masks in binary, without rounding: bit k of weight i is 1 where batch k
    kept feature i. Two masks of 64 features agree by chance once in 2^64 times; some two of six
    with a probability of 15/2^64 = 8e-19.
    """
    spelled = cell.to_numpy(weights(cell)) * 64
    bits = spelled.astype(int)[None, :] >> np.arange(6)[::-1, None] & 1
    expect.exactly(
        observed=spelled.tolist(),
        expected=(2.0 ** np.arange(6)[::-1] @ bits).tolist(),
        what="weights times 64",
    )
    masks = {tuple(mask) for mask in bits.tolist()}
    expect.exactly(observed=len(masks), expected=6, what="number of different masks")


# ----------------------------------------------------------------------------------------------
# One mask for all nine positions of a channel. Each program returns what became of ones, with the
# axes (sample, channel, position): one output for each way to ask for it.

SAMPLES, CHANNELS, POSITIONS = 64, 16, 9


def shared_in_torch(cell):
    import torch

    x = torch.ones(SAMPLES, CHANNELS, POSITIONS, dtype=cell.dtype, device=cell.device)
    of_squares = torch.nn.Dropout2d(0.5)(x.reshape(SAMPLES, CHANNELS, 3, 3))
    return torch.nn.Dropout1d(0.5)(x), of_squares.reshape(x.shape)


def shared_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.ones((SAMPLES, POSITIONS, CHANNELS), cell.dtype)
    dropout = cell.compile(lambda x: tf.nn.dropout(x, 0.5, noise_shape=[SAMPLES, 1, CHANNELS]))
    return [tf.transpose(dropout(x), (0, 2, 1))]


def shared_in_keras(cell):
    import keras

    outputs = []
    for layer in (
        keras.layers.Dropout(0.5, noise_shape=(None, 1, CHANNELS), dtype=cell.dtype),
        keras.layers.SpatialDropout1D(0.5, dtype=cell.dtype),
    ):
        x = keras.ops.ones((SAMPLES, POSITIONS, CHANNELS), dtype=layer.compute_dtype)
        outputs.append(keras.ops.transpose(layer(x, training=True), (0, 2, 1)))
    return outputs


def shared_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(cell.seed))
    dropout = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)
    x = jnp.ones((SAMPLES, POSITIONS, CHANNELS), cell.dtype)
    return [jnp.transpose(dropout(layer, x), (0, 2, 1))]


@behaviour(
    "regularization.dropout-shared-mask",
    frameworks="torch tensorflow keras jax",
    precisions="float32 bfloat16",
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"jax": "flax>=0.10"},
    catches="torch.dropout2d-drops-pixels keras.dropout-forgets-noise-shape "
    "tensorflow.dropout-forgets-noise-shape flax.dropout-forgets-broadcast-dims",
)
def test_dropout_shared_mask(shared, cell, expect):
    """A channel is dropped at all nine positions or at none; each of each sample by its own draw.

    What is kept is doubled at rate 1/2. Of 1024 channels about half are kept, and of the 64 samples
    about half keep a given channel: the limits are exact quantiles and fail a correct library with
    a probability of 1e-9.
    """
    for number, output in enumerate(shared(cell), 1):
        kept = cell.to_numpy(output)[:, :, 0] != 0
        expect.exactly(
            observed=output,
            expected=np.repeat(2.0 * kept[:, :, None], POSITIONS, axis=2),
            what=f"output {number}",
        )
        for what, counts, draws in (
            ("channels", kept.sum(), kept.size),
            ("samples of a channel", kept.sum(axis=0), SAMPLES),
        ):
            least, most = binomial_limits(draws, 0.5, 1e-9 / 4 / counts.size)
            expect.at_least(observed=int(counts.min()), least=least, what=f"fewest {what}, kept")
            expect.at_most(observed=int(counts.max()), most=most, what=f"most {what}, kept")


# ----------------------------------------------------------------------------------------------
# Rate 1: 1 / (1 - rate) is no number. A layer of weight 2 in front shows the gradient: what a step
# with rate 1 makes of it.


def all_dropped_in_torch(cell):
    import torch

    weight = torch.full((3,), 2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    dropout = torch.nn.Dropout(1.0)
    output = dropout(weight * 3)
    output.sum().backward()
    dropout.eval()
    return output.detach(), weight.detach() - weight.grad, dropout(weight * 3).detach()


def all_dropped_in_keras(cell):
    """A bias behind the dropout gives the optimizer something to do on every backend."""
    import keras

    twos = keras.initializers.Constant(2)
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(3, use_bias=False, kernel_initializer=twos, dtype=cell.dtype),
            keras.layers.Dropout(1.0, dtype=cell.dtype),
            keras.layers.Dense(1, dtype=cell.dtype),
        ]
    )
    x = keras.ops.full((1, 1), 3.0, dtype=cell.dtype)
    layer, dropout, _ = model.layers
    output, inference = dropout(layer(x), training=True), dropout(layer(x))
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(1.0),
        loss=lambda target, output: keras.ops.mean(output),
    )
    model.fit(np.full((1, 1), 3.0), np.zeros((1, 1)), verbose=0)
    return output[0], model.get_weights()[0][0], inference[0]


def all_dropped_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    dropout = nnx.Dropout(1.0, rngs=nnx.Rngs(cell.seed))
    weight = jnp.full((3,), 2.0, cell.dtype)

    def step(dropout, weight):
        output = dropout(weight * 3)
        return output, weight - jax.grad(lambda weight: dropout(weight * 3).sum())(weight)

    output, stepped = cell.compile(step, jit=nnx.jit)(dropout, weight)
    in_inference = nnx.Dropout(1.0, deterministic=True)
    return output, stepped, in_inference(weight * 3)


@behaviour(
    "regularization.dropout-of-everything",
    frameworks="torch keras jax",
    precisions="float32",
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "flax>=0.10"},
    catches="flax.dropout-of-everything-keeps-all keras.dropout-of-everything-divides-by-zero "
    "torch.dropout-of-everything-is-no-number",
)
def test_dropout_of_everything(all_dropped, cell, expect):
    """With rate 1 the output is 0 and so is the gradient: zeros, not 0/0. Inference is untouched.

    The documentation allows rates from 0 to 1, both included (tf.nn.dropout: less than 1). The
    weights 2 stay 2 in a step, and in inference 2 times 3 is 6.
    """
    output, weight, inference = all_dropped(cell)
    expect.exactly(observed=output, expected=[0.0] * 3, what="output in training")
    expect.exactly(observed=weight, expected=[2.0] * 3, what="weights after a step")
    expect.exactly(observed=inference, expected=[6.0] * 3, what="output in inference")
