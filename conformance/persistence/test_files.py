"""What is in a file, what has to be built by the code, and what refuses to load.

    file                          architecture    weights    optimizer
    model.keras                   yes             yes        yes
    model.weights.h5              no              yes        if the model was compiled
    model.to_json()               yes             no         no
    torch.save(state_dict())      no              yes        no

Weights without an architecture need a model that is built alike, and say so where it is not.

Sources: class 102, definitions (.keras) and common mistake 1; class 103, learning outcome 5 and
common mistake 3; class 104, common mistake 3, learning outcome 4 and question 5; class 119,
exercise 5 and common mistake 3; https://keras.io/guides/serialization_and_saving/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

import json
import zipfile

import numpy as np

from fixtures.matrix import behaviour

X = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]])


def model_in_keras(cell, units=4, layers=1):
    import keras

    return keras.Sequential(
        [
            keras.Input((3,)),
            *(keras.layers.Dense(units, dtype=cell.dtype) for _ in range(layers)),
            keras.layers.Dense(2, dtype=cell.dtype),
        ]
    )


# ----------------------------------------------------------------------------------------------
# A .keras file is a ZIP archive.


def archive_in_keras(cell, folder):
    import keras

    model_in_keras(cell).save(folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        version = json.loads(archive.read("metadata.json"))["keras_version"]
        return {"files": sorted(archive.namelist()), "current": version == keras.__version__}


@behaviour(
    "persistence.keras-zip-contents",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.file-names-another-version",
)
def test_keras_zip_contents(archive, cell, expect, tmp_path):
    """model.keras holds config.json, metadata.json, which names the version, and the weights."""
    files = ["config.json", "metadata.json", "model.weights.h5"]
    observed = archive(cell, tmp_path)
    expect.exactly(
        observed=[name for name in files if name in observed["files"]],
        expected=files,
        what="files in the archive",
    )
    expect.exactly(observed=observed["current"], expected=True, what="version is Keras's own")


# ----------------------------------------------------------------------------------------------
# Weights alone.


def weights_in_keras(cell, file):
    """(those of a model, those of another after it loaded the file of the first)."""
    model, other = model_in_keras(cell), model_in_keras(cell)
    model.save_weights(file)
    other.load_weights(file)
    return [np.concatenate([weight.ravel() for weight in m.get_weights()]) for m in (model, other)]


@behaviour(
    "persistence.weights-file-suffix",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.weights-file-takes-any-name",
)
def test_weights_file_suffix(weights, cell, expect, tmp_path):
    """save_weights wants a name that ends in .weights.h5: "w.h5" raises ValueError.

    With the right name another model of the same architecture loads the same weights, bit for bit.
    """
    with expect.raises(ValueError, match=r"\.weights\.h5"):
        weights(cell, tmp_path / "w.h5")
    saved, loaded = weights(cell, tmp_path / "w.weights.h5")
    expect.exactly(observed=loaded, expected=saved.astype(np.float64), what="weights")


# The first releases of Keras 3 let the variable speak, which names both shapes.
REFUSED_BY_KERAS = "could not be loaded|shape of the target value"


def wider_in_keras(cell, folder, expect):
    model_in_keras(cell).save_weights(folder / "m.weights.h5")
    with expect.raises(ValueError, match=REFUSED_BY_KERAS):
        model_in_keras(cell, units=5).load_weights(folder / "m.weights.h5")


def deeper_in_keras(cell, folder, expect):
    model_in_keras(cell).save_weights(folder / "m.weights.h5")
    with expect.raises(ValueError, match=REFUSED_BY_KERAS):
        model_in_keras(cell, layers=2).load_weights(folder / "m.weights.h5")


def model_in_torch(cell, units=4, layers=1):
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, units))
    model.extend([torch.nn.Linear(units, units) for _ in range(layers - 1)])
    model.append(torch.nn.Linear(units, 2))
    return model.to(cell.device, cell.dtype)


def wider_in_torch(cell, folder, expect):
    import torch

    torch.save(model_in_torch(cell).state_dict(), folder / "m.pt")
    state = torch.load(folder / "m.pt", weights_only=True)
    with expect.raises(RuntimeError, match="size mismatch for 0.weight"):
        model_in_torch(cell, units=5).load_state_dict(state)


def deeper_in_torch(cell, folder, expect):
    import torch

    torch.save(model_in_torch(cell).state_dict(), folder / "m.pt")
    state = torch.load(folder / "m.pt", weights_only=True)
    with expect.raises(RuntimeError, match='Missing key.*"2.weight"'):
        model_in_torch(cell, layers=2).load_state_dict(state)


@behaviour(
    "persistence.weights-need-same-architecture",
    frameworks="torch keras",
    precisions="float32",
    modes="eager",
    catches="keras.weights-that-do-not-fit-are-passed-over torch.load-state-dict-is-never-strict",
)
def test_weights_need_same_architecture(wider, deeper, cell, expect, tmp_path):
    """Weights do not load into a wider model nor into a deeper one.

    torch names the parameters: "size mismatch" and "Missing key(s)". Keras says how many objects
    could not be loaded.
    """
    wider(cell, tmp_path, expect)
    deeper(cell, tmp_path, expect)


# ----------------------------------------------------------------------------------------------
# The architecture alone.


def rebuilt_in_keras(cell):
    """(shapes of the weights of both, predictions of the one, of the other, of it with weights)."""
    import keras

    model = model_in_keras(cell)
    rebuilt = keras.models.model_from_json(model.to_json())
    x = keras.ops.convert_to_tensor(X, dtype=cell.dtype)
    before = rebuilt(x)
    rebuilt.set_weights(model.get_weights())
    shapes = [
        [(layer.name, w.shape) for layer in m.layers for w in layer.get_weights()]
        for m in (model, rebuilt)
    ]
    return shapes, model(x), before, rebuilt(x)


@behaviour(
    "persistence.model-json-architecture-only",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.set-weights-passes-through-bfloat16",
)
def test_model_json_architecture_only(rebuilt, cell, expect):
    """to_json and model_from_json give the same layers with fresh weights.

    The predictions differ until set_weights brings the weights, and then are equal bit for bit.
    """
    (of_model, of_rebuilt), original, before, after = rebuilt(cell)
    expect.exactly(observed=of_rebuilt, expected=of_model, what="layers and shapes of weights")
    fresh = bool((cell.to_numpy(before) != cell.to_numpy(original)).all())
    expect.exactly(observed=fresh, expected=True, what="whether the weights are fresh")
    expect.exactly(observed=after, expected=cell.to_numpy(original), what="predictions")


# ----------------------------------------------------------------------------------------------
# The common mistake: a subclass that does not say how it was built.


def mistake_in_keras(cell, folder):
    """Its factor is 3, but nothing in the file says so: the loaded layer has the default, 1."""
    import keras

    class Scale(keras.layers.Layer):
        def __init__(self, factor=1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return super().get_config()

    model = keras.Sequential([keras.Input((3,)), Scale(3.0, dtype=cell.dtype)])
    model.save(folder / "mistake.keras")
    loaded = keras.models.load_model(folder / "mistake.keras", custom_objects={"Scale": Scale})
    return loaded(keras.ops.convert_to_tensor(X, dtype=cell.dtype))


def fix_in_keras(cell, folder):
    import keras

    class Scale(keras.layers.Layer):
        def __init__(self, factor=1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    model = keras.Sequential([keras.Input((3,)), Scale(3.0, dtype=cell.dtype)])
    model.save(folder / "fix.keras")
    loaded = keras.models.load_model(folder / "fix.keras", custom_objects={"Scale": Scale})
    return loaded(keras.ops.convert_to_tensor(X, dtype=cell.dtype))


def unknown_in_keras(cell, folder, expect):
    """The file names the class, but does not hold its code."""
    import keras

    with expect.raises(TypeError, match="Scale"):
        keras.models.load_model(folder / "fix.keras")


@behaviour(
    "persistence.custom-layer-get-config",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.custom-layers-forget-their-arguments",
)
def test_custom_layer_get_config(mistake, fix, unknown, cell, expect, tmp_path):
    """A layer of one's own is rebuilt from its get_config, and needs custom_objects to be found.

    What get_config leaves out comes back as the default: a factor of 3 becomes 1, and the loaded
    model predicts something else without a word. With the factor in it the outputs are 3x.
    """
    expect.exactly(observed=mistake(cell, tmp_path), expected=X, what="outputs, factor left out")
    expect.exactly(observed=fix(cell, tmp_path), expected=3 * X, what="outputs, factor saved")
    unknown(cell, tmp_path, expect)
