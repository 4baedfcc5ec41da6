"""The simulated device itself: what it computes, and the faults that it has to find."""

import ctypes

import pytest

import ferrox as fx
from ferrox._core.cuda.module import launch_kernel


def pointer(tensor, offset=0):
    return ctypes.c_uint64(tensor.data_ptr() + offset)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [1, 255, 256, 1000])
def test_shared_memory_and_barriers(simulator, n, seed):
    simulator.fxsim_seed(seed)
    x = fx.arange(float(n)).cuda()
    blocks = (n + 255) // 256
    y = fx.zeros(blocks, device="cuda")
    launch_kernel("probe", "block_sum", blocks, 256, [pointer(y), pointer(x), ctypes.c_int(n)])
    assert y.tolist() == [float(sum(range(256 * k, min(n, 256 * k + 256)))) for k in range(blocks)]


def test_warp(simulator):
    y = fx.zeros((64, 8), dtype=fx.int32, device="cuda")
    launch_kernel("probe", "warp", 1, 64, [pointer(y)])
    ballot = sum(1 << lane for lane in range(32) if lane % 3 == 0)
    halves = []
    for t in range(64):
        lane, first = t % 32, t - t % 32
        halves.append((first + (lane ^ 15)) + (first + (lane ^ 1)) if lane < 16 else -(first + (lane ^ 1)))
    for t, row in enumerate(y.tolist()):
        lane, first = t % 32, t - t % 32
        assert row[0] == sum(range(first, first + 32))
        assert row[1] == (t + 1 if lane < 31 else t)
        assert row[2] == (t - 3 if lane % 8 >= 3 else t)
        assert row[3] == first + lane // 16 * 16 + 5
        assert row[4] & 0xFFFFFFFF == ballot
        assert row[5] & 0xFFFFFFFF == 0xFF << (lane // 8 * 8)
        assert row[6] == halves[t]
        assert row[7] == max(half + 1000 for half in halves[first : first + 32])


def test_order_of_threads_shows_a_race(simulator):
    seen = set()
    for seed in range(10):
        simulator.fxsim_seed(seed)
        y = fx.zeros(64, dtype=fx.int32, device="cuda")
        launch_kernel("probe", "race", 1, 64, [pointer(y)])
        seen.add(tuple(y.tolist()))
    assert len(seen) > 1


def test_memory_begins_as_poison(simulator):
    y = fx.zeros(32, dtype=fx.int32, device="cuda")
    launch_kernel("probe", "unset", 1, 32, [pointer(y)], shared=128)
    assert y.tolist() == [-1] * 32


FAULT = """
import ctypes, ferrox as fx
from ferrox._core.cuda.module import launch_kernel
LL = ctypes.c_longlong
d = ctypes.CDLL("libcuda.so.1")
d.fxsim_last_failure.restype = ctypes.c_char_p
memory = [ctypes.c_uint64() for _ in range(2)]
x, y = fx.ones(16, device="cuda:0"), fx.ones(16, device="cuda:0")
fx.cuda.synchronize()
for each in memory:
    assert d.cuMemAlloc(ctypes.byref(each), ctypes.c_size_t({bytes})) == 0
x, y = memory
try:
    launch_kernel("probe", {launch})
    fx.cuda.synchronize(0)
    fx.cuda.synchronize(1)
    print("nothing")
except fx.cuda.CudaError as error:
    print(error.name, "|", d.fxsim_last_failure().decode())
"""


@pytest.mark.parametrize(
    "launch, what",
    [
        ("'poke', 1, 1, [y, x, LL(16), LL(0)]", "0 bytes past the end of an allocation of 64 bytes, argument 1"),
        ("'poke', 1, 1, [y, x, LL(0), LL(17)]", "4 bytes past the end of an allocation of 64 bytes, argument 0"),
        ("'poke', 1, 1, [y, x, LL(0), LL(-1)]", "write 4 bytes before the beginning of an allocation of 64 bytes"),
        ("'poke', 1, 1, [y, ctypes.c_uint64(0), LL(0), LL(0)]", "access to address 0, which is no device memory"),
        ("'poke', 1, 1, [y, LL(id(fx)), LL(0), LL(0)]", "argument 1 points to pageable memory of the host"),
        ("'poke', 1, 1, [y, x, LL(0), LL(0)], device=1", "argument 0 points to memory of device 0"),
        ("'scale', 1, 32, [y, x, ctypes.c_float(1), ctypes.c_int(17)]", "scale, block (0, 0, 0), thread (16, 0, 0)"),
        ("'diverge', 1, 32, [y]", "a warp exchange waits for a lane that has ended"),
        ("'stuck', 1, 32, []", "deadlock: 31 threads wait at a barrier, 1 in a warp exchange, 0 have ended"),
        ("'dynamic', 1, 32, [y, ctypes.c_int(16), ctypes.c_int(1)], shared=64", "which is no device memory"),
    ],
)  # fmt: skip
def test_faults_are_named(python, simulator, launch, what):
    said = python(FAULT.format(launch=launch, bytes=64))
    assert what in said and said.split(" ")[0] in ("CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_LAUNCH_FAILED")


def test_a_read_past_an_odd_end_is_seen_with_exact_alignment(python, simulator):
    launch = "'poke', 1, 1, [y, x, LL(5), LL(0)]"
    assert python(FAULT.format(launch=launch, bytes=20)) == "nothing"
    assert "0 bytes past the end of an allocation of 20 bytes" in python(
        FAULT.format(launch=launch, bytes=20), FXSIM_ALIGN="4"
    )


def test_use_after_free(python, simulator):
    program = FAULT.replace("try:\n", "d.cuMemFree(x)\ntry:\n", 1)
    said = python(program.format(launch="'poke', 1, 1, [y, x, LL(0), LL(0)]", bytes=64))
    assert said.startswith("CUDA_ERROR_ILLEGAL_ADDRESS | kernel poke")


def test_launch_blocking_gives_the_error_to_the_launch(python, simulator):
    program = FAULT.replace("    fx.cuda.synchronize(0)\n    fx.cuda.synchronize(1)\n", "", 1).format(
        launch="'poke', 1, 1, [y, x, LL(99999), LL(0)]", bytes=64
    )
    assert python(program, CUDA_LAUNCH_BLOCKING="1").startswith("CUDA_ERROR_ILLEGAL_ADDRESS")
    assert python(program) == "nothing"


CAPTURE = """
import ctypes, ferrox as fx
d = ctypes.CDLL("libcuda.so.1")
x = fx.zeros(3, device="cuda")
fx.cuda.synchronize()
side, other = fx.cuda.Stream(), fx.cuda.Stream()
handle, graph, run = ctypes.c_void_p(side.cuda_stream), ctypes.c_void_p(), ctypes.c_void_p()
assert d.cuStreamBeginCapture(handle, 0) == 0
with side:
    x += 1
    event = side.record_event()
    other.wait_event(event)
    with other:
        x *= 2
    side.wait_stream(other)
assert d.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
print(x.tolist())
assert d.cuGraphInstantiateWithFlags(ctypes.byref(run), graph, ctypes.c_ulonglong(0)) == 0
for _ in range(3):
    assert d.cuGraphLaunch(run, handle) == 0
side.synchronize()
print(x.tolist(), d.cuGraphExecDestroy(run), d.cuGraphDestroy(graph))
"""


def test_capture(python, simulator):
    assert python(CAPTURE) == "[0.0, 0.0, 0.0]\n[14.0, 14.0, 14.0] 0 0"


REFUSED = """
import ctypes, threading, ferrox as fx
d = ctypes.CDLL("libcuda.so.1")
x = fx.zeros(3, device="cuda")
fx.cuda.synchronize()
side, idle = fx.cuda.Stream(), fx.cuda.Stream()
handle, graph = ctypes.c_void_p(side.cuda_stream), ctypes.c_void_p()
event, memory = ctypes.c_void_p(), ctypes.c_uint64()
assert d.cuEventCreate(ctypes.byref(event), 2) == 0
assert d.cuStreamBeginCapture(handle, {mode}) == 0
assert d.cuEventRecord(event, handle) == 0
def relaxed():
    mode = ctypes.c_int(2)
    assert d.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode)) == 0 and mode.value == 0
said = []
def calls():
    {before}
    said.append({call})
{run}
said.append(d.cuStreamEndCapture(handle, ctypes.byref(graph)))
print(*said)
"""


@pytest.mark.parametrize("where, mode, relaxed, call, said", [
    ("here", 0, False, "d.cuCtxSynchronize()", "900 901"),
    ("here", 2, True, "d.cuCtxSynchronize()", "900 901"),
    ("here", 2, True, "d.cuStreamSynchronize(handle)", "900 901"),
    ("here", 2, True, "d.cuStreamQuery(handle)", "900 901"),
    ("here", 0, False, "d.cuStreamQuery(ctypes.c_void_p(idle.cuda_stream))", "900 901"),
    ("here", 0, True, "d.cuStreamQuery(ctypes.c_void_p(idle.cuda_stream))", "0 0"),
    ("here", 0, True, "d.cuEventQuery(event)", "907 0"),
    ("here", 0, False, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "900 901"),
    ("here", 0, True, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "0 0"),
    ("here", 2, False, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "0 0"),
    ("there", 0, False, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "900 901"),
    ("there", 1, False, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "0 0"),
    ("there", 0, True, "d.cuMemAlloc(ctypes.byref(memory), ctypes.c_size_t(64))", "0 0"),
])  # fmt: skip
def test_what_is_refused_during_a_capture(python, simulator, where, mode, relaxed, call, said):
    run = "calls()" if where == "here" else "t = threading.Thread(target=calls); t.start(); t.join()"
    bound = "d.cuCtxSetCurrent(context)"
    program = REFUSED.replace("side, idle", "context = ctypes.c_void_p(); d.cuCtxGetCurrent(ctypes.byref(context))\n"
                              "side, idle", 1)
    before = bound + ("; relaxed()" if relaxed else "")
    assert python(program.format(mode=mode, before=before, call=call, run=run)) == said


def test_leaks_are_counted(python, simulator):
    program = (
        "import ctypes, ferrox as fx; live = ctypes.CDLL('libcuda.so.1').fxsim_live\n"
        "x = fx.ones(9, device='cuda'); print(live())"
    )
    assert python(program) == "2"  # a segment of the allocator, and the record of faults


@pytest.mark.parametrize("entry", ["cuMemAlloc", "cuMemcpyAsync", "cuLaunchKernel", "cuStreamSynchronize", "cuMemFree"])
@pytest.mark.parametrize("code", [1, 2, 999])
def test_any_injected_error_is_an_exception_and_harms_nothing(simulator, entry, code):
    x = fx.arange(5000.0)
    y = x.cuda()
    for call in range(1, 8):
        simulator.fxsim_inject(entry.encode(), call, code)
        try:
            z = (y + call) * 2
            assert z.tolist() == [2 * (float(k) + call) for k in range(5000)]
        except (RuntimeError, fx.OutOfMemoryError) as error:
            assert str(error)
        simulator.fxsim_clear()
        assert y.tolist() == x.tolist()
