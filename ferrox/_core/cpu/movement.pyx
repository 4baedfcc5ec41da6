"""Kernels that move data.

Arrays (outputs | inputs; parameters):

- cat: out | n inputs of out's dtype; dim.  Empty inputs are skipped, whatever their shape.
- tril, triu: out | x; k (the diagonal)
- strided_add: out in place (any strides, its elements may overlap) | x of out's shape; out += x, in row-major order.
  The gradient of as_strided, unfold and expand.  float16 and bfloat16 accumulate in float32.
"""
from cython.parallel cimport prange
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ferrox._core.abi cimport (FX_BOOL, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F32, FX_F64, FX_I8, FX_I16, FX_I32,
                               FX_I64, FX_OK, FX_U8, fx_array, fx_call, fx_dtype_name, fx_is_floating, fx_is_half,
                               fx_is_whole, fx_itemsize)
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_axis, box_collapse, box_next, box_numel, box_over, box_part,
                                       box_reset, copy_bytes, float_to_half, fx_box, half_to_float, scratch,
                                       scratch_free, stride_of, threads_for)

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused number:
    uint8_t
    int16_t
    int32_t
    int64_t
    float
    double


# --- cat, tril, triu

cdef void _copy_row(word zero, char *to, const char *source, int64_t ts, int64_t ss, int64_t n) noexcept nogil:
    cdef int64_t j
    for j in range(n):
        (<word *> (to + j * ts))[0] = (<const word *> (source + j * ss))[0]


cdef void _copy_share(const fx_box *whole, int size, int axis, int t, int n) noexcept nogil:
    """Operand 1 to operand 0."""
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t ts, ss, length, i, rows
    cdef int last, outer
    cdef char *to
    cdef const char *source
    if not box_part(whole, &b, axis, t, n):
        return
    box_reset(&b, counter)
    last = b.ndim - 1
    outer = b.ndim - 2
    ts = b.strides[0][last]
    ss = b.strides[1][last]
    length = b.dims[last]
    rows = b.dims[outer]
    while True:
        for i in range(rows):
            to = b.data[0] + i * b.strides[0][outer]
            source = b.data[1] + i * b.strides[1][outer]
            if ts == size and ss == size:
                copy_bytes(to, source, length * size)
            elif size == 1:
                _copy_row[uint8_t](0, to, source, ts, ss, length)
            elif size == 2:
                _copy_row[uint16_t](0, to, source, ts, ss, length)
            elif size == 4:
                _copy_row[uint32_t](0, to, source, ts, ss, length)
            else:
                _copy_row[uint64_t](0, to, source, ts, ss, length)
        if not box_next(&b, counter, 2):
            return


cdef int cat(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef fx_box b
    cdef int dim = <int> call.params[0].i, i, t, n, axis, size = fx_itemsize(out.dtype)
    cdef int64_t offset = 0, step = stride_of(out, dim) * size
    for i in range(1, 1 + call.n_in):
        x = call.arrays[i]
        if x.numel == 0:
            continue
        box_over(&b, x)
        box_add(&b, out)
        box_add(&b, x)
        b.data[0] += offset
        offset += x.dims[dim] * step
        box_collapse(&b, 2)
        n = threads_for(x.numel)
        axis = box_axis(&b, -1)
        if n == 1 or axis < 0:
            _copy_share(&b, size, -1, 0, 1)
        else:
            for t in prange(n, num_threads=n, schedule="static", chunksize=1):
                _copy_share(&b, size, axis, t, n)
    return FX_OK


cdef void _triangle(fx_call *call, bint upper) noexcept nogil:
    """Copies row by row what is kept, and clears the rest."""
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef int64_t k = call.params[0].i, size = fx_itemsize(out.dtype), rows, columns, i, bound, first, last, xs
    cdef fx_box b
    cdef int64_t counter[64]
    cdef char *to = <char *> out.data
    cdef const char *source
    if out.numel == 0:
        return
    box_over(&b, x)
    box_add(&b, x)
    box_reset(&b, counter)
    rows = b.dims[b.ndim - 2]
    columns = b.dims[b.ndim - 1]
    xs = b.strides[0][b.ndim - 1]
    # Far diagonals are as good as the corner ones, and i + k cannot overflow.
    k = -rows if k < -rows else columns if k > columns else k
    while True:
        for i in range(rows):
            source = b.data[0] + i * b.strides[0][b.ndim - 2]
            bound = i + k if upper else i + k + 1
            bound = 0 if bound < 0 else columns if bound > columns else bound
            first = bound if upper else 0
            last = columns if upper else bound
            memset(to, 0, first * size)
            memset(to + last * size, 0, (columns - last) * size)
            if xs == size:
                memcpy(to + first * size, source + first * size, (last - first) * size)
            elif size == 1:
                _copy_row[uint8_t](0, to + first, source + first * xs, 1, xs, last - first)
            elif size == 2:
                _copy_row[uint16_t](0, to + first * 2, source + first * xs, 2, xs, last - first)
            elif size == 4:
                _copy_row[uint32_t](0, to + first * 4, source + first * xs, 4, xs, last - first)
            else:
                _copy_row[uint64_t](0, to + first * 8, source + first * xs, 8, xs, last - first)
            to += columns * size
        if not box_next(&b, counter, 2):
            return


cdef int tril(fx_call *call) noexcept nogil:
    _triangle(call, False)
    return FX_OK


cdef int triu(fx_call *call) noexcept nogil:
    _triangle(call, True)
    return FX_OK


# --- strided_add

cdef void _add_row(number zero, char *to, const char *source, int64_t ts, int64_t ss, int64_t n) noexcept nogil:
    cdef int64_t j
    cdef int64_t size = sizeof(number)
    cdef number sum
    if ts == size and ss == size:
        for j in range(n):
            (<number *> to)[j] += (<const number *> source)[j]
    elif ts == 0:
        sum = (<number *> to)[0]
        for j in range(n):
            sum += (<const number *> (source + j * ss))[0]
        (<number *> to)[0] = sum
    else:
        for j in range(n):
            (<number *> (to + j * ts))[0] += (<const number *> (source + j * ss))[0]


cdef void _or_row(char *to, const char *source, int64_t ts, int64_t ss, int64_t n) noexcept nogil:
    cdef int64_t j
    for j in range(n):
        to[j * ts] |= source[j * ss]


cdef void _add_half_row(float *to, const char *source, int64_t ts, int64_t ss, int64_t n, int dtype) noexcept nogil:
    cdef int64_t j
    for j in range(n):
        to[j * ts] += half_to_float((<const uint16_t *> (source + j * ss))[0], dtype)


cdef void _add_share(const fx_box *whole, int dtype, const char *origin, float *wide, int axis, int t,
                     int n) noexcept nogil:
    """`wide`, for the half types: the accumulators of the elements from `origin` on."""
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t ts, ss, length
    cdef int last
    cdef char *to
    cdef const char *source
    if not box_part(whole, &b, axis, t, n):
        return
    box_reset(&b, counter)
    last = b.ndim - 1
    ts = b.strides[0][last]
    ss = b.strides[1][last]
    length = b.dims[last]
    while True:
        to = b.data[0]
        source = b.data[1]
        if wide != NULL:
            _add_half_row(wide + (to - origin) // 2, source, ts // 2, ss, length, dtype)
        elif dtype == FX_F32:
            _add_row[float](0, to, source, ts, ss, length)
        elif dtype == FX_F64:
            _add_row[double](0, to, source, ts, ss, length)
        elif dtype == FX_I64:
            _add_row[int64_t](0, to, source, ts, ss, length)
        elif dtype == FX_I32:
            _add_row[int32_t](0, to, source, ts, ss, length)
        elif dtype == FX_I16:
            _add_row[int16_t](0, to, source, ts, ss, length)
        elif dtype == FX_BOOL:
            _or_row(to, source, ts, ss, length)
        elif dtype == FX_U8 or dtype == FX_I8:
            _add_row[uint8_t](0, to, source, ts, ss, length)
        if not box_next(&b, counter, 1):
            return


cdef int _separate_axis(const fx_box *b, int64_t size) noexcept nogil:
    """The longest dim whose step is beyond the reach of all other dims, so that its parts share no element."""
    cdef int d, e, best = -1
    cdef int64_t reach, step
    for d in range(b.ndim):
        reach = size
        for e in range(b.ndim):
            if e != d:
                step = b.strides[0][e]
                reach += (b.dims[e] - 1) * (step if step > 0 else -step)
        step = b.strides[0][d]
        if (step if step > 0 else -step) >= reach and (best < 0 or b.dims[d] > b.dims[best]):
            best = d
    return best


cdef int strided_add(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_box b
    cdef int axis, t, n, d, dtype = out.dtype, size = fx_itemsize(out.dtype)
    cdef int64_t low = 0, high = size, step, i, span = 0
    cdef char *origin = NULL
    cdef float *wide = NULL
    cdef float before
    cdef uint32_t was, now
    if not fx_is_whole(dtype) and not fx_is_floating(dtype):
        snprintf(call.message, sizeof(call.message), "not defined for %s", fx_dtype_name(dtype))
        return FX_ERROR_TYPE
    if out.numel == 0:
        return FX_OK
    box_over(&b, out)
    box_add(&b, out)
    box_add(&b, call.arrays[1])
    if fx_is_half(dtype):
        for d in range(b.ndim):
            step = (b.dims[d] - 1) * b.strides[0][d]
            if step < 0:
                low += step
            else:
                high += step
        origin = b.data[0] + low
        span = (high - low) // 2
        wide = <float *> scratch(span * 4)
        if wide == NULL:
            return FX_ERROR_MEMORY
        for i in range(span):
            wide[i] = half_to_float((<uint16_t *> origin)[i], dtype)
    box_collapse(&b, 1)
    n = threads_for(box_numel(&b))
    axis = _separate_axis(&b, size) if n > 1 else -1
    if axis < 0 or b.dims[axis] < n:
        _add_share(&b, dtype, origin, wide, -1, 0, 1)
    else:
        for t in prange(n, num_threads=n, schedule="static", chunksize=1):
            _add_share(&b, dtype, origin, wide, axis, t, n)
    if wide != NULL:
        for i in range(span):  # only what changed: elements between those of the view stay untouched
            before = half_to_float((<uint16_t *> origin)[i], dtype)
            memcpy(&was, &before, 4)
            memcpy(&now, wide + i, 4)
            if was != now:
                (<uint16_t *> origin)[i] = float_to_half(wide[i], dtype)
        scratch_free(wide, span * 4)
    return FX_OK


provide(FX_CPU, "cat", cat, "elementwise | out T | {x T} | dim i")
provide(FX_CPU, "tril", tril, "elementwise | out T | x T | k i")
provide(FX_CPU, "triu", triu, "elementwise | out T | x T | k i")
provide(FX_CPU, "strided_add", strided_add, "elementwise | out T! | x T | -")
