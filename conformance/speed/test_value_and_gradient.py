"""What jax.jit gains on a numerical function and its gradient.

Without jit, JAX traces the gradient anew at each call and runs its operations one by one; under jit
it is traced once, and each call is one dispatch of one compiled program. On 100 rows of two numbers
there is nothing to compute, so the gain is the overhead itself and as large as it gets.
`test_large_matmul.py` is the opposite case.

Sources: class 120, homework; class 100, definitions (autograd); catalogue: speed.jax-jit;
https://docs.jax.dev/en/latest/201/jit.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

ROWS = np.sin(np.arange(200.0)).reshape(100, 2)
TARGETS = ROWS @ np.array([2.0, -3.0]) + 1.0


def variants_in_jax(cell):
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(ROWS, cell.dtype), jnp.asarray(TARGETS, cell.dtype)
    parameters = jnp.asarray([0.5, -0.5, 0.25], cell.dtype)

    def loss(parameters):
        return jnp.mean((x @ parameters[:2] + parameters[2] - y) ** 2)

    def value_and_gradient(parameters):
        value, gradient = jax.value_and_grad(loss)(parameters)
        return jnp.append(gradient, value)

    compiled = cell.compile(value_and_gradient)
    return (
        Variant("op by op", lambda: value_and_gradient(parameters)),
        Variant("jax.jit", lambda: compiled(parameters)),
    )


@claim(
    "speed.jax-jit",
    claimed="at least 5 times faster",
    low=5.0,
    source="class 120, homework",
    frameworks="jax",
    precisions="float32",
    modes="compiled",
)
def test_jax_jit(variants, cell, speed):
    """jax.jit makes a numerical function at least 5 times faster: a mean squared error, its value
    and its gradient.
    """
    # The sum over 100 rows, and ten roundings in each; an error is at most 7 and its square 50.
    speed.compare(*variants(cell), within=rounded(110, cell.precision, terms=50.0))
