import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401  (registers the kernels)
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

AVAILABLE = threads._available()


@pytest.fixture(autouse=True)
def restore():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def run(code, timeout=60, **env):
    """Run code in a fresh interpreter; its output."""
    environment = {**os.environ, **env}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True,
                          text=True, timeout=timeout, cwd="/")
    return done.stdout.strip(), done.stderr, done.returncode


def test_set_and_get():
    threads.set_num_threads(1)
    assert threads.get_num_threads() == 1
    threads.set_num_threads(np.int64(AVAILABLE))
    assert threads.get_num_threads() == AVAILABLE


def test_never_more_than_there_are():
    threads.set_num_threads(AVAILABLE + 1000)
    assert threads.get_num_threads() == AVAILABLE


@pytest.mark.parametrize("count", [0, -1])
def test_below_one(count):
    with pytest.raises(ValueError, match=f"at least 1 thread, got {count}"):
        threads.set_num_threads(count)


@pytest.mark.parametrize("count", [1.0, "2", None, True])
def test_not_an_integer(count):
    with pytest.raises(TypeError, match="expected an int"):
        threads.set_num_threads(count)


SHOW = "from ferrox._core.door import threads; print(threads.get_num_threads())"


def test_environment():
    assert run(SHOW, FERROX_NUM_THREADS="1")[0] == "1"
    assert run(SHOW, FERROX_NUM_THREADS="100000")[0] == str(AVAILABLE)
    assert run(SHOW, FERROX_NUM_THREADS="")[0] == str(AVAILABLE)


@pytest.mark.parametrize("text", ["0", "-2", "many", "1.5"])
def test_environment_refused(text):
    out, error, status = run(SHOW, FERROX_NUM_THREADS=text)
    assert status != 0 and not out
    assert "FERROX_NUM_THREADS must be an integer of at least 1" in error and repr(text) in error


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity():
    assert run("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + SHOW,
               FERROX_NUM_THREADS="")[0] == "1"


def quotas(tmp_path, membership, files):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(threads._quotas(str(tmp_path / "membership"), str(tmp_path / "fs")))


def test_cgroup_v2(tmp_path):
    files = {"cpu.max": "max 100000\n", "a/cpu.max": "350000 100000\n", "a/b/cpu.max": "150000 100000\n"}
    assert quotas(tmp_path, "0::/a/b\n", files) == [1.5, 3.5]


def test_cgroup_v2_seen_from_a_container(tmp_path):
    assert quotas(tmp_path, "0::/docker/0123\n", {"cpu.max": "50000 100000\n"}) == [0.5]


def test_cgroup_v1(tmp_path):
    files = {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
             "cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    assert quotas(tmp_path, "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n", files) == [2.5]


def test_cgroup_absent(tmp_path):
    assert list(threads._quotas(str(tmp_path / "nothing"))) == []


def test_quota_rounds_up(monkeypatch):
    monkeypatch.setattr(threads, "_quotas", lambda: [0.2])
    assert threads._available() == 1
    monkeypatch.setattr(threads, "_quotas", lambda: [1.5, 7.0])
    assert threads._available() == min(2, AVAILABLE)


FORK = """
    import os, sys, numpy as np
    import ferrox._core.cpu as cpu
    from ferrox._core.door import threads
    from ferrox._core.door.backend import run_kernel
    a = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    def product():
        out = np.empty_like(a)
        run_kernel("matmul", [out, a, a], 1)
        return out
    def blas():
        out = np.empty_like(a)
        assert cpu.load_blas()._gemm(8, (300, 300, 300), 1.0, (a.ctypes.data, 300, 1), (a.ctypes.data, 300, 1), 0.0,
                              (out.ctypes.data, 300))
        return out
    before = product(), blas()
    child = os.fork()
    if child == 0:
        try:
            same = (before[0] == product()).all() and np.allclose(before[1], blas(), rtol=1e-4, atol=1e-4)
            threads.set_num_threads(1)
            try:
                threads.set_num_threads(2)
            except RuntimeError:
                os._exit(7 if same and threads.get_num_threads() == 1 else 1)
        finally:
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), (before[0] == product()).all())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.skipif(AVAILABLE < 2, reason="one core: there is no team to lose")
def test_forked_child_computes_after_a_parallel_parent():
    """The child of a process with an OpenMP team neither hangs nor starts a team of its own."""
    out, error, _ = run(FORK, timeout=60, FERROX_NUM_THREADS="2")
    assert out == "7 True", error


def test_one_pool_for_products_and_blas():
    code = """
        import os, numpy as np
        import ferrox._core.cpu as cpu
        from ferrox._core.door.backend import run_kernel
        a = np.ones((256, 256), np.float32)
        out = np.empty_like(a)
        def count():
            return len(os.listdir("/proc/self/task"))
        alone = count()
        run_kernel("matmul", [out, a, a], 1)
        print(alone, count())
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("no /proc on this system")
    out, error, _ = run(code, FERROX_NUM_THREADS=str(AVAILABLE), OPENBLAS_NUM_THREADS="1")
    assert out.split()[1:] == [str(int(out.split()[0]) + AVAILABLE - 1)], error


def test_results_do_not_depend_on_threads():
    rng = np.random.default_rng(3)
    for m, k, n in [(67, 129, 300), (500, 33, 20), (1, 700, 900), (900, 700, 1), (300, 300, 300), (2, 2000, 999)]:
        a = rng.standard_normal((m, k)).astype(np.float32)
        b = rng.standard_normal((k, n)).astype(np.float32)
        results = []
        for count in range(1, AVAILABLE + 1):
            threads.set_num_threads(count)
            out = np.empty((m, n), np.float32)
            run_kernel("matmul", [out, a, b], 1)
            results.append(out)
        for other in results[1:]:
            assert (results[0] == other).all()


def test_blas_is_loaded_when_a_large_product_wants_it():
    code = """
        import sys
        import ferrox as fx
        fx.ones(64, 64) @ fx.ones(64, 64)
        assert "ferrox._core.cpu.blas" not in sys.modules
        assert (fx.ones(1024, 1024) @ fx.ones(1024, 1024)).eq(1024).all()
        assert "ferrox._core.cpu.blas" in sys.modules
    """
    run(code)
