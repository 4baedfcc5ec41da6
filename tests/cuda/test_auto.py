"""device="auto": results wherever calls are placed, decisions for links and devices of given speeds, copies, faults."""

import ctypes
import io
import random

import numpy as np
import pytest
from devices import FRESH, SAMPLED, agree, run, tensors
from samples import ROWS, calls, outputs

import ferrox as fx
from ferrox._core.door import placement

KINDS = ("elementwise", "transcendental", "random", "reduction", "rows", "scan", "order", "product", "attention")
auto = fx.backends.auto


def figures(call=(1e-6, 5e-6), unit=(1e-9, 1e-11), link=(1e-5, 1e-5), byte=(1e-10, 1e-10), submit=2e-6, **kinds):
    """Costs in which every kind of kernel takes the same; the GPU is a hundred times as fast as the CPU."""
    units = {kind: kinds.get(kind, unit) for kind in KINDS}
    return auto.Calibration(call=call, unit=units, link=link, byte=byte, submit=submit, machine="made up")


@pytest.fixture(autouse=True)
def manager(tmp_path_factory, monkeypatch):
    """The manager with made-up figures; it measures nothing."""
    monkeypatch.setenv("FERROX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(auto, "load", figures)
    auto.open_manager()
    auto.set_calibration(figures())
    auto.reset()
    yield
    auto.set_calibration(figures())
    auto.reset()


def force(side):
    """Figures by which everything runs on one side, whatever has to be copied."""
    dear = (0.0, 1e3) if side == "cpu" else (1e3, 0.0)
    auto.set_calibration(figures(call=dear, unit=(0.0, 0.0), byte=(0.0, 0.0), link=(0.0, 0.0), submit=0.0))


def sides():
    return [decision.side for decision in auto.decisions()]


# Results

SEED = 5


@pytest.fixture
def shuffled():
    """Each call is placed at random."""
    placement.shuffle(SEED)
    yield
    placement.shuffle(0)


@pytest.mark.parametrize("name", SAMPLED)
def test_values(name, shuffled):
    for call in calls(name):
        _, expected = run(name, call, "cpu", "float32")
        _, got = run(name, call, "auto", "float32")
        if name in FRESH:
            assert outputs(got)[0].shape == outputs(expected)[0].shape
        else:
            agree(got, expected, 4e-6, "auto")


@pytest.mark.parametrize("name", [name for name in SAMPLED if ROWS[name].differentiable])
def test_gradients(name, shuffled):
    for call in calls(name):
        mine, expected = run(name, call, "cpu", "float64")
        yours, got = run(name, call, "auto", "float64")
        for one, other in zip(tensors(outputs(expected)), tensors(outputs(got)), strict=True):
            if one.requires_grad:
                weight = fx.from_numpy(np.cos(np.arange(one.numel(), dtype="f8")).reshape(one.shape)).to(one.dtype)
                one.backward(weight, retain_graph=True)
                other.backward(weight.to("auto"), retain_graph=True)
        for one, other in zip(tensors(mine), tensors(yours), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                agree(other.grad, one.grad, 1e-10, "auto")


def test_random_programs(shuffled):
    """In-place changes, views and reads in any order, each placed at random, against NumPy."""
    for seed in range(1, 20):
        placement.shuffle(seed)
        draw = random.Random(seed)
        host = np.arange(24, dtype="f8").reshape(4, 6)
        tensor = fx.from_numpy(host.copy()).to("auto")
        copies = [(tensor, host)]
        for _ in range(25):
            mine, yours = draw.choice(copies)
            row, what = draw.randrange(mine.shape[0]), draw.randrange(7)
            if what == 0:
                mine[row] += 2.5
                yours[row] += 2.5
            elif what == 1:
                mine.mul_(0.5)
                yours *= 0.5
            elif what == 2:
                mine[:, 1::2] = mine[:, ::2]
                yours[:, 1::2] = yours[:, ::2].copy()
            elif what == 3:
                copies.append((mine[row:], yours[row:]))
            elif what == 4:
                copies.append((mine * 2, yours * 2))
            elif what == 5:
                mine.copy_(fx.from_numpy(yours[::-1].copy()))
                yours[:] = yours[::-1].copy()
            else:
                assert mine.sum().item() == pytest.approx(yours.sum())
        for mine, yours in copies:
            np.testing.assert_allclose(mine.cpu().numpy(), yours, rtol=1e-12)


# Decisions

def test_small_work_stays_on_the_cpu():
    x = fx.ones(10, device="auto")
    for _ in range(5):
        x = x * 2
    assert set(sides()) == {"cpu"} and auto.statistics().copies == (0, 0)


def test_a_fast_device_gets_large_work_and_parameters_are_copied_once():
    weight = fx.ones(400, 400).to("auto")
    auto.reset()
    for _ in range(4):
        weight @ weight
    assert sides() == ["cuda"] * 4
    assert auto.statistics().copies == (0, 1) and auto.statistics().copied_bytes == (0, 4 * 400 * 400)
    assert auto.resides(weight) == "both"


def test_a_slow_link_keeps_work_on_the_cpu():
    auto.set_calibration(figures(byte=(1e-6, 1e-6)))    # 1 MB/s
    weight = fx.ones(64, 64).to("auto")
    weight @ weight
    weight + 1
    assert set(sides()) == {"cpu"} and auto.statistics().copies == (0, 0)


def test_what_was_lost_pays_for_the_copy():
    """A copy costs as much as some forty calls lose by staying: they stay, then the tensor is copied, for good."""
    auto.set_calibration(figures(unit=(1e-9, 0.0), call=(0.0, 0.0), submit=0.0, link=(0.0, 4e-5), byte=(0.0, 0.0)))
    x = fx.ones(500).to("auto")
    auto.reset()
    for _ in range(60):
        x + 1                                            # 1001 elements: about 1 µs lost
    placed = sides()
    change = placed.index("cuda")
    assert 30 <= change <= 45 and set(placed[change:]) == {"cuda"}
    assert auto.statistics().copies == (0, 1)


def test_a_chain_moves_when_its_losses_have_paid():
    auto.set_calibration(figures(unit=(1e-9, 0.0), call=(0.0, 0.0), submit=0.0, link=(4e-5, 4e-5), byte=(0.0, 0.0)))
    x = fx.ones(500).to("auto")
    auto.reset()
    for _ in range(60):
        x = x + 1
    placed = sides()
    change = placed.index("cuda")
    assert 30 <= change <= 45 and set(placed[change:]) == {"cuda"} and auto.statistics().copies == (0, 1)
    np.testing.assert_array_equal(x.cpu().numpy(), np.full(500, 61.0))


def test_independent_work_goes_to_the_idle_side():
    """The GPU is twice as fast, but a queue of long work stands before it."""
    auto.set_calibration(figures(call=(0.0, 0.0), unit=(2e-9, 1e-9), submit=0.0, link=(0.0, 0.0), byte=(0.0, 0.0)))
    x = fx.ones(1000).to("auto")
    auto.reset()
    for _ in range(30):
        x + 1
    placed = sides()
    assert 17 <= placed.count("cuda") <= 23             # two thirds


def test_reading_a_value_waits_for_the_gpu():
    auto.set_calibration(figures(call=(0.0, 0.0), unit=(3e-9, 1e-9), submit=0.0, link=(0.0, 0.0), byte=(0.0, 0.0)))
    x = fx.ones(1000).to("auto")
    (x + 1).sum().item()
    auto.reset()
    y = x + 1
    assert sides() == ["cuda"]
    assert y.cpu()[0].item() == 2.0
    x + 1                                                # the queue is empty again
    assert sides()[-1] == "cuda" and auto.decisions()[-1].waits[1] == 0.0


def test_placing_again_is_the_same():
    def program():
        fx.manual_seed(0)
        model = fx.nn.Sequential(fx.nn.Linear(40, 60), fx.nn.ReLU(), fx.nn.Linear(60, 3)).to("auto")
        optimizer = fx.optim.Adam(model.parameters(), lr=1e-2)
        auto.reset()
        for _ in range(3):
            loss = model(fx.rand(20, 40, device="auto")).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return sides(), loss.item()

    assert program() == program()


def test_training_agrees_with_the_cpu(shuffled):
    results = []
    for device in ("cpu", "auto"):
        fx.manual_seed(0)
        model = fx.nn.Sequential(fx.nn.Linear(6, 16), fx.nn.Tanh(), fx.nn.Linear(16, 3))
        data, target = fx.randn(30, 6), fx.randint(0, 3, (30,))
        model, data, target = model.to(device), data.to(device), target.to(device)
        optimizer = fx.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(6):
            loss = fx.nn.functional.cross_entropy(model(data), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "auto":
            assert set(sides()) == {"cpu", "cuda"}
        results.append([loss.item()] + [p.detach().cpu().numpy() for p in model.parameters()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-5, atol=1e-6)


# Copies and devices

def test_moves_between_devices():
    x = fx.arange(12).reshape(3, 4)
    there = x.cuda().to("auto")
    for side in ("cpu", "cuda"):
        force(side)
        y = there.t() + 1
        np.testing.assert_array_equal(y.cpu().numpy(), x.numpy().T + 1)
        np.testing.assert_array_equal(y.cuda().cpu().numpy(), x.numpy().T + 1)
        assert y.tolist() == (x.numpy().T + 1).tolist() and y[1, 2].item() == 10
    assert str(there.device) == "auto" and there.type() == "ferrox.auto.LongTensor"
    assert not there.is_cuda and not there.is_cpu and there.get_device() == -1


def test_devices_are_not_mixed():
    x = fx.ones(3, device="auto")
    for other in (fx.ones(3), fx.ones(3, device="cuda"), fx.ones((), device="cuda")):
        with pytest.raises(RuntimeError, match="same device"):
            x + other
        with pytest.raises(RuntimeError, match="same device"):
            other * x
    with pytest.raises(RuntimeError, match="same device"):
        fx.cat([x, fx.ones(3)])
    with pytest.raises(RuntimeError, match="same device"):
        x.unsqueeze(0) @ fx.ones(3, 1)
    assert (x + fx.tensor(2.0)).tolist() == [3.0, 3.0, 3.0]     # a single value of the CPU may stand beside
    with pytest.raises(BufferError, match="auto"):
        np.from_dlpack(x)
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    with pytest.raises(RuntimeError, match="expected"):
        fx.device("auto:1")


def test_saved_and_copied(tmp_path):
    import copy
    import pickle

    force("cuda")
    x = fx.rand(3, 4, device="auto") + 1
    for other in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone()):
        assert str(other.device) == "auto" and other.tolist() == x.tolist()
    fx.save({"x": x}, tmp_path / "x.safetensors")
    assert fx.load(tmp_path / "x.safetensors")["x"].tolist() == x.tolist()
    assert "device='auto'" in repr(x)


def test_empty_and_unset():
    for side in ("cpu", "cuda"):
        force(side)
        assert fx.zeros(0, 3, device="auto").sum().item() == 0
        x = fx.empty(5, device="auto")
        assert auto.resides(x) == "nowhere"
        assert x.zero_().tolist() == [0.0] * 5


def test_many_blocks():
    """Slots are used again; a tensor's memory goes with it."""
    force("cpu")
    before = fx.cpu.memory_stats()["in_use"]
    kept = [fx.full((3,), float(i), device="auto") for i in range(3000)]
    del kept[::2]
    kept += [fx.full((3,), -float(i), device="auto") for i in range(2000)]
    assert [x[0].item() for x in kept[:3]] == [1.0, 3.0, 5.0] and kept[-1][2].item() == -1999.0
    del kept
    assert fx.cpu.memory_stats()["in_use"] - before < 4096


# Faults

def test_a_full_gpu_gives_up_copies_then_runs_on_the_cpu(simulator):
    fx.cuda.empty_cache()
    force("cuda")
    big = [fx.full((1 << 20,), float(i), device="auto") for i in range(4)]          # 4 MiB each
    for x in big:
        x.add_(1)
    force("cpu")
    for x in big:
        assert x.sum().item() == (x.cpu()[0].item()) * (1 << 20)                    # now on both sides
    assert [auto.resides(x) for x in big] == ["both"] * 4
    auto.reset()
    fx.cuda.empty_cache()
    free, total = fx.cuda.mem_get_info()
    simulator.fxsim_limit(0, ctypes.c_uint64(total - free))                         # not a byte more
    force("cuda")
    y = fx.full((3 << 20,), 7.0, device="auto")
    assert y[-1].item() == 7.0 and auto.statistics().evicted_bytes >= 4 << 20
    force("cuda")
    z = fx.full((30 << 20,), 9.0, device="auto")                                    # more than all of it
    assert auto.decisions()[-1].reason == "the GPU's memory was full" and auto.resides(z) == "cpu"
    for i, x in enumerate(big):
        assert x[5].item() == i + 1.0


def test_a_failed_launch_leaves_operands_whole(simulator):
    x = fx.arange(5.0).to("auto")
    force("cuda")
    x + 1
    simulator.fxsim_inject(b"cuLaunchKernel", ctypes.c_long(1), 1)
    with pytest.raises(fx.cuda.CudaError, match=r"\[exp\]"):
        x.exp()
    np.testing.assert_allclose(x.exp().cpu().numpy(), np.exp(np.arange(5)), rtol=1e-6)


def test_without_a_gpu(python):
    said = python(
        "import ferrox as fx\n"
        "x = fx.ones(2, 2, device='auto', requires_grad=True); (x @ x).sum().backward()\n"
        "print(x.grad.tolist(), fx.backends.auto.calibration())\n"
        "try: fx.backends.auto.calibrate()\n"
        "except RuntimeError as error: print('nothing to weigh' in str(error))\n"
        "fx.backends.explain()",
        simulated=False, CUDA_VISIBLE_DEVICES="", FERROX_CUDA_KERNELS="/nonexistent",
    )  # fmt: skip
    lines = said.splitlines()
    assert lines[0] == "[[4.0, 4.0], [4.0, 4.0]] None" and lines[1] == "True"
    assert lines[2].startswith('device="auto": the CPU alone, since')
    assert "there is no GPU" in lines[-1]


# Calibration

QUICK = dict.fromkeys(KINDS, 1 << 9) | {"link": 1 << 14}


@pytest.mark.parametrize(("pace", "side"), [((1.0, 1.0, 100.0), "cuda"), ((1.0, 50000.0, 1e-4), "cpu")])
def test_measured_speeds_decide(simulator, pace, side):
    """A device that takes a microsecond for anything, behind a fast link and behind one that takes 50 ms and more."""
    simulator.fxsim_pace(*pace)
    found = auto.calibrate(**QUICK)
    assert found.call[1] == pytest.approx(1e-6, rel=1e-3)
    assert found.byte[1] == pytest.approx(1e-9 / pace[2], rel=0.05)
    assert all(unit[0] > unit[1] for unit in found.unit.values())
    x = fx.rand(300, 300).to("auto")
    auto.reset()
    for _ in range(2):
        x @ x
    assert sides() == [side] * 2


def test_figures_are_kept(simulator, monkeypatch):
    monkeypatch.undo()
    simulator.fxsim_pace(1.0, 1.0, 10.0)
    found = auto.calibrate(**QUICK)
    assert auto.load() == found and auto.load().machine == auto.machine()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"%s": {"call": 3}}', '{"%s": null}'])
def test_a_spoilt_file_is_measured_anew(text, tmp_path, monkeypatch):
    monkeypatch.setenv("FERROX_CACHE_DIR", str(tmp_path))
    auto.cache_file().write_text(text.replace("%s", auto.machine()))
    from ferrox.backends import _calibration

    assert _calibration.load() is None
    _calibration.store(figures())
    assert _calibration._stored()["made up"]["call"] == [1e-6, 5e-6]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FERROX_CACHE_DIR", str(tmp_path / "file" / "below"))
    from ferrox.backends import _calibration

    _calibration.store(figures())
    assert _calibration.load() is None


def test_wrong_figures_are_refused():
    with pytest.raises(ValueError, match="unit"):
        auto.Calibration(call=(1, 1), unit={}, link=(1, 1), byte=(1, 1), submit=1)
    with pytest.raises(ValueError, match="byte"):
        figures(byte=(1,))
    with pytest.raises(TypeError, match="Calibration"):
        auto.set_calibration(3)
    with pytest.raises(TypeError, match="unexpected size 'elementwide'"):
        auto.calibrate(elementwide=3)


def test_explain(capsys):
    weight = fx.ones(400, 400).to("auto")
    auto.reset()
    weight @ weight
    fx.ones(3).to("auto") + 1
    fx.backends.explain()
    said = capsys.readouterr().out
    assert 'device="auto": the CPU and the GPU of made up' in said
    assert "calls: 1 on the CPU, 1 on the GPU; copied 640 kB to the GPU in 1 copies, 0 B to the CPU in 0 copies" in said
    matmul = next(line for line in said.splitlines() if line.startswith("  matmul: "))
    # 400**3 multiply-adds: 64 ms and 0.64 ms; 640 kB: 64 µs and 10 µs for the copy.
    assert matmul == "  matmul: cuda 721 µs (waiting 2 µs, copying 74 µs); cpu 64 ms"
    file = io.StringIO()
    fx.backends.explain(last=0, file=file)
    assert "matmul: " not in file.getvalue() and capsys.readouterr().out == ""


def test_the_profiler_sees_places_and_copies():
    weight = fx.ones(400, 400).to("auto")
    weight @ weight                                     # loads the kernel
    other = fx.ones(400, 400).to("auto")
    with fx.profiler.profile() as profile:
        (other @ other).sum().item()
    assert [event.name for event in profile.events() if event.name in ("matmul", "to")][:2] == ["to", "matmul"]
    assert sum(event.device_time_total > 0 for event in profile.events() if event.name == "matmul") == 1
