import math

import pytest
from against_torch import check, every_dtype, fx_of, layouts, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(4)
NAN = math.nan


def r(*shape):
    return torch.randn(shape, dtype=torch.float64)


def test_sort():
    for x in (r(7), r(3, 4), r(2, 3, 4), r(3, 0), torch.tensor(2.0, dtype=torch.float64)):
        for dim in range(-max(x.ndim, 1), max(x.ndim, 1)):
            for descending in (False, True):
                check("sort", x, dim, descending)
                check(lambda lib, x, dim=dim, descending=descending: lib.argsort(x, dim=dim, descending=descending,
                                                                                     stable=True), x)
    check("msort", r(4, 3))
    assert fx.sort(fx_of(r(3)))._fields == ("values", "indices")


def test_sort_is_stable_and_puts_nan_last():
    x = torch.tensor([2.0, NAN, -0.0, 0.0, math.inf, 2.0, -math.inf, NAN, 0.0])
    for descending in (False, True):
        check(lambda lib, x, descending=descending: lib.sort(x, stable=True, descending=descending), x)
    for x in every_dtype(torch.randint(0, 3, (4, 30))):
        for each in layouts(x):
            check(lambda lib, x: lib.sort(x, stable=True), each, gradients=False)
            check(lambda lib, x: lib.sort(x, dim=0, descending=True, stable=True), each, gradients=False)


def test_topk_and_kthvalue():
    x = torch.randperm(60).reshape(3, 4, 5).double()
    for dim, size in ((0, 3), (1, 4), (2, 5)):
        for k in range(size + 1):
            for largest in (False, True):
                check("topk", x, k, dim, largest)
        for k in range(1, size + 1):
            for keepdim in (False, True):
                check("kthvalue", x, k, dim, keepdim)
    check("topk", torch.tensor(3.0, dtype=torch.float64), 1)
    check("kthvalue", torch.tensor(3.0, dtype=torch.float64), 1)
    for x in every_dtype(torch.randint(0, 3, (4, 9))):
        if x.dtype != torch.bool:
            same(fx.topk(fx_of(x), 4).values, torch.topk(x, 4).values)
            same(fx.kthvalue(fx_of(x), 4).values, torch.kthvalue(x, 4).values)
    x = torch.tensor([1.0, NAN, 3.0, 2.0])
    check("topk", x, 2)
    check("topk", x, 2, 0, False)
    check("kthvalue", x, 4)
    raises_alike("topk", r(3), 4, match="selected index k out of range")
    raises_alike("kthvalue", r(3), 4, match="selected number k out of range for dimension 0")
    raises_alike("kthvalue", r(3), 0, match="selected number k out of range for dimension 0")


@pytest.mark.parametrize("name", ["unique", "unique_consecutive"])
def test_unique(name):
    for x in every_dtype(torch.tensor([[3, 1, 1, 0], [0, 0, 3, 3]])):
        check(name, x, gradients=False)
        check(lambda lib, x: getattr(lib, name)(x, return_inverse=True), x, gradients=False)
        check(lambda lib, x: getattr(lib, name)(x, return_counts=True), x, gradients=False)
        check(lambda lib, x: getattr(lib, name)(x, return_inverse=True, return_counts=True), x.t(), gradients=False)
    check(lambda lib, x: getattr(lib, name)(x, return_inverse=True, return_counts=True), torch.zeros(0),
          gradients=False)
    check(lambda lib, x: getattr(lib, name)(x, return_inverse=True, return_counts=True), torch.tensor(2.0),
          gradients=False)
    x = torch.tensor([NAN, 1.0, NAN, 1.0])
    check(lambda lib, x: getattr(lib, name)(x, return_counts=True), x, gradients=False)


@pytest.mark.parametrize("name", ["unique", "unique_consecutive"])
def test_unique_slices(name):
    x = torch.randint(0, 2, (6, 2, 2))
    x[3] = x[2]
    for dtype in (torch.int64, torch.float64, torch.bool):
        for dim in (0, 1, -1):
            check(lambda lib, x, dim=dim: getattr(lib, name)(x, return_inverse=True, return_counts=True, dim=dim),
                  x.to(dtype), gradients=False)
    check(lambda lib, x: getattr(lib, name)(x, dim=0), x)


def test_searchsorted():
    sequence = torch.tensor([-1.0, 0.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    values = torch.tensor([[0.0, 3.0, -5.0], [0.5, 0.4, NAN]], dtype=torch.float64)
    for right in (False, True):
        check("searchsorted", sequence, values, right=right, gradients=False)
        check("bucketize", values, sequence, right=right, gradients=False)
        check("searchsorted", torch.arange(4), 2, right=right)
        check("searchsorted", torch.arange(4), 1.5, right=right)
        rows = torch.randn(2, 5).sort().values
        check("searchsorted", rows, torch.randn(2, 9), right=right)
        check("searchsorted", rows.t().contiguous().t(), torch.randn(9, 2).t(), right=right)
    check("searchsorted", sequence, values, side="right", gradients=False)
    check("searchsorted", sequence, values, out_int32=True, gradients=False)
    check("searchsorted", sequence.flip(0), values, sorter=torch.tensor([4, 2, 3, 1, 0]), gradients=False)
    check("searchsorted", torch.zeros(0), torch.zeros(3))
    for each in every_dtype(torch.arange(5)):
        if each.dtype != torch.bool:
            check("searchsorted", each, torch.tensor([0, 3, 9]).to(each.dtype), gradients=False)
    check("searchsorted", sequence, torch.tensor([1, 0]), gradients=False)
    check("searchsorted", torch.arange(4), torch.tensor([1.5, 2.0]), gradients=False)
    check("searchsorted", torch.arange(4).int(), torch.tensor(2), gradients=False)
    raises_alike("searchsorted", rows, torch.randn(3, 9), match="must match")
    raises_alike("searchsorted", sequence, values, side="middle", match="side can only be 'left' or 'right'")
    raises_alike("bucketize", values, rows.double(), match="boundaries tensor must be 1 dimension")


def test_bincount():
    x = torch.randint(0, 6, (40,))
    check("bincount", x)
    check("bincount", x, minlength=10)
    check("bincount", x.int(), torch.randn(40))
    check("bincount", x, torch.randn(40, dtype=torch.float64), gradients=False)
    check("bincount", x, torch.arange(40))
    check("bincount", torch.zeros(0, dtype=torch.int64))
    check("bincount", torch.zeros(0, dtype=torch.int64), minlength=3)
    raises_alike("bincount", torch.tensor([-1]), match="bincount only supports 1-d non-negative integral inputs.")
    raises_alike("bincount", torch.tensor([1.0]))
    raises_alike("bincount", x, torch.zeros(3), match="weights should be 1-d and have the same length as input")


def test_histc():
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(200).to(dtype)
        check("histc", x, 10, -2, 2, gradients=False)
        check("histc", x, gradients=False)
        check("histc", x.reshape(20, 10).t(), 7, gradients=False)
        check("histc", torch.ones(3, dtype=dtype), 4, gradients=False)
    raises_alike("histc", torch.randn(3), 4, 2, -2, match="max must be larger than min")
    raises_alike("histc", torch.tensor([NAN]), 4, match="is not finite")
