"""zero_grad: gradients accumulate until somebody clears them.

torch adds each backward pass to `.grad`. That is a feature (large batches in pieces) and the most
common mistake of a hand-written loop: without `zero_grad` step k uses the sum of all gradients so
far. TensorFlow and JAX return a fresh gradient from every call, so there is nothing to forget.

Sources: class 121, common mistake 2 and question 3; class 122, definition of zero_grad and common
mistake 1; https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.zero_grad,
https://lightning.ai/docs/pytorch/stable/common/optimization.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# backward() adds into .grad: x² at 3 has the gradient 2x = 6.


def gradients_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([3.0], cell.dtype), requires_grad=True)
    seen = []
    for _ in range(3):
        (x**2).backward()
        seen.append(x.grad.copy())
    x.grad = None
    (x**2).backward()
    return [*seen, x.grad]


def gradients_in_torch(cell):
    import torch

    @cell.compile
    def square(x):
        return x**2

    x = torch.tensor([3.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    seen = []
    for _ in range(3):
        square(x).backward()
        seen.append(x.grad.clone())
    x.grad = None
    square(x).backward()
    return [*seen, x.grad]


def gradients_in_lightning(cell):
    """With manual optimization the loop belongs to the user, and so does clearing."""
    import lightning
    import torch

    class Square(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.x = torch.nn.Parameter(torch.tensor([3.0]))
            self.square = cell.compile(lambda x: x**2)
            self.seen = []

        def training_step(self, batch, batch_index):
            if batch_index == 3:
                self.optimizers().zero_grad()
            self.manual_backward(self.square(self.x))
            self.seen.append(self.x.grad.clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Square()
    four_batches = torch.utils.data.DataLoader([0, 0, 0, 0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, four_batches)
    return model.seen


@behaviour(
    "autograd.gradients-accumulate",
    frameworks="numpy torch lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="torch.backward-overwrites-gradients torch.zero-grad-does-nothing[lightning-*]",
)
def test_gradients_accumulate(gradients, cell, expect):
    """backward() adds to .grad: d(x²)/dx at 3 reads 6, 12, 18, and 6 again once it was cleared."""
    expect.exactly(observed=gradients(cell), expected=[[6.0], [12.0], [18.0], [6.0]])


# ----------------------------------------------------------------------------------------------
# What TensorFlow and JAX do instead.


def fresh_gradients_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.Variable([3.0], dtype=cell.dtype)

    @cell.compile
    def gradient():
        with tf.GradientTape() as tape:
            y = x**2
        return tape.gradient(y, x)

    return [gradient() for _ in range(3)]


def fresh_gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradient = cell.compile(jax.grad(lambda x: x**2))
    x = jnp.asarray(3.0, cell.dtype)
    return [gradient(x).reshape(1) for _ in range(3)]


@behaviour(
    "autograd.gradients-are-fresh",
    frameworks="tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="jax.gradients-accumulate jax.compiled-gradient-off-by-a-thousandth "
    "tensorflow.compiled-gradient-off-by-a-thousandth",
)
def test_gradients_are_fresh(fresh_gradients, cell, expect):
    """tape.gradient and jax.grad never accumulate: d(x²)/dx at 3 reads 6, 6, 6."""
    expect.exactly(observed=fresh_gradients(cell), expected=[[6.0], [6.0], [6.0]])


# ----------------------------------------------------------------------------------------------
# The common mistake. loss = w has the gradient 1, so with learning rate 1 a correct step is -1.
# Without zero_grad step k uses the gradient k: -1, -2, -3, -4.


def mistake_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], learning_rate=1.0)
    for _ in range(4):
        w.sum().backward()
        optimizer.step()
    return w


def fix_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], learning_rate=1.0)
    for _ in range(4):
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()
    return w


def mistake_in_torch(cell):
    import torch

    loss = cell.compile(lambda w: w.sum())
    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    for _ in range(4):
        loss(w).backward()
        optimizer.step()
    return w


def fix_in_torch(cell):
    import torch

    loss = cell.compile(lambda w: w.sum())
    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    for _ in range(4):
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
    return w


def mistake_in_lightning(cell):
    """Manual optimization, and nobody calls zero_grad."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.loss = cell.compile(lambda w: w.sum())

        def training_step(self, batch, batch_index):
            self.manual_backward(self.loss(self.w))
            self.optimizers().step()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Line()
    four_batches = torch.utils.data.DataLoader([0, 0, 0, 0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, four_batches)
    return model.w


def fix_in_lightning(cell):
    """Automatic optimization: the Trainer itself calls zero_grad, backward and step."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.loss = cell.compile(lambda w: w.sum())

        def training_step(self, batch, batch_index):
            return self.loss(self.w)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Line()
    four_batches = torch.utils.data.DataLoader([0, 0, 0, 0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, four_batches)
    return model.w


@behaviour(
    "training-loop.zero-grad-missing",
    frameworks="numpy torch lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="torch.zero-grad-does-nothing torch.backward-overwrites-gradients",
)
def test_zero_grad_missing(mistake, fix, cell, expect):
    """Without zero_grad, four steps of -1 go to -(1+2+3+4) = -10; with it they go to -4."""
    expect.exactly(observed=mistake(cell), expected=-10.0, what="w without zero_grad")
    expect.exactly(observed=fix(cell), expected=-4.0, what="w with zero_grad")


# ----------------------------------------------------------------------------------------------
# zero_grad in the wrong place: after backward it erases what step was to use.


def too_late_in_torch(cell):
    import torch

    loss = cell.compile(lambda w: w.sum())
    w = torch.ones(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    for _ in range(4):
        loss(w).backward()
        optimizer.zero_grad()
        optimizer.step()
    return w


def too_late_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.ones(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], learning_rate=1.0)
    for _ in range(4):
        w.sum().backward()
        optimizer.zero_grad()
        optimizer.step()
    return w


@behaviour(
    "training-loop.zero-grad-placement",
    frameworks="numpy torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="torch.zero-grad-does-nothing",
)
def test_zero_grad_placement(too_late, cell, expect):
    """zero_grad between backward and step erases the gradients: w stays at 1, nothing is learnt."""
    expect.exactly(observed=too_late(cell), expected=1.0, what="w")


# ----------------------------------------------------------------------------------------------
# None or zeros? With momentum 1/2 the first step leaves velocity 1. A gradient of None skips the
# parameter; a gradient of zeros does not, and the velocity carries w on by 1/2. There are two
# parameters, in torch each in a group of its own: zero_grad clears them all.


def w_after_two_steps_in_torch(cell, **how):
    import torch

    w, v = (
        torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True) for _ in range(2)
    )
    groups = [{"params": [w]}, {"params": [v]}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.5)
    loss = cell.compile(lambda w, v: w.sum() + v.sum())
    loss(w, v).backward()
    optimizer.step()
    optimizer.zero_grad(**how)
    gradients = w.grad, v.grad
    optimizer.step()
    return gradients, (w, v)


def w_after_two_steps_in_numpy(cell, **how):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w, v = (Tensor(np.zeros(1, cell.dtype), requires_grad=True) for _ in range(2))
    optimizer = SGD([w, v], learning_rate=1.0, momentum=0.5)
    (w.sum() + v.sum()).backward()
    optimizer.step()
    optimizer.zero_grad(**how)
    gradients = w.grad, v.grad
    optimizer.step()
    return gradients, (w, v)


@behaviour(
    "training-loop.zero-grad-sets-none",
    frameworks="numpy torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="torch.zero-grad-does-nothing torch.zero-grad-keeps-zeros "
    "torch.zero-grad-clears-the-first-group-only[*-eager]",
)
def test_zero_grad_sets_none(w_after_two_steps, cell, expect):
    """zero_grad() sets .grad to None (since torch 2.0), and None means: skip this parameter.

    With set_to_none=False the gradient is zero, and momentum still moves w, from -1 to -1.5.
    """
    gradients, w = w_after_two_steps(cell)
    expect.exactly(observed=gradients, expected=(None, None), what="gradients after zero_grad()")
    expect.exactly(observed=w, expected=[[-1.0], [-1.0]], what="w after zero_grad() and a step")

    gradients, w = w_after_two_steps(cell, set_to_none=False)
    zeros = [[0.0], [0.0]]
    expect.exactly(observed=gradients, expected=zeros, what="gradients after set_to_none=False")
    expect.exactly(
        observed=w, expected=[[-1.5], [-1.5]], what="w after set_to_none=False and a step"
    )


# ----------------------------------------------------------------------------------------------
# Of the model or of the optimizer? The optimizer has the head alone, the body is frozen in it. Both
# get a gradient of 1 from each backward pass.


def cleared_by_in_torch(cell, whose, **how):
    """(gradient of the body, of the head) after a pass and a zero_grad, and after another pass."""
    import torch

    model = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)), torch.nn.Linear(1, 1, bias=False)
    ).to(cell.device, cell.dtype)
    body, head = model.parameters()
    torch.nn.init.ones_(body)
    torch.nn.init.ones_(head)
    optimizer = torch.optim.SGD([head], lr=1.0)
    x = torch.ones(1, 1, dtype=cell.dtype, device=cell.device)
    model(x).backward()
    {"model": model, "optimizer": optimizer}[whose].zero_grad(**how)
    cleared = [None if weight.grad is None else weight.grad.item() for weight in (body, head)]
    model(x).backward()
    return cleared, [body.grad.item(), head.grad.item()]


@behaviour(
    "training-loop.zero-grad-of-the-model",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.module-zero-grad-halves torch.zero-grad-does-nothing",
)
def test_zero_grad_of_the_model(cleared_by, cell, expect):
    """model.zero_grad() clears all parameters, optimizer.zero_grad() those it was given.

    The body, which the optimizer does not have, keeps its gradient of 1 and comes to 2. Either way
    set_to_none=False leaves a gradient of 0 where there would be None.
    """
    for how, nothing in (({}, None), ({"set_to_none": False}, 0.0)):
        cleared, again = cleared_by(cell, "model", **how)
        what = f"zero_grad({', '.join(f'{name}={value}' for name, value in how.items())})"
        expect.exactly(observed=cleared, expected=[nothing] * 2, what=f"after model.{what}")
        expect.exactly(observed=again, expected=[1.0, 1.0], what=f"a pass after model.{what}")

        cleared, again = cleared_by(cell, "optimizer", **how)
        expect.exactly(observed=cleared, expected=[1.0, nothing], what=f"after optimizer.{what}")
        expect.exactly(observed=again, expected=[2.0, 1.0], what=f"a pass after optimizer.{what}")
