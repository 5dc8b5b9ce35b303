"""Accuracy among many classes: the number of a class is no measurement, and is never rounded.

In mixed precision the predictions are 16 bits wide, and so are few whole numbers: bfloat16 has
8 significant bits and float16 has 11, so the first that they lack are

                255  256  257  258          2047  2048  2049  2050
    bfloat16    255  256  256  258          2048  2048  2048  2048
    float16     255  256  257  258          2047  2048  2048  2050

Vocabularies and sets of images have more classes than that. Targets are whole numbers, the
predicted class is an argmax: nothing has to become a 16-bit number to compare the two. Whoever
turns the targets into the format of the predictions finds 257 right where 256 is.

Sources: class 101, homework 4 and exercise 3; class 171, definitions 3;
https://keras.io/api/metrics/accuracy_metrics/#sparsecategoricalaccuracy-class,
https://keras.io/api/mixed_precision/, https://github.com/keras-team/keras/issues/15012,
https://github.com/keras-team/keras/issues/19709
"""

import numpy as np

from fixtures.matrix import behaviour

CLASSES = 2100


def accuracy_in_keras(cell, targets, predicted):
    """The model returns what it is fed with, in the cell's precision: rows with a single 1."""
    import keras

    model = keras.Sequential(
        [keras.Input((CLASSES,)), keras.layers.Activation("linear", dtype=cell.dtype)]
    )
    cell.compile_model(model, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    probabilities = np.eye(CLASSES, dtype="float32")[predicted]
    logs = model.evaluate(probabilities, np.array(targets), verbose=0, return_dict=True)
    return float(logs["accuracy"])


@behaviour(
    "metrics.accuracy-of-many-classes",
    frameworks="keras",
    precisions="float32 mixed_bfloat16 mixed_float16",
    modes="eager",
    catches="keras.sparse-accuracy-compares-bytes",
)
def test_accuracy_of_many_classes(accuracy, cell, expect):
    """What is right counts as right, and no other class does: 256 apart, or next to each other."""
    for what, targets, predicted, expected in (
        ("the right classes", [3, 257, 2049], [3, 257, 2049], 1.0),
        ("classes 256 apart", [3, 255], [259, 511], 0.0),
        ("neighbours, 256 for 257 and 2048 for 2049", [257, 2049], [256, 2048], 0.0),
    ):
        expect.exactly(
            observed=accuracy(cell, targets, predicted),
            expected=expected,
            what=f"accuracy of {what}",
        )
