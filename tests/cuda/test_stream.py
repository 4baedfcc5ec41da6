"""Streams and events.  On the simulated driver streams run in random order, so that a missing wait shows."""

import threading

import pytest

import ferrox as fx


def test_default_stream():
    assert fx.cuda.current_stream() == fx.cuda.default_stream()
    assert fx.cuda.default_stream().cuda_stream == 0
    assert fx.cuda.default_stream().query() in (True, False)


def test_streams_come_from_a_pool():
    streams = [fx.cuda.Stream() for _ in range(100)]
    assert len({stream.cuda_stream for stream in streams}) == 32
    assert streams[36:68] == streams[68:] and hash(streams[40]) == hash(streams[72]) and streams[0] != streams[1]
    assert all(stream.cuda_stream for stream in streams)
    urgent = fx.cuda.Stream(priority=-1)
    assert urgent not in streams and "cuda:0" in repr(urgent)


def test_current_stream():
    side, other = fx.cuda.Stream(), fx.cuda.Stream()
    with fx.cuda.stream(side):
        assert fx.cuda.current_stream() == side
        with other:
            assert fx.cuda.current_stream() == other
            with fx.cuda.stream(None):
                assert fx.cuda.current_stream() == other
        assert fx.cuda.current_stream() == side
    assert fx.cuda.current_stream() == fx.cuda.default_stream()


def test_stream_makes_its_device_current(simulator):
    side = fx.cuda.Stream(device=1)
    assert side.device == fx.device("cuda:1")
    with fx.cuda.stream(side):
        assert fx.cuda.current_device() == 1 and fx.cuda.current_stream() == side
        assert fx.cuda.current_stream(0) == fx.cuda.default_stream(0)
    assert fx.cuda.current_device() == 0


def test_each_thread_has_its_own_stream():
    seen = []
    with fx.cuda.stream(fx.cuda.Stream()):
        thread = threading.Thread(target=lambda: seen.append(fx.cuda.current_stream().cuda_stream))
        thread.start()
        thread.join()
    assert seen == [0]


@pytest.mark.parametrize("seed", range(20))
def test_events_order_streams(simulator, seed):
    simulator.fxsim_seed(seed)
    first, second = fx.cuda.Stream(), fx.cuda.Stream()
    x = fx.arange(100.0).cuda()
    with fx.cuda.stream(first):
        for _ in range(10):
            x += 1
    second.wait_stream(first)
    with fx.cuda.stream(second):
        y = x * 2
        done = second.record_event()
        x += 1000
    done.wait()
    z = y + 1
    assert z.tolist() == [2.0 * (k + 10) + 1 for k in range(100)]
    second.synchronize()


def test_a_missing_wait_shows(simulator):
    seen = set()
    for seed in range(40):
        simulator.fxsim_seed(seed)
        first, second = fx.cuda.Stream(), fx.cuda.Stream()
        x, y = fx.zeros(1).cuda(), fx.zeros(1).cuda()
        with fx.cuda.stream(first):
            x += 1
        with fx.cuda.stream(second):
            y += x
            second.synchronize()
            seen.add(y.item())
        first.synchronize()
    assert seen == {0.0, 1.0}


def test_query_and_synchronize():
    side = fx.cuda.Stream()
    with fx.cuda.stream(side):
        x = fx.ones(1000, device="cuda")
        for _ in range(5):
            x = x + 1
    event = side.record_event()
    event.synchronize()
    assert event.query() and side.query()
    assert x[0].item() == 6.0


def test_polling_gets_there():
    side = fx.cuda.Stream()
    with fx.cuda.stream(side):
        x = fx.ones(1000, device="cuda") + 1
    for _ in range(1_000_000):
        if side.query():
            break
    assert side.query() and x[999].item() == 2.0


def test_elapsed_time():
    start, end = fx.cuda.Event(enable_timing=True), fx.cuda.Event(enable_timing=True)
    start.record()
    x = fx.ones(100000, device="cuda") + 1
    end.record()
    end.synchronize()
    assert 0 < start.elapsed_time(end) < 60000
    assert end.elapsed_time(start) < 0
    assert x[0].item() == 2.0


def test_event_before_it_is_recorded():
    event = fx.cuda.Event()
    assert event.query() and event.cuda_event == 0
    event.synchronize()
    event.wait()
    event.record()
    assert event.cuda_event != 0


def test_elapsed_time_needs_timing():
    start, end = fx.cuda.Event(), fx.cuda.Event(enable_timing=True)
    start.record()
    end.record()
    with pytest.raises(ValueError, match="enable_timing=True"):
        start.elapsed_time(end)
    with pytest.raises(ValueError, match="must have been recorded"):
        end.elapsed_time(fx.cuda.Event(enable_timing=True))


def test_event_stays_on_its_device(simulator):
    event = fx.cuda.Event()
    event.record(fx.cuda.Stream(device=0))
    with pytest.raises(RuntimeError, match="belongs to cuda:0, the stream to cuda:1"):
        event.record(fx.cuda.Stream(device=1))
    event.wait(fx.cuda.Stream(device=1))


def test_external_stream():
    side = fx.cuda.Stream()
    same = fx.cuda.ExternalStream(side.cuda_stream)
    assert same == side
    with fx.cuda.stream(same):
        assert (fx.ones(3, device="cuda") * 4).tolist() == [4.0] * 3
