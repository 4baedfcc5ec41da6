"""Copies, casts, fills, ranges and selection.

Kernels, with their arrays (outputs first) and params:

copy       out, in                 any dtypes, strides and broadcasting of in against out
fill       out, value              value is one element of any dtype
where      out, condition, x, y    all broadcast; x and y are cast to call.dtype
arange     out                     start, step: .i where call.dtype is an integer dtype, otherwise .f
linspace   out                     start.f, end.f
The outputs of arange and linspace are contiguous or one-dimensional.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F64, FX_I64, FX_OK, \
    fx_array, fx_call, fx_is_whole, fx_itemsize
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.blocks cimport PARALLEL_MIN, move_tile, run_blocks
from ferrox._core.cpu.table cimport casts, fx_loop, selects

cdef enum:
    CHUNK = 1024


cdef int _no_cast(fx_call *call) noexcept nogil:
    snprintf(call.message, sizeof(call.message), "no cast between these dtypes")
    return FX_ERROR_TYPE


cdef int copy(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_loop cast = NULL
    cdef uint8_t[2] dtypes
    if out.dtype != x.dtype:
        cast = casts[out.dtype][x.dtype]
        if cast == NULL:
            return _no_cast(call)
    if out.flags & x.flags & FX_CONTIGUOUS and out.numel == x.numel and out.numel < PARALLEL_MIN:
        if cast == NULL:
            move_tile(out.data, 0, 1, x.data, 0, 1, 1, out.numel, fx_itemsize(out.dtype))
        else:
            cast(out.data, x.data, NULL, NULL, NULL, out.numel)
        return FX_OK
    dtypes[0] = out.dtype
    dtypes[1] = x.dtype
    return run_blocks(call.arrays, 1, cast, dtypes, NULL)


cdef int fill(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef uint64_t value
    cdef fx_array one
    cdef fx_array *arrays[2]
    cdef uint8_t[2] dtypes
    if out.numel == 0:
        return FX_OK
    if x.dtype == out.dtype:
        memcpy(&value, x.data, fx_itemsize(x.dtype))
    elif casts[out.dtype][x.dtype] == NULL:
        return _no_cast(call)
    else:
        casts[out.dtype][x.dtype](&value, x.data, NULL, NULL, NULL, 1)
    if out.flags & FX_CONTIGUOUS and out.numel < PARALLEL_MIN:
        move_tile(out.data, 0, 1, &value, 0, 0, 1, out.numel, fx_itemsize(out.dtype))
        return FX_OK
    one.data = &value
    one.dims = NULL
    one.numel = 1
    one.dtype = out.dtype
    one.ndim = 0
    one.flags = FX_CONTIGUOUS
    arrays[0] = out
    arrays[1] = &one
    dtypes[0] = dtypes[1] = out.dtype
    return run_blocks(arrays, 1, NULL, dtypes, NULL)


cdef int where(fx_call *call) noexcept nogil:
    cdef uint8_t[4] dtypes
    cdef fx_loop loop = selects[fx_itemsize(call.dtype)]
    dtypes[0] = dtypes[2] = dtypes[3] = call.dtype
    dtypes[1] = FX_BOOL
    return run_blocks(call.arrays, 3, loop, dtypes, NULL)


cdef int _from_index(fx_call *call, bint integers, bint ends) noexcept nogil:
    """out[i] = start + i * step, in int64 or double; with `ends`, from both ends inwards so that both are exact."""
    cdef fx_array *out = call.arrays[0]
    cdef double[CHUNK] f
    cdef uint64_t[CHUNK] stored
    cdef int64_t *whole = <int64_t *> f
    cdef Py_ssize_t begin, i, k, n, total = out.numel, stride = 1
    cdef int64_t start_i = call.params[0].i, step_i = call.params[1].i
    cdef double start = call.params[0].f, step = call.params[1].f, end = step
    cdef int size = fx_itemsize(out.dtype), source = FX_I64 if integers else FX_F64
    cdef fx_loop cast = casts[out.dtype][source]
    cdef void *values
    if not out.flags & FX_CONTIGUOUS:
        if out.ndim != 1:
            snprintf(call.message, sizeof(call.message), "the output must be contiguous or one-dimensional")
            return FX_ERROR_VALUE
        stride = out.dims[1]
    if cast == NULL and out.dtype != source:
        return _no_cast(call)
    if ends:
        step = (end - start) / (total - 1) if total > 1 else 0
    begin = 0
    while begin < total:
        n = min(<Py_ssize_t> CHUNK, total - begin)
        if integers:
            for i in range(n):
                whole[i] = start_i + (begin + i) * step_i
        elif ends:
            for i in range(n):
                k = begin + i
                f[i] = start + k * step if k < total // 2 or total == 1 else end - (total - 1 - k) * step
        else:
            for i in range(n):
                f[i] = start + (begin + i) * step
        values = f
        if out.dtype != source:
            cast(stored, f, NULL, NULL, NULL, n)
            values = stored
        move_tile(<char *> out.data + begin * stride * size, 0, stride, values, 0, 1, 1, n, size)
        begin += n
    return FX_OK


cdef int arange(fx_call *call) noexcept nogil:
    return _from_index(call, fx_is_whole(call.dtype), False)


cdef int linspace(fx_call *call) noexcept nogil:
    return _from_index(call, False, True)


provide(FX_CPU, "copy", copy, "elementwise in_place buffered | out any | x any | -")
provide(FX_CPU, "fill", fill, "elementwise buffered | out any | value any | -")
provide(FX_CPU, "where", where, "elementwise in_place | out T | condition any, x any, y any | -")
provide(FX_CPU, "arange", arange, "elementwise | out any | - | start n, step n")
provide(FX_CPU, "linspace", linspace, "elementwise | out any | - | start f, end f")
