"""Reverse-mode automatic differentiation in NumPy, short enough to read in one sitting.

Every operation returns a `Tensor` that remembers the tensors it came from and, for each of them
that requires a gradient, its *pullback*: the function that takes the gradient of the result to
the gradient of that input. `backward` walks this graph from the result to the leaves and adds
up what the pullbacks say; that is the whole chain rule.

Source: Griewank and Walther, Evaluating Derivatives (SIAM, 2008), chapter 3. The conventions
(gradients accumulate in `.grad`, a graph is freed by its first backward) are those of
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

LARGEST_MULTIPLIED_POWER = 16  # x**n up to here by repeated multiplication, exact when x**n is
_rounding_hook = ContextVar("rounding hook", default=None)


@contextmanager
def rounding(hook):
    """Within the block, replace the result of every inexact operation by what `hook` makes of it.

    The hook is called as `hook(result, terms, norm)`. For a sum or matrix product, `terms` is how
    many numbers each element adds up and `norm`, of the shape of the result, the Euclidean norm of
    those numbers; for an elementwise operation `terms` is 1 and `norm` is None. It returns an array
    of the shape and dtype of the result. What never rounds (relu, negation, reshape) is left alone.
    """
    token = _rounding_hook.set(hook)
    try:
        yield
    finally:
        _rounding_hook.reset(token)


def rounded(result, terms=1, norm=None):
    """Pass `result` through the hook of `rounding`, if any; `norm` is a function, called only then.

    Returns an array of the shape and dtype of `result`.
    """
    hook = _rounding_hook.get()
    if hook is None:
        return np.asarray(result)
    return np.asarray(hook(np.asarray(result), terms, None if norm is None else norm()))


class Tensor:
    """An array that remembers how it was computed.

    `data`: a number, sequence or array of any shape. Floating arrays (float64, float32, float16,
    ml_dtypes.bfloat16) keep their dtype in every result and gradient; Python numbers, sequences
    of them and integer arrays become float64. `requires_grad`: whether `backward` fills `.grad`.
    Sums and matrix products of 16-bit arrays are accumulated in float32 and rounded once.
    Raises TypeError for data that is not real numbers, or when an operation mixes dtypes.
    """

    __array_ufunc__ = None  # so that `array * tensor` comes to Tensor.__rmul__

    def __init__(self, data, requires_grad=False):
        data = np.asarray(data)
        if data.dtype.kind in "biu":
            data = data.astype(np.float64)
        if data.dtype.kind not in "fV" or data.dtype.names:  # "V": ml_dtypes.bfloat16
            raise TypeError(f"a Tensor holds real floating-point numbers, not {data.dtype}")
        self.data = data
        self.requires_grad = requires_grad
        self.grad = None  # None or an array of the shape and dtype of data
        self._inputs = ()  # pairs (tensor, pullback); empty for a leaf, None once freed

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    T = property(lambda self: self.transpose())

    def __repr__(self):
        return f"Tensor({self.data!r}, requires_grad={self.requires_grad})"

    # Elementwise arithmetic ------------------------------------------------------------------

    def __add__(self, other):
        other = self._operand(other)
        return _record(
            rounded(self.data + other.data),
            (self, lambda gradient: gradient),
            (other, lambda gradient: gradient),
        )

    def __sub__(self, other):
        other = self._operand(other)
        return _record(
            rounded(self.data - other.data),
            (self, lambda gradient: gradient),
            (other, lambda gradient: -gradient),
        )

    def __mul__(self, other):
        other = self._operand(other)
        a, b = self.data, other.data
        return _record(
            rounded(a * b),
            (self, lambda gradient: rounded(gradient * b)),
            (other, lambda gradient: rounded(gradient * a)),
        )

    def __truediv__(self, other):
        other = self._operand(other)
        b = other.data
        quotient = rounded(self.data / b)
        return _record(
            quotient,
            (self, lambda gradient: rounded(gradient / b)),
            (other, lambda gradient: -rounded(rounded(gradient * quotient) / b)),
        )

    def __pow__(self, exponent):
        """x**n for a constant Python number n; integer n up to 16 by repeated multiplication."""
        if not isinstance(exponent, (int, float)):
            raise TypeError(f"the exponent must be a Python number, not {type(exponent).__name__}")
        x = self.data
        if exponent == 0:  # constant 1, also at x = 0, where n * x**(n - 1) would be 0 * infinity
            return _record(np.ones_like(x), (self, np.zeros_like))
        factor = x.dtype.type(exponent)
        return _record(
            _power(x, exponent),
            (self, lambda g: rounded(g * rounded(factor * _power(x, exponent - 1)))),
        )

    def __neg__(self):
        return _record(-self.data, (self, lambda gradient: -gradient))

    def __rsub__(self, other):
        return self._operand(other) - self

    def __rtruediv__(self, other):
        return self._operand(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    # Functions -------------------------------------------------------------------------------

    def exp(self):
        result = rounded(np.exp(self.data))
        return _record(result, (self, lambda gradient: rounded(gradient * result)))

    def log(self):
        """Natural logarithm; zero and negative numbers give -inf and nan, as in NumPy."""
        x = self.data
        return _record(rounded(np.log(x)), (self, lambda gradient: rounded(gradient / x)))

    def tanh(self):
        result = rounded(np.tanh(self.data))

        def pullback(gradient):
            slope = rounded(result.dtype.type(1) - rounded(result * result))
            return rounded(gradient * slope)

        return _record(result, (self, pullback))

    def relu(self):
        """max(x, 0); its slope at 0 is taken to be 0, as every framework does."""
        zero = self.dtype.type(0)
        positive = self.data > zero
        return _record(
            np.maximum(self.data, zero),
            (self, lambda gradient: np.where(positive, gradient, zero)),
        )

    def log_softmax(self, axis=-1):
        """log(exp(x) / sum exp(x)) along `axis`.

        The maximum is subtracted first: the result is the same and exp cannot overflow. It is a
        constant to the gradient, because log_softmax does not change when all x shift together.
        """
        shifted = self - self.data.max(axis=axis, keepdims=True)
        return shifted - shifted.exp().sum(axis=axis, keepdims=True).log()

    # Sums and products -----------------------------------------------------------------------

    def sum(self, axis=None, keepdims=False):
        """Sum over `axis`: None (all), an integer or a tuple."""
        x = self.data
        result = _sum(x, axis, keepdims)

        def pullback(gradient):
            if axis is not None and not keepdims:
                gradient = np.expand_dims(gradient, axis)
            return np.broadcast_to(gradient, x.shape)

        return _record(result, (self, pullback))

    def mean(self, axis=None, keepdims=False):
        """Mean over `axis`; raises ValueError when there is nothing to average."""
        axes = range(self.data.ndim) if axis is None else np.atleast_1d(axis)
        count = int(np.prod([self.shape[a] for a in axes]))
        if count == 0:
            raise ValueError(f"the mean of no elements does not exist: shape {self.shape}")
        wide = self._converted(_accumulator(self.dtype))  # a 16-bit sum could overflow
        return (wide.sum(axis, keepdims) / count)._converted(self.dtype)

    def __matmul__(self, other):
        """Matrix product over the last two axes; the axes before them broadcast."""
        other = self._operand(other)
        a, b = self.data, other.data
        if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError(
                f"matrix product of shapes {a.shape} and {b.shape}: both need two axes or more, "
                "and the last of the first must equal the second last of the second"
            )
        return _record(
            _matmul(a, b),
            (self, lambda gradient: _matmul(gradient, b.swapaxes(-1, -2))),
            (other, lambda gradient: _matmul(a.swapaxes(-1, -2), gradient)),
        )

    def __rmatmul__(self, other):
        return self._operand(other) @ self

    # Rearranging -----------------------------------------------------------------------------

    def reshape(self, *shape):
        old = self.shape
        return _record(self.data.reshape(*shape), (self, lambda gradient: gradient.reshape(old)))

    def transpose(self, *axes):
        """Permute the axes; without arguments, reverse them."""
        axes = axes or range(self.data.ndim)[::-1]
        back = np.argsort([axis % self.data.ndim for axis in axes])
        return _record(self.data.transpose(axes), (self, lambda gradient: gradient.transpose(back)))

    def __getitem__(self, index):
        """Any NumPy index; where it repeats an element, that element's gradients add up."""
        x = self.data

        def pullback(gradient):
            result = np.zeros_like(x)
            np.add.at(result, index, gradient)
            return rounded(result)

        return _record(np.asarray(x[index]), (self, pullback))

    # Differentiation -------------------------------------------------------------------------

    def backward(self, gradient=None, retain_graph=False):
        """Add d(self)/d(leaf) to `.grad` of every leaf that requires a gradient.

        `gradient`: the weight of each element of self, of its shape; 1 by default, which only a
        one-element tensor has. The graph is freed afterwards unless `retain_graph`.
        Raises ValueError for a missing or misshapen gradient; RuntimeError, before any `.grad`
        changes, when part of the graph was freed or nothing in it requires a gradient.
        """
        if gradient is None:
            if self.data.size != 1:
                raise ValueError(
                    f"backward of a tensor of shape {self.shape} needs one number: take its sum or "
                    "mean first, or pass a gradient of that shape"
                )
            gradient = np.ones_like(self.data)
        gradient = np.asarray(gradient, dtype=self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"gradient of shape {gradient.shape} for a tensor of {self.shape}")
        if not self.requires_grad:
            raise RuntimeError("nothing to differentiate: set requires_grad=True on an input")

        gradients = {id(self): gradient}
        for tensor in reversed(_topological_order(self)):
            gradient = gradients.pop(id(tensor))
            if not tensor._inputs:
                previous = tensor.grad
                tensor.grad = (
                    np.array(gradient) if previous is None else rounded(previous + gradient)
                )
                continue
            for source, pullback in tensor._inputs:
                part = _sum_to_shape(pullback(gradient), source.shape)
                earlier = gradients.get(id(source))
                gradients[id(source)] = part if earlier is None else rounded(earlier + part)
            if not retain_graph:
                tensor._inputs = None

    def _operand(self, other):
        if isinstance(other, (int, float)):
            return Tensor(np.asarray(other, dtype=self.dtype))
        other = other if isinstance(other, Tensor) else Tensor(other)
        if other.dtype != self.dtype:
            raise TypeError(f"{self.dtype} and {other.dtype} in one operation: convert one first")
        return other

    def _converted(self, dtype):
        own = self.dtype
        if dtype == own:
            return self
        return _record(self.data.astype(dtype), (self, lambda gradient: gradient.astype(own)))


def _record(data, *inputs):
    """The result of an operation; `inputs` are its pairs (tensor, pullback)."""
    result = Tensor(data)
    result._inputs = tuple(pair for pair in inputs if pair[0].requires_grad)
    result.requires_grad = bool(result._inputs)
    return result


def _topological_order(root):
    """All tensors that `root` came from, each after its own inputs; no recursion, any depth."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            if tensor._inputs is None:
                raise RuntimeError(
                    "this graph was freed by an earlier backward: compute it again, or give that "
                    "backward retain_graph=True"
                )
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((source, False) for source, _ in tensor._inputs)
    return order


def _sum_to_shape(gradient, shape):
    """Undo broadcasting: an element that was used many times gets the sum of its gradients."""
    if gradient.shape == shape:
        return gradient
    new = gradient.ndim - len(shape)
    stretched = [new + axis for axis, n in enumerate(shape) if n == 1]
    return _sum(gradient, (*range(new), *stretched), keepdims=True).reshape(shape)


def _power(x, exponent):
    if exponent == 0:
        return np.ones_like(x)
    if int(exponent) != exponent or abs(exponent) > LARGEST_MULTIPLIED_POWER:
        return rounded(np.power(x, x.dtype.type(exponent)))
    if exponent < 0:
        return rounded(x.dtype.type(1) / _power(x, -exponent))
    result = x
    for _ in range(int(exponent) - 1):
        result = rounded(result * x)
    return result


def _accumulator(dtype):
    """The dtype in which sums are formed: hardware adds 16-bit numbers up in float32."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def _sum(x, axis, keepdims):
    wide = x.astype(_accumulator(x.dtype), copy=False)
    result = np.asarray(wide.sum(axis=axis, keepdims=keepdims)).astype(x.dtype, copy=False)
    return rounded(
        result,
        terms=x.size // max(result.size, 1),
        norm=lambda: np.sqrt((wide * wide).sum(axis=axis, keepdims=keepdims)),
    )


def _matmul(a, b):
    dtype = _accumulator(a.dtype)
    wide_a, wide_b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    return rounded(
        (wide_a @ wide_b).astype(a.dtype, copy=False),
        terms=a.shape[-1],
        norm=lambda: np.sqrt((wide_a * wide_a) @ (wide_b * wide_b)),
    )
