"""The caching allocator.

Policy.  Numbers, and the names of statistics, are those of PyTorch's CUDACachingAllocator, so that what is known of the
one holds for the other.

Sizes.  A request is rounded up to a multiple of 512 bytes (0 bytes to 512).  Up to 1 MiB it is small, above it large;
the two never share a segment.  A small segment has 2 MiB.  A large one has 20 MiB when the rounded request is below 10
MiB, else the request rounded up to 2 MiB.

Arenas.  A block freed on a stream can be given out again on the same stream at once, for the stream's order protects
it.  So there is a set of free blocks for each stream (and kind, and private pool), and a request is served only from
its own.

Giving out.  The smallest free block that is large enough; among equals the one freed last (Note [Bins], segments.pyx).
It is split when the rest is worth having: at least 512 bytes in a small segment, more than 1 MiB in a large one.  The
request gets the lower part, the rest is a free block, as if freed just now.  When no block fits, a segment is taken
from the source and treated in the same way.

Freeing.  A freed block is joined with its free neighbours and becomes the newest block of its size.

Other streams.  `record_stream` notes that another stream uses a block.  When such a block is freed, an event is
recorded on each of these streams, in the order in which they were noted, and the block is held: neither in use nor
free, until all events are done.  At the start of every request the streams are visited in the order in which
`record_stream` first named them; on each the oldest events that are done are struck off, up to the first that is not.
An event that could not be recorded is tried again then.

Refusals.  When the source refuses, or the limit would be passed (then the source is not asked):
1. if blocks are held, their events are waited for, and the request is served from the free blocks if one fits now;
2. every segment that is one free block goes back to the source, and the source is asked once more;
3. the request fails.  Nothing has changed but what is cached, and the error says what was true at that moment.
A source's failure other than running out of memory is handed to the caller at once.

Private pools, for captured graphs.  While a capture is under way, requests on its stream (or on all, if none is named)
use arenas of its pool; of several captures the one begun last counts.  Blocks go back to where they came from.  A pool
is used by its captures and by the graphs that they made: `begin_allocate_to_pool` adds a user, `end_allocate_to_pool`
ends the capture only, `release_pool` takes a user away.  A pool without users serves nobody, and its segments go back
to the source like others.  A graph's replays use the pool's memory at addresses fixed at capture, therefore segments of
a pool with users stay.  While any capture is under way events are neither recorded nor queried and nothing goes back to
the source (none of which a capturing stream would survive): a block with other users is held, and a refusal is final.

Limit.  `limit` bounds the bytes of all segments together.

Statistics.  "allocated" is what was given out and not freed, "active" that and what is held, "inactive_split" the free
blocks in segments with several blocks, "reserved" all segments; bytes are rounded ones, except in "requested_bytes".

One mutex guards everything; no function needs the GIL or asks for it.  A request that finds a block costs no call of
the source, and none of the driver unless blocks are held.  Memory itself is never touched.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_OK
from ferrox._core.cuda.contract cimport (
    ACTIVE, ACTIVE_BYTES, ALLOCATED_BYTES, ALLOCATION, HOST_MEMORY, INACTIVE_SPLIT, INACTIVE_SPLIT_BYTES,
    REQUESTED_BYTES, STATISTICS, UNLIMITED, fx_memory_source, fx_out_of_memory, fx_snapshot, fx_statistic,
    fx_statistics)
from ferrox._core.cuda.allocator_state cimport (
    arena_of, capture, copy_state, count, drop_pools, drop_segment, free_block, fx_allocator, give_back, hold, note_use,
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock, settle, take_segment)
from ferrox._core.cuda.segments cimport (
    BLOCK_USED, UNIT, arena, best_fit, bin_insert, bin_remove, block, clear, event_queue, private_pool, reserve, split,
    table_find, table_put, table_take, use)

cdef enum:
    SMALL = 1 << 20                 # the largest small request
    SMALL_SEGMENT = 2 << 20
    LARGE_SEGMENT = 20 << 20
    OWN_SEGMENT = 10 << 20          # from here on a request gets a segment of its own size
    ROUND_SEGMENT = 2 << 20

cdef size_t LARGEST = (<size_t> 1 << 43)        # of a request; segments.pyx has bins up to twice this

cdef inline size_t segment_bytes(size_t size) noexcept nogil:
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return (size + ROUND_SEGMENT - 1) / ROUND_SEGMENT * ROUND_SEGMENT


cdef int more_memory(fx_allocator *a, arena *owner, int kind, size_t size, block **found) noexcept nogil:
    """A free block where none fitted: from the source, with what the policy says of refusals."""
    cdef size_t wanted = segment_bytes(size)
    cdef int status = take_segment(a, owner, kind, wanted, found)
    if status != FX_ERROR_MEMORY or a.captures != NULL:
        return status
    if a.held:
        a.statistics.synchronisations += 1
        settle(a, True)
        found[0] = best_fit(&owner.lists[kind], size)
        if found[0] != NULL:
            return FX_OK
    give_back(a)
    a.statistics.retries += 1
    return take_segment(a, owner, kind, wanted, found)


cdef int allocate_locked(fx_allocator *a, size_t nbytes, void *stream, const char *tag, void **pointer) noexcept nogil:
    cdef size_t size, old
    cdef arena *owner
    cdef block *b
    cdef block *rest
    cdef int status, kind
    cdef bint was_split
    if nbytes > LARGEST:
        return FX_ERROR_MEMORY
    size = (nbytes + UNIT - 1) / UNIT * UNIT if nbytes else UNIT
    kind = size > SMALL
    if not reserve(&a.records):
        return HOST_MEMORY
    if a.held:
        settle(a, False)
    owner = arena_of(a, stream)
    if owner == NULL:
        return HOST_MEMORY
    b = best_fit(&owner.lists[kind], size)
    if b == NULL:
        status = more_memory(a, owner, kind, size, &b)
        if status != FX_OK:
            return status
    bin_remove(&owner.lists[kind], b)
    old = b.size
    was_split = b.before != NULL or b.after != NULL
    if old - size > SMALL if kind else old - size >= UNIT:
        rest = split(&a.records, b, size)
        bin_insert(&owner.lists[kind], rest)
        count(a, INACTIVE_SPLIT, kind, 0 if was_split else 1)
        count(a, INACTIVE_SPLIT_BYTES, kind, -<int64_t> size if was_split else <int64_t> rest.size)
    elif was_split:
        count(a, INACTIVE_SPLIT, kind, -1)
        count(a, INACTIVE_SPLIT_BYTES, kind, -<int64_t> old)
    b.state = BLOCK_USED
    b.requested = nbytes
    b.tag = tag
    table_put(&a.records, b)
    count(a, ALLOCATION, kind, 1)
    count(a, ALLOCATED_BYTES, kind, b.size)
    count(a, ACTIVE, kind, 1)
    count(a, ACTIVE_BYTES, kind, b.size)
    count(a, REQUESTED_BYTES, kind, nbytes)
    pointer[0] = b.pointer
    return FX_OK


cdef void explain(fx_allocator *a, size_t nbytes, fx_out_of_memory *why) noexcept nogil:
    """What is true now that a request has failed; without the snapshot when the host has no memory for it."""
    why.requested = nbytes
    why.segment_bytes = nbytes if nbytes > LARGEST else segment_bytes((nbytes + UNIT - 1) / UNIT * UNIT)
    why.limit = a.limit
    why.capturing = a.captures != NULL
    if a.source.info == NULL or a.source.info(a.source.context, &why.free_bytes, &why.total_bytes) != FX_OK:
        why.free_bytes = why.total_bytes = 0
    copy_state(a, &why.snapshot)


# What may be called from outside.

cdef fx_allocator *allocator_new(const fx_memory_source *source) noexcept nogil:
    """An allocator over a source, which is copied; NULL when the host is out of memory."""
    cdef fx_allocator *a = <fx_allocator *> calloc(1, sizeof(fx_allocator))
    if a != NULL:
        a.source = source[0]
        a.limit = <size_t> UNLIMITED
        pthread_mutex_init(&a.mutex, NULL)
    return a


cdef void allocator_destroy(fx_allocator *a) noexcept nogil:
    """Return every segment to the source, in use or not."""
    cdef event_queue *queue
    cdef capture *under_way
    cdef use *u
    cdef block *b
    cdef arena *owner
    while a.queues != NULL:
        queue = a.queues
        while queue.head != NULL:
            u = queue.head
            a.source.event_destroy(a.source.context, u.event)
            queue.head = u.next
            free(u)
        a.queues = queue.next
        free(queue)
    while a.first != NULL:
        b = a.first.first
        while b != NULL:
            while b.uses != NULL:
                u = b.uses
                b.uses = u.next
                free(u)
            b = b.after
        drop_segment(a, a.first)
    while a.captures != NULL:
        under_way = a.captures
        under_way.pool.users = 0
        a.captures = under_way.next
        free(under_way)
    while a.pools != NULL:
        a.pools.users = 0
        drop_pools(a)
    while a.arenas != NULL:
        owner = a.arenas
        a.arenas = owner.next
        free(owner)
    while a.spare_uses != NULL:
        u = a.spare_uses
        a.spare_uses = u.next
        free(u)
    clear(&a.records)
    pthread_mutex_destroy(&a.mutex)
    free(a)


cdef int allocator_allocate(fx_allocator *a, size_t nbytes, void *stream, const char *tag, void **pointer,
                            fx_out_of_memory *why) noexcept nogil:
    cdef int status
    pthread_mutex_lock(&a.mutex)
    status = allocate_locked(a, nbytes, stream, tag, pointer)
    if status != FX_OK:
        if status == FX_ERROR_MEMORY:
            a.statistics.failures += 1
        if why != NULL:
            explain(a, nbytes, why)
    pthread_mutex_unlock(&a.mutex)
    return status


cdef int allocator_release(fx_allocator *a, void *pointer) noexcept nogil:
    """Free a block; FX_ERROR_VALUE when no block in use begins at `pointer`."""
    cdef block *b
    cdef int kind
    pthread_mutex_lock(&a.mutex)
    b = table_take(&a.records, pointer)
    if b == NULL:
        pthread_mutex_unlock(&a.mutex)
        return FX_ERROR_VALUE
    kind = b.home.kind
    count(a, ALLOCATION, kind, -1)
    count(a, ALLOCATED_BYTES, kind, -<int64_t> b.size)
    count(a, REQUESTED_BYTES, kind, -<int64_t> b.requested)
    if b.uses == NULL:
        free_block(a, b)
    else:
        hold(a, b)
    pthread_mutex_unlock(&a.mutex)
    return FX_OK


cdef void allocator_label(fx_allocator *a, void *pointer, const char *tag) noexcept nogil:
    cdef block *b
    pthread_mutex_lock(&a.mutex)
    b = table_find(&a.records, pointer)
    if b != NULL and b.tag == NULL:
        b.tag = tag
    pthread_mutex_unlock(&a.mutex)


cdef int allocator_record_stream(fx_allocator *a, void *pointer, void *stream) noexcept nogil:
    """Note that `stream` uses a block; FX_ERROR_VALUE when no block in use begins at `pointer`."""
    cdef int status
    pthread_mutex_lock(&a.mutex)
    status = note_use(a, pointer, stream)
    pthread_mutex_unlock(&a.mutex)
    return status


cdef size_t allocator_empty_cache(fx_allocator *a) noexcept nogil:
    """Wait for held blocks, return what is free to the source; the bytes returned, 0 while a capture is under way."""
    cdef size_t returned = 0
    pthread_mutex_lock(&a.mutex)
    if a.captures == NULL:
        if a.held:
            a.statistics.synchronisations += 1
            settle(a, True)
        returned = give_back(a)
    pthread_mutex_unlock(&a.mutex)
    return returned


cdef int allocator_begin_pool(fx_allocator *a, uint64_t number, void *stream, bint any_stream) noexcept nogil:
    """A capture begins: requests on `stream`, or on any, are served from the private pool `number` (not 0)."""
    cdef capture *begun
    cdef private_pool *pool
    if number == 0:
        return FX_ERROR_VALUE
    pthread_mutex_lock(&a.mutex)
    pool = a.pools
    while pool != NULL and pool.number != number:
        pool = pool.next
    begun = <capture *> calloc(1, sizeof(capture))
    if pool == NULL and begun != NULL:
        pool = <private_pool *> calloc(1, sizeof(private_pool))
        if pool != NULL:
            pool.number = number
            pool.next = a.pools
            a.pools = pool
    if pool != NULL and begun != NULL:
        pool.users += 1
        begun.pool = pool
        begun.stream = stream
        begun.any_stream = any_stream
        begun.next = a.captures
        a.captures = begun
    else:
        free(begun)
        begun = NULL
    pthread_mutex_unlock(&a.mutex)
    return HOST_MEMORY if begun == NULL else FX_OK


cdef int allocator_end_pool(fx_allocator *a, uint64_t number) noexcept nogil:
    """The newest capture into a pool ends; FX_ERROR_VALUE when none is under way."""
    cdef capture **link = &a.captures
    cdef capture *ended
    pthread_mutex_lock(&a.mutex)
    while link[0] != NULL and link[0].pool.number != number:
        link = &link[0].next
    ended = link[0]
    if ended != NULL:
        link[0] = ended.next
        free(ended)
    pthread_mutex_unlock(&a.mutex)
    return FX_ERROR_VALUE if ended == NULL else FX_OK


cdef int allocator_release_pool(fx_allocator *a, uint64_t number) noexcept nogil:
    """One user of a pool fewer; FX_ERROR_VALUE when it has none, or none but captures still under way."""
    cdef private_pool *pool
    cdef capture *under_way
    cdef size_t capturing = 0
    cdef int status = FX_ERROR_VALUE
    pthread_mutex_lock(&a.mutex)
    pool = a.pools
    while pool != NULL and pool.number != number:
        pool = pool.next
    under_way = a.captures
    while under_way != NULL:
        capturing += under_way.pool == pool
        under_way = under_way.next
    if pool != NULL and pool.users > capturing:
        pool.users -= 1
        drop_pools(a)
        status = FX_OK
    pthread_mutex_unlock(&a.mutex)
    return status


cdef size_t allocator_limit(fx_allocator *a) noexcept nogil:
    return a.limit


cdef void allocator_set_limit(fx_allocator *a, size_t limit) noexcept nogil:
    """Bound the bytes of all segments from the next one on; UNLIMITED lifts it."""
    pthread_mutex_lock(&a.mutex)
    a.limit = limit
    pthread_mutex_unlock(&a.mutex)


cdef void allocator_statistics(fx_allocator *a, fx_statistics *copy) noexcept nogil:
    pthread_mutex_lock(&a.mutex)
    copy[0] = a.statistics
    pthread_mutex_unlock(&a.mutex)


cdef void allocator_reset(fx_allocator *a, bint peaks, bint sums) noexcept nogil:
    """Begin anew the peaks (at what is current), the sums (at 0), or both."""
    cdef int which, kind
    cdef fx_statistic *s
    pthread_mutex_lock(&a.mutex)
    for which in range(STATISTICS):
        for kind in range(3):
            s = &a.statistics.table[which][kind]
            if peaks:
                s.peak = s.current
            if sums:
                s.allocated = s.freed = 0
    if sums:
        a.statistics.retries = a.statistics.failures = a.statistics.synchronisations = 0
        a.statistics.source_allocations = a.statistics.source_releases = 0
    pthread_mutex_unlock(&a.mutex)


cdef bint allocator_snapshot(fx_allocator *a, fx_snapshot *copy) noexcept nogil:
    """Fill `copy`; False when the host is out of memory."""
    cdef bint made
    pthread_mutex_lock(&a.mutex)
    made = copy_state(a, copy)
    pthread_mutex_unlock(&a.mutex)
    return made
