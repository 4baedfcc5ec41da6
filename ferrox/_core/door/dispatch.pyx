"""The door.

Every computation, on either backend, is one call of `dispatch`: an operator's name for messages, and an fx_call.  What
wants to see all work stands here: watchers in Python (anomaly detection) and the profiler's recorder; with none, it
costs one branch.
"""
from cpython.unicode cimport PyUnicode_AsUTF8

from ferrox._core.abi cimport FX_AUTO, FX_CPU, FX_OK, fx_array, fx_call, fx_kernel, fx_scalar
from ferrox._core.door.backend cimport backends, implementation, kernel_name, place_call
from ferrox._core.errors cimport raise_status
from ferrox._core.door.profile cimport begin_call, end_entry, recording

cdef enum:
    # Below this many elements in all, giving up the GIL costs more than it can win.
    RELEASE_GIL = 1 << 15

cdef list _watchers = []
cdef bint _watched = False
cdef dict _labels = {}       # name: the same; never emptied, as labels are the text in its names


def watch(callback):
    """Call `callback(name, kernel, outputs, inputs, seconds)` after every computation, until `unwatch(callback)`.

    Outputs and inputs are tuples of (address, dtype number, shape, strides, flags, device type, device number), None
    for an absent operand.
    """
    global _watched
    _watchers.append(callback)
    _watched = True
    return callback


def unwatch(callback):
    """Take a watcher away again."""
    global _watched
    _watchers.remove(callback)
    look()


def look():
    """See anew whether anything watches: after the profiler's recorder has been started or stopped."""
    global _watched
    _watched = bool(_watchers) or recording


cdef int dispatch(str name, fx_call *call) except -1:
    """Run one kernel; a status other than FX_OK becomes an exception that begins with `[name]`."""
    cdef fx_array **arrays = call.arrays
    cdef int i, device_type = FX_CPU, status
    cdef long long work = 0
    for i in range(call.n_out + call.n_in):
        if arrays[i] != NULL:
            device_type |= arrays[i].device_type
            work += arrays[i].numel
    cdef fx_kernel kernel = implementation[device_type][call.kernel]
    if kernel == NULL:
        if device_type & FX_AUTO:
            return place_call(name, call)
        raise NotImplementedError(f"[{name}] the kernel {kernel_name(call.kernel)!r} does not exist on this device")
    if _watched:
        _watched_dispatch(name, call, kernel)
    else:
        if work < RELEASE_GIL:
            status = kernel(call)
        else:
            with nogil:
                status = kernel(call)
        if status != FX_OK:
            raise_status(status, name, call.message)
    if work >= RELEASE_GIL and backends[device_type].label != NULL:
        _label_outputs(name, call)
    return 0


cdef int _label_outputs(str name, fx_call *call) except -1:
    """Note on large outputs who made them, for the report when memory runs out."""
    cdef const char *text = PyUnicode_AsUTF8(_labels.setdefault(name, name))
    cdef fx_array *array
    cdef int i
    for i in range(call.n_out):
        array = call.arrays[i]
        if array != NULL and array.device_type != FX_CPU:
            backends[array.device_type].label(array.data, array.device_index, text)
    return 0


cdef int launch(str name, int kernel, int dtype, fx_array **arrays, int n_out, int n_in,
                const fx_scalar *params, int n_params) except -1:
    """`dispatch` of a call made up from its parts."""
    cdef fx_call call
    call.arrays = arrays
    call.n_out = n_out
    call.n_in = n_in
    call.kernel = kernel
    call.dtype = dtype
    call.params = params
    call.n_params = n_params
    call.message[0] = 0
    return dispatch(name, &call)


cdef tuple _described(fx_array **arrays, int n):
    cdef list result = []
    cdef int i, d
    for i in range(n):
        if arrays[i] == NULL:
            result.append(None)
            continue
        shape = tuple([arrays[i].dims[d] for d in range(arrays[i].ndim)])
        strides = tuple([arrays[i].dims[arrays[i].ndim + d] for d in range(arrays[i].ndim)])
        result.append((<size_t> arrays[i].data, arrays[i].dtype, shape, strides, arrays[i].flags,
                       arrays[i].device_type, arrays[i].device_index))
    return tuple(result)


cdef int _run(fx_call *call, fx_kernel kernel) noexcept:
    """The kernel alone, as `dispatch` runs it."""
    cdef long long work = 0
    cdef int i, status
    for i in range(call.n_out + call.n_in):
        if call.arrays[i] != NULL:
            work += call.arrays[i].numel
    if work < RELEASE_GIL:
        return kernel(call)
    with nogil:
        status = kernel(call)
    return status


cdef int _watched_dispatch(str name, fx_call *call, fx_kernel kernel) except -1:
    cdef long long entry
    cdef int status
    if _watchers:
        return _told_dispatch(name, call, kernel)
    entry = begin_call(name, call) if recording else -1
    status = _run(call, kernel)
    end_entry(entry)
    if status != FX_OK:
        raise_status(status, name, call.message)
    return 0


cdef int _told_dispatch(str name, fx_call *call, fx_kernel kernel) except -1:
    global _watched
    from time import perf_counter

    inputs = _described(call.arrays + call.n_out, call.n_in)
    cdef long long entry = begin_call(name, call) if recording else -1
    start = perf_counter()
    cdef int status
    with nogil:
        status = kernel(call)
    seconds = perf_counter() - start
    end_entry(entry)
    if status != FX_OK:
        raise_status(status, name, call.message)
    outputs = _described(call.arrays, call.n_out)
    _watched = False  # a watcher may compute
    try:
        for callback in tuple(_watchers):
            callback(name, kernel_name(call.kernel), outputs, inputs, seconds)
    finally:
        look()
    return 0
