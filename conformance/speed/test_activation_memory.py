"""What a forward pass keeps for the backward pass, and what keeping less of it costs.

A gradient needs the inputs of most operations, so the forward pass keeps them until the backward
pass has used them. These activations, not the weights, are most of what training a deep network on
large batches takes. They are counted here, in bytes, and not timed; so the counts are exact.

    no_grad                nothing is kept, and no backward pass is possible
    gradient accumulation  a large batch in k parts keeps the activations of one part at a time,
                           for k smaller, and so less efficient, steps
    checkpointing          only the input of each segment is kept; the backward pass runs the
                           segment again. One forward pass more is about a third more work, since a
                           backward pass costs about two

Sources: class 122, definitions (no_grad); class 143, common mistake 4; class 172, definition 6;
catalogue: memory.no-grad-saves-activations, transformer.gradient-checkpointing,
distributed.lightning-accumulation; Chen et al. 2016, https://arxiv.org/abs/1604.06174;
https://docs.pytorch.org/docs/stable/checkpoint.html,
https://docs.jax.dev/en/latest/gradient-checkpointing.html,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#accumulate-grad-batches
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

BATCH, WIDTH, SEGMENTS, LAYERS_EACH = 64, 256, 4, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((BATCH, WIDTH))
WEIGHTS = RANDOM.standard_normal((SEGMENTS * LAYERS_EACH, WIDTH, WIDTH)) / WIDTH**0.5


def kept_by_torch(call, weights):
    """The result of `call`, and the bytes autograd keeps for its backward pass beside the weights.

    https://docs.pytorch.org/docs/stable/autograd.html#saved-tensors-default-hooks
    """
    import torch

    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return call(), sum(kept.values())


# ----------------------------------------------------------------------------------------------
# Twelve layers of a matrix product and GELU, in four segments of three.


def deep_model_in_torch(cell):
    """(the segments, the input) as torch has them."""
    import torch

    class Segment(torch.nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.weights = torch.nn.ParameterList(
                torch.tensor(weight, dtype=cell.dtype, device=cell.device) for weight in weights
            )

        def forward(self, x):
            for weight in self.weights:
                x = torch.nn.functional.gelu(x @ weight)
            return x

    segments = torch.nn.Sequential(
        *(
            Segment(WEIGHTS[first : first + LAYERS_EACH])
            for first in range(0, len(WEIGHTS), LAYERS_EACH)
        )
    )
    return segments, torch.tensor(X, dtype=cell.dtype, device=cell.device)


def losses_in_torch(cell):
    """(model, loss that keeps all activations, loss with checkpoints)."""
    from torch.utils.checkpoint import checkpoint_sequential

    model, x = deep_model_in_torch(cell)
    return (
        model,
        lambda: (model(x) ** 2).mean(),
        lambda: (checkpoint_sequential(model, SEGMENTS, x, use_reentrant=False) ** 2).mean(),
    )


def losses_in_jax(cell):
    """(weights, loss that keeps all activations, loss with checkpoints): functions of them."""
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(X, cell.dtype)
    weights = [jnp.asarray(weight, cell.dtype) for weight in WEIGHTS]

    def segment(weights, x):
        for weight in weights:
            x = jax.nn.gelu(x @ weight, approximate=False)
        return x

    def loss_through(segment):
        def loss(weights):
            y = x
            for first in range(0, len(weights), LAYERS_EACH):
                y = segment(weights[first : first + LAYERS_EACH], y)
            return jnp.mean(y**2)

        return loss

    return weights, loss_through(segment), loss_through(jax.checkpoint(segment))


def without_gradient_in_torch(cell):
    import torch

    model, x = deep_model_in_torch(cell)
    _, kept = kept_by_torch(lambda: model(x), model.parameters())
    with torch.no_grad():
        _, kept_without = kept_by_torch(lambda: model(x), model.parameters())
    return kept_without, kept


@claim(
    "speed.no-grad-activations",
    claimed="nothing is kept",
    low=0.0,
    high=0.0,
    both=True,
    source="class 122, definitions (no_grad)",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_no_grad_activations(without_gradient, cell, speed):
    """Under torch.no_grad a forward pass keeps no activations at all."""
    kept_without, kept = without_gradient(cell)
    speed.count("bytes", ("no_grad", kept_without), ("with gradients", kept))


def checkpointing_in_torch(cell):
    model, plain, checkpointed = losses_in_torch(cell)
    return [kept_by_torch(loss, model.parameters())[1] for loss in (plain, checkpointed)]


def checkpointing_in_jax(cell):
    """What `jax.vjp` returns is the backward pass, with all that it needs as its leaves."""
    import jax

    weights, *losses = losses_in_jax(cell)
    own = {weight.unsafe_buffer_pointer() for weight in weights}
    counts = []
    for loss in losses:
        _, backward = jax.vjp(loss, weights)
        kept = {leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in jax.tree.leaves(backward)}
        counts.append(sum(size for pointer, size in kept.items() if pointer not in own))
    return counts


@claim(
    "speed.checkpointing-memory",
    claimed="fewer bytes are kept",
    low=1.0,
    source="class 143, common mistake 4",
    frameworks="torch jax",
    precisions="float32",
    modes="eager",
)
def test_checkpointing_memory(checkpointing, cell, speed):
    """Checkpointing keeps fewer bytes from the forward to the backward pass.

    The last of torch's four segments is not checkpointed, since its backward pass comes at once.
    """
    kept, kept_with_checkpoints = checkpointing(cell)
    speed.count("bytes", ("all activations", kept), ("checkpoints", kept_with_checkpoints))


def recomputing_in_torch(cell):
    import torch

    model, plain, checkpointed = losses_in_torch(cell)

    def gradient_of(loss):
        def gradient():
            model.zero_grad()
            loss().backward()
            return torch.stack([weight.grad.norm() for weight in model.parameters()])

        return gradient

    return (
        Variant("checkpoints", gradient_of(checkpointed)),
        Variant("all activations", gradient_of(plain)),
    )


def recomputing_in_jax(cell):
    import jax
    import jax.numpy as jnp

    weights, plain, checkpointed = losses_in_jax(cell)

    def gradient_of(loss):
        def norms(weights):
            return jnp.stack([jnp.linalg.norm(slope) for slope in jax.grad(loss)(weights)])

        compiled = cell.compile(norms)
        return lambda: compiled(weights)

    return (
        Variant("checkpoints", gradient_of(checkpointed)),
        Variant("all activations", gradient_of(plain)),
    )


@claim(
    "speed.checkpointing-time",
    claimed="at most a third slower",
    low=1.0,
    high=4 / 3,
    both=True,
    source="Chen et al. 2016",
    frameworks="torch jax",
    precisions="float32",
    modes={"torch": "eager", "jax": "compiled"},
)
def test_checkpointing_time(recomputing, cell, speed):
    """Checkpointing costs one forward pass more, about a third of a training step, and no digit."""
    # Twelve layers forwards and back are sums of 256 terms; the norm of a gradient cancels nothing.
    speed.compare(*recomputing(cell), within=rounded(25 * WIDTH, cell.precision))


# ----------------------------------------------------------------------------------------------
# A batch of 128 images at once, and in four parts.


def accumulation_in_lightning(cell):
    import lightning
    import torch

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
            )
            self.kept = []

        def training_step(self, batch, batch_index):
            images, labels = batch
            loss, kept = kept_by_torch(
                lambda: torch.nn.functional.cross_entropy(self.layers(images), labels),
                self.parameters(),
            )
            self.kept.append(kept)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.TensorDataset(torch.rand(128, 784), torch.arange(128) % 10)
    counts = []
    for parts in (1, 4):
        model = Classifier()
        lightning.Trainer(max_epochs=1, accumulate_grad_batches=parts, **cell.trainer_options).fit(
            model, torch.utils.data.DataLoader(data, batch_size=128 // parts)
        )
        counts.append(max(model.kept))
    return counts


@claim(
    "speed.accumulation-memory",
    claimed="4 times fewer bytes of activations",
    low=3.9,
    high=4.1,
    both=True,
    source="class 172, definition 6",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
)
def test_accumulation_memory(accumulation, cell, speed):
    """accumulate_grad_batches=4 keeps the activations of a quarter of the batch at a time."""
    at_once, in_parts = accumulation(cell)
    speed.count("bytes", ("128 at once", at_once), ("4 parts of 32", in_parts))
