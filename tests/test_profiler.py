"""The profiler on the CPU."""

import gzip
import json
import threading
import time
import warnings
from collections import Counter

import pytest

import ferrox as fx
from ferrox._core.door import dispatch
from ferrox._core.door import profile as recorder
from ferrox.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule

nn = fx.nn


def names(prof):
    return [event.name for event in prof.events()]


def path_of(event):
    found = []
    while event is not None:
        found.append(event.name)
        event = event.cpu_parent
    return found[::-1]


def spin(microseconds):
    end = time.perf_counter() + microseconds / 1e6
    while time.perf_counter() < end:
        pass


def training(prof_options, steps=1):
    fx.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = fx.optim.Adam(model.parameters(), lr=0.01)
    x, y = fx.randn(32, 8), fx.randn(32, 4)
    with profile(**prof_options) as prof:
        for _ in range(steps):
            optimizer.zero_grad()
            with record_function("forward"):
                loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            prof.step()
    return prof


def test_every_kernel_is_an_event():
    seen = []
    watcher = dispatch.watch(lambda name, kernel, outputs, inputs, seconds: seen.append((name, kernel)))
    try:
        prof = training({})
    finally:
        dispatch.unwatch(watcher)
    kernels = [(event.name, event.kernel) for event in prof.events() if event.kernel]
    begun = seen.index(kernels[0])
    assert kernels == seen[begun:begun + len(kernels)] and len(kernels) > 15


def test_nothing_is_recorded_outside():
    x = fx.ones(3)
    x + x
    with profile() as prof:
        x * x
    x - x
    assert names(prof) == ["mul"]
    assert not recorder.is_recording() and recorder.begin("late") == -1
    with pytest.raises(RuntimeError, match="nothing has been recorded"):
        profile().events()


def test_forward_backward_and_steps_are_told_apart():
    prof = training({})
    paths = {tuple(path_of(event)) for event in prof.events()}
    assert ("forward", "linear") in paths and ("forward", "relu") in paths
    assert ("LinearBackward", "matmul") in paths and ("MseBackward",) in paths
    assert ("Optimizer.step#Adam.step",) in paths and ("Optimizer.zero_grad#Adam.zero_grad",) in paths
    inside = [path for path in paths if path[0] == "Optimizer.step#Adam.step" and len(path) == 2]
    assert inside
    for event in prof.events():
        assert event.is_backward == path_of(event)[0].endswith("Backward")
    assert "step" in vars(fx.optim.Adam) and not hasattr(fx.optim.Adam.step, "__wrapped__")


def test_subclass_that_calls_its_base_has_one_step_range():
    class Mine(fx.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    p = nn.Parameter(fx.ones(2))
    p.grad = fx.ones(2)
    optimizer = Mine([p], lr=0.1)
    with profile() as prof:
        optimizer.step()
    assert [name for name in names(prof) if name.startswith("Optimizer")] == ["Optimizer.step#Mine.step"]
    assert p.tolist() == pytest.approx([0.9, 0.9])


def test_backward_ranges_carry_the_number_of_their_node():
    x = fx.ones(3, requires_grad=True)
    with profile() as prof:
        y = x.exp()
        number = y.grad_fn.sequence_nr
        z = y * y
        z.sum().backward()
    by_name = {event.name: event for event in prof.events()}
    assert by_name["ExpBackward"].sequence_nr == number == by_name["exp"].sequence_nr
    assert by_name["MulBackward"].sequence_nr == number + 1


def test_operators_of_ones_own():
    class Cube(fx.Op):
        def forward(self, x):
            return x * x * x

        def vjp(self, ctx, g):
            x, = ctx.inputs
            return g * 3 * x * x

    x = fx.tensor(2.0, requires_grad=True)
    with profile() as prof:
        Cube()(x).backward()
    assert [path_of(event) for event in prof.events() if event.is_backward and event.kernel] \
        == [["CubeBackward", "mul"]] * 3
    assert names(prof).count("mul") == 5


def test_errors_leave_the_tree_whole():
    x = fx.ones(3)
    with profile() as prof:
        with pytest.raises(IndexError), record_function("broken"):
            x.index_select(0, fx.tensor([7]))
        with record_function("after"):
            x + x
    paths = [path_of(event) for event in prof.events()]
    assert ["broken", "index_select"] in paths and ["after", "add"] in paths and ["after"] in paths


def test_gradient_rules_that_raise_end_their_range():
    class Wrong(fx.Op):
        def forward(self, x):
            return x * 1

        def vjp(self, ctx, g):
            raise ValueError("no")

    x = fx.ones(3, requires_grad=True)
    with profile() as prof:
        with pytest.raises(ValueError, match="no"):
            Wrong()(x).sum().backward()
        x.detach() + 1
    assert path_of(prof.events()[-1]) == ["add"]
    assert all(event.time_range.end >= event.time_range.start for event in prof.events())


def test_times_nest_and_add_up():
    with profile() as prof, record_function("outer"):
        spin(300)
        with record_function("inner"):
            spin(500)
            fx.ones(1000).exp()
    events = prof.events()
    outer, inner = events[0], events[1]
    assert outer.name == "outer" and inner.cpu_parent is outer and inner in outer.cpu_children
    assert inner.cpu_time_total >= 500 and outer.cpu_time_total >= 800
    assert outer.self_cpu_time_total == pytest.approx(outer.cpu_time_total - inner.cpu_time_total)
    assert 300 <= outer.self_cpu_time_total < outer.cpu_time_total
    for event in events:
        for child in event.cpu_children:
            assert event.time_range.start <= child.time_range.start <= child.time_range.end <= event.time_range.end
    assert events.self_cpu_time_total == pytest.approx(outer.cpu_time_total)
    assert events.total_average().cpu_time_total == pytest.approx(outer.cpu_time_total)


def test_averages():
    with profile(record_shapes=True) as prof:
        for size in (2, 3, 3):
            fx.ones(size, 4).exp()
    average = {event.key: event for event in prof.key_averages()}
    assert average["exp"].count == 3 and average["exp"].input_shapes == []
    exps = [event for event in prof.events() if event.name == "exp"]
    assert average["exp"].self_cpu_time_total == pytest.approx(sum(event.self_cpu_time_total for event in exps))
    assert average["exp"].cpu_time == pytest.approx(average["exp"].cpu_time_total / 3)
    assert average["exp"].nbytes == 2 * 4 * 4 * (2 + 3 + 3)
    grouped = Counter({(e.key, *e.input_shapes): e.count for e in prof.key_averages(group_by_input_shape=True)})
    assert grouped["exp", (2, 4)] == 1 and grouped["exp", (3, 4)] == 2


def test_shapes_and_dtypes():
    a, b = fx.ones(2, 3), fx.ones(3, 4)
    with profile(record_shapes=True) as prof:
        a @ b
        fx.ones(5, dtype=fx.int64) * 2
        fx.zeros(())
    events = {event.name: event for event in prof.events()}
    assert events["matmul"].input_shapes == [(2, 3), (3, 4)] and events["matmul"].input_dtypes == ["float32"] * 2
    assert events["mul"].input_shapes == [(5,), ()] and events["mul"].input_dtypes[0] == "int64"
    assert events["mul"].dtype == "int64" and events["matmul"].nbytes == 4 * (6 + 12 + 8)
    with profile() as prof:
        a @ b
    assert prof.events()[0].input_shapes == []


def test_table():
    prof = training({"record_shapes": True}, steps=3)
    text = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=4)
    lines = text.splitlines()
    assert lines[0] == lines[2] and set(lines[0]) == {"-", " "} and lines[-1].startswith("Self CPU time total: ")
    assert lines[1].split("  ")[0] == "Name" and "# of Calls" in lines[1] and "CUDA" not in text
    assert len(lines) == 3 + 4 + 2
    order = [event.key for event in sorted(prof.key_averages(), key=lambda e: -e.self_cpu_time_total)][:4]
    assert [line.split()[0] for line in lines[3:7]] == order
    shaped = prof.key_averages(group_by_input_shape=True).table(row_limit=-1)
    assert "Input Shapes" in shaped and "[[32, 8], [16, 8], [16]]" in shaped
    assert prof.events().table(top_level_events_only=True, row_limit=-1).count("forward") == 3
    assert "10.000ms" not in prof.key_averages().table(time_unit="us")
    with pytest.raises(ValueError, match="sort_by is one of"):
        prof.key_averages().table(sort_by="colour")
    with pytest.raises(ValueError, match="time_unit"):
        prof.key_averages().table(time_unit="h")


def test_shares_are_of_the_whole():
    prof = training({})
    text = prof.key_averages().table(row_limit=-1)
    shares = [float(line.split("%")[0].split()[-1]) for line in text.splitlines()[3:] if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=0.01 * len(shares))


def test_chrome_trace(tmp_path):
    prof = training({"record_shapes": True, "profile_memory": True})
    prof.add_metadata("model", "small")
    prof.add_metadata_json("sizes", "[8, 16, 4]")
    prof.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace["model"] == "small" and trace["sizes"] == [8, 16, 4]
    assert abs(trace["baseTimeNanoseconds"] / 1e9 - time.time()) < 600
    spans = [each for each in trace["traceEvents"] if each["ph"] == "X"]
    assert Counter(each["name"] for each in spans) == Counter(names(prof))
    by_name = {each["name"]: each for each in spans}
    linear = by_name["linear"]
    assert linear["cat"] == "cpu_op" and linear["args"]["Input Dims"][0] == [32, 16] and linear["dur"] > 0
    assert by_name["forward"]["cat"] == by_name["Optimizer.step#Adam.step"]["cat"] == "user_annotation"
    starts = {each["id"]: each for each in trace["traceEvents"] if each["ph"] == "s"}
    ends = {each["id"]: each for each in trace["traceEvents"] if each["ph"] == "f"}
    assert starts.keys() == ends.keys() and len(starts) >= 4
    at = {(each["tid"], each["ts"]): each["name"] for each in spans}
    linked = {(at[s["tid"], s["ts"]], at[ends[n]["tid"], ends[n]["ts"]]) for n, s in starts.items()}
    assert linked == {("linear", "LinearBackward"), ("relu", "ReluBackward"), ("mse", "MseBackward"),
                      ("sum", "SumBackward"), ("div", "DivBackward")}
    counters = [each for each in trace["traceEvents"] if each["ph"] == "C"]
    assert counters and all(each["args"]["bytes in use"] > 0 for each in counters)
    assert {each["name"] for each in trace["traceEvents"] if each["ph"] == "M"} \
        == {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
    # Spans of one row lie within each other or apart.
    open_ = []
    for each in sorted(spans, key=lambda each: (each["ts"], -each["dur"])):
        while open_ and open_[-1]["ts"] + open_[-1]["dur"] <= each["ts"] + 0.002:
            open_.pop()
        assert not open_ or each["ts"] + each["dur"] <= open_[-1]["ts"] + open_[-1]["dur"] + 0.002
        open_.append(each)
    prof.export_chrome_trace(tmp_path / "trace.json.gz")
    with gzip.open(tmp_path / "trace.json.gz") as file:
        assert json.load(file) == trace


def test_memory():
    x = fx.ones(1000, 1000)
    with profile(profile_memory=True) as prof:
        with record_function("keeps"):
            y = x.exp()
        with record_function("frees"):
            z = y + 1
            del y
            w = fx.ones(10)
        del w, z
    events = {event.name: event for event in prof.events()}
    million = 4_000_000
    for name in ("exp", "add", "keeps"):
        assert million <= events[name].cpu_memory_usage < 1.15 * million
    assert events["add"].self_cpu_memory_usage == events["add"].cpu_memory_usage
    assert abs(events["keeps"].self_cpu_memory_usage) < 10_000
    assert abs(events["frees"].cpu_memory_usage) < 10_000
    assert -1.15 * million < events["frees"].self_cpu_memory_usage <= -million
    assert events["exp"].cuda_memory_usage == 0
    assert "Self CPU Mem" in prof.key_averages().table(sort_by="self_cpu_memory_usage")


def test_memory_timeline(tmp_path):
    with profile(profile_memory=True) as prof:
        with record_function("<big>"):
            y = fx.ones(1000, 1000).exp()
            del y
        fx.ones(2) + 1
    prof.export_memory_timeline(tmp_path / "memory.json")
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["device"] == "cpu" and len(found["times"]) == len(found["bytes"]) == len(found["events"])
    assert found["times"] == sorted(found["times"])
    assert 8_000_000 <= max(found["bytes"]) - found["bytes"][-1] < 9_200_000
    prof.export_memory_timeline(tmp_path / "memory.html")
    page = (tmp_path / "memory.html").read_text()
    assert "&lt;big&gt;" in page and "<big>" not in page and "<svg" in page and "http" not in page.replace(
        "http://www.w3.org/2000/svg", "")
    with pytest.raises(ValueError, match="ends in"):
        prof.export_memory_timeline(tmp_path / "memory.png")
    with profile() as prof:
        fx.ones(2)
    with pytest.raises(RuntimeError, match="profile_memory"):
        prof.export_memory_timeline(tmp_path / "memory.html")


def test_schedule_is_pytorchs():
    torch = pytest.importorskip("torch")
    warnings.simplefilter("ignore")     # of PyTorch's, about cycles without warmup
    for options in ({"wait": 1, "warmup": 1, "active": 2}, {"wait": 0, "warmup": 0, "active": 1, "repeat": 2},
                    {"wait": 2, "warmup": 0, "active": 3, "repeat": 1, "skip_first": 4},
                    {"wait": 0, "warmup": 1, "active": 1, "skip_first": 1}):
        ours, theirs = schedule(**options), torch.profiler.schedule(**options)
        assert [ours(n).name for n in range(20)] == [theirs(n).name for n in range(20)]
    for wrong in ({"wait": -1, "warmup": 0, "active": 1}, {"wait": 0, "warmup": 0, "active": 0}):
        with pytest.raises(ValueError):
            schedule(**wrong)


def test_cycles_are_handed_over():
    seen = []

    def ready(prof):
        seen.append((prof.step_num, [event.name for event in prof.events()]))

    x = fx.ones(3)
    with profile(schedule=schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1), on_trace_ready=ready) as prof:
        for step in range(12):
            x * step
            prof.step()
    assert seen == [(5, ["ProfilerStep#3", "mul", "ProfilerStep#4", "mul"]),
                    (9, ["ProfilerStep#7", "mul", "ProfilerStep#8", "mul"])]
    assert names(prof) == seen[1][1]


def test_cycles_without_a_pause():
    seen = []
    x = fx.ones(3)
    with profile(schedule=schedule(wait=0, warmup=0, active=1, repeat=0),
                 on_trace_ready=lambda prof: seen.append(len(prof.events()))) as prof:
        for _ in range(3):
            x * x
            prof.step()
    assert seen == [2, 2, 2, 1]


def test_an_unfinished_cycle_is_handed_over_at_the_end():
    seen = []
    x = fx.ones(3)
    prof = profile(schedule=schedule(wait=0, warmup=1, active=5), on_trace_ready=lambda prof: seen.append(names(prof)))
    prof.start()
    for _ in range(2):
        x * x
        prof.step()
    x * x
    prof.stop()
    assert seen == [["ProfilerStep#1", "mul", "ProfilerStep#2", "mul"]]


def test_a_schedule_that_breaks_off_warns():
    actions = [ProfilerAction.RECORD, ProfilerAction.NONE]
    with pytest.warns(UserWarning, match="RECORD followed by NONE"), profile(schedule=lambda n: actions[n]) as prof:
        fx.ones(2)
        prof.step()


def test_record_function_as_decorator():
    @record_function("double")
    def double(x, depth=0):
        return x * 2 if depth == 0 else double(x, depth - 1)

    with profile() as prof:
        double(fx.ones(2), 2)
    assert path_of(prof.events()[-1]) == ["double", "double", "double", "mul"]
    with profile() as prof, record_function("load", "part 3"):
        pass
    assert names(prof) == ["load(part 3)"]


def test_one_profile_at_a_time():
    with profile() as outer:
        with pytest.raises(RuntimeError, match="being recorded already"), profile():
            pass
        fx.ones(2).exp()
    assert "exp" in names(outer)


def test_range_that_outlives_the_profile():
    prof = profile()
    late = record_function("late")
    prof.start()
    late.__enter__()
    prof.stop()
    with profile() as following:
        late.__exit__(None, None, None)
        fx.ones(2).exp()
    assert names(prof) == ["late"] and prof.events()[0].cpu_time_total > 0
    assert path_of(following.events()[-1]) == ["exp"]


def test_threads():
    x = fx.ones(100)

    def work(name):
        with record_function(name):
            for _ in range(50):
                x.exp()

    with profile() as prof:
        threads = [threading.Thread(target=work, args=(f"thread {k}",)) for k in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert Counter(map(tuple, map(path_of, prof.events()))) \
        == Counter({(f"thread {k}", "exp"): 50 for k in range(4)} | {(f"thread {k}",): 1 for k in range(4)})


def test_stack():
    x = fx.ones(3)

    def called_here():
        return x.exp()

    with profile(with_stack=True) as prof:
        called_here()
        x + x
    exp, add = prof.events()
    assert "test_profiler.py" in exp.stack[0] and exp.stack[0].endswith(": called_here")
    assert exp.stack[1].endswith(": test_stack") and add.stack[0].endswith(": test_stack")
    assert "Source Location" in prof.key_averages(group_by_stack_n=1).table()
    assert "called_here" in prof.key_averages(group_by_stack_n=1).table(max_src_column_width=None)


def test_many_events():
    x = fx.ones(1)
    with profile(record_shapes=True) as prof:
        for _ in range(10_000):
            x + x
    assert len(prof.events()) == 10_000 and {tuple(event.input_shapes) for event in prof.events()} == {((1,), (1,))}
    assert [event.id for event in prof.events()] == list(range(10_000))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_without_the_host():
    with profile(activities=[ProfilerActivity.CUDA]) as prof, record_function("range"):
        fx.ones(3) + 1
    assert names(prof) == ["range"]


def test_activities():
    with pytest.raises(TypeError, match="ProfilerActivity"):
        profile(activities=["cpu"])
    with pytest.raises(ValueError, match="no activity"):
        profile(activities=[])
    available = ProfilerActivity.CUDA in fx.profiler.supported_activities()
    assert available == fx.cuda.is_available()
    if not available:
        with pytest.warns(UserWarning, match="CUDA is not available"):
            profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])


def test_anomaly_detection_stands_beside_it():
    x = fx.tensor([0.0], requires_grad=True)
    wrong = pytest.raises(RuntimeError, match=r"\[div\] Function 'div' returned nan")
    with pytest.warns(UserWarning), fx.autograd.detect_anomaly(), profile() as prof, wrong:
        x / x
    assert names(prof) == ["div"]


def test_results_are_the_same():
    plain = []
    for on in (False, True):
        fx.manual_seed(0)
        model = nn.Linear(4, 3)
        x = fx.randn(5, 4)
        prof = profile(profile_memory=True, record_shapes=True, with_stack=True)
        if on:
            prof.start()
        model(x).square().sum().backward()
        if on:
            prof.stop()
        plain.append(model.weight.grad.tolist())
    assert plain[0] == plain[1]
