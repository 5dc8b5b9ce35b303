"""What can be differentiated: a real scalar, with respect to real numbers.

jax.grad refuses a vector result and integer arguments with TypeError; torch's backward refuses them
with RuntimeError. Everything else is structure: `argnums` selects arguments, `value_and_grad`
returns the value too, `has_aux` passes something through, and a gradient is shaped like what it
belongs to, be it an array or a dict of arrays.

Sources: class 173, definition 3 and learning outcome 3;
https://docs.jax.dev/en/latest/_autosummary/jax.grad.html,
https://docs.jax.dev/en/latest/_autosummary/jax.value_and_grad.html,
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html,
https://docs.pytorch.org/docs/stable/generated/torch.func.grad_and_value.html
"""

import numpy as np

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# The loss is Σ (w·x + b - y)² over two samples, with w = (2, -1) and b = 3:
#   residuals r = (2 - 2 + 3 - 1, 0 - 1 + 3 - 4) = (2, -2) and loss 8,
#   dw = 2 Xᵀr = 2·(2, 4 - 2) = (4, 4), db = 2·(2 - 2) = 0, dx = 2 r wᵀ = [[8, -4], [-8, 4]].

X, Y = [[1.0, 2.0], [0.0, 1.0]], [1.0, 4.0]


def found_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def loss(parameters, x, y):
        residuals = x @ parameters["w"] + parameters["b"] - y
        return jnp.sum(residuals**2), residuals

    w, x, y = (jnp.asarray(array, cell.dtype) for array in ([2, -1], X, Y))
    parameters = {"w": w, "b": jnp.asarray(3, cell.dtype)}
    both = cell.compile(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, residuals), (gradients, dx) = both(parameters, x, y)
    return value, residuals, gradients, dx


def found_in_torch(cell):
    import torch

    def loss(parameters, x, y):
        residuals = x @ parameters["w"] + parameters["b"] - y
        return torch.sum(residuals**2), residuals

    w, x, y = (torch.tensor(a, dtype=cell.dtype, device=cell.device) for a in ([2, -1], X, Y))
    parameters = {"w": w, "b": torch.tensor(3, dtype=cell.dtype, device=cell.device)}
    both = cell.compile(torch.func.grad_and_value(loss, argnums=(0, 1), has_aux=True))
    (gradients, dx), (value, residuals) = both(parameters, x, y)
    return value, residuals, gradients, dx


def vector_in_jax(cell):
    import jax
    import jax.numpy as jnp

    jax.grad(lambda x: x**2)(jnp.asarray([1, 2], cell.dtype))


def vector_in_torch(cell):
    import torch

    x = torch.tensor([1, 2], dtype=cell.dtype, device=cell.device, requires_grad=True)
    (x**2).backward()


def integer_in_jax(cell):
    """The result is real, so that what is refused is the argument."""
    import jax

    jax.grad(lambda x: 0.5 * x**2)(3)


def integer_in_torch(cell):
    import torch

    torch.tensor(3, device=cell.device, requires_grad=True)


refusal_in_jax = TypeError
refusal_in_torch = RuntimeError


@behaviour(
    "jax.grad-requirements",
    frameworks="torch jax",
    precisions="float64 float32",
    modes={"torch": "eager", "jax": "eager compiled"},
    catches="torch.backward-adds-up-several-outputs jax.grad-adds-up-several-outputs "
    "jax.grad-takes-integers jax.value-and-grad-loses-the-auxiliary",
)
def test_grad_requirements(found, vector, integer, refusal, cell, expect):
    """A vector result and an integer argument are refused; gradients keep the structure.

    A loss of 8 with the residuals (2, -2): the dict of parameters has a dict of gradients, (4, 4)
    for w and 0 for b, and the samples have [[8, -4], [-8, 4]]. Small integers: nothing to round.
    """
    with expect.raises(refusal, match="scalar"):
        vector(cell)
    with expect.raises(refusal, match="(?i)floating|real"):
        integer(cell)

    value, residuals, gradients, dx = found(cell)
    expect.exactly(observed=value, expected=8.0, what="value")
    expect.exactly(observed=residuals, expected=np.array([2.0, -2]), what="what was passed through")
    expect.exactly(observed=sorted(gradients), expected=["b", "w"], what="parameters")
    expect.exactly(observed=gradients["w"], expected=np.array([4.0, 4]), what="gradient of w")
    expect.exactly(observed=gradients["b"], expected=0.0, what="gradient of b")
    expect.exactly(observed=dx, expected=np.array([[8.0, -4], [-8, 4]]), what="gradient of x")
