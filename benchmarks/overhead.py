"""What one operator, and one node of a chain, costs beyond its arithmetic."""

import gc
import os
import time

from harness import agree, duration, interleave, load, passes, progress, table, timings

PAIRS = 8


def pairs(make, numpy, shape, grad=False):
    """Fresh inputs, the same for every system."""
    stream = numpy.random.default_rng(0)
    made = [tuple(make(stream.standard_normal(shape).astype("float32")) for _ in range(2)) for _ in range(PAIRS)]
    return [tuple(each.requires_grad_() for each in pair) for pair in made] if grad else made


def overhead(settings):
    import numpy as np

    import ferrox as fx

    torch, jax = load("torch"), load("jax")
    works = [
        ("a + b, 1 element, no grad", (1,), False, "a + b"),
        ("a + b, 1 element, recorded", (1,), True, "a + b"),
        ("a @ b, 8x8, recorded", (8, 8), True, "a @ b"),
        ("relu, 8x8, recorded", (8, 8), True, "a.relu()"),
        ("sum, 8x8, recorded", (8, 8), True, "a.sum()"),
        ("add, 1000 elements, no grad", (1000,), False, "a + b"),
        ("relu, 1000 elements, no grad", (1000,), False, "a.relu()"),
    ]
    measured = []
    for label, shape, grad, work in works:
        systems = {"Ferrox": passes(work, pairs(fx.from_numpy, np, shape, grad))}
        if torch:
            systems["PyTorch"] = passes(work, pairs(torch.from_numpy, np, shape, grad))
        if work == "a + b" and not grad:
            systems["NumPy"] = passes(work, pairs(np.asarray, np, shape))
            if jax:
                inputs = pairs(jax.numpy.asarray, np, shape)
                systems["JAX"] = passes("add(a, b).block_until_ready()", inputs, add=jax.jit(lambda a, b: a + b))
        for each in systems.values():
            each()
        agree(
            label,
            {
                name: (each.result().detach() if hasattr(each.result(), "detach") else each.result())
                for name, each in systems.items()
            },
        )
        medians = interleave(systems, settings, label)
        measured.append((label, {name: seconds / PAIRS for name, seconds in medians.items()}))
    return timings("Overhead of one call (JAX: jit)", measured)


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def chain_of(module, length):
    """Build, backward and free of `length` small operators on one element; what the gradient is."""
    x = module.ones(1).requires_grad_()
    gc.collect()
    before, start = resident(), time.perf_counter()
    y = x
    for _ in range(length // 2):
        y = (y * 1.0) + x
    built, after = time.perf_counter(), resident()
    y.backward()
    passed = time.perf_counter()
    value, grad = y.item(), x.grad.item()
    read = time.perf_counter()
    del y
    return built - start, passed - built, time.perf_counter() - read, (after - before) / length, (value, grad)


def chain(settings):
    import ferrox as fx

    torch = load("torch")
    systems = {"Ferrox": fx, **({"PyTorch": torch} if torch else {})}
    parts = []
    for length in (1000, 20_000 if settings.tiny else 1_000_000):
        rounds = settings.rounds if length == 1000 else max(1, settings.rounds // 3)
        taken = {name: [] for name in systems}
        for k in range(rounds):
            for name, module in systems.items():
                progress(f"chain of {length}: {name}, round {k + 1} of {rounds}")
                taken[name].append(chain_of(module, length))
        progress("")
        agree("chain", {name: each[-1][4] for name, each in taken.items()})
        middle = {
            name: [sorted(column)[len(column) // 2] for column in list(zip(*each, strict=True))[:3]]
            for name, each in taken.items()
        }
        # The first round, before freed memory is used again.
        rows = [
            [
                name,
                *map(duration, m),
                duration((m[0] + m[1]) / length),
                f"{taken[name][0][3]:.0f} B",
                f"{sum(middle['PyTorch'][:2]) / sum(m[:2]):.2f}x" if torch else "-",
            ]
            for name, m in middle.items()
        ]
        parts.append(
            table(
                f"Chain of {length:,} nodes",
                [
                    "system",
                    "build",
                    "backward",
                    "free",
                    "forward + backward per node",
                    "bytes per node (RSS)",
                    "against PyTorch",
                ],
                rows,
            )
        )
    return "\n".join(parts)
