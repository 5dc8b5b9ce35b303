"""What the parts of a model cost: BatchNorm in an MLP, and the API that puts the layers together.

BatchNorm reads and writes each activation a few times and multiplies nothing large, so it is little
beside a dense layer's product; the smaller that product, the more it counts. The course calls the
surcharge noticeable but negligible.

Sequential and the functional API make the same graph of the same layers, so nothing can be faster
about either; what differs is how the graph was described.

A time is that of one training step.

Sources: class 102, question 2; class 103, question 3; class 110, question 5;
catalogue: speed.batchnorm-overhead, speed.sequential-versus-functional;
https://keras.io/guides/functional_api/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

BATCH, FEATURES, CLASSES = 128, 784, 10
X = np.sin(np.arange(BATCH * FEATURES)).reshape(BATCH, FEATURES).astype("float32")
LABELS = np.arange(BATCH) % CLASSES


def training_step_in_keras(cell, name, model):
    """Compiled as the backend does it. Its `fit` is what the cell watches, to prove it."""
    import keras

    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(X, LABELS, batch_size=BATCH, verbose=0)
    return Variant(name, lambda: model.train_on_batch(X, LABELS))


# ----------------------------------------------------------------------------------------------
# The MLP of class 110, with and without BatchNorm.

UNITS = (512, 256, 128, 64)


def batchnorm_in_torch(cell):
    import torch
    from torch import nn

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device)
    labels = torch.tensor(LABELS, device=cell.device)

    def training_step(name, is_normalized):
        layers, width = [], FEATURES
        for units in UNITS:
            layers.append(nn.Linear(width, units))
            if is_normalized:
                layers.append(nn.BatchNorm1d(units))
            layers.append(nn.ReLU())
            width = units
        model = nn.Sequential(*layers, nn.Linear(width, CLASSES)).to(cell.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def step():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        return Variant(name, step)

    return training_step("BatchNorm", True), training_step("none", False)


def batchnorm_in_keras(cell):
    import keras
    from keras import layers

    def training_step(name, is_normalized):
        model = keras.Sequential([keras.Input((FEATURES,))])
        for units in UNITS:
            model.add(layers.Dense(units))
            if is_normalized:
                model.add(layers.BatchNormalization())
            model.add(layers.ReLU())
        model.add(layers.Dense(CLASSES))
        return training_step_in_keras(cell, name, model)

    return training_step("BatchNorm", True), training_step("none", False)


@claim(
    "speed.batchnorm-overhead",
    claimed="at most 10 % slower",
    low=0.9,
    high=1.1,
    both=True,
    source="class 110, question 5",
    frameworks="torch keras",
    precisions="float32",
    modes={"torch": "eager", "keras": "compiled"},
)
def test_batchnorm_overhead(batchnorm, cell, speed):
    """BatchNorm behind each of four dense layers costs a training step next to nothing.

    The course says negligible and gives no number; 10 % are allowed here.
    """
    speed.compare_unlike(*batchnorm(cell))


# ----------------------------------------------------------------------------------------------
# One MLP, described twice.


def description_in_keras(cell):
    import keras
    from keras import layers

    sequential = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(64, activation="relu")(inputs)
    hidden = layers.Dense(64, activation="relu")(hidden)
    functional = keras.Model(inputs, layers.Dense(CLASSES)(hidden))
    functional.set_weights(sequential.get_weights())
    return (
        training_step_in_keras(cell, "Sequential", sequential),
        training_step_in_keras(cell, "functional", functional),
    )


@claim(
    "speed.sequential-versus-functional",
    claimed="equally fast, within 10 %",
    low=0.9,
    high=1.1,
    both=True,
    source="class 102, question 2",
    frameworks="keras",
    precisions="float32",
    modes="compiled",
)
def test_sequential_versus_functional(description, cell, speed):
    """A Sequential and a functional model of the same layers take the same time to train."""
    # Two steps, each with sums of 784, 64 and 64 terms, forwards and back.
    speed.compare(*description(cell), within=rounded(4 * 912, cell.precision))
