"""The profiler's recorder: entries with a beginning and an end, appended by whoever works while `recording` is set.

The door begins an entry for every kernel, the engine one for every node of a backward, `values.transfer` one for every
copy between host and device, `record_function` one for each range.  What is appended is a fixed record of numbers; what
it means (a tree by thread and depth, averages, a trace) is made of it in `ferrox.profiler`, after the fact.

Nothing waits.  Device time is between two marks in the stream, read when the profile has stopped.  Memory is read off
the allocators' own sums at each beginning and end, so that nothing stands in their way either.
"""
from importlib import import_module

from cpython.object cimport PyObject
from libc.math cimport NAN
from libc.stdlib cimport calloc, free, realloc

from ferrox._core.abi cimport FX_CPU, FX_CUDA, FX_HOST_SCALAR, fx_array, fx_itemsize
from ferrox._core.door.backend cimport kernel_name
from ferrox._core.dtype cimport dtype_name
from ferrox._core.memory.pool cimport Pool
from ferrox._core.memory import storage

cdef extern from *:
    """
    #include <time.h>
    static __thread int fx_profile_depth = 0;
    static __thread unsigned fx_profile_run = 0;
    static __thread unsigned long fx_profile_thread = 0;    /* asking for it is a system call */
    static inline long long fx_profile_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }
    """
    int fx_profile_depth
    unsigned fx_profile_run
    unsigned long fx_profile_thread
    int64_t fx_profile_now() noexcept nogil

cdef extern from "Python.h":
    void Py_INCREF(PyObject *o)
    void Py_XDECREF(PyObject *o)
    unsigned long PyThread_get_thread_native_id()

cdef enum:
    CHUNK = 4096
    RUN = 40            # an entry's number: the profile it belongs to, and below these bits its place

cdef struct usage:      # bytes
    int64_t taken       # in all
    int64_t in_use
    int which           # 1 + the number of the device; 0 when this is not known

cdef struct entry:
    PyObject *name      # owned
    PyObject *stack     # owned, or NULL
    int64_t start, end  # 0 while it runs
    uint64_t sequence
    int64_t nbytes
    int64_t shapes      # where its inputs stand in _shapes, -1 for none
    void *begun
    void *ended
    size_t stream
    unsigned long thread
    usage host[2]       # at its beginning, at its end
    usage device[2]
    int depth, kernel
    short device_index
    signed char device_type, dtype, kind, n_in

cdef entry **_chunks = NULL
cdef int64_t _count = 0, _room = 0
cdef int64_t *_shapes = NULL
cdef int64_t _shapes_count = 0, _shapes_room = 0
cdef unsigned _run = 0
cdef bint _host = True, _device = True, _record_shapes = False, _memory = False, _with_stack = False
cdef int _last_device = -1      # whose memory ranges are about
cdef Pool _pool = None


cdef inline entry *_at(int64_t place) noexcept:
    return &_chunks[place // CHUNK][place % CHUNK]


cdef entry *_append(str name, int kind, int device_type, int device) noexcept:
    """A fresh entry, not begun; NULL when there is no memory for it."""
    global _chunks, _room, _count, fx_profile_run, fx_profile_depth, fx_profile_thread
    cdef entry *e
    if _count == _room * CHUNK:
        grown = realloc(_chunks, <size_t> (_room + 1) * sizeof(entry *))
        if grown == NULL:
            return NULL
        _chunks = <entry **> grown
        _chunks[_room] = <entry *> calloc(CHUNK, sizeof(entry))
        if _chunks[_room] == NULL:
            return NULL
        _room += 1
    e = _at(_count)
    _count += 1
    if fx_profile_run != _run:
        fx_profile_run = _run
        fx_profile_depth = 0
        fx_profile_thread = PyThread_get_thread_native_id()
    e.name = <PyObject *> name
    Py_INCREF(e.name)
    e.depth = fx_profile_depth
    fx_profile_depth += 1
    e.thread = fx_profile_thread
    e.kind = kind
    e.kernel = -1
    e.dtype = -1
    e.shapes = -1
    e.device_type = device_type
    e.device_index = device
    e.sequence = 0 if sequence == NULL else sequence[0] + 1
    return e


cdef void _sample(entry *e, int which) noexcept:
    cdef int device = e.device_index if e.device_type == FX_CUDA else _last_device
    e.host[which].in_use = <int64_t> _pool.in_use
    e.host[which].taken = <int64_t> _pool.taken
    e.host[which].which = 1
    if clock != NULL and device >= 0:
        e.device[which].which = 1 + device
        clock.memory(device, &e.device[which].taken, &e.device[which].in_use)


cdef int64_t _begin(entry *e) noexcept:
    """The last thing before the work itself."""
    global _last_device
    if e.device_type == FX_CUDA:
        _last_device = e.device_index
        if clock == NULL:
            _load_clock()
    if _with_stack:
        e.stack = _stack()
    if _memory:
        _sample(e, 0)
    if _device and e.device_type == FX_CUDA and clock != NULL:
        e.begun = clock.mark(e.device_index, &e.stream)
    e.start = fx_profile_now()
    return <int64_t> _run << RUN | (_count - 1)


cdef void _load_clock() noexcept:
    import_module("ferrox._core.cuda.timing")


cdef PyObject *_stack() noexcept:
    """Where the user's code is, innermost first."""
    import sys

    cdef list frames = []
    frame = sys._getframe()
    while frame is not None and len(frames) < 64:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            frames.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    made = tuple(frames)
    Py_INCREF(<PyObject *> made)
    return <PyObject *> made


cdef void _note_shapes(entry *e, fx_call *call) noexcept:
    """For each input its dtype (-1 for an absent one), its number of dimensions, and its sizes."""
    global _shapes, _shapes_room, _shapes_count
    cdef int64_t wanted = 0
    cdef int i, d
    cdef fx_array *a
    for i in range(call.n_out, call.n_out + call.n_in):
        wanted += 2 + (call.arrays[i].ndim if call.arrays[i] != NULL else 0)
    if _shapes_count + wanted > _shapes_room:
        room = 2 * (_shapes_count + wanted) + 1024
        grown = realloc(_shapes, <size_t> room * sizeof(int64_t))
        if grown == NULL:
            return
        _shapes = <int64_t *> grown
        _shapes_room = room
    e.shapes = _shapes_count
    for i in range(call.n_out, call.n_out + call.n_in):
        a = call.arrays[i]
        _shapes[_shapes_count] = -1 if a == NULL else a.dtype
        _shapes[_shapes_count + 1] = 0 if a == NULL else a.ndim
        _shapes_count += 2
        if a != NULL:
            for d in range(a.ndim):
                _shapes[_shapes_count + d] = a.dims[d]
            _shapes_count += a.ndim


cdef int64_t begin_call(str name, fx_call *call) noexcept:
    cdef int i, device_type = FX_CPU, device = 0
    cdef int64_t nbytes = 0
    cdef fx_array *a
    cdef entry *e
    for i in range(call.n_out + call.n_in):
        a = call.arrays[i]
        if a != NULL:
            if a.device_type == FX_CUDA and device_type == FX_CPU:
                device_type = FX_CUDA
                device = a.device_index
            if not a.flags & FX_HOST_SCALAR:
                nbytes += a.numel * fx_itemsize(a.dtype)
    if not _host and device_type == FX_CPU:
        return -1
    e = _append(name, OPERATOR, device_type, device)
    if e == NULL:
        return -1
    e.kernel = call.kernel
    e.dtype = call.dtype
    e.nbytes = nbytes
    e.n_in = min(call.n_in, 127)
    if _record_shapes and call.n_in <= 127:
        _note_shapes(e, call)
    return _begin(e)


cdef int64_t begin_transfer(str name, int kernel, int device_type, int device, int64_t nbytes) noexcept:
    cdef entry *e = _append(name, TRANSFER, device_type, device)
    if e == NULL:
        return -1
    e.kernel = kernel
    e.nbytes = nbytes
    return _begin(e)


cdef int64_t begin_range(str name, int kind, uint64_t number) noexcept:
    cdef entry *e
    if not recording:
        return -1
    e = _append(name, kind, -1, 0)
    if e == NULL:
        return -1
    e.sequence = number
    return _begin(e)


cdef void end_entry(int64_t number) noexcept:
    global fx_profile_depth
    cdef entry *e
    cdef size_t stream
    if number < 0 or number >> RUN != _run or not recording:
        return      # the profile it belongs to has ended
    e = _at(number & ((<int64_t> 1 << RUN) - 1))
    e.end = fx_profile_now()
    fx_profile_depth = e.depth
    if e.begun != NULL:
        e.ended = clock.mark(e.device_index, &stream)
    if _memory:
        _sample(e, 1)


def begin(str name, int kind=USER, number=0):
    """Begin a range; returns what `end` wants."""
    return begin_range(name, kind, number)


def end(int64_t number):
    """End a range that `begin` has begun, and what is open within it."""
    end_entry(number)


def is_recording():
    """Whether a profile is being recorded."""
    return recording


def now():
    """Nanoseconds by the clock of the entries."""
    return fx_profile_now()


def start(bint host, bint device, bint record_shapes, bint memory, bint with_stack):
    """Begin to record.  The door notices after `dispatch.look()`."""
    global recording, _run, _host, _device, _record_shapes, _memory, _with_stack, _pool
    if recording:
        raise RuntimeError("[profile] a profile is being recorded already")
    _clear()
    _run += 1
    _host, _device, _record_shapes, _memory, _with_stack = host, device, record_shapes, memory, with_stack
    _pool = storage.pool()
    recording = True


def memory_now(int device=-1):
    """(Bytes ever taken, bytes in use) of the host, or of a GPU whose clock is loaded."""
    cdef int64_t taken = 0, in_use = 0
    if device < 0:
        pool = storage.pool()
        return pool.taken, pool.in_use
    if clock != NULL:
        clock.memory(device, &taken, &in_use)
    return taken, in_use


def stop():
    """Record no more."""
    global recording
    recording = False


cdef void _clear():
    global _count, _room, _shapes_count, _shapes_room, _chunks, _shapes, _last_device
    cdef int64_t i
    cdef entry *e
    for i in range(_count):
        e = _at(i)
        Py_XDECREF(e.name)
        Py_XDECREF(e.stack)
        if clock != NULL and e.begun != NULL:
            clock.passed(e.device_index, e.begun)
        if clock != NULL and e.ended != NULL:
            clock.passed(e.device_index, e.ended)
    while _room:
        _room -= 1
        free(_chunks[_room])
    free(_chunks)
    free(_shapes)
    _chunks = NULL
    _shapes = NULL
    _count = _shapes_count = _shapes_room = 0
    _last_device = -1


cdef tuple _shapes_of(entry *e):
    cdef int64_t at = e.shapes
    cdef int d
    cdef list found = []
    for _ in range(e.n_in):
        if _shapes[at] < 0:
            found.append(None)
        else:
            found.append((tuple([_shapes[at + 2 + d] for d in range(_shapes[at + 1])]), dtype_name(<int> _shapes[at])))
        at += 2 + _shapes[at + 1]
    return tuple(found)


cdef tuple _usage(usage *u):
    return tuple([(u[i].which - 1, u[i].taken, u[i].in_use) if u[i].which else None for i in range(2)])


FIELDS = ("kind", "name", "kernel", "thread", "depth", "start", "end", "sequence", "nbytes", "dtype", "device",
          "stream", "device_start", "device_end", "shapes", "host_memory", "device_memory", "stack")
TRANSFERS = ("Memcpy HtoD", "Memcpy DtoH", "Memcpy DtoD")


def take():
    """What was recorded, as tuples of FIELDS in the order in which it began; the recorder keeps nothing of it.

    The devices' work has to be done (`cuda.timing.settle`).  Times are in nanoseconds; `device` is None for ranges, -1
    for the CPU, else a GPU's number; `device_start` is NaN where a stream's time is not known.  Memory is, at the
    beginning and at the end, (number of the device, bytes ever taken, bytes in use), or None.
    """
    cdef int64_t i, last = fx_profile_now()
    cdef entry *e
    cdef double begun, ended
    cdef list taken = []
    for i in range(_count):
        e = _at(i)
        begun = ended = NAN
        if e.begun != NULL:
            begun = clock.passed(e.device_index, e.begun)
            e.begun = NULL
        if e.ended != NULL:
            ended = clock.passed(e.device_index, e.ended)
            e.ended = NULL
        if e.end == 0:
            e.end = last            # open when the profile stopped
            e.host[1] = e.host[0]
            e.device[1] = e.device[0]
        kernel = None
        if e.kind == TRANSFER:
            kernel = TRANSFERS[e.kernel]
        elif e.kernel >= 0:
            kernel = kernel_name(e.kernel)
        taken.append((
            e.kind, <object> e.name, kernel, e.thread, e.depth, e.start, e.end, e.sequence, e.nbytes,
            dtype_name(e.dtype) if e.dtype >= 0 else None,
            None if e.device_type < 0 else -1 if e.device_type == FX_CPU else e.device_index,
            e.stream, begun, ended, _shapes_of(e) if e.shapes >= 0 else None,
            _usage(e.host) if _memory else None,
            _usage(e.device) if _memory else None,
            <object> e.stack if e.stack != NULL else ()))
    _clear()
    return taken


def _package():
    import os

    return os.path.dirname(os.path.dirname(os.path.abspath(storage.__file__))) + os.sep


_PACKAGE = _package()
