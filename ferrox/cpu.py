"""The CPU's memory: what the caching pool holds, and its limits."""
from ferrox._core.storage import pool as _pool


def memory_stats():
    """Statistics of the pool behind CPU tensors.

    Returns
    -------
    dict
        in_use, cached, peak, limit, cache_limit in bytes; allocations, hits, releases, flushes as counts.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cpu.memory_stats()["in_use"] >= 0
    True
    """
    return _pool(0).stats()


def empty_cache():
    """Give the memory that no tensor uses back to the system."""
    _pool(0).empty()


def set_memory_limit(limit, cache=None):
    """Bound the memory of CPU tensors; what would exceed it raises `ferrox.OutOfMemoryError`.

    Parameters
    ----------
    limit : int
        Bytes in use and cached together; 0 for no limit.
    cache : int, optional
        Bytes kept for reuse at most.
    """
    if limit < 0 or (cache is not None and cache < 0):
        raise ValueError(f"a limit must not be negative, got {limit}, {cache}")
    _pool(0).limit = limit
    if cache is not None:
        _pool(0).cache_limit = cache


def is_available():
    """Always true."""
    return True
