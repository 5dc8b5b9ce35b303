"""What a compiler gains on a training step of an ordinary network: the MLP for Fashion-MNIST.

One step of a batch of 128 multiplies matrices of 784 × 256 and 256 × 128, forwards and twice
backwards. The matrix products are calls of the same library, compiled or not, and on a CPU they
take most of the time: a compiler can only save what stands between them (the dispatch of some
twenty small operations, biases, ReLUs, the updates). The claimed factors are of GPUs, where the
products are so fast that what stands between them dominates, and of smaller steps
(`test_training_loop.py`).

Each variant takes three steps of gradient descent from equal weights. The loss of the third shows
whether both learned the same from the first two.

Sources: class 120, objective and question 4; class 121, exercise 4; class 122, question 2;
catalogue: speed.torch-compile-claim, speed.xla-jit-compile;
https://www.tensorflow.org/guide/function, https://openxla.org/xla/tf2xla,
https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import copy
import itertools

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

# A batch of the shape of Fashion-MNIST: how long a step takes does not depend on what is on it.
IMAGES = (1 + np.sin(np.arange(128 * 784) ** 1.5).reshape(128, 784)) / 2
LABELS = np.arange(128) % 10
SIZES = 784, 256, 128, 10
RATE, STEPS = 0.02, 3


def loss_bound(cell):
    """The loss is a mean over 128 images of sums of 784, 256 and 128 products.

    Forwards and backwards in each of three steps; a product has at most the size of the logits, 3.
    """
    return rounded(2 * STEPS * (128 + sum(SIZES)), cell.precision, terms=3.0)


def training_in_tensorflow(cell, compile_step):
    """Three steps from weights that depend on the seed alone; what is returned does them."""
    import tensorflow as tf

    generator = np.random.default_rng(cell.seed)
    layers = []
    for inputs, outputs in itertools.pairwise(SIZES):
        limit = np.sqrt(6 / inputs)  # He et al., 2015
        kernel = generator.uniform(-limit, limit, (inputs, outputs))
        layers.append((tf.Variable(kernel, dtype=cell.dtype), tf.Variable(tf.zeros(outputs))))
    parameters = [parameter for layer in layers for parameter in layer]
    images, labels = tf.constant(IMAGES, cell.dtype), tf.constant(LABELS)

    @compile_step
    def step():
        with tf.GradientTape() as tape:
            hidden = images
            for kernel, bias in layers[:-1]:
                hidden = tf.nn.relu(hidden @ kernel + bias)
            kernel, bias = layers[-1]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, hidden @ kernel + bias)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.assign_sub(RATE * gradient)
        return loss

    def train():
        for _ in range(STEPS):
            loss = step()
        return loss

    return train


def graph_variants_in_tensorflow(cell):
    eager = training_in_tensorflow(cell, lambda step: step)
    return Variant("eager", eager), Variant(
        "@tf.function", training_in_tensorflow(cell, cell.compile)
    )


@claim(
    "speed.tf-function-mlp-step",
    claimed="2 to 10 times faster",
    low=2.0,
    high=10.0,
    source="class 120, objective",
    frameworks="tensorflow",
    precisions="float32",
    modes="compiled",
)
def test_tf_function_mlp_step(graph_variants, cell, speed):
    """@tf.function makes the training step of the Fashion-MNIST MLP 2 to 10 times faster."""
    speed.compare(*graph_variants(cell), within=loss_bound(cell))


def xla_variants_in_tensorflow(cell):
    graph = training_in_tensorflow(cell, cell.compile)
    xla = training_in_tensorflow(cell, lambda step: cell.compile(step, jit_compile=True))
    return Variant("@tf.function", graph), Variant("jit_compile=True", xla)


@claim(
    "speed.xla-mlp-step",
    claimed="a further 1.5 to 3 times faster",
    low=1.5,
    high=3.0,
    source="class 120, question 4",
    frameworks="tensorflow",
    precisions="float32",
    modes="compiled",
)
def test_xla_mlp_step(xla_variants, cell, speed):
    """jit_compile=True makes the compiled MLP step a further 1.5 to 3 times faster."""
    speed.compare(*xla_variants(cell), within=loss_bound(cell))


def model_variants_in_torch(cell):
    import torch
    from torch import nn

    images = torch.tensor(IMAGES, dtype=cell.dtype, device=cell.device)
    labels = torch.tensor(LABELS, device=cell.device)
    initial = nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    ).to(cell.device)
    for layer in initial[::2]:
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
    "speed.torch-compile-claim",
    claimed="2 to 5 times faster",
    low=2.0,
    high=5.0,
    source="class 122, question 2",
    frameworks="torch",
    precisions="float32",
    modes="compiled",
)
def test_torch_compile_mlp_step(model_variants, cell, speed):
    """torch.compile makes a training step 2 to 5 times faster without changing the code.

    Here the step of the Fashion-MNIST MLP: the model is compiled, the loop is as it was.
    """
    speed.compare(*model_variants(cell), within=loss_bound(cell))
