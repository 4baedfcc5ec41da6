"""The profiler on a GPU."""

import itertools
import json
import math
from collections import Counter

import pytest

import ferrox as fx
from ferrox.profiler import ProfilerActivity, profile, record_function, schedule

nn = fx.nn


def names(prof):
    return [event.name for event in prof.events()]


def training(**options):
    fx.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to("cuda")
    optimizer = fx.optim.SGD(model.parameters(), lr=0.1)
    x, y = fx.randn(16, 4, device="cuda"), fx.randn(16, 2, device="cuda")
    with profile(**options) as prof, record_function("step"):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return prof


def test_every_operator_has_device_time():
    prof = training()
    ran = [event for event in prof.events() if event.kernel is not None]
    assert len(ran) > 10 and all(event.device_type == "cuda" and event.device_index == 0 for event in ran)
    for event in ran:
        kernel, = event.kernels
        assert kernel.name == event.kernel and 0 <= kernel.duration < 60e6 and not math.isnan(kernel.duration)
        assert event.self_device_time_total == event.device_time_total == event.cuda_time_total == kernel.duration
    assert any(event.device_time_total > 0 for event in ran)


def test_ranges_sum_the_device_time_of_what_they_hold():
    prof = training()
    step = prof.events()[0]
    assert step.name == "step" and step.self_device_time_total == 0
    assert step.device_time_total == pytest.approx(sum(event.self_device_time_total for event in prof.events()))
    backward = next(event for event in prof.events() if event.name == "LinearBackward")
    assert backward.device_time_total == pytest.approx(sum(child.device_time_total for child in backward.cpu_children))
    assert {child.name for child in backward.cpu_children} and backward.is_backward


def test_kernels_of_a_stream_are_in_order_and_after_their_launch():
    x = fx.ones(1000, device="cuda")
    fx.cuda.synchronize()
    with profile() as prof:
        for _ in range(20):
            x = x * 1.5
    kernels = [event.kernels[0] for event in prof.events()]
    assert len(kernels) == 20
    for before, after in itertools.pairwise(kernels):
        assert before.time_range.end <= after.time_range.start + 1
    for event in prof.events():     # the two clocks are matched to within what the host takes to see an event
        assert event.kernels[0].time_range.start >= event.time_range.start - 1000


def test_streams_are_told_apart():
    x = fx.ones(1000, device="cuda")
    side = fx.cuda.Stream()
    side.wait_stream(fx.cuda.current_stream())
    with profile() as prof:
        x + 1
        with fx.cuda.stream(side):
            x * 2
    streams = {event.name: event.kernels[0].stream for event in prof.events()}
    assert streams == {"add": 0, "mul": side.cuda_stream}


@pytest.mark.usefixtures("cached")
def test_the_host_does_not_wait(simulator):
    """The simulated device works only when somebody waits; nobody may, until the profile stops."""
    x = fx.ones(1000, device="cuda")
    fx.cuda.synchronize()
    prof = profile(profile_memory=True, record_shapes=True)
    prof.start()
    for _ in range(10):
        x = x * 1.5
    side = fx.cuda.current_stream()
    undone = not side.query()
    prof.stop()
    assert undone and side.query()
    assert len(prof.events()) == 10


def test_transfers():
    with profile() as prof:
        x = fx.ones(256).to("cuda")
        y = (x + 1).cpu()
        y.sum()
    moves = [event for event in prof.events() if event.name == "to"]
    assert [event.kernel for event in moves] == ["Memcpy HtoD", "Memcpy DtoH"]
    assert [event.nbytes for event in moves] == [1024, 1024] and all(event.kernels for event in moves)
    assert [event.device_type for event in prof.events()] == ["cpu", "cuda", "cuda", "cuda", "cpu"]


def test_activities():
    a, b = fx.ones(3), fx.ones(3, device="cuda")

    def work():
        with record_function("range"):
            a + a
            b * b

    with profile(activities=[ProfilerActivity.CUDA]) as prof:
        work()
    assert names(prof) == ["range", "mul"] and prof.events()[1].kernels
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        work()
    assert names(prof) == ["range", "add", "mul"] and not any(event.kernels for event in prof.events())
    assert "CUDA" not in prof.key_averages().table()
    assert fx.profiler.supported_activities() == set(ProfilerActivity)


def test_table():
    prof = training(profile_memory=True)
    text = prof.key_averages().table(sort_by="self_cuda_time_total", row_limit=-1)
    head = text.splitlines()[1]
    for column in ("Self CUDA", "Self CUDA %", "CUDA total", "CUDA time avg", "CUDA Mem", "Self CUDA Mem"):
        assert column in head
    assert "Self CUDA time total: " in text
    shares = [float(line.split("%")[2].split()[-1]) for line in text.splitlines()[3:] if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=0.01 * len(shares))
    order = [event.key for event in sorted(prof.key_averages(), key=lambda e: -e.self_device_time_total)]
    assert [line.split("  ")[0] for line in text.splitlines()[3:3 + len(order)]] == order


def test_chrome_trace(tmp_path):
    prof = training(profile_memory=True)
    prof.export_chrome_trace(tmp_path / "trace.json")
    lines = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [each for each in lines if each["ph"] == "X"]
    kernels = [each for each in spans if each["cat"] == "kernel"]
    operators = {each["args"]["External id"]: each for each in spans if each["cat"] == "cpu_op"}
    assert Counter(each["name"] for each in kernels) == Counter(event.kernel for event in prof.events() if event.kernel)
    starts = {each["id"]: each for each in lines if each["ph"] == "s" and each["cat"] == "ac2g"}
    ends = {each["id"]: each for each in lines if each["ph"] == "f" and each["cat"] == "ac2g"}
    assert starts.keys() == ends.keys() and len(starts) == len(kernels)
    for kernel in kernels:
        number = kernel["args"]["correlation"]
        launch = operators[number]
        assert kernel["args"]["operator"] == launch["name"] and launch["args"]["Device"] == "cuda:0"
        assert (starts[number]["pid"], starts[number]["tid"]) == (launch["pid"], launch["tid"])
        assert (ends[number]["pid"], ends[number]["tid"], ends[number]["ts"]) \
            == (kernel["pid"], kernel["tid"], kernel["ts"])
    around, = [each for each in spans if each["cat"] == "gpu_user_annotation" and each["name"] == "step"]
    assert around["ts"] <= min(each["ts"] for each in kernels)
    assert around["ts"] + around["dur"] >= max(each["ts"] + each["dur"] for each in kernels) - 0.01
    named = {each["args"]["name"] for each in lines if each["ph"] == "M" and "name" in each["args"]}
    assert {"GPU 0", "default stream", "python: CPU"} <= named
    assert {each["name"] for each in lines if each["ph"] == "C"} == {"CPU memory", "GPU 0 memory"}
    assert len({each["id"] for each in lines if each["ph"] == "s"}) == sum(each["ph"] == "s" for each in lines)


@pytest.mark.usefixtures("cached")
def test_memory(tmp_path):
    x = fx.ones(500, 500, device="cuda")
    with profile(profile_memory=True) as prof:
        with record_function("keeps"):
            y = x.exp()
        with record_function("frees"):
            z = y + 1
            del y
            x[0] * 2
        del z
        x[1] * 2
    events = {event.name: event for event in prof.events()}
    million = 1_000_448     # in units of 512 bytes
    assert events["exp"].cuda_memory_usage == events["add"].self_cuda_memory_usage == million
    assert events["keeps"].device_memory_usage == million and events["keeps"].self_device_memory_usage == 0
    assert events["frees"].self_device_memory_usage in (-million, -million - 2048)
    assert events["exp"].cpu_memory_usage < 1000
    prof.export_memory_timeline(tmp_path / "memory.json")
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["device"] == "cuda:0" and max(found["bytes"]) - min(found["bytes"]) == 2 * million - 2048
    prof.export_memory_timeline(tmp_path / "memory.html", device="cpu")
    assert "Memory in use on cpu" in (tmp_path / "memory.html").read_text()


def test_devices_are_told_apart(simulator):
    a, b = fx.ones(1000, device="cuda:0"), fx.ones(1000, device="cuda:1")
    with profile(profile_memory=True) as prof:
        c = a * 2
        d = b + 1
    mul, add = prof.events()
    assert (mul.device_index, add.device_index) == (0, 1)
    assert mul.kernels[0].device == 0 and add.kernels[0].device == 1
    assert c.device.index == 0 and d.device.index == 1
    assert mul.device_memory_usage in (0, 4096) and add.device_memory_usage in (0, 4096)


def test_a_failing_kernel_leaves_the_profile_whole():
    x = fx.ones(3, device="cuda")
    with profile() as prof:
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            x.reshape(3, 1) @ fx.ones(4, 4, device="cuda")
        x.index_select(0, fx.tensor([7], device="cuda"))
        with pytest.raises(IndexError):
            fx.cuda.synchronize()
        x * 2
    assert names(prof)[-1] == "mul" and prof.events()[-1].kernels


def test_an_event_that_cannot_be_had_costs_its_time_only(simulator):
    x = fx.ones(3, device="cuda")
    with profile() as prof:
        simulator.fxsim_inject(b"cuEventRecord", 1, 2)
        y = x * 2
        z = x + 1
    assert y.tolist() == [2] * 3 and z.tolist() == [2] * 3
    mul, add = prof.events()
    assert not mul.kernels and add.kernels


def test_steps_and_cycles():
    seen = []
    x = fx.ones(3, device="cuda")
    with profile(schedule=schedule(wait=0, warmup=1, active=1, repeat=2),
                 on_trace_ready=lambda prof: seen.append([(e.name, len(e.kernels)) for e in prof.events()])) as prof:
        for _ in range(5):
            x * x
            prof.step()
    assert seen == [[("ProfilerStep#1", 0), ("mul", 1)], [("ProfilerStep#3", 0), ("mul", 1)]]


def test_long_profiles_keep_their_precision(simulator):
    """Times between marks are told as float32 milliseconds: they are measured from marks nearby."""
    import time

    x = fx.ones(3, device="cuda")
    with profile() as prof:
        for _ in range(4):
            x = x * 2
            fx.cuda.synchronize()
            time.sleep(0.06)
    begun = [event.kernels[0].time_range.start for event in prof.events()]
    host = [event.time_range.start for event in prof.events()]
    for k in range(1, 4):
        assert begun[k] - begun[k - 1] == pytest.approx(host[k] - host[k - 1], abs=20_000)
