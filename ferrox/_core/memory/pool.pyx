"""A caching pool.

Policy.  A request is rounded up to a size class: multiples of 64 bytes up to 1 KiB, then eight classes to each doubling
(at most 12.5 % waste).  Every class keeps a stack of free blocks; a request takes the newest block of its class, which
is the one most likely still in cache, and otherwise asks the source.  All free blocks go back to the source before the
cache would hold more than `cache_limit` bytes (what is used from then on is kept again, what is not is gone), when the
source or the limit refuses a request (which is then tried once more), and on `empty()`.  A block does not know its
size: who frees it says it again.

The pool never touches the memory it hands out, so any source will do: host memory, device memory, or a mock in a test.
AddressSanitizer is told which bytes nobody may touch: those of a free block, and those that rounding up has added.
It is called with the GIL held.
"""
cimport cython
from libc.stdlib cimport free, realloc

from ferrox._core.errors import OutOfMemoryError


cdef extern from *:
    """
    static inline int fx_log2(unsigned long long x) { return 63 - __builtin_clzll(x); }
    """
    int fx_log2(unsigned long long x) noexcept nogil

cdef extern from "fx/poison.h":
    void fx_poison(void *address, size_t bytes) noexcept nogil
    void fx_unpoison(void *address, size_t bytes) noexcept nogil


cdef inline int size_class(size_t bytes) noexcept nogil:
    cdef int power
    if bytes <= 1024:
        return <int> ((bytes + 63) >> 6) if bytes else 1
    power = fx_log2(bytes - 1)  # 2**power < bytes <= 2**(power + 1)
    return 17 + (power - 10) * 8 + <int> ((bytes - 1) >> (power - 3)) - 8


cdef inline size_t class_bytes(int number) noexcept nogil:
    if number <= 16:
        return <size_t> number << 6
    cdef int power = 10 + ((number - 17) >> 3)
    return (<size_t> (((number - 17) & 7) + 9)) << (power - 3)


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Pool:
    """Free blocks by size class over a source of memory.

    Attributes
    ----------
    limit : int
        Bytes in use and cached together that may be taken from the source; 0 for no limit.
    cache_limit : int
        Bytes kept free for reuse at most.
    in_use, cached, peak, allocations, hits, releases, flushes : int
        Statistics; bytes for the first three.
    """

    def __dealloc__(self):
        cdef int number
        _flush(self)
        for number in range(BINS):
            free(self.bins[number].blocks)

    def empty(self):
        """Give every cached block back to the source."""
        _flush(self)

    def reset_peak(self):
        self.peak = self.in_use

    def stats(self):
        """Statistics as a dict; bytes unless a count."""
        return {
            "in_use": self.in_use, "cached": self.cached, "peak": self.peak, "limit": self.limit,
            "allocations": self.allocations, "hits": self.hits, "releases": self.releases, "flushes": self.flushes,
        }


cdef int _flush(Pool pool) noexcept:
    cdef int number
    cdef bin_stack *stack
    for number in range(1, BINS):
        stack = &pool.bins[number]
        while stack.count:
            stack.count -= 1
            pool.release_source(stack.blocks[stack.count], class_bytes(number), pool.device)
    pool.cached = 0
    pool.flushes += 1
    return 0


cdef void *_from_source(Pool pool, size_t size) noexcept:
    if pool.limit and pool.in_use + pool.cached + size > pool.limit:
        return NULL
    return pool.allocate_source(size, pool.device)


cdef void *pool_allocate(Pool pool, size_t bytes) except NULL:
    """A block of at least `bytes` bytes; OutOfMemoryError when neither the cache nor the source has one."""
    if bytes > (<size_t> 1 << 39):
        raise OutOfMemoryError(_report(pool, bytes))
    cdef int number = size_class(bytes)
    cdef size_t size = class_bytes(number)
    cdef bin_stack *stack = &pool.bins[number]
    cdef void *block
    pool.allocations += 1
    if stack.count:
        stack.count -= 1
        block = stack.blocks[stack.count]
        pool.cached -= size
        pool.hits += 1
    else:
        block = _from_source(pool, size)
        if block == NULL:
            _flush(pool)
            block = _from_source(pool, size)
            if block == NULL:
                raise OutOfMemoryError(_report(pool, bytes))
    pool.in_use += size
    pool.taken += size
    if pool.in_use > pool.peak:
        pool.peak = pool.in_use
    if pool.allocate_source != _mock_allocate:
        fx_unpoison(block, bytes)
        fx_poison(<char *> block + bytes, size - bytes)
    return block


cdef void pool_release(Pool pool, void *block, size_t bytes) noexcept:
    """Take back a block that was allocated for `bytes` bytes."""
    cdef int number = size_class(bytes)
    cdef size_t size = class_bytes(number)
    cdef bin_stack *stack = &pool.bins[number]
    cdef void **grown
    pool.releases += 1
    pool.in_use -= size
    if pool.cached + size > pool.cache_limit:
        _flush(pool)
    if size <= pool.cache_limit:
        if stack.count == stack.room:
            grown = <void **> realloc(stack.blocks, sizeof(void *) * <size_t> (2 * stack.room + 16))
            if grown != NULL:
                stack.blocks = grown
                stack.room = 2 * stack.room + 16
        if stack.count < stack.room:
            stack.blocks[stack.count] = block
            stack.count += 1
            pool.cached += size
            if pool.allocate_source != _mock_allocate:
                fx_poison(block, size)
            return
    pool.release_source(block, size, pool.device)


cdef str _human(size_t bytes):
    cdef double size = bytes
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size /= 1024
    else:
        unit = "TiB"
    return f"{size:.4g} {unit}"


def _report(Pool pool, bytes):
    limit = f", limit {_human(pool.limit)}" if pool.limit else ""
    return (f"out of {pool.name} memory: asked for {_human(bytes)}, in use {_human(pool.in_use)}, "
            f"cached {_human(pool.cached)}{limit}")


cdef size_t _mock_room = 0
cdef size_t _mock_given = 0


cdef void *_mock_allocate(size_t bytes, int device) noexcept nogil:
    global _mock_given
    if _mock_given + bytes > _mock_room:
        return NULL
    _mock_given += bytes
    return <void *> (<size_t> 4096 + _mock_given)


cdef void _mock_release(void *block, size_t bytes, int device) noexcept nogil:
    global _mock_given
    _mock_given -= bytes


class PoolTrace:
    """Replay requests against a pool whose source is only a counter: the logic with no memory behind it.

    Used by the tests; `given` is what the source has handed out and not got back.
    """

    def __init__(self, size_t room, size_t limit=0, size_t cache_limit=1 << 62):
        global _mock_room, _mock_given
        cdef Pool pool = Pool()
        _mock_room = room
        _mock_given = 0
        pool.allocate_source = _mock_allocate
        pool.release_source = _mock_release
        pool.name = "mock"
        pool.limit = limit
        pool.cache_limit = cache_limit
        self.pool = pool

    @property
    def given(self):
        return _mock_given

    def allocate(self, size_t bytes):
        return <size_t> pool_allocate(self.pool, bytes)

    def release(self, size_t block, size_t bytes):
        pool_release(self.pool, <void *> block, bytes)


def rounded(size_t bytes):
    """Bytes of the size class that serves a request."""
    return class_bytes(size_class(bytes))
