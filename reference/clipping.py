"""Gradient clipping: by value, by the norm of one gradient, by the norm of all of them."""

import numpy as np


def clip_by_value(gradient, limit):
    """Every component limited to [-limit, limit], each on its own."""
    return np.clip(gradient, -limit, limit)


def clip_by_norm(gradient, max_norm, epsilon=0.0):
    """The gradient times min(1, max_norm / (norm + epsilon)); the norm is Euclidean."""
    (clipped,), _ = clip_by_global_norm([gradient], max_norm, epsilon)
    return clipped


def clip_by_global_norm(gradients, max_norm, epsilon=0.0, order=2.0):
    """All gradients times one factor, as if they were a single vector: (clipped, norm before).

    gradients: arrays of any shapes and one dtype, which the results keep. The factor is min(1,
    max_norm / (norm + epsilon)), and exactly 1 where the norm does not exceed max_norm. torch adds
    an epsilon of 1e-6, nobody else does. The norm is Euclidean, or that of another `order`: the sum
    of the absolute values for 1, the largest of them for infinity.
    Sources: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html,
    https://www.tensorflow.org/api_docs/python/tf/clip_by_global_norm
    """
    if order == 2:
        nothing = gradients[0].dtype.type(0)  # NumPy 1 makes float64 of a plain 0 and a float32
        norm = np.sqrt(sum((np.sum(gradient * gradient) for gradient in gradients), start=nothing))
    else:
        norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in gradients]), order)
    factor = min(1.0, max_norm / (float(norm) + epsilon)) if norm else 1.0
    return [gradient * gradient.dtype.type(factor) for gradient in gradients], norm
