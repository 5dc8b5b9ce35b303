"""A round trip through a file changes nothing: weights, statistics and predictions, bit for bit.

Every format of number is stored as it is: float64 is not narrowed to float32, bfloat16 (which NumPy
and HDF5 do not know) comes back as bfloat16. What is not a weight must come back, too: the running
statistics of BatchNorm are as much a part of a prediction as the kernel is.

    torch          torch.save(model.state_dict()), load_state_dict     the code builds the model
    Keras          model.save("m.keras"), load_model                   the file builds the model
    TensorFlow     tf.train.Checkpoint                                 the code builds the model
    JAX (Flax)     flax.serialization, of nnx.state                    the code builds the model

Sources: class 102, exercise 3 and learning outcome 5; class 104, learning outcome 4;
https://keras.io/guides/serialization_and_saving/,
https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html,
https://www.tensorflow.org/guide/checkpoint,
https://flax.readthedocs.io/en/latest/api_reference/flax.serialization.html
"""

import tempfile

import numpy as np

from fixtures.matrix import behaviour

X = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0], [2.0, -1.0, 0.5], [-3.0, 0.25, 1.0]])

# Three features of different mean and variance, so that running statistics move away from 0 and 1.
PRECISIONS = "float64 float32 bfloat16 float16"


def before_and_after_in_torch(cell, folder):
    import torch

    def new_model():
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.PReLU(), torch.nn.Linear(4, 2)
        )
        return model.to(cell.device, cell.dtype)

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device)
    model = new_model()
    model(x)  # in training mode, which moves the running statistics
    torch.save(model.state_dict(), folder / "model.pt")

    loaded = new_model()
    loaded.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    with torch.no_grad():
        return [
            (model.eval()(x), torch.cat([value.flatten() for value in floats(model)]))
            for model in (model, loaded)
        ]


def floats(model):
    """The tensors of the state that are not counters."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


def layers_in_keras(dtype):
    import keras

    return [
        keras.Input((3,)),
        keras.layers.Dense(4, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.PReLU(alpha_initializer="random_normal", dtype=dtype),
        keras.layers.Dense(2, dtype=dtype),
    ]


def before_and_after_in_keras(cell, folder):
    import keras

    model = keras.Sequential(layers_in_keras(cell.dtype))
    x = keras.ops.convert_to_tensor(X, dtype=model.layers[0].compute_dtype)
    model(x, training=True)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    return [
        (
            model(x),
            keras.ops.concatenate([keras.ops.reshape(v, (-1,)) for v in model.weights]),
        )
        for model in (model, loaded)
    ]


def before_and_after_in_tensorflow(cell, folder):
    import keras
    import tensorflow as tf

    x = tf.constant(X, cell.dtype)
    model = keras.Sequential(layers_in_keras(cell.dtype.name))
    model(x, training=True)
    path = tf.train.Checkpoint(model=model).write(str(folder / "model"))

    loaded = keras.Sequential(layers_in_keras(cell.dtype.name))
    tf.train.Checkpoint(model=loaded).read(path).assert_existing_objects_matched()
    return [
        (model(x), tf.concat([tf.reshape(v, [-1]) for v in model.weights], axis=0))
        for model in (model, loaded)
    ]


def before_and_after_in_jax(cell, folder):
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from flax.serialization import from_bytes, to_bytes

    def new_model(seed):
        rngs = nnx.Rngs(seed)
        return [
            nnx.Linear(3, 4, dtype=cell.dtype, param_dtype=cell.dtype, rngs=rngs),
            nnx.BatchNorm(4, dtype=cell.dtype, param_dtype=cell.dtype, rngs=rngs),
            nnx.Linear(4, 2, dtype=cell.dtype, param_dtype=cell.dtype, rngs=rngs),
        ]

    def predict(layers, x, inference):
        linear, normalization, last = layers
        return last(normalization(linear(x), use_running_average=inference))

    def leaves(layers):
        return [leaf for layer in layers for leaf in jax.tree.leaves(nnx.state(layer))]

    x = jnp.asarray(X, cell.dtype)
    model = new_model(cell.seed)
    predict(model, x, inference=False)
    (folder / "model.msgpack").write_bytes(to_bytes(leaves(model)))

    loaded = new_model(cell.seed + 1)
    saved = from_bytes(leaves(loaded), (folder / "model.msgpack").read_bytes())
    saved = iter([jnp.asarray(leaf) for leaf in saved])
    for layer in loaded:
        state = nnx.state(layer)
        nnx.update(layer, jax.tree.map(lambda old: next(saved), state))
    return [
        (
            predict(layers, x, inference=True),
            jnp.concatenate([leaf.ravel() for leaf in leaves(layers)]),
        )
        for layers in (model, loaded)
    ]


OTHER_PRECISION = "Flax keeps running statistics in float32, and joins them to the weights"


@behaviour(
    "persistence.keras-roundtrip-predictions",
    frameworks="torch tensorflow keras jax",
    precisions={
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "others": PRECISIONS,
    },
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    costly="jax-*-float16-eager keras_jax-*-float16-eager",
    catches="torch.load-state-dict-leaves-buffers keras.saved-float64-passes-through-float32 "
    "tensorflow.restored-float64-passes-through-float32 "
    "flax.restored-float64-passes-through-float32",
)
def test_round_trip(before_and_after, cell, expect, tmp_path, monkeypatch):
    """A saved and loaded model has the same weights and predicts the same numbers, bit for bit.

    In each precision, with the running statistics of BatchNorm in inference mode.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # Keras 3.0 leaves it a failed save
    (before, weights), (after, loaded_weights) = before_and_after(cell, tmp_path)
    expect.exactly(
        observed=loaded_weights,
        expected=cell.to_numpy(weights),
        what="weights",
        other_precision=OTHER_PRECISION if cell.framework == "jax" else "",
    )
    expect.exactly(
        observed=after,
        expected=cell.to_numpy(before),
        what="predictions",
        other_precision=OTHER_PRECISION if cell.framework == "jax" else "",
    )
