"""gradient_clip_val and a fused optimizer: clipped all the same.

A fused optimizer takes its step in one kernel, which in float16 also undoes the scaling of the
loss: there nobody sees the gradients in between, and clipping them is refused. In bfloat16 nothing
is scaled, so nothing stands in the way. Gradients (3, 4) have the norm 5:

    clipped to norm 2.5     half of each number     1.5, 2
    clipped to value 3.5    what is larger is cut   3, 3.5

Two steps with learning rate 1 move the weights by minus twice that.

Sources: class 111, question 4; class 123, exercise 3;
https://lightning.ai/docs/pytorch/stable/advanced/training_tricks.html#gradient-clipping,
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://github.com/Lightning-AI/pytorch-lightning/issues/21435
"""

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated


def weights_in_torch(cell, clip_val, algorithm):
    import torch

    clip = {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}
    w = torch.zeros(2, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        with cell.autocast():
            loss = (w.new_tensor([3.0, 4.0]) * w).sum()
        loss.backward()
        clip[algorithm]([w], clip_val)
        optimizer.step()
    return w


def weights_in_lightning(cell, clip_val, algorithm):
    import lightning
    import torch

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(2))

        def training_step(self, batch, batch_index):
            return (self.w.new_tensor([3.0, 4.0]) * self.w).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0, fused=True)

    model = Linear()
    lightning.Trainer(
        max_epochs=1,
        gradient_clip_val=clip_val,
        gradient_clip_algorithm=algorithm,
        **cell.trainer_options,
    ).fit(model, torch.utils.data.DataLoader([0, 0]))
    return model.w


@behaviour(
    "clipping.fused-optimizer",
    frameworks="torch lightning",
    precisions="float32 mixed_bfloat16",
    modes="eager",
    catches="lightning.fused-optimizers-are-not-clipped[*-float32-*] "
    "torch.norm-clips-a-thousandth-too-far",
)
def test_fused_optimizer(weights, cell, expect):
    """Gradients are clipped to a norm and to a value before the fused step, in bfloat16, too.

    torch adds 1e-6 to the norm that it divides by. Ten roundings in float32, in which the weights
    and their gradients are: squares, sum and root, quotient, product, two steps.
    """
    bound = Bound(
        relative=accumulated(10, "float32") + 1e-6 / 5,
        because="10 roundings in float32, and 1e-6 beside a norm of 5",
    )
    observed = weights(cell, 2.5, "norm")
    expect.within(bound, observed=observed, expected=[-3.0, -4.0], what="weights, norm 2.5")
    observed = weights(cell, 3.5, "value")
    expect.exactly(observed=observed, expected=[-6.0, -7.0], what="weights, value 3.5")
