"""A saturating cast: what the new format cannot hold becomes the nearest number that it can.

tf.cast lets numbers wrap around, tf.saturate_cast does not, and leaves alone what fits:

    value              -7     5    200     300
    as uint8            0     5    200     255        (tf.cast: 249  5  200  44)
    as a float         -7     5    200     300        nothing to saturate

The limits are computed in the format that the value comes from. A float32 holds all of int32's
range, but not its last number, 2³¹ - 1: rounded it is 2³¹, which as an int32 is -2³¹. A cast that
clips to such a limit returns -2147483648 for each and every number.

Sources: class 118, learning outcome 5 and question 3; class 171, topics 3;
https://www.tensorflow.org/api_docs/python/tf/saturate_cast,
https://github.com/tensorflow/tensorflow/blob/v2.19.0/tensorflow/python/ops/math_ops.py
"""

from fixtures.matrix import behaviour

VALUES = [-7, 5, 200, 300]  # exact in every format: 300 is 75 times 4

# ----------------------------------------------------------------------------------------------
# From whole numbers to the cell's format, and back to bytes.


def floats_in_tensorflow(cell, integer):
    import tensorflow as tf

    cast = cell.compile(lambda x: tf.saturate_cast(x, cell.dtype))
    return cast(tf.constant(VALUES, integer))


def saturated_in_tensorflow(cell):
    import tensorflow as tf

    cast = cell.compile(lambda x: tf.saturate_cast(x, tf.uint8))
    return cast(tf.constant(VALUES, cell.dtype)).numpy().tolist()


@behaviour(
    "precision.saturating-cast",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="tensorflow.saturating-cast-wraps tensorflow.saturating-cast-clips-to-bytes",
)
def test_saturating_cast(floats, saturated, cell, expect):
    """Four int32 that a float holds stay what they are; as uint8 they end at 0 and 255."""
    observed = floats(cell, "int32")
    expect.exactly(observed=observed, expected=VALUES, what="floats from int32")
    expect.exactly(observed=saturated(cell), expected=[0, 5, 200, 255], what="as uint8")


@behaviour(
    "precision.saturating-cast-of-int64",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="tensorflow.saturating-cast-clips-to-bytes[*-float16-*]",
)
def test_saturating_cast_of_int64(floats, cell, expect):
    """Four int64 that a float holds stay what they are."""
    expect.exactly(observed=floats(cell, "int64"), expected=VALUES, what="floats from int64")
