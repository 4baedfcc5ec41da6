"""A source of memory for the allocator's tests: a counter or host memory, a clock for events, faults on demand."""
cimport cython
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from ferrox._core.abi cimport FX_ERROR_MEMORY, FX_OK
from ferrox._core.cuda.allocator cimport allocator_allocate, allocator_record_stream, allocator_release
from ferrox._core.cuda.contract cimport fx_memory_source
from ferrox._core.cuda.memory cimport CachingAllocator

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef enum:
    ALIGNED = 2 << 20
    SLOTS = 256

cdef struct mock_event:
    void *stream
    int64_t queries         # after which it is done; negative: not before it is told
    mock_event *next

cdef struct mock_state:
    size_t capacity, given, next_address
    bint host
    int64_t calls, fail_at, fail_status, refuse_events, waits, latency
    int64_t segments, events, recorded
    mock_event *first       # events not destroyed, oldest first


cdef int mock_allocate(void *context, size_t nbytes, void **pointer) noexcept nogil:
    cdef mock_state *m = <mock_state *> context
    m.calls += 1
    if m.calls == m.fail_at:
        return <int> m.fail_status
    if m.given + nbytes > m.capacity:
        return FX_ERROR_MEMORY
    if m.host:
        pointer[0] = aligned_alloc(512, nbytes)
        if pointer[0] == NULL:
            return FX_ERROR_MEMORY
    else:
        pointer[0] = <void *> m.next_address
        m.next_address += (nbytes + ALIGNED - 1) / ALIGNED * ALIGNED
    m.given += nbytes
    m.segments += 1
    return FX_OK


cdef void mock_release(void *context, void *pointer, size_t nbytes) noexcept nogil:
    cdef mock_state *m = <mock_state *> context
    if m.host:
        free(pointer)
    m.given -= nbytes
    m.segments -= 1


cdef int mock_info(void *context, size_t *free_bytes, size_t *total_bytes) noexcept nogil:
    cdef mock_state *m = <mock_state *> context
    free_bytes[0] = m.capacity - m.given
    total_bytes[0] = m.capacity
    return FX_OK


cdef void *mock_record(void *context, void *stream) noexcept nogil:
    cdef mock_state *m = <mock_state *> context
    cdef mock_event **link = &m.first
    cdef mock_event *event
    if m.refuse_events:
        m.refuse_events -= 1
        return NULL
    event = <mock_event *> calloc(1, sizeof(mock_event))
    if event == NULL:
        return NULL
    while link[0] != NULL:
        link = &link[0].next
    link[0] = event
    event.stream = stream
    event.queries = m.latency
    m.events += 1
    m.recorded += 1
    return event


cdef int mock_query(void *context, void *event) noexcept nogil:
    cdef mock_event *e = <mock_event *> event
    if e.queries > 0:
        e.queries -= 1
    return e.queries == 0


cdef int mock_wait(void *context, void *event) noexcept nogil:
    (<mock_state *> context).waits += 1
    (<mock_event *> event).queries = 0
    return 0


cdef void mock_destroy(void *context, void *event) noexcept nogil:
    cdef mock_state *m = <mock_state *> context
    cdef mock_event **link = &m.first
    while link[0] != event:
        link = &link[0].next
    link[0] = link[0].next
    free(event)
    m.events -= 1


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class MockSource:
    """A source with a capacity, as the `source` of a `CachingAllocator`.

    Parameters
    ----------
    capacity : int
        Bytes that it has.
    host : bool
        Whether segments are memory of the host, or addresses only, which rise by multiples of 2 MiB and never come
        again.
    latency : int
        Queries until an event is done; negative: events are done when `finish` or a wait says so.
    """
    cdef mock_state state
    cdef fx_memory_source functions

    def __cinit__(self, size_t capacity=1 << 50, bint host=False, int64_t latency=-1):
        self.state.capacity = capacity
        self.state.host = host
        self.state.latency = latency
        self.state.next_address = <size_t> 1 << 40
        self.functions.context = &self.state
        self.functions.name = "mock"
        self.functions.allocate = mock_allocate
        self.functions.release = mock_release
        self.functions.info = mock_info
        self.functions.event_record = mock_record
        self.functions.event_query = mock_query
        self.functions.event_wait = mock_wait
        self.functions.event_destroy = mock_destroy

    def __dealloc__(self):
        while self.state.first != NULL:
            mock_destroy(&self.state, self.state.first)

    def memory_source(self):
        return PyCapsule_New(&self.functions, "fx_memory_source", NULL)

    def fail_at(self, int64_t call, int64_t status=FX_ERROR_MEMORY):
        """Fail the `call`-th request for a segment from now on, the next being 1."""
        self.state.fail_at = self.state.calls + call
        self.state.fail_status = status

    def refuse_events(self, int64_t count):
        """Let the next `count` events fail to be recorded."""
        self.state.refuse_events = count

    def finish(self, size_t stream, count=None):
        """Let the oldest `count` events of a stream be done, or all."""
        cdef mock_event *event = self.state.first
        while event != NULL and (count is None or count > 0):
            if event.stream == <void *> stream and event.queries != 0:
                event.queries = 0
                count = None if count is None else count - 1
            event = event.next

    def __getattr__(self, name):
        figures = {"given": self.state.given, "capacity": self.state.capacity, "calls": self.state.calls,
                   "segments": self.state.segments, "events": self.state.events, "recorded": self.state.recorded,
                   "waits": self.state.waits}
        if name not in figures:
            raise AttributeError(name)
        return figures[name]


def churn(CachingAllocator allocator, size_t steps, size_t largest, uint64_t seed, size_t streams=1, bint write=False,
          bint record=False):
    """Random requests and frees, without the GIL; what is still in use at the end is freed.

    `write` marks both ends of every block and looks for the marks before freeing it: the source must be host memory.
    Returns the number of marks that were lost, and of requests refused.
    """
    cdef void *pointers[SLOTS]
    cdef size_t sizes[SLOTS]
    cdef uint64_t random = seed * 2 + 1
    cdef size_t step, slot, lost = 0, refused = 0, nbytes
    cdef void *stream
    cdef void *pointer
    for slot in range(SLOTS):
        pointers[slot] = NULL
    with nogil:
        for step in range(steps + SLOTS):
            random ^= random << 13
            random ^= random >> 7
            random ^= random << 17
            slot = step - steps if step >= steps else (random >> 20) % SLOTS
            if pointers[slot] != NULL:
                if write and ((<uint64_t *> pointers[slot])[0] != <uint64_t> (seed ^ sizes[slot])
                              or (<uint64_t *> pointers[slot])[sizes[slot] / 8 - 1] != <uint64_t> (seed ^ sizes[slot])):
                    lost += 1
                if allocator_release(allocator.state, pointers[slot]) != FX_OK:
                    lost += 1
                pointers[slot] = NULL
            elif step < steps:
                nbytes = 8 + (random >> 30) % largest
                nbytes = nbytes >> ((random >> 8) & 7) & ~(<size_t> 7)
                nbytes = nbytes if nbytes else 8
                stream = <void *> <size_t> ((random >> 3) % streams)
                if allocator_allocate(allocator.state, nbytes, stream, NULL, &pointer, NULL) != FX_OK:
                    refused += 1
                    continue
                pointers[slot] = pointer
                sizes[slot] = nbytes
                if record and random & 7 == 0:
                    allocator_record_stream(allocator.state, pointer, <void *> <size_t> ((random >> 5) % streams))
                if write:
                    (<uint64_t *> pointer)[0] = seed ^ nbytes
                    (<uint64_t *> pointer)[nbytes / 8 - 1] = seed ^ nbytes
    return lost, refused


def cycle(CachingAllocator allocator, size_t rounds, sizes):
    """Allocate blocks of the given sizes and free them in the same order, `rounds` times; for measurements."""
    cdef size_t n = len(sizes), i
    cdef size_t bytes_of[SLOTS]
    cdef void *pointers[SLOTS]
    if n > SLOTS:
        raise ValueError(f"at most {SLOTS} sizes")
    for i in range(n):
        bytes_of[i] = sizes[i]
    with nogil:
        for _ in range(rounds):
            for i in range(n):
                allocator_allocate(allocator.state, bytes_of[i], NULL, NULL, &pointers[i], NULL)
            for i in range(n):
                allocator_release(allocator.state, pointers[i])
