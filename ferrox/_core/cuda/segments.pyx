"""The structures under the caching allocator; its policy stands in allocator.pyx.

Note [Bins].  Best fit wants "the smallest free block of at least n bytes" in a few nanoseconds.  Every size is a
multiple of 512 bytes, so up to 2 MiB each size has a bin of its own, and the first bin that is not empty at or above
the wanted one is the best fit, exactly: three words of a two-level bitmap are read, and no blocks are compared.  That
is all of the small pool.  Above 2 MiB there are 64 bins to a doubling; a bin spans at most 1.6 % of the size, and is
kept sorted, so that the first block in it that is large enough is the best.  Insertion walks past the smaller blocks of
its own bin: few, for a large block is at least a mebibyte of a device's memory, and a program has few sizes so close.
Against a balanced tree keyed by (size, address) this reads fewer cache lines, needs no rebalancing, and gives equal
sizes newest first, which is the block likeliest to be in the device's cache.

Records of blocks are taken from the host's heap in slabs and recycled, and room for all that one operation may need is
reserved before it begins: splitting, freeing and merging cannot fail.

Nothing here locks, and nothing touches the memory that is described.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free


cdef extern from *:
    """
    static inline int fx_lowest(unsigned long long x) { return __builtin_ctzll(x); }
    static inline int fx_power(unsigned long long x) { return 63 - __builtin_clzll(x); }
    """
    int fx_lowest(unsigned long long x) noexcept nogil
    int fx_power(unsigned long long x) noexcept nogil


cdef enum:
    EXACT = 4096            # bins 1..EXACT hold one size each, up to EXACT * UNIT = 2 MiB
    STEPS = 64              # bins to a doubling above
    SLAB = 64               # block records taken from the host's heap at once


cdef inline int bin_of(size_t size) noexcept nogil:
    cdef int power
    if size <= EXACT * UNIT:
        return <int> (size / UNIT)
    power = fx_power(size)
    return EXACT + 1 + (power - 21) * STEPS + <int> ((size >> (power - 6)) & (STEPS - 1))


cdef void bin_insert(free_list *free_blocks, block *b) noexcept nogil:
    """Before the blocks of its size, behind the smaller ones."""
    cdef int number = bin_of(b.size)
    cdef block *behind = free_blocks.bins[number]
    cdef block *ahead = NULL
    while behind != NULL and behind.size < b.size:
        ahead = behind
        behind = behind.next
    b.previous = ahead
    b.next = behind
    if behind != NULL:
        behind.previous = b
    if ahead != NULL:
        ahead.next = b
    else:
        free_blocks.bins[number] = b
        free_blocks.words[number >> 6] |= <uint64_t> 1 << (number & 63)
        free_blocks.summary[number >> 12] |= <uint64_t> 1 << ((number >> 6) & 63)


cdef void bin_remove(free_list *free_blocks, block *b) noexcept nogil:
    cdef int number
    if b.next != NULL:
        b.next.previous = b.previous
    if b.previous != NULL:
        b.previous.next = b.next
        return
    number = bin_of(b.size)
    free_blocks.bins[number] = b.next
    if b.next == NULL:
        free_blocks.words[number >> 6] &= ~(<uint64_t> 1 << (number & 63))
        if free_blocks.words[number >> 6] == 0:
            free_blocks.summary[number >> 12] &= ~(<uint64_t> 1 << ((number >> 6) & 63))


cdef inline int first_bin(free_list *free_blocks, int number) noexcept nogil:
    """The first bin from `number` on that is not empty, or -1."""
    cdef int word = number >> 6, group
    cdef uint64_t bits
    if number >= BINS:
        return -1
    bits = free_blocks.words[word] >> (number & 63)
    if bits:
        return number + fx_lowest(bits)
    word += 1
    group = word >> 6
    bits = free_blocks.summary[group] >> (word & 63) if group < 2 else 0
    if bits:
        word += fx_lowest(bits)
    else:
        if group or not free_blocks.summary[1]:
            return -1
        word = 64 + fx_lowest(free_blocks.summary[1])
    return (word << 6) + fx_lowest(free_blocks.words[word])


cdef block *best_fit(free_list *free_blocks, size_t size) noexcept nogil:
    """The smallest block of at least `size` bytes, among equals the one inserted last; NULL when there is none."""
    cdef int number = bin_of(size)
    cdef block *b
    if number > EXACT:
        b = free_blocks.bins[number]
        while b != NULL and b.size < size:
            b = b.next
        if b != NULL:
            return b
        number += 1
    number = first_bin(free_blocks, number)
    return NULL if number < 0 else free_blocks.bins[number]


cdef bint reserve(records *r) noexcept nogil:
    """Room for one more block in use and two more records; False when the host is out of memory."""
    cdef void **slab
    cdef block *fresh
    cdef block **old
    cdef block **slots
    cdef size_t i, room
    if r.spares < 2:
        slab = <void **> calloc(1, sizeof(void *) + SLAB * sizeof(block))
        if slab == NULL:
            return False
        slab[0] = r.slabs
        r.slabs = slab
        fresh = <block *> (slab + 1)
        for i in range(SLAB):
            fresh[i].next = r.spare
            r.spare = &fresh[i]
        r.spares += SLAB
    if 2 * (r.count + 1) > r.room:
        room = 2 * r.room if r.room else 256
        slots = <block **> calloc(room, sizeof(block *))
        if slots == NULL:
            return False
        old = r.slots
        i = r.room
        r.slots = slots
        r.room = room
        r.count = 0
        while i:
            i -= 1
            if old[i] != NULL:
                table_put(r, old[i])
        free(old)
    return True


cdef void clear(records *r) noexcept nogil:
    cdef void *slab = r.slabs
    cdef void *following
    while slab != NULL:
        following = (<void **> slab)[0]
        free(slab)
        slab = following
    free(r.slots)
    r.slabs = NULL
    r.slots = NULL


cdef inline block *take_record(records *r) noexcept nogil:
    cdef block *b = r.spare
    r.spare = b.next
    r.spares -= 1
    b.uses = NULL
    b.pending = 0
    b.state = BLOCK_FREE
    return b


cdef void drop_block(records *r, block *b) noexcept nogil:
    b.next = r.spare
    r.spare = b
    r.spares += 1


cdef block *first_block(records *r, segment *home) noexcept nogil:
    """One block that is all of a new segment."""
    cdef block *b = take_record(r)
    b.pointer = home.pointer
    b.size = home.size
    b.home = home
    b.before = NULL
    b.after = NULL
    home.first = b
    return b


cdef block *split(records *r, block *b, size_t size) noexcept nogil:
    """Cut `b` down to `size` bytes; returns the rest, a free block in no bin."""
    cdef block *rest = take_record(r)
    rest.pointer = b.pointer + size
    rest.size = b.size - size
    rest.home = b.home
    rest.before = b
    rest.after = b.after
    if b.after != NULL:
        b.after.before = rest
    b.after = rest
    b.size = size
    return rest


cdef void absorb(records *r, block *b) noexcept nogil:
    """Join `b` with its neighbour above; both are free and in no bin."""
    cdef block *gone = b.after
    b.size += gone.size
    b.after = gone.after
    if gone.after != NULL:
        gone.after.before = b
    drop_block(r, gone)


# The table of blocks in use: open addressing, at most half full, removal by shifting back (no tombstones).

cdef inline size_t slot_of(records *r, void *pointer) noexcept nogil:
    return <size_t> ((((<uint64_t> <size_t> pointer) >> 9) * <uint64_t> 0x9E3779B97F4A7C15) >> 24) & (r.room - 1)


cdef void table_put(records *r, block *b) noexcept nogil:
    cdef size_t i = slot_of(r, b.pointer)
    while r.slots[i] != NULL:
        i = (i + 1) & (r.room - 1)
    r.slots[i] = b
    r.count += 1


cdef inline size_t table_search(records *r, void *pointer) noexcept nogil:
    """The slot of a block, or of the gap where its search ends."""
    cdef size_t i = slot_of(r, pointer)
    while r.slots[i] != NULL and r.slots[i].pointer != <char *> pointer:
        i = (i + 1) & (r.room - 1)
    return i


cdef block *table_find(records *r, void *pointer) noexcept nogil:
    return r.slots[table_search(r, pointer)] if r.room else NULL


cdef block *table_take(records *r, void *pointer) noexcept nogil:
    """Remove and return the block at an address; NULL when none in use begins there."""
    cdef size_t i, gap, wanted, mask = r.room - 1
    cdef block *found
    if r.room == 0:
        return NULL
    gap = table_search(r, pointer)
    found = r.slots[gap]
    if found == NULL:
        return NULL
    i = gap
    while True:
        i = (i + 1) & mask
        if r.slots[i] == NULL:
            break
        wanted = slot_of(r, r.slots[i].pointer)
        if ((i - wanted) & mask) >= ((i - gap) & mask):
            r.slots[gap] = r.slots[i]
            gap = i
    r.slots[gap] = NULL
    r.count -= 1
    return found
