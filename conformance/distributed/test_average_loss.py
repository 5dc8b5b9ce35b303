"""tf.nn.compute_average_loss: each replica divides by the batch of all, for the sum is the mean.

In a custom loop of tf.distribute the gradients of the replicas are summed. A replica that took the
mean of its own samples would count each of them as often as there are replicas; so it divides its
sum by the global batch size, given or found out: that of its own batch times the replicas.

The two replicas here are one CPU, seen as two; each has the losses 1, 2, 3 and 2.

Sources: class 172, definitions 2 and 3, exercise 1;
https://www.tensorflow.org/api_docs/python/tf/nn/compute_average_loss,
https://www.tensorflow.org/tutorials/distribute/custom_training
"""

from fixtures.isolation.children import run_in_children
from fixtures.matrix import behaviour


def average_on_two_replicas(precision):
    import tensorflow as tf

    [cpu, *_] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def average(**options):
        def of_replica():
            return tf.nn.compute_average_loss(tf.constant([1.0, 2, 3, 2], precision), **options)

        return float(strategy.reduce("SUM", strategy.run(of_replica), axis=None))

    weights = tf.constant([1.0, 0.5, 1, 0], precision)
    return {
        "found out": average(),
        "given": average(global_batch_size=8),
        "given as 16": average(global_batch_size=16),
        "weighted": average(sample_weight=weights),
        "one replica": float(tf.nn.compute_average_loss(tf.constant([1.0, 2, 3, 2], precision))),
    }


def averages_in_tensorflow(cell, folder):
    [found] = run_in_children(
        average_on_two_replicas, [{"precision": cell.precision}], folder=folder
    )
    return found


@behaviour(
    "distributed.average-over-the-global-batch",
    frameworks="tensorflow",
    precisions="float32",
    modes="eager",
    catches="tensorflow.average-loss-forgets-the-other-replicas",
)
def test_average_over_the_global_batch(averages, cell, expect, tmp_path):
    """Two replicas with losses that add up to 8 and eight samples in all: the sum is 16/8 = 2.

    Whether the batch size is found out or given; 16/16 = 1 where it is said to be 16. With the
    weights 1, 1/2, 1, 0 the sum is 10/8: the weights change the loss, not the number of samples.
    Outside a strategy it is the mean, 8/4.
    """
    expect.exactly(
        observed=averages(cell, tmp_path),
        expected={
            "found out": 2.0,
            "given": 2.0,
            "given as 16": 1.0,
            "weighted": 1.25,
            "one replica": 2.0,
        },
        what="average losses",
    )
