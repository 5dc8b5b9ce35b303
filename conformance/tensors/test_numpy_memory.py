"""NumPy arrays and tensors: who shares memory, and who has a copy.

After a conversion the array (1, 2) gets a 9 in its first place. Whoever shares memory reads it:

    torch.from_numpy(array)      shares     reads 9
    torch.as_tensor(array)       shares     reads 9      where dtype and device are the array's
    torch.tensor(array)          a copy     reads 1
    tensor.numpy()               shares: what is written to either is in both
    tf.Variable(array)           a copy     reads 1
    jnp.array(array)             a copy     reads 1

Sharing costs nothing, and is a trap where the array is a buffer that the next batch is read into:
all batches of the list are then the last one. torch.tensor, or clone(), cures it.

Sources: class 118, results 3, question 1; class 122, topics 1;
https://docs.pytorch.org/docs/stable/generated/torch.from_numpy.html,
https://docs.pytorch.org/docs/stable/generated/torch.tensor.html,
https://docs.pytorch.org/docs/stable/generated/torch.as_tensor.html,
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.numpy.html,
https://www.tensorflow.org/api_docs/python/tf/Variable,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.array.html
"""

from fixtures.matrix import behaviour

SHARED = [9.0, 2.0]
COPIED = [1.0, 2.0]

views_in_numpy = {"asarray": SHARED, "array": COPIED}
views_in_torch = {"from_numpy": SHARED, "as_tensor": SHARED, "tensor": COPIED}
views_in_tensorflow = {"Variable": COPIED}
views_in_jax = {"array": COPIED}


def converted_in_numpy(cell):
    """What each conversion reads once the array has a 9 in its first place."""
    import numpy as np

    array = np.array([1.0, 2.0], cell.dtype)
    converted = {"asarray": np.asarray(array), "array": np.array(array)}
    array[0] = 9
    return converted


def converted_in_torch(cell):
    import numpy as np
    import torch

    array = np.array([1.0, 2.0], cell.precision)
    conversions = {name: getattr(torch, name)(array) for name in views_in_torch}
    array[0] = 9
    return conversions


def converted_in_tensorflow(cell):
    import numpy as np
    import tensorflow as tf

    array = np.array([1.0, 2.0], cell.precision)
    variable = tf.Variable(array)
    array[0] = 9
    return {"Variable": tf.identity(variable)}


def converted_in_jax(cell):
    import jax.numpy as jnp
    import numpy as np

    array = np.array([1.0, 2.0], cell.precision)
    converted = {"array": jnp.array(array)}
    array[0] = 9
    return converted


@behaviour(
    "tensors.numpy-conversion-sharing",
    frameworks="numpy torch tensorflow jax",
    precisions="float64 float32",
    modes="eager",
    catches="torch.from-numpy-copies torch.tensor-shares-its-array",
)
def test_numpy_conversion_sharing(converted, views, cell, expect):
    """A 9 that is written to the array is in from_numpy's tensor, and not in torch.tensor's.

    Nor in a tf.Variable or an array of jnp.array: those are copies.
    """
    for name, observed in converted(cell).items():
        expect.exactly(observed=observed, expected=views[name], what=name)


# ----------------------------------------------------------------------------------------------
# The trap: one buffer for all batches. The batches are (1, 1), (2, 2), (3, 3).


def mistake_in_torch(cell):
    import torch

    return _batches_in_torch(cell, torch.from_numpy)


def fix_in_torch(cell):
    import torch

    return _batches_in_torch(cell, torch.tensor)


def _batches_in_torch(cell, convert):
    import numpy as np

    buffer, batches = np.zeros(2, cell.precision), []
    for number in (1, 2, 3):
        buffer[:] = number
        batches.append(convert(buffer))
    return batches


@behaviour(
    "tensors.one-buffer-for-all-batches",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.from-numpy-copies torch.tensor-shares-its-array",
)
def test_one_buffer_for_all_batches(mistake, fix, cell, expect):
    """With from_numpy all batches are the last one, 3; with torch.tensor they are 1, 2 and 3."""
    last, each = [[3.0, 3.0]] * 3, [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    expect.exactly(observed=mistake(cell), expected=last, what="batches of from_numpy")
    expect.exactly(observed=fix(cell), expected=each, what="batches of torch.tensor")


# ----------------------------------------------------------------------------------------------
# The way back.


def written_in_torch(cell):
    """The tensor after its array was written to, and a clone of it."""
    import torch

    tensor = torch.tensor([1.0, 2.0], dtype=cell.dtype)
    clone = tensor.clone()
    tensor.numpy()[0] = 9
    clone.clone().numpy()[0] = 9
    return tensor, clone


@behaviour(
    "tensors.numpy-method-shares",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.numpy-method-copies",
)
def test_numpy_method_shares(written, cell, expect):
    """A 9 that is written to tensor.numpy() is in the tensor; one written to a clone's is not."""
    tensor, clone = written(cell)
    expect.exactly(observed=tensor, expected=SHARED, what="tensor")
    expect.exactly(observed=clone, expected=COPIED, what="clone")
