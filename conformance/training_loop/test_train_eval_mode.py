"""train and eval: one model, two behaviours.

Dropout and BatchNorm are the layers that behave differently in training and in inference, and every
framework has its own switch for both:

    torch        model.train(), model.eval(): a flag of every submodule, however deeply nested
    Lightning    the Trainer switches: training_step in training mode, validation_step in inference
                 mode, and back again in the next epoch
    Keras        training=True or False of the call (default: False); fit trains, predict does not
    Flax NNX     model.train(), model.eval(), as in torch

The model here is BatchNorm and then Dropout(3/4), each inside a Sequential of its own, and it sees
256 rows of which half are (1, -3) and half (3, 5): mean (2, 1), biased variance (1, 16).

Sources: class 122, definition of train/eval and common mistake 4; class 110, common mistake 3;
Keras fit vs PyTorch loop (004), model.train();
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train,
https://keras.io/api/layers/regularization_layers/dropout/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/module.html,
https://lightning.ai/docs/pytorch/stable/common/lightning_module.html
"""

import numpy as np
from scipy.stats import binom

from fixtures.matrix import behaviour
from fixtures.precision import Bound, rounded, unit_roundoff
from reference import layers

DROPPED = 0.75
ROWS = np.tile([[1.0, -3.0], [3.0, 5.0]], (128, 1))  # (256, 2)

# Among 512 outputs fewer or more kept ones than these are seen once in 10¹⁰ correct runs.
FEWEST_KEPT = binom.ppf(1e-10, ROWS.size, 1 - DROPPED)
MOST_KEPT = binom.isf(1e-10, ROWS.size, 1 - DROPPED)

convention_in_torch = layers.TORCH
convention_in_lightning = layers.TORCH
convention_in_tensorflow = layers.KERAS
convention_in_keras = layers.KERAS
convention_in_jax = layers.FLAX

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}


def running_statistics(convention, batches):
    """The reference: running mean and variance from 0 and 1 after that many batches."""
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(batches):
        mean, variance = layers.update_running_statistics(
            mean, variance, ROWS, convention.weight_of_batch, convention.unbiased
        )
    return mean, variance


def statistics_bound(convention, precision):
    """Five roundings an update, two updates, and that of momentum = 1 - weight in double."""
    weight = convention.weight_of_batch
    rounding_of_momentum = (1 - weight) / weight * unit_roundoff("float64")
    bound = rounded(10, precision)
    return Bound(
        relative=bound.relative + 2 * rounding_of_momentum,
        because=f"{bound.because}, and the rounding of momentum",
    )


def output_bound(mean, variance, convention, precision, updates=1):
    """Eight roundings in x * scale + shift, two in Dropout, five in an update of statistics.

    x * scale and mean * scale may cancel: hence an absolute part of the size of both.
    """
    largest = np.abs(ROWS).max(axis=0) + np.abs(mean)
    terms = (largest / np.sqrt(variance + convention.epsilon)).max()
    return rounded(10 + 5 * updates, precision, terms=terms)


# ----------------------------------------------------------------------------------------------
# Training mode, inference mode, and both again: each pass gives the output, and the running mean
# and variance after it.


def torch_model(cell, device=None):
    import torch

    return torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.BatchNorm1d(2, device=device, dtype=cell.dtype)),
        torch.nn.Sequential(torch.nn.Sequential(torch.nn.Dropout(DROPPED))),
    )


def passes_in_torch(cell):
    import torch

    model = torch_model(cell, cell.device)
    forward = cell.compile(model)
    x = torch.tensor(ROWS, dtype=cell.dtype, device=cell.device)
    passes = []
    for switch in 2 * (model.train, model.eval):
        switch()
        with torch.no_grad():
            output = forward(x)
        layer = model[0][0]
        passes.append((output, layer.running_mean.clone(), layer.running_var.clone()))
    return passes


def passes_in_lightning(cell):
    """Two epochs of a training and a validation batch: the program never switches the mode."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = torch_model(cell)
            self.network = cell.compile(self.model)
            self.passes = []

        def observed_output(self, batch):
            output = self.network(batch)
            layer = self.model[0][0]
            statistics = layer.running_mean.clone(), layer.running_var.clone()
            self.passes.append((output.detach(), *statistics))
            return output

        def training_step(self, batch, batch_index):
            return self.observed_output(batch).sum()

        def validation_step(self, batch, batch_index):
            self.observed_output(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    model = Model()
    loader = torch.utils.data.DataLoader(torch.tensor(ROWS, dtype=cell.dtype), batch_size=256)
    trainer = lightning.Trainer(max_epochs=2, num_sanity_val_steps=0, **cell.trainer_options)
    trainer.fit(model, loader, loader)
    return model.passes


def keras_model(dtype):
    import keras

    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.Sequential([keras.layers.BatchNormalization(dtype=dtype)]),
            keras.Sequential([keras.Sequential([keras.layers.Dropout(DROPPED, dtype=dtype)])]),
        ]
    )


def passes_in_tensorflow(cell):
    import tensorflow as tf

    model = keras_model(cell.dtype.name)
    layer = model.layers[0].layers[0]
    forward = cell.compile(lambda x, training: model(x, training=training))
    x = tf.constant(ROWS, cell.dtype)
    passes = []
    for training in (True, False, True, False):
        output = forward(x, training)
        statistics = tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)
        passes.append((output, *statistics))
    return passes


def passes_in_keras(cell):
    """`predict` is the inference of Keras; a call alone needs training=True to train."""
    import keras

    model = keras_model(cell.dtype)
    layer = model.layers[0].layers[0]
    cell.compile_model(model)
    x = keras.ops.convert_to_tensor(ROWS, dtype=cell.dtype)
    passes = []
    for forward in 2 * (
        lambda: model(x, training=True),
        lambda: model.predict(ROWS, batch_size=256, verbose=0),
    ):
        output = forward()
        passes.append((output, layer.moving_mean.numpy(), layer.moving_variance.numpy()))
    return passes


def flax_model(cell):
    from flax import nnx

    rngs = nnx.Rngs(cell.seed)
    return nnx.Sequential(
        nnx.Sequential(nnx.BatchNorm(2, dtype=cell.dtype, param_dtype=cell.dtype, rngs=rngs)),
        nnx.Sequential(nnx.Sequential(nnx.Dropout(DROPPED, rngs=rngs))),
    )


def passes_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    model = flax_model(cell)
    forward = cell.compile(lambda model, x: model(x), jit=nnx.jit)
    x = jnp.asarray(ROWS, cell.dtype)
    passes = []
    for switch in 2 * (model.train, model.eval):
        switch()
        output = forward(model, x)
        layer = model.layers[0].layers[0]
        passes.append((output, jnp.array(layer.mean), jnp.array(layer.var)))
    return passes


@behaviour(
    "training-loop.train-eval-mode",
    frameworks="torch lightning tensorflow keras jax",
    precisions={"torch": "float64 float32", "lightning": "float64 float32", "others": "float32"},
    modes={"keras": "eager", "others": "eager compiled"},
    needs=NEEDS,
    costly="torch-*-float64-compiled lightning-*-compiled",
    catches="torch.train-and-eval-reach-direct-children-only[*-eager] "
    "torch.eval-forgets-dropout[torch-*-eager] "
    "lightning.model-stays-in-eval-mode[*-eager] "
    "keras.nested-models-never-train[tensorflow-*|keras_tensorflow-*] "
    "flax.eval-forgets-dropout flax.train-does-not-undo-eval "
    "flax.jit-loses-what-the-module-became lightning.second-validation-in-training-mode",
)
def test_train_eval_mode(passes, convention, cell, expect):
    """Training drops outputs and moves statistics, inference does neither; and the same once more.

    In training BatchNorm normalises by the batch; Dropout(3/4) then makes 0 of some outputs and
    1 / (1 - 3/4) = 4 times the others: of 512 outputs 128 are kept on average, and in all but one
    of 10⁹ runs between 70 and 193. In inference the output is (x - running mean) / sqrt(running
    variance + epsilon), nothing is dropped, and the statistics are what they were, bit for bit.
    """
    first, inference, second, second_inference = passes(cell)

    mean, variance = ROWS.mean(axis=0), ROWS.var(axis=0)
    normal, _, _ = layers.batch_normalization_training(ROWS, 1.0, 0.0, convention.epsilon)
    scaled = normal / (1 - DROPPED)
    bound = output_bound(mean, variance, convention, cell.precision)
    bound = Bound(bound.relative, bound.absolute / (1 - DROPPED), bound.because)
    for batches, (output, _, _) in ((1, first), (2, second)):
        kept = cell.to_numpy(output) != 0
        what = f"training output {batches}"
        expect.at_least(observed=kept.sum(), least=FEWEST_KEPT, what=f"kept of {what}")
        fewest_dropped = ROWS.size - MOST_KEPT
        expect.at_least(observed=(~kept).sum(), least=fewest_dropped, what=f"dropped of {what}")
        expect.within(bound, observed=output, expected=scaled * kept, what=what)

    for batches, (_, mean, variance) in ((1, first), (2, second)):
        expected_mean, expected_variance = running_statistics(convention, batches)
        bound = statistics_bound(convention, cell.precision)
        what = f"after {batches} training batches"
        expect.within(bound, observed=mean, expected=expected_mean, what=f"mean {what}")
        expect.within(bound, observed=variance, expected=expected_variance, what=f"variance {what}")

    for batches, before, after in ((1, first, inference), (2, second, second_inference)):
        output, mean, variance = after
        expect.exactly(
            observed=[mean, variance],
            expected=[cell.to_numpy(before[1]), cell.to_numpy(before[2])],
            what=f"statistics after inference {batches}",
        )
        mean, variance = running_statistics(convention, batches)
        expect.within(
            output_bound(mean, variance, convention, cell.precision, updates=batches),
            observed=output,
            expected=layers.batch_normalization_inference(
                ROWS, 1.0, 0.0, mean, variance, convention.epsilon
            ),
            what=f"output in inference {batches}",
        )


# ----------------------------------------------------------------------------------------------
# The common mistake: predictions of a model that is still in training mode. Two predictions for
# the same rows, and the running mean afterwards.


def mistake_in_torch(cell):
    import torch

    model = torch_model(cell, cell.device)
    x = torch.tensor(ROWS, dtype=cell.dtype, device=cell.device)
    with torch.no_grad():
        predictions = [model(x), model(x)]
    return predictions, model[0][0].running_mean


def fix_in_torch(cell):
    import torch

    model = torch_model(cell, cell.device)
    x = torch.tensor(ROWS, dtype=cell.dtype, device=cell.device)
    model.eval()
    with torch.no_grad():
        predictions = [model(x), model(x)]
    return predictions, model[0][0].running_mean


def mistake_in_tensorflow(cell):
    """The training step's call, copied to the prediction."""
    import tensorflow as tf

    model = keras_model(cell.dtype.name)
    x = tf.constant(ROWS, cell.dtype)
    predictions = [model(x, training=True), model(x, training=True)]
    return predictions, model.layers[0].layers[0].moving_mean.value


def fix_in_tensorflow(cell):
    import tensorflow as tf

    model = keras_model(cell.dtype.name)
    x = tf.constant(ROWS, cell.dtype)
    predictions = [model(x), model(x, training=False)]
    return predictions, model.layers[0].layers[0].moving_mean.value


def mistake_in_jax(cell):
    import jax.numpy as jnp

    model = flax_model(cell)
    x = jnp.asarray(ROWS, cell.dtype)
    predictions = [model(x), model(x)]
    return predictions, jnp.array(model.layers[0].layers[0].mean)


def fix_in_jax(cell):
    import jax.numpy as jnp

    model = flax_model(cell)
    x = jnp.asarray(ROWS, cell.dtype)
    model.eval()
    predictions = [model(x), model(x)]
    return predictions, jnp.array(model.layers[0].layers[0].mean)


@behaviour(
    "training-loop.eval-missing",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="eager",
    needs=NEEDS,
    catches="torch.train-and-eval-reach-direct-children-only torch.eval-forgets-dropout "
    "keras.nested-models-never-train flax.eval-forgets-dropout",
)
def test_eval_missing(mistake, fix, convention, cell, expect):
    """Without eval() predictions have holes and change the model; with it they do neither.

    Still in training mode, each prediction lacks some of its 512 numbers (that none is missing
    happens once in 4⁵¹²), the two lack different ones, and both have moved the running mean. After
    eval(), running mean 0 and variance 1 give x / sqrt(1 + epsilon), twice.
    """
    predictions, mean = mistake(cell)
    expected_mean, _ = running_statistics(convention, 2)
    dropped = [cell.to_numpy(prediction) == 0 for prediction in predictions]
    expect.at_least(observed=dropped[0].sum(), least=1, what="dropped predictions")
    expect.at_least(observed=(dropped[0] != dropped[1]).sum(), least=1, what="differing drops")
    expect.within(
        statistics_bound(convention, cell.precision),
        observed=mean,
        expected=expected_mean,
        what="running mean after two predictions",
    )

    predictions, mean = fix(cell)
    expect.exactly(observed=mean, expected=[0.0, 0.0], what="running mean after eval")
    expect.within(
        output_bound(np.zeros(2), np.ones(2), convention, cell.precision),
        observed=predictions,
        expected=np.stack([ROWS / np.sqrt(1 + convention.epsilon)] * 2),
        what="predictions after eval",
    )
