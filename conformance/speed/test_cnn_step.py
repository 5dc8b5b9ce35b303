"""What torch.compile gains on a training step of a small convolutional network.

Convolutions are calls of a library (oneDNN, cuDNN), compiled or not. Around them stand ReLUs and
poolings over maps of many channels, forwards and backwards, each a pass over memory: there is more
to fuse than in a multilayer perceptron (`test_mlp_step.py`), and still the convolutions stay.

Sources: class 122, question 2; catalogue: speed.torch-compile-claim;
https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import copy

import numpy as np

from fixtures.precision import Bound, accumulated
from fixtures.speed import Variant, claim

# A batch of the shape of Fashion-MNIST: how long a step takes does not depend on what is on it.
IMAGES = (1 + np.sin(np.arange(32 * 784) ** 1.5).reshape(32, 1, 28, 28)) / 2
LABELS = np.arange(32) % 10
RATE, STEPS = 0.01, 3


def loss_bound(cell):
    """Of the third loss, by the errors of the logits and by those of the gradients before it.

    A logit passes sums of 9, 72 and 784 products; it is at most 3, and its error enters the loss
    twice. A gradient of the first kernel sums over 32 images of 28 × 28 places besides; its error
    changes what the steps before gained, which is less than 1.
    """
    products = 9 + 72 + 784
    logits = 2 * 3.0 * accumulated(products, cell.precision)
    gained = 1.0 * accumulated(32 * 784 + 2 * products, cell.precision)
    return Bound(absolute=logits + gained, because="sums over 25,088 places and 865 products")


def variants_in_torch(cell):
    import torch
    from torch import nn

    images = torch.tensor(IMAGES, dtype=cell.dtype, device=cell.device)
    labels = torch.tensor(LABELS, device=cell.device)
    initial = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 10),
    ).to(cell.device)
    for layer in (initial[0], initial[3], initial[7]):
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # He et al., 2015

    def training(compile_model):
        model = copy.deepcopy(initial)
        forward = compile_model(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

        def train():
            for _ in range(STEPS):
                loss = nn.functional.cross_entropy(forward(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return loss.detach()

        return train

    return Variant("eager", training(lambda model: model)), Variant(
        "torch.compile", training(cell.compile)
    )


@claim(
    "speed.torch-compile-cnn-step",
    claimed="2 to 5 times faster",
    low=2.0,
    high=5.0,
    source="class 122, question 2",
    frameworks="torch",
    precisions="float32",
    modes="compiled",
)
def test_torch_compile_cnn_step(variants, cell, speed):
    """torch.compile makes a training step 2 to 5 times faster without changing the code.

    Here three steps of a small CNN on images of 28 × 28: the model is compiled, the loop is as it
    was. The loss of the third step shows whether both learned the same.
    """
    speed.compare(*variants(cell), within=loss_bound(cell))
