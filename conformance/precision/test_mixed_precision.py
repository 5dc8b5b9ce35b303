"""Mixed precision: compute in 16 bits, remember in 32.

A weight near 1 has a spacing of 2^-8 in bfloat16 (below 1): an update of less than half of that is
rounded away, and training stands still without a word. Mixed precision therefore keeps *master
weights* and the optimizer's state in float32, casts the weights to the narrow format for each
forward pass, and gets the gradients back in float32.

                     how it is asked for                            who casts
    Keras            dtype="mixed_bfloat16" (a policy)              the layer
    torch            with torch.autocast("cpu", torch.bfloat16)     each listed operation
    Lightning        Trainer(precision="bf16-mixed")                torch.autocast
    Flax NNX         dtype=bfloat16, param_dtype=float32            the layer

Sources: class 113, common mistake 4 and question 4; class 118, question 3; class 171, learning
outcome 2, definitions 3 and 5; Micikevicius et al. 2018, Mixed Precision Training
(arXiv:1710.03740), section 3.1; https://keras.io/api/mixed_precision/,
https://docs.pytorch.org/docs/stable/amp.html,
https://lightning.ai/docs/pytorch/stable/common/precision_basic.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
"""

from fixtures.matrix import behaviour
from fixtures.precision.roundoff import compute_precision

# ----------------------------------------------------------------------------------------------
# What is kept in which format. One weight of 1 + 2^-12, which neither 16-bit format holds: both
# round it to 1. With an input of 1/16 output and gradient are 1/16 (no loss scaling overflows), and
# a step with learning rate 2^-9 ends at exactly 1 + 2^-13.

WEIGHT = 1 + 2.0**-12
INPUT = 2.0**-4


def one_step_in_torch(cell):
    import torch

    layer = torch.nn.Linear(1, 1, bias=False, device=cell.device)
    torch.nn.init.constant_(layer.weight, WEIGHT)
    optimizer = torch.optim.SGD(layer.parameters(), lr=2.0**-9, momentum=0.5)
    with cell.autocast():
        output = layer(torch.full((1, 1), INPUT, device=cell.device))
    before = layer.weight.clone()
    output.sum().backward()
    optimizer.step()
    return {
        "weight before": before,
        "output": output,
        "gradient": layer.weight.grad,
        "momentum": optimizer.state[layer.weight]["momentum_buffer"],
        "weight after": layer.weight,
    }


def one_step_in_lightning(cell):
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.constant_(self.layer.weight, WEIGHT)
            self.seen = {}

        def training_step(self, batch, batch_index):
            output = self.layer(batch)
            self.seen |= {"weight before": self.layer.weight.clone(), "output": output.detach()}
            return output.sum()

        def on_before_optimizer_step(self, optimizer):
            self.seen["gradient"] = self.layer.weight.grad.clone()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=2.0**-9, momentum=0.5)

        def on_train_end(self):
            state = self.optimizers().state[self.layer.weight]
            self.seen["momentum"] = state["momentum_buffer"].clone()

    model = Model()
    one = torch.utils.data.DataLoader(torch.full((1, 1), INPUT))
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, one)
    return {**model.seen, "weight after": model.layer.weight}


def one_step_in_keras(cell):
    """No gradient: Keras has no call that returns one."""
    import keras
    import numpy as np

    layer = keras.layers.Dense(
        1, use_bias=False, kernel_initializer=keras.initializers.Constant(WEIGHT), dtype=cell.dtype
    )
    model = keras.Sequential([keras.Input((1,)), layer])
    optimizer = keras.optimizers.SGD(2.0**-9, momentum=0.5)
    cell.compile_model(model, optimizer=optimizer, loss=lambda y, output: keras.ops.sum(output))
    x = np.full((1, 1), INPUT, "float32")
    before = keras.ops.copy(layer.kernel)
    output = model(x)
    model.fit(x, x, epochs=1, verbose=0)
    (velocity,) = (v for v in optimizer.variables if tuple(v.shape) == (1, 1))
    return {
        "weight before": before,
        "output": output,
        "momentum": -velocity * 2.0**9,  # Keras keeps the step: -learning rate x momentum
        "weight after": layer.kernel,
    }


def one_step_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    layer = nnx.Linear(
        1,
        1,
        use_bias=False,
        kernel_init=nnx.initializers.constant(WEIGHT),
        dtype=cell.compute_dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )
    x = jnp.full((1, 1), INPUT)
    weight = layer.kernel[...]
    (gradient,) = jax.tree.leaves(nnx.grad(lambda layer: layer(x).sum())(layer))
    optimizer = optax.sgd(2.0**-9, momentum=0.5)
    updates, state = optimizer.update(gradient, optimizer.init(weight), weight)
    (momentum,) = jax.tree.leaves(state)
    return {
        "weight before": weight,
        "output": layer(x),
        "gradient": gradient,
        "momentum": momentum,
        "weight after": optax.apply_updates(weight, updates),
    }


@behaviour(
    "precision.mixed-precision-policy",
    frameworks="torch lightning keras jax",
    precisions="mixed_bfloat16 mixed_float16",
    modes="eager",
    needs={"jax": "flax>=0.10 optax>=0.2"},
    catches="torch.autocast-does-nothing lightning.bfloat16-mixed-is-float16 "
    "keras.mixed-weights-in-sixteen-bits flax.linear-forgets-its-dtype",
)
def test_mixed_precision_policy(one_step, cell, expect):
    """Mixed precision computes in 16 bits; weights, gradients and momentum are float32.

    A weight of 1 + 2^-12 times 1/16 is 1/16 (the narrow cast rounds it to 1), and the weight stays
    1 + 2^-12 itself; the gradient of 1/16 and a learning rate of 2^-9 bring it to 1 + 2^-13.
    """
    expected = {
        "weight before": (WEIGHT, "float32"),
        "output": (INPUT, compute_precision(cell.precision)),
        "gradient": (INPUT, "float32"),
        "momentum": (INPUT, "float32"),
        "weight after": (1 + 2.0**-13, "float32"),
    }
    for what, observed in one_step(cell).items():
        number, precision = expected[what]
        expect.exactly(
            observed=cell.precision_of(observed), expected=precision, what=f"dtype of {what}"
        )
        expect.exactly(observed=observed, expected=number, what=what)


# ----------------------------------------------------------------------------------------------
# Why master weights: sixteen updates of 2^-10 to a weight of 1. The gradient is 2^-4 and the
# learning rate 2^-6, so that no loss scaling overflows.


def sixteen_updates_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.ones(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], learning_rate=2.0**-6)
    for _ in range(16):
        optimizer.zero_grad()
        (w * 2.0**-4).sum().backward()
        optimizer.step()
    return w


def sixteen_updates_in_torch(cell):
    import torch

    layer = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    torch.nn.init.ones_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=2.0**-6)
    x = torch.full((1, 1), 2.0**-4, dtype=cell.dtype, device=cell.device)
    for _ in range(16):
        optimizer.zero_grad()
        with cell.autocast():
            loss = layer(x).sum()
        loss.backward()
        optimizer.step()
    return layer.weight


def sixteen_updates_in_lightning(cell):
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.ones_(self.layer.weight)

        def training_step(self, batch, batch_index):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=2.0**-6)

    model = Model()
    samples = torch.full((16, 1), 2.0**-4, dtype=cell.dtype)
    one_by_one = torch.utils.data.DataLoader(samples, batch_size=1)
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, one_by_one)
    return model.layer.weight


def sixteen_updates_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable([1.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(2.0**-6)
    optimizer.build([w])

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(w * x)
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])

    for _ in range(16):
        train_step(tf.constant([2.0**-4], cell.dtype))
    return tf.identity(w)


def sixteen_updates_in_keras(cell):
    import keras
    import numpy as np

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype=cell.dtype)
    model = keras.Sequential([keras.Input((1,)), layer])
    optimizer = keras.optimizers.SGD(2.0**-6)
    cell.compile_model(model, optimizer=optimizer, loss=lambda y, output: keras.ops.sum(output))
    samples = np.full((16, 1), 2.0**-4)
    model.fit(samples, samples, batch_size=1, epochs=1, verbose=0)
    return layer.kernel


def sixteen_updates_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(2.0**-6)
    w = jnp.ones(1, cell.dtype)
    x = jnp.full(1, 2.0**-4, cell.compute_dtype)
    state = optimizer.init(w)

    @cell.compile
    def train_step(w, state):
        gradient = jax.grad(lambda w: (w.astype(x.dtype) * x).sum())(w)
        updates, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, updates), state

    for _ in range(16):
        w, state = train_step(w, state)
    return w


@behaviour(
    "precision.bfloat16-weight-update-lost",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 bfloat16 float16",
        "tensorflow": "float64 float32 bfloat16 float16",
        "others": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
    },
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.bfloat16-weights-keep-float32-masters "
    "keras.mixed-weights-in-sixteen-bits[*-mixed_bfloat16-*]",
)
def test_bfloat16_weight_update_lost(sixteen_updates, cell, expect):
    """Sixteen updates of 2^-10 take a weight from 1 to 1 - 2^-6, but in bfloat16 it stays at 1.

    Below 1 the spacing is 2^-8 in bfloat16 (an update of a quarter of it is lost) and 2^-11 in
    float16. With float32 master weights, in both mixed precisions, nothing is lost.
    """
    expected = 1.0 if cell.precision == "bfloat16" else 1 - 2.0**-6
    expect.exactly(observed=sixteen_updates(cell), expected=expected, what="weight")
