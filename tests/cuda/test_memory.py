"""Storage on a device comes from its caching allocator; what a refusal, a lost context and other streams look like."""

import gc

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.cuda import device_memory


def stats(device=0):
    return device_memory.allocator(device).memory_stats()


@pytest.fixture(autouse=True)
def _empty():
    fx.zeros(1, device="cuda")
    gc.collect()
    device_memory.allocator(0).empty_cache()


@pytest.mark.usefixtures("cached")
def test_storage_is_a_block_of_the_allocator():
    before = stats()["allocated_bytes.all.current"]
    x = fx.empty(1000, device="cuda")
    assert stats()["allocated_bytes.all.current"] - before == 4096
    assert stats()["requested_bytes.all.current"] >= 4000
    y = x[10:]
    del x
    assert stats()["allocated_bytes.all.current"] - before == 4096
    del y
    assert stats()["allocated_bytes.all.current"] == before


@pytest.mark.usefixtures("cached")
def test_a_freed_block_is_given_out_again_without_the_driver():
    x = fx.empty(5000, device="cuda")
    address, segments = x.data_ptr(), stats()["segment.all.allocated"]
    for _ in range(20):
        del x
        x = fx.empty(5000, device="cuda")
        assert x.data_ptr() == address
    assert stats()["segment.all.allocated"] == segments


@pytest.mark.usefixtures("cached")
def test_blocks_of_different_streams_are_apart():
    x = fx.empty(5000, device="cuda")
    address = x.data_ptr()
    del x
    with fx.cuda.stream(fx.cuda.Stream()):
        y = fx.empty(5000, device="cuda")
        assert y.data_ptr() != address
    assert fx.empty(5000, device="cuda").data_ptr() == address


@pytest.mark.usefixtures("cached")
def test_out_of_memory_says_the_numbers(simulator):
    import ctypes

    kept = fx.empty(3 << 20, dtype=fx.uint8, device="cuda")
    simulator.fxsim_limit(0, ctypes.c_uint64(64 << 20))
    with pytest.raises(fx.OutOfMemoryError) as raised:
        fx.empty(100 << 20, dtype=fx.uint8, device="cuda")
    said = str(raised.value)
    assert said.startswith("out of cuda:0 memory: requested 100 MiB")
    assert "device: " in said and "64 MiB" in said and "in use" in said and "largest free block" in said
    assert isinstance(raised.value, RuntimeError)
    assert kept.fill_(3)[-1].item() == 3  # all is as it was


@pytest.mark.usefixtures("cached")
def test_out_of_memory_names_the_operators_of_large_blocks(simulator):
    import ctypes

    x = fx.ones(3 << 20).cuda()
    kept = [x.exp(), x.sin().cos(), (x @ x).cpu(), fx.randn(1 << 19, device="cuda")]
    kept.append(x.view(3, -1).softmax(1))
    kept[0].add_(1)  # who asked for it stays
    with fx.no_grad(), fx.profiler.profile():
        kept.append(x.tanh())
    simulator.fxsim_limit(0, ctypes.c_uint64(128 << 20))
    with pytest.raises(fx.OutOfMemoryError) as raised:
        fx.empty(100 << 20, dtype=fx.uint8, device="cuda")
    owners = str(raised.value).split("biggest owners: ")[1]
    for each in ("to 12 MiB in 1", "exp 12 MiB in 1", "cos 12 MiB in 1", "softmax 12 MiB in 1", "tanh 12 MiB in 1"):
        assert f"{each} (largest 12 MiB)" in owners
    tags = [block["tag"] for segment in fx.cuda.memory_snapshot() for block in segment["blocks"]]
    assert "randn" in tags


@pytest.mark.usefixtures("cached")
def test_what_is_cached_is_returned_before_a_request_fails(simulator):
    import ctypes

    simulator.fxsim_limit(0, ctypes.c_uint64(200 << 20))
    for size in (60, 70, 80, 90, 100, 110, 120):
        x = fx.empty(size << 20, dtype=fx.uint8, device="cuda")
        del x
    assert stats()["num_alloc_retries"] > 0


@pytest.mark.usefixtures("cached")
def test_an_injected_failure_leaves_all_intact(simulator):
    x = fx.arange(10.0, device="cpu").cuda()
    simulator.fxsim_inject(b"cuMemAlloc", 1, 999)
    with pytest.raises(fx.cuda.CudaError, match="allocating memory"):
        fx.empty(50 << 20, dtype=fx.uint8, device="cuda")
    simulator.fxsim_inject(b"cuMemAlloc", 1, 2)  # out of memory: tried once more
    fx.empty(50 << 20, dtype=fx.uint8, device="cuda")
    assert (x + 1).tolist() == [k + 1.0 for k in range(10)]


def test_a_lost_context_is_said_as_such(python, simulator):
    program = """
import ctypes
import ferrox as fx
x = fx.ones(3, device="cuda")
sim = ctypes.CDLL("libcuda.so.1")
sim.fxsim_inject(b"cuMemcpyDtoHAsync", 1, 700)
try:
    x.cpu()
except fx.cuda.CudaError as error:
    print(error.name)
for size in (3, 100 << 20):
    try:
        fx.empty(size, device="cuda")
    except RuntimeError as error:
        print(type(error).__name__, "lost to an earlier error" in str(error), "allocating memory" in str(error))
"""
    assert python(program).split("\n") == ["CUDA_ERROR_ILLEGAL_ADDRESS", *["CudaError True True"] * 2]


def test_without_caching(python):
    program = """
import ferrox as fx
from ferrox._core.cuda import device_memory
x = fx.arange(10.0, device="cpu").cuda()
y = x[::2] + x[1::2]
del x
print(y.tolist(), device_memory.allocator(0).memory_stats()["allocation.all.allocated"])
"""
    assert python(program, FERROX_NO_CUDA_MEMORY_CACHING="1") == "[1.0, 5.0, 9.0, 13.0, 17.0] 0"


# One value of the host beside tensors of the device.


def test_a_cpu_tensor_without_dimensions_beside_cuda_tensors():
    x = fx.tensor([1.0, 2.0, 3.0], device="cuda")
    for two in (fx.tensor(2.0), fx.tensor(2)):
        assert (x * two).tolist() == [2.0, 4.0, 6.0] and (two - x).tolist() == [1.0, 0.0, -1.0]
        assert (two - x).device == x.device
        assert x.clone().add_(two).tolist() == [3.0, 4.0, 5.0]
    assert (fx.tensor(2.0) + fx.tensor(3.0, device="cuda")).device.type == "cuda"
    assert (fx.tensor(3.0, device="cuda") + fx.tensor(2.0)).tolist() == 5.0
    assert (x.to(fx.float16) * fx.tensor(2.0, dtype=fx.float64)).dtype == fx.float16
    assert (fx.arange(3, device="cpu").cuda() + fx.tensor(0.5)).tolist() == [0.5, 1.5, 2.5]


def test_what_has_dimensions_or_is_written_must_be_on_the_device():
    x = fx.ones(3, device="cuda")
    for other in (fx.ones(3), fx.ones(1), fx.ones(1, 1)):
        with pytest.raises(RuntimeError, match=r"same device.*cuda:0 and cpu"):
            x + other
    with pytest.raises(RuntimeError, match="same device"):
        fx.tensor(1.0).add_(fx.tensor(1.0, device="cuda"))


def test_the_gradient_of_a_cpu_value_comes_back_to_the_cpu():
    x = fx.tensor(3.0, device="cuda", requires_grad=True)
    w = fx.tensor(2.0, requires_grad=True)
    y = w.exp() * x
    y.backward()
    assert w.grad.device.type == "cpu" and x.grad.device.type == "cuda"
    np.testing.assert_allclose(w.grad.item(), 3 * np.exp(2.0), rtol=1e-6)
    np.testing.assert_allclose(x.grad.item(), np.exp(2.0), rtol=1e-6)


# What ferrox.cuda shows of it.


@pytest.mark.usefixtures("cached")
def test_statistics():
    gc.collect()
    before = fx.cuda.memory_allocated()
    fx.cuda.reset_peak_memory_stats()
    x = fx.empty(1 << 20, dtype=fx.uint8, device="cuda")
    assert fx.cuda.memory_allocated() == fx.cuda.memory_allocated("cuda:0") == before + (1 << 20)
    del x
    assert fx.cuda.memory_allocated() == before and fx.cuda.max_memory_allocated() >= before + (1 << 20)
    fx.cuda.reset_peak_memory_stats()
    assert fx.cuda.max_memory_allocated() == before
    assert fx.cuda.max_memory_reserved() >= fx.cuda.memory_reserved() >= 2 << 20
    fx.cuda.reset_accumulated_memory_stats()
    assert fx.cuda.memory_stats()["allocation.all.allocated"] == 0
    assert "Allocated memory" in fx.cuda.memory_summary()
    assert len(fx.cuda.memory_summary(abbreviated=True)) < len(fx.cuda.memory_summary())


@pytest.mark.usefixtures("cached")
def test_empty_cache_and_snapshot():
    kept = fx.empty(100, device="cuda")
    large = fx.empty(30 << 20, dtype=fx.uint8, device="cuda")
    held = fx.cuda.memory_reserved()
    del large
    assert fx.cuda.memory_reserved() == held
    fx.cuda.empty_cache()
    assert fx.cuda.memory_reserved() <= held - (30 << 20)
    blocks = [block for segment in fx.cuda.memory_snapshot(0) for block in segment["blocks"]]
    assert kept.data_ptr() in [b["address"] for b in blocks if b["state"] == "active_allocated"]
    assert len(fx.cuda.memory_snapshot()) >= len(fx.cuda.memory_snapshot(0))


@pytest.mark.usefixtures("cached")
def test_memory_fraction():
    total = fx.cuda.mem_get_info()[1]
    assert fx.cuda.get_per_process_memory_fraction() == 1.0
    fx.cuda.empty_cache()
    try:
        fx.cuda.set_per_process_memory_fraction(0.25)
        assert fx.cuda.get_per_process_memory_fraction() == 0.25
        with pytest.raises(fx.cuda.OutOfMemoryError, match="limit"):
            fx.empty(total // 3, dtype=fx.uint8, device="cuda")
    finally:
        device_memory.allocator(0).limit = None
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            fx.cuda.set_per_process_memory_fraction(wrong)
    with pytest.raises(TypeError):
        fx.cuda.set_per_process_memory_fraction("all")


def test_before_the_first_use(python):
    program = "import ferrox as fx; print(fx.cuda.memory_allocated(), fx.cuda.memory_stats(), fx.cuda.empty_cache())"
    assert python(program) == "0 {} None"


def test_where_with_a_cpu_value():
    x = fx.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    two = fx.tensor(2.0, requires_grad=True)
    y = fx.where(x > 2, x, two)
    assert y.tolist() == [2.0, 2.0, 3.0] and y.device == x.device
    y.sum().backward()
    assert two.grad.tolist() == 2 and two.grad.device.type == "cpu" and x.grad.tolist() == [0, 0, 1]
    with pytest.raises(RuntimeError, match="same device"):
        fx.where(fx.tensor([True]), x, x)
