# Segments of memory cut into blocks; lists of free blocks; the table of blocks in use.  See segments.pyx.
from libc.stdint cimport uint64_t

cdef enum:
    UNIT = 512              # divides every size and offset
    BINS = 5569             # 4097, and 64 for each of 23 doublings: sizes below 16 TiB
    WORDS = 88              # of 64 bits, one for each bin

cdef enum block_state:
    BLOCK_FREE, BLOCK_USED, BLOCK_HELD      # held: freed, but other streams may still be at work on it

cdef struct private_pool:   # of captured graphs
    uint64_t number
    size_t users, segments  # users: captures under way, and graphs
    private_pool *next

cdef struct free_list:
    block *bins[BINS]
    uint64_t words[WORDS]   # which bins are not empty
    uint64_t summary[2]     # which words are not zero

cdef struct arena:          # the free blocks of one stream, in the common pool (NULL) or a private one
    void *stream
    private_pool *pool
    arena *next
    free_list lists[2]      # small, large

cdef struct event_queue:    # recorded on one stream, oldest first
    void *stream
    use *head
    use *tail
    event_queue *next

cdef struct use:            # of a block by a stream other than its own
    event_queue *queue
    void *event
    block *owner
    use *next               # not yet recorded: of the same block; recorded: in the queue; else spare

cdef struct block:
    char *pointer
    size_t size, requested
    const char *tag
    segment *home
    block *before           # neighbours in the segment, by address
    block *after
    block *previous         # neighbours in the bin
    block *next             # (also links spare records, and deferred blocks)
    use *uses               # by other streams, without an event yet
    int pending             # events recorded and not known to be done
    block_state state

cdef struct segment:
    char *pointer
    size_t size
    arena *owner
    block *first
    segment *previous
    segment *next
    int kind                # 0 small, 1 large

cdef struct records:        # block records and the table of the blocks in use, by address
    block *spare
    size_t spares
    void *slabs
    block **slots
    size_t room, count      # room: a power of two, or 0

cdef void bin_insert(free_list *free_blocks, block *b) noexcept nogil
cdef void bin_remove(free_list *free_blocks, block *b) noexcept nogil
cdef block *best_fit(free_list *free_blocks, size_t size) noexcept nogil
cdef bint reserve(records *r) noexcept nogil
cdef void clear(records *r) noexcept nogil
cdef block *first_block(records *r, segment *home) noexcept nogil
cdef void drop_block(records *r, block *b) noexcept nogil
cdef block *split(records *r, block *b, size_t size) noexcept nogil
cdef void absorb(records *r, block *b) noexcept nogil
cdef void table_put(records *r, block *b) noexcept nogil
cdef block *table_find(records *r, void *pointer) noexcept nogil
cdef block *table_take(records *r, void *pointer) noexcept nogil
