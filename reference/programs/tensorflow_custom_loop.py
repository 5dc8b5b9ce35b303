"""The course homework in TensorFlow: `GradientTape`, `tf.function` and an optimizer written out.

A multilayer perceptron (256 and 128 ReLU units) classifies images by softmax cross-entropy.
The recipe, equal in all five programs: He uniform weights and zero biases; Adam with
beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; a learning rate that decays to zero along half a
cosine, step by step; every epoch visits all images in a new order, the last and smaller batch
included.
"""

import itertools
import math

import tensorflow as tf


class MLP(tf.Module):
    def __init__(self, sizes):
        super().__init__()
        self.kernels, self.biases = [], []
        for inputs, outputs in itertools.pairwise(sizes):
            limit = math.sqrt(6 / inputs)  # He et al., 2015
            kernel = tf.random.uniform([inputs, outputs], -limit, limit)
            self.kernels.append(tf.Variable(kernel))
            self.biases.append(tf.Variable(tf.zeros([outputs])))

    def __call__(self, x):
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = tf.nn.relu(x @ kernel + bias)
        return x @ self.kernels[-1] + self.biases[-1]  # logits: the softmax is part of the loss


class Adam(tf.Module):
    """Kingma and Ba, 2015, algorithm 1, with the learning rate decaying along half a cosine."""

    def __init__(self, parameters, learning_rate, steps):
        super().__init__()
        self.parameters = parameters
        self.learning_rate, self.steps = learning_rate, steps
        self.step = tf.Variable(0.0)
        self.means = [tf.Variable(tf.zeros_like(parameter)) for parameter in parameters]
        self.squares = [tf.Variable(tf.zeros_like(parameter)) for parameter in parameters]

    def apply(self, gradients, beta1=0.9, beta2=0.999, epsilon=1e-8):
        rate = self.learning_rate * (1 + tf.cos(math.pi * self.step / self.steps)) / 2
        self.step.assign_add(1)
        mean_scale = 1 / (1 - beta1**self.step)
        square_scale = 1 / (1 - beta2**self.step)
        for parameter, gradient, mean, square in zip(
            self.parameters, gradients, self.means, self.squares, strict=True
        ):
            mean.assign(beta1 * mean + (1 - beta1) * gradient)
            square.assign(beta2 * square + (1 - beta2) * gradient**2)
            parameter.assign_sub(
                rate * mean * mean_scale / (tf.sqrt(square * square_scale) + epsilon)
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
    "cuda". `progress` is called like `print`, once per epoch. `compiled` switches `tf.function`.
    """
    tf.random.set_seed(seed)
    count, features = data.train_images.shape
    train_set = tf.data.Dataset.from_tensor_slices((data.train_images, data.train_labels))
    train_set = train_set.shuffle(count).batch(batch_size)

    with tf.device("GPU" if device == "cuda" else device):
        model = MLP([features, 256, 128, int(data.train_labels.max()) + 1])
        parameters = model.trainable_variables
        optimizer = Adam(parameters, learning_rate, steps=max(1, epochs * len(train_set)))

        def train_step(images, labels):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images))
                )
            optimizer.apply(tape.gradient(loss, parameters))
            return loss

        if compiled:
            train_step = tf.function(train_step)
        for epoch in range(1, epochs + 1):
            for images, labels in train_set:
                loss = train_step(images, labels)
            if progress:
                progress(f"epoch {epoch}/{epochs}: last loss {loss:.4f}")

        predictions = tf.argmax(model(data.test_images), axis=1)
        return int(tf.math.count_nonzero(predictions == data.test_labels)) / len(predictions)
