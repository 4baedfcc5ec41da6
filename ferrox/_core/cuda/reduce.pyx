"""The driver of reductions on the GPU.  Arrays and params as the CPU's (cpu/reduce.pyx).

An array without gaps, in whatever order of its dimensions, is reduced where it lies; others are copied first (dense).
Neighbouring dimensions that are both kept or both reduced are merged.  Each pass then takes the innermost reduced one
away (fx/reduce_args.h): as rows where nothing lies inside it, otherwise as columns.  The first pass reads the items;
where it has few outputs of many items it leaves the states of chunks, which a further pass merges.  Passes and chunks
depend on the shape alone, and so do the bits of a result.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F32, \
    FX_HOST_SCALAR, FX_I64, FX_OK, fx_accumulation, fx_array, fx_call, fx_computed, fx_is_half, fx_is_whole, fx_suffix
from ferrox._core.door.backend cimport MAX_KERNELS, kernel_id, provide
from ferrox._core.cuda.context cimport devices
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/reduce_table.h" nogil:
    enum:
        FX_REDUCE_sum
        FX_REDUCE_nansum
        FX_REDUCE_sum_abs
        FX_REDUCE_sum_squares
        FX_REDUCE_sum_powers
        FX_REDUCE_max_abs
        FX_REDUCE_min_abs
        FX_REDUCE_count
        FX_REDUCE_argmax
        FX_REDUCE_argmin
        FX_REDUCTIONS
    enum:
        FX_FINISH_PLAIN
        FX_FINISH_ROOT
        FX_FINISH_HIDDEN
    ctypedef struct fx_reduce_kernel:
        const char *name
        int reduction, finish
    const fx_reduce_kernel *fx_reduce_kernels
    ctypedef struct fx_reduce_family:
        const char *name
        const char *source
        int integers, bytes, float_bytes
    const fx_reduce_family *fx_reduce_families

cdef extern from "fx/reduce_args.h" nogil:
    ctypedef struct fx_reduce_args:
        const void *in_ "in"
        void *out
        void *second
        int64_t outer, n, inner, chunk, chunks, count
        double p
        int32_t group, last, finish
        uint8_t out_dtype, second_dtype, root, unused

cdef enum:
    THREADS = 256
    WAVES = 32          # blocks per multiprocessor, at most: a block then takes several rounds
    ENOUGH = 256        # blocks from which on there is work for a whole device
    PLENTY = 1024       # blocks that chunks are cut for
    CHUNK = 4096        # items of a row's chunk, at least: 16 for each thread
    COLUMN_CHUNK = 32   # rows of a column's chunk that each thread takes, at least
    LONG_ROW = 1024     # rows from this length on take a block each, shorter ones a warp or part of one

cdef struct family:
    cuda_kernel *rows[FX_DTYPES]       # by the dtype of the items
    cuda_kernel *columns[FX_DTYPES]
    cuda_kernel *states[FX_DTYPES]
    int size[FX_DTYPES]                # bytes of a state

cdef family families[FX_REDUCTIONS]
cdef uint8_t[MAX_KERNELS] reduction_of, finish_of

# The dimensions in the order of memory, outermost first, alternately kept and reduced.
cdef struct layout:
    int n
    int64_t size[64]
    bint reduced[64]


cdef void _append(layout *l, int64_t size, bint reduced) noexcept nogil:
    if l.n and l.reduced[l.n - 1] == reduced:
        l.size[l.n - 1] *= size
        return
    l.size[l.n] = size
    l.reduced[l.n] = reduced
    l.n += 1


cdef bint _arrange(layout *l, fx_array *x, int64_t mask, bint ordered) noexcept nogil:
    """Fill the layout; False where memory has gaps or the kept dimensions (`ordered`: or the reduced ones) lie in
    another order than in the shape."""
    cdef int order[64]
    cdef int d, e, k = 0, last[2]
    cdef int64_t expected = 1
    l.n = 0
    for d in range(x.ndim):
        if x.dims[d] == 1:
            continue
        e = k
        while e > 0 and x.dims[x.ndim + order[e - 1]] < x.dims[x.ndim + d]:
            order[e] = order[e - 1]
            e -= 1
        order[e] = d
        k += 1
    for e in range(k - 1, -1, -1):
        if x.dims[x.ndim + order[e]] != expected:
            return False
        expected *= x.dims[order[e]]
    last[0] = last[1] = -1
    for e in range(k):
        d = order[e]
        if d < last[mask >> d & 1] and (ordered or not mask >> d & 1):
            return False
        last[mask >> d & 1] = d
        _append(l, x.dims[d], mask >> d & 1)
    return True


cdef int32_t _power(int64_t n, int32_t most) noexcept nogil:
    """The least power of two from n on, at most `most`."""
    cdef int32_t power = 1
    while power < n and power < most:
        power *= 2
    return power


cdef void _cut(fx_reduce_args *a, int64_t blocks, int64_t least, int64_t unit) noexcept nogil:
    """Cut n into chunks of at least `least`, and of a multiple of `unit`, where there are few blocks."""
    cdef int64_t chunks
    a.chunks, a.chunk = 1, a.n
    if blocks < ENOUGH and a.n >= 2 * least:
        chunks = min(a.n // least, (PLENTY + blocks - 1) // max(blocks, <int64_t> 1))
        a.chunk = ((a.n + chunks - 1) // chunks + unit - 1) // unit * unit
        a.chunks = (a.n + a.chunk - 1) // a.chunk


cdef int _pass(fx_reduce_args *a, family *f, int dtype, bint items, int device) noexcept nogil:
    cdef cuda_kernel *kernel
    cdef int64_t blocks
    cdef void *pointer = a
    cdef launch_shape shape
    if not items:
        kernel = f.states[dtype]
        blocks = a.outer * ((a.inner + a.group - 1) // a.group)
    elif a.inner == 1:
        kernel = f.rows[dtype]
        blocks = (a.outer * a.chunks + THREADS // a.group - 1) // (THREADS // a.group)
    else:
        kernel = f.columns[dtype]
        blocks = a.outer * a.chunks * ((a.inner + 4 * a.group - 1) // (4 * a.group))
    shape = flat_shape(<unsigned int> min(blocks, <int64_t> WAVES * devices[device].multiprocessors), THREADS)
    return launched(launch(kernel, device, current_stream(device), &shape, &pointer))


cdef int _passes(layout *l, fx_reduce_args *a, family *f, int dtype, int device) noexcept nogil:
    cdef int at, d, status = FX_OK
    cdef bint items = True
    cdef void *out = a.out
    cdef void *states = NULL
    cdef void *before
    cdef layout next
    while status == FX_OK:
        at = l.n - 1 if l.n and l.reduced[l.n - 1] else l.n - 2
        a.outer = a.n = a.inner = 1
        for d in range(l.n):
            if d < at:
                a.outer *= l.size[d]
            elif d == at:
                a.n = l.size[d]
            else:
                a.inner *= l.size[d]
        if at < 0:              # nothing is reduced: rows of one
            a.outer, a.inner = a.inner, 1
        a.chunk, a.chunks = a.n, 1
        if not items:
            a.group = _power(a.inner, 32)
        elif a.inner == 1:
            a.group = _power((a.n + 3) // 4, 32) if a.n < LONG_ROW else <int32_t> THREADS
            if a.group == THREADS:
                _cut(a, a.outer, CHUNK, 16)
        else:
            a.group = _power((a.inner + 3) // 4, 32)
            _cut(a, a.outer * ((a.inner + 4 * a.group - 1) // (4 * a.group)),
                 COLUMN_CHUNK * (THREADS // a.group), 1)
        next.n = 0
        for d in range(l.n):
            if d != at:
                _append(&next, l.size[d], l.reduced[d])
            elif a.chunks > 1:
                _append(&next, a.chunks, True)
        a.last = not (next.n and next.reduced[next.n - 1]) and not (next.n > 1 and next.reduced[next.n - 2])
        before = states
        states = NULL
        if a.last:
            a.out = out
        else:
            states = scratch(device, <size_t> (a.outer * a.chunks * a.inner * f.size[dtype]))
            a.out = states
            if states == NULL:
                status = FX_ERROR_MEMORY
        if status == FX_OK:
            status = _pass(a, f, dtype, items, device)
        if before != NULL:
            scratch_free(device, before)
        if a.last:
            break
        a.in_ = states
        l[0] = next
        items = False
    if states != NULL:
        scratch_free(device, states)
    return status


cdef inline int _kind(fx_call *call, double *p, int *finish) noexcept nogil:
    """The reduction of a call, its parameter and finish."""
    cdef int kind = reduction_of[call.kernel]
    p[0] = call.params[1].f if call.n_params > 1 else 1
    finish[0] = finish_of[call.kernel]
    if kind == FX_REDUCE_nansum and fx_is_whole(call.dtype):
        kind = FX_REDUCE_sum            # an integer is never NaN
    if kind != FX_REDUCE_sum_powers:
        return kind
    if p[0] == 2:
        finish[0] = FX_FINISH_ROOT
        return FX_REDUCE_sum_squares
    if p[0] != 0 and p[0] != 1 and p[0] != INFINITY and p[0] != -INFINITY:
        return kind
    finish[0] = FX_FINISH_PLAIN
    return FX_REDUCE_count if p[0] == 0 else FX_REDUCE_sum_abs if p[0] == 1 else (
        FX_REDUCE_max_abs if p[0] == INFINITY else FX_REDUCE_min_abs)


cdef int _arithmetic(fx_call *call, int kind) noexcept nogil:
    """The dtype of storage that the items have to be in."""
    cdef int dtype = call.dtype, stored = call.arrays[call.n_out].dtype
    if kind == FX_REDUCE_count or (fx_is_whole(dtype) and fx_is_whole(stored)):
        return stored       # states of integers are int64: nothing has to be cast
    if fx_computed(dtype) == FX_F32:
        return stored if fx_is_half(stored) else <int> FX_F32
    return dtype


cdef inline bint _ordered(int kind) noexcept nogil:
    return kind == FX_REDUCE_argmax or kind == FX_REDUCE_argmin


cdef int _reduce(fx_call *call) noexcept nogil:
    """x on the device and of the wanted dtype."""
    cdef fx_reduce_args a
    cdef layout l
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *second = call.arrays[1] if call.n_out > 1 else NULL
    cdef fx_array *x = call.arrays[call.n_out]
    cdef double p
    cdef int finish, kind = _kind(call, &p, &finish)
    a.in_ = x.data
    a.out = out.data
    a.second = second.data if second != NULL else NULL
    a.count = x.numel // out.numel
    a.p = p
    a.finish = finish
    a.out_dtype = out.dtype
    a.second_dtype = second.dtype if second != NULL else <int> FX_I64
    a.root = call.n_params > 2 and call.params[2].i != 0
    a.unused = 0
    if x.numel == 0:
        l.n = 2
        l.size[0], l.size[1] = out.numel, 0
        l.reduced[0], l.reduced[1] = False, True
    else:
        _arrange(&l, x, call.params[0].i, _ordered(kind))
    return _passes(&l, &a, &families[kind], x.dtype, out.device_index)


cdef inline bint _is_beside(fx_array *x, fx_array *out) noexcept nogil:
    return x.device_type == FX_CUDA and x.device_index == out.device_index and not x.flags & FX_HOST_SCALAR


cdef int reduce_(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[call.n_out]
    cdef layout l
    cdef double p
    cdef int finish, kind = _kind(call, &p, &finish), stored = _arithmetic(call, kind)
    if families[kind].rows[stored] == NULL:
        snprintf(call.message, sizeof(call.message), "not defined for this dtype")
        return FX_ERROR_TYPE
    if out.numel == 0:
        return FX_OK
    if not x.flags & FX_CONTIGUOUS and _is_beside(x, out) and x.dtype == stored and out.flags & FX_CONTIGUOUS \
            and (call.n_out == 1 or call.arrays[1] == NULL or call.arrays[1].flags & FX_CONTIGUOUS) \
            and _arrange(&l, x, call.params[0].i, _ordered(kind)):
        return _reduce(call)    # dense in another order of its dimensions
    call.dtype = stored
    return dense(call, _reduce, 0, <unsigned long long> 1 << call.n_out if x.dtype != stored else 0)


cdef int _enter(int kind) except -1:
    """The kernels of one line of fx/reductions.h."""
    cdef const fx_reduce_family *line = &fx_reduce_families[kind]
    cdef family *f = &families[kind]
    cdef int dtype
    cdef str source = "reduce_" + line.source.decode(), name = line.name.decode()
    for dtype in range(FX_DTYPES):
        if fx_is_whole(dtype) and not line.integers:
            continue
        suffix, computed = fx_suffix(dtype).decode(), fx_suffix(fx_accumulation(dtype)).decode()
        f.rows[dtype] = find_kernel(source, f"{name}_{suffix}_rows")
        f.columns[dtype] = find_kernel(source, f"{name}_{suffix}_columns")
        f.states[dtype] = find_kernel(source, f"{name}_{computed}_states")
        f.size[dtype] = line.float_bytes if fx_accumulation(dtype) == FX_F32 else line.bytes
    return 0


cdef int _provide() except -1:
    cdef const fx_reduce_kernel *line = fx_reduce_kernels
    cdef int kind
    for kind in range(FX_REDUCTIONS):
        _enter(kind)
    while line.name != NULL:
        if line.finish != FX_FINISH_HIDDEN:
            name = line.name.decode()
            reduction_of[kernel_id(name)] = line.reduction
            finish_of[kernel_id(name)] = line.finish
            provide(FX_CUDA, name, reduce_)
        line += 1
    return 0


_provide()
