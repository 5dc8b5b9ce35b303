"""Initial weights of dense layers, of shape (fan_in, fan_out), float64."""

import numpy as np


def glorot_uniform(rng, fan_in, fan_out):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)): variance 2 / (fan_in + fan_out).

    rng: numpy.random.Generator. Keras's default for Dense.
    Source: Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward
    neural networks, equation 16; https://keras.io/api/layers/initializers/.
    """
    return _uniform(rng, np.sqrt(6 / (fan_in + fan_out)), fan_in, fan_out)


def he_uniform(rng, fan_in, fan_out):
    """Uniform in +-sqrt(6 / fan_in): variance 2 / fan_in, which keeps the signal through ReLU.

    rng: numpy.random.Generator. Source: He et al. (2015), Delving deep into rectifiers,
    arXiv:1502.01852, equation 10; https://keras.io/api/layers/initializers/.
    """
    return _uniform(rng, np.sqrt(6 / fan_in), fan_in, fan_out)


def _uniform(rng, limit, fan_in, fan_out):
    return rng.uniform(-limit, limit, size=(fan_in, fan_out))
