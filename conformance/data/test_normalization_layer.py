"""Normalization.adapt: mean and variance of all the data, however it is cut into batches.

    output = (x - mean) / sqrt(variance)        one mean and variance for each feature

The variance is that of the population (divided by n). It is not the mean of the variances of the
batches, which knows nothing of how far their means are apart:

    batch          values               mean   variance
    first          0, 0, 0, 6, 6, 6        3          9
    second, rest   7, 15                  11         16
    all eight                              5      22.75     (6 (9 + 2²) + 2 (16 + 6²)) / 8
                                                  10.75     (6 · 9 + 2 · 16) / 8, without 2² and 6²

Sources: class 101, topics (normalization), exercise 1; class 126, definitions 1 and 2, exercise 1,
homework 1 and 2, common mistake 2;
https://keras.io/api/layers/preprocessing_layers/numerical/normalization/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

# The second feature is the first, doubled and shifted by one.
FIRST = np.array([0.0, 0.0, 0.0, 6.0, 6.0, 6.0, 7.0, 15.0])
DATA = np.stack([FIRST, 2 * FIRST + 1], axis=1)


def adapted_in_keras(cell, batch_size):
    import keras

    layer = keras.layers.Normalization(dtype=cell.dtype)
    if batch_size:
        import tensorflow as tf

        layer.adapt(tf.data.Dataset.from_tensor_slices(DATA.astype("float32")).batch(batch_size))
    else:
        layer.adapt(DATA.astype("float32"))
    new = keras.ops.convert_to_tensor([[5 + 22.75, 11 - 91.0]], dtype=cell.dtype)
    return layer.mean, layer.variance, layer(new)


@behaviour(
    "data.normalization-adapts-to-all-batches",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    needs={"keras": "keras-backend:tensorflow"},
    catches="keras.adapt-forgets-the-distance-of-batches",
)
def test_normalization_adapts_to_all_batches(adapted, cell, expect):
    """Eight rows as one array, in batches of six and two, or of two each: mean 5, variance 22.75.

    Of the other feature 11 and 91. In the mean the sum, a quotient and a product and sum of two
    batches round, in the variance these, a difference and a square. New data is measured by these
    statistics: one variance away is as many deviations, sqrt(22.75) and -sqrt(91).
    """
    for batch_size in (None, 6, 2):
        mean, variance, output = adapted(cell, batch_size)
        how = f"in batches of {batch_size}" if batch_size else "at once"
        bound = rounded(16, cell.precision)
        expect.within(bound, observed=mean, expected=[[5.0, 11.0]], what=f"mean, {how}")
        expect.within(bound, observed=variance, expected=[[22.75, 91.0]], what=f"variance, {how}")
        expect.within(
            rounded(20, cell.precision),
            observed=output,
            expected=[[22.75**0.5, -(91.0**0.5)]],
            what=f"output, {how}",
        )
