"""Dropout: in training a random share of the values is dropped, in inference nothing happens.

*Inverted* dropout with rate r multiplies what it keeps by 1 / (1 - r) already in training, so that
the expectation is the input and inference is the identity. With r = 1/4 a value becomes 0 with
probability 1/4 and 4/3 of itself with probability 3/4. The mask is fresh at every call, independent
from value to value, and the gradient passes through the same mask.

                   trains unless told otherwise
    torch          yes, until model.eval()
    Flax NNX       yes, until model.eval()
    Keras          no, unless called with training=True (fit does)
    tf.nn.dropout  always: it is an operation, and knows no inference

The limits on counts are exact binomial quantiles and fail a correct library, whatever its random
stream, with a probability of 1e-9 for each test.

Sources: class 116, definition of dropout, learning outcome 2, common mistake 1; class 122, common
mistake 4; Srivastava et al. 2014, Dropout, section 10, for the scaling;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html,
https://keras.io/api/layers/regularization_layers/dropout/,
https://www.tensorflow.org/api_docs/python/tf/nn/dropout,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/stochastic.html
"""

import functools

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded
from reference.statistics import binomial_limits

RATE = 0.25
ROWS, COLUMNS = 256, 300
FALSE_ALARM = 1e-9

# Inductor takes seconds over each, and draws its masks alike in every dtype.
COSTLY = "torch-*-float64-compiled torch-*float16-compiled"

# Small integers, all different from 0, which every format holds: a zero was dropped.
INPUT = (1.0 + np.arange(ROWS * COLUMNS) % 7).reshape(ROWS, COLUMNS)


def training_in_torch(cell):
    import torch

    dropout = cell.compile(torch.nn.Dropout(RATE))
    x = torch.tensor(INPUT, dtype=cell.dtype, device=cell.device, requires_grad=True)
    outputs = []
    for _ in range(2):
        x.grad = None
        output = dropout(x)
        output.sum().backward()
        outputs.append((output, x.grad))
    return outputs


def training_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def output_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = tf.nn.dropout(x, rate=RATE)
        return output, tape.gradient(output, x)

    x = tf.constant(INPUT, cell.dtype)
    return [output_and_gradient(x) for _ in range(2)]


def training_in_keras(cell):
    """Keras has no call that returns a gradient: None."""
    import keras

    dropout = keras.layers.Dropout(RATE, seed=cell.seed, dtype=cell.dtype)
    x = keras.ops.convert_to_tensor(INPUT, dtype=dropout.compute_dtype)
    return [(dropout(x, training=True), None) for _ in range(2)]


def training_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    def forward(dropout, x):
        output = dropout(x)
        return output.sum(), output

    @functools.partial(cell.compile, jit=nnx.jit)
    def output_and_gradient(dropout, x):
        (_, output), gradient = nnx.value_and_grad(forward, argnums=1, has_aux=True)(dropout, x)
        return output, gradient

    dropout = nnx.Dropout(RATE, rngs=nnx.Rngs(cell.seed))
    x = jnp.asarray(INPUT, cell.dtype)
    return [output_and_gradient(dropout, x) for _ in range(2)]


def expect_share(expect, kept, probability, false_alarm, what):
    """Each count of kept values (summed over axis 0) within exact binomial limits."""
    counts = kept.sum(axis=0).reshape(-1)
    least, most = binomial_limits(len(kept), probability, false_alarm / counts.size)
    expect.at_least(observed=int(counts.min()), least=least, what=f"fewest {what}")
    expect.at_most(observed=int(counts.max()), most=most, what=f"most {what}")


@behaviour(
    "regularization.dropout-inverted-scaling",
    frameworks="torch tensorflow keras jax",
    precisions={
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"jax": "flax>=0.10"},
    costly=COSTLY,
    catches="torch.dropout-scale-off-by-a-thousandth[*-eager] "
    "tensorflow.dropout-drops-neighbours-together "
    "keras.dropout-without-scale[keras_jax-*] flax.dropout-repeats-its-mask[*-float32-*] "
    "tensorflow.dropout-repeats-its-mask-if-compiled",
)
def test_dropout_inverted_scaling(training, cell, expect):
    """Dropout with rate 1/4 keeps values with probability 3/4 and multiplies them by 1 / (1 - 1/4).

    Kept values are 4/3 of the input, up to four roundings: of 4/3, of the product, of a product
    with the mask, and of the expected value in float64. Of 76,800 values 57,600 are kept, give or
    take 1.3 %; in every row, in every column and in disjoint pairs of neighbours the counts are
    those of independent draws, and so is the number kept in both of two calls. The gradient is 4/3
    where a value was kept, 0 where it was dropped.
    """
    calls = training(cell)
    bound = rounded(4, cell.precision)
    share = FALSE_ALARM / 11
    masks = []
    for number, (output, gradient) in enumerate(calls, 1):
        kept = cell.to_numpy(output) != 0
        masks.append(kept)
        expect.within(
            bound, observed=output, expected=kept * INPUT / (1 - RATE), what=f"output {number}"
        )
        if gradient is not None:
            expect.within(
                bound, observed=gradient, expected=kept / (1 - RATE), what=f"gradient {number}"
            )
        keep = 1 - RATE
        expect_share(expect, kept.reshape(-1), keep, share, "kept in all")
        expect_share(expect, kept, keep, share, "kept in a column")
        expect_share(expect, kept.T, keep, share, "kept in a row")
        beside = kept[:, ::2] & kept[:, 1::2]
        above = kept[: ROWS // 2] & kept[ROWS // 2 :]
        expect_share(expect, beside.reshape(-1), keep**2, share, "pairs kept, side by side")
        expect_share(expect, above.reshape(-1), keep**2, share, "pairs kept, half a batch apart")
    both = masks[0] & masks[1]
    expect_share(expect, both.reshape(-1), keep**2, share, "kept in both calls")


# ----------------------------------------------------------------------------------------------
# The common mistake: predicting in training mode.


def mistake_in_torch(cell):
    """A module trains until it is told otherwise."""
    import torch

    model = torch.nn.Dropout(RATE)
    predict = cell.compile(model)
    x = torch.tensor(INPUT, dtype=cell.dtype, device=cell.device)
    with torch.no_grad():
        return predict(x), predict(x)


def fix_in_torch(cell):
    import torch

    model = torch.nn.Dropout(RATE)
    model.eval()
    predict = cell.compile(model)
    x = torch.tensor(INPUT, dtype=cell.dtype, device=cell.device)
    with torch.no_grad():
        return predict(x), predict(x)


def mistake_in_lightning(cell):
    """The model is called by hand, and nobody has switched it to inference."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(RATE)

        def forward(self, x):
            return self.dropout(x)

    model = Model()
    x = torch.tensor(INPUT, dtype=cell.dtype)
    return model(x), model(x)


def fix_in_lightning(cell):
    """Trainer.predict switches to inference itself."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(RATE)

        def forward(self, x):
            return self.dropout(x)

    x = torch.tensor(INPUT, dtype=cell.dtype)
    twice = torch.utils.data.DataLoader([x, x], batch_size=None)
    return lightning.Trainer(**cell.trainer_options).predict(Model(), twice)


def mistake_in_tensorflow(cell):
    """tf.nn.dropout has no inference mode: calling it is the mistake."""
    import tensorflow as tf

    predict = cell.compile(lambda x: tf.nn.dropout(x, rate=RATE))
    x = tf.constant(INPUT, cell.dtype)
    return predict(x), predict(x)


def fix_in_tensorflow(cell):
    """A layer knows both modes."""
    import keras
    import tensorflow as tf

    layer = keras.layers.Dropout(RATE, dtype=cell.dtype.name)
    predict = cell.compile(lambda x: layer(x, training=False))
    x = tf.constant(INPUT, cell.dtype)
    return predict(x), predict(x)


def mistake_in_keras(cell):
    import keras

    model = keras.Sequential(
        [keras.Input((COLUMNS,)), keras.layers.Dropout(RATE, dtype=cell.dtype)]
    )
    x = keras.ops.convert_to_tensor(INPUT, dtype=model.layers[-1].compute_dtype)
    return model(x, training=True), model(x, training=True)


def fix_in_keras(cell):
    """Without the argument a call is inference, and so is `predict`."""
    import keras

    model = keras.Sequential(
        [keras.Input((COLUMNS,)), keras.layers.Dropout(RATE, dtype=cell.dtype)]
    )
    x = keras.ops.convert_to_tensor(INPUT, dtype=model.layers[-1].compute_dtype)
    return model(x), model(x, training=False)


def mistake_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    dropout = nnx.Dropout(RATE, rngs=nnx.Rngs(cell.seed))
    predict = cell.compile(lambda dropout, x: dropout(x), jit=nnx.jit)
    x = jnp.asarray(INPUT, cell.dtype)
    return predict(dropout, x), predict(dropout, x)


def fix_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    dropout = nnx.Dropout(RATE, rngs=nnx.Rngs(cell.seed))
    dropout.eval()
    predict = cell.compile(lambda dropout, x: dropout(x), jit=nnx.jit)
    x = jnp.asarray(INPUT, cell.dtype)
    return predict(dropout, x), predict(dropout, x)


@behaviour(
    "regularization.dropout-inference-mistake",
    frameworks="torch lightning tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"lightning": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    costly=COSTLY,
    catches="torch.dropout-in-eval[*-eager] "
    "flax.dropout-repeats-its-mask[*-float32-*|*-bfloat16-compiled] "
    "tensorflow.dropout-repeats-its-mask-if-compiled[*-float32-*]",
)
def test_dropout_inference_mistake(mistake, fix, cell, expect):
    """Predicting with dropout still in training mode gives another answer at each call.

    Two calls keep a value in one but not the other with probability 2 * 3/4 * 1/4 = 3/8, of 76,800
    about 28,800. In inference both answers are the input, bit for bit.
    """
    first, second = (cell.to_numpy(answer) != 0 for answer in mistake(cell))
    least, _ = binomial_limits(INPUT.size, 2 * RATE * (1 - RATE), FALSE_ALARM)
    differences = int(np.sum(first != second))
    expect.at_least(observed=differences, least=least, what="values kept in one call only")
    for number, answer in enumerate(fix(cell), 1):
        expect.exactly(observed=answer, expected=INPUT, what=f"answer {number} in inference")
