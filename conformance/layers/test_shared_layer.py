"""One layer called twice: one set of weights, and the gradient of both calls.

A layer y = w · x with w = (2, 3) reads x1 = (1, 2) and x2 = (3, 4), and the loss is y1 + 2 y2. It
is one layer, so there are two weights and not four, and their gradient is the sum over the calls:

    of y1 alone      (1, 2)
    of 2 y2 alone    (6, 8)
    of the loss      (7, 10)       a step of SGD with rate 1: (2, 3) - (7, 10) = (-5, -7)

The model holds the layer under two names, as Siamese networks and tied embeddings do. An optimizer
that met the weights once for each name would take two steps at once, to (-12, -17). The common
mistake is to make two layers alike: they have four weights, and part with the first step.

Sources: class 103, definitions (shared layer), exercise 3;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.parameters,
https://keras.io/guides/functional_api/#shared-layers,
https://www.tensorflow.org/api_docs/python/tf/Module,
https://flax.readthedocs.io/en/latest/nnx_basics.html
"""

import numpy as np

from fixtures.matrix import behaviour

WEIGHTS = [[2.0], [3.0]]
X1 = [[1.0, 2.0]]
X2 = [[3.0, 4.0]]


def shared_in_torch(cell):
    """(number of weights, the first layer's after a step, the second's)."""
    return _trained_in_torch(cell, is_shared=True)


def apart_in_torch(cell):
    return _trained_in_torch(cell, is_shared=False)


def _trained_in_torch(cell, is_shared):
    import torch

    def dense():
        layer = torch.nn.Linear(2, 1, bias=False, dtype=cell.dtype, device=cell.device)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(WEIGHTS).T)
        return layer

    model = torch.nn.Module()
    model.left = dense()
    model.right = model.left if is_shared else dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x1, x2 = (torch.tensor(x, dtype=cell.dtype, device=cell.device) for x in (X1, X2))
    (model.left(x1) + 2 * model.right(x2)).sum().backward()
    optimizer.step()
    count = sum(parameter.numel() for parameter in model.parameters())
    return count, model.left.weight.T, model.right.weight.T


def shared_in_tensorflow(cell):
    return _trained_in_tensorflow(cell, is_shared=True)


def apart_in_tensorflow(cell):
    return _trained_in_tensorflow(cell, is_shared=False)


def _trained_in_tensorflow(cell, is_shared):
    import tensorflow as tf

    model = tf.Module()
    model.left = tf.Variable(WEIGHTS, dtype=cell.dtype)
    model.right = model.left if is_shared else tf.Variable(WEIGHTS, dtype=cell.dtype)

    @cell.compile
    def gradients(x1, x2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(x1 @ model.left + 2 * (x2 @ model.right))
        return tape.gradient(loss, model.trainable_variables)

    steps = gradients(tf.constant(X1, cell.dtype), tf.constant(X2, cell.dtype))
    for variable, step in zip(model.trainable_variables, steps, strict=True):
        variable.assign_sub(step)
    count = sum(int(tf.size(variable)) for variable in model.trainable_variables)
    return count, tf.identity(model.left), tf.identity(model.right)


def shared_in_keras(cell):
    return _trained_in_keras(cell, is_shared=True)


def apart_in_keras(cell):
    return _trained_in_keras(cell, is_shared=False)


def _trained_in_keras(cell, is_shared):
    import keras

    left = keras.layers.Dense(1, use_bias=False, dtype=cell.dtype)
    right = left if is_shared else keras.layers.Dense(1, use_bias=False, dtype=cell.dtype)
    x1, x2 = (keras.Input((2,), dtype=cell.dtype) for _ in range(2))
    y2 = right(x2)
    output = keras.layers.Add(dtype=cell.dtype)([left(x1), y2, y2])
    model = keras.Model([x1, x2], output)
    for layer in (left, right):
        layer.set_weights([np.array(WEIGHTS)])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(1.0),
        loss=lambda target, output: keras.ops.sum(output),
    )
    model.fit([np.array(X1), np.array(X2)], np.zeros((1, 1)), epochs=1, verbose=0)
    return model.count_params(), left.kernel, right.kernel


def shared_in_jax(cell):
    return _trained_in_jax(cell, is_shared=True)


def apart_in_jax(cell):
    return _trained_in_jax(cell, is_shared=False)


def _trained_in_jax(cell, is_shared):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self):
            self.left = nnx.Param(jnp.asarray(WEIGHTS, cell.dtype))
            self.right = self.left if is_shared else nnx.Param(jnp.asarray(WEIGHTS, cell.dtype))

        def __call__(self, x1, x2):
            return (x1 @ self.left[...] + 2 * (x2 @ self.right[...])).sum()

    model = Model()
    x1, x2 = jnp.asarray(X1, cell.dtype), jnp.asarray(X2, cell.dtype)
    gradients = cell.compile(nnx.grad(lambda model: model(x1, x2)), jit=nnx.jit)(model)
    weights = nnx.state(model, nnx.Param)
    count = sum(leaf.size for leaf in jax.tree.leaves(weights))
    nnx.update(model, jax.tree.map(lambda weight, step: weight - step, weights, gradients))
    return count, model.left[...], model.right[...]


@behaviour(
    "layers.shared-layer",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32",
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"jax": "flax>=0.10"},
    catches="torch.parameters-come-once-a-name keras.second-call-of-a-layer-is-constant",
)
def test_shared_layer(shared, apart, cell, expect):
    """A layer called twice has two weights, which the gradients of both calls take to (-5, -7).

    Two layers made alike have four: one goes to (1, 1), the other to (-4, -5).
    """
    count, left, right = shared(cell)
    expect.exactly(observed=count, expected=2, what="number of weights, shared")
    expect.exactly(observed=left, expected=[[-5.0], [-7.0]], what="weights, shared")
    expect.exactly(observed=right, expected=[[-5.0], [-7.0]], what="by the other name, shared")

    count, left, right = apart(cell)
    expect.exactly(observed=count, expected=4, what="number of weights, two layers")
    expect.exactly(observed=left, expected=[[1.0], [1.0]], what="weights, first of two layers")
    expect.exactly(observed=right, expected=[[-4.0], [-5.0]], what="weights, second of two layers")
