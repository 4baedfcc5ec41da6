"""Large products by cuBLASLt: a plain one beside the simulated device, the installed one on a GPU."""

import pytest

from .conftest import SIMULATED

PROGRAM = """
import ctypes
import os
import numpy as np
import ferrox as fx
from ferrox._core.cuda import blaslt

def far(got, expected):
    got, expected = got.cpu().to(fx.float64).numpy(), np.asarray(expected)
    return abs(got - expected).max() / abs(expected).max()

rng = np.random.default_rng(0)
blaslt.set_threshold(1e5)
# The simulated device takes no particular time: there the library is taken wherever it can.
blaslt.set_measured(os.environ.get("FERROX_CUBLASLT") is None)
path = os.environ.get("FERROX_CUBLASLT")
mock = ctypes.CDLL(path) if path and os.path.exists(path) else None
def made(*shape, dtype="float32"):
    t = fx.tensor(rng.standard_normal(shape)).to(getattr(fx, dtype))
    return t.cuda(), t.to(fx.float64).numpy()
"""


BOUND = {"float32": 1e-5, "float64": 1e-13, "float16": 1e-3, "bfloat16": 8e-3}


@pytest.fixture(scope="module")
def library():
    if not SIMULATED:
        return ""
    import build_simulator as sim

    source = sim.HERE / "libraries/cublaslt.cpp"
    folder = sim.cache() / sim.key([source, sim.ROOT / "kernels/include/fx/half.h", sim.driver()])
    flags = ["-O2", "-shared", "-I", sim.ROOT / "kernels/include"]
    return str(sim.once(folder / "libcublasLt.so",
                        lambda fresh: sim.run([sim.CXX, *sim.FLAGS, *flags, source, sim.driver(), "-o", fresh])))


@pytest.fixture
def run(python, library):
    def call(program, **environment):
        if library:
            environment.setdefault("FERROX_CUBLASLT", library)
        else:
            environment.pop("FERROX_CUBLASLT", None)
        return python(PROGRAM + program, **environment)

    return call


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_layout(run, dtype):
    assert run(f"""
dtype, bound = {dtype!r}, {BOUND[dtype]}
m, n, k = 60, 52, 70
for form in ("nn", "nt", "tn", "tt"):
    a, x = made(m, k, dtype=dtype) if form[0] == "n" else made(k, m, dtype=dtype)
    b, y = made(k, n, dtype=dtype) if form[1] == "n" else made(n, k, dtype=dtype)
    if form[0] == "t":
        a, x = a.transpose(0, 1), x.T
    if form[1] == "t":
        b, y = b.transpose(0, 1), y.T
    before = mock.fxlt_calls() if mock else 0
    assert far(a @ b, x @ y) < bound, form
    assert far(a @ b, x @ y) < bound, form
    if mock:
        fx.cuda.synchronize()
        assert blaslt.chosen()[1] > 0 and mock.fxlt_calls() > before, (blaslt.chosen(), blaslt.why_not())
print(blaslt.chosen()[0])
""") == "4"  # fmt: skip


def test_what_is_added(run):
    assert run("""
a, x = made(60, 70)
w, y = made(52, 70)
bias, v = made(52)
c, z = made(60, 52)
for _ in range(2):      # timed, then kept
    assert far(fx.nn.functional.linear(a, w, bias), x @ y.T + v) < 1e-5
    assert far(fx.addmm(c, a, w.transpose(0, 1), beta=2, alpha=3), 2 * z + 3 * x @ y.T) < 1e-5
    assert far(fx.addmm(bias, a, w.transpose(0, 1), beta=2), 2 * v + x @ y.T) < 1e-5      # no epilogue has it
    assert far(fx._addmm_activation(c, a, w.transpose(0, 1)), np.maximum(z + x @ y.T, 0)) < 1e-5
    assert far(fx._addmm_activation(bias, a, w.transpose(0, 1)), np.maximum(v + x @ y.T, 0)) < 1e-5
other, u = made(52)
assert far(fx.nn.functional.linear(a, w, other), x @ y.T + u) < 1e-5
assert far(c.addmm_(a, w.transpose(0, 1)), z + x @ y.T) < 1e-5
assert far(fx.nn.functional.linear(a[1:], w[:, :], bias), x[1:] @ y.T + v) < 1e-5
a, x = made(2, 40, 44)
b, y = made(2, 44, 56)
for _ in range(2):
    assert far(a @ b, x @ y) < 1e-5
    assert far(a @ b[:1], x @ y[:1]) < 1e-5
assert mock is None or blaslt.chosen()[1] >= 4, blaslt.chosen()
print("good")
""") == "good"  # fmt: skip


def test_settings_and_failures(run, library):
    small = """
a, x = made(20, 30)
a @ a.transpose(0, 1)
assert blaslt.chosen() == (0, 0)        # too small to look for the library
a, x = made(60, 70)
b, y = made(70, 60)
"""
    assert run(small + """
fx.backends.cuda.matmul.allow_cublaslt = False
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (0, 0) and "turned off" in blaslt.why_not()
print("good")
""") == "good"  # fmt: skip
    assert run(small + """
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (0, 0) and "turns it off" in blaslt.why_not()
print("good")
""", **({"FERROX_CUBLASLT": "0"} if library else {})) == "good" if library else True  # fmt: skip
    if not library:
        return
    assert run(small + """
mock.fxlt_delay(100000)
blaslt.set_measured(True)
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (1, 0)       # ours is faster
print("good")
""") == "good"  # fmt: skip
    assert run(small + """
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (1, 1)
mock.fxlt_fail(13)
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (1, 0)       # ours from now on
print("good")
""") == "good"  # fmt: skip
    assert run(small + """
assert far(a @ b, x @ y) < 1e-5 and blaslt.chosen() == (0, 0) and blaslt.library() == "" and blaslt.why_not()
print("good")
""", FERROX_CUBLASLT="/nowhere/libcublasLt.so") == "good"  # fmt: skip
