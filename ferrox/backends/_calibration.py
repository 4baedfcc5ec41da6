"""What calls and copies cost on this machine: measured once, kept in a file."""
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

from ferrox._core.door import placement as _placement

__all__ = ["Calibration", "cache_file", "load", "machine", "measure", "store"]

# Elements per measured call.  Large enough that a call's own cost does not count, small enough to be done soon.
SIZES = {
    "elementwise": 1 << 22, "transcendental": 1 << 21, "random": 1 << 22, "reduction": 1 << 22, "rows": 1 << 21,
    "scan": 1 << 20, "order": 1 << 18, "product": 1 << 20, "attention": 1 << 19, "link": 1 << 24,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Costs in seconds; pairs are of the CPU and the GPU."""

    call: tuple         #: a call without work: its time on the CPU; from one's start to the next's on the GPU
    unit: dict          #: by kind of kernel, a unit of work: an element read or written; of products, a multiply-add
    link: tuple         #: a copy without bytes: to the CPU, to the GPU
    byte: tuple         #: each byte of it
    submit: float       #: time of the host for handing a call to the GPU
    machine: str = ""
    measured: str = ""  #: the day

    def __post_init__(self):
        if set(self.unit) != set(_placement.KIND_NAMES):
            raise ValueError(f"unit: expected the kinds {', '.join(_placement.KIND_NAMES)}, got {', '.join(self.unit)}")
        for name in ("call", "link", "byte"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name}: expected a pair, got {getattr(self, name)!r}")


def machine():
    """What the figures hold for: processor, threads, GPU, driver, version."""
    import ferrox
    from ferrox import cuda

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        text = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in text if line.startswith("model name"))
    gpu = cuda.get_device_properties(cuda.current_device())
    return f"{name}, {ferrox.get_num_threads()} threads; {gpu.name} {gpu.uuid}; Ferrox {ferrox.__version__}"


def cache_file():
    """The file that keeps the figures: in FERROX_CACHE_DIR, else in the user's cache folder."""
    folder = os.environ.get("FERROX_CACHE_DIR")
    if not folder:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "ferrox"
    return Path(folder) / "calibration.json"


def _stored():
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def load():
    """The figures kept for this machine, or None; a file that cannot be read is as good as none."""
    try:
        kept = dict(_stored()[machine()])
        for name in ("call", "link", "byte"):
            kept[name] = tuple(float(seconds) for seconds in kept[name])
        kept["unit"] = {kind: tuple(float(seconds) for seconds in pair) for kind, pair in kept["unit"].items()}
        return Calibration(**kept)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def store(calibration):
    """Keep figures beside those of other machines; a folder that cannot be written is passed over."""
    kept = {**_stored(), calibration.machine: dataclasses.asdict(calibration)}
    with contextlib.suppress(OSError):
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(kept, file, indent=1)
        os.replace(file.name, path)


def _samples(fx, device, sizes):
    """For each kind, a call and its units of work."""
    def side(kind, parts=1):
        return max(2, int((sizes[kind] / parts) ** 0.5))

    a = fx.rand(sizes["elementwise"], device=device)
    out = fx.empty_like(a)
    angles = fx.rand(sizes["transcendental"], device=device)
    angles_out = fx.empty_like(angles)
    drawn = fx.empty(sizes["random"], device=device)
    summed = fx.rand(sizes["reduction"], device=device)
    rows = fx.rand(max(1, sizes["rows"] // 256), 256, device=device)
    line = fx.rand(sizes["scan"], device=device)
    unsorted = fx.rand(sizes["order"], device=device)
    n = side("product")
    factor = fx.rand(n, n, device=device)
    length = max(2, sizes["attention"] // (8 * 64))
    q = fx.rand(1, 8, length, 64, device=device)
    attend = fx.nn.functional.scaled_dot_product_attention
    return {
        "elementwise": (lambda: fx.add(a, a, out=out), 3 * a.numel()),
        "transcendental": (lambda: fx.tanh(angles, out=angles_out), 2 * angles.numel()),
        "random": (drawn.uniform_, drawn.numel()),
        "reduction": (summed.sum, summed.numel()),
        "rows": (lambda: fx.softmax(rows, 1), 2 * rows.numel()),
        "scan": (lambda: line.cumsum(0), 2 * line.numel()),
        "order": (unsorted.sort, 3 * unsorted.numel()),
        "product": (lambda: factor @ factor, n**3),
        "attention": (lambda: attend(q, q, q), 2 * q.numel() * length),
    }


def _host_seconds(call, repeat):
    start = perf_counter()
    for _ in range(repeat):
        call()
    return (perf_counter() - start) / repeat


def _gpu_seconds(fx, call, repeat):
    start, end = fx.cuda.Event(enable_timing=True), fx.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeat):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3 / repeat


def _median(seconds, call, repeat=1, rounds=5):
    call()
    return statistics.median(seconds(call, repeat) for _ in range(rounds))


def measure(**sizes):
    """Time a kernel of each kind on both sides, and copies both ways."""
    import ferrox as fx

    unknown = set(sizes) - set(SIZES)
    if unknown:
        raise TypeError(f"measure() got an unexpected size {', '.join(sorted(unknown))!r}; it has {', '.join(SIZES)}")
    sizes = {**SIZES, **sizes}

    def on_gpu(call, repeat):
        return _gpu_seconds(fx, call, repeat)

    state = {device: fx._core.tensor.generator.default_generator(device).get_state() for device in ("cpu", "cuda")}
    with fx.no_grad():
        call, unit = [], {kind: [] for kind in _placement.KIND_NAMES}
        for device, seconds in (("cpu", _host_seconds), ("cuda", on_gpu)):
            one = fx.ones(1, device=device)
            call.append(_median(seconds, lambda one=one: one + one, repeat=100))
            for kind, (sample, units) in _samples(fx, device, sizes).items():
                unit[kind].append(max(_median(seconds, sample) - call[-1], 0.0) / units)
        fx.cuda.synchronize()
        submit = _median(_host_seconds, lambda one=one: one + one, repeat=100)
        fx.cuda.synchronize()
        here = fx.rand(sizes["link"])
        there = here.cuda()
        small = here[:1].clone()
        link = (_median(on_gpu, there[:1].cpu, repeat=10), _median(on_gpu, small.cuda, repeat=10))
        copies = (_median(on_gpu, there.cpu, rounds=3), _median(on_gpu, here.cuda, rounds=3))
        bytes = here.numel() * here.element_size()
        byte = tuple(max(copy - once, 0.0) / bytes for copy, once in zip(copies, link, strict=True))
    for device, before in state.items():
        fx._core.tensor.generator.default_generator(device).set_state(before)
    return Calibration(
        call=tuple(call), unit={kind: tuple(pair) for kind, pair in unit.items()}, link=link, byte=byte, submit=submit,
        machine=machine(), measured=datetime.date.today().isoformat(),
    )  # fmt: skip
