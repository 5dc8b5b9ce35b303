"""Freezing BatchNorm: the weights are one thing, the running statistics another.

A layer that was trained before has four arrays worth keeping: gamma and beta, which the optimizer
changes, and the running mean and variance, which every training batch changes.

                    gamma and beta           running statistics
    torch           requires_grad_(False)    layer.eval()
    Lightning       requires_grad_(False)    layer.eval(), which fit leaves as it is since 2.2
    Keras           layer.trainable = False: all four, even in a call with training=True
    Flax NNX        not differentiated       layer.eval(), after model.train()

The model is a frozen BatchNorm of two features and a Linear layer with one output; the loss is the
sum of the outputs, so SGD with learning rate 1/4 moves the bias of the Linear layer by -1 for four
rows. That is how one sees that a step was made.

Sources: class 112, common mistake 4 and definition of frozen;
https://keras.io/api/layers/normalization_layers/batch_normalization/,
https://keras.io/guides/transfer_learning/,
https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation,
https://lightning.ai/docs/pytorch/stable/common/trainer.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded, unit_roundoff
from reference import layers

convention_in_torch = layers.TORCH
convention_in_lightning = layers.TORCH
convention_in_jax = layers.FLAX

epsilon_in_torch = layers.TORCH.epsilon
epsilon_in_lightning = layers.TORCH.epsilon
epsilon_in_tensorflow = layers.KERAS.epsilon
epsilon_in_keras = layers.KERAS.epsilon
epsilon_in_jax = layers.FLAX.epsilon

NEEDS = {
    "lightning": "lightning>=2.2",
    "tensorflow": "keras>=3.0 keras-backend:tensorflow",
    "jax": "flax>=0.10",
}

# Mean (3, -1), biased variance (5, 8).
ROWS = np.array([[0.0, 3.0], [2.0, -5.0], [4.0, 1.0], [6.0, -3.0]])
RATE = 1 / 4


# ----------------------------------------------------------------------------------------------
# Frozen: one training step, and none of the four arrays has changed.


def torch_layers(cell, device=None):
    import torch

    norm = torch.nn.BatchNorm1d(2, device=device, dtype=cell.dtype)
    head = torch.nn.Linear(2, 1, device=device, dtype=cell.dtype)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    norm.requires_grad_(False)
    return norm, head


def arrays_of(norm):
    return [norm.weight, norm.bias, norm.running_mean.clone(), norm.running_var.clone()]


def torch_step(cell, norm, head):
    import torch

    forward = cell.compile(lambda x: head(norm(x)))
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE)
    forward(torch.tensor(ROWS, device=cell.device, dtype=cell.dtype)).sum().backward()
    optimizer.step()
    return head.bias, head.weight.ravel(), arrays_of(norm)


def frozen_in_torch(cell):
    norm, head = torch_layers(cell, cell.device)
    norm.train()
    head.train()
    norm.eval()
    return torch_step(cell, norm, head)


def fitted(cell, norm, head):
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.norm, self.head = norm, head

        def training_step(self, batch, batch_index):
            return self.head(self.norm(batch)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.head.parameters(), lr=RATE)

    loader = torch.utils.data.DataLoader(torch.tensor(ROWS, dtype=cell.dtype), batch_size=4)
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(Model(), loader)
    return head.bias, head.weight.ravel(), arrays_of(norm)


def frozen_in_lightning(cell):
    norm, head = torch_layers(cell)
    norm.eval()
    return fitted(cell, norm, head)


def frozen_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    norm = keras.layers.BatchNormalization(dtype=cell.dtype.name)
    head = keras.layers.Dense(1, kernel_initializer="zeros", dtype=cell.dtype.name)
    norm.build((None, 2))
    head.build((None, 2))
    norm.trainable = False
    weights = [*norm.trainable_variables, *head.trainable_variables]
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(weights)

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(head(norm(x, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    train_step(tf.constant(ROWS, cell.dtype))
    arrays = [norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
    kernel = tf.reshape(head.kernel, (2,))
    return tf.identity(head.bias), kernel, [tf.identity(array) for array in arrays]


def frozen_in_keras(cell):
    import keras

    norm = keras.layers.BatchNormalization(dtype=cell.dtype)
    head = keras.layers.Dense(1, kernel_initializer="zeros", dtype=cell.dtype)
    norm.trainable = False
    model = keras.Sequential([keras.Input((2,)), norm, head])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(RATE),
        loss=lambda target, outputs: keras.ops.sum(outputs),
    )
    model.fit(ROWS, ROWS[:, :1], batch_size=4, epochs=1, verbose=0)
    arrays = [norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
    return head.bias.numpy(), head.kernel.numpy().ravel(), [array.numpy() for array in arrays]


def flax_step(cell, norm, head):
    """One step of the head; the weights of `norm` are not differentiated."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def train_step(norm, head, x):
        gradient = nnx.grad(lambda head, norm: head(norm(x)).sum())(head, norm)
        weights = nnx.state(head, nnx.Param)
        nnx.update(head, jax.tree.map(lambda w, g: w - RATE * g, weights, gradient))

    cell.compile(train_step, jit=nnx.jit)(norm, head, jnp.asarray(ROWS, cell.dtype))
    arrays = [norm.scale, norm.bias, norm.mean, norm.var]
    return jnp.array(head.bias), jnp.ravel(head.kernel[...]), [jnp.array(a) for a in arrays]


def flax_layers(cell):
    import jax
    from flax import nnx

    rngs = nnx.Rngs(cell.seed)
    norm = nnx.BatchNorm(2, dtype=cell.dtype, param_dtype=cell.dtype, rngs=rngs)
    head = nnx.Linear(
        2,
        1,
        kernel_init=jax.nn.initializers.zeros,
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=rngs,
    )
    return norm, head


def frozen_in_jax(cell):
    norm, head = flax_layers(cell)
    norm.train()
    norm.eval()
    return flax_step(cell, norm, head)


@behaviour(
    "normalization.frozen-batchnorm",
    frameworks="torch lightning tensorflow keras jax",
    precisions="float32",
    modes={"lightning": "eager", "others": "eager compiled"},
    needs=NEEDS,
    costly="keras_torch-*-compiled",
    catches="torch.batchnorm-in-eval-uses-the-batch[*-eager] "
    "keras.frozen-batchnorm-moves-its-statistics flax.eval-does-not-reach-batchnorm",
)
def test_frozen_batchnorm(frozen, epsilon, cell, expect):
    """A frozen layer keeps gamma 1, beta 0, running mean 0 and running variance 1, bit for bit.

    And it uses them: its output is x / sqrt(1 + epsilon). The layer after it learns from that, its
    bias goes from 0 to -1, its weights from 0 to minus the mean (3, -1) of x / sqrt(1 + epsilon).
    (Normalised by the batch that mean would be 0.) Ten roundings: five in the output, and the three
    sums, the learning rate and the step.
    """
    bias, kernel, (gamma, beta, mean, variance) = frozen(cell)
    expect.exactly(observed=bias, expected=[-1.0], what="bias of the layer that learns")
    expect.within(
        rounded(10, cell.precision, terms=[6.0]),
        observed=kernel,
        expected=-ROWS.mean(axis=0) / np.sqrt(1 + epsilon),
        what="weights of the layer that learns",
    )
    expect.exactly(observed=gamma, expected=[1.0, 1.0], what="gamma")
    expect.exactly(observed=beta, expected=[0.0, 0.0], what="beta")
    expect.exactly(observed=mean, expected=[0.0, 0.0], what="running mean")
    expect.exactly(observed=variance, expected=[1.0, 1.0], what="running variance")


# ----------------------------------------------------------------------------------------------
# The common mistake: the weights are frozen, and the statistics go on.


def weights_only_in_torch(cell):
    norm, head = torch_layers(cell, cell.device)
    return torch_step(cell, norm, head)


def weights_only_in_lightning(cell):
    norm, head = torch_layers(cell)
    return fitted(cell, norm, head)


def weights_only_in_jax(cell):
    """The layer was frozen, and then model.train() thawed it."""
    norm, head = flax_layers(cell)
    norm.eval()
    norm.train()
    return flax_step(cell, norm, head)


@behaviour(
    "normalization.frozen-weights-moving-statistics",
    frameworks="torch lightning jax",
    precisions="float32",
    modes="eager",
    needs={name: NEEDS[name] for name in ("lightning", "jax")},
    catches="torch.batchnorm-keeps-biased-variance flax.batchnorm-keeps-unbiased-variance",
)
def test_frozen_weights_moving_statistics(weights_only, convention, cell, expect):
    """Without eval() gamma and beta stay, but the batch moves the running mean and variance.

    Towards mean (3, -1) and variance (5, 8) of the batch, by the framework's own weight. Ten
    roundings: two in the mean, four in the variance, the weight, two products and a sum. Flax
    subtracts the square of the mean from the mean of squares: relative to the variance that
    is 14/5 times the error.
    """
    bias, _, (gamma, beta, mean, variance) = weights_only(cell)
    expect.exactly(observed=bias, expected=[-1.0], what="bias of the layer that learns")
    expect.exactly(observed=gamma, expected=[1.0, 1.0], what="gamma")
    expect.exactly(observed=beta, expected=[0.0, 0.0], what="beta")

    expected_mean, expected_variance = layers.update_running_statistics(
        np.zeros(2), np.ones(2), ROWS, convention.weight_of_batch, convention.unbiased
    )
    weight = convention.weight_of_batch
    bound = Bound(
        relative=14 / 5 * accumulated(10, cell.precision)
        + (1 - weight) / weight * unit_roundoff("float64"),
        because="10 roundings, times 14/5 for a difference of squares, and that of momentum",
    )
    expect.within(bound, observed=mean, expected=expected_mean, what="running mean")
    expect.within(bound, observed=variance, expected=expected_variance, what="running variance")
