"""Where differentiation ends: no_grad, detach and stop_gradient.

Two tools with one purpose. A block (torch.no_grad, torch.inference_mode, tape.stop_recording) is a
place in which nothing is recorded; a function (detach, tf.stop_gradient, keras.ops.stop_gradient,
jax.lax.stop_gradient) hands back the same numbers as a constant. Values never change. What the
gradient of a variable behind the cut looks like does:

    torch        .grad stays None; backward() of a result that is all cut raises RuntimeError
    TensorFlow   tape.gradient gives None
    JAX          zeros: every argument has a gradient

Sources: class 122, definition of no_grad and common mistake 4;
https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html,
https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html,
https://www.tensorflow.org/api_docs/python/tf/stop_gradient,
https://www.tensorflow.org/api_docs/python/tf/GradientTape#stop_recording,
https://keras.io/api/ops/core/,
https://docs.jax.dev/en/latest/_autosummary/jax.lax.stop_gradient.html,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#inference-mode
"""

from fixtures.matrix import behaviour
from fixtures.precision import unit_roundoff

# ----------------------------------------------------------------------------------------------
# x² · x³ with either factor held constant. The product rule loses one of its two terms:
# 2x · x³ = 2x⁴ without the second, x² · 3x² = 3x⁴ without the first, 5x⁴ with both.

X = [2.0, -1.0, 0.5]


def gradients_in_numpy(cell):
    """The reference has no detach: a new Tensor of the same data remembers nothing."""
    import numpy as np

    from reference.autodiff import Tensor

    def gradient(product):
        x = Tensor(np.array(X, cell.dtype), requires_grad=True)
        product(x).sum().backward()
        return x.grad

    return [
        gradient(lambda x: x * x * Tensor((x * x * x).data)),
        gradient(lambda x: Tensor((x * x).data) * (x * x * x)),
        gradient(lambda x: x * x * (x * x * x)),
    ]


def gradients_in_torch(cell):
    """detach() for one factor, a no_grad block for the other."""
    import torch

    @cell.compile
    def products(x):
        with torch.no_grad():
            constant_square = x * x
        square, cube = x * x, x * x * x
        return square * cube.detach(), constant_square * cube, square * cube

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    gradients = []
    for product in products(x):
        x.grad = None
        product.sum().backward(retain_graph=True)
        gradients.append(x.grad)
    return gradients


def gradients_in_tensorflow(cell):
    """tf.stop_gradient for one factor, tape.stop_recording for the other."""
    import tensorflow as tf

    @cell.compile
    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            square, cube = x * x, x * x * x
            with tape.stop_recording():
                constant_square = x * x
            first = square * tf.stop_gradient(cube)
            second = constant_square * cube
            both = square * cube
        return tape.gradient(first, x), tape.gradient(second, x), tape.gradient(both, x)

    return gradients(tf.constant(X, cell.dtype))


def gradients_in_keras(cell):
    """One training step on the sum: SGD with learning rate 1 subtracts each weight's gradient."""
    import keras
    import numpy as np

    class Products(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.x = [self.add_weight(shape=(3,), initializer="zeros") for _ in range(3)]
            for x in self.x:
                x.assign(X)

        def call(self, inputs):
            x, y, z = self.x
            first = x * x * keras.ops.stop_gradient(x * x * x)
            second = keras.ops.stop_gradient(y * y) * (y * y * y)
            both = z * z * (z * z * z)
            return inputs * (first + second + both)

    model = Products()
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, products: keras.ops.sum(products),
    )
    one = np.ones((1, 1))
    model.fit(one, one, batch_size=1, epochs=1, verbose=0)
    return [keras.ops.convert_to_tensor(X, dtype=x.dtype) - x for x in model.x]


def gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def products(x):
        square, cube = x * x, x * x * x
        constant_square, constant_cube = jax.lax.stop_gradient((square, cube))
        return square * constant_cube, constant_square * cube, square * cube

    @cell.compile
    def gradients(x):
        return [jax.grad(lambda x, i=i: products(x)[i].sum())(x) for i in range(3)]

    return gradients(jnp.asarray(X, cell.dtype))


@behaviour(
    "autograd.stop-gradient",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly=(
        "torch-*-float64-compiled torch-*float16-compiled keras_torch-*-compiled "
        "*jax-*-float64-eager *jax-*float16-eager keras_tensorflow-*float16-eager"
    ),
    catches="torch.detach-leaks-a-thousandth tensorflow.stop-gradient-leaks-a-thousandth "
    "jax.stop-gradient-stops-the-first-of-several "
    "keras.stop-gradient-does-nothing[*-float32-*]",
)
def test_stop_gradient(gradients, cell, expect):
    """A stopped factor is a constant to the gradient, and keeps its value in it.

    At x = [2, -1, 1/2]: 2x⁴ = [32, 2, 1/8] with x³ stopped, 3x⁴ = [48, 3, 3/16] with x² stopped,
    5x⁴ = [80, 5, 5/16] with neither. All products on the way are dyadic fractions of few digits:
    nothing rounds in any precision.
    """
    first, second, both = gradients(cell)
    expect.exactly(observed=first, expected=[32.0, 2.0, 0.125], what="gradient, x³ stopped")
    expect.exactly(observed=second, expected=[48.0, 3.0, 0.1875], what="gradient, x² stopped")
    expect.exactly(observed=both, expected=[80.0, 5.0, 0.3125], what="gradient, nothing stopped")


# ----------------------------------------------------------------------------------------------
# A variable all of whose paths are cut: a² b³ with b³ stopped, at a = 3, b = 2.

behind_the_cut_in_numpy = None
behind_the_cut_in_torch = None
behind_the_cut_in_tensorflow = None
behind_the_cut_in_jax = 0.0


def two_gradients_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    a = Tensor(np.array(3.0, cell.dtype), requires_grad=True)
    b = Tensor(np.array(2.0, cell.dtype), requires_grad=True)
    (a * a * Tensor((b * b * b).data)).backward()
    return a.grad, b.grad


def two_gradients_in_torch(cell):
    import torch

    product = cell.compile(lambda a, b: a * a * (b * b * b).detach())
    a = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    b = torch.tensor(2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    product(a, b).backward()
    return a.grad, b.grad


def two_gradients_in_tensorflow(cell):
    import tensorflow as tf

    a, b = tf.Variable(3.0, dtype=cell.dtype), tf.Variable(2.0, dtype=cell.dtype)

    @cell.compile
    def gradients():
        with tf.GradientTape() as tape:
            product = a * a * tf.stop_gradient(b * b * b)
        return tape.gradient(product, [a, b])

    return gradients()


def two_gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradients = cell.compile(
        jax.grad(lambda a, b: a * a * jax.lax.stop_gradient(b * b * b), argnums=(0, 1))
    )
    return gradients(jnp.asarray(3.0, cell.dtype), jnp.asarray(2.0, cell.dtype))


@behaviour(
    "autograd.stop-gradient-behind-the-cut",
    frameworks="numpy torch tensorflow jax",
    precisions="float32",
    modes="eager compiled",
    catches="torch.detach-leaks-a-thousandth tensorflow.stop-gradient-leaks-a-thousandth "
    "jax.stop-gradient-leaks-a-thousandth",
)
def test_stop_gradient_behind_the_cut(two_gradients, behind_the_cut, cell, expect):
    """a² · stop(b³) at (3, 2): the gradient of a is 2a b³ = 48; b has none.

    None in torch and TensorFlow, zero in JAX.
    """
    gradient_of_a, gradient_of_b = two_gradients(cell)
    expect.exactly(observed=gradient_of_a, expected=48.0, what="gradient of a")
    expect.exactly(observed=gradient_of_b, expected=behind_the_cut, what="gradient of b")


# ----------------------------------------------------------------------------------------------
# Blocks that record nothing. 3a - b + 1/2 at (1 + 4u, 2), with u the unit roundoff, is 3/2 + 12u,
# wherever it is computed: that is all digits that the precision has, and none is rounded away.

recorded_in_torch = {"as usual": True, "eval": True, "no_grad": False, "inference_mode": False}
recorded_in_lightning = {
    "training_step": True,
    "validation_step": False,
    "test_step": False,
    "predict_step": False,
}
recorded_in_tensorflow = {"as usual": True, "stop_recording": False, "after it": True}


def point(cell):
    return [1 + 4 * unit_roundoff(cell.precision), 2.0]


def line(cell, device=None):
    """y = 3a - b + 1/2 as a torch layer."""
    import torch

    layer = torch.nn.Linear(2, 1, dtype=cell.dtype, device=device)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0]]))
        layer.bias.fill_(0.5)
    return layer


def results_in_torch(cell):
    import torch

    layer = line(cell, cell.device)
    forward = cell.compile(layer)
    x = torch.tensor([point(cell)], dtype=cell.dtype, device=cell.device)
    results = {"as usual": forward(x), "eval": line(cell, cell.device).eval()(x)}
    with torch.no_grad():
        results["no_grad"] = forward(x)
    with torch.inference_mode():
        results["inference_mode"] = forward(x)
    return results, {name: result.requires_grad for name, result in results.items()}


def results_in_lightning(cell):
    """The Trainer turns recording off for every loop but fit's own."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = line(cell)
            self.results = {}

        def training_step(self, batch, batch_index):
            result = self.results["training_step"] = self.layer(batch)
            return result.sum()

        def validation_step(self, batch, batch_index):
            self.results["validation_step"] = self.layer(batch)

        def test_step(self, batch, batch_index):
            self.results["test_step"] = self.layer(batch)

        def predict_step(self, batch, batch_index):
            self.results["predict_step"] = self.layer(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    model = Line()
    loader = torch.utils.data.DataLoader(torch.tensor([point(cell)], dtype=cell.dtype))
    trainer = lightning.Trainer(max_epochs=1, num_sanity_val_steps=0, **cell.trainer_options)
    trainer.fit(model, loader, loader)
    trainer.test(model, loader, verbose=False)
    trainer.predict(model, loader)
    return model.results, {name: result.requires_grad for name, result in model.results.items()}


def results_in_tensorflow(cell):
    import tensorflow as tf

    weight = tf.Variable([[3.0], [-1.0]], dtype=cell.dtype)

    @cell.compile
    def results_and_gradients(x):
        results = {}
        with tf.GradientTape(persistent=True) as tape:
            results["as usual"] = x @ weight + 0.5
            with tape.stop_recording():
                results["stop_recording"] = x @ weight + 0.5
            results["after it"] = x @ weight + 0.5
        return results, {name: tape.gradient(y, weight) for name, y in results.items()}

    results, gradients = results_and_gradients(tf.constant([point(cell)], cell.dtype))
    return results, {name: gradient is not None for name, gradient in gradients.items()}


@behaviour(
    "autograd.no-grad-builds-no-graph",
    frameworks="torch lightning tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes={"lightning": "eager", "others": "eager compiled"},
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.inference-mode-records tensorflow.tape-stays-stopped "
    "lightning.predict-records-gradients torch.unrecorded-linear-through-bfloat16",
)
def test_no_grad_builds_no_graph(results, recorded, cell, expect):
    """no_grad, inference_mode and stop_recording change what is recorded, and no number.

    A result computed there does not require a gradient; the value is the same 3/2 + 12u. eval() is
    not such a block: it records as usual. Lightning's Trainer validates, tests and predicts without
    recording.
    """
    values, is_recorded = results(cell)
    expect.exactly(observed=is_recorded, expected=recorded, what="what is recorded")
    expected = 1.5 + 12 * unit_roundoff(cell.precision)
    for name, value in values.items():
        expect.exactly(observed=value, expected=expected, what=f"value, {name}")


# ----------------------------------------------------------------------------------------------
# The common mistake: the loss of a training step computed in such a block.


def mistake_in_torch(cell):
    import torch

    square = cell.compile(lambda x: x * x)
    x = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    with torch.no_grad():
        y = square(x)
    y.backward()


def fix_in_torch(cell):
    import torch

    square = cell.compile(lambda x: x * x)
    x = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    with torch.no_grad():
        with torch.enable_grad():
            y = square(x)
        y.backward()
    return x.grad


@behaviour(
    "autograd.no-grad-backward-error",
    frameworks="torch",
    precisions="float32",
    modes="eager compiled",
    catches="torch.backward-of-a-constant-does-nothing",
)
def test_no_grad_backward_error(mistake, fix, cell, expect):
    """backward() of a result computed under no_grad raises RuntimeError; enable_grad cures it.

    backward itself may be called in a no_grad block: the gradient of x² at 3 is 6.
    """
    with expect.raises(RuntimeError, match="does not require grad"):
        mistake(cell)
    expect.exactly(observed=fix(cell), expected=6.0, what="gradient")
