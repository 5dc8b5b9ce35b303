"""DistributedDataParallel: one model in several processes, and one gradient.

Every process (rank) holds a replica of the model and its own part of the batch. When a replica is
wrapped, rank 0's weights are copied to all; during backward the gradients are averaged over the
ranks. So equal parts train as one process with the whole batch would, step by step. With unequal
parts the average of the ranks' means is not the mean of all samples (see reference/sharding.py).

Here two processes on one machine talk through gloo, and meet through a file.

Sources: class 172, definitions 1, 2 and 6, topic 1, exercises 3 and 4, learning outcome 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html,
https://docs.pytorch.org/docs/stable/notes/ddp.html
"""

import functools

import numpy as np
import pytest

from conformance.distributed.regression import LEARNING_RATE, START, parts_of_steps
from fixtures.isolation.children import ChildFailed, run_in_children
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.sharding import average_gradient, average_magnitude, gradient, train, train_error

# One step rounds a product and two sums (3), the residual and its double over n (3), the sum over
# at most 5 rows (5), the average over two ranks (2), the product with the rate and the step (2).
ROUNDINGS = 15

AS_JSON = "numbers came back from another process as Python floats"

# ----------------------------------------------------------------------------------------------
# What each of the two processes does. A step is [[x, y] of rank 0, [x, y] of rank 1].


def initial_weights(rank, dtype, device):
    """Every process starts elsewhere; wrapping makes them equal."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(device, dtype)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(rank + 1)
    torch.nn.parallel.DistributedDataParallel(model)
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


def replica(dtype, device):
    import torch

    model = torch.nn.Linear(3, 1, bias=False, dtype=dtype, device=device)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([START]))
    return torch.nn.parallel.DistributedDataParallel(model)


def training(rank, dtype, device, steps):
    """The usual loop, on this rank's part of every batch."""
    import torch

    model = replica(dtype, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    gradients, weights = [], []
    for parts in steps:
        x, y = (torch.tensor(part, dtype=dtype, device=device) for part in parts[rank])
        optimizer.zero_grad()
        loss = torch.mean((model(x).squeeze(1) - y) ** 2)
        loss.backward()
        gradients.append(model.module.weight.grad[0].tolist())
        optimizer.step()
        weights.append(model.module.weight[0].tolist())
    return {"gradients": gradients, "weights": weights}


def accumulation(rank, dtype, device, steps):
    """Two halves of this rank's part: the first without communication, the second with it."""
    import torch

    model = replica(dtype, device)
    found = []
    for parts in steps:
        x, y = (torch.tensor(part, dtype=dtype, device=device) for part in parts[rank])
        model.zero_grad()
        with model.no_sync():
            (torch.mean((model(x[:2]).squeeze(1) - y[:2]) ** 2) / 2).backward()
        local = model.module.weight.grad[0].tolist()
        (torch.mean((model(x[2:]).squeeze(1) - y[2:]) ** 2) / 2).backward()
        found.append({"local": local, "final": model.module.weight.grad[0].tolist()})
    return found


def all_reduced(rank, dtype, device):
    """Rank 0 brings [1, 10], rank 1 brings [3, 30]."""
    import torch

    total = torch.tensor([1 + 2 * rank, 10 + 20 * rank], dtype=dtype, device=device)
    torch.distributed.all_reduce(total)
    mean = total / torch.distributed.get_world_size()
    return total.tolist(), mean.tolist()


def one_process(rank, world_size, store, precision, device, equal, unequal):
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size
    )
    dtype = getattr(torch, precision)
    try:
        return {
            "initial weights": initial_weights(rank, dtype, device),
            "training": training(rank, dtype, device, equal),
            "unequal parts": training(rank, dtype, device, unequal),
            "accumulation": accumulation(rank, dtype, device, equal),
            "all-reduced": all_reduced(rank, dtype, device),
        }
    finally:
        torch.distributed.destroy_process_group()


# ----------------------------------------------------------------------------------------------
# One pair of processes for all specs of a precision: starting them takes longer than their work.


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Precision, device -> what the processes of rank 0 and 1 returned, run once."""

    @functools.cache
    def outcome(precision, device):
        folder = tmp_path_factory.mktemp("ddp")
        shared = {
            "world_size": 2,
            "store": str(folder / "store"),
            "precision": precision,
            "device": device,
            "equal": parts_as_lists(parts_of_steps(precision, (4, 4))),
            "unequal": parts_as_lists(parts_of_steps(precision, (5, 3))),
        }
        calls = [{"rank": rank, **shared} for rank in range(2)]
        try:
            return run_in_children(one_process, calls, folder=folder)
        except ChildFailed as error:
            return error  # once is enough: the next spec need not wait for the same failure

    def run(precision, device):
        if device == "mps":
            pytest.skip("cannot-run: needs collectives for MPS (gloo has them for CPU and CUDA)")
        found = outcome(precision, device)
        if isinstance(found, ChildFailed):
            raise found
        return found

    return run


def parts_as_lists(steps):
    return [[[x.tolist(), y.tolist()] for x, y in parts] for parts in steps]


def ranks_in_torch(cell, two_processes):
    return two_processes(cell.precision, cell.device_name)


@behaviour(
    "distributed.ddp-initial-broadcast",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    depth="standard",
    catches="torch.ddp-does-not-broadcast[*-float32-*] "
    "torch.ddp-broadcasts-no-buffers[*-float32-*]",
)
def test_ddp_initial_broadcast(ranks, two_processes, cell, expect):
    """Wrapping copies the parameters and buffers of rank 0 to every rank.

    Rank 0 had filled its with 1 and rank 1 with 2; afterwards all are 1, on both.
    """
    for rank, found in enumerate(ranks(cell, two_processes)):
        for name, values in found["initial weights"].items():
            what = f"{name} of rank {rank}"
            expect.exactly(observed=values, expected=[1] * len(values), what=what)


@behaviour(
    "distributed.ddp-gradient-average",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    depth="standard",
    catches="torch.ddp-averages-in-bfloat16[*-float32-*] "
    "torch.ddp-averages-the-first-step-alone[*-float64-*]",
)
def test_ddp_gradient_average(ranks, two_processes, cell, expect):
    """Two ranks with four rows each have the gradient of the eight rows, in each of three steps.

    And the weights after every step. Both ranks hold the same bits. The rows differ from rank to
    rank and from step to step; a rank's own gradient is far from the average. Fifteen roundings a
    step; `train_error` carries those of the steps before along.
    """
    steps = parts_of_steps(cell.precision, (4, 4))
    gamma = accumulated(ROUNDINGS, cell.precision)
    weights = train(steps, START, LEARNING_RATE)
    errors = train_error(steps, START, LEARNING_RATE, gamma)
    first, second = (found["training"] for found in ranks(cell, two_processes))
    for what in ("gradients", "weights"):
        expect.exactly(
            observed=second[what], expected=first[what], what=f"{what} of rank 1, as of rank 0"
        )
    expect.within(
        Bound(absolute=errors, because=f"{ROUNDINGS} roundings a step"),
        observed=np.array(first["weights"]),
        expected=weights,
        what="weights after each step",
        other_precision=AS_JSON,
    )
    rows = np.concatenate([x for x, _ in steps[0]]), np.concatenate([y for _, y in steps[0]])
    alone = np.abs(gradient(*steps[0][0], START) - gradient(*rows, START)).max()
    expect.at_least(observed=alone, least=0.1, what="how far rank 0 alone is from the average")
    expect.within(
        Bound(absolute=gamma * average_magnitude(steps[0], START), because="15 roundings"),
        observed=np.array(first["gradients"][0]),
        expected=gradient(*rows, START),
        what="gradient of the first step",
        other_precision=AS_JSON,
    )


@behaviour(
    "distributed.ddp-unequal-shards",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    depth="standard",
    catches="torch.ddp-sums-gradients[*-float32-*]",
)
def test_ddp_unequal_shards(ranks, two_processes, cell, expect):
    """Parts of 5 and 3 rows give the average of two means, not the mean of the eight rows.

    The common mistake of a last batch that does not divide evenly: rows of the smaller part weigh
    1/6 each, of the larger 1/10.
    """
    parts = parts_of_steps(cell.precision, (5, 3))[0]
    rows = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    expected = average_gradient(parts, START)
    for rank, found in enumerate(ranks(cell, two_processes)):
        observed = np.array(found["unequal parts"]["gradients"][0])
        expect.within(
            Bound(
                absolute=accumulated(ROUNDINGS, cell.precision) * average_magnitude(parts, START),
                because="15 roundings",
            ),
            observed=observed,
            expected=expected,
            what=f"gradient on rank {rank}",
            other_precision=AS_JSON,
        )
        bias = np.abs(observed - gradient(*rows, START)).max()
        expect.at_least(observed=bias, least=0.01, what="distance from the gradient of all rows")


@behaviour(
    "distributed.ddp-no-sync",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    depth="standard",
    catches="torch.no-sync-averages-all-the-same[*-float32-*] "
    "torch.no-sync-keeps-its-part-local[*-float32-*]",
)
def test_ddp_no_sync(ranks, two_processes, cell, expect):
    """Inside no_sync() gradients stay local; the next backward outside averages the whole sum.

    Two rows, then two more, each loss halved: half the mean gradient of the rank's own first two
    rows, then the gradient of all eight. The same on the second and third batch.
    """
    steps = parts_of_steps(cell.precision, (4, 4))
    gamma = accumulated(ROUNDINGS, cell.precision)
    for rank, found in enumerate(ranks(cell, two_processes)):
        for step, parts in enumerate(steps):
            x, y = parts[rank]
            half = (x[:2], y[:2])
            for what, expected, magnitude in (
                ("local", gradient(*half, START) / 2, average_magnitude([half], START) / 2),
                ("final", average_gradient(parts, START), average_magnitude(parts, START)),
            ):
                expect.within(
                    Bound(absolute=gamma * magnitude, because="15 roundings"),
                    observed=np.array(found["accumulation"][step][what]),
                    expected=expected,
                    what=f"{what} gradient of rank {rank}, batch {step}",
                    other_precision=AS_JSON,
                )


# ----------------------------------------------------------------------------------------------
# The collective under it all.


def reduced_in_torch(cell, two_processes):
    """Both ranks' (sum, mean)."""
    return [
        tuple(np.array(values) for values in found["all-reduced"])
        for found in two_processes(cell.precision, cell.device_name)
    ]


def reduced_in_jax(cell, two_processes):
    """The collectives of jax.lax work over any named axis, that of vmap too: no second device."""
    import jax
    import jax.numpy as jnp

    both = jnp.asarray([[1, 10], [3, 30]], cell.dtype)
    total = jax.vmap(lambda x: jax.lax.psum(x, "replicas"), axis_name="replicas")(both)
    mean = jax.vmap(lambda x: jax.lax.pmean(x, "replicas"), axis_name="replicas")(both)
    return list(zip(total, mean, strict=True))


@behaviour(
    "distributed.all-reduce-sums-by-default",
    frameworks="torch jax",
    precisions="float64 float32",
    modes="eager",
    depth="standard",
    catches="torch.all-reduce-averages-by-default[*-float32-*] jax.psum-averages jax.pmean-adds",
)
def test_all_reduce_sums_by_default(reduced, two_processes, cell, expect):
    """all_reduce of [1, 10] and [3, 30] is [4, 40] everywhere: a sum. Averaging is another step.

    torch divides by the world size, as DDP does for you; JAX has psum and pmean.
    """
    for rank, (total, mean) in enumerate(reduced(cell, two_processes)):
        expect.exactly(
            observed=total,
            expected=np.array([4.0, 40]),
            what=f"sum on rank {rank}",
            other_precision=AS_JSON,
        )
        expect.exactly(
            observed=mean,
            expected=np.array([2.0, 20]),
            what=f"mean on rank {rank}",
            other_precision=AS_JSON,
        )
