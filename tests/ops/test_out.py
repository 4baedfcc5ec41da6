"""`out=`: results written where the caller says, for every row that takes it."""

import inspect

import numpy as np
import pytest
from samples import CHECKED, ROWS, arguments, assert_same, calls, numbers, outputs

import ferrox as fx

# Creation has its own: tests/ops/test_creation.py.
TAKES_OUT = [name for name in CHECKED if ROWS[name].row.get("out")]


def blank(tensor):
    """Room for a result: the same shape and dtype, other values."""
    return fx.full(tensor.shape, 1, dtype=tensor.dtype)


def into(name, call, out):
    return ROWS[name](*arguments(call), **call.keywords, out=out)


def results(name):
    """Calls whose results are tensors, with what they give without out=."""
    for call in calls(name):
        got = ROWS[name](*arguments(call), **call.keywords)
        if all(isinstance(each, fx.Tensor) for each in outputs(got)):
            yield call, got


@pytest.mark.parametrize("name", TAKES_OUT)
def test_written_and_returned(name):
    for call, expected in results(name):
        several = not isinstance(expected, fx.Tensor)
        rooms = [blank(each) for each in outputs(expected)]
        got = into(name, call, tuple(rooms) if several else rooms[0])
        assert all(one is room for one, room in zip(outputs(got), rooms, strict=True))
        assert_same(got, expected)
        if several:
            assert type(got) is type(expected)
        assert_same(into(name, call, None), expected)


@pytest.mark.parametrize("name", TAKES_OUT)
def test_strided_and_empty(name):
    for call, expected in results(name):
        rooms = []
        for each in outputs(expected):
            memory = fx.full((*each.shape, 2), 1, dtype=each.dtype)
            rooms.append(memory[..., 1])
        got = into(name, call, tuple(rooms) if len(rooms) > 1 else rooms[0])
        assert_same(got, expected)
        empty = [fx.empty(0, dtype=each.dtype) for each in outputs(expected)]
        assert_same(into(name, call, tuple(empty) if len(empty) > 1 else empty[0]), expected)


@pytest.mark.parametrize("name", TAKES_OUT)
def test_refused(name):
    for call, expected in results(name):
        several = not isinstance(expected, fx.Tensor)
        rooms = [blank(each) for each in outputs(expected)]
        before = [numbers(each).copy() for each in rooms]
        with pytest.raises(TypeError):
            into(name, call, (3,) * len(rooms) if several else 3)
        if several:
            with pytest.raises(TypeError, match="tuple of Tensors"):
                into(name, call, rooms[0])
            with pytest.raises(TypeError, match=f"must have {len(rooms)} Tensors"):
                into(name, call, rooms[:1])
            wrong = (*rooms[:-1], fx.ones(7, 7, dtype=rooms[-1].dtype))
        else:
            wrong = fx.ones(7, 7, dtype=rooms[0].dtype)
        with pytest.raises(RuntimeError, match="shape"):
            into(name, call, wrong)
        if rooms[0].is_floating_point():
            narrow = [fx.ones(each.shape, dtype=fx.int64) for each in rooms]
            with pytest.raises(RuntimeError, match="can't be cast"):
                into(name, call, tuple(narrow) if several else narrow[0])
            rooms[0].requires_grad_()
            with pytest.raises(RuntimeError, match="out="):
                into(name, call, tuple(rooms) if several else rooms[0])
        # Of several results none is written when one cannot be.
        assert all(np.array_equal(numbers(each), old) for each, old in zip(rooms, before, strict=True))


def test_in_place_forms_take_none():
    x = fx.rand(3)
    for call in (lambda: x.clamp_(0, 1, out=x), lambda: x.add_(1, out=x), lambda: x.cumsum_(0, out=x)):
        with pytest.raises(TypeError, match="'out'"):
            call()


def test_what_pytorch_has():
    """Every function that takes out= there takes it here."""
    torch = pytest.importorskip("torch")
    missing = []
    for name, op in fx._core.graph.op.operators().items():
        theirs = getattr(torch, name, None)
        if theirs is None or op.row.get("public", True) is not True:
            continue
        takes = " out=None" in (theirs.__doc__ or "").split("->")[0].split("\n\n")[0]
        if takes and "out" not in inspect.signature(op).parameters:
            missing.append(name)
    assert missing == []
