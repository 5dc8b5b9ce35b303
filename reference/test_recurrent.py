"""LSTM and GRU against steps computed by hand and against what saturated gates must do."""

import numpy as np
import pytest

from reference.recurrent import Gate, WithError, gru, lstm, sigmoid

U = 2.0**-53
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order(monkeypatch):
    """Each test draws from the start of the stream, whichever tests ran before it."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


def gate(inputs=2, units=3, bias=0.0):
    return Gate(
        RNG.normal(size=(inputs, units)),
        RNG.normal(size=(units, units)),
        np.full(units, bias),
        np.zeros(units),
    )


def constant_gate(value):
    """One input, one unit: the value, whatever comes."""
    zero = np.zeros((1, 1))
    return Gate(zero, zero, np.array([value]), np.zeros(1))


def scalar_gate(kernel, recurrent, input_bias, recurrent_bias):
    return Gate(
        *(np.array([[w]]) for w in (kernel, recurrent)),
        *map(np.atleast_1d, (np.float64(input_bias), np.float64(recurrent_bias))),
    )


def test_sigmoid():
    x = np.array([0.0, np.log(3.0), -np.log(3.0), 1e4, -1e4])
    np.testing.assert_allclose(sigmoid(x), [0.5, 0.75, 0.25, 1.0, 0.0], rtol=0, atol=4 * U)


def test_one_step_of_an_lstm_by_hand():
    """Gates of 3/4, 1/4 and 1/2 by their logits; the candidate tanh(2 * 1 - 3 * 1/2 + 1/4)."""
    gates = {
        "i": constant_gate(np.log(3)),
        "f": constant_gate(-np.log(3)),
        "o": constant_gate(0.0),
        "g": scalar_gate(2.0, -3.0, 0.125, 0.125),
    }
    x, h, c = np.ones((1, 1, 1)), np.full((1, 1), 0.5), np.full((1, 1), 8.0)
    outputs, last, cell = lstm(x, h, c, gates)
    expected = 0.25 * 8 + 0.75 * np.tanh(0.75)
    np.testing.assert_allclose(cell, [[expected]], rtol=8 * U)
    np.testing.assert_allclose(last, [[np.tanh(expected) / 2]], rtol=16 * U)
    np.testing.assert_array_equal(outputs[:, 0], last)


def test_an_open_forget_gate_keeps_the_cell_and_a_closed_one_drops_it():
    gates = {name: gate() for name in "ifgo"}
    x, h, c = RNG.normal(size=(2, 4, 2)), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    gates |= {"i": gate(bias=-1e3), "f": gate(bias=1e3)}
    np.testing.assert_array_equal(lstm(x, h, c, gates)[2], c)
    gates |= {"f": gate(bias=-1e3)}
    np.testing.assert_array_equal(lstm(x, h, c, gates)[2], 0 * c)


@pytest.mark.parametrize("reset_after, state_part", [(True, 0.375), (False, 0.75)])
def test_one_step_of_a_gru_by_hand(reset_after, state_part):
    """r = 1/4, z = 3/4, h = 1/2. After: r * (2 h + 1/2). Before: 2 (r h) + 1/2 = 3/4."""
    gates = {
        "r": constant_gate(-np.log(3)),
        "z": constant_gate(np.log(3)),
        "n": scalar_gate(1.0, 2.0, 0.25, 0.5),
    }
    outputs, last = gru(np.ones((1, 1, 1)), np.full((1, 1), 0.5), gates, reset_after)
    expected = 0.75 * 0.5 + 0.25 * np.tanh(1.25 + state_part)
    np.testing.assert_allclose(last, [[expected]], rtol=16 * U)
    np.testing.assert_array_equal(outputs[:, 0], last)


def test_an_update_gate_of_one_keeps_the_state():
    gates = {name: gate() for name in "rn"} | {"z": gate(bias=1e3)}
    x, h = RNG.normal(size=(2, 4, 2)), RNG.normal(size=(2, 3))
    np.testing.assert_array_equal(gru(x, h, gates)[1], h)


def test_a_sequence_is_its_steps():
    x, h, c = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    gates = {name: gate() for name in "ifgo"}
    whole = lstm(x, h, c, gates)
    for t in range(3):
        outputs, h, c = lstm(x[:, t : t + 1], h, c, gates)
        np.testing.assert_array_equal(outputs[:, 0], whole[0][:, t])
    np.testing.assert_array_equal(c, whole[2])


def test_what_does_not_fit_is_refused():
    x, h = np.ones((2, 3, 2)), np.ones((2, 3))
    with pytest.raises(ValueError, match="expected three axes and rzn"):
        gru(x, h, {name: gate() for name in "ifgo"})
    with pytest.raises(ValueError, match="gate i: kernel"):
        lstm(x, h, h, {name: gate(inputs=4) for name in "ifgo"})


def with_errors(gates, roundoff):
    return {
        name: Gate(*(WithError(part, roundoff) for part in vars(gate).values()))
        for name, gate in gates.items()
    }


@pytest.mark.parametrize("layer, names", [(lstm, "ifgo"), (gru, "rzn")], ids=["lstm", "gru"])
def test_errors_in_single_precision_stay_within_the_counted_ones(layer, names):
    """And not far below: the largest is a tenth of what is counted, or more in some element."""
    gates = {name: gate() for name in names}
    x, h, c = RNG.normal(size=(2, 4, 2)), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    x, h, c = (a.astype(np.float32).astype(np.float64) for a in (x, h, c))
    states = (h, c) if layer is lstm else (h,)
    single = {
        name: Gate(*(part.astype(np.float32) for part in vars(gate).values()))
        for name, gate in gates.items()
    }
    gates = {
        name: Gate(*(part.astype(np.float64) for part in vars(gate).values()))
        for name, gate in single.items()
    }
    counted = layer(x, *states, with_errors(gates, 2.0**-24))
    found = layer(x.astype(np.float32), *(a.astype(np.float32) for a in states), single)
    for bounded, observed, exact in zip(counted, found, layer(x, *states, gates), strict=True):
        np.testing.assert_array_equal(bounded.value, exact)
        margins = np.abs(observed - exact) / bounded.error
        assert 0.01 < margins.max() < 1


def test_errors_of_single_operations():
    """2 (1 +- 1/8) and 3: a sum, a product, a matrix product of one term and tanh at 0."""
    a = WithError(np.array([[2.0]]), 0.5**10, np.array([[0.25]]))
    u = 0.5**10
    assert (a + 3.0).error == 0.25 + 2 * u * 5
    assert (3.0 - a).error == 0.25 + 2 * u * 5
    assert (a * np.array([[3.0]])).error == 0.75 + u * 6
    assert (a @ np.array([[-3.0]])).error == 0.75 + 5 * u * 6
    assert np.tanh(a - 2.0).error == 0.25 + 2 * u * 4
    with pytest.raises(TypeError):
        np.exp(a)
