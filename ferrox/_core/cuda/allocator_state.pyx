"""The caching allocator's state: segments, arenas, held blocks, private pools.  The policy stands in allocator.pyx.

All of it runs under the allocator's mutex.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_OK
from ferrox._core.cuda.contract cimport (
    ACTIVE, ACTIVE_BYTES, HOST_MEMORY, INACTIVE_SPLIT, INACTIVE_SPLIT_BYTES, RESERVED_BYTES, SEGMENT, block_copy,
    fx_snapshot, segment_copy)
from ferrox._core.cuda.segments cimport (
    BLOCK_FREE, BLOCK_HELD, absorb, arena, bin_insert, bin_remove, block, drop_block, event_queue, first_block,
    private_pool, segment, table_find, use)


cdef void free_block(fx_allocator *a, block *b) noexcept nogil:
    """Make a block that nobody uses any more available."""
    cdef segment *home = b.home
    cdef int kind = home.kind
    cdef int64_t split_blocks = 0, split_bytes = 0
    count(a, ACTIVE, kind, -1)
    count(a, ACTIVE_BYTES, kind, -<int64_t> b.size)
    if b.after != NULL and b.after.state == BLOCK_FREE:
        split_blocks -= 1
        split_bytes -= b.after.size
        bin_remove(&home.owner.lists[kind], b.after)
        absorb(&a.records, b)
    if b.before != NULL and b.before.state == BLOCK_FREE:
        split_blocks -= 1
        split_bytes -= b.before.size
        b = b.before
        bin_remove(&home.owner.lists[kind], b)
        absorb(&a.records, b)
    b.state = BLOCK_FREE
    if b.before != NULL or b.after != NULL:
        split_blocks += 1
        split_bytes += b.size
    bin_insert(&home.owner.lists[kind], b)
    count(a, INACTIVE_SPLIT, kind, split_blocks)
    count(a, INACTIVE_SPLIT_BYTES, kind, split_bytes)


cdef int note_use(fx_allocator *a, void *pointer, void *stream) noexcept nogil:
    cdef block *b = table_find(&a.records, pointer)
    cdef event_queue **queue = &a.queues
    cdef use **link
    cdef use *u
    if b == NULL:
        return FX_ERROR_VALUE
    if b.home.owner.stream == stream:
        return FX_OK
    link = &b.uses
    while link[0] != NULL:
        if link[0].queue.stream == stream:
            return FX_OK
        link = &link[0].next
    while queue[0] != NULL and queue[0].stream != stream:
        queue = &queue[0].next
    if queue[0] == NULL:
        queue[0] = <event_queue *> calloc(1, sizeof(event_queue))
        if queue[0] == NULL:
            return HOST_MEMORY
        queue[0].stream = stream
    u = a.spare_uses
    if u != NULL:
        a.spare_uses = u.next
    else:
        u = <use *> malloc(sizeof(use))
        if u == NULL:
            return HOST_MEMORY
    u.queue = queue[0]
    u.owner = b
    u.next = NULL
    link[0] = u
    return FX_OK


cdef void hold(fx_allocator *a, block *b) noexcept nogil:
    """Hold a freed block until the events of its other streams are done."""
    b.state = BLOCK_HELD
    a.held += 1
    defer(a, b)
    if a.captures == NULL:
        record_deferred(a)


cdef void record_deferred(fx_allocator *a) noexcept nogil:
    """Record the events that are owed; blocks keep what cannot be recorded."""
    cdef block *b = a.deferred
    cdef block *following
    cdef use *u
    cdef void *event
    a.deferred = a.last_deferred = NULL
    while b != NULL:
        following = b.next
        while b.uses != NULL:
            u = b.uses
            event = a.source.event_record(a.source.context, u.queue.stream)
            if event == NULL:
                break
            b.uses = u.next
            b.pending += 1
            u.event = event
            u.next = NULL
            if u.queue.tail != NULL:
                u.queue.tail.next = u
            else:
                u.queue.head = u
            u.queue.tail = u
        if b.uses != NULL:
            defer(a, b)
        b = following


cdef void defer(fx_allocator *a, block *b) noexcept nogil:
    b.next = NULL
    if a.last_deferred != NULL:
        a.last_deferred.next = b
    else:
        a.deferred = b
    a.last_deferred = b


cdef void settle(fx_allocator *a, bint wait) noexcept nogil:
    """Free the held blocks whose events are done."""
    cdef event_queue *queue = a.queues
    cdef use *u
    cdef block *b
    if a.captures != NULL:
        return
    if a.deferred != NULL:
        record_deferred(a)
    while queue != NULL:
        while queue.head != NULL:
            u = queue.head
            if wait and a.source.event_wait != NULL and a.source.event_wait(a.source.context, u.event) != 0:
                break
            if a.source.event_query(a.source.context, u.event) != 1:
                break
            a.source.event_destroy(a.source.context, u.event)
            queue.head = u.next
            if u.next == NULL:
                queue.tail = NULL
            b = u.owner
            u.next = a.spare_uses
            a.spare_uses = u
            b.pending -= 1
            if b.pending == 0 and b.uses == NULL:
                a.held -= 1
                free_block(a, b)
        queue = queue.next


cdef arena *arena_of(fx_allocator *a, void *stream) noexcept nogil:
    """The arena that serves a stream now; NULL when the host is out of memory."""
    cdef private_pool *pool = NULL
    cdef capture *under_way = a.captures
    cdef arena **link = &a.arenas
    cdef arena *found
    while under_way != NULL:
        if under_way.any_stream or under_way.stream == stream:
            pool = under_way.pool
            break
        under_way = under_way.next
    while link[0] != NULL and (link[0].stream != stream or link[0].pool != pool):
        link = &link[0].next
    found = link[0]
    if found == NULL:
        found = <arena *> calloc(1, sizeof(arena))
        if found == NULL:
            return NULL
        found.stream = stream
        found.pool = pool
    else:
        link[0] = found.next
    found.next = a.arenas
    a.arenas = found
    return found


cdef int take_segment(fx_allocator *a, arena *owner, int kind, size_t size, block **fresh) noexcept nogil:
    """A new segment as one free block in its bin."""
    cdef segment *s
    cdef void *pointer = NULL
    cdef int status
    cdef size_t reserved = a.statistics.table[RESERVED_BYTES][0].current
    if size > a.limit or reserved > a.limit - size:
        return FX_ERROR_MEMORY
    s = <segment *> malloc(sizeof(segment))
    if s == NULL:
        return HOST_MEMORY
    status = a.source.allocate(a.source.context, size, &pointer)
    if status != FX_OK:
        free(s)
        return status
    a.statistics.source_allocations += 1
    s.pointer = <char *> pointer
    s.size = size
    s.owner = owner
    s.kind = kind
    s.next = NULL
    s.previous = a.last
    if a.last != NULL:
        a.last.next = s
    else:
        a.first = s
    a.last = s
    if owner.pool != NULL:
        owner.pool.segments += 1
    count(a, SEGMENT, kind, 1)
    count(a, RESERVED_BYTES, kind, size)
    fresh[0] = first_block(&a.records, s)
    bin_insert(&owner.lists[kind], fresh[0])
    return FX_OK


cdef size_t give_back(fx_allocator *a) noexcept nogil:
    """Return every segment that is one free block, unless a pool with users owns it; the bytes returned."""
    cdef segment *s = a.first
    cdef segment *following
    cdef private_pool *pool
    cdef size_t returned = 0
    while s != NULL:
        following = s.next
        pool = s.owner.pool
        if s.first.state == BLOCK_FREE and s.first.after == NULL and (pool == NULL or pool.users == 0):
            returned += s.size
            bin_remove(&s.owner.lists[s.kind], s.first)
            drop_block(&a.records, s.first)
            drop_segment(a, s)
        s = following
    drop_pools(a)
    return returned


cdef void drop_segment(fx_allocator *a, segment *s) noexcept nogil:
    a.source.release(a.source.context, s.pointer, s.size)
    a.statistics.source_releases += 1
    count(a, SEGMENT, s.kind, -1)
    count(a, RESERVED_BYTES, s.kind, -<int64_t> s.size)
    if s.owner.pool != NULL:
        s.owner.pool.segments -= 1
    if s.previous != NULL:
        s.previous.next = s.next
    else:
        a.first = s.next
    if s.next != NULL:
        s.next.previous = s.previous
    else:
        a.last = s.previous
    free(s)


cdef void drop_pools(fx_allocator *a) noexcept nogil:
    """Forget the private pools with neither users nor segments."""
    cdef private_pool **link = &a.pools
    cdef private_pool *pool
    cdef arena **way
    cdef arena *gone
    while link[0] != NULL:
        pool = link[0]
        if pool.users or pool.segments:
            link = &pool.next
            continue
        way = &a.arenas
        while way[0] != NULL:
            gone = way[0]
            if gone.pool == pool:
                way[0] = gone.next
                free(gone)
            else:
                way = &gone.next
        link[0] = pool.next
        free(pool)


cdef bint copy_state(fx_allocator *a, fx_snapshot *copy) noexcept nogil:
    """A copy of what there is, under the mutex; False when the host has no memory for it."""
    cdef segment *s = a.first
    cdef block *b
    cdef size_t n_segments = 0, n_blocks = 0
    cdef segment_copy *to
    memset(copy, 0, sizeof(fx_snapshot))
    while s != NULL:
        n_segments += 1
        b = s.first
        while b != NULL:
            n_blocks += 1
            b = b.after
        s = s.next
    copy.segments = <segment_copy *> calloc(n_segments + 1, sizeof(segment_copy))
    copy.blocks = <block_copy *> calloc(n_blocks + 1, sizeof(block_copy))
    if copy.segments == NULL or copy.blocks == NULL:
        free_snapshot(copy)
        return False
    s = a.first
    while s != NULL:
        to = &copy.segments[copy.n_segments]
        to.address = <size_t> s.pointer
        to.size = s.size
        to.stream = s.owner.stream
        to.pool = 0 if s.owner.pool == NULL else s.owner.pool.number
        to.kind = s.kind
        b = s.first
        while b != NULL:
            to.blocks += 1
            copy.blocks[copy.n_blocks].address = <size_t> b.pointer
            copy.blocks[copy.n_blocks].size = b.size
            if b.state != BLOCK_FREE:
                copy.blocks[copy.n_blocks].requested = b.requested
                copy.blocks[copy.n_blocks].tag = b.tag
            copy.blocks[copy.n_blocks].state = b.state
            copy.n_blocks += 1
            b = b.after
        copy.n_segments += 1
        s = s.next
    return True


cdef void free_snapshot(fx_snapshot *copy) noexcept nogil:
    free(copy.segments)
    free(copy.blocks)
    memset(copy, 0, sizeof(fx_snapshot))
