"""Kernels whose result follows the values: masks, counts, histograms, runs.

Arrays (outputs | inputs; parameters).  "mask" is bool; where a kernel takes x of any dtype, non-zero is true.

- count_true: count (int64, 0-d) | x of any dtype
- masked_select: out (1-D, of the count's length) | x, mask (the same shape, by strides)
- masked_scatter: x in place | mask, src (taken in order)
- nonzero: out (count, ndim) | x of any dtype
- one_hot: out (int64, index shape + classes, contiguous) | index
- bincount: out (1-D) | x (int64, 1-D), weights of out's dtype or absent.  Out is int64 without weights.
- histc: out (1-D) | x (float32 or float64); min, max (floats).  Equal bins, the last one closed; others are ignored.
- unique_count: count (int64, 0-d) | sorted values (1-D)
- unique: values (count), inverse (n) or absent, counts (count) or absent | sorted values (1-D), indices from sort, or
  absent for unique_consecutive
"""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ferrox._core.abi cimport (FX_BOOL, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F32, FX_F64, FX_I8,
                               FX_I16, FX_I32, FX_I64, FX_OK, FX_U8, fx_array, fx_call, fx_dtype_name, fx_is_floating,
                               fx_is_half, fx_itemsize, fx_sign_bit)
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_collapse, box_next, box_over, box_reset, fx_box, half_to_float,
                                       pack, scratch, scratch_free)
from ferrox._core.cpu.index_walk cimport check_index

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused weight:
    int64_t
    float
    double


# --- masks

cdef int64_t _count_row(word zero, const char *x, int64_t stride, int64_t n, word kept) noexcept nogil:
    cdef int64_t i, count = 0
    if stride == sizeof(word):
        for i in range(n):
            count += (<const word *> x)[i] & kept != 0
    else:
        for i in range(n):
            count += (<const word *> (x + i * stride))[0] & kept != 0
    return count


cdef inline uint64_t _kept_bits(int dtype) noexcept nogil:
    """All bits, but for floats not the sign: -0 is zero."""
    return ~fx_sign_bit(dtype) if fx_is_floating(dtype) else ~<uint64_t> 0


cdef int64_t _count_true(const fx_array *x) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t count = 0, n, stride
    cdef uint64_t kept = _kept_bits(x.dtype)
    cdef int size = fx_itemsize(x.dtype)
    if x.numel == 0:
        return 0
    box_over(&b, x)
    box_add(&b, x)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    n = b.dims[b.ndim - 1]
    stride = b.strides[0][b.ndim - 1]
    while True:
        if size == 1:
            count += _count_row[uint8_t](0, b.data[0], stride, n, <uint8_t> kept)
        elif size == 2:
            count += _count_row[uint16_t](0, b.data[0], stride, n, <uint16_t> kept)
        elif size == 4:
            count += _count_row[uint32_t](0, b.data[0], stride, n, <uint32_t> kept)
        else:
            count += _count_row[uint64_t](0, b.data[0], stride, n, kept)
        if not box_next(&b, counter, 1):
            return count


cdef int count_true(fx_call *call) noexcept nogil:
    (<int64_t *> call.arrays[0].data)[0] = _count_true(call.arrays[1])
    return FX_OK


cdef int64_t _compress(word zero, const fx_box *b, char *line, int64_t at, int64_t total, bint spread) noexcept nogil:
    """Moves the elements under the mask to line[at:], or (spread) from there; returns the new `at`."""
    cdef int64_t i = 0, n = b.dims[b.ndim - 1]
    cdef int64_t xs = b.strides[0][b.ndim - 1], ms = b.strides[1][b.ndim - 1]
    cdef char *x = b.data[0]
    cdef const uint8_t *mask = <const uint8_t *> b.data[1]
    cdef word *o = <word *> line
    cdef uint64_t eight
    while i < n and at < total:
        if ms == 1 and i + 8 <= n:
            memcpy(&eight, mask + i, 8)
            if eight == 0:
                i += 8
                continue
        if spread:
            if mask[i * ms]:
                (<word *> (x + i * xs))[0] = o[at]
                at += 1
        else:
            o[at] = (<const word *> (x + i * xs))[0]
            at += mask[i * ms] != 0
        i += 1
    return at


cdef void _masked(const fx_array *x, const fx_array *mask, void *line, int64_t total, bint spread) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t at = 0
    cdef int size = fx_itemsize(x.dtype)
    if x.numel == 0 or total == 0:
        return
    box_over(&b, x)
    box_add(&b, x)
    box_add(&b, mask)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        if size == 1:
            at = _compress[uint8_t](0, &b, <char *> line, at, total, spread)
        elif size == 2:
            at = _compress[uint16_t](0, &b, <char *> line, at, total, spread)
        elif size == 4:
            at = _compress[uint32_t](0, &b, <char *> line, at, total, spread)
        else:
            at = _compress[uint64_t](0, &b, <char *> line, at, total, spread)
        if at >= total or not box_next(&b, counter, 1):
            return


cdef int masked_select(fx_call *call) noexcept nogil:
    _masked(call.arrays[1], call.arrays[2], call.arrays[0].data, call.arrays[0].numel, False)
    return FX_OK


cdef int masked_scatter(fx_call *call) noexcept nogil:
    cdef fx_array *x = call.arrays[0]
    cdef fx_array *src = call.arrays[2]
    cdef fx_box b
    cdef fx_array mask = call.arrays[1][0]
    cdef int64_t needed = _count_true(&mask), bytes = src.numel * fx_itemsize(src.dtype)
    cdef int64_t dims[128]
    cdef int d
    cdef void *line
    if mask.ndim != x.ndim or mask.numel != x.numel:  # broadcast: count what the mask says of x
        box_over(&b, x)
        box_add(&b, &mask)
        for d in range(x.ndim):
            dims[d] = x.dims[d]
            dims[x.ndim + d] = b.strides[0][d]
        mask.dims = dims
        mask.ndim = x.ndim
        mask.numel = x.numel
        needed = _count_true(&mask)
    if needed > src.numel:
        snprintf(call.message, sizeof(call.message), b"the mask has %lld true elements, but src has only %lld",
                 <long long> needed, <long long> src.numel)
        return FX_ERROR_VALUE
    line = scratch(bytes)
    if line == NULL:
        return FX_ERROR_MEMORY
    pack(src, line)
    _masked(x, &mask, line, needed, True)
    scratch_free(line, bytes)
    return FX_OK


cdef int nonzero(fx_call *call) noexcept nogil:
    cdef fx_array *x = call.arrays[1]
    cdef int64_t *out = <int64_t *> call.arrays[0].data
    cdef int64_t left = call.arrays[0].dims[0]
    cdef fx_box b
    cdef int64_t counter[64]
    cdef uint64_t kept = _kept_bits(x.dtype), v
    cdef int size = fx_itemsize(x.dtype), d, last
    cdef int64_t i, stride
    if x.numel == 0 or x.ndim == 0:
        return FX_OK
    box_over(&b, x)
    box_add(&b, x)
    box_reset(&b, counter)
    last = b.ndim - 1
    stride = b.strides[0][last]
    while True:
        for i in range(b.dims[last]):
            v = 0
            if size == 1:
                v = (<const uint8_t *> (b.data[0] + i * stride))[0]
            elif size == 2:
                v = (<const uint16_t *> (b.data[0] + i * stride))[0]
            elif size == 4:
                v = (<const uint32_t *> (b.data[0] + i * stride))[0]
            else:
                v = (<const uint64_t *> (b.data[0] + i * stride))[0]
            if v & kept == 0:
                continue
            if left == 0:
                return FX_OK
            left -= 1
            for d in range(last):
                out[d] = counter[d]
            out[last] = i
            out += b.ndim
        if not box_next(&b, counter, 1):
            return FX_OK


# --- counting

cdef int one_hot(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *index = call.arrays[1]
    cdef int64_t classes = out.dims[out.ndim - 1], i
    cdef int64_t *o = <int64_t *> out.data
    cdef fx_box b
    cdef int64_t counter[64]
    cdef bint negative
    cdef int status = check_index(call, index, classes, out.ndim - 1, False, &negative)
    if status != FX_OK or out.numel == 0:
        return status
    memset(o, 0, out.numel * 8)
    box_over(&b, index)
    box_add(&b, index)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        for i in range(b.dims[b.ndim - 1]):
            o[(<const int64_t *> (b.data[0] + i * b.strides[0][b.ndim - 1]))[0]] = 1
            o += classes
        if not box_next(&b, counter, 1):
            return FX_OK


cdef void _add_weights(weight zero, weight *o, const fx_array *x, const fx_array *weights) noexcept nogil:
    cdef int64_t i, xs = x.dims[x.ndim], ws = weights.dims[weights.ndim]
    cdef const int64_t *xi = <const int64_t *> x.data
    cdef const weight *w = <const weight *> weights.data
    for i in range(x.numel):
        o[xi[i * xs]] += w[i * ws]


cdef int bincount(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_array *weights = call.arrays[2] if call.n_in > 1 else NULL
    cdef const int64_t *xi = <const int64_t *> x.data
    cdef int64_t *o = <int64_t *> out.data
    cdef int64_t i, xs = x.dims[x.ndim]
    cdef bint negative
    cdef int status = check_index(call, x, out.numel, 0, False, &negative)
    if status != FX_OK:
        return status
    memset(o, 0, out.numel * fx_itemsize(out.dtype))
    if weights == NULL:
        if out.dtype != FX_I64:
            snprintf(call.message, sizeof(call.message), b"counts are int64")
            return FX_ERROR_TYPE
        for i in range(x.numel):
            o[xi[i * xs]] += 1
    elif out.dtype == FX_F32:
        _add_weights[float](0, <float *> o, x, weights)
    elif out.dtype == FX_F64:
        _add_weights[double](0, <double *> o, x, weights)
    elif out.dtype == FX_I64:
        _add_weights[int64_t](0, o, x, weights)
    else:
        snprintf(call.message, sizeof(call.message), b"weights must be int64, float32 or float64")
        return FX_ERROR_TYPE
    return FX_OK


ctypedef fused value:
    uint8_t
    int16_t
    uint16_t  # float16 and bfloat16
    int32_t
    int64_t
    float
    double

ctypedef fused real:
    float
    double


cdef void _histogram(real zero, int64_t *counts, int64_t bins, const fx_array *x, real low, real high) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t i, at
    cdef real v
    box_over(&b, x)
    box_add(&b, x)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        for i in range(b.dims[b.ndim - 1]):
            v = (<const real *> (b.data[0] + i * b.strides[0][b.ndim - 1]))[0]
            if v >= low and v <= high:
                at = <int64_t> ((v - low) * <real> bins / (high - low))
                counts[at if at < bins else bins - 1] += 1
        if not box_next(&b, counter, 1):
            return


cdef int histc(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef int64_t bins = out.numel, i
    cdef double low = call.params[0].f, high = call.params[1].f
    cdef int64_t *counts
    if out.dtype != x.dtype or (x.dtype != FX_F32 and x.dtype != FX_F64):
        snprintf(call.message, sizeof(call.message), b"a histogram takes float32 or float64")
        return FX_ERROR_TYPE
    if not low < high:
        snprintf(call.message, sizeof(call.message), b"min %g is not below max %g", low, high)
        return FX_ERROR_VALUE
    counts = <int64_t *> scratch(bins * 8)
    if counts == NULL:
        return FX_ERROR_MEMORY
    memset(counts, 0, bins * 8)
    if x.numel and x.dtype == FX_F32:
        _histogram[float](0, counts, bins, x, <float> low, <float> high)
    elif x.numel:
        _histogram[double](0, counts, bins, x, low, high)
    for i in range(bins):
        if x.dtype == FX_F32:
            (<float *> out.data)[i] = <float> counts[i]
        else:
            (<double *> out.data)[i] = <double> counts[i]
    scratch_free(counts, bins * 8)
    return FX_OK


# --- runs of equal values

cdef int64_t _runs(value zero, const fx_array *x, const fx_array *indices, value *values, int64_t *inverse,
                   int64_t *counts) noexcept nogil:
    """Counts runs of equal neighbours, and writes what is asked for.  NaN equals nothing, itself included."""
    cdef int64_t i, run = -1, stride = x.dims[x.ndim], begin = 0
    cdef int64_t js = indices.dims[indices.ndim] if indices != NULL else 0
    cdef bint fresh
    cdef const value *v = <const value *> x.data
    for i in range(x.numel):
        if i == 0:
            fresh = True
        elif value is uint16_t:
            fresh = half_to_float(v[i * stride], x.dtype) != half_to_float(v[(i - 1) * stride], x.dtype)
        else:
            fresh = v[i * stride] != v[(i - 1) * stride]
        if fresh:
            if counts != NULL and run >= 0:
                counts[run] = i - begin
            begin = i
            run += 1
            if values != NULL:
                values[run] = v[i * stride]
        if inverse != NULL:
            inverse[(<const int64_t *> indices.data)[i * js] if indices != NULL else i] = run
    if counts != NULL and run >= 0:
        counts[run] = x.numel - begin
    return run + 1


cdef int64_t _any_runs(const fx_array *x, const fx_array *indices, void *values, int64_t *inverse,
                       int64_t *counts) noexcept nogil:
    if fx_is_half(x.dtype):
        return _runs[uint16_t](0, x, indices, <uint16_t *> values, inverse, counts)
    if x.dtype == FX_F32:
        return _runs[float](0, x, indices, <float *> values, inverse, counts)
    if x.dtype == FX_F64:
        return _runs[double](0, x, indices, <double *> values, inverse, counts)
    if x.dtype == FX_I64:
        return _runs[int64_t](0, x, indices, <int64_t *> values, inverse, counts)
    if x.dtype == FX_I32:
        return _runs[int32_t](0, x, indices, <int32_t *> values, inverse, counts)
    if x.dtype == FX_I16:
        return _runs[int16_t](0, x, indices, <int16_t *> values, inverse, counts)
    if x.dtype == FX_I8 or x.dtype == FX_U8 or x.dtype == FX_BOOL:
        return _runs[uint8_t](0, x, indices, <uint8_t *> values, inverse, counts)
    return -1


cdef int _counted(fx_call *call, const fx_array *x, int64_t runs) noexcept nogil:
    if runs >= 0:
        return FX_OK
    snprintf(call.message, sizeof(call.message), "not defined for %s", fx_dtype_name(x.dtype))
    return FX_ERROR_TYPE


cdef int unique_count(fx_call *call) noexcept nogil:
    cdef int64_t runs = _any_runs(call.arrays[1], NULL, NULL, NULL, NULL)
    (<int64_t *> call.arrays[0].data)[0] = runs
    return _counted(call, call.arrays[1], runs)


cdef int unique(fx_call *call) noexcept nogil:
    return _counted(call, call.arrays[3], _any_runs(
        call.arrays[3], call.arrays[4] if call.n_in > 1 else NULL, call.arrays[0].data,
        <int64_t *> call.arrays[1].data if call.arrays[1] != NULL else NULL,
        <int64_t *> call.arrays[2].data if call.arrays[2] != NULL else NULL))


provide(FX_CPU, "count_true", count_true, "reduction | count int64 | x any | -")
provide(FX_CPU, "masked_select", masked_select, "scan | out T | x T, mask bool | -")
provide(FX_CPU, "masked_scatter", masked_scatter, "scan buffered | x T! | mask bool, src T | -")
provide(FX_CPU, "nonzero", nonzero, "scan | out int64 | x any | -")
provide(FX_CPU, "one_hot", one_hot, "scan | out int64 | index int64 | -")
provide(FX_CPU, "bincount", bincount, "scan | out T! | x int64, weights T? | -")
provide(FX_CPU, "histc", histc, "scan | out any! | x T | min f, max f")
provide(FX_CPU, "unique_count", unique_count, "order | count int64 | x T | -")
provide(FX_CPU, "unique", unique, "order | values T, inverse int64?, counts int64? | x T, indices int64? | -")
