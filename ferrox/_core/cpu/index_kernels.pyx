"""Kernels that read, write and accumulate through index tensors (int64, any strides).

Arrays (outputs | inputs; parameters).  An in-place kernel's output holds the values to start from and may have any
strides; it is left as it was when an index is out of range.

- gather: out | x, index; dim
- scatter, scatter_add: x in place | index, src (or a scalar); dim
- scatter_reduce: x in place | index, src; dim, mode (0 sum, 1 prod, 2 mean, 3 amax, 4 amin), include_self
- index_select: out | x, index (1-D); dim
- index_add: x in place | index, src; dim, alpha (a number of the arithmetic)
- index_copy: x in place | index, src; dim.  index_fill: x in place | index, value (a scalar); dim
- index_get: out | x, k index arrays of one shape; k, at, then for each dim of x the number of its index array or -1
- index_put: x in place | values (result shape, by strides, or a scalar), k index arrays; k, at, accumulate, then the
  same

The result of index_get has the index dims after the first `at` kept dims.  index_get, index_put and index_fill wrap
negative indices.
"""
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport (FX_BF16, FX_BOOL, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F16, FX_F32, FX_F64, FX_I8,
                               FX_I16, FX_I32, FX_I64, FX_OK, FX_U8, fx_array, fx_call, fx_itemsize, fx_scalar)
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_add_strided, box_collapse, box_next, box_over, box_reset, fx_box,
                                       fx_wide, narrow_changed, scratch, scratch_free, size_of, stride_of, wide_close,
                                       wide_open)
from ferrox._core.cpu.index_walk cimport ADD, MAXIMUM, MINIMUM, MULTIPLY, READ, WRITE, check_index, \
    move_indexed, one_of


cdef inline bint _is_half(const fx_array *a) noexcept nogil:
    return a.dtype == FX_F16 or a.dtype == FX_BF16


# --- one index array with x's own dims: gather and scatter

cdef bint _walk_dims(int action, fx_array *x, const fx_array *index, const fx_array *y, int dim,
                     int64_t limit) noexcept nogil:
    cdef fx_box b
    box_over(&b, index)
    box_add(&b, y)
    box_add(&b, x)
    box_add(&b, index)
    if dim < b.ndim:
        b.strides[1][dim] = 0
    return move_indexed(&b, action, x.dtype, stride_of(x, dim) * fx_itemsize(x.dtype), limit, one_of(x.dtype))


cdef int gather(fx_call *call) noexcept nogil:
    cdef int dim = <int> call.params[0].i
    cdef bint negative
    cdef int64_t size = size_of(call.arrays[1], dim)
    if _walk_dims(READ, call.arrays[1], call.arrays[2], call.arrays[0], dim, size):
        return FX_OK
    return check_index(call, call.arrays[2], size, dim, False, &negative)


cdef int _scatter(fx_call *call, int action) noexcept nogil:
    cdef int dim = <int> call.params[0].i
    cdef fx_array *x = call.arrays[0]
    cdef fx_wide wx, wy
    cdef bint negative
    cdef int status = check_index(call, call.arrays[1], size_of(x, dim), dim, False, &negative)
    if status != FX_OK:
        return status
    if action == WRITE or not _is_half(x):
        _walk_dims(action, x, call.arrays[1], call.arrays[2], dim, -1)
        return FX_OK
    status = wide_open(&wx, x)
    if status != FX_OK:
        return status
    status = wide_open(&wy, call.arrays[2])
    if status == FX_OK:
        _walk_dims(action, &wx.array, call.arrays[1], &wy.array, dim, -1)
        narrow_changed(x, <float *> wx.array.data)
        wide_close(&wy)
    wide_close(&wx)
    return status


cdef int scatter(fx_call *call) noexcept nogil:
    return _scatter(call, WRITE)


cdef int scatter_add(fx_call *call) noexcept nogil:
    return _scatter(call, ADD)


# --- scatter_reduce

ctypedef fused number:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double


cdef enum:
    SUM
    PRODUCT
    MEAN
    GREATEST
    LEAST


cdef void _identity(void *to, int dtype, int mode) noexcept nogil:
    """The value that leaves the other operand as it is."""
    cdef double inf = 1e308 * 10
    cdef int64_t bits = 8 * fx_itemsize(dtype), least = -(<int64_t> 1 << (bits - 1))
    cdef int64_t v
    if dtype == FX_F32:
        (<float *> to)[0] = <float> (
            1 if mode == PRODUCT else -inf if mode == GREATEST else inf if mode == LEAST else 0)
    elif dtype == FX_F64:
        (<double *> to)[0] = 1 if mode == PRODUCT else -inf if mode == GREATEST else inf if mode == LEAST else 0
    else:
        if dtype == FX_BOOL:
            v = 1 if mode == PRODUCT or mode == LEAST else 0
        elif dtype == FX_U8:
            v = 1 if mode == PRODUCT else 255 if mode == LEAST else 0
        else:
            v = 1 if mode == PRODUCT else least if mode == GREATEST else ~least if mode == LEAST else 0
        if bits == 8:
            (<int8_t *> to)[0] = <int8_t> v
        elif bits == 16:
            (<int16_t *> to)[0] = <int16_t> v
        elif bits == 32:
            (<int32_t *> to)[0] = <int32_t> v
        else:
            (<int64_t *> to)[0] = v


cdef void _divide(number zero, fx_array *x, int64_t *counts) noexcept nogil:
    """x /= counts where a count is above 1, rounding down for integers."""
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t i, n
    cdef number *p
    box_over(&b, x)
    box_add(&b, x)
    box_add_strided(&b, counts, 8)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        for i in range(b.dims[b.ndim - 1]):
            n = (<int64_t *> (b.data[1] + i * b.strides[1][b.ndim - 1]))[0]
            if n <= 1:
                continue
            p = <number *> (b.data[0] + i * b.strides[0][b.ndim - 1])
            if number is float or number is double:
                p[0] /= <number> n
            elif number is uint8_t or number is int8_t or number is int16_t or number is int32_t:
                # The count may not fit into the type.
                p[0] = <number> (p[0] // n - (1 if p[0] < 0 and p[0] % n != 0 else 0))
            else:
                p[0] = p[0] // n - (1 if p[0] < 0 and p[0] % n != 0 else 0)
        if not box_next(&b, counter, 1):
            return


cdef int _mean(fx_array *x, const fx_array *index, const fx_array *y, int dim, bint include_self) noexcept nogil:
    cdef fx_box b
    cdef fx_array counts = x[0]
    cdef int64_t dims[128]
    cdef int64_t one = 1, stride = 1, i
    cdef int64_t *data = <int64_t *> scratch(x.numel * 8)
    cdef int d
    if data == NULL:
        return FX_ERROR_MEMORY
    for i in range(x.numel):
        data[i] = include_self
    counts.data = data
    counts.dims = dims
    counts.dtype = FX_I64
    for d in range(x.ndim - 1, -1, -1):
        dims[d] = x.dims[d]
        dims[x.ndim + d] = stride
        stride *= x.dims[d]
    box_over(&b, index)
    box_add_strided(&b, &one, 0)
    box_add(&b, &counts)
    box_add(&b, index)
    if dim < b.ndim:
        b.strides[1][dim] = 0
    move_indexed(&b, ADD, FX_I64, stride_of(&counts, dim) * 8, -1, one_of(FX_I64))
    _walk_dims(ADD, x, index, y, dim, -1)
    if x.dtype == FX_U8:
        _divide[uint8_t](0, x, data)
    elif x.dtype == FX_I8:
        _divide[int8_t](0, x, data)
    elif x.dtype == FX_I16:
        _divide[int16_t](0, x, data)
    elif x.dtype == FX_I32:
        _divide[int32_t](0, x, data)
    elif x.dtype == FX_I64:
        _divide[int64_t](0, x, data)
    elif x.dtype == FX_F32:
        _divide[float](0, x, data)
    else:
        _divide[double](0, x, data)
    scratch_free(data, x.numel * 8)
    return FX_OK


cdef int _reduce(fx_array *x, const fx_array *index, const fx_array *y, int dim, int mode,
                 bint include_self) noexcept nogil:
    cdef fx_box b
    cdef int64_t start
    if x.numel == 0 or index.numel == 0:
        return FX_OK
    if not include_self:
        _identity(&start, x.dtype, mode)
        box_over(&b, index)
        box_add_strided(&b, &start, 0)
        box_add(&b, x)
        box_add(&b, index)
        if dim < b.ndim:
            b.strides[1][dim] = 0
        move_indexed(&b, WRITE, x.dtype, stride_of(x, dim) * fx_itemsize(x.dtype), -1, one_of(x.dtype))
    if mode == MEAN:
        return _mean(x, index, y, dim, include_self)
    _walk_dims(ADD if mode == SUM else MULTIPLY if mode == PRODUCT else MAXIMUM if mode == GREATEST else MINIMUM,
               x, index, y, dim, -1)
    return FX_OK


cdef int scatter_reduce(fx_call *call) noexcept nogil:
    cdef int dim = <int> call.params[0].i, mode = <int> call.params[1].i
    cdef bint include_self = call.params[2].i != 0, negative
    cdef fx_array *x = call.arrays[0]
    cdef fx_wide wx, wy
    cdef int status = check_index(call, call.arrays[1], size_of(x, dim), dim, False, &negative)
    if status != FX_OK:
        return status
    if mode == MEAN and x.dtype == FX_BOOL:
        snprintf(call.message, sizeof(call.message), b"the mean of bool is not defined")
        return FX_ERROR_TYPE
    if not _is_half(x):
        return _reduce(x, call.arrays[1], call.arrays[2], dim, mode, include_self)
    status = wide_open(&wx, x)
    if status != FX_OK:
        return status
    status = wide_open(&wy, call.arrays[2])
    if status == FX_OK:
        status = _reduce(&wx.array, call.arrays[1], &wy.array, dim, mode, include_self)
        if status == FX_OK:
            narrow_changed(x, <float *> wx.array.data)
        wide_close(&wy)
    wide_close(&wx)
    return status


# --- advanced indexing, and index_select and its kin as its case of one index array along one dim

cdef int64_t *_byte_offsets(fx_array **index, int k, const int64_t *strides, const int64_t *sizes) noexcept nogil:
    """The sum over index arrays of (wrapped) index times stride, contiguous; NULL when out of memory."""
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t *offsets = <int64_t *> scratch(index[0].numel * 8)
    cdef int64_t *o
    cdef int64_t i, v, n, stride, size
    cdef int j
    if offsets == NULL or index[0].numel == 0:
        return offsets
    for j in range(k):
        o = offsets
        size = sizes[j]
        box_over(&b, index[j])
        box_add(&b, index[j])
        box_collapse(&b, 1)
        box_reset(&b, counter)
        n = b.dims[b.ndim - 1]
        stride = b.strides[0][b.ndim - 1]
        while True:
            for i in range(n):
                v = (<const int64_t *> (b.data[0] + i * stride))[0]
                v = (v + (size & (v >> 63))) * strides[j]
                o[i] = v if j == 0 else o[i] + v
            o += n
            if not box_next(&b, counter, 1):
                break
    return offsets


cdef int _lay(fx_box *b, const fx_array *x, const fx_array *y, const fx_array *first, int at,
              const fx_scalar *tags) noexcept nogil:
    """Lays y, x and the first index array over the result's dims; returns where the index dims begin."""
    cdef int d, e, kept = 0, index_at = -1
    cdef int64_t size = fx_itemsize(x.dtype)
    b.ndim = 0
    b.operands = 0
    for d in range(x.ndim + 1):
        if index_at < 0 and kept == at and (d == x.ndim or tags[d].i < 0):
            index_at = b.ndim
            for e in range(first.ndim):
                b.dims[b.ndim] = first.dims[e]
                b.strides[1][b.ndim] = 0
                b.strides[2][b.ndim] = first.dims[first.ndim + e] * 8
                b.ndim += 1
        if d < x.ndim and tags[d].i < 0:
            b.dims[b.ndim] = x.dims[d]
            b.strides[1][b.ndim] = x.dims[x.ndim + d] * size
            b.strides[2][b.ndim] = 0
            b.ndim += 1
            kept += 1
    box_add(b, y)
    b.operands = 3
    b.data[1] = <char *> x.data
    b.data[2] = <char *> first.data
    return index_at


cdef int _through(fx_call *call, int action, fx_array *x, const fx_array *y, fx_array **index, int k, int at,
                  const fx_scalar *tags, bint wrap, fx_scalar alpha) noexcept nogil:
    """Moves between y and x where tags[d] is the number of the index array of x's dim d, or -1."""
    cdef fx_box b
    cdef int64_t strides[64]
    cdef int64_t sizes[64]
    cdef int64_t *offsets = NULL
    cdef const fx_array *first = index[0]
    cdef int64_t size = fx_itemsize(x.dtype), scale, stride = 8
    cdef int d, e, status, index_at
    cdef bint negative, any_negative = False
    for d in range(x.ndim):
        if tags[d].i >= 0:
            e = <int> tags[d].i
            strides[e] = x.dims[x.ndim + d] * size
            sizes[e] = x.dims[d]
    if k == 1 and action == READ:  # without a pass over the index first: it is seldom negative or out of range
        _lay(&b, x, y, first, at, tags)
        if move_indexed(&b, action, x.dtype, strides[0], sizes[0], alpha):
            return FX_OK
    for d in range(x.ndim):
        if tags[d].i >= 0:
            status = check_index(call, index[tags[d].i], x.dims[d], d, wrap, &negative)
            if status != FX_OK:
                return status
            any_negative = any_negative or negative
    index_at = _lay(&b, x, y, first, at, tags)
    if k == 1 and not any_negative:
        scale = strides[0]
    else:
        offsets = _byte_offsets(index, k, strides, sizes)
        if offsets == NULL:
            return FX_ERROR_MEMORY
        scale = 1
        b.data[2] = <char *> offsets
        for e in range(first.ndim - 1, -1, -1):
            b.strides[2][index_at + e] = stride
            stride *= first.dims[e]
    move_indexed(&b, action, x.dtype, scale, -1, alpha)
    if offsets != NULL:
        scratch_free(offsets, first.numel * 8)
    return FX_OK


cdef int _through_wide(fx_call *call, int action, fx_array *x, const fx_array *y, fx_array **index, int k, int at,
                       const fx_scalar *tags, bint wrap, fx_scalar alpha) noexcept nogil:
    """The same, accumulating float16 and bfloat16 in float32."""
    cdef fx_wide wx, wy
    cdef int status
    if action < ADD or not _is_half(x):
        return _through(call, action, x, y, index, k, at, tags, wrap, alpha)
    status = wide_open(&wx, x)
    if status != FX_OK:
        return status
    status = wide_open(&wy, y)
    if status == FX_OK:
        status = _through(call, action, &wx.array, &wy.array, index, k, at, tags, wrap, alpha)
        if status == FX_OK:
            narrow_changed(x, <float *> wx.array.data)
        wide_close(&wy)
    wide_close(&wx)
    return status


cdef int index_get(fx_call *call) noexcept nogil:
    return _through(call, READ, call.arrays[1], call.arrays[0], call.arrays + 2, <int> call.params[0].i,
                    <int> call.params[1].i, call.params + 2, True, one_of(call.dtype))


cdef int index_put(fx_call *call) noexcept nogil:
    return _through_wide(call, ADD if call.params[2].i else WRITE, call.arrays[0], call.arrays[1], call.arrays + 2,
                         <int> call.params[0].i, <int> call.params[1].i, call.params + 3, True,
                         one_of(call.arrays[0].dtype))


cdef int _along(fx_call *call, int action, fx_array *x, const fx_array *y, fx_array *index, bint wrap,
                fx_scalar alpha) noexcept nogil:
    """One 1-D index along dim params[0]; a 0-d x or index counts as 1-D."""
    cdef fx_scalar tags[64]
    cdef fx_array x1 = x[0], index1 = index[0]
    cdef fx_array *pointer = &index1
    cdef int64_t one[2]
    cdef int d, dim = <int> call.params[0].i
    one[0] = 1
    one[1] = 1
    if x.ndim == 0:
        x1.ndim = 1
        x1.dims = one
    if index.ndim == 0:
        index1.ndim = 1
        index1.dims = one
    for d in range(x1.ndim):
        tags[d].i = -1
    tags[dim].i = 0
    return _through_wide(call, action, &x1, y, &pointer, 1, dim, tags, wrap, alpha)


cdef int index_select(fx_call *call) noexcept nogil:
    return _along(call, READ, call.arrays[1], call.arrays[0], call.arrays[2], False, one_of(call.dtype))


cdef int index_add(fx_call *call) noexcept nogil:
    return _along(call, ADD, call.arrays[0], call.arrays[2], call.arrays[1], False, call.params[1])


cdef int index_copy(fx_call *call) noexcept nogil:
    return _along(call, WRITE, call.arrays[0], call.arrays[2], call.arrays[1], False, one_of(call.dtype))


cdef int index_fill(fx_call *call) noexcept nogil:
    return _along(call, WRITE, call.arrays[0], call.arrays[2], call.arrays[1], True, one_of(call.dtype))


provide(FX_CPU, "gather", gather, "scan | out T | x T, index int64 | dim i")
provide(FX_CPU, "scatter", scatter, "scan buffered | x T! | index int64, src any | dim i")
provide(FX_CPU, "scatter_add", scatter_add, "scan buffered | x T! | index int64, src any | dim i")
provide(FX_CPU, "scatter_reduce", scatter_reduce,
        "scan buffered | x T! | index int64, src any | dim i, mode i, include_self i")
provide(FX_CPU, "index_get", index_get, "scan | out T | x T, {index int64} | ...")
provide(FX_CPU, "index_put", index_put, "scan buffered | x T! | values any, {index int64} | ...")
provide(FX_CPU, "index_select", index_select, "scan | out T | x T, index int64 | dim i")
provide(FX_CPU, "index_add", index_add, "scan buffered | x T! | index int64, src any | dim i, alpha n")
provide(FX_CPU, "index_copy", index_copy, "scan buffered | x T! | index int64, src any | dim i")
provide(FX_CPU, "index_fill", index_fill, "scan buffered | x T! | index int64, value any | dim i")
