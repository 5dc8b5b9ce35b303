"""The gradient of a mean, in a graph that is traced once for batches of any size.

A batch of four rows and two columns, traced without its number of rows:

    mean of                     gradient of each element
    each row                    1/2
    each column                 1/4
    all elements                1/8

The number to divide by is known only when the graph runs, and is that of the axis that is averaged,
not of the whole batch. Batches of another size, here of two rows, have 1/2, 1/2 and 1/4.

Sources: class 120, definitions (input_signature);
https://www.tensorflow.org/api_docs/python/tf/function#args_1 (input_signature),
https://www.tensorflow.org/api_docs/python/tf/math/reduce_mean
"""

import numpy as np

from fixtures.matrix import behaviour

COLUMNS = 2


# Each program returns the gradients of the sums of all means: of rows, of columns, of everything,
# for a batch of `rows`.


def means_in_numpy(cell, sizes):
    from reference.autodiff import Tensor

    for rows in sizes:
        found = []
        for axis in (1, 0, None):
            x = Tensor(np.ones((rows, COLUMNS), cell.dtype), requires_grad=True)
            x.mean(axis=axis).sum().backward()
            found.append(x.grad)
        yield rows, found


def means_in_tensorflow(cell, sizes):
    import tensorflow as tf

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            means = [tf.reduce_mean(x, axis=axis) for axis in (1, 0, None)]
        return [tape.gradient(mean, x) for mean in means]

    signature = [tf.TensorSpec((None, COLUMNS), cell.dtype)]
    traced = cell.compile(gradients, input_signature=signature)
    for rows in sizes:
        yield rows, traced(tf.ones((rows, COLUMNS), cell.dtype))


@behaviour(
    "autograd.mean-of-any-batch-size",
    frameworks="numpy tensorflow",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"numpy": "eager", "tensorflow": "eager compiled"},
    catches="tensorflow.mean-gradient-divides-by-all-if-traced",
)
def test_mean_of_any_batch_size(means, cell, expect):
    """Each element has 1 / n of the gradient of its mean, n being how many are averaged.

    For four rows of two: 1/2 of a row's mean, 1/4 of a column's, 1/8 of all; then for two rows of
    two, by the same graph. Powers of two: exact.
    """
    for rows, gradients in means(cell, (4, 2)):
        for what, averaged, gradient in zip(
            ("rows", "columns", "everything"),
            (COLUMNS, rows, rows * COLUMNS),
            gradients,
            strict=True,
        ):
            expect.exactly(
                observed=gradient,
                expected=np.full((rows, COLUMNS), 1 / averaged),
                what=f"gradient of the means of {what}, {rows} rows",
            )
