"""tf.distribute.MirroredStrategy: every variable on all devices, every batch divided among them.

The batch size given to `fit` or to a Dataset is the global one: with two replicas a batch of eight
is two of four. (A DataLoader of DDP has a batch size per process.) In a custom loop the gradients
are summed over the replicas, so each replica divides its loss by the global batch size; Keras does
so itself. Then the weights are, step by step, those of one device with the whole batch.

The two devices here are one CPU, seen as two.

Sources: class 172, definitions 2 and 3, exercises 1 and 2, homework 3, learning outcome 1;
https://www.tensorflow.org/api_docs/python/tf/distribute/MirroredStrategy,
https://www.tensorflow.org/tutorials/distribute/custom_training,
https://keras.io/guides/distributed_training_with_tensorflow/
"""

import numpy as np
import pytest

from conformance.distributed.regression import LEARNING_RATE, START, parts_of_steps
from fixtures.isolation.children import run_in_children
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.sharding import train, train_error

# One step rounds a product and two sums (3), the residual and its double over n (3), the sum over
# 4 rows (4), the sum over two replicas (1), the product with the rate and the step (2).
ROUNDINGS = 13

# ----------------------------------------------------------------------------------------------
# In a process of its own, which can still choose its devices. x: (24, 3), y: (24,).


def two_logical_cpus():
    import tensorflow as tf

    [cpu, *_] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def custom_loop(precision, x, y):
    import tensorflow as tf

    strategy = two_logical_cpus()
    with strategy.scope():
        w = tf.Variable(START, dtype=precision)
    samples = tf.data.Dataset.from_tensor_slices(
        (tf.constant(x, precision), tf.constant(y, precision))
    )
    entries = []

    def replica_step(x, y):
        entries.append(len(x))
        with tf.GradientTape() as tape:
            errors = tf.linalg.matvec(x, w) - y
            loss = tf.nn.compute_average_loss(errors**2, global_batch_size=8)
        gradient = tape.gradient(loss, w)
        gradient = tf.distribute.get_replica_context().all_reduce("sum", gradient)
        w.assign_sub(LEARNING_RATE * gradient)

    @tf.function
    def train_step(x, y):
        strategy.run(replica_step, (x, y))

    weights, traced = [], []
    for x, y in strategy.experimental_distribute_dataset(samples.batch(8)):
        train_step(x, y)
        weights.append(w.numpy().tolist())
        traced.append(len(entries))
    return {
        "replicas": strategy.num_replicas_in_sync,
        "rows": [int(part.shape[0]) for part in strategy.experimental_local_results(x)],
        "weights": weights,
        "copies": [copy.numpy().tolist() for copy in strategy.experimental_local_results(w)],
        "traced": traced,
    }


def fit(precision, x, y):
    import keras
    import numpy as np

    keras.config.set_floatx(precision)
    strategy = two_logical_cpus()
    entries, weights, traced = [], [], []

    def mean_squared_error(target, output):
        entries.append("once more")
        return keras.ops.mean((target - output) ** 2, axis=-1)

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(self.model.get_weights()[0].ravel().tolist())
            traced.append(len(entries))

    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([START.reshape(3, 1)])
        model.compile(keras.optimizers.SGD(LEARNING_RATE), loss=mean_squared_error)
    x, y = np.array(x, precision), np.array(y, precision).reshape(-1, 1)
    model.fit(x, y, batch_size=8, shuffle=False, epochs=1, verbose=0, callbacks=[Watch()])
    copies = strategy.experimental_local_results(model.weights[0].value)
    return {
        "replicas": strategy.num_replicas_in_sync,
        "weights": weights,
        "copies": [copy.numpy().ravel().tolist() for copy in copies],
        "traced": traced,
    }


def mirrored_in_tensorflow(cell, folder):
    cell.compiles_itself("distributed.mirrored-parity")
    x, y = whole_batches(cell.precision)
    [found] = run_in_children(
        custom_loop, [{"precision": cell.precision, "x": x, "y": y}], folder=folder
    )
    return found


def mirrored_in_keras(cell, folder):
    cell.compiles_itself("distributed.mirrored-parity")
    x, y = whole_batches(cell.precision)
    [found] = run_in_children(fit, [{"precision": cell.precision, "x": x, "y": y}], folder=folder)
    return found


def whole_batches(precision):
    steps = parts_of_steps(precision, (8,))
    x = np.concatenate([x for [(x, _)] in steps])
    return x.tolist(), np.concatenate([y for [(_, y)] in steps]).tolist()


@behaviour(
    "distributed.mirrored-parity",
    frameworks="tensorflow keras",
    precisions="float64 float32",
    modes="compiled",
    needs={"keras": "keras-backend:tensorflow"},
    depth="standard",
    costly="keras_*-float64-*",
    catches="tensorflow.average-loss-over-its-own-rows[*-float32-*] "
    "tensorflow.all-reduce-in-bfloat16[tensorflow-*-float32-*] "
    "tensorflow.replicas-drift-apart[tensorflow-*-float64-*] "
    "keras.replicas-do-not-share-the-loss",
)
def test_mirrored_parity(mirrored, cell, expect, tmp_path):
    """Two replicas with a global batch of 8 hold, after each of three steps, one device's weights.

    Both copies of the weights are equal bit for bit, and the last step is traced no more.
    Thirteen roundings a step; `train_error` carries those of the steps before along.
    """
    if cell.device_name != "cpu":
        pytest.skip(f"cannot-run: needs two {cell.device_name} devices (a CPU can be seen as two)")
    found = mirrored(cell, tmp_path)
    expect.exactly(observed=found["replicas"], expected=2, what="number of replicas")
    expect.exactly(observed=found["copies"][1], expected=found["copies"][0], what="second copy")
    expect.exactly(
        observed=found["copies"][0], expected=found["weights"][-1], what="copies of the weights"
    )
    *_, before, now = found["traced"]
    expect.exactly(observed=now, expected=before, what="entries of the loss after the last step")
    steps = parts_of_steps(cell.precision, (8,))
    gamma = accumulated(ROUNDINGS, cell.precision)
    expect.within(
        Bound(
            absolute=train_error(steps, START, LEARNING_RATE, gamma),
            because=f"{ROUNDINGS} roundings a step",
        ),
        observed=np.array(found["weights"]),
        expected=train(steps, START, LEARNING_RATE),
        what="weights after each step",
        other_precision="numbers came back from another process as Python floats",
    )
    if cell.framework == "tensorflow":
        expect.exactly(observed=found["rows"], expected=[4, 4], what="rows of each replica")
