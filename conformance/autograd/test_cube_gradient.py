"""The gradient of x³: the first thing every autodiff engine must get right.

For y = x³ the derivative is 3x², so at x = 2 it is 12. Both 2³ = 8 and 12 are small integers, which
every floating-point format holds exactly: there is nothing to round, and nothing to tolerate.

Sources: class 122, exercise 2 and learning outcome 2;
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html,
https://www.tensorflow.org/api_docs/python/tf/GradientTape,
https://docs.jax.dev/en/latest/_autosummary/jax.grad.html
"""

from fixtures.matrix import behaviour


def gradient_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([2.0], cell.dtype), requires_grad=True)
    y = x**3
    y.backward()
    return x.grad


def gradient_in_torch(cell):
    import torch

    @cell.compile
    def cube(x):
        return x**3

    x = torch.tensor([2.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    y = cube(x)
    y.backward()
    return x.grad


def gradient_in_lightning(cell):
    import lightning
    import torch

    class Cube(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.x = torch.nn.Parameter(torch.tensor([2.0]))
            self.cube = cell.compile(lambda x: x**3)
            self.gradient = None

        def training_step(self, batch, batch_index):
            return self.cube(self.x)

        def on_after_backward(self):
            self.gradient = self.x.grad.clone()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Cube()
    one_batch = torch.utils.data.DataLoader([0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, one_batch)
    return model.gradient


def gradient_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x**3
        return tape.gradient(y, x)

    return gradient(tf.constant([2.0], cell.dtype))


def gradient_in_keras(cell):
    """Keras has no call that returns a gradient, but SGD with learning rate 1 subtracts it."""
    import keras
    import numpy as np

    class Cube(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.x = self.add_weight(shape=(1,), initializer=keras.initializers.Constant(2.0))

        def call(self, inputs):
            return inputs * self.x**3

    model = Cube()
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, cube: keras.ops.mean(cube),
    )
    one = np.ones((1, 1))
    model.fit(one, one, batch_size=1, epochs=1, verbose=0)
    return 2.0 - model.x


def gradient_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradient = cell.compile(jax.grad(lambda x: x**3))
    return gradient(jnp.asarray(2.0, cell.dtype))


@behaviour(
    "autograd.cube-gradient",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly="keras_torch-*-float64-compiled keras_torch-*float16-compiled",
    catches="torch.gradient-off-by-a-thousandth[*-eager|torch-cpu-float32-compiled] "
    "keras.learning-rate-off-by-a-thousandth[*-float32-eager|keras_tensorflow-*] "
    "jax.compiled-gradient-off-by-a-thousandth "
    "tensorflow.compiled-gradient-off-by-a-thousandth",
)
def test_cube_gradient(gradient, cell, expect):
    """Reverse-mode differentiation of x³ at x = 2 gives exactly 3·2² = 12, in every precision."""
    expect.exactly(observed=gradient(cell), expected=12.0, what="gradient")
