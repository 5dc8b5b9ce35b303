"""Batches: how many there are, how large the last one is, and what drop_last leaves out.

n samples in batches of B make ceil(n/B) batches. The last one holds the rest, n mod B, unless the
rest is dropped: drop_last=True in torch, drop_remainder=True in tf.data. Keras has no such switch
for arrays: fit always trains on the rest, and the mean of the last batch is over fewer samples.

Sources: class 122, exercise 5 and learning outcome 5 (DataLoader); class 124, definition 4 and
common mistake 3; class 125, common mistake 5; class 102, definitions (batch_size);
https://docs.pytorch.org/docs/stable/data.html,
https://www.tensorflow.org/api_docs/python/tf/data/Dataset#batch,
https://keras.io/api/models/model_training_apis/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

SAMPLES, BATCH = 22, 4  # five batches of four, and one of two
FULL = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
REST = [20, 21]

# ----------------------------------------------------------------------------------------------
# In the order of the data, for two epochs.


def batches_in_torch(cell, drop):
    import torch

    loader = torch.utils.data.DataLoader(range(SAMPLES), batch_size=BATCH, drop_last=drop)
    epochs = [[batch.tolist() for batch in loader] for _ in range(2)]
    return {"announced": len(loader), "epochs": epochs}


def batches_in_lightning(cell, drop):
    import lightning
    import torch

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.batches = [[], []]

        def training_step(self, batch, batch_index):
            self.batches[self.current_epoch].append(batch.tolist())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    loader = torch.utils.data.DataLoader(range(SAMPLES), batch_size=BATCH, drop_last=drop)
    model = Watch()
    trainer = lightning.Trainer(max_epochs=2, **cell.trainer_options)
    trainer.fit(model, loader)
    return {"announced": trainer.num_training_batches, "epochs": model.batches}


def batches_in_tensorflow(cell, drop):
    import tensorflow as tf

    batches = tf.data.Dataset.range(SAMPLES).batch(BATCH, drop_remainder=drop)
    epochs = [[batch.tolist() for batch in batches.as_numpy_iterator()] for _ in range(2)]
    return {"announced": int(batches.cardinality()), "epochs": epochs}


@behaviour(
    "data.batch-remainder",
    frameworks="torch lightning tensorflow",
    precisions="float32",
    modes="eager",
    catches="torch.dataloader-drops-the-rest torch.dataloader-length-rounds-down "
    "tensorflow.batch-drops-the-remainder "
    "lightning.last-batch-skipped-after-the-first-epoch",
)
def test_batch_remainder(batches, cell, expect):
    """22 samples in batches of 4: six batches, the last of two; without the rest, five batches.

    The same in the second epoch, and the number of batches is known before they are read.
    """
    with_rest = [*FULL, REST]
    expect.exactly(
        observed=batches(cell, False),
        expected={"announced": 6, "epochs": [with_rest, with_rest]},
        what="batches",
    )
    expect.exactly(
        observed=batches(cell, True),
        expected={"announced": 5, "epochs": [FULL, FULL]},
        what="batches without the rest",
    )


# ----------------------------------------------------------------------------------------------
# drop_last with shuffle: the rest is another one every epoch.


def loader_in_torch(cell, **options):
    import torch

    generator = torch.Generator().manual_seed(cell.seed)
    return torch.utils.data.DataLoader(
        range(100), batch_size=32, shuffle=True, generator=generator, **options
    )


@behaviour(
    "data.dataloader-batches",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.dataloader-drops-the-rest torch.dataloader-length-rounds-down "
    "torch.shuffle-repeats-the-first-order torch.shuffle-replaces-one-sample",
)
def test_dataloader_batches(loader, cell, expect):
    """DataLoader(batch_size=32) over 100 samples: 32, 32, 32, 4, every sample exactly once.

    drop_last=True leaves out the four that the shuffle put last, so over the epochs nobody is left
    out for ever. Two epochs drop the same four once in 100!/(96! 4!) ≈ 3.9·10⁶ times, seven all the
    same with probability 3·10⁻⁴⁰.
    """
    whole = loader(cell)
    expect.exactly(observed=len(whole), expected=4, what="number of batches")
    for epoch in range(2):
        batches = [batch.tolist() for batch in whole]
        sizes = [len(batch) for batch in batches]
        expect.exactly(observed=sizes, expected=[32, 32, 32, 4], what="sizes of the batches")
        expect.exactly(
            observed=sorted(sum(batches, [])),
            expected=list(range(100)),
            what=f"samples of epoch {epoch}",
        )

    without_rest = loader(cell, drop_last=True)
    expect.exactly(observed=len(without_rest), expected=3, what="number of batches, drop_last")
    dropped = []
    for _ in range(7):
        batches = [batch.tolist() for batch in without_rest]
        sizes = [len(batch) for batch in batches]
        expect.exactly(observed=sizes, expected=[32, 32, 32], what="sizes with drop_last")
        dropped.append(tuple(sorted(set(range(100)) - set(sum(batches, [])))))
        expect.exactly(observed=len(dropped[-1]), expected=4, what="number of samples dropped")
    expect.at_least(observed=len(set(dropped)), least=2, what="different sets of dropped samples")


# ----------------------------------------------------------------------------------------------
# Keras: what fit shows to a model. Sample i has the gradient 1/(size of its batch) for weight i
# alone, so one epoch with learning rate 1 leaves in weight i minus that share.


def shares_in_keras(cell, **options):
    import keras

    model = keras.Sequential(
        [
            keras.Input((SAMPLES,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype),
        ]
    )
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, output: keras.ops.mean(output),
    )
    one_hot, targets = np.eye(SAMPLES, dtype="float32"), np.zeros((SAMPLES, 1), "float32")
    model.fit(one_hot, targets, epochs=1, verbose=0, **options)
    steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    return -model.get_weights()[0].ravel(), steps


@behaviour(
    "data.fit-trains-on-the-rest",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.fit-skips-the-last-partial-batch",
)
def test_fit_trains_on_the_rest(shares, cell, expect):
    """fit(batch_size=4) on 22 samples takes six steps; the last mean is over two samples.

    So samples 20 and 21 weigh 1/2 in their step, all others 1/4: powers of two, nothing to round.
    Shuffled, it is any two of them. Without batch_size the batch has 32, and the 22 samples make
    one step in which each weighs 1/22: rounded once, and once more where 1/22 is a product.
    """
    weights, steps = shares(cell, batch_size=BATCH, shuffle=False)
    expect.exactly(observed=weights, expected=np.array(20 * [0.25] + 2 * [0.5]), what="shares")
    expect.exactly(observed=steps, expected=6, what="steps")

    weights, steps = shares(cell, batch_size=BATCH, shuffle=True)
    expect.exactly(
        observed=np.sort(weights), expected=np.array(20 * [0.25] + 2 * [0.5]), what="shares, sorted"
    )
    expect.exactly(observed=steps, expected=6, what="steps of the shuffled epoch")

    weights, steps = shares(cell)
    expect.within(
        rounded(3, cell.precision),
        observed=weights,
        expected=np.full(SAMPLES, 1 / 22),
        what="shares without batch_size",
    )
    expect.exactly(observed=steps, expected=1, what="steps without batch_size")
