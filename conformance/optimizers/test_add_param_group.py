"""add_param_group: parameters that join later are trained like all others.

Who fine-tunes trains the head first; then the layers below are unfrozen and added to the same
optimizer. They begin with a state of their own: their first step is that of a new optimizer. With
learning rate 1/2 and gradients of 1:

    step       0    1    2
    SGD       1/2  1/2  1/2        the layers join after step 0, their steps 1 and 2 are
    Adagrad   1/2  0.35 0.29       those that the head took as its steps 0 and 1
    Adam      1/2  1/2  1/2

Adagrad divides by the root of the sum of all squares so far, 1, 2, 3; Adam corrects its averages
by the number of steps that the parameter itself has taken.

Sources: class 131, common mistake 4;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html,
https://github.com/pytorch/pytorch/issues/53712
"""

from math import sqrt

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated

STEPS = {
    "SGD": [1 / 2, 1 / 2, 1 / 2],
    "Adam": [1 / 2, 1 / 2, 1 / 2],
    "Adagrad": [1 / 2, 1 / sqrt(2) / 2, 1 / sqrt(3) / 2],
}


def steps_in_torch(cell, name):
    """The steps of the head, and those of the layers that join after its first."""
    import torch

    head, layers = (torch.zeros(1, dtype=cell.dtype, device=cell.device) for _ in range(2))
    optimizer = getattr(torch.optim, name)([head], lr=0.5)
    steps = []
    for epoch in range(3):
        for weight in (head, layers):
            weight.zero_()
            weight.grad = torch.full_like(weight, -1)
        optimizer.step()
        steps.append([head.item(), layers.item()])
        if epoch == 0:
            optimizer.add_param_group({"params": [layers]})
    of_head, of_layers = zip(*steps, strict=True)
    return list(of_head), list(of_layers)


@behaviour(
    "optimizers.add-param-group",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.adagrad-leaves-out-joined-groups",
)
def test_add_param_group(steps, cell, expect):
    """Parameters that join after a step stay where they are in it, and then begin from the start.

    Ten roundings: Adam's two averages, two corrections, root, quotients and product. Its epsilon
    of 1e-8 (Adagrad's is 1e-10) stands beside a root of 1, and in 1 - beta2 = 1/1000 four roundings
    of numbers near 1, in float64, weigh a thousand times as much.
    """
    bound = Bound(
        relative=accumulated(10, cell.precision) + 1e-8 + accumulated(4000, "float64"),
        because=f"10 roundings in {cell.precision}, epsilon beside 1, and 1 - beta2 in float64",
    )
    for name, expected in STEPS.items():
        head, layers = steps(cell, name)
        expect.within(bound, observed=head, expected=expected, what=f"steps of the head, {name}")
        expect.within(
            bound,
            observed=layers,
            expected=[0.0, *expected[:2]],
            what=f"steps of the layers that joined, {name}",
        )
