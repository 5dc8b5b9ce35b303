"""Derivatives of derivatives: a gradient that was itself recorded can be differentiated again.

    torch        autograd.grad(..., create_graph=True) records the backward pass
    TensorFlow   a tape inside a tape: the outer one records what the inner one computes
    JAX          grad of grad; jax.hessian for all second derivatives at once

Sources: class 122, exercise 2 and learning outcome 2; class 114, learning outcome 2 (Hessian);
https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html,
https://www.tensorflow.org/guide/advanced_autodiff,
https://docs.jax.dev/en/latest/_autosummary/jax.hessian.html
"""

from fixtures.matrix import behaviour
from fixtures.precision import unit_roundoff

# ----------------------------------------------------------------------------------------------
# x³ at 2 and -2: 3x² = (12, 12), 6x = (12, -12), 6 = (6, 6).

X = [2.0, -2.0]


def derivatives_in_torch(cell):
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    y = x**3
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    return first, second, third


def derivatives_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def derivatives(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as middle:
                middle.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = x**3
                first = inner.gradient(y, x)
            second = middle.gradient(first, x)
        return first, second, outer.gradient(second, x)

    return derivatives(tf.constant(X, cell.dtype))


def derivatives_in_jax(cell):
    import jax
    import jax.numpy as jnp

    first = jax.grad(lambda x: x**3)
    second = jax.grad(first)
    third = jax.grad(second)

    @cell.compile
    def derivatives(x):
        return jax.vmap(first)(x), jax.vmap(second)(x), jax.vmap(third)(x)

    return derivatives(jnp.asarray(X, cell.dtype))


@behaviour(
    "autograd.second-derivative",
    frameworks="torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "others": "eager compiled"},
    catches="torch.third-derivative-wrong torch.second-derivative-off-by-a-thousandth "
    "tensorflow.compiled-gradient-off-by-a-thousandth jax.nested-grad-off-by-a-thousandth",
)
def test_second_derivative(derivatives, cell, expect):
    """x³ at x = 2 and -2 has the derivatives 3x² = 12, 12, then 6x = 12, -12, then 6, 6, exactly.

    torch is eager here: torch.compile does not differentiate a compiled graph twice.
    """
    first, second, third = derivatives(cell)
    expect.exactly(observed=first, expected=[12.0, 12.0], what="first derivative")
    expect.exactly(observed=second, expected=[12.0, -12.0], what="second derivative")
    expect.exactly(observed=third, expected=[6.0, 6.0], what="third derivative")


# ----------------------------------------------------------------------------------------------
# x² y + 3 x y²: [[2y, 2x + 6y], [2x + 6y, 6x]], which is [[6, 22], [22, 12]] at (2, 3). Here x is
# 2 + 64u, with u the unit roundoff: 22 + 128u and 12 + 384u need all but a few digits of the
# precision, and are lost where a derivative passes through a coarser one.


def hessian_point(cell):
    return [2 + 64 * unit_roundoff(cell.precision), 3.0]


def hessian_in_torch(cell):
    import torch

    point = torch.tensor(
        hessian_point(cell), dtype=cell.dtype, device=cell.device, requires_grad=True
    )
    x, y = point
    polynomial = x * x * y + 3 * x * y * y
    (gradient,) = torch.autograd.grad(polynomial, point, create_graph=True)
    rows = [torch.autograd.grad(part, point, retain_graph=True)[0] for part in gradient]
    return torch.stack(rows)


def hessian_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def hessian(point):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                x, y = tf.unstack(point)
                polynomial = x * x * y + 3 * x * y * y
            parts = tf.unstack(inner.gradient(polynomial, point))
        return tf.stack([outer.gradient(part, point) for part in parts])

    return hessian(tf.constant(hessian_point(cell), cell.dtype))


def hessian_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def polynomial(point):
        x, y = point
        return x * x * y + 3 * x * y * y

    return cell.compile(jax.hessian(polynomial))(jnp.asarray(hessian_point(cell), cell.dtype))


@behaviour(
    "autograd.hessian",
    frameworks="torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "others": "eager compiled"},
    costly="jax-*-float64-eager jax-*float16-eager",
    catches="torch.second-derivative-off-by-a-thousandth "
    "tensorflow.compiled-gradient-off-by-a-thousandth jax.hessian-is-triangular "
    "torch.grad-through-float32 tensorflow.gradient-through-bfloat16 "
    "jax.hessian-through-bfloat16",
)
def test_hessian(hessian, cell, expect):
    """The Hessian of x² y + 3 x y² at (x, 3) is [[6, 2x + 18], [2x + 18, 6x]], exactly.

    At x = 2 + 64u, so that 2x + 18 and 6x use nearly all digits of the precision and still fit it.
    """
    x, _ = hessian_point(cell)
    expected = [[6.0, 2 * x + 18], [2 * x + 18, 6 * x]]
    expect.exactly(observed=hessian(cell), expected=expected, what="Hessian")


# ----------------------------------------------------------------------------------------------
# The common mistake: the first gradient was not recorded, so there is nothing to differentiate.


def mistake_in_torch(cell):
    import torch

    x = torch.tensor(2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    (first,) = torch.autograd.grad(x**3, x)
    torch.autograd.grad(first, x)


def fix_in_torch(cell):
    import torch

    x = torch.tensor(-2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    return torch.autograd.grad(first, x)[0]


@behaviour(
    "autograd.create-graph-missing",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.grad-always-creates-a-graph torch.second-derivative-off-by-a-thousandth",
)
def test_create_graph_missing(mistake, fix, cell, expect):
    """Without create_graph=True the gradient is a constant: differentiating it is an error.

    With it the second derivative of x³ at -2 is -12.
    """
    with expect.raises(RuntimeError, match="does not require grad"):
        mistake(cell)
    expect.exactly(observed=fix(cell), expected=-12.0, what="second derivative")
