"""Strided, overlapping and cast arrays become contiguous ones for the drivers behind `dense`, and come back."""

import os

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.cuda import device_memory
from ferrox._core.door.backend import run_kernel


@pytest.fixture(autouse=True)
def _open():
    fx.zeros(1, device="cuda")
    # Registers its kernel.
    pytest.importorskip("ferrox._core.cuda.dense_probe", reason="built without -Dtesting=true")


NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
TYPES = dict(zip(NAMES, ("|b1", "|u1", "|i1", "<i2", "<i4", "<i8", "<f2", "<V2", "<f4", "<f8"), strict=True))


class OnDevice:
    """A device tensor as run_kernel wants its arrays."""

    def __init__(self, tensor):
        size = tensor.element_size()
        self.__array_interface__ = {
            "shape": tuple(tensor.shape), "typestr": TYPES[tensor.dtype.name], "data": (tensor.data_ptr(), False),
            "strides": tuple(step * size for step in tensor.stride()), "version": 3,
        }  # fmt: skip


def numbers(tensor):
    tensor = tensor.cpu().contiguous()
    return (tensor.to(fx.float32) if tensor.dtype in (fx.bfloat16, fx.float16) else tensor).numpy()


def probe(out, kept, x, dtype="float32", scalars=()):
    arrays = [None if each is None else OnDevice(each) for each in (out, kept, x)]
    run_kernel("dense_probe", arrays, 2, (), dtype, scalars, device_type=1)


@pytest.mark.parametrize("target", ["contiguous", "transposed", "columns"])
@pytest.mark.parametrize("source", ["contiguous", "transposed", "columns", "row"])
def test_layouts(source, target):
    layouts = {
        "contiguous": lambda: fx.arange(12.0, device="cpu").cuda().reshape(3, 4),
        "transposed": lambda: fx.arange(12.0, device="cpu").cuda().reshape(4, 3).t(),
        "columns": lambda: fx.arange(24.0, device="cpu").cuda().reshape(3, 8)[:, 1::2],
        "row": lambda: fx.arange(4.0, device="cpu").cuda().expand(3, 4),
    }
    x, out = layouts[source](), layouts[target]()
    expected = numbers(x)
    probe(out, None, x)
    np.testing.assert_array_equal(numbers(out), expected)
    if target == "columns":
        np.testing.assert_array_equal(numbers(out._base).ravel()[::2], np.arange(0, 24, 2))


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("held", NAMES)
def test_casts(dtype, held):
    x = fx.tensor([0, 1, 1, 0, 1]).to(getattr(fx, held)).cuda()
    out = fx.zeros(5, dtype=getattr(fx, held), device="cuda")
    probe(out, None, x, dtype)
    assert numbers(out).tolist() == numbers(x).tolist()


@pytest.mark.parametrize("dtype", ["int64", "float32", "bfloat16"])
def test_kept_outputs_hold_what_they_held(dtype):
    kept = fx.arange(10, device="cpu").to(getattr(fx, dtype)).cuda()
    x = fx.ones(2, device="cuda")
    probe(fx.zeros(2, device="cuda"), kept[1::3], x)
    assert numbers(kept).tolist() == [0, 7, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("shift", [-3, -1, 0, 1, 5])
def test_an_output_over_an_input(shift):
    x = fx.arange(40.0, device="cpu").cuda()
    probe(x[10 + shift : 30 + shift], None, x[10:30])
    expected = np.arange(40.0)
    expected[10 + shift : 30 + shift] = np.arange(10.0, 30.0)
    assert x.tolist() == expected.tolist()


def test_a_host_scalar():
    out = fx.zeros((), device="cuda")
    probe(out, None, fx.tensor(2.5), scalars=(2,))
    assert out.item() == 2.5


def test_empty_and_without_dimensions():
    probe(fx.zeros(0, 3, device="cuda"), None, fx.zeros(0, 3, device="cuda"))
    out = fx.zeros((), device="cuda")
    probe(out, None, fx.tensor(4.0, device="cuda"))
    assert out.item() == 4


def test_scratch_is_given_back():
    if os.environ.get("FERROX_NO_CUDA_MEMORY_CACHING", "0") != "0":
        pytest.skip("the allocator is not asked")
    allocator = device_memory.allocator(0)
    x, out = fx.zeros(30, 20, device="cuda").t(), fx.zeros(30, 20, device="cuda").t()
    before = allocator.memory_stats()["allocated_bytes.all.current"]
    probe(out, None, x)
    assert allocator.memory_stats()["allocated_bytes.all.current"] == before
    assert allocator.memory_stats()["allocated_bytes.all.peak"] >= before + 2 * 2560


def test_no_memory_for_scratch(simulator):
    import ctypes

    x = fx.zeros(4000, 4000, device="cuda").t()
    out = fx.zeros(4000, 4000, device="cuda")
    device_memory.allocator(0).empty_cache()
    simulator.fxsim_limit(0, ctypes.c_uint64(1 << 20))  # below what is in use
    with pytest.raises(MemoryError):
        probe(out, None, x)
    assert out[0, 0].item() == 0
