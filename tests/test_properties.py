"""Properties against NumPy on drawn shapes: broadcasting, movement, indexing, assignment, reductions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ferrox as fx

settings.register_profile("ferrox", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("ferrox")

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
FILLED = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])


def values(shape, dtype=np.float64, start=1):
    """Values of a shape, distinct as far as the type goes."""
    count = np.arange(start, start + int(np.prod(shape))).reshape(shape)
    return np.asarray(count * 3 % 7 < 3 if dtype == np.bool_ else count % 251).astype(dtype)


def tensor(array):
    return fx.from_numpy(np.asarray(array))


def same(got, expected, rtol=0.0):
    expected = np.asarray(expected)
    got = got.numpy()
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0),
    st.sampled_from(["add", "sub", "mul", "maximum", "minimum", "eq", "lt", "fmod"]),
    DTYPES,
)
def test_broadcasting(shapes, name, dtype):
    if dtype == np.bool_ and name in ("sub", "fmod"):
        dtype = np.int64
    a, b = (
        values(shapes.input_shapes[0], dtype),
        np.maximum(values(shapes.input_shapes[1], dtype, 2), np.ones((), dtype)),
    )
    numpy_name = {"sub": "subtract", "mul": "multiply", "eq": "equal", "lt": "less"}.get(name, name)
    same(getattr(fx, name)(tensor(a), tensor(b)), getattr(np, numpy_name)(a, b))


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0))
def test_broadcast_gradient(shapes):
    """The gradient of a broadcast input is summed back to its shape."""
    a, b = (tensor(values(each)).requires_grad_() for each in shapes.input_shapes)
    (a * b).sum().backward()
    for x, other in ((a, b), (b, a)):
        wide = np.broadcast_to(other.detach().numpy(), shapes.result_shape)
        lead = wide.ndim - x.ndim
        axes = tuple(range(lead)) + tuple(
            d + lead for d, size in enumerate(x.shape) if size == 1 and shapes.result_shape[d + lead] != 1
        )
        same(x.grad, wide.sum(axes).reshape(tuple(x.shape)))


@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
def test_shapes_that_do_not_broadcast(one, other):
    a, b = fx.zeros(one), fx.zeros(other)
    try:
        expected = np.broadcast_shapes(one, other)
    except ValueError:
        with pytest.raises(RuntimeError):
            a + b
    else:
        assert tuple((a + b).shape) == expected


@given(st.data(), SHAPES, DTYPES)
def test_permute_reshape(data, shape, dtype):
    x = values(shape, dtype)
    dims = data.draw(st.permutations(range(len(shape))))
    moved, expected = tensor(x).permute(*dims) if dims else tensor(x), np.transpose(x, dims)
    same(moved, expected)
    sizes = data.draw(st.permutations(expected.shape))
    same(moved.reshape(tuple(sizes)), expected.reshape(sizes))
    if expected.size:
        same(moved.reshape(-1), expected.reshape(-1))
    else:
        same(moved.flatten(), expected.ravel())


@st.composite
def basic_index(draw, shape):
    """Integers, forward slices, Ellipsis and None."""
    index = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.integers(0, 2 if size else 1))
        if kind == 0:
            index.append(None)
        if kind < 2:
            index.append(
                slice(
                    draw(st.none() | st.integers(-5, 5)),
                    draw(st.none() | st.integers(-5, 5)),
                    draw(st.none() | st.integers(1, 3)),
                )
            )
        else:
            index.append(draw(st.integers(-size, size - 1)))
    if draw(st.booleans()):
        index.append(Ellipsis)
    return tuple(index)


@given(st.data(), SHAPES, DTYPES)
def test_slicing(data, shape, dtype):
    x = values(shape, dtype)
    index = data.draw(basic_index(shape))
    got = tensor(x.copy())
    same(got[index], x[index])
    if x[index].size and np.shares_memory(x[index], x):
        assert got[index].data_ptr() - got.data_ptr() == x[index].ctypes.data - x.ctypes.data


@st.composite
def advanced_index(draw, shape):
    """A mixture of integer arrays, a mask, integers and slices, with one or two arrays at least."""
    joint = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    index, arrays = [], 0
    for size in shape:
        kind = draw(st.integers(0, 3))
        if kind == 0 or (not arrays and len(index) == len(shape) - 1):
            piece = draw(
                hnp.array_shapes(min_dims=0, max_dims=len(joint), min_side=1, max_side=1).map(
                    lambda ones: tuple(joint[len(joint) - len(ones) :])
                )
            )
            index.append(draw(hnp.arrays(np.int64, piece, elements=st.integers(-size, size - 1))))
            arrays += 1
        elif kind == 1:
            index.append(draw(st.integers(-size, size - 1)))
        else:
            index.append(
                slice(
                    draw(st.none() | st.integers(-4, 4)),
                    draw(st.none() | st.integers(-4, 4)),
                    draw(st.none() | st.integers(1, 3)),
                )
            )
    return tuple(index)


def of_ferrox(index):
    return tuple(tensor(each) if isinstance(each, np.ndarray) else each for each in index)


@given(st.data(), FILLED, DTYPES)
def test_advanced_indexing(data, shape, dtype):
    torch = pytest.importorskip("torch")
    x = values(shape, dtype)
    index = data.draw(advanced_index(shape))
    in_torch = tuple(torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in index)
    same(tensor(x)[of_ferrox(index)], torch.from_numpy(x)[in_torch].numpy())


@given(st.data(), FILLED, DTYPES)
def test_mask(data, shape, dtype):
    x = values(shape, dtype)
    mask = data.draw(hnp.arrays(np.bool_, shape[: data.draw(st.integers(1, len(shape)))]))
    same(tensor(x)[tensor(mask)], x[mask])
    got = tensor(x.copy())
    got[tensor(mask)] = 1
    x[mask] = 1
    same(got, x)


@given(st.data(), FILLED)
def test_assignment(data, shape):
    x = values(shape)
    index = data.draw(basic_index(shape))
    got = tensor(x.copy())
    new = -values(x[index].shape)
    got[index] = tensor(new)
    x[index] = new
    same(got, x)
    got[index] = 2.5
    x[index] = 2.5
    same(got, x)


@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
def test_advanced_assignment(data, shape):
    """One array on the first dimension, without repeats, whose order of writing would be open."""
    x = values(shape)
    rows = np.array(data.draw(st.lists(st.integers(0, shape[0] - 1), unique=True)), dtype=np.int64)
    new = -values((len(rows), *shape[1:]))
    got = tensor(x.copy())
    got[tensor(rows)] = tensor(new)
    x[rows] = new
    same(got, x)


@given(st.data(), SHAPES, st.booleans())
def test_sum_mean(data, shape, keep):
    x = values(shape) / 3
    dims = (
        tuple(data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda d: d % len(shape))))
        if shape
        else ()
    )
    y = tensor(x)
    axes = dims or None
    same(y.sum(dims, keep) if dims else y.sum(), np.sum(x, axes, keepdims=keep and bool(dims)), 1e-13)
    with np.errstate(all="ignore"):
        expected = (
            x.sum(axes, keepdims=keep and bool(dims)) / np.divide(x.size, max(np.prod(x.sum(axes).shape), 1))
            if x.size
            else None
        )
    if expected is not None:
        same(y.mean(dims, keep) if dims else y.mean(), expected, 1e-13)


@given(st.data(), FILLED, st.booleans(), st.sampled_from([np.float64, np.float32, np.int64, np.int32]))
def test_max(data, shape, keep, dtype):
    x = data.draw(hnp.arrays(dtype, shape, elements=st.integers(-5, 5)))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    greatest, at = tensor(x).max(dim, keep)
    same(greatest, x.max(dim, keepdims=keep))
    np.testing.assert_array_equal(
        np.take_along_axis(x, at.reshape(greatest.shape).numpy() if keep else np.expand_dims(at.numpy(), dim), dim),
        x.max(dim, keepdims=True),
    )
    same(tensor(x).amin(dim, keep), x.min(dim, keepdims=keep))


@given(st.data(), st.sampled_from(["ij", "xy"]))
def test_meshgrid(data, indexing):
    axes = [values((data.draw(st.integers(1, 4)),)) for _ in range(data.draw(st.integers(1, 3)))]
    for got, expected in zip(
        fx.meshgrid(*map(tensor, axes), indexing=indexing), np.meshgrid(*axes, indexing=indexing), strict=True
    ):
        same(got, expected)
