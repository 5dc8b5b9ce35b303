"""Dampening: how much of each gradient enters the velocity, the first one excepted.

torch's SGD takes an option that no other framework has. From the second step on only 1 - dampening
of the gradient enters the velocity; the first velocity is the whole gradient. With momentum 1/2,
dampening 1/4, learning rate 1 and gradients of 1:

    step         1      2                          3
    velocity     1      1/2 * 1 + 3/4 = 5/4        1/2 * 5/4 + 3/4 = 11/8
    weight      -1     -9/4                       -29/8

With dampening equal to momentum the velocity would be an average, if it were not for its start.

Sources: class 113, definition of momentum, topics 2;
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from fixtures.matrix import behaviour


def weights_in_numpy(cell):
    number = cell.dtype.type
    gradient, weight, velocity = number(1), number(0), None
    weights = []
    for _ in range(3):
        if velocity is None:
            velocity = gradient
        else:
            velocity = number(1 / 2) * velocity + number(1 - 1 / 4) * gradient
        weight = weight - velocity
        weights.append(weight)
    return weights


def weights_in_torch(cell, **implementation):
    import torch

    w = torch.zeros((), dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=1.0, momentum=0.5, dampening=0.25, **implementation)
    weights = []
    for _ in range(3):
        w.grad = torch.ones_like(w)
        optimizer.step()
        weights.append(w.clone())
    return weights


WEIGHTS = [-1.0, -9 / 4, -29 / 8]


@behaviour(
    "optimizers.dampening",
    frameworks="numpy torch",
    precisions={"numpy": "float64 float32 float16", "torch": "float64 float32 bfloat16 float16"},
    modes="eager",
    catches="torch.dampening-from-the-first-step torch.momentum-dampened-by-a-thousandth",
)
def test_dampening(weights, cell, expect):
    """The first velocity is the gradient, the others take 3/4 of it: w = -1, -9/4, -29/8."""
    expect.exactly(observed=weights(cell), expected=WEIGHTS, what="weights")


@behaviour(
    "optimizers.dampening-implementations",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.foreach-sgd-is-not-dampened",
)
def test_dampening_implementations(weights, cell, expect):
    """foreach=True, fused=True and neither are three implementations of the same steps."""
    for implementation in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        observed = weights(cell, **implementation)
        expect.exactly(observed=observed, expected=WEIGHTS, what=f"weights, {implementation}")
