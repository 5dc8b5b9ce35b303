"""Convolution in two dimensions, one window at a time, in the layout of Keras and Flax.

Images are (batch, height, width, channels), kernels (height, width, channels in, channels out).
torch keeps (batch, channels, height, width) and (channels out, channels in, height, width).
"""

import numpy as np


def same_padding(size, kernel, stride=1, dilation=1):
    """(before, after): the zeros that padding="same" adds to one side of length `size`.

    The output then has ceil(size / stride) elements. An odd zero goes after (to the right or the
    bottom). Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2.
    """
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def output_size(size, kernel, stride=1, dilation=1, padding=(0, 0)):
    """floor((size + padding - reach) / stride) + 1, where reach = (kernel - 1) * dilation + 1.

    Raises ValueError when the kernel reaches further than the padded input.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html.
    """
    room = size + sum(padding) - (kernel - 1) * dilation - 1
    if room < 0:
        raise ValueError(f"a kernel of {kernel} (dilation {dilation}) does not fit into {size}")
    return room // stride + 1


def convolution(x, kernel, bias, strides=(1, 1), dilation=(1, 1), padding="valid"):
    """The sum over window and input channels of x times the kernel (not flipped), plus the bias.

    x: (batch, height, width, channels in); kernel: (height, width, channels in, channels out);
    bias: (channels out,); strides, dilation: of (height, width); padding: "valid" or "same".
    Returns (batch, height out, width out, channels out). Raises ValueError for shapes or a padding
    that do not fit.
    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), equation 9.6 (what learning
    libraries call convolution is cross-correlation).
    """
    padded, windows = _windows(x, kernel, strides, dilation, padding)
    if tuple(bias.shape) != kernel.shape[3:]:
        raise ValueError(f"bias {bias.shape} for {kernel.shape[3]} channels out")
    rows, columns = 1 + max(i for i, _ in windows), 1 + max(j for _, j in windows)
    output = np.empty((len(x), rows, columns, kernel.shape[3]), x.dtype)
    for (i, j), window in windows.items():
        output[:, i, j] = np.tensordot(padded[window], kernel, axes=3) + bias
    return output


def convolution_gradients(x, kernel, upstream, strides=(1, 1), dilation=(1, 1), padding="valid"):
    """d(sum(upstream * convolution)) by x, kernel and bias, in the shapes of these three.

    upstream: of the shape of the output. Everything else as in `convolution`.
    """
    padded, windows = _windows(x, kernel, strides, dilation, padding)
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for (i, j), window in windows.items():
        of_padded[window] += np.tensordot(upstream[:, i, j], kernel, axes=(1, 3))
        of_kernel += np.tensordot(padded[window], upstream[:, i, j], axes=(0, 0))
    (top, _), (left, _) = _padding(x, kernel, strides, dilation, padding)
    of_x = of_padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return of_x, of_kernel, upstream.sum(axis=(0, 1, 2))


def _padding(x, kernel, strides, dilation, padding):
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        sides = zip(x.shape[1:3], kernel.shape[:2], strides, dilation, strict=True)
        return tuple(same_padding(*side) for side in sides)
    raise ValueError(f"padding is {padding!r}; expected 'valid' or 'same'")


def _windows(x, kernel, strides, dilation, padding):
    """The padded input, and for each position of the output its window in it."""
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"x {x.shape} and kernel {kernel.shape}; expected (batch, height, width, channels) and "
            "(height, width, channels, channels out)"
        )
    around = _padding(x, kernel, strides, dilation, padding)
    padded = np.pad(x, ((0, 0), *around, (0, 0)))
    starts = []
    for axis in range(2):
        count = output_size(
            x.shape[1 + axis], kernel.shape[axis], strides[axis], dilation[axis], around[axis]
        )
        starts.append([strides[axis] * position for position in range(count)])
    reaches = [
        slice(None, (kernel.shape[axis] - 1) * dilation[axis] + 1, dilation[axis])
        for axis in range(2)
    ]
    windows = {
        (i, j): (
            slice(None),
            slice(top, top + reaches[0].stop, reaches[0].step),
            slice(left, left + reaches[1].stop, reaches[1].step),
        )
        for i, top in enumerate(starts[0])
        for j, left in enumerate(starts[1])
    }
    return padded, windows
