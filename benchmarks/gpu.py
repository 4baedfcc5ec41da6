"""Benchmarks of the GPU beside PyTorch: `python benchmarks/gpu.py [--only bandwidth,gemm] [--tiny]`.

Host time per operator, GB/s against a copy on the device, TFLOP/s of matrix products, attention, training steps, what
an allocation costs and how much memory a trace of them needs.  Systems take turns, medians over rounds; results are
compared before anything is timed.  Device times are taken by events around many calls.  Tables are printed and written
to benchmarks/results/gpu-<part>.md.
"""

import argparse
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import gpu_gpt
import gpu_graphs
from harness import agree, duration, load, machine, progress, table, timings

HERE = Path(__file__).resolve().parent
TRACE = HERE.parent / "tests/core/traces/training.txt"


class System:
    """One library on the device: how it makes tensors, waits and takes time."""

    def __init__(self, name, library):
        self.name, self.library, self.cuda = name, library, library.cuda
        self.functional = library.nn.functional

    def tensor(self, array, dtype="float32"):
        return self.library.from_numpy(array).to(getattr(self.library, dtype)).to("cuda")

    def numpy(self, tensor):
        return tensor.detach().to(self.library.float32).cpu().numpy()

    def device_seconds(self, function, count):
        begin, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            function()
        end.record()
        self.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    def host_seconds(self, function, count):
        """Until the calls have returned: the device's queue must be long enough for them."""
        self.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            function()
        spent = time.perf_counter() - start
        self.cuda.synchronize()
        return spent / count


class Named:
    """A system under another name, for one of several ways to use it."""

    def __init__(self, name, system):
        self.name, self.system = name, system

    def __getattr__(self, name):
        return getattr(self.system, name)


def systems():
    import ferrox as fx

    if not fx.cuda.is_available():
        raise SystemExit(f"no GPU: {fx.cuda.why_not()}")
    torch = load("torch")
    found = [System("Ferrox", fx)]
    if torch is not None and torch.cuda.is_available():
        found.append(System("PyTorch", torch))
    return found


def measure(label, works, options, clock="device_seconds", count=None):
    """Median seconds per call of each system's function; `works` are (system, function)."""
    counts, taken = {}, {system.name: [] for system, _ in works}
    for system, function in works:
        function()
        system.cuda.synchronize()
        once = max(getattr(system, clock)(function, 2), 1e-7)
        counts[system.name] = count or max(2, min(1000, int(options.seconds / once)))
    for k in range(options.rounds):
        progress(f"{label}: round {k + 1} of {options.rounds}")
        for system, function in works:
            taken[system.name].append(getattr(system, clock)(function, counts[system.name]))
    progress("")
    return {name: statistics.median(each) for name, each in taken.items()}


def compared(label, found, inputs, work, dtype="float32", tolerance=1e-3):
    """(system, function) for each system, after their results were seen to agree."""
    made, results = [], {}
    for system in found:
        given = [system.tensor(each, dtype) for each in inputs]
        made.append((system, lambda system=system, given=given: work(system, *given)))
        results[system.name] = system.numpy(made[-1][1]())
    agree(label, results, tolerance, tolerance)
    return made


def normal(*shape):
    import numpy as np

    return np.random.default_rng(0).standard_normal(shape, dtype="float32")


def overhead(found, options):
    n = options.size(200, 20)
    measured = []
    small = {
        "add, 1 element": lambda s, x: x + x,
        "relu, 1 element": lambda s, x: s.library.relu(x),
        "sum, 1 element": lambda s, x: x.sum(),
        "matmul, 8 x 8": lambda s, x: x @ x,
    }
    for label, work in small.items():
        works = compared(label, found, [normal(8, 8) if "matmul" in label else normal(1)], work)
        measured.append((label, measure(label, works, options, "host_seconds", n)))
    return timings("Host time per eager operator", measured)


def bandwidth(found, options):
    rows, columns = options.size((100_000, 1000), (40, 100))
    inputs = [normal(rows, columns), normal(rows, columns)]
    nbytes = 4 * rows * columns
    works = {
        "copy": (2, lambda s, x, y: x.clone()),
        "add": (3, lambda s, x, y: x + y),
        "exp": (2, lambda s, x, y: x.exp()),
        "softmax": (2, lambda s, x, y: s.functional.softmax(x, -1)),
        "layer_norm": (2, lambda s, x, y: s.functional.layer_norm(x, (columns,))),
        "sum, all": (1, lambda s, x, y: x.sum()),
        "sum, axis 0": (1, lambda s, x, y: x.sum(0)),
        "sum, axis 1": (1, lambda s, x, y: x.sum(1)),
        "transpose-copy": (2, lambda s, x, y: x.t().contiguous()),
    }
    lines, copied = [], None
    for label, (moved, work) in works.items():
        tolerance = 1e-2 * columns if label.startswith("sum") else 1e-3
        medians = measure(label, compared(label, found, inputs, work, tolerance=tolerance), options)
        speed = moved * nbytes / medians["Ferrox"] / 1e9
        copied = copied or speed
        lines.append((label, medians, f"{speed:.0f}", f"{100 * speed / copied:.0f} %"))
    extra = {label: rest for label, _, *rest in lines}
    return timings(
        f"Float32, {rows} x {columns}", [(label, medians) for label, medians, *_ in lines],
        lambda label, _: extra[label], ["Ferrox GB/s", "of its copy"],
    )  # fmt: skip


def gemm(found, options):
    measured = []
    for dtype in ("float32", "float16", "bfloat16"):
        for m, k, n in options.size([(4096, 4096, 4096), (1024, 1024, 1024), (256, 784, 256)], [(32, 48, 16)]):
            label = f"{dtype}, {m}x{k}x{n}"
            works = compared(label, found, [normal(m, k), normal(k, n)], lambda s, a, b: a @ b, dtype, 0.05 * k**0.5)
            measured.append((label, measure(label, works, options), 2 * m * k * n))
    flops = {label: each for label, _, each in measured}
    return timings(
        "Matrix products", [(label, medians) for label, medians, _ in measured],
        lambda label, medians: [f"{flops[label] / medians['Ferrox'] / 1e12:.2f}"], ["Ferrox TFLOP/s"],
    )  # fmt: skip


def attention(found, options):
    batch, heads, length, size = options.size((8, 16, 1024, 64), (1, 2, 16, 8))
    inputs = [normal(batch, heads, length, size) for _ in range(3)]
    measured = []
    for dtype in ("float32", "float16"):
        for causal in (False, True):
            label = f"{dtype}{', causal' if causal else ''}, {batch}x{heads}x{length}x{size}"

            def work(s, q, k, v, causal=causal):
                return s.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

            works = compared(label, found, inputs, work, dtype, 0.02)
            measured.append((label, measure(label, works, options)))
    return timings("Attention, forward", measured)


def train(found, options):
    import numpy as np

    measured = []
    sizes = options.size([(784, 256, 128, 10), (1024, 1024, 1024, 1024)], [(8, 6, 4)])
    for widths in sizes:
        for batch in options.size((32, 256), (4,)):
            label = f"{'-'.join(map(str, widths))}, Adam, batch {batch}"
            draw = np.random.default_rng(1)
            weights = [draw.standard_normal((b, a), dtype="f4") / a**0.5 for a, b in pairwise(widths)]
            classes = draw.integers(0, widths[-1], batch)
            works, losses = [], {}
            for system in found:
                nn, layers = system.library.nn, []
                for weight in weights:
                    linear = nn.Linear(weight.shape[1], weight.shape[0]).to("cuda")
                    with system.library.no_grad():
                        linear.weight.copy_(system.tensor(weight))
                        linear.bias.zero_()
                    layers += [linear, nn.ReLU()]
                model = nn.Sequential(*layers[:-1])
                optimiser = system.library.optim.Adam(model.parameters(), lr=1e-3)
                x = system.tensor(normal(batch, widths[0]))
                target = system.library.from_numpy(classes).to("cuda")

                def step(system=system, model=model, optimiser=optimiser, x=x, target=target):
                    optimiser.zero_grad()
                    loss = system.functional.cross_entropy(model(x), target)
                    loss.backward()
                    optimiser.step()
                    return loss

                losses[system.name] = [step().item() for _ in range(3)]
                works.append((system, step))
            agree(label, losses, 1e-3, 1e-4)
            measured.append((label, measure(label, works, options)))
    return timings("Training step", measured)


def graphs(found, options):
    rows = []
    for widths in options.size([(784, 256, 128, 10), (1024, 1024, 1024, 1024)], [(8, 6, 4)]):
        for batch in options.size((32, 256), (4,)):
            label = f"{'-'.join(map(str, widths))}, Adam, batch {batch}"
            losses, works = {}, []
            for name, system, way in gpu_graphs.ways(found):
                progress(f"{label}: {name}")
                losses[name], step = way(system, widths, batch)
                works.append((Named(name, system), step))
            agree(label, losses, 1e-3, 1e-4)
            medians = measure(label, works, options)
            best = min((each for name, each in medians.items() if name.startswith("PyTorch")), default=None)
            rows.append([label, *map(duration, medians.values()),
                         f"{best / medians['Ferrox, captured']:.2f}x" if best else "-"])
    heads = ["step", *medians, "captured Ferrox against PyTorch's best"]
    return table("Training step, eager and captured", heads, rows)


def gpt(found, options):
    measured = []
    for sizes in options.size([(256, 16, 128, 256, 4, 4), (8192, 8, 512, 512, 8, 6)], [(11, 2, 6, 8, 2, 2)]):
        vocabulary, batch, length, width, _, layers = sizes
        label = f"{layers} layers of {width}, {batch} x {length} tokens of {vocabulary}"
        works = [(system, gpu_gpt.step_of(system, *sizes)) for system in found]
        agree(label, {system.name: [step().item() for _ in range(3)] for system, step in works}, 1e-3, 1e-4)
        measured.append((label, measure(label, works, options)))
    return timings("Training step of a small GPT, AdamW, float32", measured)


def replayed(system, requests):
    """One pass over a recorded trace of requests: (name, bytes), or (name, None) where it is freed."""
    held = {}
    for name, nbytes in requests:
        if nbytes is None:
            del held[name]
        else:
            held[name] = system.library.empty(nbytes, dtype=system.library.uint8, device="cuda")


def trace(found, options):
    requests = []
    for line in TRACE.read_text().splitlines():
        words = line.split()
        if words[:1] == ["alloc"]:
            requests.append((words[1], int(words[2])))
        elif words[:1] == ["free"]:
            requests.append((words[1], None))
    works = [(system, lambda system=system: replayed(system, requests)) for system in found]
    rows = []
    for system in found:
        system.cuda.synchronize()
        system.cuda.empty_cache()
        before = system.cuda.memory_reserved()
        system.cuda.reset_peak_memory_stats()
        replayed(system, requests)
        used = system.cuda.memory_stats()
        most, held = used["allocated_bytes.all.peak"], used["reserved_bytes.all.peak"] - before
        rows.append([system.name, f"{most / 2**20:.1f}", f"{held / 2**20:.1f}", f"{100 * (1 - most / held):.1f} %"])
    lost = table("Memory over the trace", ["system", "allocated MiB at most", "reserved MiB", "lost"], rows)
    medians = measure("trace", works, options, "host_seconds")
    return timings(f"A trace of {len(requests)} requests of training, one pass", [("trace", medians)]) + "\n" + lost


def allocator(found, options):
    measured = []
    for size in options.size((1 << 10, 1 << 20, 1 << 26), (1 << 8,)):
        label = f"empty, {4 * size} bytes, freed at once"
        works = [(s, lambda s=s, size=size: s.library.empty(size, device="cuda")) for s in found]
        measured.append((label, measure(label, works, options, "host_seconds", options.size(2000, 20))))
    used = found[0].cuda.memory_stats()
    figures = ("reserved_bytes.all.peak", "allocated_bytes.all.peak", "num_alloc_retries")
    held = table("Ferrox's memory at the end", ["figure", ""], [[name, used[name]] for name in figures])
    return timings("A tensor from the cache", measured) + "\n" + held


PARTS = {each.__name__: each for each in (overhead, bandwidth, gemm, attention, train, graphs, gpt, allocator, trace)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.05, help="per system and round")
    parser.add_argument("--tiny", action="store_true", help="small work, to see that everything runs")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.size = lambda whole, tiny: tiny if options.tiny else whole
    unknown = set(options.only.split(",")) - PARTS.keys()
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    found = systems()
    card = found[0].cuda.get_device_name()
    options.results.mkdir(parents=True, exist_ok=True)
    for part in options.only.split(","):
        text = f"# gpu-{part}\n\n{card}; {machine()}; median of {options.rounds} interleaved rounds\n\n"
        text += PARTS[part](found, options)
        print(text)
        (options.results / f"gpu-{part}.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
