"""The door.

Every computation, on either backend, is one call of `dispatch`: an operator's name for messages, and an fx_call.  What
wants to see all work stands here: watchers in Python (anomaly detection) and the profiler's recorder; with none, it
costs one branch.

Note [Guarded outputs].  An output that was not made for the call is somebody's memory, and everything about writing
there is judged here, by what the array says of its memory and the kernel of itself (signature.pyx): memory that is
read-only, a window whose elements share memory, and one that shares memory with another operand are refused.  An output
may be an input, exactly, where the kernel reads an element before it writes there (`in_place`); where a kernel moves
values to other places (`buffered`: copies, assignments by index), what it would overwrite before it has read it is
copied first.  When the kernel has run, the memory's version counter moves on.
"""
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from ferrox._core.abi cimport FX_AUTO, FX_CONTIGUOUS, FX_CPU, FX_MAX_DIMS, FX_OK, fx_array, fx_call, fx_itemsize, \
    fx_kernel
from ferrox._core.door.backend cimport backends, implementation, kernel_id, kernel_name, place_call, signatures
from ferrox._core.door.ending cimport run_released
from ferrox._core.errors cimport raise_status
from ferrox._core.door.profile cimport begin_call, end_entry, recording
from ferrox._core.door.signature cimport READ, fits, operand_list, refuse_call, role_of, signature
from ferrox._core.memory.storage cimport storage_new, storage_release

cdef extern from "fx/overlap.h" nogil:
    bint fx_overlap(const fx_array *a, const fx_array *b)
    bint fx_same_window(const fx_array *a, const fx_array *b)
    bint fx_overlaps_itself(const fx_array *a)

cdef enum:
    # Below this many elements in all, giving up the GIL costs more than it can win.
    RELEASE_GIL = 1 << 15

cdef int _copy = kernel_id("copy")
cdef list _watchers = []
cdef bint _watched = False
cdef object _tell_change = None
cdef dict _labels = {}       # name: the same; never emptied, as labels and storages keep its names without a reference


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
    cdef const signature *declared = signatures[call.kernel]
    cdef int i, device_type = FX_CPU, status
    cdef long long work = 0
    cdef uint64_t clashing
    cdef bint guarded
    for i in range(call.n_out + call.n_in):
        if arrays[i] != NULL:
            device_type |= arrays[i].device_type
            work += arrays[i].numel
    if declared != NULL and not declared.free and not fits(declared, call):
        refuse_call(name, declared, call)
    guarded = call.n_out > 63 or call.fresh != (<uint64_t> 1 << call.n_out) - 1
    if guarded:
        clashing = _clashing(name, declared, call)
        if clashing:
            return _dispatch_buffered(name, call, clashing)
    cdef fx_kernel kernel = implementation[device_type][call.kernel]
    if kernel == NULL:
        _elsewhere(name, call, device_type)
    elif _watched:
        _watched_dispatch(name, call, kernel)
    else:
        if work < RELEASE_GIL:
            status = kernel(call)
        else:
            status = run_released(kernel, call)
        if status != FX_OK:
            raise_status(status, name, call.message)
    if guarded:
        _count_changes(name, declared, call)
    if work >= RELEASE_GIL and backends[device_type].label != NULL:
        _label_outputs(name, call)
    return 0


cdef int _elsewhere(str name, fx_call *call, int device_type) except -1:
    """A call that no backend's kernel takes: the manager's, or an error."""
    if device_type & FX_AUTO:
        return place_call(name, call)
    raise NotImplementedError(f"[{name}] the kernel {kernel_name(call.kernel)!r} does not exist on this device")


cdef inline bint _is_fresh(fx_call *call, int k) noexcept:
    return k < 64 and call.fresh >> k & 1


cdef int check_memory(str name, const fx_array *target) except -1:
    """Refuse to write where an array lies in read-only memory, or where its elements share memory."""
    if target.storage != NULL and target.storage.read_only:
        raise RuntimeError(f"[{name}] the tensor shares memory that is read-only; clone() it before changing it")
    if not target.flags & FX_CONTIGUOUS and fx_overlaps_itself(target):
        raise RuntimeError(f"[{name}] unsupported operation: more than one element of the written-to tensor refers to "
                           "a single memory location. Please clone() the tensor before performing the operation.")
    return 0


cdef inline bint _clash(const signature *declared, const fx_array *out, const fx_array *x) noexcept:
    """Whether writing to `out` may change what is still to be read of `x`."""
    if declared != NULL and declared.in_place and fx_same_window(out, x):
        return False
    return fx_overlap(out, x)


cdef int _check_groups(str name, const operand_list *outs, fx_call *call) except -1:
    """Judge the outputs of a kernel that takes a group for each of many tensors; every group by itself."""
    cdef fx_array **group
    cdef int first = outs.group_at, a, b
    while first + outs.group <= call.n_out - (outs.n - outs.group_at - outs.group):
        group = call.arrays + first
        for a in range(outs.group):
            if group[a] == NULL or outs.rules[outs.group_at + a].role == READ:
                continue
            check_memory(name, group[a])
            for b in range(outs.group):
                if b != a and group[b] != NULL and (b > a or outs.rules[outs.group_at + b].role == READ) \
                        and fx_overlap(group[a], group[b]):
                    _refuse_overlap(name)
        first += outs.group
    for a in range(first, call.n_out):      # what stands after the groups
        if call.arrays[a] != NULL:
            check_memory(name, call.arrays[a])
    return 0


cdef uint64_t _clashing(str name, const signature *declared, fx_call *call) except? 0xffffffffffffffff:
    """Judge what a call writes, by Note [Guarded outputs]; a bit for each input that has to be copied first."""
    cdef fx_array *out
    cdef fx_array *x
    cdef int k, j
    cdef uint64_t clashing = 0
    if declared != NULL and declared.outs.group:
        _check_groups(name, &declared.outs, call)
        return 0
    for k in range(call.n_out):
        out = call.arrays[k]
        if out == NULL or _is_fresh(call, k) or role_of(declared, call, k) == READ:
            continue
        check_memory(name, out)
        for j in range(call.n_out + call.n_in):
            x = call.arrays[j]
            if x == NULL or j == k or (j < call.n_out and _is_fresh(call, j)):
                continue
            if j < call.n_out and role_of(declared, call, j) != READ:
                if j > k and fx_overlap(out, x):
                    _refuse_overlap(name)
            elif _clash(declared, out, x):
                if declared == NULL or not declared.buffered or j < call.n_out or j - call.n_out > 62:
                    _refuse_overlap(name)
                clashing |= <uint64_t> 1 << (j - call.n_out)
    return clashing


cdef int check_outputs(str name, fx_call *call) except -1:
    """Judge what a call would write; it is not made."""
    _clashing(name, signatures[call.kernel], call)
    return 0


cdef int _refuse_overlap(str name) except -1:
    raise RuntimeError(f"[{name}] unsupported operation: some elements of the input tensor and the written-to tensor "
                       "refer to a single memory location. Please clone() the tensor before performing the operation.")


cdef int _count_changes(str name, const signature *declared, fx_call *call) except -1:
    cdef int k
    for k in range(call.n_out):
        if call.arrays[k] != NULL and not _is_fresh(call, k) and role_of(declared, call, k) != READ:
            count_change(name, call.arrays[k])
    return 0


cdef int count_change(str name, fx_array *target) except -1:
    """Note that `name` has changed the memory of an array."""
    if target.storage == NULL:
        return 0
    target.storage.version += 1
    if target.storage.changed_by != <void *> name:
        target.storage.changed_by = <void *> _lasting(name)
    if _tell_change is not None:
        _tell_change(<size_t> target.storage)
    return 0


cdef PyObject *_lasting(str name) except NULL:
    """A name that may be kept without a reference."""
    kept = _labels.setdefault(name, name)
    return <PyObject *> kept


def tell_changes(function):
    """Have `function(storage's address)` called at each change in place, None to end it; returns what was before."""
    global _tell_change
    before, _tell_change = _tell_change, function
    return before


cdef int _dispatch_buffered(str name, fx_call *call, uint64_t clashing) except -1:
    """A call whose inputs in the mask lie in memory that it writes: they are copied first."""
    cdef int n = call.n_out + call.n_in, i, k
    cdef fx_array **arrays = <fx_array **> calloc(<size_t> n, sizeof(void *))
    cdef fx_array *copies = <fx_array *> calloc(<size_t> call.n_in, sizeof(fx_array))
    cdef int64_t *dims = <int64_t *> calloc(<size_t> call.n_in, 2 * FX_MAX_DIMS * sizeof(int64_t))
    cdef fx_call again = call[0]
    cdef fx_array *x
    try:
        if arrays == NULL or copies == NULL or dims == NULL:
            raise MemoryError()
        again.arrays = arrays
        for i in range(n):
            k = i - call.n_out
            arrays[i] = x = call.arrays[i]
            if k >= 0 and k < 64 and clashing >> k & 1:
                arrays[i] = &copies[k]
                _copy_of(x, &copies[k], dims + k * 2 * FX_MAX_DIMS)
        return dispatch(name, &again)
    finally:
        if copies != NULL:
            for k in range(call.n_in):
                if copies[k].storage != NULL:
                    storage_release(copies[k].storage)
        free(arrays)
        free(copies)
        free(dims)


cdef int _copy_of(fx_array *x, fx_array *made, int64_t *dims) except -1:
    """A contiguous copy of `x` in fresh memory, which the caller releases."""
    cdef fx_array *arrays[2]
    cdef fx_call call
    cdef int64_t step = 1
    cdef int d
    made[0] = x[0]
    made.storage = NULL
    made.dims = dims
    made.flags = FX_CONTIGUOUS
    for d in range(x.ndim - 1, -1, -1):
        dims[d] = x.dims[d]
        dims[x.ndim + d] = step
        step *= x.dims[d]
    made.storage = storage_new(<size_t> (x.numel * fx_itemsize(x.dtype)), x.device_type, x.device_index)
    made.data = made.storage.data
    arrays[0] = made
    arrays[1] = x
    call.arrays = arrays
    call.n_out = call.n_in = 1
    call.kernel, call.dtype = _copy, x.dtype
    call.params = NULL
    call.n_params = 0
    call.fresh = 1
    call.message[0] = 0
    return dispatch("copy", &call)


cdef int _label_outputs(str name, fx_call *call) except -1:
    """Note on large outputs who made them, for the report when memory runs out."""
    cdef const char *text = PyUnicode_AsUTF8(<object> _lasting(name))
    cdef fx_array *array
    cdef int i
    for i in range(call.n_out):
        array = call.arrays[i]
        if array != NULL and array.device_type != FX_CPU:
            backends[array.device_type].label(array.data, array.device_index, text)
    return 0


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
    cdef int i
    for i in range(call.n_out + call.n_in):
        if call.arrays[i] != NULL:
            work += call.arrays[i].numel
    if work < RELEASE_GIL:
        return kernel(call)
    return run_released(kernel, call)


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
    status = run_released(kernel, call)
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
