"""One thread setting for loops and BLAS.

The default is what this process may use: its affinity, its cgroup's CPU quota (rounded up), the cores there are;
FERROX_NUM_THREADS overrides it.  A forked child stays single-threaded: the parent's OpenMP team does not survive the
fork, and the first parallel region of the child would wait for it for ever.
"""
import os

from cpython.number cimport PyNumber_Index

cdef bint _forked = False


def _quotas(membership="/proc/self/cgroup", root="/sys/fs/cgroup"):
    """CPU quotas, in cores, of this process's cgroups and their ancestors (v1 and v2)."""
    try:
        with open(membership) as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            mounts, names = [root, os.path.join(root, "unified")], ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mounts, names = [os.path.join(root, controllers), os.path.join(root, "cpu")], \
                ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for mount in mounts:
            # In a container the path may be the host's, unseen from here: then only the mount's own files are found.
            for depth in range(len(parts), -1, -1):
                try:
                    words = []
                    for name in names:
                        with open(os.path.join(mount, *parts[:depth], name)) as file:
                            words += file.read().split()
                    quota, period = int(words[0]), int(words[1])
                except (OSError, ValueError, IndexError):  # absent, or "max"
                    continue
                if quota > 0 and period > 0:
                    yield quota / period


def _available():
    """Threads that this process can run at once."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    for quota in _quotas():
        count = min(count, max(1, int(-(-quota // 1))))
    return count


def get_num_threads():
    """How many threads a kernel may use on the CPU.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return num_threads


def set_num_threads(count):
    """Set how many threads a kernel may use on the CPU; more than there are is taken as all of them.

    Raises
    ------
    ValueError
        When `count` is below 1.
    RuntimeError
        When asked for more than one in a forked child, whose OpenMP team was lost in the fork.
    """
    global num_threads
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"[set_num_threads] expected an int, got {type(count).__name__}")
    count = PyNumber_Index(count)
    if count < 1:
        raise ValueError(f"[set_num_threads] expected at least 1 thread, got {count}")
    if _forked and count > 1:
        raise RuntimeError("[set_num_threads] a forked process runs single-threaded; start workers with the "
                           "\"spawn\" or \"forkserver\" method to use more threads")
    num_threads = min(count, _available())


def _after_fork():
    global num_threads, _forked
    num_threads = 1
    _forked = True


def _initial():
    text = os.environ.get("FERROX_NUM_THREADS", "").strip()
    if not text:
        return _available()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"FERROX_NUM_THREADS must be an integer of at least 1, got {text!r}")
    return min(count, _available())


num_threads = _initial()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
