"""Elementwise work, reductions and matrix products: time and GB/s or GFLOP/s."""

from harness import agree, cycle, interleave, load, timings


def compare(label, arrays, works, settings, rtol=1e-3, atol=1e-3):
    """Median time of each system's function over the same fresh inputs; results are compared first."""
    import ferrox as fx

    torch, jax = load("torch"), load("jax")
    make = {
        "Ferrox": fx.from_numpy,
        "NumPy": lambda each: each,
        "PyTorch": torch and torch.from_numpy,
        "JAX": jax and jax.numpy.asarray,
    }
    systems = {}
    for name in ("Ferrox", "PyTorch", "NumPy", "JAX"):
        if name in works and make[name]:
            work = works[name]
            if name == "JAX":
                jitted = jax.jit(work)
                work = lambda *given, f=jitted: f(*given).block_until_ready()  # noqa: E731
            systems[name] = cycle(work, [tuple(make[name](each) for each in given) for given in arrays])
            systems[name]()
    agree(label, {name: each.result() for name, each in systems.items()}, rtol, atol)
    return interleave(systems, settings, label)


def inputs(shapes, count=3):
    import numpy as np

    stream = np.random.default_rng(0)
    return [tuple(stream.standard_normal(shape).astype("float32") for shape in shapes) for _ in range(count)]


def elementwise(settings):
    import numpy as np

    torch, jax = load("torch"), load("jax")
    functional, jnn = torch and torch.nn.functional, jax and jax.nn
    import ferrox as fx

    ours = fx.nn.functional
    works = {
        "add": (2, 3, {"Ferrox": fx.add, "PyTorch": torch and torch.add, "NumPy": np.add, "JAX": lambda a, b: a + b}),
        "relu": (
            1,
            2,
            {
                "Ferrox": fx.relu,
                "PyTorch": torch and torch.relu,
                "NumPy": lambda x: np.maximum(x, 0),
                "JAX": jnn and jnn.relu,
            },
        ),
        "exp": (
            1,
            2,
            {"Ferrox": fx.exp, "PyTorch": torch and torch.exp, "NumPy": np.exp, "JAX": jax and jax.numpy.exp},
        ),
        "tanh": (
            1,
            2,
            {"Ferrox": fx.tanh, "PyTorch": torch and torch.tanh, "NumPy": np.tanh, "JAX": jax and jax.numpy.tanh},
        ),
        "sigmoid": (
            1,
            2,
            {
                "Ferrox": fx.sigmoid,
                "PyTorch": torch and torch.sigmoid,
                "NumPy": lambda x: 1 / (1 + np.exp(-x)),
                "JAX": jnn and jnn.sigmoid,
            },
        ),
        "gelu": (
            1,
            2,
            {
                "Ferrox": ours.gelu,
                "PyTorch": torch and functional.gelu,
                "JAX": lambda x: jnn.gelu(x, approximate=False),
            },
        ),
        "softmax": (
            1,
            2,
            {
                "Ferrox": lambda x: fx.softmax(x, -1),
                "PyTorch": lambda x: torch.softmax(x, -1),
                "JAX": lambda x: jnn.softmax(x, -1),
            },
        ),
        "layer_norm": (
            1,
            2,
            {"Ferrox": lambda x: ours.layer_norm(x, (100,)), "PyTorch": lambda x: functional.layer_norm(x, (100,))},
        ),
    }
    measured, bytes_of = [], {}
    for size in (1000, 100_000) if settings.tiny else (1000, 100_000, 10_000_000):
        for name, (operands, moved, functions) in works.items():
            label = f"{name}, {size:.0e}"
            bytes_of[label] = 4 * moved * size
            measured.append((label, compare(label, inputs([(size // 100, 100)] * operands), functions, settings)))
    return timings(
        "Elementwise, float32, rows of 100",
        measured,
        lambda label, m: [f"{bytes_of[label] / m['Ferrox'] / 1e9:.1f}"],
        ["Ferrox GB/s"],
    )


def reductions(settings):
    import numpy as np

    import ferrox as fx

    torch, jax = load("torch"), load("jax")
    side = 300 if settings.tiny else 3163
    works = {
        f"{name}, {where}": {
            "Ferrox": lambda x, n=name, d=dim: getattr(fx, n)(x) if d is None else getattr(fx, n)(x, d),
            "PyTorch": lambda x, n=name, d=dim: getattr(torch, n)(x) if d is None else getattr(torch, n)(x, d),
            "NumPy": lambda x, n=name, d=dim: getattr(np, n)(x, d),
            "JAX": lambda x, n=name, d=dim: getattr(jax.numpy, n)(x, d),
        }
        for name, where, dim in [
            ("sum", "all", None),
            ("sum", "axis 0", 0),
            ("sum", "axis 1", 1),
            ("mean", "axis 1", 1),
            ("amax", "all", None),
            ("argmax", "all", None),
            ("argmax", "axis 1", 1),
        ]
    }
    works["transpose-copy"] = {
        "Ferrox": lambda x: x.t().contiguous(),
        "PyTorch": lambda x: x.t().contiguous(),
        "NumPy": lambda x: np.ascontiguousarray(x.T),
    }
    given = inputs([(side, side)])
    measured = [(label, compare(label, given, functions, settings, atol=0.1)) for label, functions in works.items()]
    moved = 4 * side * side
    return timings(
        f"Reductions of {side} x {side} float32",
        measured,
        lambda label, m: [f"{moved * (2 if label.startswith('transpose') else 1) / m['Ferrox'] / 1e9:.1f}"],
        ["Ferrox GB/s"],
    )


def gemm(settings):
    import numpy as np

    def of(a, b):
        return a @ b

    shapes = [(1, 784, 256), (32, 784, 256), (64, 64, 64), (256, 256, 256), (256, 784, 256), (1024, 64, 128)]
    shapes += [] if settings.tiny else [(512, 512, 512), (1024, 1024, 1024), (1024, 1024, 10)]
    measured, flops = [], {}
    for m, k, n in shapes:
        for label, work, given in (
            (f"{m}x{k}x{n}", of, inputs([(m, k), (k, n)])),
            (f"{m}x{k}x{n}, both transposed", lambda a, b: a.T @ b.T, inputs([(k, m), (n, k)])),
        ):
            flops[label] = 2 * m * k * n
            measured.append(
                (label, compare(label, given, dict.fromkeys(("Ferrox", "PyTorch", "NumPy", "JAX"), work), settings))
            )
    best = {
        label: max(flops[label] / each for name, each in m.items() if name != "Ferrox") / 1e9 if len(m) > 1 else np.nan
        for label, m in measured
    }
    return timings(
        "Matrix products, float32, M x K x N",
        measured,
        lambda label, m: [f"{flops[label] / m['Ferrox'] / 1e9:.1f}", f"{best[label]:.1f}"],
        ["Ferrox GFLOP/s", "best peer GFLOP/s"],
    )
