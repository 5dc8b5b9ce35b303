"""Narrower numbers: float32 against float64, mixed precision against float32.

Half the bits are half the memory traffic and twice the numbers in a vector register, so a product
in float32 takes about half the time of float64 on a CPU. A GPU made for games or for inference has
few float64 units, and loses far more.

Mixed precision keeps weights in float32 and multiplies in float16 or bfloat16. It gains where the
hardware multiplies these faster: on tensor cores, for which 1.5 to 3 times are claimed, and on CPUs
with bfloat16 instructions (AVX512-BF16, AMX). Elsewhere the conversions cost, and nothing gains.
float32 means float32 here: TF32 is off.

Sources: class 118, question 3; class 123, exercise 3; class 171, acceptance criterion;
catalogue: speed.float32-versus-float64, speed.mixed-precision-cpu, lightning.bf16-mixed-speed;
https://docs.pytorch.org/docs/stable/amp.html,
https://keras.io/api/mixed_precision/,
https://lightning.ai/docs/pytorch/stable/common/precision_basic.html
"""

import copy

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

# ----------------------------------------------------------------------------------------------
# A product of two matrices.

SIZE = 512
MATRIX = np.random.default_rng(0).standard_normal((SIZE, SIZE))


def product_in_numpy(cell):
    wide, narrow = MATRIX, MATRIX.astype(cell.dtype)
    return Variant("float64", lambda: wide @ wide), Variant("float32", lambda: narrow @ narrow)


def product_in_torch(cell):
    import torch

    wide = torch.tensor(MATRIX, dtype=torch.float64, device=cell.device)
    narrow = wide.to(cell.dtype)
    return Variant("float64", lambda: wide @ wide), Variant("float32", lambda: narrow @ narrow)


def product_in_tensorflow(cell):
    import tensorflow as tf

    wide, narrow = tf.constant(MATRIX, tf.float64), tf.constant(MATRIX, cell.dtype)
    return Variant("float64", lambda: wide @ wide), Variant("float32", lambda: narrow @ narrow)


@claim(
    "speed.float32-versus-float64",
    claimed="faster",
    low=1.0,
    source="class 118, question 3",
    frameworks="numpy torch tensorflow",
    precisions="float32",
    modes="eager",
    devices="cpu cuda",
)
def test_float32_versus_float64(product, cell, speed):
    """A matrix product in float32 is faster than in float64."""
    # Both factors are rounded to float32, and then the product of each pair and their sum.
    terms = (np.abs(MATRIX) @ np.abs(MATRIX)).max()
    speed.compare(*product(cell), within=rounded(SIZE + 2, cell.precision, terms=terms))


# ----------------------------------------------------------------------------------------------
# A training step of an MLP wide enough to keep a GPU busy.

BATCH, WIDTH = 1024, 4096
X = np.sin(np.arange(BATCH * 784)).reshape(BATCH, 784)
LABELS = np.arange(BATCH) % 10


def mixed_in_torch(cell):
    import torch
    from torch import nn

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device)
    labels = torch.tensor(LABELS, device=cell.device)
    same = nn.Sequential(
        nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    ).to(cell.device)

    def training_step(is_mixed):
        model = copy.deepcopy(same)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        needs_scaling = is_mixed and cell.compute_dtype == torch.float16
        scaler = torch.amp.GradScaler(cell.device_name, enabled=needs_scaling)

        def step():
            optimizer.zero_grad()
            with torch.autocast(cell.device_name, dtype=cell.compute_dtype, enabled=is_mixed):
                outputs = model(x)
                loss = nn.functional.cross_entropy(outputs, labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return outputs.detach().float()

        return step

    return Variant("float32", training_step(False)), Variant(cell.precision, training_step(True))


def mixed_in_keras(cell):
    import keras
    from keras import layers

    def training_step(dtype):
        keras.utils.set_random_seed(cell.seed)
        model = keras.Sequential(
            [
                keras.Input((784,)),
                layers.Dense(WIDTH, activation="relu", dtype=dtype),
                layers.Dense(WIDTH, activation="relu", dtype=dtype),
                layers.Dense(10, dtype="float32"),
            ]
        )
        optimizer = keras.optimizers.SGD(0.01)
        if dtype == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        cell.compile_model(model, optimizer=optimizer, loss=loss)
        x = X.astype("float32")
        model.fit(x, LABELS, batch_size=BATCH, verbose=0)  # watched, to prove that it is compiled
        return Variant(dtype, lambda: model.train_on_batch(x, LABELS))

    return training_step("float32"), training_step(cell.dtype)


@claim(
    "speed.mixed-precision",
    claimed="1.5 to 3 times faster",
    low=1.5,
    high=3.0,
    source="class 171, acceptance criterion",
    frameworks="torch keras",
    precisions="mixed_bfloat16 mixed_float16",
    modes={"torch": "eager", "keras": "compiled"},
    devices="cuda",
)
def test_mixed_precision(mixed, cell, speed):
    """Mixed precision makes training 1.5 to 3 times faster than float32 on tensor cores."""
    # Inputs, weights and outputs of three layers are rounded, and the sums are not.
    speed.compare(*mixed(cell), within=rounded(12, cell.precision, terms=1.0))


def bf16_in_lightning(cell):
    import lightning
    import torch
    from torch import nn

    class Classifier(lightning.LightningModule):
        def __init__(self, layers):
            super().__init__()
            self.layers = layers

        def training_step(self, batch, batch_index):
            images, labels = batch
            self.outputs = self.layers(images)
            return nn.functional.cross_entropy(self.outputs, labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    layers = nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )
    images, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(LABELS)
    batches = list(zip(images.split(256), labels.split(256), strict=True))[:2]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)

    def fit(precision):
        model = Classifier(copy.deepcopy(layers))
        options = {**cell.trainer_options, "precision": precision}

        def two_steps():
            lightning.Trainer(max_epochs=1, **options).fit(model, loader)
            return model.outputs.detach().float()

        return Variant(f'precision="{precision}"', two_steps)

    return fit("32-true"), fit("bf16-mixed")


@claim(
    "speed.bf16-mixed",
    claimed="faster",
    low=1.0,
    source="class 123, exercise 3",
    frameworks="lightning",
    precisions="mixed_bfloat16",
    modes="eager",
)
def test_bf16_mixed(bf16, cell, speed):
    """Trainer(precision="bf16-mixed") trains faster than "32-true", here on two batches of 256.

    It does on a GPU with tensor cores and on a CPU with bfloat16 instructions.
    """
    speed.compare(*bf16(cell), within=rounded(12, cell.precision, terms=1.0))
