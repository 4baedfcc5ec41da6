import gc
import operator
import subprocess
import sys
import weakref

import numpy as np
import pytest
from peers import torch

import ferrox as fx
from ferrox._core.tensor.base import as_subclass

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
rng = np.random.default_rng(5)


def both(name, *shape, low=-6, high=7):
    array = rng.integers(0 if name in ("bool", "uint8") else low, 2 if name == "bool" else high, shape)
    x = torch.tensor(array).to(getattr(torch, name))
    return fx.tensor(array).to(getattr(fx, name)), x


def same(got, expected, rtol=0):
    if isinstance(expected, tuple):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            same(a, b, rtol)
        return
    assert str(got.dtype).replace("ferrox", "torch") == str(expected.dtype)
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(np.array(got.tolist(), "f8"), np.array(expected.tolist(), "f8"), rtol=rtol)


# Operators

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
BITS = [operator.and_, operator.or_, operator.xor]
SHIFTS = [operator.lshift, operator.rshift]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod]


def outcome(call, *args):
    """The result of a call, or the category of its error."""
    try:
        return call(*args)
    except (RuntimeError, TypeError, NotImplementedError, ZeroDivisionError) as error:
        return "type" if isinstance(error, TypeError) else "error"


def alike(call, ours, theirs):
    got, expected = outcome(call, *ours), outcome(call, *theirs)
    if isinstance(expected, str):
        assert isinstance(got, str), f"{call.__name__}: expected an error, got {got}"
        return
    assert not isinstance(got, str), f"{call.__name__}: got an error, expected {expected}"
    # PyTorch divides by a number through its reciprocal, which costs it a last bit.
    eps = torch.finfo(expected.dtype).eps if call in (operator.truediv, operator.itruediv) else 0
    same(got, expected, 1.5 * eps)


@pytest.mark.parametrize("call", ARITHMETIC + COMPARISONS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("name", ["uint8", "int32", "int64", "float32", "float64"])
def test_binary_operators(call, name):
    a, x = both(name, 3, 4)
    b, y = both(name, 4, low=1)
    b, y = b + 1, y + 1
    alike(call, (a, b), (x, y))
    for number in (3, 2.5):
        alike(call, (a, number), (x, number))
    alike(call, (7, b), (7, y))
    alike(call, (7.5, b), (7.5, y))


@pytest.mark.parametrize("call", BITS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("name", ["bool", "uint8", "int32", "int64"])
def test_bit_operators(call, name):
    a, x = both(name, 3, 4)
    b, y = both(name, 4)
    alike(call, (a, b), (x, y))
    alike(call, (a, 1), (x, 1))
    alike(call, (True, b), (True, y))


@pytest.mark.parametrize("call", SHIFTS, ids=lambda call: call.__name__)
def test_shifts(call):
    a, x = both("int64", 3, 4)
    b, y = both("int64", 4, low=0, high=5)
    alike(call, (a, b), (x, y))
    alike(call, (a, 2), (x, 2))
    alike(call, (2, b), (2, y))


def test_power():
    a, x = both("float64", 3, 4, low=1)
    b, y = both("float64", 4)
    for call in ((lambda a, b: a ** b), (lambda a, b: a ** 2), (lambda a, b: 2 ** b), (lambda a, b: a ** -0.5)):
        np.testing.assert_allclose(call(a, b).numpy(), call(x, y).numpy(), rtol=1e-14)
    same(both("int64", 5)[0] ** 0, torch.ones(5, dtype=torch.int64))
    with pytest.raises(TypeError):
        pow(a, 2, 5)


def test_matmul_and_divmod():
    a, x = both("float64", 3, 4)
    same(a @ a.T, x @ x.T)
    same(divmod(a, 3), (x // 3, x % 3))
    with pytest.raises((RuntimeError, TypeError)):
        a @ 3


@pytest.mark.parametrize("call", IN_PLACE, ids=lambda call: call.__name__)
def test_in_place_operators(call):
    a, x = both("float64", 3, 4)
    address, version = a.data_ptr(), a._version
    alike(call, (a, 3), (x, 3))
    assert a.data_ptr() == address and a._version > version
    b, y = both("float64", 4, low=1)
    alike(call, (a, b), (x, y))
    integers, theirs = both("int64", 3)
    alike(call, (integers, 2), (theirs, 2))


def test_in_place_bits_power_and_shifts():
    for call, other in ((operator.iand, 3), (operator.ior, 4), (operator.ixor, 5), (operator.ilshift, 2),
                        (operator.irshift, 1), (operator.ipow, 2)):
        a, x = both("int64", 6, low=0)
        kept = a
        alike(call, (a, other), (x, other))
        assert kept is a and kept.tolist() == x.tolist()


def test_unary_operators():
    for name in ("int32", "float64"):
        a, x = both(name, 3, 4)
        for call in (operator.neg, operator.pos, operator.abs):
            same(call(a), call(x))
    for name in ("bool", "uint8", "int32"):
        a, x = both(name, 7)
        same(~a, ~x)


def test_foreign_operands():
    x = fx.ones(2)
    for call in (*ARITHMETIC, *BITS, operator.lt, operator.matmul, operator.pow):
        for other in (None, "a", [1, 2], object()):
            with pytest.raises(TypeError):
                call(x, other)
            if other != "a":    # "a" % x formats
                with pytest.raises(TypeError):
                    call(other, x)
    assert (x == None) is False and (x != "a") is True      # noqa: E711

    class Right:
        def __radd__(self, other):
            return "right"

        def __add__(self, other):
            return "left"

    assert x + Right() == "right" and Right() + x == "left"


def test_operators_are_differentiable():
    a, b = fx.tensor([2.0, 3.0], requires_grad=True), fx.tensor([4.0, 5.0], requires_grad=True)
    x, y = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([4.0, 5.0], requires_grad=True)
    for p, q in ((a, b), (x, y)):
        (-((p + q) * p - q / p) ** 2 % 7 + abs(p @ q) + 2 ** p - (1 - q) / 3).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), x.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), y.grad.numpy(), rtol=1e-6)


# One element

def test_conversions():
    assert int(fx.tensor(3.7)) == 3 and float(fx.tensor([2])) == 2.0 and complex(fx.tensor(1.5)) == 1.5
    assert bool(fx.tensor([[0.5]])) and not fx.tensor(0)
    assert [10, 20, 30][fx.tensor(1)] == 20 and list(range(fx.tensor(2))) == [0, 1]
    assert type(fx.tensor(2.0).item()) is float and type(fx.tensor(2).item()) is int and fx.tensor(True).item() is True
    for name in NAMES:
        assert fx.tensor(1, dtype=getattr(fx, name)).item() == 1
    for convert in (int, float, complex, lambda t: t.item()):
        for size in (0, 2):
            with pytest.raises(RuntimeError, match=f"a Tensor with {size} elements cannot be converted to Scalar"):
                convert(fx.zeros(size))
    for size, what in ((0, "no values"), (2, "more than one value")):
        with pytest.raises(RuntimeError, match=f"Boolean value of Tensor with {what} is ambiguous"):
            bool(fx.zeros(size))
    for value in (fx.tensor(1.0), fx.tensor([1, 2])):
        with pytest.raises(TypeError, match="only integer tensors of a single element"):
            operator.index(value)
    with pytest.raises(OverflowError):
        int(fx.tensor(float("inf")))


def test_tolist():
    for name in NAMES:
        a, x = both(name, 2, 3)
        assert a.tolist() == x.tolist() and type(a.tolist()[0][0]) is type(x.tolist()[0][0])
        assert a.T.tolist() == x.T.tolist()
    assert fx.tensor(5).tolist() == 5 and fx.zeros(2, 0).tolist() == [[], []] and fx.zeros(0, 2).tolist() == []


# A container

def test_container():
    x = fx.arange(6.0).reshape(2, 3)
    assert len(x) == 2 and [row.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]]
    assert 4 in x and 7.5 not in x and fx.tensor(5.0) in x
    a, b = x
    assert b.tolist() == [3, 4, 5] and a.data_ptr() == x.data_ptr()
    with pytest.raises(TypeError, match="len"):
        len(fx.tensor(1))
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(fx.tensor(1))
    with pytest.raises(RuntimeError, match="__contains__"):
        "a" in x        # noqa: B015
    assert list(fx.zeros(0)) == []
    assert x[1, 2] == 5 and x[:, -1].tolist() == [2, 5]
    x[0] = 7
    assert x.tolist() == [[7, 7, 7], [3, 4, 5]]


def test_hash_is_identity():
    x = fx.ones(2)
    assert hash(x) == hash(x) and x in {x} and len({x, fx.ones(2)}) == 2 and {x: 1}[x] == 1


# Shape properties

def test_transposes():
    for shape in ((), (3,), (2, 3), (2, 3, 4)):
        x = torch.arange(float(np.prod(shape, dtype=int))).reshape(shape)
        a = fx.from_numpy(x.numpy())
        assert a.T.tolist() == x.numpy().T.tolist() and a.T.data_ptr() == a.data_ptr()
        if len(shape) < 2:
            with pytest.raises(RuntimeError, match="mT is only supported"):
                _ = a.mT
        else:
            assert a.mT.tolist() == a.mH.tolist() == x.mT.tolist()
        if len(shape) in (0, 2):
            assert a.H.tolist() == x.H.tolist()
        else:
            with pytest.raises(RuntimeError, match="H is only supported"):
                _ = a.H
    x = fx.ones(2, 3, requires_grad=True)
    (x.T * fx.arange(6.0).reshape(3, 2)).sum().backward()
    assert x.grad.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_the_class_called_as_pytorchs():
    for given in ([1.0, 2.0], [[1, 2], [3, 4]], (1, 2), np.arange(3), []):
        same(fx.Tensor(given), torch.Tensor(given))
    for sizes in ((), (0,), (2, 3), (2, 0, 4)):
        made = fx.Tensor(*sizes)
        assert made.shape == tuple(torch.Tensor(*sizes).shape) and made.dtype is fx.float32
        assert (made.fill_(1) + 1).clone().sum().item() == 2 * made.numel()
    x = fx.tensor([1.0])
    assert fx.Tensor(x).data_ptr() == x.data_ptr()

    class Named(fx.Tensor):
        pass

    class Scaled(fx.Tensor):
        def __new__(cls, data, scale):
            return as_subclass(fx.tensor(data) * scale, cls)

    assert type(Named([1.0])) is Named and Named([1.0]).tolist() == [1.0]
    assert Scaled([1.0, 2.0], scale=3).tolist() == [3.0, 6.0]
    for wrong in ((2.5,), (1, 2.5), (True,), ([1], [2])):
        with pytest.raises(TypeError, match="expected sizes, or one sequence"):
            fx.Tensor(*wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dtype'"):
        fx.Tensor([1], dtype=fx.int32)


def test_copies_between_windows_that_overlap():
    for forward in (False, True):
        for step in (1, 3):
            a, x = fx.arange(100_000), np.arange(100_000)
            if forward:
                a[step:] = a[:-step]
                x[step:] = x[:-step].copy()
            else:
                a[:-step].copy_(a[step:])
                x[:-step] = x[step:].copy()
            np.testing.assert_array_equal(a.numpy(), x)
    a, x = fx.arange(300 * 300).reshape(300, 300), np.arange(300 * 300).reshape(300, 300)
    a.copy_(a.T)
    np.testing.assert_array_equal(a.numpy(), x.T)
    a[:, 1:] = a[:, :-1].float()
    np.testing.assert_array_equal(a.numpy()[:, 1:], x.T[:, :-1])


# Dtype and device

@pytest.mark.parametrize("method",
                         ["float", "double", "half", "bfloat16", "int", "long", "short", "char", "byte", "bool"])
def test_casts(method):
    for name in NAMES:
        a, x = both(name, 5, low=0)
        same(getattr(a, method)(), getattr(x, method)())
        got = getattr(a, method)()
        assert (got is a) == (got.dtype is a.dtype)


def test_to():
    x = fx.tensor([1, 2])
    assert x.to(fx.int64) is x and x.to("cpu") is x and x.to(fx.device("cpu")) is x and x.to(x) is x and x.to() is x
    assert x.to(fx.float32).dtype is x.to(dtype=fx.float32).dtype is x.to("cpu", fx.float32).dtype is fx.float32
    assert x.to(fx.zeros(1, dtype=fx.float64)).dtype is fx.float64
    assert x.to(other=fx.zeros(1)).dtype is fx.float32 and x.to(float).dtype is fx.float64
    assert x.to("cpu", fx.int64, False, True) is not x and x.to(fx.int64, copy=True).data_ptr() != x.data_ptr()
    assert x.cpu() is x and x.type_as(fx.zeros(1)).dtype is fx.float32
    with pytest.raises(RuntimeError):
        x.to("gpu")
    with pytest.raises(TypeError):
        x.to(fx.int64, False, True, 3, 4)
    if not fx.cuda.is_available():
        for convert in (lambda: x.to("cuda"), lambda: x.cuda(), lambda: fx.zeros(1, device="cuda:0")):
            with pytest.raises(RuntimeError, match="cuda"):
                convert()


def test_casts_are_differentiable():
    x = fx.tensor([1.5, 2.5], requires_grad=True)
    (x.double() * fx.tensor([2.0, 3.0], dtype=fx.float64)).sum().backward()
    assert x.grad.dtype is fx.float32 and x.grad.tolist() == [2, 3]
    assert not x.int().requires_grad and x.to(fx.float32, copy=True).requires_grad


def test_type():
    x = fx.tensor([1.5])
    assert x.type() == "ferrox.FloatTensor" and x.type(fx.int64).dtype is fx.int64
    assert x.type("torch.DoubleTensor").dtype is fx.float64 and x.type("float16").dtype is fx.float16
    assert fx.typename(x.bool()) == "ferrox.BoolTensor" and fx.typename(3) == "int"
    assert x.get_device() == -1


# Elements in place

def test_copy_():
    x = fx.zeros(2, 3)
    assert x.copy_(fx.tensor([1, 2, 3])) is x and x.tolist() == [[1, 2, 3]] * 2
    x.T.copy_(fx.tensor([[1.0], [2.0], [3.5]]))
    assert x.tolist() == [[1, 2, 3.5]] * 2
    assert fx.zeros(2, dtype=fx.int32).copy_(fx.tensor([1.7, -2.7])).tolist() == [1, -2]
    assert fx.zeros(2).copy_(np.array([5, 6])).tolist() == [5, 6]
    with pytest.raises(RuntimeError):
        x.copy_(fx.zeros(4))


def test_copy_with_gradients():
    source, other = fx.tensor([1.0, 2.0], requires_grad=True), fx.tensor([3.0], requires_grad=True)
    target = source * 2
    target.copy_(other)
    (target * fx.tensor([5.0, 6.0])).sum().backward()
    assert source.grad is None or source.grad.tolist() == [0, 0]
    assert other.grad.tolist() == [11]
    grid = fx.zeros(2, 2)
    grid[0].copy_(source)
    (grid * grid).sum().backward()
    assert source.grad.tolist() == [2, 4]
    with pytest.raises(RuntimeError, match="leaf"):
        source.copy_(other)
    with fx.no_grad():
        source.copy_(other)
    assert source.tolist() == [3, 3]


def test_fill_and_zero():
    for name in NAMES:
        x = fx.zeros(2, 3, dtype=getattr(fx, name))
        assert x.fill_(1) is x and x.tolist() == [[1, 1, 1]] * 2
        assert x.T.zero_().tolist() == [[0, 0]] * 3
    assert fx.zeros(2).fill_(fx.tensor(3)).tolist() == [3, 3] and fx.zeros(1).fill_(np.float32(2)).tolist() == [2]
    with pytest.raises(RuntimeError, match="0-dimension"):
        fx.zeros(2).fill_(fx.zeros(2))
    with pytest.raises(RuntimeError, match="overflow"):
        fx.zeros(2, dtype=fx.int8).fill_(300)
    with pytest.raises(RuntimeError, match="single memory location"):
        fx.zeros(1).expand(3).fill_(1)
    x = fx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * x
    y[:2].zero_()
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 6]
    with pytest.raises(RuntimeError, match="leaf"):
        x.zero_()


def test_in_place_change_of_a_saved_value_is_named():
    for change in (lambda t: t.fill_(1), lambda t: t.copy_(fx.zeros(2)), lambda t: t.zero_(), lambda t: t.uniform_()):
        x = fx.tensor([1.0, 2.0], requires_grad=True)
        w = fx.tensor([3.0, 4.0])
        y = (x * w).sum()
        change(w)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


# Autograd state

def test_detach_shares_storage_and_versions():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = y.detach()
    assert z.data_ptr() == y.data_ptr() and z.is_leaf and not z.requires_grad and z.grad_fn is None
    z.add_(1)
    assert y.tolist() == [2, 5] and y._version == z._version
    w = (x * 3)
    assert w.detach_() is w and w.is_leaf and not w.requires_grad
    with pytest.raises(RuntimeError, match="detach views"):
        (x * 1)[0].detach_()


def test_data():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    x.data.mul_(2)
    assert x.tolist() == [2, 4] and not x.data.requires_grad
    new = fx.tensor([[7.0]])
    x.data = new
    assert x.tolist() == [[7]] and x.requires_grad and x.data_ptr() == new.data_ptr()
    with pytest.raises(TypeError):
        x.data = [1.0]
    with pytest.raises(RuntimeError, match="floating point"):
        x.data = fx.tensor([1])


def test_requires_grad():
    x = fx.ones(2)
    assert x.requires_grad_() is x and x.requires_grad
    x.requires_grad = False
    assert not x.requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        fx.tensor([1]).requires_grad_()
    y = fx.ones(2, requires_grad=True) * 2
    y.requires_grad_()
    with pytest.raises(RuntimeError, match="leaf variables"):
        y.requires_grad = False


def test_grad_setter():
    x = fx.ones(2, requires_grad=True)
    g = fx.tensor([3.0, 4.0])
    x.grad = g
    assert x.grad is g
    del x.grad
    assert x.grad is None
    for wrong, error in (([1.0, 2.0], TypeError), (fx.ones(3), RuntimeError),
                         (fx.ones(2, dtype=fx.float64), RuntimeError), (x, RuntimeError)):
        with pytest.raises(error):
            x.grad = wrong
    x.grad = None
    assert x.grad is None


def test_retain_grad():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    assert not y.retains_grad
    y.retain_grad()
    y.retain_grad()
    x.retain_grad()
    assert y.retains_grad and not x.retains_grad
    (y * y).sum().backward()
    assert y.grad.tolist() == [6, 12] and x.grad.tolist() == [18, 36]
    with pytest.raises(RuntimeError, match="retain_grad"):
        fx.ones(2).retain_grad()


def test_hooks():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()) or g * 2)
    after = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 3).sum().backward()
    assert seen == [[3, 3], [6, 6]]
    handle.remove()
    after.remove()
    (x * 3).sum().backward()
    assert seen == [[3, 3], [6, 6]] and x.grad.tolist() == [9, 9]
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        fx.ones(2).register_hook(print)
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_hooked_tensors_are_collected():
    x = fx.ones(2, requires_grad=True)
    alive = weakref.ref(x)
    x.register_hook(lambda g, x=x: None)
    del x
    gc.collect()
    assert alive() is None


# The module

def test_queries():
    x = fx.ones(2, 3)
    assert fx.is_tensor(x) and not fx.is_tensor([1]) and fx.numel(x) == 6
    assert fx.is_floating_point(x) and not fx.is_floating_point(x.int()) and not fx.is_complex(x)
    assert fx.is_nonzero(fx.tensor(2)) and not fx.is_nonzero(fx.tensor([0.0]))
    for a in NAMES:
        for b in NAMES:
            assert fx.can_cast(getattr(fx, a), getattr(fx, b)) == torch.can_cast(getattr(torch, a), getattr(torch, b))
    for a in NAMES:
        for other in (3, 2.5, True, *NAMES):
            for first, second in (((2,), ()), ((2,), (2,)), ((), ()), ((), (2,))):
                theirs = torch.ones(second, dtype=getattr(torch, other)) if isinstance(other, str) else other
                ours = fx.ones(second, dtype=getattr(fx, other)) if isinstance(other, str) else other
                expected = torch.result_type(torch.ones(first, dtype=getattr(torch, a)), theirs)
                got = fx.result_type(fx.ones(first, dtype=getattr(fx, a)), ours)
                assert str(got)[7:] == str(expected)[6:], (a, other, first, second)


def test_memory_of_the_cpu():
    before = fx.cpu.memory_stats()
    kept = fx.zeros(1 << 20, dtype=fx.uint8)
    stats = fx.cpu.memory_stats()
    assert stats["in_use"] - before["in_use"] >= 1 << 20 and stats["peak"] >= stats["in_use"]
    assert stats["allocations"] > before["allocations"]
    del kept
    assert fx.cpu.memory_stats()["cached"] >= 1 << 20
    fx.cpu.empty_cache()
    assert fx.cpu.memory_stats()["cached"] == 0
    limit = fx.cpu.set_memory_limit(fx.cpu.memory_stats()["in_use"] + (1 << 20))
    try:
        with pytest.raises(fx.OutOfMemoryError):
            fx.zeros(1 << 22)
        assert fx.zeros(10).tolist() == [0] * 10
    finally:
        fx.cpu.set_memory_limit(limit)
    assert fx.zeros(1 << 22).shape == (1 << 22,)
    with pytest.raises(ValueError):
        fx.cpu.set_memory_limit(-1)


def test_cuda_says_why_not():
    if fx.cuda.is_available():
        assert fx.cuda.why_not() == ""
    else:
        assert fx.cuda.device_count() == 0 and fx.cuda.why_not().count(".") == 1


def test_surface_is_lazy():
    code = ("import sys, ferrox as fx; assert 'numpy' not in sys.modules; assert 'ferrox.nn' not in sys.modules; "
            "x = fx.tensor([1.5], requires_grad=True); y = (x * 2).sum(); y.backward(); repr(x); x.grad.item(); "
            "fx.rand(2); "
            "assert 'numpy' not in sys.modules; fx.nn, fx.optim, fx.utils, fx.metrics, fx.no_grad, fx.save, fx.cpu; "
            "assert {'nn', 'no_grad', 'save', 'zeros', 'Tensor'} <= set(dir(fx))\n"
            "try: fx.no_such_name\nexcept AttributeError as error: assert 'no_such_name' in str(error)\n"
            "else: raise SystemExit(1)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
