import math
import warnings

import numpy as np
import pytest
from against_torch import check, same
from peers import torch

import ferrox as fx

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
nan, inf = math.nan, math.inf


def of(lib, name):
    return None if name is None else getattr(lib, name)


def alike(call):
    """Compare `call(library)`: the results, or that both fail with the same kind of error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = call(torch)
        except Exception as error:
            if str(error) == "step must be nonzero":
                error = RuntimeError()    # PyTorch raises a ValueError where the step is cut to zero
            with pytest.raises(type(error)):
                call(fx)
            return
    same(call(fx), expected)


# tensor

DATA = [
    1, 2.5, True, [], [[]], [[], []], (), [1, 2], [1.0, 2.0], [True, False], [True, 2], [True, 2.5], [1, 2.5, True],
    [[1, 2], [3, 4]], ((1, 2), [3, 4]), [[[1.5]]], range(3), [range(2), (5, 6)], [nan, inf, -inf], -0.0, 2**63 - 1,
    -2**63,
    [[1.0, 2], [3, True]], np.float32(3), np.float64(3), np.int16(3), np.bool_(True), np.array(3.0), np.arange(4)[::2],
    np.arange(6.0, dtype="f4").reshape(2, 3).T, np.zeros((0, 2)), [np.float32(1), 2.0], [np.float64(1), 2.0],
    [np.array([1, 2]), np.array([3, 4])], [np.int32(1), np.int32(2)], [[np.float16(1)], [2]],
]


@pytest.mark.parametrize("data", DATA, ids=repr)
@pytest.mark.parametrize("name", [None, "bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"])
def test_tensor(data, name):
    try:
        torch.tensor(data, dtype=of(torch, name))
    except Exception as error:
        # PyTorch takes NumPy's integers as integers but not its floats and bools, which Ferrox converts as an array's.
        if isinstance(error, TypeError) and "cannot be interpreted as an integer" in str(error):
            same(fx.tensor(data, dtype=of(fx, name)), torch.tensor(np.array(data)).to(of(torch, name)))
            return
    alike(lambda lib: lib.tensor(data, dtype=of(lib, name)))


def test_tensor_of_tensors():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    made = fx.tensor(x * 2)
    assert made.tolist() == [2, 4] and made.is_leaf and not made.requires_grad
    assert fx.tensor(x).data_ptr() != x.data_ptr()
    assert fx.tensor([fx.tensor(1), fx.tensor(2.5)]).tolist() == [1, 2.5]
    assert fx.tensor([fx.tensor([1, 2]), [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert fx.tensor([fx.tensor(1.0, dtype=fx.float64)]).dtype is fx.float64
    array = np.arange(3.0)
    assert fx.tensor(array).data_ptr() != array.__array_interface__["data"][0]


@pytest.mark.parametrize("data", [[[1, 2], 3], [1, [2, 3]], [[1, 2], [3]], [[1], [2, 3]], [[[1], [2]], [[3], [4, 5]]],
                                  [[], [1]], [[1], []], [[1.0], [[2.0]]]])
def test_ragged_lists(data):
    with pytest.raises(ValueError, match="at dim"):
        fx.tensor(data)


def test_ragged_message_is_pytorchs():
    for data in ([[1, 2], [3, 4, 5]], [[1, 2], [3]], [[[1], [2]], [[3], [4, 5]]]):
        with pytest.raises(ValueError) as expected:
            torch.tensor(data)
        with pytest.raises(ValueError) as got:
            fx.tensor(data)
        assert str(got.value) == str(expected.value)


OVERFLOWS = [(300, "uint8"), (-256, "uint8"), (128, "int8"), (-129, "int8"), (40000, "int16"), (2**31, "int32"),
             (300.7, "uint8"),
             (nan, "int64"), (inf, "int32"), (1e30, "int64"), (2**63, "int64"), (2**63, None), (-2**63 - 1, None)]


@pytest.mark.parametrize(("value", "name"), OVERFLOWS)
def test_values_that_do_not_fit(value, name):
    for data in (value, [value], [[0, value]]):
        alike(lambda lib, data=data: lib.tensor(data, dtype=of(lib, name)))
    with pytest.raises((RuntimeError, ValueError), match=r"overflow|Overflow"):
        fx.tensor(value, dtype=of(fx, name))


def test_values_that_wrap_or_round_as_pytorchs():
    for value, name in ((-1, "uint8"), (-255, "uint8"), (1.9, "int64"), (-1.9, "int32"), (1e39, "float32"),
                        (70000, "float16"), (2**70, "float32"), (0.1, "bfloat16"), (65519.0, "float16"),
                        (nan, "bool"), (16777217, "float32")):
        alike(lambda lib, value=value, name=name: lib.tensor([value], dtype=of(lib, name)))


@pytest.mark.parametrize("data", ["a", ["a"], None, [None], {1, 2}, {1: 2}, object(), iter([1]), b"ab"])
def test_data_of_no_use(data):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        fx.tensor(data)


def test_lists_that_contain_themselves():
    data = []
    data.append(data)
    with pytest.raises(ValueError, match="too many dimensions"):
        fx.tensor(data)
    data.append(np.float32(1))
    with pytest.raises(ValueError):
        fx.tensor(data)


def test_tensor_flags():
    assert fx.tensor([1.0], requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        fx.tensor([1], requires_grad=True)
    assert fx.tensor([1.0], device="cpu").device == fx.device("cpu")
    fx.set_default_dtype(fx.float64)
    try:
        for made in (fx.tensor([1.0, 2]), fx.zeros(1), fx.arange(2.0), fx.tensor([])):
            assert made.dtype is fx.float64
    finally:
        fx.set_default_dtype(fx.float32)


def test_large_nested_lists():
    array = np.random.default_rng(0).standard_normal((50, 7, 11))
    np.testing.assert_array_equal(fx.tensor(array.tolist(), dtype=fx.float64).numpy(), array)
    np.testing.assert_array_equal(fx.tensor(array.tolist()).numpy(), array.astype("f4"))


def test_as_tensor_and_asarray_share():
    array = np.arange(3.0, dtype="f4")
    address = array.__array_interface__["data"][0]
    x = fx.ones(2, requires_grad=True)
    for make in (fx.as_tensor, fx.asarray):
        assert make(array).data_ptr() == address and make(array, dtype=fx.float64).data_ptr() != address
        assert make(x) is x and make([1, 2]).tolist() == [1, 2] and make(2.5).item() == 2.5
    assert fx.as_tensor(x, dtype=fx.float64).requires_grad
    assert fx.asarray(array, copy=True).data_ptr() != address and fx.asarray(array, copy=False).data_ptr() == address
    assert fx.asarray(x, copy=True).data_ptr() != x.data_ptr()
    assert fx.asarray(torch.arange(3)).tolist() == [0, 1, 2] and fx.asarray(b"ab", dtype=fx.uint8).tolist() == [97, 98]
    detached = fx.asarray(x * 2, requires_grad=True)
    assert detached.is_leaf and detached.requires_grad
    for wrong in (lambda: fx.asarray([1], copy=False), lambda: fx.asarray(array, dtype=fx.float64, copy=False)):
        with pytest.raises(ValueError, match="alias"):
            wrong()


# shapes

@pytest.mark.parametrize("function", ["zeros", "ones", "empty"])
def test_shapes(function):
    for sizes in ((), (0,), (3,), (2, 3), (2, 0, 3), (1,) * 10):
        for call in (lambda lib, s=sizes: getattr(lib, function)(s),
                     lambda lib, s=sizes: getattr(lib, function)(size=s),
                     lambda lib, s=sizes: getattr(lib, function)(list(s))):
            assert call(fx).shape == tuple(call(torch).shape)
        if sizes:
            assert getattr(fx, function)(*sizes).shape == sizes
    assert getattr(fx, function)(np.int64(2), fx.tensor(3)).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_fills(name):
    alike(lambda lib: lib.zeros(2, 3, dtype=of(lib, name)))
    alike(lambda lib: lib.ones(2, 3, dtype=of(lib, name)))
    alike(lambda lib: lib.full((2, 3), 7, dtype=of(lib, name)))
    alike(lambda lib: lib.full((2, 3), 2.5, dtype=of(lib, name)))
    alike(lambda lib: lib.eye(3, 4, dtype=of(lib, name)))
    x = (fx.ones(3, 2, dtype=of(fx, name)).T, torch.ones(3, 2, dtype=of(torch, name)).T)
    for function in ("zeros_like", "ones_like"):
        same(getattr(fx, function)(x[0]), getattr(torch, function)(x[1]))
        same(getattr(fx, function)(x[0], dtype=fx.float64), getattr(torch, function)(x[1], dtype=torch.float64))
    same(fx.full_like(x[0], 3), torch.full_like(x[1], 3))
    assert fx.empty_like(x[0]).shape == (2, 3) and fx.empty_like(x[0]).dtype is of(fx, name)
    same(x[0].new_zeros(2, 3), x[1].new_zeros(2, 3))
    same(x[0].new_ones((2,)), x[1].new_ones((2,)))
    same(x[0].new_full((2,), 1), x[1].new_full((2,), 1))
    same(x[0].new_tensor([1, 0]), x[1].new_tensor([1, 0]))
    assert x[0].new_empty(4, 5).shape == (4, 5) and x[0].new_zeros(1, dtype=fx.int8).dtype is fx.int8


def test_full_infers():
    for value in (3, 2.5, True, nan):
        alike(lambda lib, value=value: lib.full((2,), value))
    assert fx.full((2,), fx.tensor(3)).dtype is fx.int64 and fx.full((1,), np.float32(2)).item() == 2


BAD_SIZES = ["zeros(-1)", "zeros(2, -3)", "zeros(2**40, 2**40)", "zeros(2**62)", "zeros(2.5)", "zeros([2, 2.5])",
             "zeros(True)",
             "zeros('a')", "full((2, -1), 1)", "full(2, 3)", "eye(-1)", "eye(2, -1)", "empty(2**31, 2**31, 2**31)",
             "zeros(2, requires_grad=True, dtype=lib.int64)", "full((1,), 300, dtype=lib.uint8)", "full((2,), 'a')"]


@pytest.mark.parametrize("text", BAD_SIZES)
def test_errors_are_pytorchs(text):
    names = ("zeros", "full", "eye", "empty")
    alike(lambda lib: eval(text, {"lib": lib, **{name: getattr(lib, name) for name in names}}))
    with pytest.raises((TypeError, RuntimeError)):
        eval("fx." + text.replace("lib.", "fx."))


def test_sizes_are_wanted_once():
    for wrong in (lambda: fx.zeros(), lambda: fx.zeros(2, size=(3,)), lambda: fx.zeros(size=3)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(RuntimeError, match="dimensions"):
        fx.zeros((1,) * 65)
    assert fx.zeros((1,) * 64).ndim == 64


def test_out():
    out = fx.empty(2, 3)
    assert fx.ones(2, 3, out=out) is out and out.tolist() == [[1] * 3] * 2
    assert fx.zeros(4, out=out) is out and out.shape == (4,)
    assert fx.arange(3, out=fx.empty(0, dtype=fx.int32)).tolist() == [0, 1, 2]
    assert fx.eye(2, out=fx.empty(2, 2, dtype=fx.int8)).tolist() == [[1, 0], [0, 1]]
    strided = fx.zeros(3, 2).T
    fx.full((2, 3), 4.0, out=strided)
    assert strided.tolist() == [[4] * 3] * 2
    fx.eye(2, 3, out=strided)
    assert strided.tolist() == [[1, 0, 0], [0, 1, 0]]
    every_second = fx.zeros(6)[::2]
    fx.linspace(0, 2, 3, out=every_second)
    assert every_second.tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="does not match dtype of out"):
        fx.zeros(2, out=fx.empty(2), dtype=fx.int64)
    with pytest.raises(RuntimeError, match="out="):
        fx.zeros(2, out=fx.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="out"):
        fx.zeros(2, out=[1])


# ranges

ARANGES = ["3", "3.0", "1, 2, 0.3", "5, 0, -2", "0, 10, 3", "-3, 3", "5, 5", "5, 5, -1", "0.5, 3", "0, 1, 0.1", "True",
           "end=4", "1, end=4", "start=1, end=4, step=2", "2**62, 2**62 + 2", "0, 5, 0", "0, 5, -1", "5, 1", "nan",
           "inf", "0, 1e-3, 1e-4", "-1, 1, 0.25"]


@pytest.mark.parametrize("text", ARANGES)
@pytest.mark.parametrize("name", [None, "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_arange(text, name):
    if name in ("uint8", "int32") and ("2**62" in text or "-" in text or "nan" in text):
        pytest.skip("values outside the dtype")
    if name in ("float16", "float32", "float64") and "2**62" in text:
        pytest.skip("values that the dtype does not hold; PyTorch counts them in its precision and finds none")
    alike(lambda lib: eval(f"lib.arange({text}, dtype=of(lib, name))", globals() | {"lib": lib, "name": name}))


def test_arange_of_tensors_and_bool():
    assert fx.arange(fx.tensor(3)).tolist() == [0, 1, 2] and fx.arange(fx.tensor(2.0)).dtype is fx.float32
    assert fx.arange(np.int64(1), np.int64(3)).tolist() == [1, 2]
    with pytest.raises(NotImplementedError):
        fx.arange(2, dtype=fx.bool)
    with pytest.raises(TypeError):
        fx.arange()
    with pytest.raises(RuntimeError, match="too many"):
        fx.arange(-2**63, 2**63 - 1)
    assert fx.arange(-2**63, 2**63 - 1, 2**62).tolist() == [-2**63, -2**62, 0, 2**62]
    np.testing.assert_array_equal(fx.arange(10**6).numpy(), np.arange(10**6))
    np.testing.assert_allclose(fx.arange(0, 1, 1e-5, dtype=fx.float64).numpy(), np.arange(100000) * 1e-5, rtol=1e-14)


@pytest.mark.parametrize("name", [None, "int32", "int64", "float16", "float32", "float64"])
def test_linspace_and_logspace(name):
    for start, end, steps in ((0, 1, 5), (0, 10, 6), (3, -3, 7), (1.5, 1.5, 3), (0, 1, 1), (0, 1, 0), (-1, 1, 101)):
        if name in ("int32", "int64") and steps in (7, 101):
            continue    # truncated values depend on the last bit of the step
        alike(lambda lib, a=start, b=end, n=steps: lib.linspace(a, b, n, dtype=of(lib, name)))
    for start, end, steps, base in ((0, 3, 4, 10), (0, 3, 4, 2), (-1, 1, 5, 10.0), (0, 1, 1, 10), (0, 1, 0, 10)):
        if name not in ("int32", "int64") or base == 2:
            alike(lambda lib, a=start, b=end, n=steps, base=base: lib.logspace(a, b, n, base, dtype=of(lib, name)))
    exact = fx.linspace(0.1, 0.7, 1001, dtype=fx.float64)
    assert exact[0] == 0.1 and exact[-1] == 0.7
    for call in ("linspace", "logspace"):
        with pytest.raises(RuntimeError, match="non-negative"):
            getattr(fx, call)(0, 1, -1)
        with pytest.raises(TypeError, match="steps"):
            getattr(fx, call)(0, 1, 2.5)
    assert fx.linspace(fx.tensor(0.0), 1, 3, requires_grad=True).requires_grad


# matrices

@pytest.mark.parametrize("function", ["tril", "triu"])
def test_triangles(function):
    for shape in ((3, 3), (3, 5), (5, 3), (2, 3, 4), (0, 3), (3, 0), (2, 0, 0), (1, 1)):
        for k in (-10, -2, -1, 0, 1, 2, 10):
            check(function, torch.randn(shape, dtype=torch.float64), k)
    for name in NAMES:
        x = torch.arange(12).reshape(3, 4).to(of(torch, name)).T
        same(getattr(fx.from_dlpack(x), function)(), getattr(x, function)())
    x = fx.ones(3, 3)
    assert getattr(x, function + "_")(1) is x and x.tolist() == getattr(torch.ones(3, 3), function)(1).tolist()
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        getattr(fx, function)(fx.ones(3))


def test_triangle_indices():
    for function in ("tril_indices", "triu_indices"):
        for rows, columns in ((3, 3), (3, 5), (5, 3), (0, 3), (3, 0), (1, 1), (4, 1)):
            for k in (-7, -1, 0, 1, 2, 9):
                alike(lambda lib, f=function, r=rows, c=columns, k=k: getattr(lib, f)(r, c, k))
        alike(lambda lib, f=function: getattr(lib, f)(3, 4, dtype=lib.int32))
        alike(lambda lib, f=function: getattr(lib, f)(-1, 4))


def test_diag():
    for k in (-3, -1, 0, 1, 4):
        for shape in ((4,), (3, 5), (5, 3), (0,), (1, 1)):
            check("diag", torch.randn(shape, dtype=torch.float64), k)
    for shape in ((), (2, 2, 2)):
        with pytest.raises(RuntimeError, match="1D or 2D"):
            fx.diag(fx.ones(shape))


def test_meshgrid():
    a, b, c = torch.arange(2), torch.arange(3) * 10, torch.tensor(5)
    ours = [fx.tensor(each.tolist()) for each in (a, b, c)]
    for indexing in ("ij", "xy"):
        for count in (1, 2, 3):
            same(fx.meshgrid(*ours[:count], indexing=indexing), torch.meshgrid(a, b, c, indexing=indexing)
                 if count == 3 else torch.meshgrid(*[a, b][:count], indexing=indexing))
            same(fx.meshgrid(ours[:count], indexing=indexing), torch.meshgrid([a, b, c][:count], indexing=indexing))
    check(lambda lib, x, y: lib.meshgrid(x, y, indexing="xy"), torch.randn(3, dtype=torch.float64),
          torch.randn(2, dtype=torch.float64))
    for wrong in (lambda: fx.meshgrid(), lambda: fx.meshgrid(fx.ones(2), indexing="ab"),
                  lambda: fx.meshgrid(fx.ones(2, 2)), lambda: fx.meshgrid(fx.ones(2), fx.tensor([1]))):
        with pytest.raises(RuntimeError, match="meshgrid"):
            wrong()
