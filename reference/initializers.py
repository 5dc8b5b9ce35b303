"""Initial weights of dense layers, of shape (fan_in, fan_out), float64."""

import numpy as np

# Standard deviation of a standard normal variable cut at +-2. Dividing by it restores variance 1.
TRUNCATED_DEVIATION = 0.87962566103423978


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


def he_normal(rng, fan_in, fan_out):
    """Normal with variance 2 / fan_in, without limits, as torch.nn.init.kaiming_normal_ draws it.

    rng: numpy.random.Generator. Source: He et al. (2015), arXiv:1502.01852, equation 10;
    https://docs.pytorch.org/docs/stable/nn.init.html.
    """
    return rng.normal(0, np.sqrt(2 / fan_in), size=(fan_in, fan_out))


def he_normal_truncated(rng, fan_in, fan_out):
    """Normal cut at two of its deviations and widened so that the variance is 2 / fan_in again.

    No weight exceeds 2 / 0.8796 = 2.2738 times sqrt(2 / fan_in). rng: numpy.random.Generator. The
    he_normal of Keras and JAX: https://keras.io/api/layers/initializers/.
    """
    return _truncated_normal(rng, np.sqrt(2 / fan_in), fan_in, fan_out)


def lecun_normal(rng, fan_in, fan_out):
    """Truncated normal with variance 1 / fan_in, the default of flax.nnx.Linear.

    rng: numpy.random.Generator. Source: LeCun et al. (1998), Efficient BackProp, section 4.6;
    https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html.
    """
    return _truncated_normal(rng, np.sqrt(1 / fan_in), fan_in, fan_out)


def torch_linear_uniform(rng, fan_in, fan_out):
    """Uniform in +-1 / sqrt(fan_in): variance 1 / (3 fan_in), the default of torch.nn.Linear.

    rng: numpy.random.Generator. https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """
    return _uniform(rng, 1 / np.sqrt(fan_in), fan_in, fan_out)


def _uniform(rng, limit, fan_in, fan_out):
    return rng.uniform(-limit, limit, size=(fan_in, fan_out))


def _truncated_normal(rng, deviation, fan_in, fan_out):
    from scipy import stats  # half a second, which only a truncated normal should cost

    scale = deviation / TRUNCATED_DEVIATION
    return stats.truncnorm(-2, 2, scale=scale).rvs(size=(fan_in, fan_out), random_state=rng)
