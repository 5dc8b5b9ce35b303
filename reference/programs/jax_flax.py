"""The course homework in JAX: Flax describes the network, Optax the updates, `jit` compiles a step.

A multilayer perceptron (256 and 128 ReLU units) classifies images by softmax cross-entropy.
The recipe, equal in all five programs: He uniform weights and zero biases; Adam with
beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; a learning rate that decays to zero along half a
cosine, step by step; every epoch visits all images in a new order, the last and smaller batch
included.
"""

import math

import jax
import numpy as np
import optax
from flax import nnx


def build_model(features, classes, seed):
    rngs = nnx.Rngs(seed)
    he = nnx.initializers.he_uniform()  # He et al., 2015; biases are zero by default
    return nnx.Sequential(
        nnx.Linear(features, 256, kernel_init=he, rngs=rngs),
        nnx.relu,
        nnx.Linear(256, 128, kernel_init=he, rngs=rngs),
        nnx.relu,
        nnx.Linear(128, classes, kernel_init=he, rngs=rngs),  # logits
    )


def train(
    data,
    *,
    epochs=10,
    batch_size=128,
    learning_rate=1e-3,
    seed=0,
    device="cpu",
    compiled=True,
    progress=None,
):
    """Train on `data` and return the accuracy on its test images, in [0, 1].

    `data` has `train_images` and `test_images`, float32 of shape (N, features) in [0, 1], and
    `train_labels` and `test_labels`, int64 of shape (N,), counted from 0. `device` is "cpu" or
    "cuda". `progress` is called like `print`, once per epoch. `compiled` switches `jax.jit`.
    """
    with jax.default_device(jax.devices(device)[0]):
        model = build_model(data.train_images.shape[1], int(data.train_labels.max()) + 1, seed)
        graph, parameters = nnx.split(model)  # JAX differentiates functions of plain arrays
        count = len(data.train_labels)
        steps = max(1, epochs * math.ceil(count / batch_size))
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
        state = optimizer.init(parameters)

        def loss_function(parameters, images, labels):
            logits = nnx.merge(graph, parameters)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def train_step(parameters, state, images, labels):
            loss, gradients = jax.value_and_grad(loss_function)(parameters, images, labels)
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(parameters, updates), state, loss

        def predict(parameters, images):
            return nnx.merge(graph, parameters)(images).argmax(axis=1)

        if compiled:
            train_step, predict = jax.jit(train_step), jax.jit(predict)

        shuffler = np.random.default_rng(seed)
        for epoch in range(1, epochs + 1):
            order = shuffler.permutation(count)
            for start in range(0, count, batch_size):
                batch = order[start : start + batch_size]
                images, labels = data.train_images[batch], data.train_labels[batch]
                parameters, state, loss = train_step(parameters, state, images, labels)
            if progress:
                progress(f"epoch {epoch}/{epochs}: last loss {loss:.4f}")

        predictions = predict(parameters, data.test_images)
        return float(np.mean(np.asarray(predictions) == data.test_labels))
