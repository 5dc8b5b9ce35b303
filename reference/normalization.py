"""Layer normalization of arrays; it also takes `Tensor`s, and is then differentiable."""

# What each library adds to the variance unless told otherwise, in units of x squared.
# https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
TORCH_EPSILON = 1e-5
# https://keras.io/api/layers/normalization_layers/layer_normalization/
KERAS_EPSILON = 1e-3
# https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
FLAX_EPSILON = 1e-6


def layer_normalization(x, gamma, beta, epsilon):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the statistics of each row.

    x: (batch, features), array or Tensor; gamma (scale), beta (shift): (features,); epsilon: in
    units of x squared. The variance is divided by the number of features, and a row's output
    depends on that row alone. Returns (batch, features), a Tensor if any argument is one.
    Raises ValueError unless x has two axes and a feature.
    Source: Ba, Kiros and Hinton, Layer Normalization (2016), arXiv:1607.06450, equation 4.
    """
    if len(x.shape) != 2 or x.shape[1] == 0:
        raise ValueError(f"x of shape {x.shape}; expected (batch, features) with features >= 1")
    mean = x.mean(axis=1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    return (x - mean) / (variance + epsilon) ** 0.5 * gamma + beta
