"""Resuming with a loss scale: how large it is, and how near to being doubled.

Dynamic loss scaling is state like a moment of Adam. Whoever resumes without it starts at the first
scale of all, and loses a dozen steps to overflow until the scale is down again.

Here the scale begins at 16, and doubles after 3 good steps in a row. Two gradients are infinite,
all others are 1, and training is resumed after the fourth step (SGD, learning rate 1/2):

    step        1     2     3     4    |   5     6
    gradient    inf   inf   1     1    |   1     1
    scale       8     4     4     4    |   8     8
    weight      0     0   -1/2   -1    | -3/2   -2

At the save two good steps have been counted: the fifth step doubles the scale only where the count
was saved, too.

Sources: class 171, definitions 4; class 104, exercise 5;
https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler,
https://docs.pytorch.org/tutorials/recipes/recipes/amp_recipe.html#saving-resuming,
https://keras.io/api/optimizers/loss_scale_optimizer/
"""

import math
import tempfile

import numpy as np

from fixtures.matrix import behaviour

BEFORE, AFTER = (math.inf, math.inf, 1.0, 1.0), (1.0, 1.0)


def training_in_torch(cell):
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    return w, torch.optim.SGD([w], lr=0.5)


def scales_in_torch(w, optimizer, scaler, gradients):
    scales = []
    for gradient in gradients:
        optimizer.zero_grad()
        scaler.scale((w * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def interrupted_in_torch(cell, file):
    import torch

    w, optimizer = training_in_torch(cell)
    scaler = torch.amp.GradScaler(cell.device.type, init_scale=16.0, growth_interval=3)
    scales_in_torch(w, optimizer, scaler, BEFORE)
    saved = {"w": w.detach(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    torch.save(saved, file)


def resumed_in_torch(cell, folder):
    """The new scaler is made with its defaults: the settings are in its saved state, too."""
    import torch

    interrupted_in_torch(cell, folder / "all.pt")
    w, optimizer = training_in_torch(cell)
    scaler = torch.amp.GradScaler(cell.device.type)
    saved = torch.load(folder / "all.pt", weights_only=True)
    w.data.copy_(saved["w"])
    optimizer.load_state_dict(saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])
    return scales_in_torch(w, optimizer, scaler, AFTER), w


def mistake_in_torch(cell, folder):
    """Weights and optimizer are restored, the scaler is not."""
    import torch

    interrupted_in_torch(cell, folder / "all.pt")
    w, optimizer = training_in_torch(cell)
    saved = torch.load(folder / "all.pt", weights_only=True)
    w.data.copy_(saved["w"])
    optimizer.load_state_dict(saved["optimizer"])
    scaler = torch.amp.GradScaler(cell.device.type, init_scale=16.0, growth_interval=3)
    return scales_in_torch(w, optimizer, scaler, AFTER), w


def training_in_keras(cell):
    """|wx - y| with a y far below has the gradient x."""
    import keras

    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype)
    return keras.Sequential([keras.Input((1,)), layer])


def compile_in_keras(cell, model):
    import keras

    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5), initial_scale=16.0, dynamic_growth_steps=3
    )
    cell.compile_model(model, optimizer=optimizer, loss="mae")


def scales_in_keras(model, gradients):
    """`scale_loss` of 1 tells the scale."""
    scales = []
    for gradient in gradients:
        model.fit(np.full((1, 1), gradient), np.full((1, 1), -100.0), verbose=0)
        scales.append(float(model.optimizer.scale_loss(1.0)))
    return scales


def interrupted_in_keras(cell, folder):
    model = training_in_keras(cell)
    compile_in_keras(cell, model)
    scales_in_keras(model, BEFORE)
    model.save(folder / "all.keras")
    model.save_weights(folder / "only.weights.h5")


def resumed_in_keras(cell, folder):
    import keras

    interrupted_in_keras(cell, folder)
    model = keras.models.load_model(folder / "all.keras")
    return scales_in_keras(model, AFTER), keras.ops.convert_to_numpy(model.weights[0])[0]


def mistake_in_keras(cell, folder):
    """The weights alone are restored, and the model is compiled as before."""
    import keras

    interrupted_in_keras(cell, folder)
    model = training_in_keras(cell)
    model.load_weights(folder / "only.weights.h5")
    compile_in_keras(cell, model)
    return scales_in_keras(model, AFTER), keras.ops.convert_to_numpy(model.weights[0])[0]


@behaviour(
    "persistence.loss-scale",
    frameworks="torch keras",
    precisions={"torch": "float32", "keras": "float32 mixed_float16"},
    modes="eager",
    needs={"keras": "keras>=3.1"},
    catches="torch.loaded-scaler-counts-anew torch.loaded-scaler-keeps-its-settings "
    "keras.loaded-loss-scale-counts-anew",
)
def test_loss_scale(mistake, resumed, cell, expect, tmp_path, monkeypatch):
    """A saved scale goes on as if nothing had happened: 4 before, 8 and 8 after two more steps.

    The weight goes on to -2, for a scale changes no step. Without the saved scale it starts again
    at 16, with no good step counted.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scales, weight = resumed(cell, tmp_path)
    expect.exactly(observed=scales, expected=[8.0, 8.0], what="scales after resuming")
    expect.exactly(observed=weight, expected=[-2.0], what="weight after resuming")
    scales, weight = mistake(cell, tmp_path)
    expect.exactly(observed=scales, expected=[16.0, 16.0], what="scales without the saved one")
    expect.exactly(observed=weight, expected=[-2.0], what="weight without the saved scale")
