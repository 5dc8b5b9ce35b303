"""Random flips: each image of a batch by its own draw, and in training alone.

Augmentation shows a network variants of its images. A batch in which all images are flipped or none
holds half the variety, and its gradients vary more than they should. Both libraries flip each image
with probability 1/2: tf.image.random_flip_left_right wherever it is called, the layer of Keras in
training.

Sources: class 112, homework 1; class 124, homework 1; class 131, definitions 1, exercise 1;
https://www.tensorflow.org/api_docs/python/tf/image/random_flip_left_right,
https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_flip/
"""

import numpy as np

from fixtures.matrix import behaviour
from reference.statistics import binomial_limits

# A thousand copies of one picture of two by two pixels, all different.
PICTURE = np.array([[1.0, 2.0], [3.0, 4.0]])
MIRRORED, UPSIDE_DOWN = PICTURE[:, ::-1], PICTURE[::-1]
IMAGES = np.tile(PICTURE[None, ..., None], (1000, 1, 1, 1))

# ----------------------------------------------------------------------------------------------
# What becomes of the images, flipped sideways and flipped top to bottom.


def flipped_in_tensorflow(cell):
    import tensorflow as tf

    images = tf.constant(IMAGES, cell.dtype)
    sideways = cell.compile(tf.image.random_flip_left_right)
    top_to_bottom = cell.compile(tf.image.random_flip_up_down)
    return sideways(images), top_to_bottom(images)


def flipped_in_keras(cell):
    import keras

    images = keras.ops.convert_to_tensor(IMAGES, dtype=cell.dtype)
    return [
        keras.layers.RandomFlip(mode, seed=cell.seed, dtype=cell.dtype)(images, training=True)
        for mode in ("horizontal", "vertical")
    ]


@behaviour(
    "data.random-flip-per-image",
    frameworks="tensorflow keras",
    precisions="float32",
    modes={"tensorflow": "eager compiled", "keras": "eager"},
    catches="tensorflow.random-flip-takes-the-whole-batch keras.random-flip-takes-the-whole-batch",
)
def test_random_flip_per_image(flipped, cell, expect):
    """Of a thousand images about half are mirrored, the others as they were, all by their own draw.

    So are about half of the images in even places, and in about half of the 500 disjoint pairs of
    neighbours just one is flipped. The limits are exact binomial quantiles and fail a correct
    library with a probability of 1e-9.
    """
    for mirror, images in zip((MIRRORED, UPSIDE_DOWN), flipped(cell), strict=True):
        images = cell.to_numpy(images)[..., 0]
        is_mirrored = (images == mirror).all(axis=(1, 2))
        as_before = (images == PICTURE).all(axis=(1, 2))
        expect.exactly(
            observed=int((is_mirrored | as_before).sum()),
            expected=1000,
            what="images as they were or mirrored",
        )
        for what, draws in (
            ("images", is_mirrored),
            ("images in even places", is_mirrored[::2]),
            ("pairs of which one is", is_mirrored[::2] != is_mirrored[1::2]),
        ):
            least, most = binomial_limits(draws.size, 0.5, 1e-9 / 6)
            expect.at_least(observed=int(draws.sum()), least=least, what=f"{what} mirrored")
            expect.at_most(observed=int(draws.sum()), most=most, what=f"{what} mirrored")


# ----------------------------------------------------------------------------------------------
# In inference.


def in_inference_in_keras(cell):
    import keras

    images = keras.ops.convert_to_tensor(IMAGES, dtype=cell.dtype)
    return keras.layers.RandomFlip("horizontal", dtype=cell.dtype)(images, training=False)


@behaviour(
    "data.random-flip-in-training-only",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.random-flip-in-inference",
)
def test_random_flip_in_training_only(in_inference, cell, expect):
    """With training=False the layer returns its images: none of a thousand is flipped."""
    expect.exactly(observed=in_inference(cell), expected=IMAGES, what="images")
