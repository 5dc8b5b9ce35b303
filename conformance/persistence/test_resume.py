"""Saving and resuming: six steps in a row, or three, a file, new objects, and three more.

Whoever resumes training continues it only if everything the next step depends on was saved: the
weights, the moments and the step counter of Adam, and the place in the learning-rate schedule. Then
the same arithmetic runs on the same numbers, and every weight is equal, bit for bit.

The common mistake is to save the weights alone. Adam then starts over, and its first step is always
as large as the initial learning rate, whatever the gradient: with no epsilon it is

    lr * m / (1 - beta1) / sqrt(v / (1 - beta2)) = lr * g / sqrt(g**2) = lr * sign(g)

Here lr = 0.5 falls by a quarter with every step, so the fourth step should have the rate 0.21.
Every weight moves by 0.5 instead.

                  what holds all of it                              what holds the weights alone
    torch         state_dict() of model, optimizer and scheduler    state_dict() of the model
    Lightning     fit(ckpt_path=...)                                load_from_checkpoint
    TensorFlow    tf.train.Checkpoint(model, optimizer)             tf.train.Checkpoint(model)
    Keras         model.save("m.keras"), load_model                 save_weights("m.weights.h5")
    JAX           the pytrees of parameters and optimizer state     that of the parameters

Sources: class 104, objective, learning outcomes 4 and 5 and exercise 5; class 121, exercise 3;
https://keras.io/guides/serialization_and_saving/,
https://docs.pytorch.org/tutorials/recipes/recipes/saving_and_loading_a_general_checkpoint.html,
https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html,
https://www.tensorflow.org/guide/checkpoint,
https://flax.readthedocs.io/en/latest/api_reference/flax.serialization.html
"""

import tempfile

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, unit_roundoff

# Two epochs of three batches: two samples, two, and one.
X = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [2.0, -1.0, 1.0], [1.0, 0.0, 3.0], [-1.0, 1.0, 2]])
Y = np.array([[3.0], [-2.0], [4.0], [1.0], [-5.0]])
BATCHES = [(X[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4)]

KERNEL = np.array([[0.5], [-1.0], [0.25]])
BIAS = np.array([0.75])

# Every one is exact in every format, and none is a default.
LEARNING_RATE, DECAY = 0.5, 0.75
BETA1, BETA2, EPSILON = 0.75, 0.875, 0.0

PRECISIONS = "float64 float32 bfloat16"

# torch.compile takes tens of seconds over Keras's train step, and JAX without jit compiles every
# operation of Adam for itself: what other cells already say waits for depth full.
COSTLY = (
    "keras_torch-*-compiled keras_*-float64-compiled keras_*-bfloat16-compiled "
    "jax-*-float64-eager jax-*-bfloat16-eager keras_jax-*-bfloat16-eager"
)


def expect_continuation(expect, cell, resumed, straight):
    """Weights, moments, number of steps and learning rate of both runs are the same."""
    for what, observed, expected in zip(("weights", "moments"), resumed, straight, strict=False):
        expect.exactly(observed=observed, expected=cell.to_numpy(expected), what=f"resumed {what}")
    expect.exactly(observed=resumed[2:], expected=straight[2:], what="resumed (steps, rate)")
    expect.exactly(observed=straight[2], expected=6, what="steps without interruption")


def expect_restart(expect, cell, mistake):
    """Every weight moves by the initial learning rate.

    On the path of the step lie the square, its mean, its bias correction, the root (four), the
    correction of the mean, a division and a product; then the weight itself is rounded once.
    """
    before, after = (cell.to_numpy(weights) for weights in mistake)
    bound = Bound(
        relative=accumulated(10, cell.precision),
        absolute=unit_roundoff(cell.precision) * np.abs(after).max(),
        because="10 roundings of the step and one of the weight",
    )
    expect.within(
        bound,
        observed=np.abs(after - before),
        expected=np.full(4, LEARNING_RATE),
        what="size of the step after weights alone were restored",
        other_precision="a difference of two weights, taken in float64",
    )


# ----------------------------------------------------------------------------------------------
# NumPy: what there is to save.


class NumpyTraining:
    """A linear model, Adam and an exponential schedule."""

    def __init__(self, cell):
        from reference.autodiff import Tensor
        from reference.optimizers import Adam

        self.kernel = Tensor(KERNEL.astype(cell.dtype), requires_grad=True)
        self.bias = Tensor(BIAS.astype(cell.dtype), requires_grad=True)
        self.optimizer = Adam([self.kernel, self.bias], LEARNING_RATE, BETA1, BETA2, EPSILON)

    def step(self, x, y):
        adam = self.optimizer
        adam.zero_grad()
        dtype = self.kernel.dtype
        ((x.astype(dtype) @ self.kernel + self.bias - y.astype(dtype)) ** 2).mean().backward()
        adam.learning_rate = LEARNING_RATE * DECAY**adam.steps
        adam.step()

    def weights(self):
        return np.concatenate([self.kernel.data.ravel(), self.bias.data])

    def save(self, file):
        adam = self.optimizer
        np.savez(
            file,
            kernel=self.kernel.data,
            bias=self.bias.data,
            **{f"mean{i}": mean for i, mean in enumerate(adam.means)},
            **{f"square{i}": square for i, square in enumerate(adam.squares)},
            steps=adam.steps,
        )

    def load(self, file):
        adam = self.optimizer
        with np.load(file) as saved:
            self.kernel.data, self.bias.data = saved["kernel"], saved["bias"]
            adam.means = [saved["mean0"], saved["mean1"]]
            adam.squares = [saved["square0"], saved["square1"]]
            adam.steps = int(saved["steps"])

    def result(self):
        adam = self.optimizer
        moments = np.concatenate([array.ravel() for array in (*adam.means, *adam.squares)])
        return self.weights(), moments, adam.steps, LEARNING_RATE * DECAY**adam.steps


def straight_in_numpy(cell, folder):
    training = NumpyTraining(cell)
    for x, y in BATCHES * 2:
        training.step(x, y)
    return training.result()


def resumed_in_numpy(cell, folder):
    first = NumpyTraining(cell)
    for x, y in BATCHES:
        first.step(x, y)
    first.save(folder / "all.npz")

    second = NumpyTraining(cell)
    second.load(folder / "all.npz")
    for x, y in BATCHES:
        second.step(x, y)
    return second.result()


def mistake_in_numpy(cell, folder):
    first = NumpyTraining(cell)
    for x, y in BATCHES:
        first.step(x, y)

    second = NumpyTraining(cell)
    second.kernel.data, second.bias.data = first.kernel.data, first.bias.data
    before = second.weights()
    second.step(*BATCHES[0])
    return before, second.weights()


# ----------------------------------------------------------------------------------------------
# TensorFlow: tf.train.Checkpoint.


def training_in_tensorflow(cell):
    """(layer, optimizer, step) of a custom loop."""
    import keras
    import tensorflow as tf

    layer = keras.layers.Dense(1, dtype=cell.dtype.name)
    layer.build((None, 3))
    layer.set_weights([KERNEL, BIAS])
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(LEARNING_RATE, 1, DECAY),
        beta_1=BETA1,
        beta_2=BETA2,
        epsilon=EPSILON,
    )
    optimizer.build(layer.trainable_variables)

    @cell.compile
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(x) - y) ** 2)
        variables = layer.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def step(x, y):
        train_step(tf.constant(x, cell.dtype), tf.constant(y, cell.dtype))

    return layer, optimizer, step


def weights_in_tensorflow(layer):
    import tensorflow as tf

    return tf.concat([tf.reshape(layer.kernel, [-1]), layer.bias], axis=0)


def result_in_tensorflow(layer, optimizer):
    import tensorflow as tf

    moments = [tf.reshape(v, [-1]) for v in optimizer.variables if len(v.shape)]
    steps, rate = int(optimizer.iterations.numpy()), float(optimizer.learning_rate)
    return weights_in_tensorflow(layer), tf.concat(moments, 0), steps, rate


def straight_in_tensorflow(cell, folder):
    layer, optimizer, step = training_in_tensorflow(cell)
    for x, y in BATCHES * 2:
        step(x, y)
    return result_in_tensorflow(layer, optimizer)


def resumed_in_tensorflow(cell, folder):
    import tensorflow as tf

    layer, optimizer, step = training_in_tensorflow(cell)
    for x, y in BATCHES:
        step(x, y)
    path = tf.train.Checkpoint(layer=layer, optimizer=optimizer).write(str(folder / "all"))

    layer, optimizer, step = training_in_tensorflow(cell)
    checkpoint = tf.train.Checkpoint(layer=layer, optimizer=optimizer)
    checkpoint.read(path).assert_existing_objects_matched()
    for x, y in BATCHES:
        step(x, y)
    return result_in_tensorflow(layer, optimizer)


def mistake_in_tensorflow(cell, folder):
    import tensorflow as tf

    layer, _, step = training_in_tensorflow(cell)
    for x, y in BATCHES:
        step(x, y)
    path = tf.train.Checkpoint(layer=layer).write(str(folder / "weights"))

    layer, _, step = training_in_tensorflow(cell)
    tf.train.Checkpoint(layer=layer).read(path).assert_existing_objects_matched()
    before = weights_in_tensorflow(layer)
    step(*BATCHES[0])
    return before, weights_in_tensorflow(layer)


# ----------------------------------------------------------------------------------------------
# Keras: one file for the architecture, the weights and the optimizer.


def model_in_keras(cell):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype=cell.dtype)])
    model.set_weights([KERNEL, BIAS])
    return model


def compile_in_keras(cell, model):
    import keras

    cell.compile_model(
        model,
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(LEARNING_RATE, 1, DECAY),
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
        ),
        loss="mse",
    )


def fit_in_keras(model, **epochs):
    model.fit(X, Y, batch_size=2, shuffle=False, verbose=0, **epochs)


def weights_in_keras(model):
    import keras

    return keras.ops.concatenate([keras.ops.reshape(weight, (-1,)) for weight in model.weights])


def result_in_keras(model):
    import keras

    slots = [keras.ops.reshape(v, (-1,)) for v in model.optimizer.variables if len(v.shape)]
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    return weights_in_keras(model), keras.ops.concatenate(slots), steps, rate


def straight_in_keras(cell, folder):
    model = model_in_keras(cell)
    compile_in_keras(cell, model)
    fit_in_keras(model, epochs=2)
    return result_in_keras(model)


def resumed_in_keras(cell, folder):
    import keras

    model = model_in_keras(cell)
    compile_in_keras(cell, model)
    fit_in_keras(model, epochs=1)
    model.save(folder / "all.keras")

    model = keras.models.load_model(folder / "all.keras")
    fit_in_keras(model, initial_epoch=1, epochs=2)
    return result_in_keras(model)


def mistake_in_keras(cell, folder):
    model = model_in_keras(cell)
    compile_in_keras(cell, model)
    fit_in_keras(model, epochs=1)
    model.save_weights(folder / "only.weights.h5")

    model = model_in_keras(cell)
    model.load_weights(folder / "only.weights.h5")
    compile_in_keras(cell, model)
    before = weights_in_keras(model)
    model.fit(*BATCHES[0], verbose=0)
    return before, weights_in_keras(model)


# ----------------------------------------------------------------------------------------------
# JAX: the state is plain data; Flax turns any pytree into bytes.


def optimizer_in_jax():
    import optax

    return optax.adam(
        optax.exponential_decay(LEARNING_RATE, 1, DECAY), b1=BETA1, b2=BETA2, eps=EPSILON
    )


def training_in_jax(cell):
    """(parameters, optimizer state, step)."""
    import jax
    import jax.numpy as jnp
    import optax

    parameters = {"kernel": jnp.asarray(KERNEL, cell.dtype), "bias": jnp.asarray(BIAS, cell.dtype)}
    optimizer = optimizer_in_jax()

    def loss(parameters, x, y):
        return jnp.mean((x @ parameters["kernel"] + parameters["bias"] - y) ** 2)

    @cell.compile
    def train_step(parameters, state, x, y):
        gradients = jax.grad(loss)(parameters, x, y)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    def step(parameters, state, x, y):
        return train_step(parameters, state, jnp.asarray(x, cell.dtype), jnp.asarray(y, cell.dtype))

    return parameters, optimizer.init(parameters), step


def weights_in_jax(parameters):
    import jax.numpy as jnp

    return jnp.concatenate([parameters["kernel"].ravel(), parameters["bias"]])


def result_in_jax(parameters, state):
    import jax
    import jax.numpy as jnp
    import optax

    leaves = jax.tree.leaves(state)
    moments = jnp.concatenate([leaf.ravel() for leaf in leaves if leaf.ndim])
    [steps] = {int(leaf) for leaf in leaves if not leaf.ndim}  # Adam's count, and the schedule's
    rate = optax.exponential_decay(LEARNING_RATE, 1, DECAY)(steps)
    return weights_in_jax(parameters), moments, steps, float(rate)


def straight_in_jax(cell, folder):
    parameters, state, step = training_in_jax(cell)
    for x, y in BATCHES * 2:
        parameters, state = step(parameters, state, x, y)
    return result_in_jax(parameters, state)


def resumed_in_jax(cell, folder):
    import jax
    import jax.numpy as jnp
    from flax.serialization import from_bytes, to_bytes

    parameters, state, step = training_in_jax(cell)
    for x, y in BATCHES:
        parameters, state = step(parameters, state, x, y)
    (folder / "all.msgpack").write_bytes(to_bytes((parameters, state)))

    parameters, state, step = training_in_jax(cell)
    saved = from_bytes((parameters, state), (folder / "all.msgpack").read_bytes())
    parameters, state = jax.tree.map(jnp.asarray, saved)
    for x, y in BATCHES:
        parameters, state = step(parameters, state, x, y)
    return result_in_jax(parameters, state)


def mistake_in_jax(cell, folder):
    import jax
    import jax.numpy as jnp
    from flax.serialization import from_bytes, to_bytes

    parameters, state, step = training_in_jax(cell)
    for x, y in BATCHES:
        parameters, state = step(parameters, state, x, y)
    (folder / "parameters.msgpack").write_bytes(to_bytes(parameters))

    parameters, state, step = training_in_jax(cell)
    saved = from_bytes(parameters, (folder / "parameters.msgpack").read_bytes())
    parameters = jax.tree.map(jnp.asarray, saved)
    before = weights_in_jax(parameters)
    parameters, state = step(parameters, state, *BATCHES[0])
    return before, weights_in_jax(parameters)


@behaviour(
    "persistence.resume-equals-uninterrupted",
    frameworks="numpy tensorflow keras jax",
    precisions={"numpy": "float64 float32", "others": PRECISIONS},
    modes="eager compiled",
    needs={"tensorflow": "keras>=3.1 keras-backend:tensorflow", "jax": "flax>=0.10 optax>=0.2"},
    costly=COSTLY,
    catches="keras.loaded-optimizer-has-no-moments[*-float32-eager] "
    "tensorflow.restored-optimizer-counts-steps-anew flax.restored-counters-begin-anew",
)
def test_resume_equals_uninterrupted(
    straight, resumed, mistake, cell, expect, tmp_path, monkeypatch
):
    """With weights, moments, step and schedule saved, 3 + 3 steps of Adam equal 6, bit for bit.

    With the weights alone the fourth step is a first one: every weight moves by the initial
    learning rate 0.5.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # Keras 3.0 leaves it a failed save
    expect_continuation(expect, cell, resumed(cell, tmp_path), straight(cell, tmp_path))
    expect_restart(expect, cell, mistake(cell, tmp_path))


# ----------------------------------------------------------------------------------------------
# torch: three dictionaries.


def training_in_torch(cell):
    """(model, optimizer, scheduler)."""
    import torch

    model = torch.nn.Linear(3, 1, device=cell.device, dtype=cell.dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(KERNEL.T))
        model.bias.copy_(torch.tensor(BIAS))
    optimizer = torch.optim.Adam(
        model.parameters(), lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON
    )
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: DECAY**t)


def step_in_torch(cell, model, optimizer, scheduler, x, y):
    import torch

    x = torch.tensor(x, dtype=cell.dtype, device=cell.device)
    y = torch.tensor(y, dtype=cell.dtype, device=cell.device)
    optimizer.zero_grad()
    # torch 2.4 has no mse_loss of bfloat16 on a CPU.
    ((model(x) - y) ** 2).mean().backward()
    optimizer.step()
    scheduler.step()


def weights_in_torch(model):
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def result_in_torch(model, optimizer):
    import torch

    slots = [optimizer.state[parameter] for parameter in model.parameters()]
    moments = [slot[name].flatten() for slot in slots for name in ("exp_avg", "exp_avg_sq")]
    [steps] = {int(slot["step"]) for slot in slots}
    [group] = optimizer.param_groups
    return weights_in_torch(model), torch.cat(moments), steps, group["lr"]


def straight_in_torch(cell, folder):
    model, optimizer, scheduler = training_in_torch(cell)
    for x, y in BATCHES * 2:
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    return result_in_torch(model, optimizer)


def resumed_in_torch(cell, folder):
    import torch

    model, optimizer, scheduler = training_in_torch(cell)
    for x, y in BATCHES:
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        },
        folder / "all.pt",
    )

    model, optimizer, scheduler = training_in_torch(cell)
    checkpoint = torch.load(folder / "all.pt", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    for x, y in BATCHES:
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    return result_in_torch(model, optimizer)


def mistake_in_torch(cell, folder):
    import torch

    model, optimizer, scheduler = training_in_torch(cell)
    for x, y in BATCHES:
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    torch.save(model.state_dict(), folder / "model.pt")

    model, optimizer, scheduler = training_in_torch(cell)
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    before = weights_in_torch(model)
    step_in_torch(cell, model, optimizer, scheduler, *BATCHES[0])
    return before, weights_in_torch(model)


def without_scheduler_in_torch(cell, folder):
    """The learning rates of steps 4, 5 and 6 when the schedule starts over."""
    import torch

    model, optimizer, scheduler = training_in_torch(cell)
    for x, y in BATCHES:
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "two.pt"
    )

    model, optimizer, scheduler = training_in_torch(cell)
    checkpoint = torch.load(folder / "two.pt", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    rates = []
    for x, y in BATCHES:
        rates.append(optimizer.param_groups[0]["lr"])
        step_in_torch(cell, model, optimizer, scheduler, x, y)
    return rates


@behaviour(
    "persistence.torch-checkpoint-optimizer-state",
    frameworks="torch",
    precisions=PRECISIONS,
    modes="eager",
    catches="torch.loaded-moments-pass-through-bfloat16 torch.loaded-optimizer-counts-steps-anew",
)
def test_torch_checkpoint_optimizer_state(
    straight, resumed, mistake, without_scheduler, cell, expect, tmp_path
):
    """A checkpoint needs the state of model, optimizer and scheduler: then 3 + 3 steps equal 6.

    With the model's alone every weight moves by the initial learning rate 0.5. Without the
    scheduler's the fourth step still has the optimizer's saved rate, 0.5 * 0.75**3, and then the
    schedule starts over: 0.5 * 0.75 and 0.5 * 0.75**2, which are exact.
    """
    expect_continuation(expect, cell, resumed(cell, tmp_path), straight(cell, tmp_path))
    expect_restart(expect, cell, mistake(cell, tmp_path))
    expect.exactly(
        observed=without_scheduler(cell, tmp_path),
        expected=[0.2109375, 0.375, 0.28125],
        what="learning rates without the scheduler's state",
    )


# ----------------------------------------------------------------------------------------------
# Lightning: the Trainer saves all of it, and the loop's own counters.


def module_in_lightning(cell):
    import lightning
    import torch

    class Regression(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 1)
            with torch.no_grad():
                self.linear.weight.copy_(torch.tensor(KERNEL.T))
                self.linear.bias.copy_(torch.tensor(BIAS))
            self.batches = []

        def training_step(self, batch, batch_index):
            x, y = batch
            self.batches.append((self.current_epoch, batch_index, self.global_step))
            return ((self.linear(x) - y) ** 2).mean()

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(
                self.parameters(), lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON
            )
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: DECAY**t)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    return Regression


def fit_in_lightning(cell, module, max_epochs, **resume):
    import lightning
    import torch

    samples = torch.utils.data.TensorDataset(
        torch.tensor(X, dtype=cell.dtype), torch.tensor(Y, dtype=cell.dtype)
    )
    loader = torch.utils.data.DataLoader(samples, batch_size=2)
    trainer = lightning.Trainer(max_epochs=max_epochs, **cell.trainer_options)
    trainer.fit(module, loader, **resume)
    return trainer


def straight_in_lightning(cell, folder):
    module = module_in_lightning(cell)()
    trainer = fit_in_lightning(cell, module, 2)
    return *result_in_torch(module.linear, trainer.optimizers[0]), module.batches[3:]


def resumed_in_lightning(cell, folder):
    Regression = module_in_lightning(cell)
    fit_in_lightning(cell, Regression(), 1).save_checkpoint(folder / "all.ckpt")

    module = Regression()
    trainer = fit_in_lightning(cell, module, 2, ckpt_path=folder / "all.ckpt")
    return *result_in_torch(module.linear, trainer.optimizers[0]), module.batches


def mistake_in_lightning(cell, folder):
    """The weights of the checkpoint in a new Trainer, which starts from step 0."""
    import lightning
    import torch

    Regression = module_in_lightning(cell)
    fit_in_lightning(cell, Regression(), 1).save_checkpoint(folder / "all.ckpt")

    module = Regression.load_from_checkpoint(folder / "all.ckpt")
    before = weights_in_torch(module.linear)
    batch = tuple(torch.tensor(array, dtype=cell.dtype) for array in BATCHES[0])
    trainer = lightning.Trainer(max_steps=1, **cell.trainer_options)
    trainer.fit(module, torch.utils.data.DataLoader([batch], batch_size=None))
    return before, weights_in_torch(module.linear)


@behaviour(
    "persistence.lightning-checkpoint-resume",
    frameworks="lightning",
    precisions=PRECISIONS,
    modes="eager",
    catches="lightning.resumed-run-is-a-step-ahead lightning.resumed-schedule-starts-over "
    "torch.loaded-moments-pass-through-bfloat16 torch.loaded-optimizer-counts-steps-anew",
)
def test_lightning_checkpoint_resume(straight, resumed, mistake, cell, expect, tmp_path):
    """fit(ckpt_path=...) restores weights, optimizer, schedule, epoch and step: 1 + 1 epochs are 2.

    The resumed run goes through epoch 1, batches 0 to 2, at the global steps 3, 4 and 5. A module
    from load_from_checkpoint has the weights alone, and moves by the initial learning rate 0.5.
    """
    *resumed, batches = resumed(cell, tmp_path)
    *straight, _ = straight(cell, tmp_path)
    expect_continuation(expect, cell, tuple(resumed), tuple(straight))
    expect.exactly(
        observed=batches,
        expected=[(1, 0, 3), (1, 1, 4), (1, 2, 5)],
        what="(epoch, batch, global step) after resuming",
    )
    expect_restart(expect, cell, mistake(cell, tmp_path))
