"""The CPU's memory: what the caching pool under the tensors in host memory holds."""
from operator import index

from ferrox._core.memory.storage import pool as _pool

__all__ = ["device_count", "empty_cache", "is_available", "memory_stats", "reset_peak_memory_stats", "set_memory_limit"]


def is_available():
    """True: the CPU is always there."""
    return True


def device_count():
    """1: the CPU is one device."""
    return 1


def memory_stats():
    """What the pool holds and has done.

    Returns
    -------
    dict
        Bytes: `in_use` by tensors, `cached` for reuse, `peak` of `in_use`, `limit` (0 for none).  Counts:
        `allocations`, of which `hits` were served from the cache, `releases`, and `flushes` of the cache.

    Examples
    --------
    >>> import ferrox as fx
    >>> before = fx.cpu.memory_stats()["in_use"]
    >>> x = fx.empty(1024, dtype=fx.uint8)
    >>> fx.cpu.memory_stats()["in_use"] - before >= 1024
    True
    """
    return _pool().stats()


def empty_cache():
    """Give the memory that is cached for reuse back to the system."""
    _pool().empty()


def reset_peak_memory_stats():
    """Let `peak` begin again at what is in use now."""
    _pool().reset_peak()


def set_memory_limit(limit):
    """Refuse tensors beyond a number of bytes in use and cached together, with `ferrox.OutOfMemoryError`.

    Parameters
    ----------
    limit : int or None
        Bytes; None or 0 for no limit.

    Returns
    -------
    int
        The limit that was set before.
    """
    pool = _pool()
    before = pool.limit
    wanted = 0 if limit is None else index(limit)
    if wanted < 0:
        raise ValueError(f"[set_memory_limit] a limit is not negative, got {wanted}")
    pool.limit = wanted
    return before
