"""Moving and accumulating elements through an index.

All of gather, scatter, index_select, index_add, advanced indexing and their kin walk over a common box with three
operands: y (what is read into or written from), x (the indexed array, standing still along the indexed dim) and the
index.  Where the index stands still along the innermost dim, whole rows are moved; elsewhere single elements.

Note [Order of accumulation]
Equal indices meet in x.  An accumulating walk is split between threads only along a dim in which x itself moves:
parts then touch different elements, and each element receives its terms in the order of the index, whatever the
number of threads.
"""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_ERROR_INDEX, FX_OK, fx_array, fx_call, fx_itemsize, fx_scalar
from ferrox._core.cpu.strided cimport (box_add, box_axis, box_collapse, box_next, box_numel, box_over, box_part,
                                       box_reset, copy_bytes, fx_box, threads_for)

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused number:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void *p) nogil

cdef enum:
    AHEAD = 6  # rows between the one that is moved and the one that is fetched

# The last two dims of the box at its present position.  False: an index outside [0, limit) was met, and not used;
# limit is -1 where the indices are known to be in range.
ctypedef bint (*inner_loop)(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil


cdef int _index_error(fx_call *call, int64_t index, int dim, int64_t size) noexcept nogil:
    snprintf(call.message, sizeof(call.message), b"index %lld is out of bounds for dimension %d with size %lld",
             <long long> index, dim, <long long> size)
    return FX_ERROR_INDEX


cdef int check_index(fx_call *call, const fx_array *index, int64_t size, int dim, bint wrap,
                     bint *negative) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t low = -size if wrap else 0, bad = 0, signs = 0, i, n, stride, v
    cdef int d
    cdef const char *p
    negative[0] = False
    if index.numel == 0:
        return FX_OK
    box_over(&b, index)
    box_add(&b, index)
    for d in range(b.ndim):
        if b.strides[0][d] == 0:
            b.dims[d] = 1
    box_collapse(&b, 1)
    box_reset(&b, counter)
    n = b.dims[b.ndim - 1]
    stride = b.strides[0][b.ndim - 1]
    while True:
        # The sign bit of either difference tells of an index outside; no branch, so that the loop vectorises.
        if stride == 8:
            for i in range(n):
                v = (<const int64_t *> b.data[0])[i]
                bad |= (v - low) | (size - 1 - v)
                signs |= v
        else:
            for i in range(n):
                v = (<const int64_t *> (b.data[0] + i * stride))[0]
                bad |= (v - low) | (size - 1 - v)
                signs |= v
        if bad < 0:
            p = b.data[0]
            for _ in range(n):
                v = (<const int64_t *> p)[0]
                if v < low or v >= size:
                    return _index_error(call, v, dim, size)
                p += stride
        if not box_next(&b, counter, 1):
            break
    negative[0] = signs < 0
    return FX_OK


cdef inline void _copy_row(word zero, char *to, const char *source, int64_t ts, int64_t ss, int64_t n) noexcept nogil:
    cdef int64_t j
    for j in range(n):
        (<word *> (to + j * ts))[0] = (<const word *> (source + j * ss))[0]


cdef inline bint _in_range(const char *k, int64_t stride, int64_t n, int64_t size) noexcept nogil:
    """No branch, so that the loop vectorises: the sign bit of either value tells of an index outside."""
    cdef int64_t bad = 0, j, v
    if stride == 8:
        for j in range(n):
            v = (<const int64_t *> k)[j]
            bad |= v | (size - 1 - v)
    else:
        for j in range(n):
            v = (<const int64_t *> (k + j * stride))[0]
            bad |= v | (size - 1 - v)
    return bad >= 0


cdef bint _read(word zero, const fx_box *b, int64_t scale, int64_t limit) noexcept nogil:
    cdef int last = b.ndim - 1, d = b.ndim - 2
    cdef int64_t n = b.dims[last], rows = b.dims[d], size = sizeof(word), i, j, v
    cdef int64_t ys = b.strides[0][last], xs = b.strides[1][last], ks = b.strides[2][last]
    cdef char *y = b.data[0]
    cdef const char *x = b.data[1]
    cdef const char *k = b.data[2]
    cdef const char *from_
    cdef bint whole = ys == size and xs == size, checked = limit >= 0
    if checked and ks != 0 and b.strides[2][d] == 0 and not _in_range(k, ks, n, limit):
        return False
    for i in range(rows):
        if ks == 0:
            v = (<const int64_t *> k)[0]
            if checked and (v < 0 or v >= limit):
                return False
            from_ = x + v * scale
            if whole and rows - i > AHEAD:  # an index outside is harmless here
                prefetch(x + AHEAD * b.strides[1][d] + (<const int64_t *> (k + AHEAD * b.strides[2][d]))[0] * scale)
            if whole:
                copy_bytes(y, from_, n * size)
            else:
                _copy_row[word](0, y, from_, ys, xs, n)
        else:
            if checked and b.strides[2][d] != 0 and not _in_range(k, ks, n, limit):
                return False
            if ys == size and ks == 8 and xs == 0 and scale == size:
                for j in range(n):
                    (<word *> y)[j] = (<const word *> x)[(<const int64_t *> k)[j]]
            elif ys == size and ks == 8 and xs == 0:
                for j in range(n):
                    (<word *> y)[j] = (<const word *> (x + (<const int64_t *> k)[j] * scale))[0]
            else:
                for j in range(n):
                    (<word *> (y + j * ys))[0] = (
                        <const word *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale))[0]
        y += b.strides[0][d]
        x += b.strides[1][d]
        k += b.strides[2][d]
    return True


cdef void _write(word zero, const fx_box *b, int64_t scale) noexcept nogil:
    cdef int last = b.ndim - 1, d = b.ndim - 2
    cdef int64_t n = b.dims[last], size = sizeof(word), i, j
    cdef int64_t ys = b.strides[0][last], xs = b.strides[1][last], ks = b.strides[2][last]
    cdef const char *y
    cdef char *x
    cdef const char *k
    for i in range(b.dims[d]):
        y = b.data[0] + i * b.strides[0][d]
        x = b.data[1] + i * b.strides[1][d]
        k = b.data[2] + i * b.strides[2][d]
        if ks == 0:
            x += (<const int64_t *> k)[0] * scale
            if ys == size and xs == size:
                copy_bytes(x, y, n * size)
            else:
                _copy_row[word](0, x, y, xs, ys, n)
        else:
            for j in range(n):
                (<word *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale))[0] = (
                    <const word *> (y + j * ys))[0]


cdef bint _move(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar size) noexcept nogil:
    cdef int bytes = <int> size.i
    if action == READ:
        if bytes == 1:
            return _read[uint8_t](0, b, scale, limit)
        if bytes == 2:
            return _read[uint16_t](0, b, scale, limit)
        if bytes == 4:
            return _read[uint32_t](0, b, scale, limit)
        return _read[uint64_t](0, b, scale, limit)
    if bytes == 1:
        _write[uint8_t](0, b, scale)
    elif bytes == 2:
        _write[uint16_t](0, b, scale)
    elif bytes == 4:
        _write[uint32_t](0, b, scale)
    else:
        _write[uint64_t](0, b, scale)
    return True


cdef inline void _take_greater(number *x, number y) noexcept nogil:
    if x[0] < y or y != y:
        x[0] = y


cdef inline void _take_less(number *x, number y) noexcept nogil:
    if x[0] > y or y != y:
        x[0] = y


cdef void _accumulate(number zero, const fx_box *b, int action, int64_t scale, number alpha) noexcept nogil:
    cdef int last = b.ndim - 1, d = b.ndim - 2
    cdef int64_t n = b.dims[last], rows = b.dims[d], size = sizeof(number), i, j
    cdef int64_t ys = b.strides[0][last], xs = b.strides[1][last], ks = b.strides[2][last]
    cdef char *y
    cdef char *x
    cdef const char *k
    for i in range(rows):
        y = b.data[0] + i * b.strides[0][d]
        x = b.data[1] + i * b.strides[1][d]
        k = b.data[2] + i * b.strides[2][d]
        if ks == 0 and ys == size and xs == size and action == ADD:
            if rows - i > AHEAD:
                prefetch(x + AHEAD * b.strides[1][d] + (<const int64_t *> (k + AHEAD * b.strides[2][d]))[0] * scale)
            x += (<const int64_t *> k)[0] * scale
            for j in range(n):
                (<number *> x)[j] += alpha * (<const number *> y)[j]
        elif action == ADD and ys == size and ks == 8 and xs == 0 and scale == size:
            for j in range(n):
                (<number *> x)[(<const int64_t *> k)[j]] += alpha * (<const number *> y)[j]
        elif action == ADD:
            for j in range(n):
                (<number *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale))[0] += (
                    alpha * (<const number *> (y + j * ys))[0])
        elif action == MULTIPLY:
            for j in range(n):
                (<number *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale))[0] *= (
                    (<const number *> (y + j * ys))[0])
        elif action == MAXIMUM:
            for j in range(n):
                _take_greater(<number *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale),
                              (<const number *> (y + j * ys))[0])
        else:
            for j in range(n):
                _take_less(<number *> (x + j * xs + (<const int64_t *> (k + j * ks))[0] * scale),
                           (<const number *> (y + j * ys))[0])


cdef bint _accumulate_bool(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    """Sum and maximum are or, product and minimum are and."""
    if action == ADD and alpha.i == 0:
        return True
    _accumulate[uint8_t](0, b, MAXIMUM if action == ADD or action == MAXIMUM else MINIMUM, scale, 1)
    return True


cdef bint _accumulate_u8(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[uint8_t](0, b, action, scale, <uint8_t> alpha.i)
    return True


cdef bint _accumulate_i8(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[int8_t](0, b, action, scale, <int8_t> alpha.i)
    return True


cdef bint _accumulate_i16(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[int16_t](0, b, action, scale, <int16_t> alpha.i)
    return True


cdef bint _accumulate_i32(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[int32_t](0, b, action, scale, <int32_t> alpha.i)
    return True


cdef bint _accumulate_i64(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[int64_t](0, b, action, scale, alpha.i)
    return True


cdef bint _accumulate_f32(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[float](0, b, action, scale, <float> alpha.f)
    return True


cdef bint _accumulate_f64(const fx_box *b, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    _accumulate[double](0, b, action, scale, alpha.f)
    return True


cdef inner_loop[10] _accumulators
_accumulators[:] = [_accumulate_bool, _accumulate_u8, _accumulate_i8, _accumulate_i16, _accumulate_i32,
                    _accumulate_i64, NULL, NULL, _accumulate_f32, _accumulate_f64]


cdef bint _walk(fx_box *b, inner_loop f, int action, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    cdef int64_t counter[64]
    box_reset(b, counter)
    while True:
        if not f(b, action, scale, limit, alpha):
            return False
        if not box_next(b, counter, 2):
            return True


cdef bint _walk_part(const fx_box *whole, int axis, int t, int n, inner_loop f, int action, int64_t scale,
                     int64_t limit, fx_scalar alpha) noexcept nogil:
    cdef fx_box b
    return not box_part(whole, &b, axis, t, n) or _walk(&b, f, action, scale, limit, alpha)


cdef bint move_indexed(fx_box *b, int action, int dtype, int64_t scale, int64_t limit, fx_scalar alpha) noexcept nogil:
    cdef inner_loop f
    cdef int axis = -1, t, n, failures = 0
    cdef int64_t numel = box_numel(b)
    if numel == 0:
        return True
    if action <= WRITE:
        f = _move
        alpha.i = fx_itemsize(dtype)
    else:
        f = _accumulators[dtype]
    box_collapse(b, 2)
    n = threads_for(numel)
    if n > 1:
        axis = box_axis(b, -1 if action == READ else 1)
        if axis < 0:
            n = 1
        elif b.dims[axis] < n:
            n = <int> b.dims[axis]
    if n == 1:
        return _walk(b, f, action, scale, limit, alpha)
    for t in prange(n, num_threads=n, schedule="static", chunksize=1):
        failures += not _walk_part(b, axis, t, n, f, action, scale, limit, alpha)
    return failures == 0
