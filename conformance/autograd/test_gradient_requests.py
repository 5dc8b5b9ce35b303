"""What one may ask a gradient of, and with respect to what.

                                torch                     TensorFlow        JAX
    several outputs at once     RuntimeError              their sum's       TypeError
    a variable not in the loss  None; autograd.grad       None, or zeros    zeros
                                raises RuntimeError       on request

Sources: class 122, exercise 2 and learning outcome 2; class 121, common mistake 1 and definition of
tape.gradient; https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html,
https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html,
https://www.tensorflow.org/api_docs/python/tf/UnconnectedGradients,
https://docs.jax.dev/en/latest/_autosummary/jax.grad.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# Two outputs: x³ for x = (1, 2), whose derivatives are (3, 12).

refusal_in_numpy = (ValueError, "needs one number")
refusal_in_torch = (RuntimeError, "grad can be implicitly created only for scalar outputs")
refusal_in_jax = (TypeError, "Gradient only defined for scalar-output functions")


def mistake_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([1.0, 2.0], cell.dtype), requires_grad=True)
    (x**3).backward()


def fixes_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array([1.0, 2.0], cell.dtype), requires_grad=True)
    (x**3).sum().backward()
    of_the_sum, x.grad = x.grad, None
    (x**3).backward(np.array([1.0, -2.0], cell.dtype))
    return of_the_sum, x.grad


def mistake_in_torch(cell):
    import torch

    cube = cell.compile(lambda x: x**3)
    x = torch.tensor([1.0, 2.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    cube(x).backward()


def fixes_in_torch(cell):
    import torch

    cube = cell.compile(lambda x: x**3)
    x = torch.tensor([1.0, 2.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    cube(x).sum().backward()
    of_the_sum, x.grad = x.grad, None
    cube(x).backward(torch.tensor([1.0, -2.0], dtype=cell.dtype, device=cell.device))
    return of_the_sum, x.grad


def mistake_in_jax(cell):
    import jax
    import jax.numpy as jnp

    cell.compile(jax.grad(lambda x: x**3))(jnp.asarray([1.0, 2.0], cell.dtype))


def fixes_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def gradients(x):
        of_the_sum = jax.grad(lambda x: (x**3).sum())(x)
        _, gradient_of = jax.vjp(lambda x: x**3, x)
        return of_the_sum, *gradient_of(jnp.asarray([1.0, -2.0], cell.dtype))

    return gradients(jnp.asarray([1.0, 2.0], cell.dtype))


@behaviour(
    "autograd.nonscalar-backward-error",
    frameworks="numpy torch jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.backward-adds-up-several-outputs jax.grad-adds-up-several-outputs",
)
def test_nonscalar_backward_error(mistake, fixes, refusal, cell, expect):
    """The gradient of two outputs is refused; that of their sum, or with weights, is given.

    x³ at (1, 2): sum, (3, 12); weights (1, -2), (3, -24). RuntimeError in torch, TypeError in JAX.
    """
    error, message = refusal
    with expect.raises(error, match=message):
        mistake(cell)
    expect.exactly(observed=fixes(cell), expected=[[3.0, 12.0], [3.0, -24.0]], what="gradients")


def of_two_outputs_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x**3
        weights = tf.constant([1.0, -2.0], x.dtype)
        return tape.gradient(y, x), tape.gradient(y, x, output_gradients=weights)

    return gradients(tf.constant([1.0, 2.0], cell.dtype))


@behaviour(
    "autograd.nonscalar-gradient-of-sum",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="tensorflow.gradient-of-several-outputs-is-their-mean "
    "tensorflow.compiled-gradient-off-by-a-thousandth",
)
def test_nonscalar_gradient_of_sum(of_two_outputs, cell, expect):
    """tape.gradient of two outputs is, without a word, the gradient of their sum: (3, 12).

    With output_gradients (1, -2) it is (3, -24).
    """
    expect.exactly(
        observed=of_two_outputs(cell), expected=[[3.0, 12.0], [3.0, -24.0]], what="gradients"
    )


# ----------------------------------------------------------------------------------------------
# A variable that the loss does not contain: a² at 3, and b.

unused_in_numpy = None
unused_in_torch = None
unused_in_tensorflow = None
unused_in_jax = 0.0


def gradients_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    a = Tensor(np.array(3.0, cell.dtype), requires_grad=True)
    b = Tensor(np.array(5.0, cell.dtype), requires_grad=True)
    (a * a).backward()
    return a.grad, b.grad


def gradients_in_torch(cell):
    import torch

    loss = cell.compile(lambda a, b: a * a)
    a = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    b = torch.tensor(5.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    loss(a, b).backward()
    return a.grad, b.grad


def gradients_in_tensorflow(cell):
    import tensorflow as tf

    a, b = tf.Variable(3.0, dtype=cell.dtype), tf.Variable(5.0, dtype=cell.dtype)

    @cell.compile
    def gradients():
        with tf.GradientTape() as tape:
            loss = a * a
        return tape.gradient(loss, [a, b])

    return gradients()


def gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradients = cell.compile(jax.grad(lambda a, b: a * a, argnums=(0, 1)))
    return gradients(jnp.asarray(3.0, cell.dtype), jnp.asarray(5.0, cell.dtype))


@behaviour(
    "autograd.unused-variable-gradient",
    frameworks="numpy torch tensorflow jax",
    precisions="float32",
    modes="eager compiled",
    catches="tensorflow.unconnected-gradients-are-zero jax.unused-argument-has-a-gradient "
    "torch.gradient-off-by-a-thousandth[*-eager]",
)
def test_unused_variable_gradient(gradients, unused, cell, expect):
    """a² at 3 has the gradient 6; that of a variable b not in it is None, or zero in JAX."""
    gradient_of_a, gradient_of_b = gradients(cell)
    expect.exactly(observed=gradient_of_a, expected=6.0, what="gradient of a")
    expect.exactly(observed=gradient_of_b, expected=unused, what="gradient of b")


def refused_in_torch(cell):
    import torch

    a = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    b = torch.tensor([5.0, 7.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    torch.autograd.grad(a * a, (a, b))


def allowed_in_torch(cell):
    import torch

    a = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    b = torch.tensor([5.0, 7.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    return torch.autograd.grad(a * a, (a, b), allow_unused=True)


@behaviour(
    "autograd.unused-variable-error",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.grad-allows-unused-inputs",
)
def test_unused_variable_error(refused, allowed, cell, expect):
    """torch.autograd.grad refuses an unused variable; with allow_unused=True it gives None."""
    with expect.raises(RuntimeError, match="not have been used in the graph"):
        refused(cell)
    gradient_of_a, gradient_of_b = allowed(cell)
    expect.exactly(observed=gradient_of_a, expected=6.0, what="gradient of a")
    expect.exactly(observed=gradient_of_b, expected=None, what="gradient of b")


def zeros_in_torch(cell):
    import torch

    a = torch.tensor(3.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    b = torch.tensor([5.0, 7.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    _, gradient_of_b = torch.autograd.grad(a * a, (a, b), materialize_grads=True)
    return gradient_of_b


def zeros_in_tensorflow(cell):
    import tensorflow as tf

    a, b = tf.Variable(3.0, dtype=cell.dtype), tf.Variable([5.0, 7.0], dtype=cell.dtype)

    @cell.compile
    def gradient():
        with tf.GradientTape() as tape:
            loss = a * a
        return tape.gradient(loss, b, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return gradient()


@behaviour(
    "autograd.unused-variable-zeros",
    frameworks="torch tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "others": "eager compiled"},
    catches="torch.materialized-gradients-are-float32 tensorflow.zero-gradients-have-no-shape",
)
def test_unused_variable_zeros(zeros, cell, expect):
    """On request the gradient of an unused variable is an array of zeros of its shape.

    materialize_grads=True in torch, UnconnectedGradients.ZERO in TensorFlow.
    """
    expect.exactly(observed=zeros(cell), expected=[0.0, 0.0], what="gradient of b")
