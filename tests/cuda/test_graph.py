"""Captured graphs: what a replay computes, random numbers, memory."""

import gc
import threading

import numpy as np
import pytest

import ferrox as fx
from ferrox.nn import functional

from .conftest import SIMULATED
from .graphs import captured, nothing_is_left, pool_bytes, warm  # noqa: F401

pytestmark = pytest.mark.usefixtures("cached")


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
    if SIMULATED:
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
