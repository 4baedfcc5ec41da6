import numpy as np
import pytest
from against_torch import check, every_dtype, fx_of, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(3)


def r(*shape):
    return torch.randn(shape, dtype=torch.float64)


def index(high, *shape):
    return torch.randint(0, high, shape)


def in_place(name):
    """`x.name_(…)` on a copy, as a function of the library."""
    return lambda lib, x, *args, **keywords: getattr(x * 1, name + "_")(*args, **keywords)


# gather and scatter

def test_gather():
    x = r(3, 4, 5)
    for dim, size in ((0, 3), (1, 4), (-1, 5)):
        check("gather", x, dim, index(size, 3, 4, 5))
        check("gather", x, dim, index(size, *[7 if d == dim % 3 else 2 for d in range(3)]))
        check("gather", x.transpose(0, 2), dim, index(3, 3, 4, 3))
    check("gather", r(5), 0, index(5, 9))
    check("gather", r(5), 0, index(5, 0))
    check("gather", torch.tensor(2.0, dtype=torch.float64), 0, torch.tensor(0))
    check("gather", r(3, 4), 1, index(4, 3, 2).int(), gradients=False)
    check("gather", r(3, 4), 1, index(4, 3, 1).expand(3, 6))
    check("take_along_dim", r(3, 4), index(4, 3, 2), 1)
    check("take_along_dim", r(3, 4), index(4, 1, 2), 1)
    check("take_along_dim", r(1, 4), index(4, 3, 2), 1)
    check("take_along_dim", r(3, 4), index(12, 2, 5))


def test_gather_errors():
    x = r(3, 4)
    raises_alike("gather", x, 0, index(3, 2), match="Index tensor must have the same number of dimensions as input "
                                                    "tensor")
    raises_alike("gather", x, 0, index(3, 2, 5), match="Size does not match at dimension 1 expected index [2, 5]")
    raises_alike("gather", x, 0, torch.tensor([[5]]), match="out of bounds", kind=IndexError)
    raises_alike("gather", x, 0, torch.tensor([[-1]]), match="out of bounds", kind=IndexError)
    raises_alike("gather", x, 0, torch.tensor([[0.5]]), match="gather(): Expected dtype int")
    raises_alike("gather", x, 2, index(3, 3, 4), match="Dimension out of range")


UNIQUE = torch.tensor([[1, 0], [2, 3], [0, 3]])


def test_scatter():
    x = r(3, 4)
    for call in ("scatter", in_place("scatter")):
        check(call, x, 1, UNIQUE, r(3, 2))
        check(call, x, 1, UNIQUE, r(3, 4), gradients=False)
        check(call, x, 1, UNIQUE, 2.5)
        check(call, r(5), 0, torch.tensor([4, 0]), r(2))
        check(call, r(5), 0, torch.tensor([4, 0]), r(3), gradients=False)
        check(call, x.t(), 0, UNIQUE.t(), r(2, 3))
    check(lambda lib, x, i: lib.scatter(x, 1, i, value=3.0), x, UNIQUE)
    for reduce in ("add", "multiply"):
        check(lambda lib, x, i, s, reduce=reduce: lib.scatter(x, 0, i, s, reduce=reduce), x, index(3, 5, 4), r(5, 4),
              gradients=False)
    check("scatter", x, 1, index(4, 0, 2), r(3, 2), gradients=False)
    check("scatter", torch.tensor(1.0, dtype=torch.float64), 0, torch.tensor(0), torch.tensor(5.0, dtype=torch.float64))


def test_scatter_add():
    for call in ("scatter_add", in_place("scatter_add")):
        check(call, r(3, 4), 0, index(3, 5, 4), r(5, 4))
        check(call, r(3, 4), 1, index(4, 2, 6), r(2, 7), gradients=False)
        check(call, r(6), 0, index(6, 50), r(50))
        check(call, r(4, 3).t(), 0, index(3, 5, 4), r(5, 4))
    for x in every_dtype(torch.randint(0, 2, (4, 3))):
        check("scatter_add", x, 0, index(4, 6, 3), torch.randint(0, 2, (6, 3)).to(x.dtype), gradients=False)


@pytest.mark.parametrize("mode", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(mode, include_self):
    for call in ("scatter_reduce", in_place("scatter_reduce")):
        check(call, r(3, 4), 0, index(3, 7, 4), r(7, 4), mode, include_self=include_self)
        check(call, r(3, 4), 1, index(4, 2, 6), r(2, 7), mode, include_self=include_self, gradients=False)
        check(call, r(6), 0, torch.tensor([0, 0, 2, 5, 5, 5]), r(6), mode, include_self=include_self)
    for x in every_dtype(torch.randint(0, 3, (4, 3))):
        if x.dtype == torch.bool:
            continue
        check("scatter_reduce", x, 0, index(4, 6, 3), torch.randint(0, 3, (6, 3)).to(x.dtype), mode,
              include_self=include_self, gradients=False)


def test_scatter_reduce_ties_and_zeros():
    x = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    at = torch.tensor([0, 0, 1, 2, 2, 2])
    src = torch.tensor([2.0, 2.0, 3.0, 0.0, 5.0, 0.0], dtype=torch.float64)
    for mode in ("amax", "amin"):
        check("scatter_reduce", x, 0, at, src, mode)
    for include_self in (True, False):
        check("scatter_reduce", x, 0, at, src, "prod", include_self=include_self, order=1)
        check("scatter_reduce", x, 0, at[:5], src[:5], "prod", include_self=include_self)


def test_second_derivative_of_several_zeros_is_refused():
    x = fx_of(torch.ones(1, dtype=torch.float64))
    src = fx_of(torch.zeros(2, dtype=torch.float64)).requires_grad_()
    out = fx.scatter_reduce(x, 0, fx_of(torch.tensor([0, 0])), src, "prod")
    with pytest.raises(NotImplementedError):
        fx.autograd.grad([out.sum()], [src], create_graph=True)


def test_scatter_errors():
    x = r(3, 4)
    for name in ("scatter", "scatter_add"):
        raises_alike(name, x, 0, index(3, 2), r(2), match="Index tensor must have the same number of dimensions as "
                                                          "self tensor")
        raises_alike(name, x, 0, index(3, 5, 4), r(4, 4), match="to be no larger")
        raises_alike(name, x, 0, index(3, 2, 4), r(2, 4).float(), match="Expected self.dtype to be equal to src.dtype")
        raises_alike(name, x, 0, torch.full((1, 4), 3), r(1, 4), match="out of bounds", kind=IndexError)
        leaf = fx_of(x).requires_grad_()
        with pytest.raises(RuntimeError, match="leaf"):
            getattr(leaf, name + "_")(0, fx_of(index(3, 2, 4)), fx_of(r(2, 4)))


def test_in_place_through_a_view_reaches_the_base():
    def call(lib, x, i, s):
        y = x * 1
        y[1:].scatter_add_(0, i, s)
        return y
    check(call, r(4, 3), index(3, 5, 3), r(5, 3))


def test_in_place_bumps_the_version():
    x = fx_of(r(3)).requires_grad_()
    y = x * 1
    z = y * y
    y.scatter_(0, fx_of(torch.tensor([0])), 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_take():
    check("take", r(3, 4), index(12, 2, 5))
    check("take", r(3, 4), torch.tensor([-1, 0, -12]))
    check("take", r(3, 4).t(), index(12, 6))
    raises_alike("take", r(3, 4), torch.tensor([12]))
    raises_alike("take", torch.zeros(0), torch.tensor([0]))


# slices by a vector

def test_index_select():
    for x in (r(3, 4), r(4, 3).t(), r(3, 4, 2)):
        for dim in (0, 1):
            check("index_select", x, dim, index(x.shape[dim], 6))
    check("index_select", r(3, 4), 0, torch.tensor(1))
    check("index_select", r(3, 4), 0, index(3, 0))
    check("index_select", torch.tensor(3.0, dtype=torch.float64), 0, torch.tensor([0]))
    for x in every_dtype(torch.randint(0, 3, (5, 3))):
        check("index_select", x, 0, index(5, 7), gradients=False)
    raises_alike("index_select", r(3), 0, torch.tensor([3]))
    raises_alike("index_select", r(3), 0, torch.tensor([[1]]), match="Index is supposed to be a vector")


def test_index_add():
    for call in ("index_add", in_place("index_add")):
        check(call, r(3, 4), 0, index(3, 6), r(6, 4))
        check(call, r(3, 4), 1, index(4, 2), r(3, 2), alpha=-0.5)
        check(call, r(5, 2, 3).transpose(0, 1), 1, index(5, 8), r(2, 8, 3))
        check(call, r(3), 0, torch.tensor(1), r(1))
    for x in every_dtype(torch.randint(0, 2, (4, 3))):
        check("index_add", x, 0, index(4, 6), torch.randint(0, 2, (6, 3)).to(x.dtype), gradients=False)
    raises_alike("index_add", r(3, 4), 0, index(3, 2), r(3, 4),
                 match="Number of indices (2) should be equal to source.size(dim): (3), for dim: 0")
    raises_alike("index_copy", r(3, 4), 0, index(3, 2), r(3, 4), match="Number of indices (2) should be equal to")
    raises_alike("index_add", r(3, 4), 0, index(3, 2), r(2, 5),
                 match="source tensor shape must match self tensor shape")
    raises_alike("index_add", r(3, 4), 0, torch.tensor([3]), r(1, 4), kind=IndexError)


def test_index_copy_and_fill():
    for call in ("index_copy", in_place("index_copy")):
        check(call, r(5, 4), 0, torch.tensor([3, 0]), r(2, 4))
        check(call, r(5, 4), 1, torch.tensor([2, 1]), r(5, 2))
    for call in ("index_fill", in_place("index_fill")):
        check(call, r(5, 4), 0, torch.tensor([3, 0]), 1.5)
        check(call, r(5, 4), 1, torch.tensor([3, 0]), torch.tensor(2.0, dtype=torch.float64))
        check(call, r(5, 4), 1, torch.tensor([-1, 0]), torch.tensor(2.0, dtype=torch.float64), gradients=False)
        check(call, torch.arange(5), 0, torch.tensor([3]), 7)
    raises_alike("index_fill", r(5, 4), 0, torch.tensor([5]), 1.5)


def test_masked_scatter():
    mask = torch.tensor([[True, False, True], [False, True, True]])
    for call in ("masked_scatter", in_place("masked_scatter")):
        check(call, r(2, 3), mask, r(4))
        check(call, r(2, 3), mask, r(3, 3))
        check(call, r(2, 3), mask[0], r(6))
    check("masked_scatter", r(3), mask, r(6))
    with pytest.raises((RuntimeError, ValueError), match="true elements"):
        fx.masked_scatter(fx_of(r(2, 3)), fx_of(mask), fx_of(r(2)))
    raises_alike("masked_scatter", r(2, 3), mask.long(), r(6), match="only supports boolean masks")


def test_repeat_interleave():
    x = r(3, 4)
    check("repeat_interleave", x, 2)
    for dim in (0, 1, -1):
        check("repeat_interleave", x, 3, dim)
        check("repeat_interleave", x, 0, dim)
        check("repeat_interleave", x, torch.tensor([2]), dim)
    check("repeat_interleave", x, torch.tensor([2, 0, 3]), 0)
    check("repeat_interleave", x.t(), torch.tensor([1, 0, 4]), 1)
    check("repeat_interleave", torch.tensor([2, 0, 3]))
    check(lambda lib, x, n: lib.repeat_interleave(x, n, 0, output_size=5), x, torch.tensor([2, 0, 3]))
    raises_alike("repeat_interleave", x, torch.tensor([2, 0]), 0,
                 match="repeats must have the same size as input along dim")
    raises_alike("repeat_interleave", x, torch.tensor([2, -1, 1]), 0, match="repeats can not be negative")


# embedding

def embedding(lib, *args, **keywords):
    return torch.nn.functional.embedding(*args, **keywords) if lib is torch else fx.embedding(*args, **keywords)


def test_embedding():
    at = torch.tensor([[0, 2, 2], [4, 1, 2]])
    check(embedding, at, r(5, 3))
    check(embedding, torch.tensor(3), r(5, 3))
    check(embedding, at.int(), r(5, 3))
    check(embedding, index(5, 0), r(5, 3))
    for padding in (2, -1, 0):
        check(embedding, at, r(5, 3), padding_idx=padding)
    check(embedding, at, r(5, 3), scale_grad_by_freq=True, order=1)
    check(embedding, at, r(5, 3), padding_idx=2, scale_grad_by_freq=True, order=1)
    with pytest.raises(IndexError):
        fx.embedding(fx_of(torch.tensor([5])), fx_of(r(5, 3)))


def test_embedding_max_norm_scales_the_table():
    table = r(5, 3) * 4
    mine, its = fx_of(table.clone()), table.clone()
    at = torch.tensor([1, 1, 3])
    same(fx.embedding(fx_of(at), mine, max_norm=1.0), torch.nn.functional.embedding(at, its, max_norm=1.0), 1e-6)
    same(mine, its, 1e-6)


def test_gradient_of_a_value_at_negative_indices():
    value = fx_of(torch.tensor(2.0, dtype=torch.float64)).requires_grad_()
    out = fx.index_fill(fx_of(r(5, 4)), 1, fx_of(torch.tensor([-1, 0])), value)
    out.sum().backward()
    assert value.grad.item() == 10


def test_accumulation_is_the_same_for_any_number_of_threads():
    x, at, src = torch.zeros(50, 8), index(50, 20000), torch.randn(20000, 8)
    before = fx.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            fx.set_num_threads(n)
            results.append(fx.index_add(fx_of(x), 0, fx_of(at), fx_of(src)).numpy())
    finally:
        fx.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("indices, kind", [
    ((), IndexError), (fx.tensor([0]), TypeError), ((None,), IndexError), ((fx.tensor([0.5]),), IndexError),
    ((fx.tensor([0]),) * 3, IndexError), ((fx.tensor(True),), IndexError),
                                           ((fx.ones(2, 2, 2, dtype=fx.bool),), IndexError),
    ((fx.tensor([5]),), IndexError), ((fx.tensor([True, False, True]),), IndexError), (3, TypeError),
                                           (("a",), TypeError),
])
def test_index_put_refuses(indices, kind):
    x = fx.zeros(4, 3)
    for call in (x.index_put, x.index_put_):
        with pytest.raises(kind):
            call(indices, fx.ones(()))
    assert x.tolist() == [[0, 0, 0]] * 4


def test_index_put_by_masks_and_none():
    for call in ("index_put", in_place("index_put")):
        check(call, r(4, 3), (torch.tensor([True, False, True, True]),), r(3, 3))
        check(call, r(4, 3), (torch.tensor([True, False, True, True]), torch.tensor([0, 2, 1])), r(3))
        check(call, r(4, 3), (r(4, 3) > 0.5,), r())
        check(call, r(4, 3), (torch.tensor([1, 1]),), r(2, 3), accumulate=True)
    x, values = fx.zeros(4, 3), fx.arange(8.0).reshape(4, 2)
    assert x.index_put((None, fx.tensor([2, 0])), values).tolist() == [[1, 0, 0], [3, 0, 2], [5, 0, 4], [7, 0, 6]]
