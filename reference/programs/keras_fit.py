"""The course homework in Keras: `compile`, `fit`, `evaluate`, on whichever backend Keras runs.

A multilayer perceptron (256 and 128 ReLU units) classifies images by softmax cross-entropy.
The recipe, equal in all five programs: He uniform weights and zero biases; Adam with
beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; a learning rate that decays to zero along half a
cosine, step by step; every epoch visits all images in a new order, the last and smaller batch
included.
"""

import math

import keras
from keras import layers


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
    `train_labels` and `test_labels`, int64 of shape (N,), counted from 0. `device` is "cpu",
    "cuda" or "mps". `progress` is called like `print`, once per epoch. `compiled` switches
    `run_eagerly` off: Keras then compiles by itself on TensorFlow and JAX, but not on torch.
    """
    keras.utils.set_random_seed(seed)
    # Without an index: on the torch backend "cpu:0" differs from "cpu", and training fails.
    with keras.device("gpu" if device == "cuda" else device):
        model = keras.Sequential(
            [
                layers.Dense(256, activation="relu", kernel_initializer="he_uniform"),
                layers.Dense(128, activation="relu", kernel_initializer="he_uniform"),
                layers.Dense(int(data.train_labels.max()) + 1, kernel_initializer="he_uniform"),
            ]
        )
        steps = max(1, epochs * math.ceil(len(data.train_labels) / batch_size))
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        model.compile(
            optimizer=keras.optimizers.Adam(schedule, epsilon=1e-8),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            run_eagerly=not compiled,
        )

        def report(epoch, logs):
            if progress:
                progress(f"epoch {epoch + 1}/{epochs}: mean loss {logs['loss']:.4f}")

        model.fit(
            data.train_images,
            data.train_labels,
            batch_size=batch_size,
            epochs=epochs,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
        )
        _, accuracy = model.evaluate(
            data.test_images, data.test_labels, batch_size=batch_size, verbose=0
        )
    return accuracy
