"""What the tests of captured graphs share."""

import gc

import pytest

import ferrox as fx


@pytest.fixture(autouse=True)
def nothing_is_left():
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
