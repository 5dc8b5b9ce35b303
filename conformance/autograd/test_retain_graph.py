"""retain_graph: a graph is used up by the backward pass that walks it.

backward() frees what the forward pass saved, because that is most of the memory of a training step.
A second backward over the same graph is therefore an error, unless the first was told to keep it.
TensorFlow's counterpart is the persistent tape. JAX has no such state: the function that jax.vjp
returns can be called as often as one likes.

x³ at 2 has the gradient 12; two passes that accumulate give 24.

Sources: class 122, common mistake 3; class 121, definition of tape.gradient;
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html,
https://www.tensorflow.org/api_docs/python/tf/GradientTape,
https://docs.jax.dev/en/latest/_autosummary/jax.vjp.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# The mistake: the same graph twice. The fix: retain_graph=True on the first pass.

error_in_numpy = "freed"
error_in_torch = "Trying to backward through the graph a second time"
error_in_lightning = error_in_torch


def mistake_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([2.0], cell.dtype), requires_grad=True)
    y = x**3
    y.backward()
    y.backward()


def fix_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([2.0], cell.dtype), requires_grad=True)
    y = x**3
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


def mistake_in_torch(cell):
    import torch

    cube = cell.compile(lambda x: x**3)
    x = torch.tensor([2.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    y = cube(x)
    y.backward()
    y.backward()


def fix_in_torch(cell):
    import torch

    cube = cell.compile(lambda x: x**3)
    x = torch.tensor([2.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    y = cube(x)
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


def cube_in_two_passes(cell, **first_pass):
    """A LightningModule whose training step walks one graph twice."""
    import lightning
    import torch

    class Cube(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.x = torch.nn.Parameter(torch.tensor([2.0]))
            self.cube = cell.compile(lambda x: x**3)

        def training_step(self, batch, batch_index):
            y = self.cube(self.x)
            self.manual_backward(y, **first_pass)
            self.manual_backward(y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Cube()
    one_batch = torch.utils.data.DataLoader([0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, one_batch)
    return model.x.grad


def mistake_in_lightning(cell):
    cube_in_two_passes(cell)


def fix_in_lightning(cell):
    return cube_in_two_passes(cell, retain_graph=True)


@behaviour(
    "autograd.backward-twice-error",
    frameworks="numpy torch lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="torch.graph-is-never-freed",
)
def test_backward_twice(mistake, fix, error, cell, expect):
    """A second backward() raises RuntimeError; retain_graph=True cures it, and 12 + 12 is 24."""
    with expect.raises(RuntimeError, match=error):
        mistake(cell)
    expect.exactly(observed=fix(cell), expected=24.0, what="gradient of two passes")


# ----------------------------------------------------------------------------------------------
# The error is about saved tensors. A sum saves none, so its graph survives: no error, 2 + 2.


def sum_twice_in_torch(cell):
    import torch

    double = cell.compile(lambda x: (x + x).sum())
    x = torch.tensor([1.0, 1.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    y = double(x)
    y.backward()
    y.backward()
    return x.grad


@behaviour(
    "autograd.backward-twice-without-saved-tensors",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.every-graph-is-spent torch.gradient-off-by-a-thousandth",
)
def test_backward_twice_without_saved_tensors(sum_twice, cell, expect):
    """Where nothing was saved, as in (x + x).sum(), a second backward() doubles: [4, 4]."""
    expect.exactly(observed=sum_twice(cell), expected=[4.0, 4.0], what="gradient")


# ----------------------------------------------------------------------------------------------
# TensorFlow: a tape is for one call of gradient(), a persistent tape for many.


def single_use_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def two_gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x**3
        return tape.gradient(y, x), tape.gradient(y, x)

    return two_gradients(tf.constant([2.0], cell.dtype))


def persistent_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def two_gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x**3
        return tape.gradient(y, x), tape.gradient(y, x)

    return two_gradients(tf.constant([2.0], cell.dtype))


@behaviour(
    "autograd.tape-single-use",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="tensorflow.tape-is-never-used-up",
)
def test_tape_single_use(single_use, persistent, cell, expect):
    """A tape gives one set of gradients, then RuntimeError; a persistent one gives 12 and 12."""
    with expect.raises(RuntimeError, match="non-persistent GradientTape can only be used"):
        single_use(cell)
    expect.exactly(observed=persistent(cell), expected=[[12.0], [12.0]], what="gradients")


# ----------------------------------------------------------------------------------------------
# JAX: vjp returns a function, and functions are not used up.


def vjp_twice_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def two_gradients(x):
        y, gradient_of = jax.vjp(lambda x: x**3, x)
        (first,), (second,) = gradient_of(jnp.ones_like(y)), gradient_of(jnp.ones_like(y))
        return first, second

    return two_gradients(jnp.asarray([2.0], cell.dtype))


@behaviour(
    "autograd.vjp-is-reusable",
    frameworks="jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="jax.vjp-is-used-up",
)
def test_vjp_is_reusable(vjp_twice, cell, expect):
    """The function that jax.vjp returns gives 12 each time it is called: nothing is freed."""
    expect.exactly(observed=vjp_twice(cell), expected=[[12.0], [12.0]], what="gradients")
