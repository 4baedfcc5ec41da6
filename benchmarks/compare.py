"""Two builds of Ferrox in one run: `python benchmarks/compare.py OLD NEW`, folders that hold an installed `ferrox`.

Each round measures every case once in a fresh process of either build, in turn, so that both see the same machine; the
table has the median over the rounds of the best time in each, and their ratio.  A build from another checkout:
`pip install --no-deps --target OLD path/to/checkout`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise

SIZES = {"8-16-1": (8, 16, 1), "64-128-10": (64, 128, 10), "784-256-128-10": (784, 256, 128, 10)}


def step_of(fx, sizes, batch):
    """One training step with Adam on random data."""
    layers = [each for pair in pairwise(sizes) for each in (fx.nn.Linear(*pair), fx.nn.ReLU())]
    model = fx.nn.Sequential(*layers[:-1])
    optimizer = fx.optim.Adam(model.parameters(), lr=1e-3)
    x, y = fx.randn(batch, sizes[0]), fx.randn(batch, sizes[-1])

    def step():
        optimizer.zero_grad()
        fx.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    return step


def chain_of(fx, n):
    x = fx.ones(1, requires_grad=True)

    def run():
        y = x
        for _ in range(n):
            y = y * 1.0001
        y.backward()

    return run


def cases(fx):
    """What is measured: name, a call, how many calls make one sample, what the time is divided by."""
    one, leaf = fx.randn(1), fx.randn(1, requires_grad=True)
    square = fx.randn(8, 8, requires_grad=True)
    yield "a + b, 1 element", lambda: one + one, 20000, 1
    yield "the same, recorded", lambda: leaf + leaf, 20000, 1
    yield "a @ b 8x8, recorded", lambda: square @ square, 10000, 1
    yield "sum 8x8, recorded", lambda: square.sum(), 10000, 1
    yield "relu 8x8, recorded", lambda: square.relu(), 10000, 1
    yield "a.add_(0), 1 element", lambda: one.add_(0), 20000, 1
    yield "chain, forward and backward, per node", chain_of(fx, 1000), 10, 1000
    for name, batch in (("8-16-1", 1), ("8-16-1", 32), ("64-128-10", 32), ("64-128-10", 256), ("784-256-128-10", 32)):
        yield f"step {name}, Adam, batch {batch}", step_of(fx, SIZES[name], batch), 100, 1
    for n in (100_000, 10_000_000):
        x, y, wide = fx.randn(n), fx.randn(n), fx.randn(n // 100, 100)
        calls = 300 if n < 1_000_000 else 5
        yield f"add, {n:.0e}", lambda x=x, y=y: x + y, calls, 1
        yield f"exp, {n:.0e}", lambda x=x: x.exp(), calls, 1
        yield f"softmax of rows of 100, {n:.0e}", lambda x=wide: x.softmax(1), calls, 1
        yield f"sum, {n:.0e}", lambda x=x: x.sum(), calls, 1
        yield f"sum over rows of 100, {n:.0e}", lambda x=wide: x.sum(1), calls, 1
        yield f"sum over columns, {n:.0e}", lambda x=wide: x.sum(0), calls, 1
        yield f"amax, {n:.0e}", lambda x=x: x.amax(), calls, 1
        yield f"argmax, {n:.0e}", lambda x=x: x.argmax(), calls, 1
        yield f"var, {n:.0e}", lambda x=x: x.var(), calls, 1
        yield f"transposed copy, {n:.0e}", lambda x=wide: x.t().contiguous(), calls, 1


def measure(threads):
    """The best of a few samples of every case, in nanoseconds."""
    import ferrox as fx

    fx.set_num_threads(threads)
    fx.manual_seed(0)
    found = {}
    for name, call, calls, parts in cases(fx):
        call()
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(calls):
                call()
            best = min(best, (time.perf_counter() - start) / calls)
        found[name] = best / parts * 1e9
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("builds", nargs="*", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.measure:
        print(json.dumps(measure(told.threads)))
        return
    old, new = told.builds
    times = {old: [], new: []}
    for _ in range(told.rounds):
        for build in (old, new):
            run = [sys.executable, "-P", os.path.abspath(__file__), "--measure", "--threads", str(told.threads)]
            printed = subprocess.run(run, env={**os.environ, "PYTHONPATH": build}, check=True, capture_output=True)
            times[build].append(json.loads(printed.stdout))
    print(f"{told.threads} thread(s), median of {told.rounds} interleaved rounds, best of five in each\n")
    print("| work | before | after | after / before |\n|---|---:|---:|---:|")
    for name in times[old][0]:
        before, after = (statistics.median(each[name] for each in times[build]) for build in (old, new))
        unit, by = ("ns", 1) if before < 1e4 else ("µs", 1e3) if before < 1e7 else ("ms", 1e6)
        print(f"| {name} | {before / by:.4g} {unit} | {after / by:.4g} {unit} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
