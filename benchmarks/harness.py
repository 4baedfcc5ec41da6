"""Timing side by side: systems take turns within each round, medians over rounds, ratios to PyTorch."""

import gc
import importlib
import os
import platform
import statistics
import sys
import time

ORDER = ("Ferrox", "PyTorch", "NumPy", "JAX")
# The threads of a pool go on spinning for a while after their last work (OpenBLAS's for 2^26 cycles), and would take a
# core from whoever is next.
SPIN = 0.08


class Settings:
    """`rounds` turns of each system, of about `seconds` each; `tiny` also shrinks the work, to see that all runs."""

    def __init__(self, rounds=9, seconds=0.05, threads=1, tiny=False):
        self.rounds, self.seconds, self.threads, self.tiny = rounds, seconds, threads, tiny


def limit_threads(threads):
    """Before anything is imported: so many cores, and so many threads for every library."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FERROX_NUM_THREADS"):
        os.environ[name] = str(threads)


def load(name):
    """A module with its thread count set, or None where it is not installed."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    if name == "torch":
        module.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return module


def progress(text):
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def repeats(function, seconds):
    """How many calls take about `seconds`."""
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            function()
        spent = time.perf_counter() - start
        if spent > seconds / 4 or count >= 1 << 24:
            return max(1, int(count * seconds / max(spent, 1e-9)))
        count *= 4


def interleave(systems, settings, label=""):
    """Median seconds per call of each function, all in turn in every round."""
    counts = {name: repeats(function, settings.seconds) for name, function in systems.items()}
    taken = {name: [] for name in systems}
    for k in range(settings.rounds):
        progress(f"{label}: round {k + 1} of {settings.rounds}")
        for name, function in systems.items():
            gc.collect()
            if settings.threads > 1:
                time.sleep(SPIN)
            start = time.perf_counter()
            for _ in range(counts[name]):
                function()
            taken[name].append((time.perf_counter() - start) / counts[name])
    progress("")
    return {name: statistics.median(each) for name, each in taken.items()}


def cycle(function, inputs):
    """`function` on other inputs in every call; the last result is kept to be read."""
    state = [0, None]
    count = len(inputs)

    def step():
        k = state[0]
        state[0] = (k + 1) % count
        state[1] = function(*inputs[k])

    step.result = lambda: state[1]
    return step


def passes(expression, inputs, **names):
    """A function that evaluates `expression` of a and b for each pair of inputs, with no call of Python around it."""
    space = {"inputs": inputs, "last": [None], **names}
    exec(f"def step():\n    for a, b in inputs:\n        out = {expression}\n    last[0] = out\n", space)
    space["step"].result = lambda: space["last"][0]
    return space["step"]


def agree(label, results, rtol=1e-4, atol=1e-5):
    """Refuse to time systems that do not compute the same; `results` are arrays by system."""
    import numpy as np

    first = next(iter(results))
    for name, each in results.items():
        if not np.allclose(np.asarray(each), np.asarray(results[first]), rtol=rtol, atol=atol):
            raise SystemExit(
                f"{label}: {name} and {first} differ: {np.asarray(each).ravel()[:4]} and "
                f"{np.asarray(results[first]).ravel()[:4]}"
            )


def duration(seconds):
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def speed_up(medians):
    """How many times faster than PyTorch."""
    return f"{medians['PyTorch'] / medians['Ferrox']:.2f}x" if {"PyTorch", "Ferrox"} <= medians.keys() else "-"


def table(title, heads, rows, note=""):
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' + '---:|' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join(str(each) for each in row)} |" for row in rows]
    return "\n".join([*lines, *(["", note] if note else []), ""])


def timings(title, measured, extra=None, heads=()):
    """A table of medians by system; `extra(label, medians)` adds columns."""
    names = [name for name in ORDER if any(name in medians for _, medians in measured)]
    rows = [
        [
            label,
            *(duration(medians.get(name)) for name in names),
            speed_up(medians),
            *(extra(label, medians) if extra else ()),
        ]
        for label, medians in measured
    ]
    return table(title, ["work", *names, "Ferrox against PyTorch", *heads], rows)


def machine():
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = []
    from importlib.metadata import PackageNotFoundError, version

    for name in ("ferrox", "torch", "numpy", "jax"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{model}, Python {platform.python_version()}, {', '.join(versions)}; {load}"
