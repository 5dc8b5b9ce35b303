"""An optimizer that accumulates gradients does everything else once an update, too.

gradient_accumulation_steps=k of a Keras optimizer takes the mean of k gradients as one of a large
batch. What belongs to an update then happens once for k micro-batches: weight decay shrinks the
weight once, and the steps that Adam's bias correction counts are updates.

    SGD, rate 1/2, weight decay 1/4, gradients 0: each update takes 1/8 of the weight.
    k = 2, six micro-batches:  1  7/8  7/8  49/64  49/64  343/512

    Adam moves by the learning rate in its first update, whatever the gradient's size, since
    m / (1 - β₁) over the root of v / (1 - β₂) is the gradient over its size. Had it counted the
    two micro-batches, it would divide by 1 - β₁² and the root of 1 - β₂², and move by 0.744 of it.

Sources: class 172, definition 6 and exercise 3; https://keras.io/api/optimizers/,
https://github.com/keras-team/keras/issues/19990
"""

from fixtures.matrix import behaviour
from fixtures.precision import rounded

NEEDS = {"keras": "keras>=3.1"}  # of the 3.0 releases only the last ones accumulate


def weights_in_keras(cell, optimizer, gradients):
    """The weight, 1 at first, after each micro-batch."""
    import keras

    variable = keras.Variable([1.0], dtype=cell.dtype)
    optimizer.build([variable])
    weights = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([gradient], cell.dtype)], [variable])
        weights.append(float(keras.ops.convert_to_numpy(variable)[0]))
    return weights


def decayed_in_keras(cell):
    import keras

    sgd = keras.optimizers.SGD(0.5, weight_decay=0.25, gradient_accumulation_steps=2)
    return weights_in_keras(cell, sgd, [0.0] * 6)


def first_update_in_keras(cell):
    import keras

    adam = keras.optimizers.Adam(0.125, epsilon=0.0, gradient_accumulation_steps=2)
    return weights_in_keras(cell, adam, [2.0, 4.0])


@behaviour(
    "training-loop.accumulation-decays-once",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    needs=NEEDS,
    catches="keras.accumulation-decays-with-every-micro-batch",
)
def test_accumulation_decays_once(decayed, cell, expect):
    """Weight decay belongs to the update: six micro-batches in pairs decay the weight three times.

    Eighths of eighths: every number is exact in float32.
    """
    expected = [1.0, 7 / 8, 7 / 8, 49 / 64, 49 / 64, 343 / 512]
    expect.exactly(observed=decayed(cell), expected=expected, what="weights")


@behaviour(
    "training-loop.accumulation-counts-updates",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    needs=NEEDS,
    catches="keras.accumulation-counts-micro-batches",
)
def test_accumulation_counts_updates(first_update, cell, expect):
    """Adam's bias correction counts updates: the first one moves the weight by the learning rate.

    From 1 to 1 - 1/8. Both moments and both powers round once or twice, then two quotients, a root
    and the product: within 10 roundings. 1 - β₂ = 0.001 is a difference of numbers near 1, whose
    rounding is 1000 times as large, once in the moment and once in its correction.
    """
    expect.within(
        rounded(2010, "float32"),
        observed=first_update(cell),
        expected=[1.0, 0.875],
        what="weights",
    )
