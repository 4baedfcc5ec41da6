"""The profiler's clock of devices: events with time from a pool, recorded on the current stream.

Nothing waits while marks are made.  `settle`, when the profile has stopped, waits for the devices and records one event
more, whose time the host knows: it has just seen it pass.  The time of a mark is read back from there.  The driver
tells times as float32 milliseconds, which is coarse over seconds; so each mark is measured from one nearby, itself
measured before.
"""
from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport realloc

from ferrox._core.cuda.abi cimport CUevent, CUresult, CUstream
from ferrox._core.cuda.context cimport MAX_DEVICES, bind, open_devices
from ferrox._core.cuda.device_memory cimport usage
from ferrox._core.cuda.driver cimport check, cu, noted, usable
from ferrox._core.cuda.stream cimport current_stream
from ferrox._core.door cimport profile
from ferrox._core.door.profile import now

cdef enum:
    WITH_TIMING = 0
    NEARBY = 50         # milliseconds
    TRIES = 3

cdef struct device_marks:
    CUevent *free_events
    int64_t n_free, room
    int64_t given               # marks that are not read yet
    CUevent reference           # never given out
    double reference_time       # by the host's clock, in nanoseconds; NaN before `settle`
    CUevent nearby              # the mark measured last as reference for the next ones; NULL for the reference itself
    double nearby_time

cdef device_marks _marks[MAX_DEVICES]
cdef profile.device_clock _clock


cdef CUevent _event(device_marks *m) noexcept nogil:
    cdef CUevent made = NULL
    if m.n_free:
        m.n_free -= 1
        return m.free_events[m.n_free]
    return NULL if noted(cu.cuEventCreate(&made, WITH_TIMING)) else made


cdef void _give_back(device_marks *m, CUevent event) noexcept nogil:
    if m.n_free == m.room:
        grown = <CUevent *> realloc(m.free_events, <size_t> (2 * m.room + 256) * sizeof(CUevent))
        if grown == NULL:
            cu.cuEventDestroy(event)
            return
        m.free_events = grown
        m.room = 2 * m.room + 256
    m.free_events[m.n_free] = event
    m.n_free += 1


cdef void *_mark(int device, size_t *stream) noexcept nogil:
    cdef device_marks *m = &_marks[device]
    cdef CUstream current = current_stream(device)
    cdef CUevent event
    cdef int capturing = 0
    stream[0] = <size_t> current
    if usable() or bind(device) or cu.cuStreamIsCapturing(current, &capturing) or capturing:
        return NULL     # an event within a captured graph has no time of its own
    event = _event(m)
    if event == NULL:
        return NULL
    if noted(cu.cuEventRecord(event, current)):
        _give_back(m, event)
        return NULL
    m.given += 1
    return event


cdef double _passed(int device, void *mark) noexcept nogil:
    cdef device_marks *m = &_marks[device]
    cdef CUevent event = <CUevent> mark
    cdef float milliseconds = 0
    cdef double time = NAN
    m.given -= 1
    if usable() or bind(device):
        return NAN      # and the event is left alone
    if m.reference_time == m.reference_time:
        if m.nearby == NULL:
            if cu.cuEventElapsedTime(&milliseconds, m.reference, event) == 0:
                time = m.reference_time + 1e6 * milliseconds
        elif cu.cuEventElapsedTime(&milliseconds, m.nearby, event) == 0:
            time = m.nearby_time + 1e6 * milliseconds
        if time == time and (m.nearby == NULL or fabs(milliseconds) > NEARBY):
            if m.nearby != NULL:
                _give_back(m, m.nearby)
            m.nearby = event
            m.nearby_time = time
            return time
    _give_back(m, event)
    return time


cdef void _memory(int device, int64_t *taken, int64_t *in_use) noexcept nogil:
    usage(device, taken, in_use)


def settle():
    """Wait for the devices that have marks, and find out what time it is there."""
    cdef device_marks *m
    cdef int device, _
    cdef CUresult status
    for device in range(open_devices()):
        m = &_marks[device]
        m.reference_time = NAN
        if m.nearby != NULL:
            _give_back(m, m.nearby)
            m.nearby = NULL
        if m.given == 0 or usable() or bind(device):
            continue
        with nogil:
            status = cu.cuCtxSynchronize()
        check(status, "waiting for the profiled work")
        if m.reference == NULL:
            check(cu.cuEventCreate(&m.reference, WITH_TIMING), "creating an event")
        for _ in range(TRIES):    # the first may be slow; the last counts
            check(cu.cuEventRecord(m.reference, NULL), "recording an event")
            check(cu.cuEventSynchronize(m.reference), "waiting for an event")
            m.reference_time = now()


def _fill():
    cdef int device
    for device in range(MAX_DEVICES):
        _marks[device].reference_time = NAN
    _clock.mark = _mark
    _clock.passed = _passed
    _clock.memory = _memory
    profile.clock = &_clock


_fill()
