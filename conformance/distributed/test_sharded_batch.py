"""Data parallelism in JAX: the batch is divided among the devices, the program stays the same.

An array can lie on several devices, a part on each (its sharding). A jitted function of such arrays
runs on all of them, and the compiler adds the communication: the mean over a sharded batch is the
mean over the whole. `pmap` is the older way, by hand: every device computes the gradient of its own
part, and `pmean` averages.

The two devices here are one CPU, seen as two.

Sources: class 172, definition 1; class 173, definition 5 and common mistake 3;
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html,
https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html
"""

import os

import numpy as np
import pytest

from conformance.distributed.regression import LEARNING_RATE, START, parts_of_steps
from fixtures.isolation.children import run_in_children
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.sharding import train, train_error

# One step rounds a product and two sums (3), the residual and its double over n (3), the sum over
# 8 rows or over 4 and 2 parts (8), the product with the rate and the step (2).
ROUNDINGS = 16


def sharded_training(precision, steps):
    """In a process of its own. steps: for each of three steps [x, y] of its eight rows."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    entries = []

    def mean_squared_error(w, x, y):
        entries.append(len(x))
        return jnp.mean((x @ w - y) ** 2)

    def step(w, x, y):
        return w - LEARNING_RATE * jax.grad(mean_squared_error)(w, x, y)

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["batch"], []))
    compiled = jax.jit(step)
    w = jax.device_put(jnp.asarray(START, precision), everywhere)
    by_compiler = []
    for x, y in steps:
        x, y = (jax.device_put(jnp.asarray(part, precision), rows) for part in (x, y))
        w = compiled(w, x, y)
        copies = [shard.data.tolist() for shard in w.addressable_shards]
        parts = [len(shard.data) for shard in x.addressable_shards]
        by_compiler.append({"copies": copies, "rows": parts, "traced": len(entries)})

    def step_by_hand(w, x, y):
        gradient = jax.grad(mean_squared_error)(w, x, y)
        return w - LEARNING_RATE * jax.lax.pmean(gradient, "batch")

    entries.clear()
    compiled = jax.pmap(step_by_hand, axis_name="batch")
    w = jnp.stack(2 * [jnp.asarray(START, precision)])
    by_hand = []
    for x, y in steps:
        w = compiled(
            w, jnp.asarray(x, precision).reshape(2, 4, 3), jnp.asarray(y, precision).reshape(2, 4)
        )
        by_hand.append({"copies": w.tolist(), "rows": [4, 4], "traced": len(entries)})
    return {"devices": len(jax.devices()), "jit": by_compiler, "pmap": by_hand}


def sharded_in_jax(cell, folder):
    cell.compiles_itself("distributed.jax-data-parallel-gradient")
    steps = parts_of_steps(cell.precision, (8,))
    two_devices = "--xla_force_host_platform_device_count=2"
    [found] = run_in_children(
        sharded_training,
        [{"precision": cell.precision, "steps": [[x.tolist(), y.tolist()] for [(x, y)] in steps]}],
        folder=folder,
        environment={
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": str(int(cell.precision == "float64")),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {two_devices}".strip(),
        },
    )
    return found


@behaviour(
    "distributed.jax-data-parallel-gradient",
    frameworks="jax",
    precisions="float64 float32",
    modes="compiled",
    depth="standard",
    catches="jax.pmean-adds[*-float32-*] jax.pmap-through-float32 "
    "jax.replicas-drift-apart[*-float32-*]",
)
def test_jax_data_parallel_gradient(sharded, cell, expect, tmp_path):
    """Eight rows on two devices, four on each, train as eight rows on one do, for three steps.

    With jit of a sharded batch, and with pmap and pmean. Both devices hold the same weights, bit
    for bit, and the last step is traced no more. Sixteen roundings a step; `train_error` carries
    those of the steps before along.
    """
    if cell.device_name != "cpu":
        pytest.skip(f"cannot-run: needs two {cell.device_name} devices (a CPU can be seen as two)")
    found = sharded(cell, tmp_path)
    expect.exactly(observed=found["devices"], expected=2, what="number of devices")
    steps = parts_of_steps(cell.precision, (8,))
    expected = train(steps, START, LEARNING_RATE)
    gamma = accumulated(ROUNDINGS, cell.precision)
    errors = train_error(steps, START, LEARNING_RATE, gamma)
    for how in ("jit", "pmap"):
        for after in found[how]:
            first, second = after["copies"]
            expect.exactly(observed=after["rows"], expected=[4, 4], what=f"rows by device, {how}")
            expect.exactly(observed=second, expected=first, what=f"second copy, {how}")
        *_, before, now = (after["traced"] for after in found[how])
        expect.exactly(observed=now, expected=before, what=f"traces after the last step, {how}")
        expect.within(
            Bound(absolute=errors, because=f"{ROUNDINGS} roundings a step"),
            observed=np.array([after["copies"][0] for after in found[how]]),
            expected=expected,
            what=f"weights after each step, {how}",
            other_precision="numbers came back from another process as Python floats",
        )
