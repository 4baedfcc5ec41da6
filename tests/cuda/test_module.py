"""Families of kernels: loading, lookup, launch, and what goes wrong there."""

import ctypes

import pytest

import ferrox as fx
from ferrox._core.cuda import families
from ferrox._core.cuda.module import attributes, launch_kernel


def pointer(tensor, offset=0):
    return ctypes.c_uint64(tensor.data_ptr() + offset)


@pytest.fixture
def probe(simulator):
    """Launch a kernel of tests/simulator/kernels/probe.cu, which is compiled for the simulator only."""
    return lambda name, *args, **more: launch_kernel("probe", name, *args, **more)


def scale(launch, x, y, factor, **more):
    n = x.numel()
    launch("scale", (n + 63) // 64, 64, [pointer(y), pointer(x), ctypes.c_float(factor), ctypes.c_int(n)], **more)


def test_launch(probe):
    x, y = fx.arange(1000.0).cuda(), fx.zeros(1000, device="cuda")
    scale(probe, x, y, 3.0)
    assert y.tolist() == [3.0 * k for k in range(1000)]


def test_launch_on_a_stream_and_a_device(probe):
    for device in range(2):
        x = fx.arange(100.0).to(f"cuda:{device}")
        y = fx.zeros(100, device=f"cuda:{device}")
        side = fx.cuda.Stream(device)
        side.wait_stream(fx.cuda.current_stream(device))
        scale(probe, x, y, 2.0, stream=side)
        side.synchronize()
        assert y.tolist() == [2.0 * k for k in range(100)]


@pytest.mark.parametrize("grid, block", [((3, 2, 4), (4, 3, 2)), ((1,), (1,)), ((5, 1, 7), (33, 1, 2))])
def test_grid_and_block(probe, grid, block):
    grid3, block3 = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
    n_blocks, n_threads = grid3[0] * grid3[1] * grid3[2], block3[0] * block3[1] * block3[2]
    y = fx.zeros(n_blocks * n_threads, dtype=fx.int32, device="cuda")
    probe("where", grid, block, [pointer(y)])
    expected = [
        bx + 10 * by + 100 * bz + 1000 * tx + 10000 * ty + 100000 * tz
        for bz in range(grid3[2]) for by in range(grid3[1]) for bx in range(grid3[0])
        for tz in range(block3[2]) for ty in range(block3[1]) for tx in range(block3[0])
    ]  # fmt: skip
    assert y.tolist() == expected


def test_missing_kernel():
    with pytest.raises(
        fx.cuda.CudaError, match=r"CUDA_ERROR_NOT_FOUND .* looking for the kernel nothing in 'elementwise_unary'"
    ):
        launch_kernel("elementwise_unary", "nothing", 1, 1, [])


def test_missing_family():
    with pytest.raises(RuntimeError, match="the kernels 'no_such_family' are not installed"):
        launch_kernel("no_such_family", "kernel", 1, 1, [])


def test_damaged_family(python, tmp_path):
    (tmp_path / "elementwise_unary.fatbin").write_bytes(b"this is no fatbin" + bytes(1000))
    program = "import ferrox as fx\ntry: fx.ones(3, device='cuda')\nexcept fx.cuda.CudaError as error: print(error)"
    said = python(program, FERROX_CUDA_KERNELS=str(tmp_path))
    assert said.startswith("[ones] CUDA_ERROR_") and "loading the kernels 'elementwise_unary'" in said


def test_no_image_for_the_architecture(python, simulator):
    program = (
        "import ctypes, ferrox as fx; d = ctypes.CDLL('libcuda.so.1'); d.fxsim_inject(b'cuModuleLoadData', 1, 209)\n"
        "try: fx.ones(3, device='cuda')\nexcept fx.cuda.CudaError as error: print(error.name, error)\n"
        "print(fx.ones(3, device='cuda').tolist())"
    )
    first, second = python(program).split("\n")
    assert first.startswith("CUDA_ERROR_NO_BINARY_FOR_GPU [ones] ")
    assert "can run on compute capability 9.0; they were built for" in first
    assert second == "[1.0, 1.0, 1.0]"


def test_a_build_without_kernels_says_so(python):
    if families.FAMILIES:
        pytest.skip("this build has kernels")
    assert "nvcc was not found when it was built" in python(
        "import ferrox as fx; print(fx.cuda.why_not())", FERROX_CUDA_KERNELS=""
    )


@pytest.mark.parametrize("grid, block", [((0,), (32,)), ((1,), (2048,)), ((1,), (0,)), ((1, 1 << 17), (1,))])
def test_shape_that_no_device_takes(probe, grid, block):
    y = fx.zeros(8, dtype=fx.int32, device="cuda")
    with pytest.raises(fx.cuda.CudaError, match="the kernel where with grid") as caught:
        probe("where", grid, block, [pointer(y)])
    assert caught.value.kernel == "where" and caught.value.launch[1][0] == block[0]
    assert y.tolist() == [0] * 8


def test_dynamic_shared_memory(probe):
    for n in (16, 10000, 50000):  # the last needs more than a block has without asking
        y = fx.zeros(3, dtype=fx.int32, device="cuda")
        probe("dynamic", 1, 96, [pointer(y), ctypes.c_int(n), ctypes.c_int(0)], shared=4 * n)
        assert y.tolist() == [((n - 1) ** 2 + 2**31) % 2**32 - 2**31, 96, 32]


def test_more_shared_memory_than_there_is(probe):
    y = fx.zeros(3, dtype=fx.int32, device="cuda")
    with pytest.raises(fx.cuda.CudaError, match="and 1000000 bytes of shared memory"):
        probe("dynamic", 1, 32, [pointer(y), ctypes.c_int(4), ctypes.c_int(0)], shared=1000000)


def test_attributes():
    found = attributes("elementwise_binary", "add_f32", threads=256)
    assert found["max_threads"] >= 256 and found["registers"] > 0 and 1 <= found["blocks_per_multiprocessor"] <= 32
