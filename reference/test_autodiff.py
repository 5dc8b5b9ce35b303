"""The autodiff against closed forms and finite differences, and its refusals."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference.autodiff import Tensor, rounding

PRECISIONS = ["float64", "float32", "float16", "bfloat16"]
U = 2.0**-53


def dtype_named(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def leaf(values, dtype=np.float64):
    return Tensor(np.asarray(values, dtype=dtype), requires_grad=True)


def integers(rng, *shape):
    """Small whole numbers: every sum and product of them is exact, so gradients must be equal."""
    return rng.integers(-4, 5, size=shape).astype(np.float64)


# Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cube_gradient_is_exactly_twelve(precision):
    x = leaf(2, dtype_named(precision))
    (x**3).backward()
    assert x.grad.dtype == dtype_named(precision)
    assert x.grad == 12


# name: (function of a Tensor, point, function in NumPy, bound on |f'''| near the point, roundings)
ELEMENTARY = {
    "exp": (lambda x: x.exp(), 0.75, np.exp, np.e, 2),
    "log": (lambda x: x.log(), 0.75, np.log, 5.0, 2),  # 2 / x**3 = 4.74
    "tanh": (lambda x: x.tanh(), 0.75, np.tanh, 2.0, 2),
    "reciprocal": (lambda x: 1 / x, 0.75, lambda x: 1 / x, 20.0, 1),  # 6 / x**4 = 18.96
    "quotient": (lambda x: x / 3, 0.75, lambda x: x / 3, 0.0, 1),
    "quintic": (lambda x: x**5, 0.75, lambda x: x * x * x * x * x, 34.0, 4),  # 60 x**2 = 33.75
    "inverse-square": (lambda x: x**-2, 0.75, lambda x: 1 / (x * x), 102.0, 2),  # 24 / x**5
    "square-root": (lambda x: x**0.5, 0.75, np.sqrt, 1.0, 1),  # 3/8 x**-2.5 = 0.77
    "twentieth-power": (lambda x: x**20, 0.75, lambda x: np.power(x, 20), 52.0, 2),  # 6840 x**17
    "difference": (lambda x: 2 - x * x, 0.75, lambda x: 2 - x * x, 0.0, 2),
    "relu-above-zero": (lambda x: (x * x).relu(), 0.75, lambda x: x * x, 0.0, 1),
    "relu-below-zero": (lambda x: (-x).relu(), 0.75, lambda x: 0 * x, 0.0, 0),
    "softplus": (lambda x: (1 + x.exp()).log(), 0.75, lambda x: np.log(1 + np.exp(x)), 0.1, 6),
}


@pytest.mark.parametrize("name", ELEMENTARY)
def test_gradient_equals_the_central_difference(name):
    """(f(x + h) - f(x - h)) / 2h errs by h**2 |f'''| / 6 (Taylor) and, each of the two values by
    `roundings` times u |f|, by roundings * u |f| / h. The gradient itself adds at most 8 roundings.
    x, h and x +- h are exact in binary.
    """
    function, point, plain, third_derivative, roundings = ELEMENTARY[name]
    h = 2.0**-17
    x = leaf(point)
    function(x).backward()
    difference = (plain(point + h) - plain(point - h)) / (2 * h)
    largest = max(abs(plain(point + h)), abs(plain(point - h)))
    bound = h**2 * third_derivative / 6 + roundings * U * largest / h + 8 * U * abs(difference)
    assert abs(x.grad - difference) <= bound


@settings(derandomize=True, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), st.integers(0, 99))
def test_broadcasting_adds_up_the_gradients_of_a_repeated_element(shapes, seed):
    """Oracle: count, for every element of the result, which element of the input it used."""
    rng = np.random.default_rng(seed)
    shape_a, shape_b = shapes.input_shapes
    a, b = leaf(integers(rng, *shape_a)), leaf(integers(rng, *shape_b))
    weights = integers(rng, *shapes.result_shape)
    (a * b - a + b).backward(weights)
    for tensor, slope in ((a, b.data - 1), (b, a.data + 1)):
        used = np.arange(tensor.data.size).reshape(tensor.shape)
        used = np.broadcast_to(used, weights.shape).ravel()
        expected = np.bincount(used, (weights * slope).ravel(), minlength=tensor.data.size)
        np.testing.assert_array_equal(tensor.grad, expected.reshape(tensor.shape), strict=True)


def test_matrix_product():
    """d/dA of sum C * (A @ B) is C B^T, d/dB is A^T C; a matrix used by a batch gets their sum."""
    rng = np.random.default_rng(0)
    a, b, c = leaf(integers(rng, 2, 3)), leaf(integers(rng, 3, 4)), integers(rng, 2, 4)
    (a @ b).backward(c)
    np.testing.assert_array_equal(a.grad, c @ b.data.T)
    np.testing.assert_array_equal(b.grad, a.data.T @ c)
    a, batch, c = leaf(integers(rng, 2, 3)), leaf(integers(rng, 5, 3, 4)), integers(rng, 5, 2, 4)
    (a @ batch).backward(c)
    np.testing.assert_array_equal(a.grad, sum(c[i] @ batch.data[i].T for i in range(5)))
    np.testing.assert_array_equal(batch.grad, [a.data.T @ c[i] for i in range(5)])


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis, count", [(None, 8), (0, 2), (-1, 4), ((0, 1), 8)])
def test_sum_and_mean(axis, count, keepdims):
    """Every element counts once in a sum, 1 / count in a mean (a power of two here: exact)."""
    for method, share in (("sum", 1), ("mean", 1 / count)):
        x = leaf([[1, 2, 3, 4], [5, 6, 7, 8]])
        result = getattr(x, method)(axis, keepdims=keepdims)
        weights = np.arange(1.0, result.data.size + 1).reshape(result.shape)
        result.backward(weights)
        total = x.data.sum(axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(result.data, total * share, strict=True)
        spread = weights.reshape(x.data.sum(axis=axis, keepdims=True).shape)
        np.testing.assert_array_equal(x.grad, np.broadcast_to(spread * share, x.shape), strict=True)


def test_rearranging():
    x = leaf(np.arange(24).reshape(2, 3, 4))
    weights = np.arange(24.0)
    x.transpose(2, 0, -2).reshape(24).backward(weights)
    np.testing.assert_array_equal(x.grad, weights.reshape(4, 2, 3).transpose(1, 2, 0))
    matrix = leaf([[1, 2, 3], [4, 5, 6]])
    matrix.T.backward([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(matrix.grad, [[1, 3, 5], [2, 4, 6]])


def test_indexing_adds_up_repeated_elements():
    x = leaf([10, 20, 30])
    x[np.array([0, 2, 2])].backward([1, 2, 3])
    np.testing.assert_array_equal(x.grad, [1, 0, 5])


def test_log_softmax_of_huge_numbers():
    """Two equal logits share the probability: -log 2 each, whatever their size."""
    x = leaf([[1000, 1000], [-1000, 0]])
    result = x.log_softmax()
    expected = [[-np.log(2), -np.log(2)], [-1000, 0]]
    np.testing.assert_allclose(result.data, expected, rtol=2 * U, atol=0)
    result.backward([[1, 0], [1, 0]])
    np.testing.assert_array_equal(x.grad, [[0.5, -0.5], [1, -1]])  # c - softmax * sum(c)


def test_zeroth_power_and_relu_have_slope_zero_at_zero():
    for function in (lambda x: x**0, lambda x: x.relu()):
        x = leaf(0)
        function(x).backward()
        assert x.grad == 0


# Precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_operation_keeps_the_dtype(precision):
    dtype = dtype_named(precision)
    results = [
        lambda x: x.tanh().relu() + 1 - x,
        lambda x: 2 * (1 - -x).log().exp() / (3 + x),
        lambda x: x**0 + x**3 + x**-1 + x**0.5,
        lambda x: (x @ x.T).log_softmax().mean(axis=0)[1:].reshape(1, 1),
    ]
    for result in results:
        x = leaf([[1, 2], [3, 4]], dtype)
        y = result(x)
        y.sum().backward()
        assert (y.dtype, x.grad.dtype) == (dtype, dtype)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_sixteen_bit_sums_are_accumulated_in_float32(precision):
    """1 + 1 + ... sticks at 2048 in float16, at 256 in bfloat16; 60000 + 60000 overflows float16.
    (Powers of two and 49152 = 3 * 2**14 are exact in both.)"""
    ones = Tensor(np.ones((1, 4096), dtype_named(precision)))
    assert ones.sum().data == 4096
    assert (ones @ ones.T).data == 4096
    bias = leaf(np.zeros(1), ones.dtype)
    (bias + ones).sum().backward()
    assert bias.grad == 4096
    assert Tensor(np.full(4, 49152, ones.dtype)).mean().data == 49152


def test_numbers_take_the_dtype_of_the_array_but_arrays_do_not():
    assert Tensor([1, 2]).dtype == Tensor(3).dtype == np.float64
    x = Tensor(np.ones(2, np.float32))
    assert (x * 0.1).dtype == np.float32
    with pytest.raises(TypeError, match="float32 and float64 in one operation"):
        x * np.ones(2)


# The graph ---------------------------------------------------------------------------------------


def test_gradients_accumulate_until_cleared():
    x = leaf(3)
    (x * x).backward()
    (x * x).backward()
    assert x.grad == 12
    x.grad = None
    (x * x).backward()
    assert x.grad == 6


def test_a_tensor_used_twice_gets_both_gradients():
    x = leaf(3)
    y = x * x
    (y * y + y).backward()  # 4 x**3 + 2 x
    assert x.grad == 114


def test_second_backward_over_a_freed_graph_is_refused_and_changes_nothing():
    x, other = leaf(3), leaf(1)
    y = x * x
    y.backward()
    for result in (y, y * 2 + other):  # the second shares a part that was freed
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            result.backward()
    assert x.grad == 6 and other.grad is None


def test_retain_graph_allows_a_second_backward():
    x = leaf(3)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == 12
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_the_graph_remembers_the_values_of_the_forward_pass():
    x = leaf(3)
    y = x * x
    x.data = np.asarray(100.0)
    y.backward()
    assert x.grad == 6


def test_a_leaf_owns_its_gradient():
    x, y = leaf([1, 2]), leaf([3, 4])
    weights = np.ones(2)
    (x + y).backward(weights)
    x.grad[:] = 7
    assert y.grad.tolist() == weights.tolist() == [1, 1]


def test_gradients_nobody_asked_for_are_not_computed():
    images, weight = Tensor(np.ones((5, 3))), leaf(np.ones((3, 2)))
    shapes = []
    with rounding(lambda result, terms, norm: shapes.append(result.shape) or result):
        (images @ weight).backward(np.ones((5, 2)))
    assert images.grad is None
    assert shapes == [(5, 2), (3, 2)]


def test_a_hundred_thousand_operations_need_no_recursion():
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward(retain_graph=True)
    assert x.grad == 100_001
    del y  # freeing the chain must not recurse either
    gc.collect()


# The rounding hook -------------------------------------------------------------------------------

# name: (function, inexact operations forward, backward)
HOOKED = {
    "add": (lambda a, b: a + b, 1, 0),
    "subtract": (lambda a, b: a - b, 1, 0),
    "multiply": (lambda a, b: a * b, 1, 2),
    "divide": (lambda a, b: a / b, 1, 3),  # g / b; g * (a / b), / b
    "cube": (lambda a, b: a**3, 2, 3),  # x * x * x; x * x, * 3, * g
    "square-root": (lambda a, b: a**0.5, 1, 3),
    "exp": (lambda a, b: a.exp(), 1, 1),
    "log": (lambda a, b: a.log(), 1, 1),
    "tanh": (lambda a, b: a.tanh(), 1, 3),  # y * y, 1 - , * g
    "matmul": (lambda a, b: a @ b, 1, 2),
    "sum": (lambda a, b: a.sum(axis=0, keepdims=True), 1, 0),
    "broadcast": (lambda a, b: a + b[:1], 1, 2),  # b: sum over the rows, index
    "fan-out": (lambda a, b: a + a, 1, 1),
    "exact": (lambda a, b: (-a).relu().T.reshape(4), 0, 0),
}


@pytest.mark.parametrize("name", HOOKED)
def test_the_hook_receives_every_inexact_result(name):
    function, forward, backward = HOOKED[name]
    calls = []
    with rounding(lambda result, terms, norm: calls.append(result) or result):
        result = function(leaf([[1, 2], [3, 4]]), leaf([[5, 6], [7, 8]]))
        assert len(calls) == forward
        result.backward(np.ones(result.shape))
    assert len(calls) == forward + backward


def test_the_hook_changes_results_and_ends_with_its_block():
    x = leaf(3)
    with rounding(lambda result, terms, norm: result + 1):
        y = x * x  # 9 + 1
        y.backward()  # 3 + 1, twice; their sum + 1
    assert (y.data, x.grad) == (10, 9)
    with pytest.raises(ZeroDivisionError), rounding(lambda *_: 1 / 0):
        x + x
    assert (x + x).data == 6


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_the_hook_is_told_how_many_terms_a_sum_has_and_their_norm(precision):
    calls = []
    row = Tensor(np.array([[3, -4]], dtype_named(precision)))
    ones = Tensor(np.ones((2, 1), row.dtype))
    with rounding(lambda result, terms, norm: calls.append((terms, norm)) or result):
        row @ ones
        row.sum()
        row + row
    assert calls[:2] == [(2, 5), (2, 5)]  # sqrt(9 + 16)
    assert calls[2] == (1, None)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, message, action",
    [
        (ValueError, r"shape \(2,\) needs one number", lambda: leaf([1, 2]).backward()),
        (ValueError, r"gradient of shape \(3,\)", lambda: leaf([1, 2]).backward(np.ones(3))),
        (RuntimeError, "nothing to differentiate", lambda: (Tensor(1) * 2).backward()),
        (ValueError, r"\(1, 2\) and \(1, 3\): both need", lambda: leaf([[1, 2]]) @ [[1, 2, 3]]),
        (ValueError, "two axes or more", lambda: leaf([1, 2]) @ np.ones((2, 2))),
        (ValueError, "could not be broadcast", lambda: leaf([1, 2]) + leaf([1, 2, 3])),
        (ValueError, "mean of no elements", lambda: Tensor(np.ones((0, 3))).mean(axis=0)),
        (TypeError, "exponent must be a Python number", lambda: leaf(2) ** leaf(3)),
        (TypeError, "real floating-point numbers, not complex128", lambda: Tensor(1j)),
        (TypeError, "real floating-point numbers, not <U1", lambda: Tensor("x")),
    ],
)
def test_refusals_are_one_clear_line(error, message, action):
    with pytest.raises(error, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)
