import copy
import ctypes
import gc
import io
import pickle
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
from peers import torch

import ferrox as fx

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
ALL = [*NAMES[:-2], "bfloat16", *NAMES[-2:]]


def values(name, *shape):
    return np.random.default_rng(0).integers(0, 2 if name == "bool" else 9, shape).astype(name)


def address(array):
    return array.__array_interface__["data"][0]


# NumPy, in

@pytest.mark.parametrize("name", NAMES)
def test_from_numpy_shares_memory(name):
    array = values(name, 3, 4)
    tensor = fx.from_numpy(array)
    assert tensor.dtype is getattr(fx, name) and tensor.data_ptr() == address(array)
    array[1, 2] = 1
    assert tensor.tolist()[1][2] == 1
    tensor.zero_()
    assert not array.any()


@pytest.mark.parametrize("cut", [np.s_[::2], np.s_[:, ::-1], np.s_[1:1], np.s_[..., None], np.s_[2, 3]])
def test_from_numpy_strides(cut):
    array = np.arange(24.0).reshape(4, 6)[cut]
    if not isinstance(array, np.ndarray):
        array = np.asarray(array)
    tensor = fx.from_numpy(array)
    assert tensor.shape == array.shape
    assert tensor.tolist() == array.tolist()
    assert fx.from_numpy(array.T).tolist() == array.T.tolist()


def test_from_numpy_keeps_the_array_alive():
    array = np.arange(5.0)
    alive = weakref.ref(array)
    tensor = fx.from_numpy(array)
    del array
    gc.collect()
    assert alive() is not None and tensor.tolist() == [0, 1, 2, 3, 4]
    del tensor
    gc.collect()
    assert alive() is None


def test_from_numpy_read_only():
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = fx.from_numpy(array)
    with pytest.raises(RuntimeError, match="read-only"):
        tensor.add_(1)
    with pytest.raises(RuntimeError, match="read-only"):
        tensor.fill_(1)
    assert not tensor.numpy().flags.writeable
    assert (tensor + 1).tolist() == [1, 2, 3]


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([object()]), np.array([1.0], ">f8"),
                                   np.zeros(1, "u2"), np.zeros(1, "M8[s]")])
def test_from_numpy_refuses(array):
    with pytest.raises(TypeError, match=r"can't convert np\.ndarray"):
        fx.from_numpy(array)


def test_from_numpy_wants_an_array():
    with pytest.raises(TypeError, match=r"expected np\.ndarray"):
        fx.from_numpy([1])


def test_from_numpy_bfloat16():
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    tensor = fx.from_numpy(array)
    assert tensor.dtype is fx.bfloat16 and tensor.tolist() == [1.5, -2.0] and tensor.data_ptr() == address(array)


# NumPy, out

@pytest.mark.parametrize("name", NAMES)
def test_numpy_shares_memory(name):
    source = values(name, 3, 4)
    tensor = fx.tensor(source)
    for array in (tensor.numpy(), np.asarray(tensor), np.array(tensor, copy=False)):
        assert array.dtype == source.dtype and address(array) == tensor.data_ptr()
        np.testing.assert_array_equal(array, source)
    np.testing.assert_array_equal(tensor.T.numpy(), source.T)
    assert address(np.array(tensor)) != tensor.data_ptr()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_numpy_edge_shapes(shape):
    assert fx.ones(shape).numpy().shape == shape
    assert fx.ones(shape).expand(3, *shape).numpy().tolist() == np.ones((3, *shape)).tolist()


def test_array_dtype_and_copy():
    tensor = fx.tensor([1.5, 2.5])
    assert np.asarray(tensor, dtype="int32").tolist() == [1, 2]
    assert tensor.__array__(np.float64).dtype == np.float64
    with pytest.raises(ValueError):
        tensor.__array__(np.float64, copy=False)
    assert address(tensor.__array__(copy=True)) != tensor.data_ptr()


def test_numpy_of_a_tensor_that_requires_grad():
    tensor = fx.ones(2, requires_grad=True)
    for convert in (lambda t: t.numpy(), np.asarray):
        with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad. Use tensor.detach"):
            convert(tensor)
    with pytest.raises(BufferError):
        memoryview(tensor)
    assert tensor.detach().numpy().tolist() == [1, 1]
    assert tensor.numpy(force=True).tolist() == [1, 1]


def test_numpy_of_bfloat16():
    with pytest.raises(TypeError, match="BFloat16"):
        fx.ones(2, dtype=fx.bfloat16).numpy()
    with pytest.raises(BufferError):
        memoryview(fx.ones(2, dtype=fx.bfloat16))


def test_buffer_keeps_storage_through_data_assignment():
    tensor = fx.tensor([1.0, 2.0, 3.0])
    array = tensor.numpy()
    tensor.data = fx.zeros(500)
    fx.full((3,), 9.0)
    assert array.tolist() == [1, 2, 3]


def test_buffer_flags():
    tensor = fx.arange(6).reshape(2, 3)
    view = memoryview(tensor)
    assert (view.shape, view.strides, view.format, view.nbytes) == ((2, 3), (24, 8), "q", 48)
    assert view.cast("B").tobytes() == np.arange(6).tobytes()
    with pytest.raises(TypeError, match="not C contiguous"):
        ctypes.c_char.from_buffer(tensor.T)
    assert memoryview(tensor.T).f_contiguous
    assert io.BytesIO(tensor).read() == np.arange(6).tobytes()


def test_mixed_arithmetic_gives_tensors():
    array, tensor = np.array([1.0, 2.0], "f4"), fx.tensor([3.0, 4.0])
    for result in (array + tensor, tensor + array, array * tensor, tensor - array, array / tensor, array < tensor,
                   np.float32(2) * tensor, tensor * np.float64(2), np.int64(2) ** tensor):
        assert type(result) is fx.Tensor
    assert (array - tensor).tolist() == [-2, -2]
    assert (tensor - array).tolist() == [2, 2]
    assert (np.float64(2) * tensor).dtype is fx.float32     # a scalar, not an array
    assert (fx.tensor([1, 2]) * np.float32(0.5)).dtype is fx.float32
    assert (np.array([1.0]) * tensor).dtype is fx.float64
    tensor += array
    assert tensor.tolist() == [4, 6]
    tensor *= np.int64(2)
    assert tensor.tolist() == [8, 12]
    array += tensor.numpy()
    assert array.tolist() == [9, 14]
    assert type(np.sin(tensor)) is fx.Tensor
    np.testing.assert_allclose(np.sin(tensor).numpy(), np.sin(np.array([8.0, 12.0], "f4")))


def test_operators_take_numpy():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    fx.mul(x, np.array([3.0, 4.0], "f4")).sum().backward()
    assert x.grad.tolist() == [3, 4]
    assert fx.add(x, np.float32(1)).tolist() == [2, 3]
    with pytest.raises(TypeError):
        x + "a"
    with pytest.raises(TypeError):
        fx.add(x, None)


# raw bytes

def test_frombuffer():
    data = bytearray(np.arange(4, dtype="f4").tobytes())
    tensor = fx.frombuffer(data, dtype=fx.float32, offset=4, count=2)
    assert tensor.tolist() == [1, 2]
    tensor[0] = 7
    assert np.frombuffer(data, "f4")[1] == 7
    assert fx.frombuffer(data, dtype=fx.float32, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="read-only"):
        fx.frombuffer(b"abcd", dtype=fx.uint8).zero_()


@pytest.mark.parametrize(("size", "keywords"),
                         [(7, {}), (8, {"count": 3}), (8, {"offset": 9}), (0, {}), (8, {"count": 0}),
                                                (8, {"offset": -1}), (8, {"count": 2, "offset": 4})])
def test_frombuffer_refuses_as_pytorch(size, keywords):
    with pytest.raises(ValueError) as expected:
        torch.frombuffer(bytearray(size), dtype=torch.float32, **keywords)
    with pytest.raises(ValueError) as got:
        fx.frombuffer(bytearray(size), dtype=fx.float32, **keywords)
    assert str(got.value) == str(expected.value)


# DLPack

@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_with_torch(name, versioned):
    source = torch.arange(6).reshape(2, 3).to(getattr(torch, name)).T
    capsule = source.__dlpack__(max_version=(1, 0)) if versioned else source.__dlpack__()
    tensor = fx.from_dlpack(capsule)
    assert tensor.dtype is getattr(fx, name) and tensor.data_ptr() == source.data_ptr()
    assert tensor.tolist() == source.tolist() and tensor.stride() == source.stride()
    back = torch.from_dlpack(tensor.__dlpack__(max_version=(1, 0)) if versioned else tensor.__dlpack__())
    assert back.data_ptr() == source.data_ptr() and back.tolist() == source.tolist()
    assert fx.from_dlpack(source).tolist() == torch.from_dlpack(tensor).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_dlpack_with_numpy(name):
    array = values(name, 4, 3)[::2]
    tensor = fx.from_dlpack(array)
    assert tensor.data_ptr() == address(array) and tensor.tolist() == array.tolist()
    back = np.from_dlpack(tensor)
    assert address(back) == address(array) and back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_dlpack_lifetimes():
    tensor = fx.arange(1000.0)
    before = fx.cpu.memory_stats()["in_use"]
    other = torch.from_dlpack(tensor)
    expected = tensor.tolist()
    del tensor
    fx.full((1000,), -1.0)
    assert other.tolist() == expected
    del other
    gc.collect()
    assert fx.cpu.memory_stats()["in_use"] < before
    in_use = fx.cpu.memory_stats()["in_use"]
    for _ in range(10):                                     # capsules that nobody consumes
        fx.zeros(100).__dlpack__()
        fx.zeros(100).__dlpack__(max_version=(1, 0))
        fx.from_dlpack(fx.zeros(100).__dlpack__())
    assert fx.cpu.memory_stats()["in_use"] == in_use

    source = torch.arange(5.0)
    taken = fx.from_dlpack(source)
    del source
    gc.collect()
    assert taken.tolist() == [0, 1, 2, 3, 4]


def test_dlpack_capsule_is_consumed_once():
    capsule = fx.zeros(2).__dlpack__()
    fx.from_dlpack(capsule)
    with pytest.raises(ValueError, match="only once"):
        fx.from_dlpack(capsule)


def test_dlpack_rules():
    assert fx.zeros(2).__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="require gradient"):
        fx.zeros(2, requires_grad=True).__dlpack__()
    array = np.arange(3.0)
    array.flags.writeable = False
    read_only = fx.from_numpy(array)
    with pytest.raises(BufferError):
        read_only.__dlpack__()
    with pytest.raises(RuntimeError, match="read-only"):
        fx.from_dlpack(read_only).add_(1)
    assert not np.from_dlpack(read_only).flags.writeable
    tensor = fx.zeros(3)
    assert fx.from_dlpack(tensor, copy=True).data_ptr() != tensor.data_ptr()
    assert fx.from_dlpack(tensor, copy=False).data_ptr() == tensor.data_ptr()
    assert fx.from_dlpack(tensor, device="cpu").data_ptr() == tensor.data_ptr()
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="no dtype"):
        fx.from_dlpack(np.array([1j]))
    with pytest.raises(AttributeError):
        _ = tensor.__cuda_array_interface__


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_dlpack_edge_shapes(shape):
    assert torch.from_dlpack(fx.ones(shape)).shape == shape
    assert fx.from_dlpack(torch.ones(shape)).shape == shape


# Pickle and copy

@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(name, protocol):
    tensor = fx.arange(6).to(getattr(fx, name)).reshape(2, 3)
    for each in (tensor, tensor.T, tensor[1:, ::2], tensor[0, 0], tensor[:0]):
        again = pickle.loads(pickle.dumps(each, protocol))
        assert (again.dtype, again.shape, again.tolist()) == (each.dtype, each.shape, each.tolist())
        assert again.data_ptr() != each.data_ptr() or each.numel() == 0


def test_pickle_flags():
    assert pickle.loads(pickle.dumps(fx.ones(2, requires_grad=True))).requires_grad
    assert not pickle.loads(pickle.dumps(fx.ones(2))).requires_grad
    computed = pickle.loads(pickle.dumps(fx.ones(2, requires_grad=True) * 2))
    assert computed.is_leaf and computed.requires_grad


@pytest.mark.parametrize("way", [lambda obj: pickle.loads(pickle.dumps(obj)), copy.deepcopy])
def test_shared_memory_stays_shared(way):
    tensor = fx.arange(6.0).reshape(2, 3)
    whole, row, again = way((tensor, tensor[1], tensor))
    assert whole is again
    row.fill_(9)
    assert whole.tolist() == [[0, 1, 2], [9, 9, 9]]
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_pickle_out_of_band():
    tensor = fx.arange(1000.0)
    buffers = []
    text = pickle.dumps(tensor, protocol=5, buffer_callback=buffers.append)
    assert len(text) < 1000 and len(buffers) == 1
    assert pickle.loads(text, buffers=buffers).tolist() == tensor.tolist()


def test_pickle_of_a_window_on_foreign_memory_holds_the_window():
    array = np.arange(100000.0)
    assert len(pickle.dumps(fx.from_numpy(array)[:10])) < 1000


def test_copy_and_deepcopy():
    tensor = fx.tensor([1.0, 2.0], requires_grad=True)
    (tensor * tensor).sum().backward()
    shallow, deep = copy.copy(tensor), copy.deepcopy(tensor)
    assert shallow.data_ptr() == tensor.data_ptr() and shallow.requires_grad
    assert deep.data_ptr() != tensor.data_ptr() and deep.requires_grad and deep.is_leaf
    assert deep.grad.tolist() == [2, 4] and deep.grad.data_ptr() != tensor.grad.data_ptr()
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(tensor * 2)


class Named(fx.Tensor):
    pass


def test_subclass_pickles_with_its_attributes():
    from ferrox._core.tensor.base import as_subclass

    tensor = as_subclass(fx.ones(2), Named)
    tensor.label = "weights"
    for again in (pickle.loads(pickle.dumps(tensor)), copy.copy(tensor), copy.deepcopy(tensor)):
        assert type(again) is Named and again.label == "weights" and again.tolist() == [1, 1]


def test_parameter_pickles():
    parameter = fx.nn.Parameter(fx.ones(2))
    again = pickle.loads(pickle.dumps(parameter))
    assert type(again) is fx.nn.Parameter and again.requires_grad and again.tolist() == [1, 1]


def test_no_leak():
    tensor = fx.zeros(64)
    array = np.zeros(64)

    def once():
        tensor.numpy()
        fx.from_numpy(array)
        fx.from_dlpack(tensor)
        pickle.loads(pickle.dumps(tensor))
        copy.deepcopy(tensor)
        tensor.tolist()
        repr(tensor)

    for _ in range(3):
        once()
    gc.collect()
    in_use, references = fx.cpu.memory_stats()["in_use"], sys.getrefcount(array)
    for _ in range(50):
        once()
    gc.collect()
    assert fx.cpu.memory_stats()["in_use"] == in_use and sys.getrefcount(array) == references
