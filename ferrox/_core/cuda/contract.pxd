# What the caching allocator is given, and the records that it answers with.
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    HOST_MEMORY = -1        # a status: the host has no memory for the allocator's own records
    UNLIMITED = -1          # as a size_t, the limit when there is none

cdef struct fx_memory_source:
    # All are called under the allocator's mutex, without the GIL, and must neither ask for the GIL nor call back.
    void *context           # passed to each
    const char *name        # "cuda:0"; for messages
    int device
    # A segment, aligned to 512 bytes.  FX_OK, FX_ERROR_MEMORY, or another positive status, which goes to the caller as
    # it is.
    int (*allocate)(void *context, size_t nbytes, void **pointer) noexcept nogil
    void (*release)(void *context, void *pointer, size_t nbytes) noexcept nogil
    # Memory of the device, free and in all: 0 when known.  May be NULL.
    int (*info)(void *context, size_t *free_bytes, size_t *total_bytes) noexcept nogil
    void *(*event_record)(void *context, void *stream) noexcept nogil  # NULL when it failed; it is tried again later
    int (*event_query)(void *context, void *event) noexcept nogil           # 1 done, 0 not yet, negative failed
    int (*event_wait)(void *context, void *event) noexcept nogil            # 0 when done.  May be NULL
    void (*event_destroy)(void *context, void *event) noexcept nogil

cdef struct block_copy:
    size_t address, size, requested
    const char *tag
    int state

cdef struct segment_copy:
    size_t address, size, blocks
    void *stream
    uint64_t pool
    int kind

cdef struct fx_snapshot:    # segments in the order in which they were taken, and their blocks one after another
    segment_copy *segments
    block_copy *blocks
    size_t n_segments, n_blocks

cdef struct fx_out_of_memory:   # what was true when a request failed
    size_t requested, segment_bytes, free_bytes, total_bytes, limit
    bint capturing
    fx_snapshot snapshot

cdef enum:                      # positions in fx_statistics.table
    ALLOCATION, SEGMENT, ACTIVE, INACTIVE_SPLIT
    ALLOCATED_BYTES, RESERVED_BYTES, ACTIVE_BYTES, INACTIVE_SPLIT_BYTES, REQUESTED_BYTES
    STATISTICS

cdef struct fx_statistic:
    int64_t current, peak, allocated, freed

cdef struct fx_statistics:
    fx_statistic table[STATISTICS][3]       # all, small, large
    int64_t retries, failures, synchronisations, source_allocations, source_releases
