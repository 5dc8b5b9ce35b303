"""Convolution: what a Conv2D layer computes, what it keeps, and how large its output is.

A layer slides each filter over the image and sums products over window and channels; the filter is
not flipped. Everybody agrees on that number, and on little around it:

                    image      kernel                default padding   "same" with stride 2
    torch           N C H W    out, in, K, K         0 ("valid")       refused
    Keras           N H W C    K, K, in, out         "valid"           odd zero right and below
    Flax NNX        N H W C    K, K, in, out         "SAME"            odd zero right and below

A square image, a square kernel or as many channels out as in would hide an exchange of axes, so
here none is. The kernel of 3 x 2 also keeps libraries from Winograd's algorithm, whose rounding
errors are those of other sums.

Sources: class 128, objective, definitions 1 to 5, results 2 and 5, exercises 1 to 3 and 5; PyTorch
vs TensorFlow (003), code; Goodfellow, Bengio and Courville 2016, equation 9.6;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html,
https://keras.io/api/layers/convolution_layers/convolution2d/,
https://www.tensorflow.org/api_docs/python/tf/nn/conv2d,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
"""

from dataclasses import dataclass

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to
from reference import convolution

# One compiled precision of torch tells what the compiler does, Keras's train step takes it half a
# minute, and JAX without jit compiles every operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_torch-*-compiled keras_jax-*-float64-eager keras_jax-*float16-*"
)

# ----------------------------------------------------------------------------------------------
# Values and gradients of three layers: two channels in, three out, 6 x 5 images, a 3 x 2 kernel.


@dataclass(frozen=True)
class Case:
    """One layer and its numbers; `upstream` weighs its outputs in the sum that is differentiated.

    `options` are those of the reference, in (height, width).
    """

    x: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    upstream: np.ndarray
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: str

    @property
    def options(self):
        return {"strides": self.strides, "dilation": self.dilation, "padding": self.padding}

    @property
    def expected(self):
        forward = convolution.convolution(self.x, self.kernel, self.bias, **self.options)
        backward = convolution.convolution_gradients(
            self.x, self.kernel, self.upstream, **self.options
        )
        return (forward, *backward)

    @property
    def magnitudes(self):
        """The same sums of absolute values: what a cancelling sum's error is relative to."""
        positive = {name: np.abs(getattr(self, name)) for name in ("x", "kernel", "bias")}
        return Case(**positive, upstream=np.abs(self.upstream), **self.options).expected


def case(precision, strides, dilation, padding):
    """Waves of irrational numbers, rounded to the precision."""

    def wave(*shape):
        return round_to(np.sin(1.0 + np.arange(np.prod(shape)) ** 1.5).reshape(shape), precision)

    x, kernel, bias = wave(2, 6, 5, 2), wave(3, 2, 2, 3), wave(3)
    shape = convolution.convolution(x, kernel, bias, strides, dilation, padding).shape
    return Case(x, kernel, bias, wave(*shape), strides, dilation, padding)


# Each program returns the output and its gradients by the image, the kernel and the bias, in the
# layout of the reference: images N H W C, kernels (height, width, in, out).


def layer_in_numpy(cell, case):
    x, kernel, bias, upstream = (
        array.astype(cell.dtype) for array in (case.x, case.kernel, case.bias, case.upstream)
    )
    return (
        convolution.convolution(x, kernel, bias, **case.options),
        *convolution.convolution_gradients(x, kernel, upstream, **case.options),
    )


def layer_in_torch(cell, case):
    import torch

    def tensor(array):
        return torch.tensor(array, device=cell.device, dtype=cell.dtype)

    sides = zip((6, 5), (3, 2), case.strides, case.dilation, strict=True)
    (top, bottom), (left, right) = (convolution.same_padding(*side) for side in sides)
    strided = case.strides != (1, 1)
    # padding="same" is refused with a stride: what TensorFlow would add is added by hand.
    by_hand = (left, right, top, bottom) if strided and case.padding == "same" else (0, 0, 0, 0)
    network = torch.nn.Sequential(
        torch.nn.ZeroPad2d(by_hand),
        torch.nn.Conv2d(
            2,
            3,
            (3, 2),
            stride=case.strides,
            dilation=case.dilation,
            padding="valid" if strided else case.padding,
            device=cell.device,
            dtype=cell.dtype,
        ),
    )
    layer = network[1]
    with torch.no_grad():
        layer.weight.copy_(tensor(case.kernel).permute(3, 2, 0, 1))
        layer.bias.copy_(tensor(case.bias))
    x = tensor(case.x).permute(0, 3, 1, 2).requires_grad_()
    y = cell.compile(network)(x)
    y.backward(tensor(case.upstream).permute(0, 3, 1, 2))
    return (
        y.permute(0, 2, 3, 1),
        x.grad.permute(0, 2, 3, 1),
        layer.weight.grad.permute(2, 3, 1, 0),
        layer.bias.grad,
    )


def layer_in_tensorflow(cell, case):
    import tensorflow as tf

    @cell.compile
    def forward_and_backward(x, kernel, bias, upstream):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel, bias))
            y = bias + tf.nn.conv2d(
                x, kernel, case.strides, case.padding.upper(), dilations=case.dilation
            )
        return y, *tape.gradient(y, (x, kernel, bias), output_gradients=upstream)

    arrays = (case.x, case.kernel, case.bias, case.upstream)
    return forward_and_backward(*(tf.constant(array, cell.dtype) for array in arrays))


def layer_in_keras(cell, case):
    """Keras has no call that returns a gradient, but SGD with learning rate 1 subtracts it.

    `fit` hands images on as float32 (floatx), so the model brings its own.
    """
    import keras

    class Model(keras.Model):
        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.layer = keras.layers.Conv2D(
                3,
                (3, 2),
                strides=case.strides,
                dilation_rate=case.dilation,
                padding=case.padding,
                data_format="channels_last",
                dtype=cell.dtype,
            )
            self.layer.build(case.x.shape)
            self.layer.set_weights([case.kernel, case.bias])

        def call(self, inputs):
            return self.layer(keras.ops.convert_to_tensor(case.x, dtype=self.compute_dtype))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **options):
            upstream = keras.ops.convert_to_tensor(case.upstream, dtype=y_pred.dtype)
            return keras.ops.sum(y_pred * upstream)

    model = Model()
    nothing = np.zeros((2, 1))
    y = model(nothing)
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0))
    model.fit(nothing, nothing, batch_size=2, shuffle=False, epochs=1, verbose=0)
    kernel, bias = (cell.to_numpy(variable) for variable in model.layer.trainable_variables)
    return y, None, case.kernel - kernel, case.bias - bias


def layer_in_jax(cell, case):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.Conv(
        2,
        3,
        kernel_size=(3, 2),
        strides=case.strides,
        kernel_dilation=case.dilation,
        padding=case.padding.upper(),
        kernel_init=lambda key, shape, dtype: jnp.asarray(case.kernel, dtype),
        bias_init=lambda key, shape, dtype: jnp.asarray(case.bias, dtype),
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )
    graph, parameters = nnx.split(layer)

    @cell.compile
    def forward_and_backward(parameters, x, upstream):
        y, pullback = jax.vjp(lambda p, x: nnx.merge(graph, p)(x), parameters, x)
        return y, pullback(upstream)

    x, upstream = jnp.asarray(case.x, cell.dtype), jnp.asarray(case.upstream, cell.dtype)
    y, (of_parameters, of_x) = forward_and_backward(parameters, x, upstream)
    of_bias, of_kernel = jax.tree.leaves(of_parameters)  # in the order of their names
    return y, of_x, of_kernel, of_bias


@behaviour(
    "conv.cross-correlation-parity",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32",
        "others": "float64 float32 tf32 bfloat16 float16",
    },
    modes="eager compiled",
    needs={"jax": "flax>=0.10"},
    costly=COSTLY,
    catches="torch.convolution-flips-its-kernel[*-eager] torch.convolution-in-tf32[*-eager] "
    "tensorflow.same-padding-comes-first flax.conv-in-bfloat16[*-float32-*]",
)
def test_cross_correlation_parity(layer, cell, expect):
    """A Conv2D layer is the sliding sum of products, the kernel not flipped, plus the bias.

    Two layers with padding "same", the second with strides (2, 1). Every element is a sum of at
    most n products: 12 and the bias forwards; 60 positions into an element of the kernel's
    gradient, 18 into one of the image's. Each product and each addition rounds once (in TF32 both
    factors do, to 11 bits, and the sums are float32), whatever the order.
    """
    check(cell, expect, layer, (1, 1), (1, 1), "same")
    check(cell, expect, layer, (2, 1), (1, 1), "same")


@behaviour(
    "conv.dilation",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32",
        "others": "float64 float32 tf32 bfloat16 float16",
    },
    modes="eager compiled",
    needs={"jax": "flax>=0.10"},
    costly=COSTLY,
    catches="torch.convolution-flips-its-kernel[*-eager] flax.conv-in-bfloat16[*-float32-*] "
    "tensorflow.dilated-convolution-off-by-a-thousandth",
)
def test_dilation(layer, cell, expect):
    """With a dilation of (1, 2) the columns of a window lie two apart: 6 x 5 gives 4 x 3 windows.

    The padding is "valid". Roundings as in conv.cross-correlation-parity.
    """
    check(cell, expect, layer, (1, 1), (1, 2), "valid")


def check(cell, expect, layer, *layout):
    this = case(cell.precision, *layout)
    for what, products, observed, expected, magnitude in zip(
        ("output", "gradient of the image", "gradient of the kernel", "gradient of the bias"),
        (13, 18, 60, 60),
        layer(cell, this),
        this.expected,
        this.magnitudes,
        strict=True,
    ):
        if observed is None:
            continue
        expect.within(
            sum_bound(cell, products + 1, magnitude, what),
            observed=observed,
            expected=expected,
            what=what,
            other_precision="in Keras a gradient is a difference of weights, in float64",
        )


def sum_bound(cell, roundings, magnitude, what):
    because = f"{roundings} roundings in {cell.precision} of a sum"
    if cell.precision == "tf32":
        unit = accumulated(2, "tf32") + accumulated(roundings, "float32")
    else:
        unit = accumulated(roundings, cell.precision)
    absolute = unit * magnitude
    if cell.framework == "keras" and what != "output":
        absolute += accumulated(1, cell.precision) * (1 + magnitude)
        because += ", and of w - g, with w at most 1"
    return Bound(absolute=absolute, because=because)


# ----------------------------------------------------------------------------------------------
# "same" with stride 2 on an even side: one zero is to be added, and only one side can get it. The
# image is 1 ... 16 in rows of four, the kernel 3 x 3 ones: each output is the sum of a window, an
# integer below 256, which no format rounds.

IMAGE = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
ONES = np.ones((3, 3, 1, 1))
ZERO_LAST = np.array([[54.0, 45.0], [72.0, 54.0]])  # windows from the corner: 1 2 3 5 6 7 9 10 11
ZERO_FIRST = np.array([[14.0, 30.0], [57.0, 99.0]])  # windows around the corner: 1 2 5 6


def mistake_in_torch(cell):
    """padding=1 adds a row and a column on every side; the last ones are never reached."""
    import torch

    image = torch.tensor(IMAGE, device=cell.device, dtype=cell.dtype).reshape(1, 1, 4, 4)
    ones = torch.ones(1, 1, 3, 3, device=cell.device, dtype=cell.dtype)
    convolve = cell.compile(lambda x: torch.nn.functional.conv2d(x, ones, stride=2, padding=1))
    return convolve(image)[0, 0]


def same_in_torch(cell):
    import torch

    image = torch.tensor(IMAGE, device=cell.device, dtype=cell.dtype).reshape(1, 1, 4, 4)
    ones = torch.ones(1, 1, 3, 3, device=cell.device, dtype=cell.dtype)

    @cell.compile
    def convolve(x):
        return torch.nn.functional.conv2d(torch.nn.functional.pad(x, (0, 1, 0, 1)), ones, stride=2)

    return convolve(image)[0, 0]


def mistake_in_tensorflow(cell):
    """What torch's padding=1 does, in TensorFlow: explicit zeros on every side."""
    import tensorflow as tf

    image, ones = tf.constant(IMAGE, cell.dtype), tf.constant(ONES, cell.dtype)
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    return cell.compile(lambda x: tf.nn.conv2d(x, ones, 2, around))(image)[0, :, :, 0]


def same_in_tensorflow(cell):
    import tensorflow as tf

    image, ones = tf.constant(IMAGE, cell.dtype), tf.constant(ONES, cell.dtype)
    return cell.compile(lambda x: tf.nn.conv2d(x, ones, 2, "SAME"))(image)[0, :, :, 0]


def mistake_in_keras(cell):
    import keras

    image = keras.ops.convert_to_tensor(IMAGE, dtype=cell.dtype)
    ones = keras.ops.convert_to_tensor(ONES, dtype=cell.dtype)
    padded = keras.ops.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return keras.ops.conv(padded, ones, 2, "valid", data_format="channels_last")[0, :, :, 0]


def same_in_keras(cell):
    import keras

    image = keras.ops.convert_to_tensor(IMAGE, dtype=cell.dtype)
    ones = keras.ops.convert_to_tensor(ONES, dtype=cell.dtype)
    return keras.ops.conv(image, ones, 2, "same", data_format="channels_last")[0, :, :, 0]


def jax_convolution(cell, padding):
    import jax
    import jax.numpy as jnp

    image, ones = jnp.asarray(IMAGE, cell.dtype), jnp.asarray(ONES, cell.dtype)

    @cell.compile
    def convolve(x):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, ones, (2, 2), padding, dimension_numbers=layout)

    return convolve(image)[0, :, :, 0]


def mistake_in_jax(cell):
    return jax_convolution(cell, [(1, 1), (1, 1)])


def same_in_jax(cell):
    return jax_convolution(cell, "SAME")


@behaviour(
    "conv.same-stride2-asymmetric-padding",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    costly=COSTLY,
    catches="tensorflow.same-padding-comes-first keras.same-padding-on-both-sides",
)
def test_same_stride2_asymmetric_padding(mistake, same, cell, expect):
    """On an even side "same" with stride 2 adds its zero right and below; padding=1 is not that.

    Sums of 3 x 3 windows of 1 ... 16, from the corner: 54, 45, 72, 54. With a zero on every side
    the windows begin one earlier, and the sums are 14, 30, 57, 99: the shape is the same.
    """
    expect.exactly(observed=mistake(cell), expected=ZERO_FIRST, what="with a zero on every side")
    expect.exactly(observed=same(cell), expected=ZERO_LAST, what="padding same")


def strided_same_in_torch(cell):
    import torch

    return torch.nn.Conv2d(1, 32, 3, stride=2, padding="same")


def halving_in_torch(cell):
    import torch

    layer = torch.nn.Conv2d(1, 32, 3, stride=2, padding=1, device=cell.device)
    return tuple(layer(torch.zeros(1, 1, 28, 28, device=cell.device)).shape)


@behaviour(
    "conv.torch-same-rejects-stride",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.same-padding-takes-a-stride",
)
def test_torch_same_rejects_stride(strided_same, halving, cell, expect):
    """torch.nn.Conv2d(padding="same", stride=2) raises ValueError; padding=1 halves 28 to 14."""
    with expect.raises(ValueError, match="same.*not supported for strided"):
        strided_same(cell)
    expect.exactly(observed=halving(cell), expected=(1, 32, 14, 14), what="shape")


# ----------------------------------------------------------------------------------------------
# What a layer keeps.


def counts_in_torch(cell):
    import torch

    layers = torch.nn.Conv2d(1, 32, 5), torch.nn.Conv2d(2, 3, (3, 2))
    return [sum(p.numel() for p in layer.parameters()) for layer in layers], tuple(
        layers[1].weight.shape
    )


def counts_in_keras(cell):
    """The size of the image is given, to show that it does not count."""
    import keras

    layers = keras.layers.Conv2D(32, 5), keras.layers.Conv2D(3, (3, 2))
    layers[0].build((None, 28, 28, 1))
    layers[1].build((None, 112, 56, 2))
    return [layer.count_params() for layer in layers], tuple(layers[1].kernel.shape)


def counts_in_jax(cell):
    import jax
    from flax import nnx

    rngs = nnx.Rngs(cell.seed)
    layers = nnx.Conv(1, 32, (5, 5), rngs=rngs), nnx.Conv(2, 3, (3, 2), rngs=rngs)
    return [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))) for layer in layers
    ], tuple(layers[1].kernel.shape)


kernel_shape_in_torch = (3, 2, 3, 2)  # out, in, height, width
kernel_shape_in_keras = (3, 2, 2, 3)  # height, width, in, out
kernel_shape_in_jax = (3, 2, 2, 3)


@behaviour(
    "conv.parameter-count",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="flax.conv-without-bias",
)
def test_parameter_count(counts, kernel_shape, cell, expect):
    """height * width * in * out + out parameters, whatever the image: 5·5·1·32 + 32 = 832.

    And 3·2·2·3 + 3 = 39, kept as (out, in, height, width) in torch, (height, width, in, out) in
    Keras and Flax.
    """
    found, shape = counts(cell)
    expect.exactly(observed=found, expected=[832, 39], what="parameters")
    expect.exactly(observed=shape, expected=kernel_shape, what="shape of the kernel")


# ----------------------------------------------------------------------------------------------
# How large the output is. Each case: side, kernel, stride, padding on both sides, dilation.

SIZES = [
    (28, 5, 1, 0, 1),
    (28, 3, 1, 1, 1),
    (28, 3, 2, 1, 1),
    (7, 4, 3, 1, 1),  # (7 - 4 + 2) / 3 is no integer
    (9, 2, 4, 0, 1),  # nor is (9 - 2) / 4
    (10, 3, 1, 0, 2),  # Keras has no stride with a dilation
    (5, 5, 3, 2, 1),
]


def sizes_in_torch(cell):
    import torch

    def side(size, kernel, stride, padding, dilation):
        layer = torch.nn.Conv2d(1, 1, kernel, stride, padding, dilation, device=cell.device)
        height, width = layer(torch.zeros(1, 1, size, size + 1, device=cell.device)).shape[2:]
        return int(height), int(width)

    return [side(*case) for case in SIZES]


def sizes_in_keras(cell):
    """Keras pads by a layer of its own."""
    import keras

    def side(size, kernel, stride, padding, dilation):
        shape = (1, size + 2 * padding, size + 1 + 2 * padding, 1)
        layer = keras.layers.Conv2D(1, kernel, strides=stride, dilation_rate=dilation)
        return tuple(layer.compute_output_shape(shape)[1:3])

    return [side(*case) for case in SIZES]


def sizes_in_jax(cell):
    import jax
    from flax import nnx

    def side(size, kernel, stride, padding, dilation):
        layer = nnx.Conv(
            1,
            1,
            (kernel, kernel),
            strides=stride,
            padding=padding,
            kernel_dilation=dilation,
            rngs=nnx.Rngs(cell.seed),
        )
        image = jax.ShapeDtypeStruct((1, size, size + 1, 1), "float32")
        return tuple(nnx.eval_shape(lambda layer, x: layer(x), layer, image).shape[1:3])

    return [side(*case) for case in SIZES]


@behaviour(
    "conv.output-size-formula",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="keras.conv-output-size-rounds-up[keras_jax-*] flax.conv-pads-nothing "
    "torch.convolution-ignores-dilation",
)
def test_output_size_formula(sizes, cell, expect):
    """The output side is floor((H + 2P - D(K - 1) - 1) / S) + 1: 24, 28, 14, 2, 2, 6 and 2.

    For a side H, kernel K, padding P, stride S and dilation D; the image is one wider than high.
    """
    expected = [
        tuple(
            convolution.output_size(side, kernel, stride, dilation, (padding, padding))
            for side in (size, size + 1)
        )
        for size, kernel, stride, padding, dilation in SIZES
    ]
    heights = [height for height, _ in expected]
    expect.exactly(observed=heights, expected=[24, 28, 14, 2, 2, 6, 2], what="reference")
    expect.exactly(observed=sizes(cell), expected=expected, what="sides (height, width)")


# ----------------------------------------------------------------------------------------------
# The article's network: a 5 x 5 convolution of 64 maps, 2 x 2 pooling, a dense layer of ten.


def article_in_torch(cell):
    import torch

    features = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 5), torch.nn.MaxPool2d(2))
    features.to(cell.device)
    sides = [
        tuple(features(torch.zeros(1, 3, n, n, device=cell.device)).shape[1:])
        for n in (32, 110, 111, 112)
    ]
    dense = torch.nn.Linear(64 * 14 * 14, 10)
    return sides, [sum(p.numel() for p in m.parameters()) for m in (features, dense)]


def article_in_keras(cell):
    import keras

    layers = keras.layers.Conv2D(64, 5), keras.layers.MaxPooling2D(2)
    dense = keras.layers.Dense(10)
    sides = []
    for n in (32, 110, 111, 112):
        height, width, maps = keras.Sequential([keras.Input((n, n, 3)), *layers]).output_shape[1:]
        sides.append((maps, height, width))
    dense.build((None, 64 * 14 * 14))
    return sides, [layers[0].count_params(), dense.count_params()]


def article_in_jax(cell):
    import jax
    from flax import nnx

    rngs = nnx.Rngs(cell.seed)
    layer = nnx.Conv(3, 64, (5, 5), padding="VALID", rngs=rngs)
    dense = nnx.Linear(64 * 14 * 14, 10, rngs=rngs)

    def features(layer, x):
        return nnx.max_pool(layer(x), (2, 2), strides=(2, 2))

    sides = []
    for n in (32, 110, 111, 112):
        image = jax.ShapeDtypeStruct((1, n, n, 3), "float32")
        height, width, maps = nnx.eval_shape(features, layer, image).shape[1:]
        sides.append((maps, height, width))
    return sides, [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
        for module in (layer, dense)
    ]


@behaviour(
    "layers.conv-pool-arithmetic",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.max-pool-keeps-the-last-row keras.pooling-announces-a-row-too-many "
    "flax.conv-without-bias",
)
def test_conv_pool_arithmetic(article, cell, expect):
    """A valid 5 x 5 convolution takes n to n - 4, pooling by 2 halves it and drops a last row.

    32 becomes 28 and 14; 110 and 111 both become 53, 112 becomes 54. With 64 maps of 14 x 14 a
    dense layer of ten has 64·14·14·10 + 10 = 125 450 parameters, the convolution 5·5·3·64 + 64.
    """
    sides, parameters = article(cell)
    expected = [(64, n, n) for n in (14, 53, 53, 54)]
    expect.exactly(observed=sides, expected=expected, what="shapes (maps, height, width)")
    expect.exactly(observed=parameters, expected=[4864, 125_450], what="parameters")
