"""What belongs to a model: that which it was told of, and in torch a plain list tells nothing.

The optimizer trains, and a checkpoint saves, what the model knows to be its own. What is assigned
to an attribute of a torch module decides:

    assigned                       parameters()   state_dict()
    torch.nn.Parameter                 yes            yes
    torch.nn.ModuleList([layer])       yes            yes
    register_buffer(name, tensor)       -             yes
    a tensor                            -              -
    [layer], a plain list               -              -        the common mistake

The layer in the list computes and gets gradients, but no step and no place in the checkpoint. Keras
looks into lists, tuples and dicts itself.

Here y = scale * w * 3 with scale 1 and w 2, so the gradients are 6 and 3. A step of SGD with rate 1
takes the scale to -5, and w to -1 where it is registered.

Sources: class 122, definitions (nn.Parameter); class 119, question 5;
https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_buffer,
https://keras.io/api/layers/base_layer/
"""

import numpy as np

from fixtures.matrix import behaviour


def names_in_torch(cell):
    """The names of the parameters, and those in the state_dict."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=cell.dtype))
            self.constant = torch.ones(1, dtype=cell.dtype)
            self.register_buffer("mean", torch.zeros(1, dtype=cell.dtype))
            self.hidden = [torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype)]
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype)])

    model = Model()
    return sorted(name for name, _ in model.named_parameters()), sorted(model.state_dict())


@behaviour(
    "layers.parameter-registration",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.plain-lists-are-registered torch.buffers-are-never-saved",
)
def test_parameter_registration(names, cell, expect):
    """Parameters are the nn.Parameter and those in the ModuleList; state_dict adds the buffer."""
    parameters, saved = names(cell)
    expect.exactly(observed=parameters, expected=["blocks.0.weight", "scale"], what="parameters")
    expect.exactly(observed=saved, expected=["blocks.0.weight", "mean", "scale"], what="saved")


def mistake_in_torch(cell):
    """The layer in a plain list."""
    return _trained_in_torch(cell, list)


def fix_in_torch(cell):
    import torch

    return _trained_in_torch(cell, torch.nn.ModuleList)


def _trained_in_torch(cell, container):
    """(gradient of w, w after a step, scale after it)."""
    import torch

    model = torch.nn.Module()
    model.scale = torch.nn.Parameter(torch.ones(1, dtype=cell.dtype, device=cell.device))
    layer = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    torch.nn.init.constant_(layer.weight, 2.0)
    model.blocks = container([layer])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x = torch.full((1, 1), 3.0, dtype=cell.dtype, device=cell.device)
    (model.scale * model.blocks[0](x)).sum().backward()
    optimizer.step()
    return layer.weight.grad[0], layer.weight[0], model.scale


@behaviour(
    "layers.layers-in-a-plain-list",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.plain-lists-are-registered",
)
def test_layers_in_a_plain_list(mistake, fix, cell, expect):
    """A layer in a plain list has the gradient 3 and stays 2; in a ModuleList it becomes -1."""
    for what, program, after in (("a list", mistake, 2.0), ("a ModuleList", fix, -1.0)):
        gradient, weight, scale = program(cell)
        expect.exactly(observed=gradient, expected=[3.0], what=f"gradient in {what}")
        expect.exactly(observed=weight, expected=[after], what=f"weight in {what}")
        expect.exactly(observed=scale, expected=[-5.0], what="scale")


def listed_in_keras(cell, container):
    """(number of weights, w after a step, scale after it), the layer in a list or a dict."""
    import keras

    class Model(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.scale = self.add_weight(shape=(1,), initializer="ones")
            initializer = keras.initializers.Constant(2.0)
            layer = keras.layers.Dense(
                1, use_bias=False, kernel_initializer=initializer, dtype=cell.dtype
            )
            self.blocks = {"list": [layer], "dict": {0: layer}}[container]

        def call(self, inputs):
            return self.scale * self.blocks[0](inputs)

    model = Model()
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(1.0),
        loss=lambda target, output: keras.ops.sum(output),
    )
    model.fit(np.full((1, 1), 3.0), np.zeros((1, 1)), epochs=1, verbose=0)
    return len(model.trainable_weights), model.blocks[0].kernel, model.scale


@behaviour(
    "layers.keras-tracks-containers",
    frameworks="keras",
    precisions="float64 float32",
    modes="eager",
    catches="keras.lists-are-not-tracked",
)
def test_keras_tracks_containers(listed, cell, expect):
    """In Keras a layer in a list or a dict is the model's own: a step takes it from 2 to -1."""
    for container in ("list", "dict"):
        count, weight, scale = listed(cell, container)
        expect.exactly(observed=count, expected=2, what=f"trainable weights, {container}")
        expect.exactly(observed=weight, expected=[[-1.0]], what=f"weight in a {container}")
        expect.exactly(observed=scale, expected=[-5.0], what=f"scale, {container}")
