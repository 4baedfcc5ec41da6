"""Check a wheel that is for others, in the environment that it was installed into: check_wheel.py FERROX.whl"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import ferrox as fx
from ferrox._core.bundles import BUNDLES, LEVELS
from ferrox._core.cuda.families import ARCHITECTURES, FAMILIES

WANTED = {"CPU levels": (LEVELS, ("v2", "v3", "v4")), "architectures": (ARCHITECTURES, ("80", "90", "100", "120"))}
ONLY_FOR_TESTS = {"mock_source", "dense_probe"}


def contents(wheel):
    """What is wrong with the files of the wheel, in sentences."""
    names = zipfile.ZipFile(wheel).namelist()
    for what, (got, wanted) in WANTED.items():
        if tuple(got) != wanted:
            yield f"{what}: {got}, and {wanted} are wanted"
    absent = [each for each in FAMILIES if f"ferrox/_core/cuda/{each}.fatbin" not in names]
    if not FAMILIES or absent:
        yield f"kernels without their file: {absent or 'all'}"
    copied = [each for each in names if re.search(r"libgomp|libcuda|libcublas", each)]
    if copied:
        yield f"copies of libraries that must be the system's: {copied}"
    if not re.search(r"-manylinux_\d+_\d+_x86_64", Path(wheel).name):
        yield f"not a manylinux wheel: {Path(wheel).name}"
    shipped = ONLY_FOR_TESTS & {each for modules in BUNDLES.values() for each in modules}
    if shipped:
        yield f"what only the tests import: {sorted(shipped)}"


def linked():
    """Libraries that a shared object of the installed package does not find, or finds under a name of their own."""
    for path in Path(fx.__file__).parent.rglob("*.so*"):
        said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for line in said.splitlines():
            if "not found" in line or re.search(r"libgomp-", line):
                yield f"{path.name}: {line.strip()}"


def trained():
    """A sentence when a small net does not learn."""
    fx.manual_seed(0)
    x = fx.linspace(-1, 1, 64).reshape(64, 1)
    model = fx.nn.Sequential(fx.nn.Linear(1, 32), fx.nn.Tanh(), fx.nn.Linear(32, 1))
    optimizer = fx.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = fx.nn.functional.mse_loss(model(x), fx.sin(3 * x))
        loss.backward()
        optimizer.step()
    if not loss.item() < 0.005:
        yield f"after 300 steps the loss is {loss.item()}"


if __name__ == "__main__":
    faults = [*contents(sys.argv[1]), *linked(), *trained()]
    print("\n".join(faults) or f"{Path(sys.argv[1]).name}: as it should be; {fx.cuda.why_not() or 'a GPU is here'}")
    sys.exit(bool(faults))
