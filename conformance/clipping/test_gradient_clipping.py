"""Gradient clipping: by value, by norm, by global norm.

Three ways to keep one bad batch from throwing the weights far away. Clipping by value limits every
component on its own and so turns the gradient; clipping by norm shortens it and keeps its
direction; clipping by global norm treats all gradients as one vector, so that layers keep their
proportions. A gradient within the limit is left alone.

                value                    norm of one gradient   global norm
    torch       clip_grad_value_         (a single parameter)   clip_grad_norm_
    Lightning   gradient_clip_algorithm="value"                 gradient_clip_val
    TensorFlow  tf.clip_by_value         tf.clip_by_norm        tf.clip_by_global_norm
    Keras       clipvalue                clipnorm               global_clipnorm
    optax       clip                     (a single parameter)   clip_by_global_norm

torch divides by norm + 1e-6, the others by the norm itself. Keras's clipnorm clips the gradient of
each variable by itself: it does not bound the norm of the whole gradient, global_clipnorm does.

A gradient that an optimizer clips is read off the step it makes: SGD with learning rate 1 takes a
weight from 0 to minus the gradient.

Sources: class 111, topics 2 to 4, definitions of clipnorm, clipvalue and global norm, exercises 3
and 4, frequent questions 2 and 4; class 121, exercise 3; Pascanu et al. (2013), arXiv:1211.5063;
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#gradient-clip-val,
https://www.tensorflow.org/api_docs/python/tf/clip_by_global_norm,
https://keras.io/api/optimizers/,
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.clip_by_global_norm
"""

import numpy as np
import pytest

from fixtures.matrix import behaviour
from fixtures.matrix.needs import unmet_requirement
from fixtures.precision import rounded
from reference.clipping import clip_by_global_norm, clip_by_norm, clip_by_value

# The squares of the matrix add up to 49, those of the vector to 576: norms 7 and 24, together 25.
MATRIX = np.array([[1.0, -1.0, 2.0], [3.0, 5.0, -3.0]])
VECTOR = np.array([20.0, -12.0, 4.0, 4.0])

# Above every norm. A power of two: a factor computed as max_norm * (1 / max_norm) is exactly 1.
FAR = 32.0

epsilon_in_numpy = 0.0
epsilon_in_torch = 1e-6
epsilon_in_lightning = 1e-6
epsilon_in_tensorflow = 0.0
epsilon_in_keras = 0.0
epsilon_in_jax = 0.0

# Without jit JAX compiles a little program for each operation and precision.
EAGER_JAX = "jax-*float16-eager"

PRECISIONS = {
    "numpy": "float64 float32 float16",
    "others": "float64 float32 bfloat16 float16",
}


def torch_parameters(cell, gradients):
    """Parameters of zeros with the given gradients."""
    import torch

    parameters = []
    for gradient in gradients:
        parameter = torch.zeros(gradient.shape, dtype=cell.dtype, device=cell.device)
        parameter.grad = torch.tensor(gradient, dtype=cell.dtype, device=cell.device)
        parameters.append(parameter)
    return parameters


def keras_step(cell, gradients, **clipping):
    """Minus the weights after a step of SGD with learning rate 1 from zero."""
    import keras

    variables = [
        keras.Variable(np.zeros(gradient.shape), dtype=cell.dtype) for gradient in gradients
    ]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, **clipping)
    optimizer.apply(
        [keras.ops.convert_to_tensor(gradient, cell.dtype) for gradient in gradients], variables
    )
    return [0 - variable for variable in variables]


# ----------------------------------------------------------------------------------------------
# By value.


def by_value_in_numpy(cell, gradient, limit):
    return clip_by_value(gradient.astype(cell.dtype), limit)


def by_value_in_torch(cell, gradient, limit):
    import torch

    (parameter,) = torch_parameters(cell, [gradient])
    torch.nn.utils.clip_grad_value_([parameter], clip_value=limit)
    return parameter.grad


def by_value_in_tensorflow(cell, gradient, limit):
    import tensorflow as tf

    clip = cell.compile(lambda gradient: tf.clip_by_value(gradient, -limit, limit))
    return clip(tf.constant(gradient, cell.dtype))


def by_value_in_keras(cell, gradient, limit):
    return keras_step(cell, [gradient], clipvalue=limit)[0]


def by_value_in_jax(cell, gradient, limit):
    import jax.numpy as jnp
    import optax

    gradient = jnp.asarray(gradient, cell.dtype)
    clipping = optax.clip(limit)
    clip = cell.compile(lambda gradient: clipping.update(gradient, clipping.init(gradient))[0])
    return clip(gradient)


@behaviour(
    "clipping.value-clips-elementwise",
    frameworks="numpy torch tensorflow keras jax",
    precisions=PRECISIONS,
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    catches="torch.clipping-leaves-negative-gradients optax.clipping-leaves-negative-gradients",
)
def test_value_clips_elementwise(by_value, cell, expect):
    """Clipping by value limits every component to [-2, 2], and leaves the smaller ones alone.

    The direction changes: [[1, -1, 2], [3, 5, -3]] becomes [[1, -1, 2], [2, 2, -2]]. A limit of 32
    changes nothing.
    """
    clipped = by_value(cell, MATRIX, 2.0)
    expect.exactly(observed=clipped, expected=np.array([[1.0, -1.0, 2.0], [2.0, 2.0, -2.0]]))
    expect.exactly(observed=by_value(cell, MATRIX, FAR), expected=MATRIX, what="within the limit")


# ----------------------------------------------------------------------------------------------
# By the norm of one gradient.


def by_norm_in_numpy(cell, gradient, max_norm):
    return clip_by_norm(gradient.astype(cell.dtype), max_norm)


def by_norm_in_torch(cell, gradient, max_norm):
    import torch

    (parameter,) = torch_parameters(cell, [gradient])
    torch.nn.utils.clip_grad_norm_(parameter, max_norm)
    return parameter.grad


def by_norm_in_tensorflow(cell, gradient, max_norm):
    import tensorflow as tf

    clip = cell.compile(lambda gradient: tf.clip_by_norm(gradient, max_norm))
    return clip(tf.constant(gradient, cell.dtype))


def by_norm_in_keras(cell, gradient, max_norm):
    return keras_step(cell, [gradient], clipnorm=max_norm)[0]


def by_norm_in_jax(cell, gradient, max_norm):
    import jax.numpy as jnp
    import optax

    gradient = jnp.asarray(gradient, cell.dtype)
    clipping = optax.clip_by_global_norm(max_norm)
    clip = cell.compile(lambda gradient: clipping.update(gradient, clipping.init(gradient))[0])
    return clip(gradient)


@behaviour(
    "clipping.norm-rescales",
    frameworks="numpy torch tensorflow keras jax",
    precisions=PRECISIONS,
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    costly=EAGER_JAX,
    catches="torch.clipping-without-epsilon optax.global-norm-off-if-compiled",
)
def test_norm_rescales(by_norm, epsilon, cell, expect):
    """A gradient of norm 7 clipped to norm 2 is multiplied by 2/7, in torch by 2/(7 + 1e-6).

    A bound of 32 changes nothing. Eleven roundings at most: five in the sum of six squares that
    are integers, three in the root, and a sum, a division and a product for the factor.
    """
    expected = clip_by_norm(MATRIX, 2.0, epsilon)
    expect.within(
        rounded(11, cell.precision),
        observed=by_norm(cell, MATRIX, 2.0),
        expected=expected,
        what="clipped gradient",
    )
    expect.exactly(observed=by_norm(cell, MATRIX, FAR), expected=MATRIX, what="within the bound")


# ----------------------------------------------------------------------------------------------
# Where torch's epsilon can be seen. At a norm of 7 it is one part in seven million, less than
# float32 can tell; at 7/1024 it is one in seven thousand. The factor of a clipping to 2/1024 is
# 2/7 = 0.285714, and 2/(7 + 0.001024) = 0.285672 in torch: it stops a little short of the bound,
# the more so the smaller the bound is.

SMALL = 2.0**-10


@behaviour(
    "clipping.torch-norm-epsilon",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32",
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    catches="torch.clipping-with-a-larger-epsilon tensorflow.clipping-by-norm-with-epsilon "
    "keras.clipnorm-with-epsilon",
)
def test_torch_norm_epsilon(by_norm, epsilon, cell, expect):
    """torch divides by the norm plus 1e-6, which shows at small norms; the others by the norm.

    A gradient of norm 7/1024, clipped to 2/1024. One of norm 0 stays 0 everywhere, and none that is
    within the bound changes. Roundings as in norm-rescales: powers of two add none.
    """
    gradient = SMALL * MATRIX
    expect.within(
        rounded(11, cell.precision),
        observed=by_norm(cell, gradient, 2.0 * SMALL),
        expected=clip_by_norm(gradient, 2.0 * SMALL, epsilon),
        what="clipped gradient",
    )
    zero = np.zeros_like(MATRIX)
    expect.exactly(observed=by_norm(cell, zero, 2.0), expected=zero, what="gradient of norm 0")
    untouched = by_norm(cell, gradient, 8.0 * SMALL)
    expect.exactly(observed=untouched, expected=gradient, what="within the bound")


# ----------------------------------------------------------------------------------------------
# By the norm of all gradients. The programs return the clipped gradients, and the norm before where
# the library returns it.


def by_global_norm_in_numpy(cell, gradients, max_norm):
    return clip_by_global_norm([gradient.astype(cell.dtype) for gradient in gradients], max_norm)


def by_global_norm_in_torch(cell, gradients, max_norm):
    """torch.compile has clip_grad_norm_ in one graph since torch 2.11.

    https://github.com/pytorch/pytorch/pull/170152
    """
    import torch

    if cell.is_compiled and (need := unmet_requirement("torch>=2.11")):
        pytest.skip(f"cannot-run: needs {need}")
    parameters = torch_parameters(cell, gradients)
    clip = cell.compile(lambda: torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    norm = clip()
    return [parameter.grad.clone() for parameter in parameters], norm


def by_global_norm_in_lightning(cell, gradients, max_norm):
    import lightning
    import torch

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.ParameterList(
                [torch.nn.Parameter(torch.zeros(gradient.shape)) for gradient in gradients]
            )
            self.dot = cell.compile(lambda weight, gradient: (weight * gradient).sum())

        def training_step(self, batch, batch_index):
            pairs = zip(self.weights, gradients, strict=True)
            return sum(self.dot(weight, weight.new_tensor(gradient)) for weight, gradient in pairs)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Linear()
    one_batch = torch.utils.data.DataLoader([0])
    trainer = lightning.Trainer(max_epochs=1, gradient_clip_val=max_norm, **cell.trainer_options)
    trainer.fit(model, one_batch)
    return [0 - weight for weight in model.weights], None


def by_global_norm_in_tensorflow(cell, gradients, max_norm):
    import tensorflow as tf

    clip = cell.compile(lambda gradients: tf.clip_by_global_norm(gradients, max_norm))
    return clip([tf.constant(gradient, cell.dtype) for gradient in gradients])


def by_global_norm_in_keras(cell, gradients, max_norm):
    return keras_step(cell, gradients, global_clipnorm=max_norm), None


def by_global_norm_in_jax(cell, gradients, max_norm):
    import jax.numpy as jnp
    import optax

    gradients = [jnp.asarray(gradient, cell.dtype) for gradient in gradients]
    clipping = optax.clip_by_global_norm(max_norm)
    clip = cell.compile(lambda gradients: clipping.update(gradients, clipping.init(gradients))[0])
    return clip(gradients), None


@behaviour(
    "clipping.global-norm",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions=PRECISIONS,
    modes={"keras": "eager", "lightning": "eager", "others": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    costly=f"{EAGER_JAX} torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.clipping-without-epsilon optax.global-norm-off-if-compiled "
    "tensorflow.clipping-through-float32-if-compiled lightning.clips-by-value",
)
def test_global_norm(by_global_norm, epsilon, cell, expect):
    """Gradients of norms 7 and 24 are one vector of norm 25: clipped to 2, both shrink by 2/25.

    torch and Lightning divide by 25 + 1e-6. torch and TensorFlow return the norm before clipping,
    25. A bound of 32 changes nothing. Fifteen roundings at most: nine in the sum of ten squares
    that are integers, three in the root, and a sum, a division and a product for the factor.
    """
    gradients = (MATRIX, VECTOR)
    clipped, norm = by_global_norm(cell, gradients, 2.0)
    expected, _ = clip_by_global_norm(gradients, 2.0, epsilon)
    for i, what in enumerate(("clipped matrix", "clipped vector")):
        expect.within(
            rounded(15, cell.precision), observed=clipped[i], expected=expected[i], what=what
        )
    if norm is not None:
        expect.within(rounded(12, cell.precision), observed=norm, expected=25.0, what="norm before")

    untouched, _ = by_global_norm(cell, gradients, FAR)
    for gradient, observed in zip(gradients, untouched, strict=True):
        expect.exactly(observed=observed, expected=gradient, what="gradient within the bound")


# ----------------------------------------------------------------------------------------------
# Another norm: torch alone can be told which, for all gradients as one vector. The absolute values
# of the matrix add up to 15 and those of the vector to 40; the largest is 20.

NORMS = {1.0: 55.0, 2.0: 25.0, float("inf"): 20.0}


def by_norm_type_in_numpy(cell, max_norm, norm_type):
    gradients = [gradient.astype(cell.dtype) for gradient in (MATRIX, VECTOR)]
    return clip_by_global_norm(gradients, max_norm, order=norm_type)


def by_norm_type_in_torch(cell, max_norm, norm_type):
    import torch

    parameters = torch_parameters(cell, (MATRIX, VECTOR))
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type=norm_type)
    return [parameter.grad for parameter in parameters], norm


@behaviour(
    "clipping.norm-type",
    frameworks="numpy torch",
    precisions=PRECISIONS,
    modes="eager",
    catches="torch.norms-of-tensors-add-up-as-squares",
)
def test_norm_type(by_norm_type, epsilon, cell, expect):
    """norm_type=1 takes the norm 15 + 40 = 55 of both gradients, inf their largest number, 20.

    Both shrink by 8 / norm, and the norm before is returned. A bound of 64 changes nothing. The
    sums round nothing: two roundings in each of two roots and powers, and a sum, a division and a
    product for the factor, come to at most fifteen, as in global-norm.
    """
    for norm_type, expected_norm in NORMS.items():
        what = f"norm_type={norm_type:g}"
        clipped, norm = by_norm_type(cell, 8.0, norm_type)
        expect.within(
            rounded(12, cell.precision), observed=norm, expected=expected_norm, what=f"norm, {what}"
        )
        for gradient, observed in zip((MATRIX, VECTOR), clipped, strict=True):
            expect.within(
                rounded(15, cell.precision),
                observed=observed,
                expected=gradient * 8.0 / (expected_norm + epsilon),
                what=f"clipped gradient, {what}",
            )
        untouched, _ = by_norm_type(cell, 64.0, norm_type)
        for gradient, observed in zip((MATRIX, VECTOR), untouched, strict=True):
            expect.exactly(observed=observed, expected=gradient, what=f"within the bound, {what}")


# ----------------------------------------------------------------------------------------------
# The common mistake: clipnorm=2 is taken for a bound on the norm of the whole gradient.


def clipped_each_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(np.zeros(array.shape), dtype=cell.dtype) for array in (MATRIX, VECTOR)]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, clipnorm=2.0)
    gradients = [tf.constant(array, cell.dtype) for array in (MATRIX, VECTOR)]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return [-variable for variable in variables]


def clipped_together_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    variables = [tf.Variable(np.zeros(array.shape), dtype=cell.dtype) for array in (MATRIX, VECTOR)]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, global_clipnorm=2.0)
    gradients = [tf.constant(array, cell.dtype) for array in (MATRIX, VECTOR)]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return [-variable for variable in variables]


def clipped_each_in_keras(cell):
    return keras_step(cell, (MATRIX, VECTOR), clipnorm=2.0)


def clipped_together_in_keras(cell):
    return keras_step(cell, (MATRIX, VECTOR), global_clipnorm=2.0)


@behaviour(
    "clipping.keras-clipnorm-is-per-variable",
    frameworks="tensorflow keras",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow"},
    catches="keras.clipnorm-for-all-variables-together[tensorflow-*|keras_tensorflow-*]",
)
def test_keras_clipnorm_is_per_variable(clipped_each, clipped_together, cell, expect):
    """Keras's clipnorm=2 clips norms of 7 and 24 to 2 and 2, that is, to 2 √2 together.

    global_clipnorm=2 gives what the name of the other one promises: 2 for the whole gradient, 14/25
    and 48/25 for its parts. Roundings as in norm-rescales and global-norm.
    """
    for observed, gradient in zip(clipped_each(cell), (MATRIX, VECTOR), strict=True):
        expect.within(
            rounded(11, cell.precision),
            observed=observed,
            expected=clip_by_norm(gradient, 2.0),
            what="gradient clipped by clipnorm",
        )
    expected, _ = clip_by_global_norm((MATRIX, VECTOR), 2.0)
    for observed, gradient in zip(clipped_together(cell), expected, strict=True):
        expect.within(
            rounded(15, cell.precision),
            observed=observed,
            expected=gradient,
            what="gradient clipped by global_clipnorm",
        )


# ----------------------------------------------------------------------------------------------
# Another one: clipnorm and clipvalue together, as if one came after the other.


def clipped_twice_in_keras(cell):
    return keras_step(cell, (MATRIX, VECTOR), clipnorm=2.0, clipvalue=1.0)


@behaviour(
    "clipping.clipnorm-and-clipvalue-together",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    needs={"keras": "keras>=3.2.1"},
    catches="keras.clipnorm-and-clipvalue-together",
)
def test_clipnorm_and_clipvalue_together(clipped_twice, cell, expect):
    """Keras takes one of clipnorm, clipvalue and global_clipnorm; two of them are a ValueError.

    Before 3.2.1 clipnorm silently won over clipvalue.
    """
    with expect.raises(ValueError, match="Only one of"):
        clipped_twice(cell)
