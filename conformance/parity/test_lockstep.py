"""Lockstep parity: equal weights and equal batches give equal losses, whatever the framework.

An MLP of [64, 32] ReLU units learns Fashion-MNIST by SGD with momentum, and every framework is
handed the same initial weights and the same fifty batches of sixteen images, in the same order.
Nothing random is left, so the fifty losses are one sequence of numbers: the reference computes it
in float64 NumPy, and each framework must print it, up to the rounding of its precision. Learning
rate and momentum are powers of two and their sums, which no format rounds.

A missing 1/n in a loss, a gradient off by a thousandth, momentum applied in another order, float64
work that passes through float32: each makes the sequence stray, and each was seen to (see the
margins in a record).

Sources: class 121, objective and acceptance criteria; class 122, objective (equivalences 1:1);
catalogue: training-loop.fit-equals-torch-loop, training-loop.lightning-equals-manual-loop;
Parker 1997, Monte Carlo Arithmetic, for the bound (reference/lockstep.py).
"""

import functools

import numpy as np
import pytest

from fixtures.matrix import behaviour
from fixtures.precision import Bound, round_to, unit_roundoff
from reference.lockstep import Lockstep, lockstep

# The largest of a few simulated deviations underestimates what a longer search would find, and a
# library may round more often than the reference. Largest margins on a CPU with torch 2.13,
# tensorflow 2.21, keras 3.15 and jax 0.10: 0.18 in float64, 0.12 in float32, 0.45 in 16 bits.
SAFETY = 3

# JAX without jit compiles a hundred little programs for each precision: the 16-bit ones wait for
# depth full. torch.compile takes a minute over Keras's train step, and autograd.cube-gradient and
# parity.homework-accuracy already compile it at standard depth.
COSTLY = "jax-*float16-eager keras_jax-*float16-eager keras_torch-*-compiled"


@pytest.fixture(scope="module")
def run_in_precision(images):
    """Precision -> (the run, the losses of the reference, their spread), each computed once."""

    @functools.cache
    def prepare(precision: str) -> tuple[Lockstep, np.ndarray, np.ndarray]:
        to_nearest = functools.partial(round_to, precision=precision)
        run = lockstep(
            images.train_images,
            images.train_labels,
            steps=50,
            batch_size=16,
            hidden=(64, 32),
            learning_rate=1 / 256,
            momentum=7 / 8,
            seed=2,
            rounding=to_nearest,
        )
        updates_are_lost = precision in ("bfloat16", "float16")
        spread = run.spread(unit_roundoff(precision), to_nearest if updates_are_lost else None)
        return run, run.losses(), spread

    return prepare


def losses_in_numpy(cell, run):
    from reference.training import train_mlp

    losses, _ = train_mlp(
        run.images.astype(cell.dtype),
        run.labels,
        [(weight.astype(cell.dtype), bias.astype(cell.dtype)) for weight, bias in run.parameters],
        learning_rate=run.learning_rate,
        momentum=run.momentum,
        batches=run.batches,
    )
    return losses


def torch_mlp(cell, run):
    """torch keeps a weight as (outputs, inputs), the transpose of everybody else's."""
    import torch

    network = torch.nn.Sequential()
    for weight, bias in run.parameters:
        dense = torch.nn.Linear(*weight.shape, device=cell.device, dtype=cell.dtype)
        with torch.no_grad():
            dense.weight.copy_(torch.tensor(weight.T))
            dense.bias.copy_(torch.tensor(bias))
        network.extend([dense, torch.nn.ReLU()])
    return network[:-1]


def losses_in_torch(cell, run):
    import torch

    network = torch_mlp(cell, run)
    forward = cell.compile(network)
    cross_entropy = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=run.learning_rate, momentum=run.momentum)
    scaler = torch.amp.GradScaler(cell.device.type, enabled=cell.precision == "mixed_float16")
    losses = []
    for batch in run.batches:
        x = torch.tensor(run.images[batch], dtype=cell.dtype, device=cell.device)
        y = torch.tensor(run.labels[batch], device=cell.device)
        optimizer.zero_grad()
        with cell.autocast():
            loss = cross_entropy(forward(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses


def losses_in_lightning(cell, run):
    import lightning
    import torch

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = torch_mlp(cell, run)
            self.compiled = cell.compile(self.network)
            self.cross_entropy = torch.nn.CrossEntropyLoss()
            self.losses = []

        def training_step(self, batch, batch_index):
            x, y = batch
            loss = self.cross_entropy(self.compiled(x), y)
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=run.learning_rate, momentum=run.momentum)

    samples = torch.utils.data.TensorDataset(
        torch.tensor(run.images, dtype=cell.dtype), torch.tensor(run.labels)
    )
    loader = torch.utils.data.DataLoader(samples, batch_size=run.batch_size, shuffle=False)
    model = Classifier()
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader)
    return model.losses


def losses_in_tensorflow(cell, run):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(array, dtype=cell.dtype) for pair in run.parameters for array in pair]
    optimizer = keras.optimizers.SGD(run.learning_rate, momentum=run.momentum)
    optimizer.build(variables)

    def network(x):
        *hidden, weight, bias = variables
        for hidden_weight, hidden_bias in zip(hidden[::2], hidden[1::2], strict=True):
            x = tf.nn.relu(x @ hidden_weight + hidden_bias)
        return x @ weight + bias

    @cell.compile
    def train_step(x, y):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=network(x))
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return [
        train_step(tf.constant(run.images[batch], cell.dtype), tf.constant(run.labels[batch]))
        for batch in run.batches
    ]


def losses_in_keras(cell, run):
    """One epoch of one step per batch: `fit` then reports each batch's own loss."""
    import keras

    *hidden, (_, last_bias) = run.parameters
    model = keras.Sequential(
        [
            keras.Input((run.images.shape[1],)),
            *(keras.layers.Dense(len(b), activation="relu", dtype=cell.dtype) for _, b in hidden),
            keras.layers.Dense(len(last_bias), dtype=cell.dtype),
        ]
    )
    model.set_weights([array for pair in run.parameters for array in pair])
    # The loss that `fit` reports is a float32 mean; a metric can be told its own dtype.
    wide = "float64" if cell.precision == "float64" else "float32"
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(run.learning_rate, momentum=run.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=wide),
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, dtype=wide, name="each")
        ],
    )
    history = model.fit(
        run.images,
        run.labels,
        batch_size=run.batch_size,
        steps_per_epoch=1,
        epochs=len(run.batches),
        shuffle=False,
        verbose=0,
    )
    return history.history["each"]


def losses_in_jax(cell, run):
    import jax
    import jax.numpy as jnp
    import optax

    parameters = jax.tree.map(lambda array: jnp.asarray(array, cell.dtype), run.parameters)
    optimizer = optax.sgd(run.learning_rate, momentum=run.momentum)
    state = optimizer.init(parameters)

    def mean_loss(parameters, x, y):
        *hidden, (weight, bias) = jax.tree.map(
            lambda array: array.astype(cell.compute_dtype), parameters
        )
        for hidden_weight, hidden_bias in hidden:
            x = jax.nn.relu(x @ hidden_weight + hidden_bias)
        losses = optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, y)
        return losses.mean()

    @cell.compile
    def train_step(parameters, state, x, y):
        loss, gradients = jax.value_and_grad(mean_loss)(parameters, x, y)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    losses = []
    for batch in run.batches:
        x = jnp.asarray(run.images[batch], cell.compute_dtype)
        y = jnp.asarray(run.labels[batch])
        parameters, state, loss = train_step(parameters, state, x, y)
        losses.append(loss)
    return losses


@behaviour(
    "parity.lockstep-losses",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={
        "numpy": "float64 float32",
        "tensorflow": "float64 float32 tf32 bfloat16 float16",
        "others": "float64 float32 tf32 bfloat16 float16 mixed_bfloat16 mixed_float16",
    },
    modes="eager compiled",
    depth="standard",
    needs={
        "tensorflow": "keras>=3.0 keras-backend:tensorflow",
        "keras": "keras>=3.4",  # a dtype for losses
        "jax": "optax>=0.2",
    },
    costly=COSTLY,
    catches="torch.linear-in-bfloat16 torch.momentum-is-an-average[torch-*-float32-eager] "
    "torch.momentum-dampened-by-a-thousandth[torch-*-eager] "
    "optax.momentum-in-bfloat16[*-compiled]",
)
def test_lockstep_losses(losses, run_in_precision, cell, expect):
    """With equal weights and batches the first 50 losses equal the float64 reference's.

    SGD, learning rate 1/256, momentum 7/8, batches of 16 in order, mean cross-entropy of logits.
    Each loss may differ by three times the largest deviation so far that rounding errors of the
    cell's precision caused in simulated runs of the reference (Monte Carlo arithmetic). For a loss
    that falls from 2.2 to 1.6 that is about 7e-15 in float64, 3e-6 in float32, 0.04 in float16 and
    0.3 in bfloat16.
    """
    run, expected, spread = run_in_precision(cell.precision)
    bound = Bound(
        absolute=SAFETY * spread,
        relative=4 * unit_roundoff(cell.precision),
        because=f"{SAFETY} x the spread of simulated {cell.precision} rounding",
    )
    expect.within(
        bound,
        observed=losses(cell, run),
        expected=expected,
        what="losses",
        other_precision="losses are reported as Python numbers or in float32",
    )
