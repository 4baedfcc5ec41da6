"""The caching allocator as a Python object: what `ferrox.cuda` shows of it, and its errors.

The policy stands in allocator.pyx.  Python objects are made from copies, after the mutex is released: making them may
run the garbage collector, which may free tensors, which would wait for the mutex for ever.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.string cimport memset

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_OK
from ferrox._core.cuda.allocator cimport (
    allocator_allocate, allocator_begin_pool, allocator_destroy, allocator_empty_cache, allocator_end_pool,
    allocator_limit, allocator_new, allocator_record_stream, allocator_release, allocator_release_pool, allocator_reset,
    allocator_set_limit, allocator_snapshot, allocator_statistics)
from ferrox._core.cuda.contract cimport (
    HOST_MEMORY, STATISTICS, UNLIMITED, block_copy, fx_memory_source, fx_out_of_memory, fx_snapshot, fx_statistics,
    segment_copy)
from ferrox._core.cuda.allocator_state cimport free_snapshot, fx_allocator

from ferrox._core.cuda import report
from ferrox._core.errors import OutOfMemoryError

# By position in fx_statistics.table, and by block_state.
cdef tuple _names = ("allocation", "segment", "active", "inactive_split", "allocated_bytes", "reserved_bytes",
                     "active_bytes", "inactive_split_bytes", "requested_bytes")
cdef tuple _states = ("inactive", "active_allocated", "active_pending_free")
cdef tuple _kinds = ("small", "large")
cdef dict _labels = {}      # never emptied: blocks refer to its bytes


cdef const char *label(object tag) except? NULL:
    """A tag's C string, which lives for ever; NULL for None."""
    if tag is None:
        return NULL
    found = _labels.get(tag)
    if found is None:
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a str, got {type(tag).__name__}")
        _labels[tag] = found = (<str> tag).encode()
    return PyBytes_AS_STRING(found)


cdef list _segments(fx_snapshot *copy, int device):
    cdef size_t i, j, next_block = 0
    cdef segment_copy *s
    cdef block_copy *b
    cdef list segments = [], blocks
    for i in range(copy.n_segments):
        s = &copy.segments[i]
        blocks = []
        for j in range(next_block, next_block + s.blocks):
            b = &copy.blocks[j]
            blocks.append({
                "address": b.address, "size": b.size, "requested_size": b.requested, "state": _states[b.state],
                "tag": None if b.tag == NULL else b.tag.decode(), "frames": [],
            })
        next_block += s.blocks
        used = [each for each in blocks if each["state"] == "active_allocated"]
        segments.append({
            "device": device, "address": s.address, "total_size": s.size, "stream": <size_t> s.stream,
            "segment_type": _kinds[s.kind], "segment_pool_id": (0, s.pool), "is_expandable": False, "frames": [],
            "allocated_size": sum([each["size"] for each in used]),
            "active_size": sum([each["size"] for each in blocks if each["state"] != "inactive"]),
            "requested_size": sum([each["requested_size"] for each in used]), "blocks": blocks,
        })
    segments.sort(key=lambda each: each["address"])
    return segments


cdef int raise_allocation(fx_allocator *a, int status, fx_out_of_memory *why) except -1:
    """The exception for a request that failed; frees what `why` holds."""
    try:
        if status == HOST_MEMORY:
            raise MemoryError("no host memory for the allocator's records")
        name = a.source.name.decode()
        if status != FX_ERROR_MEMORY:
            raise RuntimeError(f"taking {report.size(why.segment_bytes)} of {name} memory failed with status {status}")
        raise OutOfMemoryError(report.out_of_memory(
            name, why.requested, why.segment_bytes, None if why.limit == <size_t> UNLIMITED else why.limit,
            (why.free_bytes, why.total_bytes) if why.total_bytes else None, why.capturing,
            _segments(&why.snapshot, a.source.device)))
    finally:
        free_snapshot(&why.snapshot)


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
@cython.final
@cython.no_gc_clear
cdef class CachingAllocator:
    """A caching allocator over a source of memory.

    Parameters
    ----------
    source : object
        Its method ``memory_source()`` returns a PyCapsule named "fx_memory_source" that holds the struct of that name
        (contract.pxd).  The object is kept as long as the allocator.

    Streams are integers (handles); a tag is a str that says who asks, for the report when memory runs out.
    """

    def __cinit__(self, source):
        cdef const fx_memory_source *given
        capsule = source.memory_source()
        given = <const fx_memory_source *> PyCapsule_GetPointer(capsule, "fx_memory_source")
        if (given.allocate == NULL or given.release == NULL or given.event_record == NULL or given.event_query == NULL
                or given.event_destroy == NULL or given.name == NULL):
            raise ValueError("the source lacks a name or a function other than info and event_wait")
        self.source = source
        self.state = allocator_new(given)
        if self.state == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.state != NULL:
            allocator_destroy(self.state)

    def allocate(self, size_t nbytes, size_t stream=0, tag=None):
        """The address of `nbytes` fresh bytes for work on `stream`; OutOfMemoryError."""
        cdef void *pointer = NULL
        cdef const char *text = label(tag)
        cdef fx_out_of_memory why
        cdef int status
        memset(&why, 0, sizeof(why))
        with nogil:
            status = allocator_allocate(self.state, nbytes, <void *> stream, text, &pointer, &why)
        if status != FX_OK:
            raise_allocation(self.state, status, &why)
        return <size_t> pointer

    def release(self, size_t pointer):
        """Free a block; ValueError when none in use begins at `pointer`."""
        cdef int status
        with nogil:
            status = allocator_release(self.state, <void *> pointer)
        if status != FX_OK:
            raise ValueError(f"no block in use begins at {pointer:#x}")

    def record_stream(self, size_t pointer, size_t stream):
        """Keep a block, once it is freed, until what `stream` has been given by then is done."""
        cdef int status
        with nogil:
            status = allocator_record_stream(self.state, <void *> pointer, <void *> stream)
        if status == HOST_MEMORY:
            raise MemoryError
        if status != FX_OK:
            raise ValueError(f"no block in use begins at {pointer:#x}")

    def empty_cache(self):
        """Return what is free to the source; the bytes returned."""
        cdef size_t returned
        with nogil:
            returned = allocator_empty_cache(self.state)
        return returned

    def begin_allocate_to_pool(self, unsigned long long pool, stream=None):
        """A capture begins: what `stream` (None: any stream) asks for comes from a private pool, a number above 0."""
        cdef void *handle = NULL if stream is None else <void *> <size_t> stream
        cdef bint any_stream = stream is None
        cdef int status
        with nogil:
            status = allocator_begin_pool(self.state, pool, handle, any_stream)
        if status == HOST_MEMORY:
            raise MemoryError
        if status != FX_OK:
            raise ValueError("a private pool's number is not 0")

    def end_allocate_to_pool(self, unsigned long long pool):
        """The capture ends; its pool stays as it is for the graph's replays."""
        if allocator_end_pool(self.state, pool) != FX_OK:
            raise ValueError(f"no capture into pool {pool} is under way")

    def release_pool(self, unsigned long long pool):
        """A graph that was captured into the pool is gone; without users, the pool's free memory may be returned."""
        if allocator_release_pool(self.state, pool) != FX_OK:
            raise ValueError(f"pool {pool} has no user whose capture has ended")

    @property
    def limit(self):
        """Bytes that all segments together may have; None for no limit."""
        cdef size_t limit = allocator_limit(self.state)
        return None if limit == <size_t> UNLIMITED else limit

    @limit.setter
    def limit(self, value):
        allocator_set_limit(self.state, <size_t> UNLIMITED if value is None else value)

    def set_per_process_memory_fraction(self, double fraction):
        """Limit the segments to a fraction, 0 to 1, of the device's memory."""
        cdef size_t free_bytes = 0, total_bytes = 0
        cdef fx_memory_source *source = &self.state.source
        if not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
        if source.info == NULL or source.info(source.context, &free_bytes, &total_bytes) != FX_OK:
            raise RuntimeError(f"the size of {source.name.decode()} memory is not known")
        allocator_set_limit(self.state, <size_t> (fraction * total_bytes))

    def memory_stats(self):
        """Statistics under PyTorch's names, for example ``allocated_bytes.all.peak``, sorted."""
        cdef fx_statistics s
        cdef int which, kind
        with nogil:
            allocator_statistics(self.state, &s)
        stats = {
            "num_alloc_retries": s.retries, "num_ooms": s.failures, "num_sync_all_streams": s.synchronisations,
            "num_device_alloc": s.source_allocations, "num_device_free": s.source_releases,
        }
        for which in range(STATISTICS):
            for kind, part in enumerate(("all", "small_pool", "large_pool")):
                key = f"{_names[which]}.{part}."
                stats[key + "current"] = s.table[which][kind].current
                stats[key + "peak"] = s.table[which][kind].peak
                stats[key + "allocated"] = s.table[which][kind].allocated
                stats[key + "freed"] = s.table[which][kind].freed
        return dict(sorted(stats.items()))

    def reset_peak_memory_stats(self):
        allocator_reset(self.state, True, False)

    def reset_accumulated_memory_stats(self):
        allocator_reset(self.state, False, True)

    def memory_snapshot(self):
        """Segments by address, with their blocks, in the form of PyTorch's; blocks have a "tag" besides."""
        cdef fx_snapshot copy
        cdef bint made
        with nogil:
            made = allocator_snapshot(self.state, &copy)
        if not made:
            raise MemoryError
        try:
            return _segments(&copy, self.state.source.device)
        finally:
            free_snapshot(&copy)

    def memory_summary(self, abbreviated=False):
        """A table of the statistics, to be printed."""
        return report.summary(self.state.source.name.decode(), self.memory_stats(), self.memory_snapshot(), abbreviated)

    def fragmentation(self):
        """1 - largest / total of the free blocks' bytes: 0 when all that is free is one block."""
        return report.fragmentation(self.memory_snapshot())
