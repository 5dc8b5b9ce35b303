"""Gradient accumulation: a large batch in pieces.

k micro-batches, each with its mean loss divided by k, and one optimizer step after the last: the
gradient, and so the weight, is that of the large batch. Every framework can do it:

    torch        backward() of loss / k adds to .grad; step and zero_grad every k-th time
    Lightning    Trainer(accumulate_grad_batches=k), which divides the loss itself
    TensorFlow   add up what the tapes return
    Keras        gradient_accumulation_steps=k of an optimizer, which averages
    Optax        optax.MultiSteps(optimizer, every_k_schedule=k), which averages

The model is y = w x with w = 0 at first and the mean squared error. With A = mean(x²) and
B = mean(x y) its gradient is 2 (A w - B). Eight samples, in four micro-batches of two:

    A   5  1  2  4    mean 3
    B   9  1  2  2    mean 3.5

SGD, learning rate 1/32, momentum 1/2. From w = 0: gradient -7, w = 7/32; gradient -5.6875, velocity
-3.5 - 5.6875 = -9.1875, w = 259/512. Every number on the way is a dyadic fraction that float32
holds, so nothing rounds.

Sources: class 121, frequent question 3; class 172, definition 6 and exercise 3;
https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#accumulate-grad-batches,
https://keras.io/api/optimizers/,
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, rounded

X = np.array([1.0, 3.0, -1.0, 1.0, 2.0, 0.0, 2.0, -2.0])
Y = np.array([3.0, 5.0, -1.0, 1.0, 2.0, 4.0, 3.0, 1.0])
MICRO_BATCHES = [(X[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4, 6)]
RATE, MOMENTUM = 1 / 32, 1 / 2

# The weight after each micro-batch of two epochs.
ACCUMULATED = [0.0, 0.0, 0.0, 7 / 32, 7 / 32, 7 / 32, 7 / 32, 259 / 512]

# Optax adds gradients up in float32, whatever they are, unless it is given an accumulator_dtype.
PRECISIONS = {"jax": "float32", "others": "float64 float32"}

NEEDS = {
    "tensorflow": "keras>=3.0 keras-backend:tensorflow",
    "keras": "keras>=3.1",
    "jax": "optax>=0.2",
}

# ----------------------------------------------------------------------------------------------
# Accumulating: the weight moves after every fourth micro-batch, as far as the large batch says.

roundings_in_numpy = 0
roundings_in_torch = 0
roundings_in_lightning = 0
roundings_in_tensorflow = 0
roundings_in_keras = 0
# Optax keeps a running mean, m + (g - m) / i, and cannot divide by 3 exactly: three roundings for
# each of four micro-batches, twice, and the second gradient and velocity carry those of the first.
roundings_in_jax = 36


def weights_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], RATE, momentum=MOMENTUM)
    weights = []
    for i, (x, y) in enumerate(2 * MICRO_BATCHES):
        loss = ((w * x.astype(cell.dtype) - y.astype(cell.dtype)) ** 2).mean()
        (loss / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        weights.append(w.data[0])
    return weights


def weights_in_torch(cell):
    import torch

    mean_squared_error = cell.compile(lambda w, x, y: ((w * x - y) ** 2).mean())
    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=RATE, momentum=MOMENTUM)
    weights = []
    for i, (x, y) in enumerate(2 * MICRO_BATCHES):
        x = torch.tensor(x, dtype=cell.dtype, device=cell.device)
        y = torch.tensor(y, dtype=cell.dtype, device=cell.device)
        loss = mean_squared_error(w, x, y)
        (loss / 4).backward()
        if i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        weights.append(w.detach().clone())
    return weights


def weights_in_lightning(cell):
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(()))
            self.mean_squared_error = cell.compile(lambda w, x, y: ((w * x - y) ** 2).mean())
            self.weights = []

        def training_step(self, batch, batch_index):
            x, y = batch
            return self.mean_squared_error(self.w, x, y)

        def on_train_batch_end(self, outputs, batch, batch_index):
            self.weights.append(self.w.detach().clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE, momentum=MOMENTUM)

    model = Line()
    samples = torch.utils.data.TensorDataset(
        torch.tensor(X, dtype=cell.dtype), torch.tensor(Y, dtype=cell.dtype)
    )
    loader = torch.utils.data.DataLoader(samples, batch_size=2)
    trainer = lightning.Trainer(max_epochs=2, accumulate_grad_batches=4, **cell.trainer_options)
    trainer.fit(model, loader)
    return model.weights


def weights_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)

    @cell.compile
    def gradient(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((w * x - y) ** 2) / 4
        return tape.gradient(loss, w)

    total = tf.zeros_like(w)
    weights = []
    for i, (x, y) in enumerate(2 * MICRO_BATCHES):
        total += gradient(tf.constant(x, cell.dtype), tf.constant(y, cell.dtype))
        if i % 4 == 3:
            optimizer.apply_gradients([(total, w)])
            total = tf.zeros_like(w)
        weights.append(tf.identity(w))
    return weights


def keras_line(dtype):
    import keras

    class Line(keras.Model):
        def __init__(self):
            super().__init__(dtype=dtype)
            self.w = self.add_weight(shape=(1,), initializer="zeros")

        def call(self, x):
            return self.w * x

    return Line()


def weights_in_keras(cell):
    """One call of `fit` for each micro-batch: the optimizer keeps what it has added up so far."""
    import keras

    model = keras_line(cell.dtype)
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(RATE, momentum=MOMENTUM, gradient_accumulation_steps=4),
        loss="mse",
    )
    weights = []
    for x, y in 2 * MICRO_BATCHES:
        model.fit(x[:, None], y[:, None], batch_size=2, epochs=1, verbose=0)
        weights.append(model.w.numpy()[0])
    return weights


def weights_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(optax.sgd(RATE, momentum=MOMENTUM), every_k_schedule=4)

    @cell.compile
    def train_step(w, state, x, y):
        gradient = jax.grad(lambda w: jnp.mean((w * x - y) ** 2))(w)
        update, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, update), state

    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    weights = []
    for x, y in 2 * MICRO_BATCHES:
        w, state = train_step(w, state, jnp.asarray(x, cell.dtype), jnp.asarray(y, cell.dtype))
        weights.append(w)
    return weights


@behaviour(
    "training-loop.gradient-accumulation-equivalence",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions=PRECISIONS,
    modes="eager compiled",
    needs=NEEDS,
    costly=(
        "torch-*-float64-compiled lightning-*-float64-compiled keras_torch-*-compiled "
        "keras_jax-*-float64-eager"
    ),
    catches="torch.gradient-off-by-a-thousandth[torch-*-eager|lightning-*-eager] "
    "lightning.accumulated-loss-is-not-divided[*-eager] "
    "lightning.accumulation-steps-one-batch-early[*-eager] "
    "lightning.loss-grows-from-the-second-epoch[*-eager] "
    "optax.multi-steps-moves-momentum-with-every-micro-batch "
    "optax.multi-steps-adds-in-bfloat16 keras.accumulated-gradients-are-kept[*-float32-*] "
    "tensorflow.compiled-gradient-off-by-a-thousandth",
)
def test_gradient_accumulation_equivalence(weights, roundings, cell, expect):
    """Four micro-batches of two with loss / 4 move the weight exactly as one batch of eight does.

    It stays at 0 for three micro-batches, is 7/32 after the fourth and 259/512 after the eighth;
    the momentum decays once for each step, not for each micro-batch. No rounding, except that
    Optax's running mean divides by 3: its error is relative to the gradients, at most 18 in size,
    times the learning rate.
    """
    terms = [18 * RATE] if roundings else 0.0
    bound = rounded(roundings, cell.precision, terms=terms)
    expect.within(bound, observed=weights(cell), expected=ACCUMULATED, what="weights")


# ----------------------------------------------------------------------------------------------
# Two mistakes: mean losses that nobody divides by k, and a step after every micro-batch.


def undivided_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], RATE, momentum=MOMENTUM)
    weights = []
    for _ in range(2):
        for x, y in MICRO_BATCHES:
            ((w * x.astype(cell.dtype) - y.astype(cell.dtype)) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.data[0])
    return weights


def undivided_in_torch(cell):
    import torch

    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=RATE, momentum=MOMENTUM)
    weights = []
    for _ in range(2):
        for x, y in MICRO_BATCHES:
            x = torch.tensor(x, dtype=cell.dtype, device=cell.device)
            y = torch.tensor(y, dtype=cell.dtype, device=cell.device)
            torch.nn.functional.mse_loss(w * x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.detach().clone())
    return weights


def undivided_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    weights = []
    for _ in range(2):
        total = tf.zeros_like(w)
        for x, y in MICRO_BATCHES:
            with tf.GradientTape() as tape:
                error = w * tf.constant(x, cell.dtype) - tf.constant(y, cell.dtype)
                loss = tf.reduce_mean(error**2)
            total += tape.gradient(loss, w)
        optimizer.apply_gradients([(total, w)])
        weights.append(tf.identity(w))
    return weights


def undivided_in_jax(cell):
    """MultiSteps can be told to add up instead of averaging."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(
        optax.sgd(RATE, momentum=MOMENTUM), every_k_schedule=4, use_grad_mean=False
    )

    @cell.compile
    def train_step(w, state, x, y):
        gradient = jax.grad(lambda w: jnp.mean((w * x - y) ** 2))(w)
        update, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, update), state

    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    weights = []
    for _ in range(2):
        for x, y in MICRO_BATCHES:
            w, state = train_step(w, state, jnp.asarray(x, cell.dtype), jnp.asarray(y, cell.dtype))
        weights.append(w)
    return weights


def stepping_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], RATE, momentum=MOMENTUM)
    for x, y in MICRO_BATCHES:
        ((w * x.astype(cell.dtype) - y.astype(cell.dtype)) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return w.data[0]


def stepping_in_torch(cell):
    import torch

    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=RATE, momentum=MOMENTUM)
    for x, y in MICRO_BATCHES:
        x = torch.tensor(x, dtype=cell.dtype, device=cell.device)
        y = torch.tensor(y, dtype=cell.dtype, device=cell.device)
        torch.nn.functional.mse_loss(w * x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return w


def stepping_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    for x, y in MICRO_BATCHES:
        with tf.GradientTape() as tape:
            error = w * tf.constant(x, cell.dtype) - tf.constant(y, cell.dtype)
            loss = tf.reduce_mean(error**2)
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])
    return w


def stepping_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(RATE, momentum=MOMENTUM)

    @cell.compile
    def train_step(w, state, x, y):
        gradient = jax.grad(lambda w: jnp.mean((w * x - y) ** 2))(w)
        update, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, update), state

    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    for x, y in MICRO_BATCHES:
        w, state = train_step(w, state, jnp.asarray(x, cell.dtype), jnp.asarray(y, cell.dtype))
    return w


@behaviour(
    "training-loop.gradient-accumulation-undivided",
    frameworks="numpy torch tensorflow jax",
    precisions=PRECISIONS,
    modes={"jax": "compiled", "others": "eager"},
    needs={name: NEEDS[name] for name in ("tensorflow", "jax")},
    catches="torch.gradient-off-by-a-thousandth optax.multi-steps-always-averages "
    "jax.compiled-gradient-off-by-a-thousandth tensorflow.gradient-through-bfloat16",
)
def test_gradient_accumulation_undivided(undivided, stepping, cell, expect):
    """Without the division by 4 the gradient is four times too large; steps in between go astray.

    Undivided: gradient -28, w = 28/32 instead of 7/32; then gradient 4 (6 w - 7) = -7, velocity
    -14 - 7 = -21 and w = 49/32. Stepping after each micro-batch: the gradients -18, -0.875,
    -0.515625 and 4.33203125 lead to w = 32484 / 32768. No rounding in either.
    """
    expect.exactly(observed=undivided(cell), expected=[28 / 32, 49 / 32], what="w, undivided")
    expect.exactly(observed=stepping(cell), expected=32484 / 32768, what="w, four steps")


# ----------------------------------------------------------------------------------------------
# A last micro-batch that is smaller: six samples as four and two. A = 3 and 2, B = 5 and 2, but of
# all six A = 8/3 and B = 4. Plain SGD, learning rate 1/32, two epochs.


def mean_of_means_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], RATE)
    weights = []
    for _ in range(2):
        for some in (slice(0, 4), slice(4, 6)):
            error = w * X[some].astype(cell.dtype) - Y[some].astype(cell.dtype)
            ((error**2).mean() / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.data[0])
    return weights


def sum_over_all_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], RATE)
    weights = []
    for _ in range(2):
        for some in (slice(0, 4), slice(4, 6)):
            error = w * X[some].astype(cell.dtype) - Y[some].astype(cell.dtype)
            ((error**2).sum() / 6).backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.data[0])
    return weights


def six_samples(cell):
    """Six samples in a loader of batches of four: the last batch is smaller."""
    import torch

    samples = torch.utils.data.TensorDataset(
        torch.tensor(X[:6], dtype=cell.dtype, device=cell.device),
        torch.tensor(Y[:6], dtype=cell.dtype, device=cell.device),
    )
    return torch.utils.data.DataLoader(samples, batch_size=4)


def mean_of_means_in_torch(cell):
    import torch

    loader = six_samples(cell)
    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=RATE)
    weights = []
    for _ in range(2):
        for x, y in loader:
            (torch.nn.functional.mse_loss(w * x, y) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.detach().clone())
    return weights


def sum_over_all_in_torch(cell):
    import torch

    loader = six_samples(cell)
    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=RATE)
    weights = []
    for _ in range(2):
        for x, y in loader:
            (torch.nn.functional.mse_loss(w * x, y, reduction="sum") / 6).backward()
        optimizer.step()
        optimizer.zero_grad()
        weights.append(w.detach().clone())
    return weights


def accumulated_by_trainer(cell, loss):
    """The weight after each of two epochs of two accumulated micro-batches."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(()))
            self.weights = []

        def training_step(self, batch, batch_index):
            x, y = batch
            return loss(self.w * x, y)

        def on_train_epoch_end(self):
            self.weights.append(self.w.detach().clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    model = Line()
    trainer = lightning.Trainer(max_epochs=2, accumulate_grad_batches=2, **cell.trainer_options)
    trainer.fit(model, six_samples(cell))
    return model.weights


def mean_of_means_in_lightning(cell):
    import torch

    return accumulated_by_trainer(cell, torch.nn.functional.mse_loss)


def sum_over_all_in_lightning(cell):
    """The Trainer divides by its two micro-batches: hence 2 / 6."""
    import torch

    def loss(prediction, target):
        return torch.nn.functional.mse_loss(prediction, target, reduction="sum") * 2 / 6

    return accumulated_by_trainer(cell, loss)


def mean_of_means_in_tensorflow(cell):
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    samples = tf.data.Dataset.from_tensor_slices((X[:6], Y[:6])).batch(4)
    weights = []
    for _ in range(2):
        total = tf.zeros_like(w)
        for x, y in samples:
            x, y = tf.cast(x, cell.dtype), tf.cast(y, cell.dtype)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((w * x - y) ** 2) / 2
            total += tape.gradient(loss, w)
        w.assign_sub(RATE * total)
        weights.append(tf.identity(w))
    return weights


def sum_over_all_in_tensorflow(cell):
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    samples = tf.data.Dataset.from_tensor_slices((X[:6], Y[:6])).batch(4)
    weights = []
    for _ in range(2):
        total = tf.zeros_like(w)
        for x, y in samples:
            x, y = tf.cast(x, cell.dtype), tf.cast(y, cell.dtype)
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum((w * x - y) ** 2) / 6
            total += tape.gradient(loss, w)
        w.assign_sub(RATE * total)
        weights.append(tf.identity(w))
    return weights


def accumulated_by_fit(cell, loss):
    """The weight after each of two epochs of two accumulated micro-batches."""
    import keras

    model = keras_line(cell.dtype)
    optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)
    cell.compile_model(model, optimizer=optimizer, loss=loss)
    weights = []
    remember = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(model.w.numpy()[0])
    )
    model.fit(
        X[:6, None],
        Y[:6, None],
        batch_size=4,
        epochs=2,
        shuffle=False,
        callbacks=[remember],
        verbose=0,
    )
    return weights


def mean_of_means_in_keras(cell):
    return accumulated_by_fit(cell, "mse")


def sum_over_all_in_keras(cell):
    """The optimizer divides by its two micro-batches: hence 2 / 6."""
    import keras

    def loss(target, prediction):
        return keras.ops.sum((target - prediction) ** 2) * 2 / 6

    return accumulated_by_fit(cell, loss)


def mean_of_means_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(optax.sgd(RATE), every_k_schedule=2)

    @cell.compile
    def train_step(w, state, x, y):
        gradient = jax.grad(lambda w: jnp.mean((w * x - y) ** 2))(w)
        update, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, update), state

    x, y = jnp.asarray(X[:6], cell.dtype), jnp.asarray(Y[:6], cell.dtype)
    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    weights = []
    for _ in range(2):
        w, state = train_step(w, state, x[:4], y[:4])
        w, state = train_step(w, state, x[4:], y[4:])
        weights.append(w)
    return weights


def sum_over_all_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(optax.sgd(RATE), every_k_schedule=2, use_grad_mean=False)

    @cell.compile
    def train_step(w, state, x, y):
        gradient = jax.grad(lambda w: jnp.sum((w * x - y) ** 2) / 6)(w)
        update, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, update), state

    x, y = jnp.asarray(X[:6], cell.dtype), jnp.asarray(Y[:6], cell.dtype)
    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    weights = []
    for _ in range(2):
        w, state = train_step(w, state, x[:4], y[:4])
        w, state = train_step(w, state, x[4:], y[4:])
        weights.append(w)
    return weights


@behaviour(
    "training-loop.gradient-accumulation-unequal-batches",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={"keras": "float32", **PRECISIONS},
    modes={"jax": "compiled", "others": "eager"},
    needs=NEEDS,
    catches="torch.gradient-off-by-a-thousandth[torch-*] "
    "lightning.accumulated-loss-is-not-divided "
    "lightning.accumulation-steps-one-batch-early "
    "lightning.loss-grows-from-the-second-epoch optax.multi-steps-always-averages "
    "optax.multi-steps-adds-in-bfloat16 keras.accumulated-gradients-are-added-up "
    "tensorflow.gradient-through-bfloat16",
)
def test_gradient_accumulation_unequal_batches(mean_of_means, sum_over_all, cell, expect):
    """Micro-batches of four and two: the mean of their means is not the mean of all six.

    Means: gradient -2 (5 + 2) / 2 = -7, w = 7/32, then 5 w - 7 and w = 413/1024, without rounding.
    Sums over the number of all samples: gradient -2 · 4 = -8, w = 1/4, then 2 (8/3 w - 4) = -20/3
    and w = 11/24, which is what the batch of six does. 1/6 rounds: five roundings in each gradient
    (the division, its product, two sums, the learning rate), two in the weight, two updates.
    """
    exact = Bound(because="every number is a dyadic fraction that float32 holds")
    expect.within(
        exact, observed=mean_of_means(cell), expected=[7 / 32, 413 / 1024], what="w, mean of means"
    )
    expect.within(
        rounded(14, cell.precision),
        observed=sum_over_all(cell),
        expected=[1 / 4, 11 / 24],
        what="w, sum over all",
    )
