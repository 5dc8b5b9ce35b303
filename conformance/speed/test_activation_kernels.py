"""What an activation function costs: ReLU, GELU, and GELU approximated by tanh.

ReLU is one comparison. The exact GELU needs the error function, and its approximation by tanh was
made to avoid that where it was slow. What both cost depends less on the formula than on the kernel:
one fused loop with a vectorised erf reads and writes each number once, a composition of eight
operations does so eight times.

                      GELU of a Tensor
    torch             one kernel, exact or tanh
    TensorFlow        x / 2 (1 + erf(x / sqrt(2))), operation by operation, unless XLA fuses it
    Keras             that of its backend

Sources: class 109, common mistake 4, topics (GELU) and question 4; catalogue:
speed.activation-costs, speed.gelu-tanh-ten-times; Hendrycks and Gimpel 2016 (arXiv:1606.08415);
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html,
https://www.tensorflow.org/api_docs/python/tf/nn/gelu, https://keras.io/api/layers/activations/
"""

import numpy as np

from fixtures.precision import Bound, accumulated
from fixtures.speed import Variant, claim


def values(count):
    return 3 * np.sin(np.arange(float(count)))


def variants_in_torch(cell):
    import torch
    from torch.nn import functional

    x = torch.tensor(values(100_000), dtype=cell.dtype, device=cell.device)
    return Variant("gelu", lambda: functional.gelu(x)), Variant("relu", lambda: functional.relu(x))


def variants_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(values(100_000), cell.dtype)
    return Variant("gelu", lambda: tf.nn.gelu(x)), Variant("relu", lambda: tf.nn.relu(x))


def variants_in_keras(cell):
    import keras

    x = keras.ops.convert_to_tensor(values(100_000), cell.dtype)
    return (
        Variant("gelu", lambda: keras.activations.gelu(x)),
        Variant("relu", lambda: keras.activations.relu(x)),
    )


@claim(
    "speed.activation-costs",
    claimed="about 2 times slower",
    low=1.5,
    high=2.5,
    both=True,
    source="class 109, common mistake 4",
    frameworks="torch tensorflow keras",
    precisions="float32",
    modes="eager",
    devices="cpu",
)
def test_activation_costs(variants, cell, speed):
    """On a CPU, GELU costs about twice as much as ReLU."""
    speed.compare_unlike(*variants(cell))


def gelu_variants_in_torch(cell):
    import torch
    from torch.nn.functional import gelu

    x = torch.tensor(values(4_000_000), dtype=cell.dtype, device=cell.device)
    return Variant("erf", lambda: gelu(x)), Variant("tanh", lambda: gelu(x, approximate="tanh"))


def gelu_variants_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(values(4_000_000), cell.dtype)
    return (
        Variant("erf", lambda: tf.nn.gelu(x, approximate=False)),
        Variant("tanh", lambda: tf.nn.gelu(x, approximate=True)),
    )


def gelu_variants_in_keras(cell):
    import keras

    x = keras.ops.convert_to_tensor(values(4_000_000), cell.dtype)
    return (
        Variant("erf", lambda: keras.activations.gelu(x, approximate=False)),
        Variant("tanh", lambda: keras.activations.gelu(x, approximate=True)),
    )


@claim(
    "speed.gelu-tanh-ten-times",
    claimed="about 10 times faster",
    low=8.0,
    high=12.0,
    source="class 109, question 4",
    frameworks="torch tensorflow keras",
    precisions="float32",
    modes="eager",
    devices="cuda",
)
def test_gelu_tanh_ten_times(gelu_variants, cell, speed):
    """On a GPU, GELU approximated by tanh is about ten times faster than the exact one."""
    apart = 4.74e-4 + accumulated(20, cell.precision) * 3  # of numbers from -3 to 3
    within = Bound(absolute=apart, because="the approximation is off by 4.73e-4 at most")
    speed.compare(*gelu_variants(cell), within=within)
