"""Page-locked memory of the host: what a GPU copies from and to by itself, while the host and its streams go on.

Locking pages takes the driver milliseconds, so blocks are kept: a request is rounded up to a power of two, at least
4 KiB, and served by a free block of that size.  A block knows the streams that were given copies from or to it
(`pinned_use`).  When it is given back an event is recorded on each, and it is free when all of them are done.  Free
blocks go back to the driver when it refuses a new one, and on `empty_pinned`.

A copy in a captured graph uses its block at every replay: the block is not free before the graph is gone
(`pinned_forget`).  While a graph is captured events are neither recorded nor asked for, and nothing goes back.
"""
cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove

from ferrox._core.cuda.abi cimport CUevent, CUresult, CUstream
from ferrox._core.cuda.capturing cimport capture_of, capture_record, captures, relax, restore
from ferrox._core.cuda.context cimport bind, current_device
from ferrox._core.cuda.driver cimport CUDA_ERROR_NOT_READY, CUDA_ERROR_OUT_OF_MEMORY, CUDA_FORKED, check, cu, noted, \
    usable
from ferrox._core.cuda.module cimport driver_call

cdef extern from *:
    """
    #include <pthread.h>
    static pthread_mutex_t fx_pinned_mutex = PTHREAD_MUTEX_INITIALIZER;
    static inline void fx_pinned_lock(void) { pthread_mutex_lock(&fx_pinned_mutex); }
    static inline void fx_pinned_unlock(void) { pthread_mutex_unlock(&fx_pinned_mutex); }
    static inline int fx_bit_length(unsigned long long x) { return x ? 64 - __builtin_clzll(x) : 0; }
    """
    void fx_pinned_lock() nogil
    void fx_pinned_unlock() nogil
    int fx_bit_length(unsigned long long x) nogil

cdef enum:
    SMALLEST = 12           # 2 ** 12 bytes
    CLASSES = 44
    STREAMS = 8             # that a block remembers; one more waits for the first
    PORTABLE = 1            # CU_MEMHOSTALLOC_PORTABLE
    WITHOUT_TIMING = 2

cdef unsigned long long FOR_EVER = <unsigned long long> -1     # as the capture of a use: of no one graph

cdef struct stream_use:
    CUstream stream
    CUevent event           # NULL while the block is in use, or a capture is under way
    int device
    unsigned long long capture      # of the graph that uses it; 0 for a stream

cdef struct pinned_block:
    char *pointer
    size_t size
    int n_uses
    stream_use uses[STREAMS]
    pinned_block *next      # of the free ones of its size, or of those that wait for their events

cdef pinned_block *_free[CLASSES]
cdef pinned_block *_waiting = NULL
cdef pinned_block **_table = NULL       # of all, by address
cdef size_t _count = 0, _room = 0
cdef uint64_t _bytes = 0, _taken = 0, _cached = 0


cdef inline int _class_of(size_t bytes) noexcept nogil:
    return max(fx_bit_length(bytes - 1) if bytes else 0, <int> SMALLEST)


cdef size_t _place(const void *address) noexcept nogil:
    """How many blocks begin at or before an address."""
    cdef size_t low = 0, high = _count, middle
    while low < high:
        middle = (low + high) // 2
        if <size_t> _table[middle].pointer <= <size_t> address:
            low = middle + 1
        else:
            high = middle
    return low


cdef pinned_block *_find(const void *address) noexcept nogil:
    cdef size_t place = _place(address)
    cdef pinned_block *b
    if place == 0:
        return NULL
    b = _table[place - 1]
    return b if <size_t> address < <size_t> b.pointer + b.size else NULL


cdef void _put(pinned_block *b) noexcept nogil:
    cdef int number = _class_of(b.size)
    b.next = _free[number]
    _free[number] = b


cdef bint _mark(stream_use *use) noexcept nogil:
    """Record the event of a use; its device is bound."""
    if noted(cu.cuEventCreate(&use.event, WITHOUT_TIMING)):
        use.event = NULL
    elif noted(cu.cuEventRecord(use.event, use.stream)):
        noted(cu.cuEventDestroy(use.event))
        use.event = NULL
    return use.event != NULL


cdef bint _is_done(pinned_block *b) noexcept nogil:
    """Forget the events that are done; whether none is left."""
    cdef stream_use *use
    cdef CUresult status
    while b.n_uses:
        use = &b.uses[b.n_uses - 1]
        if use.capture or bind(use.device):
            return False
        if use.event == NULL and not _mark(use):
            return False
        status = cu.cuEventQuery(use.event)
        if status == CUDA_ERROR_NOT_READY or noted(status):
            return False
        noted(cu.cuEventDestroy(use.event))
        b.n_uses -= 1
    return True


cdef void _settle() noexcept nogil:
    global _waiting
    cdef pinned_block **link = &_waiting
    cdef pinned_block *b
    while link[0] != NULL:
        b = link[0]
        if _is_done(b):
            link[0] = b.next
            _put(b)
        else:
            link = &b.next


cdef size_t _return_free() noexcept nogil:
    """Give the free blocks to the driver; the bytes."""
    global _bytes, _count
    cdef int number
    cdef size_t place, returned = 0
    cdef pinned_block *b
    for number in range(CLASSES):
        while _free[number] != NULL:
            b = _free[number]
            _free[number] = b.next
            place = _place(b.pointer) - 1
            memmove(&_table[place], &_table[place + 1], (_count - place - 1) * sizeof(pinned_block *))
            _count -= 1
            _bytes -= b.size
            returned += b.size
            noted(cu.cuMemFreeHost(b.pointer))
            free(b)
    return returned


cdef pinned_block *_fresh(size_t size) noexcept nogil:
    global _table, _count, _room, _bytes
    cdef pinned_block *b
    cdef pinned_block **grown
    cdef void *memory = NULL
    cdef CUresult status
    cdef size_t place
    cdef int mode
    if _count == _room:
        grown = <pinned_block **> realloc(_table, sizeof(pinned_block *) * (2 * _room + 64))
        if grown == NULL:
            return NULL
        _table = grown
        _room = 2 * _room + 64
    b = <pinned_block *> calloc(1, sizeof(pinned_block))
    if b == NULL:
        return NULL
    mode = relax()
    status = cu.cuMemHostAlloc(&memory, size, PORTABLE)
    if status == CUDA_ERROR_OUT_OF_MEMORY and captures == 0 and _return_free():
        status = cu.cuMemHostAlloc(&memory, size, PORTABLE)
    restore(mode)
    if status:
        free(b)
        driver_call(status, b"locking pages of the host's memory")
        return NULL
    b.pointer = <char *> memory
    b.size = size
    place = _place(memory)
    memmove(&_table[place + 1], &_table[place], (_count - place) * sizeof(pinned_block *))
    _table[place] = b
    _count += 1
    _bytes += size
    return b


cdef void *pinned_take(size_t bytes) noexcept nogil:
    global _taken, _cached
    cdef int number = _class_of(bytes)
    cdef pinned_block *b
    if driver_call(usable(), b"locking pages of the host's memory"):    # a forked child may not touch the mutex
        return NULL
    fx_pinned_lock()
    if _waiting != NULL and captures == 0:
        _settle()
    b = _free[number]
    _taken += 1
    if b != NULL:
        _free[number] = b.next
        _cached += 1
    else:
        b = _fresh(<size_t> 1 << number)
    fx_pinned_unlock()
    return NULL if b == NULL else b.pointer


cdef void pinned_give(void *block) noexcept nogil:
    global _waiting
    cdef pinned_block *b
    cdef stream_use *use
    cdef int i, kept = 0
    if block == NULL or usable() == CUDA_FORKED:
        return
    fx_pinned_lock()
    b = _find(block)
    for i in range(b.n_uses):
        use = &b.uses[i]
        use.event = NULL
        if use.capture or captures or (bind(use.device) == 0 and _mark(use)):
            b.uses[kept] = use[0]
            kept += 1
        elif usable() == 0:     # no event: wait, rather than hand it out too early
            noted(cu.cuStreamSynchronize(use.stream))
    b.n_uses = kept
    if kept:
        b.next = _waiting
        _waiting = b
    else:
        _put(b)
    fx_pinned_unlock()


cdef bint pinned_use(const void *address, int device, CUstream stream) noexcept nogil:
    cdef pinned_block *b
    cdef capture_record *record = capture_of(stream)
    cdef unsigned long long capture = 0 if record == NULL else record.id
    cdef int i, mode
    fx_pinned_lock()
    b = _find(address)
    if b != NULL:
        i = 0
        while i < b.n_uses and (b.uses[i].capture != capture
                                or (capture == 0 and (b.uses[i].stream != stream or b.uses[i].device != device))):
            i += 1
        if i == STREAMS:
            i = 0
            while i < STREAMS - 1 and b.uses[i].capture:
                i += 1
            # A block that this many graphs use keeps the last of them for ever.
            if b.uses[i].capture == 0 and bind(b.uses[i].device) == 0:
                mode = relax()
                noted(cu.cuStreamSynchronize(b.uses[i].stream))
                restore(mode)
            elif b.uses[i].capture:
                capture = FOR_EVER
            bind(device)
        b.uses[i].stream = stream
        b.uses[i].device = device
        b.uses[i].capture = capture
        b.n_uses = max(b.n_uses, i + 1)
    fx_pinned_unlock()
    return b != NULL


cdef void pinned_forget(unsigned long long capture, bint replayed, CUstream stream) noexcept nogil:
    cdef size_t i
    cdef int k
    cdef pinned_block *b
    if usable() == CUDA_FORKED:
        return
    fx_pinned_lock()
    for i in range(_count):
        b = _table[i]
        for k in range(b.n_uses - 1, -1, -1):
            if b.uses[k].capture != capture:
                continue
            if replayed:
                b.uses[k].stream = stream
                b.uses[k].capture = 0
                b.uses[k].event = NULL      # recorded when the block is given back, or asked for
            else:
                b.n_uses -= 1
                b.uses[k] = b.uses[b.n_uses]
    fx_pinned_unlock()


cdef bint pinned_holds(const void *address, size_t bytes) noexcept nogil:
    cdef pinned_block *b
    fx_pinned_lock()
    b = _find(address)
    fx_pinned_unlock()
    return b != NULL and <size_t> address + bytes <= <size_t> b.pointer + b.size


def empty_pinned():
    """Give the free blocks back to the driver; the bytes."""
    cdef size_t returned = 0
    if usable() == 0:
        with nogil:
            if bind(current_device()) == 0:
                fx_pinned_lock()
                if captures == 0:
                    _settle()
                    returned = _return_free()
                fx_pinned_unlock()
    return returned


def pinned_stats():
    """Blocks and bytes locked, requests, and how many of these were served from the cache, as a dict."""
    return {"segments": _count, "bytes": _bytes, "requests": _taken, "hits": _cached}


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class PinnedBlock:
    """Owns a block; what a pinned tensor keeps alive."""
    cdef void *block

    def __cinit__(self, size_t bytes):
        check(bind(current_device()), "locking pages of the host's memory")
        with nogil:
            self.block = pinned_take(bytes)
        if self.block == NULL:
            from ferrox._core.cuda.module import raise_launch_error

            raise_launch_error("pin_memory")

    def __dealloc__(self):
        if self.block != NULL:
            pinned_give(self.block)

    @property
    def address(self):
        return <size_t> self.block
