"""Python numbers beside tensors of integers: compared as numbers, stored if they fit, multipliers within the dtype."""

import math
import operator

import numpy as np
import pytest

import ferrox as fx

INTEGERS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1),
            "int64": (-(2**63), 2**63 - 1), "bool": (0, 1)}  # fmt: skip
NUMBERS = [0, 1, 2, -1, -19, 127, 128, 255, 256, 300, -300, 2**15, 2**31, -(2**31) - 1, 2**40, 2**53 + 1, 2**63 - 1,
           -(2**63), 2**63, -(2**63) - 1, 2**64, 10**30, -(10**30)]  # fmt: skip
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison_with_any_integer(name, dtype):
    low, high = INTEGERS[dtype]
    values = sorted({low, low + 1, 1, high - 1, high})
    x = fx.tensor(values, dtype=getattr(fx, dtype))
    compare = getattr(operator, name)
    for number in NUMBERS:
        expected = [compare(int(v), number) for v in values]
        assert getattr(fx, name)(x, number).tolist() == expected, number
        assert compare(x, number).tolist() == expected, number
        assert compare(number, x).tolist() == [compare(number, int(v)) for v in values], number
        assert getattr(x[0], name)(number).item() == compare(int(values[0]), number)
        in_place = x.clone()
        getattr(in_place, name + "_")(number)
        assert in_place.tolist() == expected


@pytest.mark.parametrize("dtype", INTEGERS)
def test_logic_with_any_integer(dtype):
    x = fx.tensor([0, 1], dtype=getattr(fx, dtype))
    for number in NUMBERS:
        truth = bool(number)
        assert fx.logical_and(x, number).tolist() == [False, truth]
        assert fx.logical_or(x, number).tolist() == [truth, True]
        assert fx.logical_xor(x, number).tolist() == [truth, not truth]


def stored(how, x, number):
    if how == "fill_":
        return x.fill_(number)
    if how == "setitem":
        x[0] = number
        return x
    if how == "setitem, index":
        x[fx.tensor([0])] = number
        return x
    return {
        "full": lambda: fx.full((2,), number, dtype=x.dtype),
        "full_like": lambda: fx.full_like(x, number),
        "new_full": lambda: x.new_full((2,), number),
        "index_fill": lambda: x.index_fill(0, fx.tensor([0]), number),
        "masked_fill": lambda: x.masked_fill(fx.tensor([True, False]), number),
        "scatter": lambda: x.scatter(0, fx.tensor([0]), number),
        "pad": lambda: fx.nn.functional.pad(x[:1], (1, 0), value=number),
    }[how]()


STORES = ["fill_", "setitem", "setitem, index", "full", "full_like", "new_full", "index_fill", "masked_fill", "scatter",
          "pad"]  # fmt: skip


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d != "bool"])
@pytest.mark.parametrize("how", STORES)
def test_a_number_is_stored_if_it_fits(how, dtype):
    low, high = INTEGERS[dtype]
    x = fx.zeros(2, dtype=getattr(fx, dtype))
    for number in (low, high, 1, 2.75, 100.0):
        assert stored(how, x.clone(), number)[0].item() == int(number), number
    if dtype != "uint8":
        assert stored(how, x.clone(), -1.5)[0].item() == -1
    for number in (high + 1, low - 256, math.inf, math.nan, 1e30):
        with pytest.raises((RuntimeError, ValueError, OverflowError)):
            stored(how, x.clone(), number)
            print(number)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_multipliers_of_integers(dtype):
    of = getattr(fx, dtype)
    low, high = INTEGERS[dtype]
    rng = np.random.default_rng(3)
    a, b, c = (fx.from_numpy(rng.integers(0, 100, 5)).to(of) for _ in "abc")
    i, j, k = (x.numpy().astype(object) for x in (a, b, c))

    def wrapped(x):
        return [(int(v) - low) % (high - low + 1) + low for v in x]

    for m in (0, 1, 2, -1, -2, -77, 100):
        assert fx.add(a, b, alpha=m).tolist() == wrapped(i + m * j)
        assert fx.sub(a, b, alpha=m).tolist() == wrapped(i - m * j)
        assert fx.rsub(a, b, alpha=m).tolist() == wrapped(j - m * i)
        assert fx.addcmul(a, b, c, value=m).tolist() == wrapped(i + m * j * k)
        assert a.clone().add_(b, alpha=m).tolist() == wrapped(i + m * j)
    for m in (high + 1, low - 256):
        for call, args, name in ((fx.add, (a, b), "alpha"), (fx.sub, (a, b), "alpha"),
                                 (fx.addcmul, (a, b, c), "value")):  # fmt: skip
            with pytest.raises(RuntimeError, match="without overflow"):
                call(*args, **{name: m})
    for call in (fx.add, fx.sub):
        with pytest.raises(RuntimeError, match="alpha must not be a floating point"):
            call(a, b, alpha=1.5)
        with pytest.raises(RuntimeError, match="Boolean alpha"):
            call(a, b, alpha=True)


def test_multiplier_of_bools():
    a, b = fx.tensor([True, False, True, False]), fx.tensor([True, True, False, False])
    for alpha in (True, 1, 2):
        assert fx.add(a, b, alpha=alpha).tolist() == [True, True, True, False]
    for alpha in (False, 0):
        assert fx.add(a, b, alpha=alpha).tolist() == a.tolist()
    assert fx.add(fx.tensor(True), b, alpha=False).tolist() == [True] * 4
    with pytest.raises(RuntimeError, match="alpha must not be a floating point"):
        fx.add(a, b, alpha=2.5)


@pytest.mark.parametrize("dtype", [fx.int16, fx.int32, fx.int64])
def test_factors_of_whole_products_are_cut_off(dtype):
    def t(*values):
        return fx.tensor(list(values), dtype=dtype)

    assert fx.addmv(t(5), t([3]), t(7), beta=2.0, alpha=3.9).tolist() == [10 + 3 * 21]
    assert fx.addmm(t([5]), t([3]), t([7]), beta=2.0, alpha=3.9).tolist() == [[10 + 3 * 21]]
    assert fx.baddbmm(t([[5]]), t([[3]]), t([[7]]), beta=2.9, alpha=-1.5).tolist() == [[[10 - 21]]]
    assert fx.addmv(t(5), t([3]), t(7), beta=2.0, alpha=3.9).dtype == dtype


@pytest.mark.parametrize("dtype", [fx.int8, fx.int16, fx.int32, fx.int64])
def test_einsum_keeps_the_dtype(dtype):
    rng = np.random.default_rng(4)
    a, b = rng.integers(-3, 4, (2, 3, 4)), rng.integers(-3, 4, 4)
    for equation, given in (("ijk,k->j", (a, b)), ("ijk->i", (a,)), ("ijk,k->ij", (a, b)), ("k,k->", (b, b))):
        got = fx.einsum(equation, *[fx.from_numpy(x).to(dtype) for x in given])
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.numpy(), np.einsum(equation, *given))


def test_ranges_of_integers_have_whole_bounds():
    assert fx.linspace(-3, 4.3, 8, dtype=fx.int64).tolist() == [-3, -2, -1, 0, 1, 2, 3, 4]
    assert fx.linspace(4.9, -3.9, 8, dtype=fx.int32).tolist() == [4, 3, 2, 1, 0, -1, -2, -3]
    assert fx.logspace(0.9, 3.3, 4, dtype=fx.int64).tolist() == [1, 10, 100, 1000]
    assert fx.linspace(-3, 4.3, 2, dtype=fx.float64).tolist() == [-3, 4.3]


@pytest.mark.parametrize("dtype", [fx.uint8, fx.int8, fx.float32, fx.bool])
def test_an_index_without_elements_may_be_of_any_dtype(dtype):
    x, at = fx.arange(3.0), fx.zeros(0, dtype=dtype)
    assert x.gather(0, at).tolist() == []
    assert x.scatter(0, at, fx.zeros(3)).tolist() == x.scatter_add(0, at, fx.zeros(3)).tolist() == x.tolist()


@pytest.mark.parametrize("name", ["scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy"])
def test_writing_nothing_stays_in_the_graph(name):
    for x_grad, s_grad in ((True, False), (False, True)):
        x, source = fx.ones(2, 3, requires_grad=x_grad), fx.ones(2, 3, requires_grad=s_grad)
        if name.startswith("scatter"):
            index, given = fx.zeros((0, 3), dtype=fx.int64), source
        else:
            index, given = fx.zeros(0, dtype=fx.int64), source[:0]
        more = ("sum",) if name == "scatter_reduce" else ()
        y = getattr(fx, name)(x * 1, 0, index, given, *more)
        assert y.requires_grad and y.tolist() == [[1.0] * 3] * 2
        y.sum().backward()
        assert x.grad is None if s_grad else x.grad.tolist() == [[1.0] * 3] * 2
        assert source.grad is None if x_grad else source.grad.tolist() == [[0.0] * 3] * 2
        z = x.detach().clone()
        getattr(z, name + "_")(0, index, given, *more)
        assert z.requires_grad == s_grad


def test_small_semantics():
    F = fx.nn.functional
    x = fx.arange(5.0).reshape(1, 5)
    assert F.pad(x, [-1, 1], "circular").tolist() == [[1, 2, 3, 4, 1]]
    assert F.pad(x, [1, -1], "circular").tolist() == [[3, 0, 1, 2, 3]]
    assert fx.diff(fx.arange(3.0), n=0, append=fx.ones(2)).tolist() == [0, 1, 2]
    assert fx.take_along_dim(fx.arange(3.0), fx.tensor([-1, 0, -3]), 0).tolist() == [2, 0, 0]
    assert fx.tensordot(fx.ones(2, 3), fx.full((1, 4), 5.0), ([0], [0])).tolist() == [[10.0] * 4] * 3
    assert fx.tensordot(fx.full((1, 3), 5.0), fx.ones(2, 4), ([0], [0])).tolist() == [[10.0] * 4] * 3
    with pytest.raises(RuntimeError, match="contracted dimensions"):
        fx.tensordot(fx.ones(2, 3), fx.ones(3, 4), ([0], [0]))
    for shape in ((0,), (0, 3), (2, 0), (0, 3, 4)):
        y = fx.zeros(shape, requires_grad=True)
        z = F.batch_norm(y, None, None, training=True)
        assert z.shape == y.shape and z.requires_grad
    assert F.multi_margin_loss(fx.tensor(0.5), fx.tensor(0)).item() == 0
    assert F.multilabel_margin_loss(fx.tensor(0.5), fx.tensor(0)).item() == 0


@pytest.mark.parametrize("n", [3, 100, 3000])
@pytest.mark.parametrize("dtype", [fx.float32, fx.float64])
def test_moments_of_rows_with_infinities_and_huge_values(n, dtype):
    """The mean is that of the elements wherever the infinity lies; the variance of an infinite row is NaN."""
    for at in (0, n // 2, n - 1):
        for dim in (0, 1):
            x = fx.ones(n, 5, dtype=dtype) if dim == 0 else fx.ones(5, n, dtype=dtype)
            line = x[:, 2] if dim == 0 else x[2]
            line[at] = math.inf
            for name in ("var_mean", "std_mean"):
                var, mean = getattr(fx, name)(x, dim)
                assert mean[2].item() == math.inf and math.isnan(var[2].item())
                assert mean[1].item() == 1 and var[1].item() == 0
            line[at - 1] = -math.inf
            assert math.isnan(fx.var_mean(x, dim)[1][2].item())
    if dtype == fx.float64:
        x = fx.full((n,), 1e200, dtype=dtype)
        x[0] = -1e200
        assert fx.var(x).item() == math.inf and fx.isfinite(fx.var_mean(x)[1])
