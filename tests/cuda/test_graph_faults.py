"""What is refused while a graph is captured, and failures of the driver."""

import ctypes
import gc

import pytest

import ferrox as fx

from .graphs import captured, nothing_is_left, warm  # noqa: F401

pytestmark = pytest.mark.usefixtures("cached")

OUT_OF_MEMORY, UNSUPPORTED = 2, 900


# ---- what is refused

X = {}


def there():
    X["x"] = fx.arange(6.0, device="cuda")
    X["event"] = fx.cuda.Event()
    return X["x"]


REFUSED = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool((x > 0).all()),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 2],
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.cpu().numpy(),
    "repr": lambda x: repr(x),
    "upload": lambda x: x.copy_(fx.ones(6)),
    "new tensor": lambda x: fx.tensor([1.0, 2.0], device="cuda"),
    "pinned, waiting": lambda x: x.copy_(fx.ones(6).pin_memory()),
    "synchronize": lambda x: fx.cuda.synchronize(),
    "stream synchronize": lambda x: fx.cuda.current_stream().synchronize(),
    "stream query": lambda x: fx.cuda.current_stream().query(),
    "event synchronize": lambda x: (X["event"].record(), X["event"].synchronize()),
    "event query": lambda x: (X["event"].record(), X["event"].query()),
    "multinomial": lambda x: fx.multinomial(x, 2),
}


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_host_waits_for_is_refused(name, mode):
    x = there()
    graph = fx.cuda.CUDAGraph()
    with (
        pytest.raises(RuntimeError, match=r"is not possible while a CUDA graph is captured.*before the capture"),
        fx.cuda.graph(graph, capture_error_mode=mode),
    ):
        y = x * 2
        REFUSED[name](y)
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    with fx.cuda.graph(graph):  # the same object serves again
        y = x * 2
    graph.replay()
    assert y.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_a_refused_call_does_not_spoil_the_capture():
    x = fx.ones(3, device="cuda")
    graph = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        y = x + 1
        for _ in range(2):
            with pytest.raises(RuntimeError, match="not possible while a CUDA graph is captured"):
                y.item() if y.numel() == 1 else y.tolist()
        z = y * 2
    graph.replay()
    assert z.tolist() == [4.0] * 3


def test_pinned_copies_are_captured_and_their_memory_is_kept():
    source = fx.arange(4.0).pin_memory()
    address = source.data_ptr()
    fx.cuda.synchronize()
    target = fx.zeros(4, device="cuda")
    graph = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        target.copy_(source, non_blocking=True)
        back = (target * 2).to("cpu", non_blocking=True)
    source.mul_(10)
    graph.replay()
    fx.cuda.synchronize()
    assert target.tolist() == [0.0, 10.0, 20.0, 30.0] and back.tolist() == [0.0, 20.0, 40.0, 60.0]
    del source
    others = [fx.ones(4).pin_memory() for _ in range(4)]
    assert address not in [each.data_ptr() for each in others]
    graph.replay()
    assert target.tolist() == [0.0, 10.0, 20.0, 30.0]
    fx.cuda.synchronize()
    graph.reset()
    others += [fx.ones(4).pin_memory() for _ in range(2)]
    fx.cuda.synchronize()
    assert address in [each.data_ptr() for each in others]


def test_the_default_stream_cannot_be_captured():
    with pytest.raises(RuntimeError, match="stream other than the default one"):
        fx.cuda.CUDAGraph().capture_begin()


def test_misuse_is_named():
    graph = fx.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=r"replay\(\) without a capture"):
        graph.replay()
    with pytest.raises(RuntimeError, match=r"capture_end\(\) without capture_begin"):
        graph.capture_end()
    with pytest.raises(RuntimeError, match=r"pool\(\) without a capture"):
        graph.pool()
    x = fx.ones(2, device="cuda")
    other = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        x + 1
        with pytest.raises(RuntimeError, match="end it first"):
            graph.reset()
        with pytest.raises(RuntimeError, match="already holds a capture"):
            graph.capture_begin()
        with pytest.raises(RuntimeError, match="drawing on this pool"):
            other.capture_begin(pool=graph.pool())
        with fx.cuda.stream(fx.cuda.Stream()), pytest.raises(RuntimeError, match="the stream where it began"):
            graph.capture_end()
    with pytest.raises(RuntimeError, match="already holds a capture"):
        captured_again = fx.cuda.graph(graph)
        captured_again.__enter__()
    for options, error in [({"pool": (1, 2)}, "a pool is what"), ({"capture_error_mode": "no"}, "capture_error_mode")]:
        with pytest.raises(ValueError, match=error), fx.cuda.graph(other, **options):
            pass
    with pytest.raises(RuntimeError, match="cannot be replayed into the capture"), fx.cuda.graph(other):
        graph.replay()


def test_an_empty_capture_warns():
    with pytest.warns(UserWarning, match="graph is empty"):
        graph, _ = captured(lambda: None)
    graph.replay()


def test_an_exception_of_ones_own_passes():
    x, graph = fx.ones(2, device="cuda"), fx.cuda.CUDAGraph()
    before = fx.cuda.current_stream()
    with pytest.raises(KeyError, match="mine"), fx.cuda.graph(graph):
        x * 2
        raise KeyError("mine")
    assert fx.cuda.current_stream() == before and not fx.cuda.is_current_stream_capturing()
    with pytest.raises(RuntimeError, match="without a capture"):
        graph.replay()


def test_unjoined_work_is_named():
    x, other = fx.ones(2, device="cuda"), fx.cuda.Stream()
    with (
        pytest.raises(fx.cuda.CudaError, match=r"UNJOINED.*let the captured stream wait for it"),
        fx.cuda.graph(fx.cuda.CUDAGraph()),
    ):
        other.wait_stream(fx.cuda.current_stream())
        with fx.cuda.stream(other):
            x * 2


def test_waiting_for_work_outside_is_named():
    x, other = fx.ones(2, device="cuda"), fx.cuda.Stream()
    with fx.cuda.stream(other):
        x * 2
    with (
        pytest.raises(fx.cuda.CudaError, match=r"ISOLATION.*before the capture begins"),
        fx.cuda.graph(fx.cuda.CUDAGraph()),
    ):
        fx.cuda.current_stream().wait_stream(other)


# ---- failures of the driver

@pytest.mark.parametrize("code", [OUT_OF_MEMORY, UNSUPPORTED, 999])
@pytest.mark.parametrize(
    "entry",
    ["cuStreamBeginCapture", "cuStreamGetCaptureInfo", "cuStreamEndCapture", "cuGraphGetNodes",
     "cuGraphInstantiateWithFlags", "cuLaunchKernel"],
)  # fmt: skip
def test_injected_failures_leave_nothing_behind(simulator, entry, code):
    x = fx.ones(1 << 18, device="cuda")
    warm(lambda: x * 2 + fx.rand(1 << 18, device="cuda"))
    fx.cuda.synchronize()
    gc.collect()
    fx.cuda.empty_cache()
    graphs, reserved = simulator.fxsim_graphs(), fx.cuda.memory_reserved()
    graph = fx.cuda.CUDAGraph()
    simulator.fxsim_inject(entry.encode(), 1, code)
    with pytest.raises(RuntimeError, match="CUDA_ERROR"), fx.cuda.graph(graph):
        y = x * 2 + fx.rand(1 << 18, device="cuda")
    simulator.fxsim_clear()
    y = None
    fx.cuda.empty_cache()
    if entry == "cuStreamEndCapture":  # the injected failure has left the driver's capture open
        ended = ctypes.c_void_p()
        stream = fx.cuda.graph.__init__.__globals__["_streams"][0]
        with fx.cuda.stream(stream):
            simulator.cuStreamEndCapture(ctypes.c_void_p(stream.cuda_stream), ctypes.byref(ended))
            simulator.cuGraphDestroy(ended)
    assert simulator.fxsim_graphs() == graphs and fx.cuda.memory_reserved() == reserved
    with fx.cuda.graph(graph):
        y = x * 2
    graph.replay()
    assert y.sum().item() == 2.0 * (1 << 18)


@pytest.mark.parametrize("entry", ["cuGraphLaunch", "cuLaunchKernel"])
def test_a_replay_that_fails_draws_nothing(simulator, entry):
    graph, _ = captured(lambda: fx.rand(8, device="cuda"))
    before = fx.default_generator("cuda", 0).get_offset()
    simulator.fxsim_inject(entry.encode(), 1, 999)
    with pytest.raises(fx.cuda.CudaError):
        graph.replay()
    assert fx.default_generator("cuda", 0).get_offset() == before
    graph.replay()
    assert fx.default_generator("cuda", 0).get_offset() > before


def test_out_of_memory_in_a_capture(simulator):
    x = fx.ones(1 << 20, device="cuda")
    fx.cuda.empty_cache()
    graph = fx.cuda.CUDAGraph()
    used = fx.cuda.memory_reserved()
    simulator.fxsim_limit(0, ctypes.c_uint64(used + (96 << 20)))
    with pytest.raises(fx.OutOfMemoryError, match="while a graph was being captured"), fx.cuda.graph(graph):
        y = [x * k for k in range(100)]
    simulator.fxsim_limit(0, ctypes.c_uint64(1 << 30))
    y = None
    gc.collect()
    fx.cuda.empty_cache()
    assert fx.cuda.memory_reserved() == used
    with fx.cuda.graph(graph):
        y = x * 2
    graph.replay()
    assert y[0].item() == 2.0


def test_a_call_of_the_driver_that_ends_the_capture(simulator):
    x = fx.ones(2, device="cuda")
    with (
        pytest.raises(fx.cuda.CudaError, match=r"INVALIDATED.*has ended the capture"),
        fx.cuda.graph(fx.cuda.CUDAGraph()),
    ):
        assert simulator.cuCtxSynchronize() == UNSUPPORTED
        x * 2
    simulator.fxsim_clear()


def test_graphs_are_freed(simulator):
    x = fx.ones(2, device="cuda")
    gc.collect()
    before = simulator.fxsim_graphs()
    graph, _ = captured(lambda: x * 2)
    assert simulator.fxsim_graphs() == before + 1
    del graph
    gc.collect()
    assert simulator.fxsim_graphs() == before
    made = fx.cuda.CUDAGraph()
    side = fx.cuda.Stream()
    with fx.cuda.stream(side):
        made.capture_begin()
        x * 2
    del made  # in the middle of its capture
    gc.collect()
    assert simulator.fxsim_graphs() == before
    with fx.cuda.stream(side):
        assert not fx.cuda.is_current_stream_capturing()


def test_wrong_indices_in_a_replay_are_told():
    x, index = fx.arange(4.0, device="cuda"), fx.zeros(2, dtype=fx.int64, device="cuda")
    graph, y = captured(lambda: x.gather(0, index))
    graph.replay()
    assert y.tolist() == [0.0, 0.0]
    index.copy_(fx.tensor([1, 9]))
    graph.replay()
    with pytest.raises(IndexError, match="index 9 is out of range"):
        fx.cuda.synchronize()
    index.copy_(fx.tensor([1, 3]))
    graph.replay()
    assert y.tolist() == [1.0, 3.0]
