# The allocator's state, and the steps that change it under the mutex.  See allocator_state.pyx.
from libc.stdint cimport int64_t

from ferrox._core.cuda.contract cimport fx_memory_source, fx_snapshot, fx_statistic, fx_statistics
from ferrox._core.cuda.segments cimport arena, block, event_queue, private_pool, records, segment, use

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef struct capture:
    private_pool *pool
    void *stream
    bint any_stream
    capture *next

cdef struct fx_allocator:
    fx_memory_source source
    pthread_mutex_t mutex
    size_t limit
    segment *first
    segment *last
    arena *arenas                               # the one used last in front
    private_pool *pools
    capture *captures
    event_queue *queues
    block *deferred                             # held blocks with events still to be recorded, oldest first
    block *last_deferred
    use *spare_uses
    size_t held
    records records
    fx_statistics statistics


cdef inline void change(fx_statistic *s, int64_t amount) noexcept nogil:
    s.current += amount
    if amount < 0:
        s.freed -= amount
        return
    s.allocated += amount
    if s.current > s.peak:
        s.peak = s.current


cdef inline void count(fx_allocator *a, int which, int kind, int64_t amount) noexcept nogil:
    change(&a.statistics.table[which][0], amount)
    change(&a.statistics.table[which][1 + kind], amount)

cdef void free_block(fx_allocator *a, block *b) noexcept nogil
cdef int note_use(fx_allocator *a, void *pointer, void *stream) noexcept nogil
cdef void hold(fx_allocator *a, block *b) noexcept nogil
cdef void settle(fx_allocator *a, bint wait) noexcept nogil
cdef arena *arena_of(fx_allocator *a, void *stream) noexcept nogil
cdef int take_segment(fx_allocator *a, arena *owner, int kind, size_t size, block **fresh) noexcept nogil
cdef void drop_segment(fx_allocator *a, segment *s) noexcept nogil
cdef size_t give_back(fx_allocator *a) noexcept nogil
cdef void drop_pools(fx_allocator *a) noexcept nogil
cdef bint copy_state(fx_allocator *a, fx_snapshot *copy) noexcept nogil
cdef void free_snapshot(fx_snapshot *copy) noexcept nogil
