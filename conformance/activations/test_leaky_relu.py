"""Leaky ReLU: x above zero, slope times x below. The slope unless told otherwise differs:

    torch.nn.functional.leaky_relu   0.01        negative_slope
    jax.nn.leaky_relu                0.01        negative_slope
    tf.nn.leaky_relu                 0.2         alpha
    keras.layers.LeakyReLU           0.3         negative_slope (alpha in Keras 2)

Sources: class 109, topics (Leaky ReLU); Maas, Hannun and Ng 2013;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu.html,
https://www.tensorflow.org/api_docs/python/tf/nn/leaky_relu,
https://keras.io/api/layers/activation_layers/leaky_relu/,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.leaky_relu.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded
from reference import activations

# No format rounds these, nor a quarter of them. At 0 there is no slope, and 0 is left out.
X = np.array([-3.0, -1.0, -0.5, 0.5, 2.0, 5.0])

# One compiled precision of torch tells what the compiler does, Keras's train step takes it half a
# minute, and JAX without jit compiles every operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_torch-*-compiled keras_jax-*-float64-eager keras_jax-*float16-*"
)

slope_in_numpy = 0.01
slope_in_torch = 0.01
slope_in_tensorflow = 0.2
slope_in_keras = 0.3
slope_in_jax = 0.01


# Each program returns the values at X and the slopes, by default or with the slope it is told.


def values_and_slopes_in_numpy(cell, **how):
    x = X.astype(cell.dtype)
    slope = how.get("slope", 0.01)
    return activations.leaky_relu(x, slope), activations.leaky_relu_derivative(x, slope)


def values_and_slopes_in_torch(cell, **how):
    import torch

    options = {"negative_slope": how["slope"]} if how else {}

    @cell.compile
    def leaky_relu(x):
        return torch.nn.functional.leaky_relu(x, **options)

    x = torch.tensor(X, device=cell.device, dtype=cell.dtype, requires_grad=True)
    y = leaky_relu(x)
    y.sum().backward()
    return y, x.grad


def values_and_slopes_in_tensorflow(cell, **how):
    import tensorflow as tf

    options = {"alpha": how["slope"]} if how else {}

    @cell.compile
    def leaky_relu_and_slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.nn.leaky_relu(x, **options)
        return y, tape.gradient(y, x)

    return leaky_relu_and_slope(tf.constant(X, cell.dtype))


def values_and_slopes_in_keras(cell, **how):
    """Keras has no call that returns a gradient, but SGD with learning rate 1 subtracts it."""
    import keras

    options = {"negative_slope": how["slope"]} if how else {}

    class Values(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.x = self.add_weight(shape=(1, len(X)), initializer="zeros")
            self.leaky_relu = keras.layers.LeakyReLU(dtype=cell.dtype, **options)

        def call(self, inputs):
            return self.leaky_relu(keras.ops.multiply(inputs, self.x))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **options):
            return keras.ops.sum(y_pred)

    model = Values()
    model.x.assign(X[None])
    one = np.ones((1, 1))
    values = model(one)[0]
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0))
    model.fit(one, one, batch_size=1, epochs=1, verbose=0)
    return values, X - cell.to_numpy(model.x)[0]


def values_and_slopes_in_jax(cell, **how):
    import jax
    import jax.numpy as jnp

    options = {"negative_slope": how["slope"]} if how else {}

    @cell.compile
    def leaky_relu_and_slope(x):
        y, pullback = jax.vjp(lambda x: jax.nn.leaky_relu(x, **options), x)
        return y, pullback(jnp.ones_like(y))[0]

    return leaky_relu_and_slope(jnp.asarray(X, cell.dtype))


@behaviour(
    "activations.leaky-relu-formula",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly=COSTLY,
    catches="tensorflow.leaky-relu-is-relu torch.leaky-relu-gradient-off-by-a-thousandth[*-eager] "
    "jax.leaky-relu-slope-of-keras",
)
def test_leaky_relu_formula(values_and_slopes, slope, cell, expect):
    """Leaky ReLU is x above 0 and slope * x below, and its slope is 1 above and the slope below.

    A slope of 1/4 rounds nothing, and the values and the slopes are exact. The default slope is
    rounded to the precision, and its product with x again; w - g once more in Keras, from which
    the slopes are read.
    """
    values, slopes = values_and_slopes(cell, slope=0.25)
    expected = activations.leaky_relu(X, 0.25)
    expect.exactly(observed=values, expected=expected, what="values for a slope of 1/4")
    expected = activations.leaky_relu_derivative(X, 0.25)
    expect.exactly(
        observed=slopes,
        expected=expected,
        what="slopes for a slope of 1/4",
        other_precision="in Keras a slope is a difference of weights, taken in float64",
    )

    values, slopes = values_and_slopes(cell)
    bound = rounded(2, cell.precision)
    expected = activations.leaky_relu(X, slope)
    expect.within(bound, observed=values, expected=expected, what=f"values for {slope}")
    stored = accumulated(1, cell.precision) * (np.abs(X) + 1) * (cell.framework == "keras")
    expect.within(
        Bound(bound.relative, bound.absolute + stored, bound.because),
        observed=slopes,
        expected=activations.leaky_relu_derivative(X, slope),
        what=f"slopes for {slope}",
        other_precision="in Keras a slope is a difference of weights, taken in float64",
    )
