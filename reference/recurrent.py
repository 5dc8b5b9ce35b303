"""Recurrent layers, one step at a time, from the equations of their gates.

Every gate has a kernel (inputs, units), a recurrent kernel (units, units) and a bias (units,). They
are kept by the name of the gate; how a library stacks them is its own convention. `x` is
(batch, time, inputs) and a state (batch, units), all of one dtype, in which the result is computed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gate:
    """One gate: x @ kernel + input_bias + h @ recurrent_kernel + recurrent_bias, then a function.

    Where only the sum of the two biases counts, a library may keep one of them.
    """

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    input_bias: np.ndarray
    recurrent_bias: np.ndarray

    def of_input(self, x):
        return x @ self.kernel + self.input_bias

    def of_state(self, h):
        return h @ self.recurrent_kernel + self.recurrent_bias


def lstm(x, h, c, gates):
    """The outputs (batch, time, units) and the last hidden and cell state of an LSTM.

    gates: {"i": input gate, "f": forget gate, "g": candidate, "o": output gate}. At each step
    c = f * c + i * g and h = o * tanh(c), where i, f and o are sigmoids and g is a tanh.
    Source: Gers, Schmidhuber and Cummins, Learning to Forget (2000), without peepholes;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html.
    """
    outputs = []
    for step in _steps(x, h, gates, "ifgo"):
        i, f, o = (sigmoid(gates[name].of_input(step) + gates[name].of_state(h)) for name in "ifo")
        g = np.tanh(gates["g"].of_input(step) + gates["g"].of_state(h))
        c = f * c + i * g
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def gru(x, h, gates, reset_after=True):
    """The outputs (batch, time, units) and the last state of a GRU.

    gates: {"r": reset gate, "z": update gate, "n": candidate}. At each step
    h = z * h + (1 - z) * n with, if `reset_after`, n = tanh(input part + r * state part); else the
    reset gate multiplies h before its product with the recurrent kernel, as Cho et al. wrote it.
    Source: Cho et al. (2014), arXiv:1406.1078;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html.
    """
    outputs = []
    for step in _steps(x, h, gates, "rzn"):
        r, z = (sigmoid(gates[name].of_input(step) + gates[name].of_state(h)) for name in "rz")
        candidate = gates["n"]
        state = r * candidate.of_state(h) if reset_after else candidate.of_state(r * h)
        n = np.tanh(candidate.of_input(step) + state)
        h = z * h + (1 - z) * n
        outputs.append(h)
    return np.stack(outputs, axis=1), h


def sigmoid(x):
    """1 / (1 + exp(-x)), written with tanh, which does not overflow."""
    half = x.dtype.type(0.5)
    return half * np.tanh(half * x) + half


class WithError(np.lib.mixins.NDArrayOperatorsMixin):
    """An array and how far rounding may have carried each of its elements, to first order.

    Weights of this class, given to `lstm` or `gru`, turn their results into it: the same equations
    then count their own roundings (running error analysis; Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., section 3.3). A product rounds once, tanh four times, an addition
    twice and an element of a matrix product of n terms n + 4 times, each relative to the numbers
    that meet there: enough for the terms of a gate in any order.

    value, error: arrays of one shape; roundoff: the unit roundoff of the precision.
    """

    def __init__(self, value, roundoff, error=0.0):
        self.value = np.asarray(value)
        self.roundoff = roundoff
        self.error = np.broadcast_to(error, self.value.shape)

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)

    def __array_ufunc__(self, ufunc, method, *inputs):
        exact = [a if isinstance(a, WithError) else WithError(a, self.roundoff) for a in inputs]
        values = [array.value for array in exact]
        errors = [array.error for array in exact]
        sizes = [np.abs(array) for array in values]
        result = ufunc(*values)
        if ufunc in (np.add, np.subtract):
            error = sum(errors) + 2 * self.roundoff * sum(sizes)
        elif ufunc is np.multiply:
            error = errors[0] * sizes[1] + sizes[0] * errors[1] + self.roundoff * np.abs(result)
        elif ufunc is np.matmul:
            roundings = sizes[0].shape[-1] + 4
            error = errors[0] @ sizes[1] + sizes[0] @ errors[1]
            error = error + roundings * self.roundoff * (sizes[0] @ sizes[1])
        elif ufunc is np.tanh:
            error = (1 - result**2) * errors[0] + 4 * self.roundoff * np.abs(result)
        else:
            return NotImplemented
        return WithError(result, self.roundoff, error)

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.stack:
            return NotImplemented
        (arrays,) = args
        error = np.stack([array.error for array in arrays], **kwargs)
        return WithError(np.stack([a.value for a in arrays], **kwargs), self.roundoff, error)


def _steps(x, h, gates, names):
    if x.ndim != 3 or sorted(gates) != sorted(names):
        raise ValueError(f"x {x.shape} and gates {sorted(gates)}; expected three axes and {names}")
    for name in names:
        gate, units = gates[name], h.shape[-1]
        if gate.kernel.shape != (x.shape[2], units) or gate.recurrent_kernel.shape != (units,) * 2:
            raise ValueError(
                f"gate {name}: kernel {gate.kernel.shape} and recurrent kernel "
                f"{gate.recurrent_kernel.shape}; expected {(x.shape[2], units)}, {(units,) * 2}"
            )
    return np.moveaxis(x, 1, 0)
