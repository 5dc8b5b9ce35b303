"""What Keras's fit gains by compiling: the same steps with run_eagerly=True.

`fit` compiles its train step by itself, and `train_on_batch`, which is timed here, runs that step:
what `fit` does once a call, a tenth of a second and the same for both, would hide the difference in
an epoch as short as this one. `compile(run_eagerly=True)` runs it in Python, operation by
operation, so that it can be debugged, and pays for each one's dispatch and for that of the
optimizer. A small model has little else to pay for.

Sources: class 120, questions 2 and 5; catalogue: speed.fit-versus-run-eagerly;
https://keras.io/api/models/model_training_apis/
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

# An epoch of 8 batches of 32.
SAMPLES = np.sin(np.arange(256 * 32) ** 1.5).reshape(8, 32, 32)
LABELS = (np.arange(256) % 10).reshape(8, 32)


def variants_in_keras(cell):
    import keras

    samples = SAMPLES.astype("float32")

    def model():
        return keras.Sequential(
            [
                keras.layers.Dense(64, activation="relu", dtype=cell.dtype),
                keras.layers.Dense(10, dtype=cell.dtype),
            ]
        )

    def epoch_of(model):
        def epoch():
            for batch, labels in zip(samples, LABELS, strict=True):
                loss = model.train_on_batch(batch, labels)
            return loss

        return epoch

    eager, compiled = model(), model()
    for each in (eager, compiled):
        each.build((None, 32))
    compiled.set_weights(eager.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    eager.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=True)
    cell.compile_model(compiled, optimizer=keras.optimizers.SGD(0.05), loss=loss)
    for each in (eager, compiled):
        each.fit(samples[0], LABELS[0], batch_size=32, verbose=0)
    return Variant("run_eagerly=True", epoch_of(eager)), Variant("fit", epoch_of(compiled))


@claim(
    "speed.fit-versus-run-eagerly",
    claimed="at least 2 times faster",
    low=2.0,
    source="class 120, question 5",
    frameworks="keras",
    precisions="float32",
    modes="compiled",
)
def test_fit_versus_run_eagerly(variants, cell, speed):
    """fit, which compiles its step, is several times faster than with run_eagerly=True.

    Both start at the same weights, and the mean loss of their first epochs is the same.
    """
    # Nine steps, each forwards and backwards through sums of 32, 64 and 32 (the batch) terms.
    speed.compare(*variants(cell), within=rounded(9 * 2 * 128, cell.precision, terms=3.0))
