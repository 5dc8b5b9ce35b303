"""Splits: training and validation data may share nothing, in any epoch.

`take` and `skip` cut a tf.data pipeline by position. That is a split only while positions keep
their meaning: after a shuffle that reshuffles every epoch, samples wander from one side to the
other, and the validation set is trained on (the common mistake). torch's random_split draws the
indices once, and Keras's validation_split takes the end of the arrays before anything is shuffled.

Sources: class 127, exercise 3 and definition 3; class 102, frequent question 5 (validation_split);
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#take,
https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.random_split,
https://keras.io/api/models/model_training_apis/
"""

import numpy as np

from fixtures.matrix import behaviour

SAMPLES, TRAINING = 64, 48
EPOCHS = 3

# ----------------------------------------------------------------------------------------------
# Three epochs of (training samples, validation samples).


def fix_in_tensorflow(cell):
    """Split first, then shuffle what is trained on."""
    import tensorflow as tf

    samples = tf.data.Dataset.range(SAMPLES)
    training = samples.take(TRAINING).shuffle(TRAINING, seed=cell.seed)
    validation = samples.skip(TRAINING)
    return [
        (list(training.as_numpy_iterator()), list(validation.as_numpy_iterator()))
        for _ in range(EPOCHS)
    ]


def fix_in_torch(cell):
    import torch

    generator = torch.Generator().manual_seed(cell.seed)
    training, validation = torch.utils.data.random_split(
        range(SAMPLES), [TRAINING, SAMPLES - TRAINING], generator=generator
    )
    training = torch.utils.data.DataLoader(training, shuffle=True, generator=generator)
    validation = torch.utils.data.DataLoader(validation)
    return [
        (torch.cat(list(training)).tolist(), torch.cat(list(validation)).tolist())
        for _ in range(EPOCHS)
    ]


def mistake_in_tensorflow(cell):
    """Shuffle first: every pass draws another order, so every pass cuts another split."""
    import tensorflow as tf

    samples = tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES, seed=cell.seed)
    training, validation = samples.take(TRAINING), samples.skip(TRAINING)
    return [
        (list(training.as_numpy_iterator()), list(validation.as_numpy_iterator()))
        for _ in range(EPOCHS)
    ]


def mistake_in_torch(cell):
    """Split anew in every epoch."""
    import torch

    generator = torch.Generator().manual_seed(cell.seed)
    epochs = []
    for _ in range(EPOCHS):
        parts = torch.utils.data.random_split(
            range(SAMPLES), [TRAINING, SAMPLES - TRAINING], generator=generator
        )
        epochs.append(tuple(list(part) for part in parts))
    return epochs


@behaviour(
    "data.take-skip-split",
    frameworks="torch tensorflow",
    precisions="float32",
    modes="eager",
    catches="torch.random-split-off-by-one tensorflow.take-takes-one-more",
)
def test_take_skip_split(mistake, fix, cell, expect):
    """Split before shuffling: 48 + 16 samples, disjoint and complete, the same in every epoch.

    The training order still changes (two of 48! agree never). Shuffled or split anew in every
    epoch, validation samples of one epoch are trained on in another; that three epochs leave the
    same 16 of 64 out by chance has probability 1/C(64, 16)² ≈ 4·10⁻³⁰.
    """
    epochs = fix(cell)
    validation = sorted(epochs[0][1])
    for training, held_out in epochs:
        expect.exactly(observed=sorted(held_out), expected=validation, what="validation samples")
        expect.exactly(observed=len(training), expected=TRAINING, what="size of the training set")
        everybody = sorted([*training, *held_out])
        expect.exactly(observed=everybody, expected=list(range(SAMPLES)), what="both parts")
    orders = {tuple(training) for training, _ in epochs}
    expect.exactly(observed=len(orders), expected=EPOCHS, what="number of training orders")

    epochs = mistake(cell)
    trained_on = {sample for training, _ in epochs for sample in training}
    validated_on = {sample for _, held_out in epochs for sample in held_out}
    expect.at_least(observed=len(trained_on & validated_on), least=1, what="samples that leaked")


# ----------------------------------------------------------------------------------------------
# Sample i moves weight i alone, by -1 whenever it is trained on; its target is i.


def visits_in_keras(cell):
    import keras

    model = keras.Sequential(
        [
            keras.Input((100,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype),
        ]
    )

    def target_alone(target, output):
        return keras.ops.mean(target, axis=-1)

    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, output: keras.ops.sum(output),
        metrics=[keras.metrics.MeanMetricWrapper(target_alone, name="target")],
    )
    one_hot, targets = np.eye(100, dtype="float32"), np.arange(100.0).reshape(100, 1)
    history = model.fit(
        one_hot, targets, batch_size=40, epochs=2, validation_split=0.2, verbose=0
    ).history
    return -model.get_weights()[0].ravel(), history["target"], history["val_target"]


@behaviour(
    "data.validation-split-takes-last",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.validation-split-takes-the-first keras.validation-split-leaks-one-sample",
)
def test_validation_split_takes_last(visits, cell, expect):
    """fit(validation_split=0.2) holds out the last fifth of the arrays, before any shuffling.

    Of the samples 0..99, in two shuffled epochs, 0..79 are trained on twice each and 80..99 never;
    the targets 0..99 have the mean 39.5 in training and 89.5 in validation. Sums of integers below
    2²⁴ and a division: exact in float32.
    """
    trained, training_mean, validation_mean = visits(cell)
    expect.exactly(observed=trained, expected=np.array(80 * [2] + 20 * [0]), what="visits")
    expect.exactly(observed=training_mean, expected=[39.5, 39.5], what="mean training target")
    expect.exactly(observed=validation_mean, expected=[89.5, 89.5], what="mean validation target")
