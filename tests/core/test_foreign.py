"""What comes from other libraries: their tensors, their dtypes, their bools; NumPy's functions; users' own classes."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest

import ferrox as fx


@pytest.mark.parametrize("given", [float, np.float64, np.dtype("float64"), "float64", fx.float64], ids=str)
def test_dtypes_of_others(given):
    x = fx.ones(2, 3)
    made = [
        fx.ones(2, dtype=given), fx.zeros_like(x, dtype=given), fx.tensor([1], dtype=given),
        fx.arange(3, dtype=given), fx.rand(2, dtype=given), x.sum(dtype=given), x.cumsum(0, dtype=given), x.to(given),
        x.softmax(0, dtype=given), x.new_ones(2, dtype=given), fx.eye(2, dtype=given), fx.full((2,), 1, dtype=given),
        fx.as_tensor([1.0], dtype=given), x.prod(dtype=given), fx.linspace(0, 1, 3, dtype=given), x.mean(dtype=given),
    ]  # fmt: skip
    assert {each.dtype for each in made} == {fx.float64}
    assert fx.promote_types(given, fx.float32) is fx.float64 and fx.finfo(given).bits == 64


def test_types_of_python():
    x = fx.tensor([1.5, 0.0])
    assert (x.to(int).dtype, x.to(bool).dtype, x.type(float).dtype) == (fx.int64, fx.bool, fx.float64)
    assert x.double().view(int).dtype is fx.int64 and fx.empty(2, dtype=int).dtype is fx.int64
    assert x.to("cpu", float).dtype is fx.float64 and x.to("int32").dtype is fx.int32
    with pytest.raises(RuntimeError, match="float33"):
        x.to("float33")


def test_series_of_pandas():
    pandas = pytest.importorskip("pandas")
    assert fx.tensor(pandas.Series([1.5, 2.5])).dtype is fx.float64
    assert fx.tensor(pandas.Series([1, 2], index=[7, 9])).tolist() == [1, 2]
    assert fx.as_tensor(pandas.DataFrame({"a": [1.0], "b": [2.0]})).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int64", "uint8", "bool"])
def test_tensors_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.tensor([[0, 1], [1, 1]], dtype=getattr(torch, dtype))
    for made in (fx.tensor(theirs), fx.as_tensor(theirs), fx.asarray(theirs), fx.tensor(theirs.T)):
        assert made.dtype is getattr(fx, dtype) and made.sum().item() == 3
    shared, copied = fx.as_tensor(theirs), fx.tensor(theirs)
    theirs[0, 0] = 1
    assert shared[0, 0].item() == 1 and copied[0, 0].item() == 0


def test_tensors_of_pytorch_in_expressions():
    torch = pytest.importorskip("torch")
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    theirs = torch.tensor([3.0, 4.0])
    for got, expected in ((x + theirs, [4, 6]), (x * theirs, [3, 8]), (theirs - x, [2, 2]), (x == theirs, [0, 0])):
        assert isinstance(got, fx.Tensor) and got.tolist() == expected
    (x * theirs).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
    y = fx.zeros(2, 2)
    y[0] = theirs
    y[1, 1] = torch.tensor(9.0)
    assert y.tolist() == [[3.0, 4.0], [0.0, 9.0]]
    assert y.copy_(theirs).tolist() == [[3.0, 4.0], [3.0, 4.0]]


def test_lists_of_tensors_and_arrays():
    torch = pytest.importorskip("torch")
    made = fx.tensor([fx.tensor(1.0), torch.tensor(2.0), np.float32(3), 4])
    assert made.tolist() == [1.0, 2.0, 3.0, 4.0] and made.dtype is fx.float32
    made = fx.tensor([np.array([1, 2]), [3, 4], torch.tensor([5, 6]), (np.int64(7), fx.tensor(8))])
    assert made.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]] and made.dtype is fx.int64


def test_an_array_that_is_changed_stays_the_array():
    r = np.array([1.0, 2.0])
    same = r
    r += fx.tensor([10.0, 20.0])
    r *= fx.tensor(2.0)
    r -= fx.ones(2)
    assert r is same and r.tolist() == [21.0, 43.0]
    m = np.array([[1.0, 2.0], [3.0, 4.0]])
    same = m
    m @= fx.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=fx.float64)
    assert m is same and m.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert np.add(r, fx.ones(2), out=r) is r and r.tolist() == [22.0, 44.0]
    with pytest.raises(RuntimeError, match="requires grad"):
        r += fx.ones(2, requires_grad=True)
    assert r.tolist() == [22.0, 44.0]
    integers = np.array([1, 2])
    with pytest.raises(TypeError):
        integers += fx.tensor([0.5, 0.5])
    x = fx.zeros(2)
    version = x._version
    assert np.multiply(r, 2, out=x) is x and x.tolist() == [44.0, 88.0] and x._version > version


def test_arrays_on_the_left_record():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = fx.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=fx.float64, requires_grad=True)
    for got, expected in (
        (a + x, a + x.detach().numpy()), (a - x, a - x.detach().numpy()), (a * x, a * x.detach().numpy()),
        (a @ x, a @ x.detach().numpy()), (a ** x, a ** x.detach().numpy()), (np.add(a, x), a + x.detach().numpy()),
    ):  # fmt: skip
        assert isinstance(got, fx.Tensor) and got.requires_grad
        np.testing.assert_allclose(got.detach().numpy(), expected)
    (a @ x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), a.T @ np.ones((2, 2)))
    assert (a == x).tolist() == (a == x.detach().numpy()).tolist() and (a < x).dtype is fx.bool
    assert (np.float64(2) * fx.ones(2)).dtype is fx.float32 and np.exp(fx.zeros(2)).tolist() == [1.0, 1.0]


def dirty():
    return np.array([0, 1, 2, 255], dtype=np.uint8)


def test_bools_are_zero_and_one():
    torch = pytest.importorskip("torch")
    for made in (
        fx.tensor(dirty().view(bool)), fx.from_numpy(dirty().view(bool)), fx.as_tensor(dirty().view(bool)[::-1]),
        fx.frombuffer(dirty().tobytes(), dtype=fx.bool), fx.from_dlpack(torch.tensor(dirty()).view(torch.bool)),
        fx.tensor(torch.tensor(dirty()).view(torch.bool)), fx.from_dlpack(dirty().view(bool)),
    ):  # fmt: skip
        assert made.sum().item() == 3 and sorted(made.view(fx.uint8).tolist()) == [0, 1, 1, 1]
    with pytest.raises(RuntimeError, match="others than 0 and 1"):
        fx.tensor(dirty()).view(fx.bool)
    bits = fx.tensor([0, 1], dtype=fx.uint8)
    assert bits.view(fx.bool).data_ptr() == bits.data_ptr()
    clean = np.array([True, False])
    assert fx.from_numpy(clean).data_ptr() == clean.ctypes.data


def test_bools_of_a_pickle():
    x = fx.tensor([True, False, True])
    bad = pickle.dumps(x, 4).replace(b"\x01\x00\x01", b"\x07\x00\xff")
    assert pickle.loads(bad).sum().item() == 2


def test_attributes_of_the_users():
    x = fx.ones(2)
    assert not hasattr(x, "note")
    x.note = ["a"]
    assert vars(x) == {"note": ["a"]} and x.note == ["a"]
    assert copy.copy(x).note is x.note
    copied = copy.deepcopy(x)
    assert copied.note == ["a"] and copied.note is not x.note
    assert pickle.loads(pickle.dumps(x)).note == ["a"]
    assert not hasattr(x + 1, "note") and not hasattr(x.detach(), "note")
    del x.note
    with pytest.raises(AttributeError, match=r"'ferrox\.Tensor' object has no attribute 'note'"):
        x.note  # noqa: B018
    with pytest.raises(AttributeError):
        x.shape = (1,)
    parameter = fx.nn.Parameter(fx.ones(2))
    parameter.group = 3
    assert pickle.loads(pickle.dumps(parameter)).group == 3
    attributes = vars(fx.ones(2))
    attributes["kept"] = 1
    assert attributes == {"kept": 1}


def test_a_tensor_that_holds_itself_is_collected():
    x = fx.ones(2)
    x.me = x
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None


def test_sizes():
    shape = fx.zeros(2, 3, 4).shape
    assert type(shape) is type(fx.zeros(2).size()) is fx.Size and shape == (2, 3, 4) and hash(shape) == hash((2, 3, 4))
    assert shape.numel() == 24 and shape[1:].numel() == 12 and fx.zeros(()).shape.numel() == 1
    five = (5,)
    loaded = pickle.loads(pickle.dumps(shape))
    for made in (shape[1:], shape + five, five + shape, shape * 2, 2 * shape, shape[::-1], loaded):
        assert type(made) is fx.Size
    assert (shape + five, five + shape, shape[-1], shape[::-2]) == ((2, 3, 4, 5), (5, 2, 3, 4), 4, (4, 2))
    assert type(shape[0]) is int and type(fx.zeros(2).stride()) is tuple and fx.zeros(shape).shape == shape
    with pytest.raises(IndexError):
        shape[3]
    with pytest.raises(TypeError, match=r"item 1 is 'float'"):
        fx.Size([1, 2.5])


def test_what_scripts_ask_of_a_tensor():
    torch = pytest.importorskip("torch")
    mine, theirs = fx.ones(2, 3).t(), torch.ones(2, 3).t()
    for name in ("is_sparse", "is_sparse_csr", "is_quantized", "is_meta", "is_mkldnn", "is_nested", "is_mps", "is_xla",
                 "is_xpu", "is_ipu", "is_maia", "is_mtia", "is_vulkan", "name"):  # fmt: skip
        assert getattr(mine, name) == getattr(theirs, name), name
    for name in ("is_conj", "is_neg", "is_distributed", "is_inference", "is_shared", "is_signed", "dense_dim",
                 "sparse_dim", "dim_order"):  # fmt: skip
        assert getattr(mine, name)() == getattr(theirs, name)(), name
    assert mine.layout is fx.strided and repr(mine.layout) == "ferrox.strided" and isinstance(mine.layout, fx.layout)
    assert mine.real is mine and mine.conj() is mine and mine.to_dense() is mine
    assert mine.is_same_size(mine + 1) and mine.is_set_to(mine.detach()) and not mine.is_set_to(mine.clone())
    values = np.random.default_rng(3).normal(size=(2, 3, 4))
    for size in ((1, 3, 1), (3, 4), (4,), (2, 3, 4), (1, 1, 1)):
        expected = torch.tensor(values).sum_to_size(size).numpy()
        np.testing.assert_allclose(fx.tensor(values).sum_to_size(size).numpy(), expected)
    assert fx.arange(3).apply_(lambda each: 2 * each).tolist() == [0, 2, 4]
    assert mine.new(2, 3).shape == (2, 3) and mine.new([1, 2]).tolist() == [1.0, 2.0]
    assert [each.tolist() for each in reversed(fx.arange(3))] == [2, 1, 0]


EVIL = """
import random
import numpy as np
import ferrox as fx

rng = random.Random({seed})
held = []

def trouble():
    what = rng.randrange(4)
    for each in held:
        if what == 0:
            each.clear()
        elif what == 1 and each:
            each.pop()
        elif what == 2:
            each.append(1)

class Int(int):
    def __bool__(self): trouble(); return True
    def __index__(self): trouble(); return 1
    def __float__(self): trouble(); return 1.0
    def __int__(self): trouble(); return 1

class Float(float):
    def __float__(self): trouble(); return 1.0
    def __bool__(self): trouble(); return True

class Index:
    def __index__(self): trouble(); return 1

class Sequence:
    def __len__(self): trouble(); return 3
    def __getitem__(self, at): trouble(); return 1

class Array:
    def __array__(self, dtype=None, copy=None): trouble(); return np.ones(2)

class Capsule:
    def __dlpack_device__(self): trouble(); return (1, 0)
    def __dlpack__(self, **options): trouble(); return np.ones(2).__dlpack__()

kinds = [Int, Float, Index, Sequence, Array, Capsule, lambda: 1, lambda: 2.0, lambda: True]
calls = [
    lambda l: fx.tensor(l), lambda l: fx.tensor(l, dtype=bool), lambda l: fx.tensor(l, dtype=fx.float16),
    lambda l: fx.as_tensor([l, l]), lambda l: fx.zeros(l), lambda l: fx.ones(2, 3).reshape(l),
    lambda l: fx.ones(2, 3)[l], lambda l: fx.ones(2, 3).sum(l), lambda l: fx.ones(2, 3).permute(l),
    lambda l: fx.ones(6).split(l), lambda l: fx.ones(2, 3).expand(l), lambda l: fx.cat(l), lambda l: fx.stack(l),
    lambda l: fx.ones(2, 3).index_put((l,), fx.ones(1)), lambda l: fx.Size(l), lambda l: fx.ones(2).new_tensor(l),
    lambda l: fx.ones(2, 3).__setitem__(l, 1), lambda l: fx.einsum("ij,jk", l), lambda l: fx.block_diag(*l),
    lambda l: fx.ones(2, 3).flip(l), lambda l: fx.ones(2, 3).roll(l, l), lambda l: fx.pad(fx.ones(2, 3), l),
    lambda l: fx.full(l, 1), lambda l: fx.ones(2, 3).tile(l), lambda l: fx.ones(2, 3).as_strided(l, l),
]
for _ in range(1500):
    made = [rng.choice(kinds)() for _ in range(rng.randrange(1, 12))]
    held[:] = [made]
    if rng.random() < 0.3:
        made.append([rng.choice(kinds)() for _ in range(3)])
        held.append(made[-1])
    try:
        rng.choice(calls)(made)
    except Exception:
        pass
print("alive")
"""


@pytest.mark.parametrize("seed", range(3))
def test_users_classes_cannot_break_memory(seed):
    command = [sys.executable, "-P", "-c", EVIL.replace("{seed}", str(seed))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "alive\n", (done.returncode, done.stderr[-2000:])


def test_a_list_that_its_items_empty():
    class Emptying(int):
        def __bool__(self):
            given.clear()
            return True

    given = [Emptying(1) for _ in range(100)]
    with pytest.raises(RuntimeError, match="changed while it was read"):
        fx.tensor(given, dtype=bool)
