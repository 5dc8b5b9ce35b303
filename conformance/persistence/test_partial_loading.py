"""Loading a part: a new head on an old body.

Who fine-tunes has a file of a model with two classes, and a model with three: the first layer fits,
the head does not. Here all saved weights are 2, and all weights of the new model 1.

    torch         load_state_dict(strict=False)          lets names be missing, and says which; a
                                                         shape that differs is an error still
    TensorFlow    Checkpoint(body=...).restore(path)     restores what it is given; assert_consumed
                                                         raises for what the file has besides
    Keras         load_weights(skip_mismatch=True)       leaves layers whose shapes differ alone

Sources: class 104, definitions (ModelCheckpoint); class 115, exercise 4;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.load_state_dict,
https://www.tensorflow.org/guide/checkpoint#loading_mechanics,
https://keras.io/api/models/model_saving_apis/weights_saving_and_loading/
"""

import numpy as np

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# Each program returns (weights of the body, weights of the head) after loading.


def model_in_torch(cell, classes, value):
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model.to(cell.device, cell.dtype)


def mistake_in_torch(cell, folder, expect):
    import torch

    torch.save(model_in_torch(cell, 2, 2.0).state_dict(), folder / "m.pt")
    state = torch.load(folder / "m.pt", weights_only=True)
    with expect.raises(RuntimeError, match="size mismatch for 1.weight"):
        model_in_torch(cell, 3, 1.0).load_state_dict(state, strict=False)


def fix_in_torch(cell, folder):
    """The head is taken out of the state, and reported as missing."""
    import torch

    torch.save(model_in_torch(cell, 2, 2.0).state_dict(), folder / "m.pt")
    state = torch.load(folder / "m.pt", weights_only=True)
    body = {name: value for name, value in state.items() if name.startswith("0.")}
    model = model_in_torch(cell, 3, 1.0)
    report = model.load_state_dict({**body, "extra": torch.zeros(1)}, strict=False)
    return model[0].weight, model[1].weight, (report.missing_keys, report.unexpected_keys)


def model_in_keras(cell, classes, value):
    import keras

    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, dtype=cell.dtype, name="body"),
            keras.layers.Dense(classes, dtype=cell.dtype, name="head"),
        ]
    )
    model.set_weights([np.full(weight.shape, value) for weight in model.get_weights()])
    return model


def mistake_in_keras(cell, folder, expect):
    model_in_keras(cell, 2, 2.0).save_weights(folder / "m.weights.h5")
    with expect.raises(ValueError, match="could not be loaded|shape of the target value"):
        model_in_keras(cell, 3, 1.0).load_weights(folder / "m.weights.h5")


def fix_in_keras(cell, folder):
    import warnings

    model_in_keras(cell, 2, 2.0).save_weights(folder / "m.weights.h5")
    model = model_in_keras(cell, 3, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names the layers that it left alone
        model.load_weights(folder / "m.weights.h5", skip_mismatch=True)
    return model.layers[0].kernel, model.layers[1].kernel, None


def checkpoint_in_tensorflow(cell, classes, value):
    import tensorflow as tf

    body = tf.Variable(tf.fill((2, 2), tf.constant(value, cell.dtype)))
    head = tf.Variable(tf.fill((2, classes), tf.constant(value, cell.dtype)))
    return tf.train.Checkpoint(body=body, head=head)


def mistake_in_tensorflow(cell, folder, expect):
    """The shapes of the heads differ."""
    path = checkpoint_in_tensorflow(cell, 2, 2.0).write(str(folder / "m"))
    with expect.raises(ValueError, match="shape"):
        checkpoint_in_tensorflow(cell, 3, 1.0).read(path)


def fix_in_tensorflow(cell, folder):
    """The file is asked for the body alone: what exists is matched, but not all is consumed."""
    import tensorflow as tf

    path = checkpoint_in_tensorflow(cell, 2, 2.0).write(str(folder / "m"))
    model = checkpoint_in_tensorflow(cell, 3, 1.0)
    status = tf.train.Checkpoint(body=model.body).read(path)
    status.assert_existing_objects_matched()
    try:
        status.assert_consumed()
        consumed = "all consumed"
    except AssertionError:
        consumed = "not all consumed"
    status.expect_partial()
    return model.body, model.head, consumed


report_in_torch = (["1.weight", "1.bias"], ["extra"])
report_in_keras = None
report_in_tensorflow = "not all consumed"


@behaviour(
    "persistence.partial-loading",
    frameworks="torch tensorflow keras",
    precisions="float32",
    modes="eager",
    catches="torch.partial-loading-hides-what-is-missing keras.skip-mismatch-skips-everything "
    "tensorflow.partial-restore-counts-as-complete",
)
def test_partial_loading(mistake, fix, report, cell, expect, tmp_path):
    """What fits is loaded, the rest stays as it was, and is told where the framework tells it.

    The body becomes 2 and the head of three classes stays 1. Untold, a shape that differs is an
    error.
    """
    mistake(cell, tmp_path, expect)
    body, head, reported = fix(cell, tmp_path)
    expect.exactly(observed=body, expected=np.full((2, 2), 2.0), what="body")
    expect.exactly(observed=np.unique(cell.to_numpy(head)).tolist(), expected=[1.0], what="head")
    expect.exactly(observed=reported == report, expected=True, what="whether it is told so")


# ----------------------------------------------------------------------------------------------
# torch: whether a parameter is filled or replaced, and whether two tensors are one.


def assigned_in_torch(cell, assign):
    """(dtype of the parameter, whether it is the same object, value after a step made before)."""
    import torch

    model = torch.nn.Linear(1, 1, bias=False, device=cell.device, dtype=cell.dtype)
    parameter = model.weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    state = {"weight": torch.full((1, 1), 2.0, device=cell.device, dtype=torch.float64)}
    model.load_state_dict(state, assign=assign)
    model.weight.sum().backward()
    optimizer.step()
    return str(model.weight.dtype), model.weight is parameter, model.weight.item()


@behaviour(
    "persistence.load-state-dict-assign",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.assign-copies",
)
def test_load_state_dict_assign(assigned, cell, expect):
    """load_state_dict fills the parameters that are there; with assign=True it replaces them.

    Filled from float64 a float32 parameter stays float32, and an optimizer made before trains it:
    2 - 1/2. The one assigned is float64 and another object, of which that optimizer knows nothing:
    it stays 2. So with assign=True the optimizer is made afterwards.
    """
    for assign, expected in (
        (False, ("torch.float32", True, 1.5)),
        (True, ("torch.float64", False, 2.0)),
    ):
        expect.exactly(
            observed=list(assigned(cell, assign)),
            expected=list(expected),
            what=f"(dtype, same object, value), assign={assign}",
        )


def shared_in_torch(cell, folder):
    """What is seen of a change of `whole` in a view of it, and in a tied weight, after loading."""
    import torch

    whole = torch.zeros(4, dtype=cell.dtype, device=cell.device)
    torch.save({"whole": whole, "part": whole[1:3]}, folder / "tensors.pt")
    tensors = torch.load(folder / "tensors.pt", weights_only=True)
    tensors["whole"].copy_(torch.arange(4))

    def tied():
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        model[1].weight = model[0].weight
        return model.to(cell.device, cell.dtype)

    torch.save(tied().state_dict(), folder / "tied.pt")
    model = tied()
    model.load_state_dict(torch.load(folder / "tied.pt", weights_only=True))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    return tensors["part"], model[1].weight


@behaviour(
    "persistence.shared-tensors",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.loaded-tensors-are-apart",
)
def test_shared_tensors(shared, cell, expect, tmp_path):
    """Tensors that share their numbers share them after torch.save and torch.load.

    Of [0, 1, 2, 3], written into the whole, the part from 1 to 3 sees [1, 2]. Tied weights of a
    model stay tied.
    """
    part, tied = shared(cell, tmp_path)
    expect.exactly(observed=part, expected=np.array([1.0, 2.0]), what="the part")
    expect.exactly(observed=tied, expected=np.full((2, 2), 3.0), what="the tied weight")
