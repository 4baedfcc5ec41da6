"""Captured graphs: what a replay computes, random numbers, optimisers, memory, and what is refused during a capture."""

import ctypes
import gc
import threading
import warnings

import numpy as np
import pytest

import ferrox as fx
from ferrox import nn
from ferrox.nn import functional

OUT_OF_MEMORY, UNSUPPORTED, INVALIDATED = 2, 900, 901


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    gc.collect()
    assert not fx.cuda.is_current_stream_capturing()
    x = fx.ones(3, device="cuda")  # the context is usable
    assert (x + x).tolist() == [2.0] * 3


def warm(step, times=1):
    side = fx.cuda.Stream()
    side.wait_stream(fx.cuda.current_stream())
    with fx.cuda.stream(side):
        for _ in range(times):
            step()
    fx.cuda.current_stream().wait_stream(side)


def captured(step, **options):
    made = fx.cuda.CUDAGraph()
    with fx.cuda.graph(made, **options):
        result = step()
    return made, result


def pool_bytes(pool):
    return sum(s["total_size"] for s in fx.cuda.memory_snapshot(0) if s["segment_pool_id"] == pool)


@pytest.mark.parametrize("seed", range(3))
def test_replays_read_new_inputs(seed):
    rng = np.random.default_rng(seed)
    x, w = fx.zeros(5, 7, device="cuda"), fx.zeros(7, 3, device="cuda")

    def work():
        return fx.softmax((x @ w).tanh() + 1, -1).sum(0)

    warm(work)
    graph, y = captured(work)
    for _ in range(3):
        a, b = rng.standard_normal((5, 7)), rng.standard_normal((7, 3))
        x.copy_(fx.tensor(a, dtype=fx.float32))
        w.copy_(fx.tensor(b, dtype=fx.float32))
        graph.replay()
        e = np.exp(np.tanh(a @ b) + 1)
        np.testing.assert_allclose(y.cpu().numpy(), (e / e.sum(-1, keepdims=True)).sum(0), rtol=1e-5)


def test_nothing_runs_during_the_capture():
    x = fx.zeros(3, device="cuda")
    graph = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        assert fx.cuda.is_current_stream_capturing()
        x += 1
    assert x.tolist() == [0.0] * 3
    for k in range(3):
        graph.replay()
        assert x.tolist() == [k + 1.0] * 3


@pytest.mark.parametrize("seed", range(4))
def test_forked_streams_take_part(seed, request):
    if request.getfixturevalue("simulator"):
        request.getfixturevalue("simulator").fxsim_seed(seed)
    x = fx.ones(1000, device="cuda")
    graph, other = fx.cuda.CUDAGraph(), fx.cuda.Stream()
    with fx.cuda.graph(graph):
        a = x * 2
        other.wait_stream(fx.cuda.current_stream())
        with fx.cuda.stream(other):
            b = (a + 1) * 3
            a.record_stream(other)
        c = a * 5
        fx.cuda.current_stream().wait_stream(other)
        d = b + c
    for k in range(1, 4):
        x.fill_(float(k))
        graph.replay()
        assert set(d.tolist()) == {(2.0 * k + 1) * 3 + 10 * k}
    snapshot = [s for s in fx.cuda.memory_snapshot(0) if s["segment_pool_id"] == graph.pool()]
    assert {s["stream"] for s in snapshot} >= {other.cuda_stream}


def test_replay_on_another_stream_waits_for_the_last():
    x = fx.zeros(2000, device="cuda")
    graph, _ = captured(lambda: x.add_(1))
    streams = [fx.cuda.Stream() for _ in range(3)]
    for each in streams:
        each.wait_stream(fx.cuda.current_stream())
    for k in range(9):
        with fx.cuda.stream(streams[k % 3]):
            graph.replay()
    fx.cuda.synchronize()
    assert set(x.tolist()) == {9.0}


# ---- random numbers

DRAWS = {
    "rand": lambda: fx.rand(33, device="cuda"),
    "randn float64": lambda: fx.randn(7, 3, device="cuda", dtype=fx.float64),
    "randint": lambda: fx.randint(0, 1 << 40, (9,), device="cuda"),
    "bernoulli": lambda: fx.bernoulli(fx.full((40,), 0.3, device="cuda")),
    "exponential": lambda: fx.empty(21, device="cuda").exponential_(2.0),
    "randperm": lambda: fx.randperm(100, device="cuda"),
    "dropout": lambda: functional.dropout(fx.ones(5, 50, device="cuda"), 0.4),
    "several": lambda: fx.cat([fx.rand(5, device="cuda"), fx.randn(6, device="cuda"), fx.rand(1, device="cuda")]),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_eager_runs(name):
    draw = DRAWS[name]
    generator = fx.default_generator("cuda", 0)
    warm(draw)
    graph, y = captured(draw)
    fx.cuda.manual_seed(5)
    expected = [draw().tolist() for _ in range(3)]
    offset = generator.get_offset()
    after = draw().tolist()
    fx.cuda.manual_seed(5)
    got = []
    for _ in range(3):
        graph.replay()
        got.append(y.tolist())
    assert got == expected and got[0] != got[1]
    assert generator.get_offset() == offset and draw().tolist() == after


def test_a_capture_leaves_the_generator_where_it_is():
    generator = fx.default_generator("cuda", 0)
    before = generator.get_offset()
    captured(lambda: fx.rand(100, device="cuda"))
    assert generator.get_offset() == before


def test_generators_of_ones_own():
    mine = fx.Generator("cuda:0").manual_seed(3)

    def draw():
        return fx.rand(6, device="cuda", generator=mine), fx.rand(6, device="cuda"), fx.rand(6, device="cuda:0")

    graph, y = captured(draw)
    fx.cuda.manual_seed(1)
    mine.manual_seed(3)
    expected = [[each.tolist() for each in draw()] for _ in range(2)]
    fx.cuda.manual_seed(1)
    mine.manual_seed(3)
    for wanted in expected:
        graph.replay()
        assert [each.tolist() for each in y] == wanted


def test_cpu_draws_are_not_touched():
    fx.manual_seed(0)
    expected = fx.rand(3).tolist()
    fx.manual_seed(0)
    _, made = captured(lambda: (fx.rand(3), fx.rand(3, device="cuda")))
    assert made[0].tolist() == expected


# ---- training

def model_and_step(kind, seed=0, dropout=0.0, **options):
    fx.manual_seed(seed)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.LayerNorm(16), nn.Dropout(dropout), nn.Linear(16, 4)]
    model = nn.Sequential(*layers).cuda()
    optimiser = kind(model.parameters(), **options)
    x, target = fx.zeros(8, 6, device="cuda"), fx.zeros(8, dtype=fx.int64, device="cuda")

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(x), target)
        loss.backward()
        optimiser.step()
        return loss

    return model, optimiser, x, target, step


def batches(n):
    rng = np.random.default_rng(4)
    return [(rng.standard_normal((8, 6), "f4"), rng.integers(0, 4, 8)) for _ in range(n)]


OPTIMISERS = [
    (fx.optim.SGD, {"lr": 0.1}),
    (fx.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (fx.optim.Adam, {"lr": 0.01, "capturable": True}),
    (fx.optim.Adam, {"lr": 0.01, "capturable": True, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    (fx.optim.AdamW, {"lr": 0.01, "capturable": True, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind, options", OPTIMISERS)
def test_training_step_equals_eager(kind, options, dropout):
    data = batches(6)
    eager = {key: value for key, value in options.items() if key != "capturable"}
    model, _, x, target, step = model_and_step(kind, dropout=dropout, **eager)
    losses = []
    for a, b in data:
        x.copy_(fx.from_numpy(a))
        target.copy_(fx.from_numpy(b))
        losses.append(step().item())
    weights = [p.detach().cpu().numpy() for p in model.parameters()]

    model, optimiser, x, target, step = model_and_step(kind, dropout=dropout, **options)
    x.copy_(fx.from_numpy(data[0][0]))
    target.copy_(fx.from_numpy(data[0][1]))
    got = []
    warm(lambda: got.append(step().item()))
    graph, loss = captured(step)
    for a, b in data[1:]:
        x.copy_(fx.from_numpy(a))
        target.copy_(fx.from_numpy(b))
        graph.replay()
        got.append(loss.item())
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    for p, q in zip(model.parameters(), weights, strict=True):
        np.testing.assert_allclose(p.detach().cpu().numpy(), q, rtol=2e-6, atol=1e-7)
    for state in optimiser.state.values():
        if "step" in state:
            assert state["step"].is_cuda and state["step"].item() == 6
    graph.replay()  # reading the state has not cut the graph off from it
    for state in optimiser.state.values():
        assert "step" not in state or state["step"].item() == 7


def test_capturable_adam_as_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype("f4") for shape in [(3, 5), (70,), (), (131, 67)]]
    theirs = [torch.from_numpy(np.array(p)).requires_grad_() for p in start]
    mine = [nn.Parameter(fx.tensor(p, device="cuda")) for p in start]
    lr = fx.tensor(0.05, device="cuda")
    there = torch.optim.AdamW(theirs, lr=0.05, foreach=False, weight_decay=0.1)
    here = fx.optim.AdamW(mine, lr=lr, weight_decay=0.1, capturable=True)
    grads = [fx.zeros_like(p.detach()) for p in mine]
    for p, g in zip(mine, grads, strict=True):
        p.grad = g
    graph = None
    for k in range(5):
        for p, g in zip(theirs, grads, strict=True):
            fresh = rng.standard_normal(tuple(p.shape)).astype("f4")
            p.grad = torch.from_numpy(np.array(fresh))
            g.copy_(fx.tensor(fresh))
        if k == 3:  # the learning rate is read at every replay
            lr.fill_(0.2)
            there.param_groups[0]["lr"] = 0.2
        there.step()
        if k == 0:
            here.step()
            graph, _ = captured(here.step)
        else:
            graph.replay()
    for p, q in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p.detach().cpu().numpy(), q.detach().numpy(), rtol=3e-6, atol=3e-6)


def test_capturable_adam_with_gaps_and_other_dtypes():
    for dtype in (fx.float64, fx.float16):
        found = []
        for capturable in (False, True):
            fx.manual_seed(1)
            base = fx.randn(6, 8).to("cuda", dtype)
            p = nn.Parameter(base.t()[::2])
            optimiser = fx.optim.Adam([p], lr=0.1, capturable=capturable)
            for k in range(3):
                p.grad = fx.full_like(p.detach(), 0.5 + k)
                optimiser.step()
            found.append(p.detach().cpu().double().numpy())
        np.testing.assert_allclose(*found, rtol=1e-12 if dtype == fx.float64 else 1e-3)


def test_capturable_on_the_cpu_is_as_without():
    found = []
    for capturable in (False, True):
        p = nn.Parameter(fx.ones(3))
        optimiser = fx.optim.Adam([p], capturable=capturable)
        for _ in range(2):
            p.grad = fx.ones(3)
            optimiser.step()
        found.append(p.tolist())
    assert found[0] == found[1]


def test_capturable_state_dict_goes_on():
    _, optimiser, _, _, step = model_and_step(fx.optim.Adam, capturable=True)
    for _ in range(3):
        step()
    saved = optimiser.state_dict()
    model, other, _, _, _ = model_and_step(fx.optim.Adam, capturable=True)
    other.load_state_dict(saved)
    for p in model.parameters():
        p.grad = fx.ones_like(p.detach())
    other.step()
    counts = [state["step"] for state in other.state.values()]
    assert {count.item() for count in counts} == {4.0}
    assert {state["step"].item() for state in optimiser.state.values()} == {3.0}


def test_a_parameter_that_gets_a_gradient_later_counts_for_itself():
    first, second = (nn.Parameter(fx.ones(2, device="cuda")) for _ in range(2))
    optimiser = fx.optim.Adam([first, second], capturable=True)
    for given in [(first, second), (first,), (first, second)]:
        optimiser.zero_grad()
        for p in given:
            p.grad = fx.ones(2, device="cuda")
        optimiser.step()
    assert optimiser.state[first]["step"].item() == 3 and optimiser.state[second]["step"].item() == 2


def test_adam_needs_capturable():
    _, _, _, _, step = model_and_step(fx.optim.Adam)
    warm(step)
    with pytest.raises(RuntimeError, match=r"capture of step\(\) for an instance of Adam but .* capturable is False"):
        captured(step)


@pytest.mark.parametrize("kind, options", [OPTIMISERS[1], OPTIMISERS[2]])
def test_the_first_step_must_come_before_the_capture(kind, options):
    _, _, _, _, step = model_and_step(kind, **options)
    with pytest.raises(RuntimeError, match="call step\\(\\) once for the same parameters before the capture"):
        captured(step)
    warm(step)
    graph, loss = captured(step)
    graph.replay()
    assert np.isfinite(loss.item())


def test_lr_scheduler_with_a_tensor():
    p = nn.Parameter(fx.ones(2, device="cuda"))
    optimiser = fx.optim.Adam([p], lr=fx.tensor(0.1, device="cuda"), capturable=True)
    schedule = fx.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    p.grad = fx.ones(2, device="cuda")
    optimiser.step()
    graph, _ = captured(optimiser.step)
    seen = [p.tolist()[0]]
    for _ in range(2):
        schedule.step()
        graph.replay()
        seen.append(p.tolist()[0])
    np.testing.assert_allclose(np.diff(seen), [-0.05, -0.025], rtol=1e-4)


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


# ---- memory

def test_memory_stays_as_long_as_the_graph():
    x = fx.ones(1 << 18, device="cuda")
    graph = fx.cuda.CUDAGraph()
    with fx.cuda.graph(graph):
        y = ((x + 1) * (x + 2)).sum()
    pool = graph.pool()
    held = pool_bytes(pool)
    assert held >= 1 << 20
    fx.cuda.empty_cache()
    assert pool_bytes(pool) == held
    others = [fx.full((1 << 18,), 7.0, device="cuda") for _ in range(8)]  # go elsewhere
    graph.replay()
    assert y.item() == 6.0 * (1 << 18) and all(each.sum().item() == 7.0 * (1 << 18) for each in others)
    del y
    graph.reset()
    fx.cuda.empty_cache()
    assert pool_bytes(pool) == 0
    graph, y = captured(lambda: x * 3)
    pool = graph.pool()
    del graph
    gc.collect()
    assert pool_bytes(pool) > 0 and y.shape == x.shape  # a tensor's memory is its own
    del y
    fx.cuda.empty_cache()
    assert pool_bytes(pool) == 0


def test_graphs_may_share_a_pool():
    x = fx.ones(1 << 19, device="cuda")
    pool = fx.cuda.graph_pool_handle()
    first, y = captured(lambda: ((x + 1) * 2).sum(), pool=pool)
    held = pool_bytes(pool)
    second, z = captured(lambda: ((x + 2) * 2).sum(), pool=first.pool())
    assert first.pool() == second.pool() == pool and pool_bytes(pool) == held  # temporaries use the same memory
    first.replay()
    second.replay()
    assert (y.item(), z.item()) == (4.0 * (1 << 19), 6.0 * (1 << 19))
    first.reset()
    fx.cuda.empty_cache()
    assert pool_bytes(pool) == held
    second.replay()
    assert z.item() == 6.0 * (1 << 19)
    second.reset()
    del y, z
    fx.cuda.empty_cache()
    assert pool_bytes(pool) == 0


def test_other_threads_go_on_during_a_capture():
    x = fx.ones(3, device="cuda")
    graph, results, failures = fx.cuda.CUDAGraph(), [], []

    def work():
        try:
            with fx.cuda.stream(fx.cuda.Stream()):
                y = fx.from_numpy(np.arange(1e5, dtype="f4")).cuda()
                results.append((y * 2).sum().item())
        except Exception as failure:
            failures.append(failure)

    with fx.cuda.graph(graph):
        y = x + 1
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not failures, failures
        z = y * 3
    graph.replay()
    assert z.tolist() == [6.0] * 3 and results[0] == pytest.approx(1e10, rel=1e-4)
    mine = [s for s in fx.cuda.memory_snapshot(0) if s["segment_pool_id"] == graph.pool()]
    assert all(s["total_size"] < 1 << 22 for s in mine)


def test_kernels_may_be_loaded_during_the_capture(python):
    program = """
import ferrox as fx
x = fx.arange(6.0, device="cuda").reshape(2, 3)
graph = fx.cuda.CUDAGraph()
with fx.cuda.graph(graph):
    y = fx.softmax(x.sin() @ x.t(), -1).cumsum(0) + fx.rand(2, 2, device="cuda") * 0
    z, _ = y.sort()
graph.replay()
eager, _ = (fx.softmax(x.sin() @ x.t(), -1).cumsum(0)).sort()
print(z.tolist() == eager.tolist())
"""
    assert python(program) == "True"


def test_without_the_allocator_there_are_no_graphs(python):
    program = """
import ferrox as fx
x = fx.ones(2, device="cuda")
try:
    with fx.cuda.graph(fx.cuda.CUDAGraph()):
        x * 2
except RuntimeError as error:
    print(error)
"""
    assert "FERROX_NO_CUDA_MEMORY_CACHING" in python(program, FERROX_NO_CUDA_MEMORY_CACHING="1")


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


# ---- callables made of graphs

def test_graphed_callables_train_as_eager():
    def train(graphed):
        fx.manual_seed(0)
        first = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2)).cuda()
        second = nn.Linear(8, 2).cuda()
        optimiser = fx.optim.Adam([*first.parameters(), *second.parameters()], lr=0.05)
        if graphed:
            sample = fx.zeros(4, 5, device="cuda"), fx.zeros(4, 8, device="cuda", requires_grad=True)
            first, second = fx.cuda.make_graphed_callables((first, second), tuple((each,) for each in sample))
        fx.cuda.manual_seed(9)
        losses = []
        for k in range(4):
            x = fx.tensor(np.random.default_rng(k).standard_normal((4, 5)), dtype=fx.float32).cuda()
            optimiser.zero_grad()
            hidden = first(x)
            loss = second(hidden if k % 2 else hidden * 1).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        first.eval()
        return losses, second(first(x)).detach().cpu().numpy()

    losses, outputs = train(False)
    got, made = train(True)
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    np.testing.assert_allclose(made, outputs, rtol=1e-5)


def test_graphed_function_of_nested_tensors():
    def function(pair, scale):
        return {"sum": pair[0] * scale + pair[1], "count": (pair[0] > 0).sum()}

    sample = ((fx.ones(3, device="cuda", requires_grad=True), fx.ones(3, device="cuda")), fx.ones(1, device="cuda"))
    graphed = fx.cuda.make_graphed_callables(function, sample)
    a = fx.tensor([1.0, -2.0, 3.0], device="cuda").requires_grad_()
    made = graphed((a, fx.full((3,), 10.0, device="cuda")), fx.full((1,), 4.0, device="cuda"))
    assert made["sum"].tolist() == [14.0, 2.0, 22.0] and made["count"].item() == 2
    (made["sum"] * fx.tensor([1.0, 2.0, 3.0], device="cuda")).sum().backward()
    assert a.grad.tolist() == [4.0, 8.0, 12.0]
    with pytest.raises(RuntimeError, match="shapes and dtypes of the sample"):
        graphed((fx.ones(4, device="cuda"), a), a)


def test_a_capture_that_is_not_empty_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph, y = captured(lambda: fx.zeros(3, device="cuda"))
    graph.replay()
    assert y.tolist() == [0.0] * 3
