"""What the door judges once for all: what may be written, windows that share memory, dtypes, version counters."""

import itertools
import mmap
import re

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.door import backend, signature
from ferrox.nn import functional

REFUSED = "refer to a single memory location|refers to a single memory location"


def bytes_of(t):
    """Addresses of every byte of a tensor, by walking all of its elements."""
    offsets = [0]
    for size, stride in zip(t.shape, t.stride(), strict=True):
        offsets = [o + i * stride * t.element_size() for o in offsets for i in range(size)]
    return [t.data_ptr() + o + k for o in offsets for k in range(t.element_size())]


def windows(rng, memory):
    """A random window of a one-dimensional memory, as (tensor, NumPy array)."""
    ndim = int(rng.integers(1, 4))
    shape = tuple(int(n) for n in rng.integers(1, 4, ndim))
    strides = tuple(int(n) for n in rng.integers(1, 9, ndim))
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    offset = int(rng.integers(0, memory.numel() - reach))
    return memory.as_strided(shape, strides, offset)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_judged_exactly(seed):
    """In place between random windows of one memory: refused where they share a byte, NumPy's value elsewhere."""
    rng, seen = np.random.default_rng(seed), {True: 0, False: 0}
    for _ in range(4000):
        memory = fx.arange(64.0)
        a, b = windows(rng, memory), windows(rng, memory)
        if b.shape != a.shape:
            continue
        if len(set(bytes_of(a))) < len(bytes_of(a)):
            with pytest.raises(RuntimeError, match=REFUSED):
                a.add_(1)
            continue
        same = bytes_of(a) == bytes_of(b)  # the same elements in the same order
        shared = not same and bool(set(bytes_of(a)) & set(bytes_of(b)))
        expected = a.numpy() + b.numpy()
        seen[shared] += 1
        if shared:
            with pytest.raises(RuntimeError, match=REFUSED):
                a.add_(b)
            with pytest.raises(RuntimeError, match=REFUSED):
                fx.mul(b, 2, out=a)
            before = b.numpy().copy()
            a.copy_(b)  # NumPy's value
            np.testing.assert_array_equal(a.numpy(), before)
        else:
            a.add_(b)
            np.testing.assert_array_equal(a.numpy(), expected)
    assert min(seen.values()) > 5


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_assignment_from_overlapping_memory_is_numpys(dtype):
    cases = {
        "forward": (lambda n: slice(1, None), lambda n: slice(None, -1)),
        "backward": (lambda n: slice(None, -1), lambda n: slice(1, None)),
        "spread": (lambda n: slice(None, None, 2), lambda n: slice(0, (n + 1) // 2)),
        "gathered": (lambda n: slice(0, (n + 1) // 2), lambda n: slice(None, None, 2)),
    }
    for (name, (to, source)), n in itertools.product(cases.items(), (7, 1000, 70_000)):
        ours = fx.from_numpy((np.arange(n) % 101).astype(dtype))
        theirs = ours.numpy().copy()
        theirs[to(n)] = theirs.copy()[source(n)]
        ours[to(n)] = ours[source(n)]
        np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=f"{name}, {n}")


def test_assignment_by_index_from_itself():
    x, a = fx.arange(6.0), np.arange(6.0)
    index = [5, 4, 3, 2, 1, 0]
    x[fx.tensor(index)] = x
    a[index] = a.copy()
    np.testing.assert_array_equal(x.numpy(), a)
    x, a = fx.arange(6.0), np.arange(6.0)
    x[x > 1] = x[:4]
    a[a > 1] = a[:4].copy()
    np.testing.assert_array_equal(x.numpy(), a)
    a = np.arange(6)[::-1].copy()
    x = fx.from_numpy(a.copy())
    x[x] = x  # the indices themselves are overwritten
    a[a.copy()] = a.copy()
    np.testing.assert_array_equal(x.numpy(), a)
    x = fx.arange(9.0).reshape(3, 3)
    x.scatter_(0, fx.tensor([[2, 1, 0]]), x[:1])
    np.testing.assert_array_equal(x.numpy(), [[0, 1, 2], [3, 1, 5], [0, 7, 8]])
    x = fx.arange(6.0)
    x.index_copy_(0, fx.tensor([3, 4, 5]), x[2:5])
    np.testing.assert_array_equal(x.numpy(), [0, 1, 2, 2, 3, 4])
    x = fx.arange(6.0)
    x.masked_scatter_(fx.tensor([False, True, True, True, False, False]), x)
    np.testing.assert_array_equal(x.numpy(), [0, 0, 1, 2, 4, 5])


def test_transposed_onto_itself():
    for n in (3, 300):
        x = fx.arange(n * n).reshape(n, n)
        expected = x.numpy().T.copy()
        x.copy_(x.t())
        np.testing.assert_array_equal(x.numpy(), expected)
        with pytest.raises(RuntimeError, match=REFUSED):
            x.add_(x.t())
        np.testing.assert_array_equal(x.numpy(), expected)


def test_refused_in_place_with_a_gradient_too():
    y = fx.arange(6.0).requires_grad_() * 1
    with pytest.raises(RuntimeError, match=REFUSED):
        y[1:].mul_(y[:-1])


def test_same_memory_shared_by_two_foreign_tensors():
    memory = np.arange(8.0)
    a, b = fx.from_numpy(memory[1:]), fx.from_numpy(memory[:-1])
    with pytest.raises(RuntimeError, match=REFUSED):
        a.add_(b)
    a.copy_(b)
    np.testing.assert_array_equal(memory, [0, 0, 1, 2, 3, 4, 5, 6])


def test_equal_first_address_is_not_enough():
    """Two windows that begin at one place share memory without being the same."""
    x = fx.arange(16.0)
    with pytest.raises(RuntimeError, match=REFUSED):
        x[:8].add_(x[::2])
    with pytest.raises(RuntimeError, match=REFUSED):
        x.view(4, 4).add_(x.view(4, 4).t())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.add_(1),
        lambda x: x.zero_(),
        lambda x: x.fill_(2),
        lambda x: x.normal_(),
        lambda x: x.copy_(fx.ones(3, 3)),
        lambda x: x.__setitem__(slice(None), 5.0),
        lambda x: x.__setitem__(fx.tensor([1]), 5.0),
        lambda x: x.masked_fill_(fx.ones(3, 3, dtype=fx.bool), 1),
        lambda x: x.index_add_(0, fx.tensor([0]), fx.ones(1, 3)),
        lambda x: x.scatter_(0, fx.tensor([[0]]), 1.0),
        lambda x: x.clamp_(0, 1),
        lambda x: x.sigmoid_(),
        lambda x: fx.sum(fx.ones(2, 3, 3), 0, out=x),
        lambda x: fx.add(1, fx.ones(3, 3), out=x),
        lambda x: fx.matmul(fx.ones(3, 3), fx.ones(3, 3), out=x),
        lambda x: fx.zeros(3, 3, out=x),
        lambda x: fx.nn.init.uniform_(x),
    ],
)
def test_nothing_writes_where_it_must_not(change):
    """Read-only memory and expanded tensors, by every way to write; nothing is changed."""
    held = np.arange(9, dtype=np.float32).reshape(3, 3)
    held.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        change(fx.from_numpy(held))
    np.testing.assert_array_equal(held, np.arange(9, dtype=np.float32).reshape(3, 3))
    row = fx.arange(3.0)
    with pytest.raises(RuntimeError, match=REFUSED):
        change(row.expand(3, 3))
    np.testing.assert_array_equal(row.numpy(), [0, 1, 2])


@pytest.mark.parametrize("optimiser", ["SGD", "Adam", "AdamW"])
def test_optimisers_on_memory_that_is_read_only(optimiser, tmp_path):
    path = tmp_path / "weights"
    np.arange(4, dtype=np.float32).tofile(path)
    for weights in (
        fx.from_numpy(np.memmap(path, np.float32, "r")),
        fx.frombuffer(bytes(16), dtype=fx.float32),
        fx.from_numpy(np.frombuffer(mmap.mmap(-1, 16, access=mmap.ACCESS_READ), np.float32)),
    ):
        before = weights.numpy().copy()
        weights.requires_grad_()
        weights.grad = fx.ones(4)
        with pytest.raises(RuntimeError, match="read-only"):
            getattr(fx.optim, optimiser)([weights], lr=0.1).step()
        np.testing.assert_array_equal(weights.detach().numpy(), before)


def test_statistics_in_read_only_memory():
    held = np.zeros(3, np.float32)
    held.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        functional.batch_norm(fx.randn(4, 3), fx.from_numpy(held), fx.ones(3), training=True)
    functional.batch_norm(fx.randn(4, 3), fx.from_numpy(held), fx.ones(3), training=False)


def test_versions_move_at_the_door():
    x = fx.zeros(4)
    for k, change in enumerate(
        (
            lambda: x.add_(1),
            lambda: x.__setitem__(0, 1.0),
            lambda: x[1:3].mul_(2),
            lambda: fx.exp(fx.zeros(4), out=x),
            lambda: x.copy_(fx.ones(4)),
            lambda: x.index_add_(0, fx.tensor([0]), fx.ones(1)),
            lambda: x.zero_(),
        )
    ):
        before = x._version
        change()
        assert x._version > before, k
    assert (x + 1)._version == 0
    with pytest.raises(RuntimeError):
        x.add_(fx.ones(5))
    before = x._version
    with pytest.raises(IndexError):
        x.index_add_(0, fx.tensor([9]), fx.ones(1))
    assert x._version == before


@pytest.mark.parametrize("optimiser", ["SGD", "Adam", "AdamW"])
def test_an_optimiser_step_moves_the_versions_of_what_it_writes(optimiser):
    w = fx.ones(3, requires_grad=True)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    grad, versions = w.grad, (w._version, w.grad._version)
    step = getattr(fx.optim, optimiser)([w], lr=0.1)
    step.step()
    assert w._version > versions[0] and grad._version == versions[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    before = w._version
    step.step()
    for state in step.state[w].values():
        if isinstance(state, fx.Tensor) and state.numel() > 1:
            assert state._version > 0
    assert w._version > before


def test_running_statistics_move_their_versions():
    mean, var = fx.zeros(3), fx.ones(3)
    before = mean._version, var._version
    functional.batch_norm(fx.randn(4, 3), mean, var, training=True)
    assert (mean._version, var._version) == (before[0] + 1, before[1] + 1)
    functional.batch_norm(fx.randn(4, 3), mean, var, training=False)
    assert (mean._version, var._version) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: functional.cross_entropy(fx.randn(2, 3), fx.tensor([0, 1]), fx.ones(3, dtype=fx.int64)), "weight"),
        (lambda: functional.layer_norm(fx.randn(2, 3), (3,), fx.ones(3, dtype=fx.int32)), "weight"),
        (lambda: functional.batch_norm(fx.randn(4, 3), fx.zeros(3, dtype=fx.int64), fx.ones(3), training=True), "mean"),
        (lambda: functional.linear(fx.ones(2, 3), fx.ones(4, 3, dtype=fx.int64)), "int64|dtype"),
        (lambda: fx.matmul(fx.ones(2, 3), fx.ones(3, 2, dtype=fx.float64)), "dtype"),
    ],
)
def test_side_operands_of_another_dtype_are_refused_by_name(call, says):
    with pytest.raises(RuntimeError, match=says):
        call()


def test_every_kernel_of_the_cpu_declares_what_it_takes():
    declared = signature.declarations()
    assert not [name for name in backend.kernels(0) if name not in declared]
    for name, text in declared.items():
        what, outs, ins, _ = text.split("|")
        assert what.split()[0] in signature.KIND_NAMES, name
        assert outs.strip(), name
        for operand in (*outs.split(","), *ins.split(",")):
            said = operand.strip()
            assert said in ("", "-") or re.fullmatch(r"\{?\w+ \w+[?!<]*\}?", said), (name, operand)


def test_numbers_are_exact():
    big = 2**53 + 1
    assert fx.add(fx.tensor([0]), fx.tensor([1]), alpha=big).item() == big
    assert fx.sub(fx.tensor([0]), fx.tensor([1]), alpha=-big).item() == big
    assert fx.addcmul(fx.tensor([0]), fx.tensor([1]), fx.tensor([1]), value=big).item() == big
    assert fx.rsub(fx.tensor([1]), fx.tensor([0]), alpha=-big).item() == big
    assert fx.tensor([0]).add_(fx.tensor([1]), alpha=big).item() == big
    ten, one = fx.tensor([10], dtype=fx.uint8), fx.tensor([1], dtype=fx.uint8)
    assert fx.sub(ten, one, alpha=2).item() == 8
    assert fx.addcmul(ten, one, one, value=-2).item() == 8
    assert fx.add(ten, one, alpha=-11).item() == 255  # wraps as the arithmetic does
    assert fx.clamp(fx.tensor([-5, 5, 300]), -(2**62), 2**53 + 1).tolist() == [-5, 5, 300]
    assert fx.clamp(fx.tensor([2**53 + 3]), max=2**53 + 1).item() == 2**53 + 1
