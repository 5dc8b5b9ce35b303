"""gradient_clip_val: the norm of all gradients together, or each number by itself.

Two parameters with the constant gradients (2, 3) and 6: together a vector of norm
sqrt(4 + 9 + 36) = 7. With learning rate 1 one step moves the weights by minus the clipped gradient.

    clipped to norm 3.5          every number halved                 1, 1.5, 3
    clipped to value 2.5         what is larger is cut off           2, 2.5, 2.5
    clipped to norm 8            nothing: the norm is smaller        2, 3, 6

Norms of one parameter at a time would be 3.6 and 6, and the step another.

Sources: class 111, question 4; class 121, exercise 3;
https://lightning.ai/docs/pytorch/stable/advanced/training_tricks.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated

GRADIENTS = ((2.0, 3.0), (6.0,))


def weights_in_torch(cell, clip_val, algorithm="norm"):
    import torch

    clip = {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}
    gradients = [
        torch.tensor(gradient, dtype=cell.dtype, device=cell.device) for gradient in GRADIENTS
    ]
    weights = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        sum((g * w).sum() for g, w in zip(gradients, weights, strict=True)).backward()
        clip[algorithm](weights, clip_val)
        optimizer.step()
    return torch.cat(weights)


def weights_in_lightning(cell, clip_val, algorithm=None):
    import lightning
    import torch

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.two = torch.nn.Parameter(torch.zeros(2))
            self.one = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            of_two, of_one = (self.two.new_tensor(gradient) for gradient in GRADIENTS)
            return (of_two * self.two).sum() + (of_one * self.one).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Linear()
    lightning.Trainer(
        max_epochs=1,
        gradient_clip_val=clip_val,
        gradient_clip_algorithm=algorithm,
        **cell.trainer_options,
    ).fit(model, torch.utils.data.DataLoader([0, 0]))
    return torch.cat([model.two, model.one])


@behaviour(
    "clipping.lightning-gradient-clip-val",
    frameworks="torch lightning",
    precisions="float64 float32 bfloat16",
    modes="eager",
    catches="lightning.clips-each-parameter-by-its-own-norm torch.norm-clips-a-thousandth-too-far",
)
def test_lightning_gradient_clip_val(weights, cell, expect):
    """gradient_clip_val clips the norm over all parameters; "value" clips every number by itself.

    After two steps the weights are twice the clipped gradient, with a minus. torch adds about 1e-6
    to the norm that it divides by. Twelve roundings: the squares and sums of two norms, their
    roots (four), a quotient, a product, two steps. Clipping to a value is exact, and
    so is a gradient whose norm is below the limit.
    """
    bound = Bound(
        relative=accumulated(12, cell.precision) + 2e-6 / 7,
        because="12 roundings, and at most 2e-6 beside a norm of 7",
    )
    expect.within(
        bound, observed=weights(cell, 3.5), expected=[-2.0, -3.0, -6.0], what="weights, norm 3.5"
    )
    expect.exactly(
        observed=weights(cell, 2.5, "value"), expected=[-4.0, -5.0, -5.0], what="weights, value 2.5"
    )
    expect.exactly(
        observed=weights(cell, 8.0, "norm"), expected=[-4.0, -6.0, -12.0], what="weights, norm 8"
    )
