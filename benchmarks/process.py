"""Whole processes: import, memory, installed size, and a digits classifier from start to end."""

import importlib.metadata
import os
import statistics
import subprocess
import sys
import time

from harness import duration, load, progress, table

IMPORT = """
import time; start = time.perf_counter()
{code}
spent = time.perf_counter() - start
with open("/proc/self/status") as status:
    rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
print(spent, rss)
"""
DIGITS = """
import time; start = time.perf_counter()
import sys
import numpy as np
data = np.load(sys.argv[1])
import {name} as lib
if "{name}" == "torch": lib.set_num_threads({threads})
lib.manual_seed(0)
net = lib.nn.Sequential(lib.nn.Linear(64, 128), lib.nn.ReLU(), lib.nn.Linear(128, 10))
weights = [data[f"w{{k}}"] for k in range(4)]
with lib.no_grad():
    for p, w in zip(net.parameters(), weights):
        p.copy_(lib.from_numpy(w))
x, y, tx, ty = (lib.from_numpy(data[k]) for k in ("x", "y", "tx", "ty"))
optimiser = lib.optim.Adam(net.parameters(), lr=0.003)
order = np.random.default_rng(0)
losses, steps, best, training = [], 0, 0.0, 0.0
for epoch in range({epochs}):
    shuffled = order.permutation(len(x))
    begin = time.perf_counter()
    for at in range(0, len(x) - 31, 32):
        pick = lib.from_numpy(shuffled[at:at + 32])
        optimiser.zero_grad()
        loss = lib.nn.functional.cross_entropy(net(x[pick]), y[pick])
        loss.backward()
        optimiser.step()
        steps += 1
        if steps <= 3: losses.append(loss.item())
    training += time.perf_counter() - begin
    with lib.no_grad():
        best = (net(tx).argmax(1) == ty).double().mean().item()
    if best >= 0.972: break
print(time.perf_counter() - start, steps / training, best, *losses)
"""


def child(code, *arguments):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start, [float(each) for each in done.stdout.split()]


def imports(settings):
    names = {"bare Python": "pass", "Ferrox": "import ferrox"}
    names |= {
        label: f"import {name}"
        for label, name in (("NumPy", "numpy"), ("PyTorch", "torch"), ("JAX", "jax"))
        if installed(name)
    }
    taken = {name: [] for name in names}
    for k in range(settings.rounds):
        for name, code in names.items():
            progress(f"import: {name}, round {k + 1} of {settings.rounds}")
            wall, (_, rss) = child(IMPORT.format(code=code))
            taken[name].append((wall, rss))
    progress("")
    walls = {name: statistics.median(wall for wall, _ in each) for name, each in taken.items()}
    return table(
        "Import",
        ["module", "whole process", "over bare Python", "RSS"],
        [
            [
                name,
                duration(walls[name]),
                duration(max(walls[name] - walls["bare Python"], 0.0)),
                f"{statistics.median(rss for _, rss in each) / 1024:.0f} MB",
            ]
            for name, each in taken.items()
        ],
    )


def installed(name):
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def needs(name, found):
    """A distribution and all that it requires, without extras."""
    import re

    distribution = installed(name)
    key = name.lower().replace("_", "-")
    if distribution is None or key in found:
        return found
    found[key] = distribution
    for each in distribution.requires or ():
        if "extra ==" not in each:
            needs(re.match(r"[\w.-]+", each).group(), found)
    return found


def bytes_of(distribution):
    total = 0
    for each in distribution.files or ():
        path = distribution.locate_file(each)
        total += os.path.getsize(path) if os.path.exists(path) else 0
    return total


def size(settings):
    rows = []
    for label, name in (("Ferrox", "ferrox"), ("PyTorch", "torch"), ("JAX", "jax"), ("NumPy", "numpy")):
        found = needs(name, {})
        if not found:
            continue
        editable = any(
            str(each).endswith("-editable.pth") or "editable_loader" in str(each) for each in found[name].files or ()
        )
        own = "editable: install a wheel" if editable else f"{bytes_of(found[name]) / 1e6:.1f} MB"
        beyond = sum(bytes_of(each) for key, each in found.items() if key != "numpy" or name == "numpy")
        rows.append([label, own, "-" if editable else f"{beyond / 1e6:.1f} MB", len(found)])
    return table("Installed size", ["package", "itself", "with all it needs, beyond NumPy", "packages"], rows)


def digits_data(path):
    import numpy as np

    sklearn = load("sklearn.datasets")
    stream = np.random.default_rng(0)
    if sklearn:
        x, y = sklearn.load_digits(return_X_y=True)
        x, source = (x / 16).astype("float32"), "scikit-learn's digits"
    else:
        # Ten noisy prototypes stand in for the digits.
        y = stream.integers(0, 10, 1797)
        x = (stream.random((10, 64))[y] + 0.3 * stream.standard_normal((1797, 64))).astype("float32")
        source = "generated digits (scikit-learn is not installed)"
    order = stream.permutation(len(x))
    x, y = x[order], y[order].astype("int64")
    weights = {
        f"w{k}": (stream.uniform(-1, 1, shape) / shape[-1] ** 0.5).astype("float32")
        for k, shape in enumerate([(128, 64), (128,), (10, 128), (10,)])
    }
    np.savez(path, x=x[:1437], y=y[:1437], tx=x[1437:], ty=y[1437:], **weights)
    return source


def digits(settings):
    import tempfile

    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.npz")
        source = digits_data(path)
        names = {"Ferrox": "ferrox", **({"PyTorch": "torch"} if installed("torch") else {})}
        taken = {name: [] for name in names}
        for k in range(settings.rounds):
            for name, module in names.items():
                progress(f"digits: {name}, round {k + 1} of {settings.rounds}")
                code = DIGITS.format(name=module, threads=settings.threads, epochs=2 if settings.tiny else 60)
                taken[name].append(child(code, path))
        progress("")
    results = {name: each[0][1] for name, each in taken.items()}
    first = next(iter(results.values()))
    for name, each in results.items():
        if not np.allclose(each[3:6], first[3:6], rtol=1e-3):
            raise SystemExit(f"digits: losses of the first three steps differ: {name} {each[3:6]}, {first[3:6]}")
    rows = [
        [
            name,
            duration(statistics.median(wall for wall, _ in each)),
            f"{statistics.median(values[1] for _, values in each):,.0f}",
            f"{results[name][2]:.3f}",
        ]
        for name, each in taken.items()
    ]
    return table(
        "Digits, 64-128-10, Adam, batch 32, to 97.2 % on the test set, in a process of its own",
        ["system", "whole process", "training steps/s", "accuracy reached"],
        rows,
        f"Data: {source}. Same weights and same order of batches; same losses in the first three steps.",
    )
