"""What a metric leaves out, and what counts more: masks and sample weights.

A metric is a mean over what counts: sum(weight · value) / sum(weight). A padded time step has the
weight 0, by the mask that Masking or Embedding(mask_zero=True) set on it.

    time steps 1, 2 and padding 0, target 0, 0 and 7:
    squared errors 1, 4 (and 49 where padding counts), mean 2.5

    right, wrong; right, wrong, with weights 1, 0; 1, 0: mean of 1 and 1

    classes 0 0 1 1 as 0 1 0 1, weights 3 3 3 1: confusion [[3, 3], [3, 1]],
    IoU 3/9 and 1/7, mean 5/21. Weights 0.3 0.3 0.3 0.1 are the same, a tenth each.

Sources: class 135, common mistake 5; class 119, definitions (métrica stateful); class 132,
definitions 2; https://keras.io/guides/understanding_masking_and_padding/,
https://keras.io/api/metrics/base_metric/, https://keras.io/api/metrics/segmentation_metrics/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded

# ----------------------------------------------------------------------------------------------
# A mask.


def padded_in_keras(cell):
    """Loss, metric and weighted metric of a sequence whose third step is padding."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((3, 1)),
            keras.layers.Masking(0.0, dtype=cell.dtype),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype=cell.dtype),
        ]
    )
    cell.compile_model(
        model,
        optimizer="sgd",
        loss="mse",
        metrics=[keras.metrics.MeanSquaredError(name="metric")],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="weighted")],
    )
    x, y = np.array([[[1.0], [2.0], [0.0]]]), np.array([[[0.0], [0.0], [7.0]]])
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    return [float(logs[name]) for name in ("loss", "metric", "weighted")]


@behaviour(
    "metrics.padding-does-not-count",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.metrics-count-padding",
)
def test_padding_does_not_count(padded, cell, expect):
    """Loss and metrics of a masked sequence are those of its two real steps, (1 + 4) / 2.

    Keras scales the mask by 3/2, so that a mean over all three steps is one over two: a quotient,
    three products, three sums and the mean's quotient, within 10 roundings.
    """
    bound = rounded(10, "float32")
    for what, observed in zip(("loss", "metric", "weighted metric"), padded(cell), strict=True):
        expect.within(bound, observed=observed, expected=2.5, what=what)


# ----------------------------------------------------------------------------------------------
# Weights of the elements of a sample.


def accuracy_in_keras(cell):
    import keras

    accuracy = keras.metrics.BinaryAccuracy()
    target = np.array([[1.0, 1.0], [0.0, 0.0]], "float32")
    prediction = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
    weights = np.array([[1.0, 0.0], [1.0, 0.0]], "float32")
    accuracy.update_state(target, prediction, sample_weight=weights)
    return float(accuracy.result())


@behaviour(
    "metrics.binary-accuracy-element-weights",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.binary-accuracy-is-a-mean-per-sample",
)
def test_binary_accuracy_element_weights(accuracy, cell, expect):
    """Weights in the shape of the targets: both that count are right, though half of all are."""
    expect.exactly(observed=accuracy(cell), expected=1.0, what="accuracy")


# ----------------------------------------------------------------------------------------------
# Weights in intersection over union.


def mean_iou_in_keras(cell, weights):
    import keras

    mean_iou = keras.metrics.MeanIoU(num_classes=2)
    mean_iou.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=weights)
    return float(mean_iou.result())


# Each weight, sum and quotient rounds once. Keras adds 1e-7 to every denominator, which is 0.7 at
# least, and to the two of the mean: 2e-7 of the result.
MEAN_IOU_BOUND = Bound(
    relative=accumulated(12, "float32") + 2e-7,
    because="12 roundings in float32, and the epsilon of 1e-7 in two denominators",
)


@behaviour(
    "metrics.mean-iou-whole-weights",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.mean-iou-without-weights",
)
def test_mean_iou_whole_weights(mean_iou, cell, expect):
    """With weights of 3, 3, 3, 1 the mean IoU is 5/21; without weights it would be 1/3."""
    observed = mean_iou(cell, [3, 3, 3, 1])
    expect.within(MEAN_IOU_BOUND, observed=observed, expected=5 / 21, what="mean IoU")


@behaviour(
    "metrics.mean-iou-weights",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.mean-iou-without-weights",
)
def test_mean_iou_weights(mean_iou, cell, expect):
    """Weights of 0.3, 0.3, 0.3, 0.1, the documentation's example, give the same 5/21."""
    observed = mean_iou(cell, [0.3, 0.3, 0.3, 0.1])
    expect.within(
        MEAN_IOU_BOUND, observed=observed, expected=5 / 21, what="mean IoU with fractional weights"
    )
