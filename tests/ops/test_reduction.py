import math
import pickle

import numpy as np
import pytest
from against_torch import check, every_dtype, fx_of, layouts, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(1)
NAN = math.nan


def r(*shape):
    return torch.randn(shape, dtype=torch.float64)


SHAPES = [(), (1,), (0,), (5,), (3, 4), (2, 3, 4), (2, 0, 3), (37, 5)]


@pytest.mark.parametrize("name", ["sum", "nansum", "mean", "nanmean", "logsumexp", "amax", "amin", "all", "any",
                                  "count_nonzero", "prod"])
def test_shapes_and_dims(name):
    for shape in SHAPES:
        x = r(*shape)
        dims = [None] if name != "logsumexp" else []
        dims += list(range(-x.ndim, x.ndim)) + ([(0, -1)] if x.ndim > 1 and name != "prod" else [])
        for dim in dims:
            reduced = x.shape if dim is None else [x.shape[d] for d in (dim if isinstance(dim, tuple) else (dim,))]
            if name in ("amax", "amin") and (0 in reduced or dim is None):
                continue
            for keepdim in (False, True):
                if name == "count_nonzero" and keepdim:
                    continue
                if dim is None and name in ("all", "any", "prod"):
                    check(name, x)
                    continue
                keywords = {} if name == "count_nonzero" else {"keepdim": keepdim}
                check(lambda lib, x, name=name, dim=dim, keywords=keywords: getattr(lib, name)(x, dim=dim, **keywords),
                      x)


@pytest.mark.parametrize("name", ["sum", "nansum", "prod", "amax", "amin", "all", "any", "count_nonzero", "argmax",
                                  "argmin",
                                  "logsumexp", "mean", "var", "std"])
def test_dtypes_and_layouts(name):
    for x in every_dtype(torch.randint(0, 4, (6, 4))):
        if x.dtype == torch.bool and name in ("argmax", "argmin"):
            raises_alike(name, x)
            continue
        if not x.is_floating_point() and name in ("mean", "var", "std"):
            raises_alike(name, x)
            continue
        for each in layouts(x):
            for dim in (0, 1, -1):
                check(lambda lib, x, dim=dim: getattr(lib, name)(x, dim), each, gradients=False)


def test_large_against_float64():
    x = torch.randn(70000, 3, dtype=torch.float32)
    for name in ("sum", "mean", "var", "logsumexp"):
        for dim in (0, 1):
            got = getattr(fx, name)(fx_of(x), dim).numpy()
            np.testing.assert_allclose(got, getattr(torch, name)(x.double(), dim).numpy(), rtol=3e-6, atol=1e-4)


def test_dtype_argument():
    x = torch.tensor([1.5, 2.5, -3.5])
    for name in ("sum", "prod"):
        for dtype in (torch.float64, torch.int64, torch.int32, torch.float16):
            def call(lib, x, name=name, dtype=dtype):
                return getattr(lib, name)(x, dtype=dtype if lib is torch else fx_of(dtype))
            check(call, x)
    check(lambda lib, x: lib.mean(x, dtype=lib.float64), torch.tensor([1, 2, 4]))
    check(lambda lib, x: lib.sum(x, dtype=lib.bool), torch.tensor([1, -1]))
    check(lambda lib, x: lib.sum(x, dtype=lib.int8), torch.tensor([100, 100]))


def test_numpy_spellings():
    x = fx_of(r(3, 4))
    same(fx.sum(x, axis=1, keepdims=True), torch.sum(torch.from_numpy(x.numpy()), 1, True))
    same(x.mean(axis=(0, 1)), torch.mean(torch.from_numpy(x.numpy())))
    same(x.amax(axis=0), torch.amax(torch.from_numpy(x.numpy()), 0))


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_ties_share_the_gradient(name):
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    for dim in (0, 1, (0, 1)):
        check(lambda lib, x, dim=dim: getattr(lib, name)(x, dim), x)


def test_nan_and_infinities():
    x = torch.tensor([[1.0, NAN, 2.0], [math.inf, 1.0, -math.inf], [NAN, NAN, NAN]], dtype=torch.float64)
    for name in ("sum", "nansum", "mean", "nanmean", "amax", "amin", "argmax", "argmin", "all", "any", "count_nonzero",
                 "prod",
                 "logsumexp"):
        for dim in (0, 1):
            check(lambda lib, x, name=name, dim=dim: getattr(lib, name)(x, dim), x, gradients=name in ("sum", "nansum"))
    check("logsumexp", torch.tensor([-math.inf, -math.inf]), 0, gradients=False)
    check("logsumexp", torch.tensor([1000.0, 1000.0]), 0, gradients=False)


def test_argmax_ties_and_flat():
    x = torch.tensor([[1, 7, 7], [7, 0, 0]])
    for name in ("argmax", "argmin"):
        check(name, x)
        check(lambda lib, x, name=name: getattr(lib, name)(x, keepdim=True), x)
        check(lambda lib, x, name=name: getattr(lib, name)(x.t(), 1, keepdim=True), x)
        check(name, torch.tensor(3.0))
        check(name, torch.tensor(3.0), 0)


def test_all_of_uint8_stays_uint8():
    check("all", torch.tensor([1, 0], dtype=torch.uint8))
    check("any", torch.tensor([1, 0], dtype=torch.uint8), 0)


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
def test_deviations(name):
    x = r(4, 5)
    for keywords in ({}, {"dim": 1}, {"dim": (0, 1)}, {"dim": 0, "keepdim": True}, {"dim": 1, "correction": 0},
                     {"dim": 1, "correction": 2}, {"dim": 1, "unbiased": False}, {"correction": 0},
                     {"unbiased": False}):
        check(lambda lib, x, keywords=keywords: getattr(lib, name)(x, **keywords), x)
    check(lambda lib, x: getattr(lib, name)(x, False), x)
    check(lambda lib, x: getattr(lib, name)(x, 1, False, True), x)


def test_std_of_equal_elements_has_zero_gradient():
    check("std", torch.ones(4, dtype=torch.float64), order=1)
    check("std", torch.tensor([[1.0, 1.0], [1.0, 2.0]], dtype=torch.float64), 1, order=1)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_deviation_without_degrees_of_freedom():
    check("var", torch.ones(1), gradients=False)
    check("std", torch.ones(0), gradients=False)
    check("var", torch.tensor([1.0, 2.0]), 0, correction=3, gradients=False)


def test_both_corrections_is_an_error():
    with pytest.raises(TypeError):
        fx.var(fx_of(r(3)), 0, True, correction=1)


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 2.5, 3, math.inf, -math.inf, "fro"])
def test_norm(p):
    for x, dim in ((r(5), None), (r(3, 4), None), (r(3, 4), 1), (r(2, 3, 4), (0, 2))):
        if p == "fro" or dim is None or p:
            check(lambda lib, x, dim=dim: lib.norm(x, p, dim), x, rtol=1e-8)
    check(lambda lib, x: lib.norm(x, p, 1, True), r(3, 4), rtol=1e-8)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_norm_of_zero_has_a_finite_gradient(p):
    check(lambda lib, x: lib.norm(x, p), torch.zeros(3, dtype=torch.float64), order=1)
    check(lambda lib, x: lib.norm(x, p, 1), torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64), order=1)


def test_norm_ties_of_the_maximum():
    check(lambda lib, x: lib.norm(x, math.inf), torch.tensor([2.0, -2.0, 1.0], dtype=torch.float64))


def test_second_gradient_of_norm_at_zero_is_not_nan():
    x = fx_of(torch.zeros(3, dtype=torch.float64)).requires_grad_()
    g, = fx.autograd.grad([fx.norm(x)], [x], create_graph=True)
    h, = fx.autograd.grad([(g * g).sum()], [x])
    assert not np.isnan(h.numpy()).any()


def test_errors():
    x = torch.zeros(0, 3)
    raises_alike("mean", torch.tensor([1, 2]), match="could not infer output dtype")
    raises_alike("amax", x, 0, match="Expected reduction dim 0 to have non-zero size.")
    raises_alike("argmax", x, match="Expected reduction dim to be specified for input.numel() == 0.")
    raises_alike("argmax", x, 0, match="Expected reduction dim 0 to have non-zero size.")
    raises_alike("max", x, match="Expected reduction dim to be specified for input.numel() == 0.")
    raises_alike("max", x, 0, match="Expected reduction dim 0 to have non-zero size.")
    raises_alike("sum", x, 2, match="Dimension out of range")
    raises_alike("sum", x, (0, 0), match="appears multiple times in the list of dims")
    raises_alike("nanmean", torch.tensor([1]), match="floating point")


# max, min

@pytest.mark.parametrize("name", ["max", "min"])
def test_max_in_three_forms(name):
    x = r(3, 4)
    check(name, x)
    for each in layouts(x):
        for dim in (0, 1, -1):
            check(lambda lib, x, dim=dim: getattr(lib, name)(x, dim), each)
            check(lambda lib, x, dim=dim: getattr(lib, name)(x, dim, True), each)
    check(name, x, r(4))
    check(lambda lib, x, y: getattr(lib, name)(x, other=y), x, r(3, 4))
    named = getattr(fx, name)(fx_of(x), dim=1)
    assert named._fields == ("values", "indices") and type(named).__name__ == name
    check(name, torch.tensor(2.0, dtype=torch.float64))
    check(name, torch.tensor(2.0, dtype=torch.float64), 0)


@pytest.mark.parametrize("name", ["max", "min"])
def test_max_dtypes_ties_nan(name):
    for x in every_dtype(torch.randint(0, 3, (5, 4))):
        check(name, x, gradients=False)
        check(name, x, 1, gradients=False)
    check(name, torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    check(name, torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64), 0)
    x = torch.tensor([[1.0, NAN, 3.0], [NAN, NAN, 0.0]], dtype=torch.float64)
    check(name, x)
    check(name, x, 1)
    check(name, x, 0)


def test_named_results_are_pickled():
    found = pickle.loads(pickle.dumps(fx.max(fx_of(r(3, 4)), 1)))
    assert type(found).__name__ == "max" and found.indices.shape == (3,)


def test_aminmax():
    check("aminmax", r(3, 4))
    check("aminmax", r(3, 4), dim=1)
    check("aminmax", r(3, 4), dim=0, keepdim=True)
    assert fx.aminmax(fx_of(r(3)))._fields == ("min", "max")


# median, mode, quantile

@pytest.mark.parametrize("name", ["median", "nanmedian"])
def test_median(name):
    for shape in ((5,), (4,), (3, 4), (2, 5, 3), (1,)):
        x = r(*shape)
        check(name, x)
        for dim in range(x.ndim):
            check(name, x, dim)
            check(lambda lib, x, dim=dim: getattr(lib, name)(x, dim, True), x)
    x = torch.tensor([[1.0, NAN, 0.0, 3.0], [2.0, 5.0, 1.0, 7.0], [NAN] * 4], dtype=torch.float64)
    check(name, x, gradients=False)
    for dim in (0, 1):
        got, expected = getattr(fx, name)(fx_of(x), dim), getattr(torch, name)(x, dim)
        same(got.values, expected.values)
        # Which of several NaN is pointed to is free; what is pointed to is not.
        same(fx.gather(fx_of(x), dim, fx.unsqueeze(got.indices, dim)).squeeze(dim), expected.values)
    check(name, torch.tensor([3, 1, 2, 2]), gradients=False)
    check(name, torch.tensor(2.0, dtype=torch.float64))
    check(name, torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64))
    check(name, torch.zeros(0), gradients=False)


def test_mode():
    for dtype in (torch.int64, torch.float64, torch.float32):
        x = torch.randint(0, 4, (6, 9)).to(dtype)
        for dim in (0, 1, -1):
            check("mode", x, dim, gradients=False)
            check("mode", x, dim, True, gradients=False)
    check("mode", torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantile(name, interpolation):
    q = torch.tensor([0.0, 0.2, 0.5, 0.83, 1.0], dtype=torch.float64)
    for shape in ((7,), (3, 4), (2, 5, 3)):
        x = r(*shape)
        for level in (0.4, 0.0, 1.0, q):
            for dim in (None, *range(x.ndim)):
                for keepdim in (False, True):
                    def call(lib, x, level=level, dim=dim, keepdim=keepdim):
                        at = fx_of(level) if lib is fx else level
                        return getattr(lib, name)(x, at, dim, keepdim, interpolation=interpolation)
                    check(call, x, order=1)
    x = torch.tensor([[1.0, NAN, 0.0, 3.0], [2.0, 5.0, 1.0, 7.0], [NAN] * 4])
    for dim in (None, 0, 1):
        check(lambda lib, x, dim=dim: getattr(lib, name)(x, 0.3, dim, interpolation=interpolation), x)


def test_quantile_errors():
    raises_alike("quantile", torch.tensor([1, 2]), 0.5, match="quantile() input tensor must be either float or "
                                                              "double dtype")
    raises_alike("quantile", torch.zeros(3), 1.5, match="q")
    raises_alike("quantile", torch.zeros(0), 0.5, match="quantile() input tensor must be non-empty")
