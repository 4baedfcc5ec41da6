"""What everybody has to know of captures of graphs (graphs.pyx).

Nothing runs while a stream is captured, so that the host can neither wait for it nor look at what it computes.  What
would do so asks `may_wait` first and fails with CUDA_CAPTURING before the driver does, for the driver would spoil the
capture.  Other calls (taking memory, loading kernels, asking about the events of other streams) only seem unsafe to the
driver; they stand between `relax` and `restore`, which say for the thread that it knows what it does.
"""
from ferrox._core.cuda.driver cimport CUDA_CAPTURING, cu, usable

cdef extern from *:
    """
    #include <pthread.h>
    static pthread_mutex_t fx_capture_mutex = PTHREAD_MUTEX_INITIALIZER;
    static inline void fx_capture_lock(void) { pthread_mutex_lock(&fx_capture_mutex); }
    static inline void fx_capture_unlock(void) { pthread_mutex_unlock(&fx_capture_mutex); }
    static __thread void *fx_captured_state;
    """
    void fx_capture_lock() nogil
    void fx_capture_unlock() nogil
    void *fx_captured_state

cdef capture_record *_open = NULL


cdef void capture_opened(capture_record *record) noexcept nogil:
    global _open, captures
    fx_capture_lock()
    record.next = _open
    _open = record
    captures += 1
    fx_capture_unlock()


cdef void capture_closed(capture_record *record) noexcept nogil:
    global captures
    cdef capture_record **link = &_open
    fx_capture_lock()
    while link[0] != NULL and link[0] != record:
        link = &link[0].next
    if link[0] != NULL:
        link[0] = record.next
        captures -= 1
    fx_capture_unlock()


cdef capture_record *capture_of(CUstream stream) noexcept nogil:
    cdef int status = 0
    cdef unsigned long long id = 0
    cdef capture_record *found
    if captures == 0 or cu.cuStreamGetCaptureInfo(stream, &status, &id, NULL, NULL, NULL) or status == 0:
        return NULL
    fx_capture_lock()
    found = _open
    while found != NULL and found.id != id:
        found = found.next
    fx_capture_unlock()
    return found


cdef CUresult may_wait(CUstream stream) noexcept nogil:
    cdef int status = 0
    if captures == 0 or cu.cuStreamIsCapturing(stream, &status) or status == 0:
        return 0
    return CUDA_CAPTURING


cdef CUresult may_wait_for_device(int device) noexcept nogil:
    cdef capture_record *each
    cdef CUresult found = 0
    if captures == 0:
        return 0
    fx_capture_lock()
    each = _open
    while each != NULL:
        if each.device == device:
            found = CUDA_CAPTURING
        each = each.next
    fx_capture_unlock()
    return found


cdef int relax() noexcept nogil:
    cdef int mode = CAPTURE_RELAXED
    if usable() or cu.cuThreadExchangeStreamCaptureMode(&mode):
        return -1
    return mode


cdef void restore(int mode) noexcept nogil:
    if mode >= 0:
        cu.cuThreadExchangeStreamCaptureMode(&mode)


cdef bint pool_captures(uint64_t pool) noexcept nogil:
    cdef capture_record *each
    cdef bint found = False
    fx_capture_lock()
    each = _open
    while each != NULL:
        found = found or each.pool == pool
        each = each.next
    fx_capture_unlock()
    return found


cdef void *captured_state() noexcept nogil:
    return fx_captured_state


cdef void set_captured_state(void *state) noexcept nogil:
    global fx_captured_state
    fx_captured_state = state
