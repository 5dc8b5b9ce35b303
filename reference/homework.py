"""The course homework in NumPy: the same recipe as reference/programs, with our own autodiff.

The curriculum falls back on such a program where torch is missing. Here it says which test accuracy
the recipe gives, independently of every framework.
"""

import math

import numpy as np

from reference.autodiff import Tensor
from reference.initializers import he_uniform
from reference.losses import softmax_cross_entropy
from reference.optimizers import Adam
from reference.training import accuracy, mlp

HIDDEN = (256, 128)


def train(data, *, epochs=10, batch_size=128, learning_rate=1e-3, seed=0):
    """Train the MLP of [256, 128] ReLU units and return its accuracy on the test images, in [0, 1].

    He uniform weights, zero biases, mean cross-entropy, Adam with beta1 0.9, beta2 0.999, epsilon
    1e-8, a learning rate that decays to zero along half a cosine, a new order every epoch, the last
    partial batch included; float32. `data` has train_images (n, features) in [0, 1], train_labels
    (n,) and the same of test. 0 epochs give the accuracy of the untrained network.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    count, features = data.train_images.shape
    sizes = (features, *HIDDEN, int(data.train_labels.max()) + 1)
    layers = [
        tuple(
            Tensor(array.astype(np.float32), requires_grad=True)
            for array in (he_uniform(rng, inputs, outputs), np.zeros(outputs))
        )
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    optimizer = Adam([tensor for layer in layers for tensor in layer], learning_rate)
    steps = epochs * math.ceil(count / batch_size)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count, batch_size):
            batch = order[start : start + batch_size]
            optimizer.learning_rate = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
            logits = mlp(Tensor(data.train_images[batch]), layers)
            softmax_cross_entropy(logits, data.train_labels[batch]).backward()
            optimizer.step()
            step += 1
    parameters = [tuple(tensor.data for tensor in layer) for layer in layers]
    return accuracy(data.test_images, data.test_labels, parameters)
