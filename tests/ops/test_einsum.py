"""Sums of products by Einstein's convention, against PyTorch."""
import pytest
from against_torch import check, fx_of
from peers import torch

import ferrox as fx


def r(*shape):
    return torch.rand(shape, dtype=torch.float64)


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]),
                                              ("ij->ji", [(2, 3)]),
    ("ij->", [(2, 3)]), ("i,i->", [(4,), (4,)]), ("i,j", [(4,), (3,)]),
                                              ("...ij,...jk->...ik", [(2, 1, 2, 3), (5, 3, 4)]),
    ("b...,b...->b", [(2, 3, 4), (2, 3, 4)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
                                              ("bn,anm,bm->ba", [(2, 5), (3, 5, 4), (2, 4)]),
    (" i j , j -> i ", [(2, 3), (3,)]), ("...", [(2, 3)]), ("ij,kj->", [(2, 3), (4, 3)]), (",", [(), ()]),
                                              ("i,->i", [(3,), ()]),
    ("ijk,ijl->kl", [(2, 3, 4), (2, 3, 2)]), ("ab,ab->ab", [(2, 3), (2, 3)]), ("zA,Ab", [(2, 3), (3, 2)]),
                                              ("ij,ij->ij", [(1, 3), (2, 1)]),
    ("ij,jk->ik", [(0, 3), (3, 4)]), ("ij,jk->ik", [(2, 0), (0, 4)]),
])
def test_equations(equation, shapes):
    check(lambda lib, *tensors: lib.einsum(equation, *tensors), *[r(*shape) for shape in shapes])


def test_lists_of_labels():
    check(lambda lib, a, b: lib.einsum(a, [0, 1], b, [1, 2], [0, 2]), r(2, 3), r(3, 4))
    check(lambda lib, a, b: lib.einsum(a, [0, 1], b, [1, 30]), r(2, 3), r(3, 4))
    check(lambda lib, a, b: lib.einsum(a, [..., 0, 1], b, [..., 1, 2], [..., 0, 2]), r(5, 2, 3), r(5, 3, 4))
    check(lambda lib, a: lib.einsum(a, [0, 0]), r(3, 3))
    check(lambda lib, a, b: lib.einsum("ij,j->i", [a, b]), r(2, 3), r(3))


@pytest.mark.parametrize("arguments", [
    ("ij,jk->ik", r(2, 3)), ("ij->ik", r(2, 3)), ("i", r(2, 3)), ("ij,jk->ik", r(2, 3), r(4, 5)), ("i1->i", r(2, 3)),
    ("ij->ii", r(2, 3)), ("...i...->i", r(2, 3)), ("ij->i->j", r(2, 3)), ("i.j", r(2, 3)),
])
def test_refused_as_by_pytorch(arguments):
    for lib, given in ((torch, arguments), (fx, [fx_of(each) for each in arguments])):
        with pytest.raises(RuntimeError):
            lib.einsum(*given)


@pytest.mark.parametrize("arguments", [(3,), (), ([fx.ones(2)],), ("i", 3), (fx.ones(2), 3),
                                       (fx.ones(2), fx.ones(2), fx.ones(3)), ("i", "j")])
def test_refused_by_type(arguments):
    with pytest.raises((TypeError, RuntimeError)):
        fx.einsum(*arguments)


def test_labels_out_of_range():
    for label in (-1, 52, "a", 1.0):
        with pytest.raises(ValueError, match="label"):
            fx.einsum(fx.ones(2), [label])
