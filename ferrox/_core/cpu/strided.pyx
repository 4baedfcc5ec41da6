"""Strided iteration for the kernels that index, select and move: several operands over common dims, in bytes."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_BF16, FX_CPU, FX_ERROR_MEMORY, FX_F32, FX_OK, fx_array, fx_backend, fx_itemsize
from ferrox._core.door.backend cimport backends
from ferrox._core.door.threads cimport num_threads


cdef int64_t grain = 16384  # elementary steps that are worth one more thread

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef void box_over(fx_box *b, const fx_array *shape) noexcept nogil:
    cdef int d
    b.ndim = shape.ndim
    b.operands = 0
    for d in range(b.ndim):
        b.dims[d] = shape.dims[d]


cdef int box_add(fx_box *b, const fx_array *a) noexcept nogil:
    """Lays `a` over the box, aligned to the right as in broadcasting; a host scalar or 0-d array stands still."""
    cdef int d, o = b.operands, lead = b.ndim - a.ndim
    cdef int64_t size = fx_itemsize(a.dtype)
    b.data[o] = <char *> a.data
    for d in range(b.ndim):
        if d < lead or (a.dims[d - lead] == 1 and b.dims[d] != 1):
            b.strides[o][d] = 0
        else:
            b.strides[o][d] = a.dims[a.ndim + d - lead] * size
    b.operands += 1
    return o


cdef int box_add_strided(fx_box *b, void *data, int64_t stride) noexcept nogil:
    """One more operand, row-major with `stride` bytes between elements (0: one element for all)."""
    cdef int d, o = b.operands
    b.data[o] = <char *> data
    for d in range(b.ndim - 1, -1, -1):
        b.strides[o][d] = stride
        stride *= b.dims[d]
    b.operands += 1
    return o


cdef void box_remove(fx_box *b, int dim) noexcept nogil:
    cdef int d, o
    for d in range(dim, b.ndim - 1):
        b.dims[d] = b.dims[d + 1]
        for o in range(b.operands):
            b.strides[o][d] = b.strides[o][d + 1]
    if dim < b.ndim:
        b.ndim -= 1


cdef void box_collapse(fx_box *b, int least) noexcept nogil:
    cdef int d, o, at = -1
    cdef bint merges
    for d in range(b.ndim):
        if b.dims[d] == 1:
            continue
        merges = at >= 0
        if merges:
            for o in range(b.operands):
                if b.strides[o][at] != b.strides[o][d] * b.dims[d]:
                    merges = False
                    break
        if merges:
            b.dims[at] *= b.dims[d]
        else:
            at += 1
            b.dims[at] = b.dims[d]
        for o in range(b.operands):
            b.strides[o][at] = b.strides[o][d]
    b.ndim = at + 1
    if b.ndim < least:
        at = least - b.ndim
        for d in range(least - 1, -1, -1):
            b.dims[d] = b.dims[d - at] if d >= at else 1
            for o in range(b.operands):
                b.strides[o][d] = b.strides[o][d - at] if d >= at else 0
        b.ndim = least


cdef int64_t box_numel(const fx_box *b) noexcept nogil:
    cdef int d
    cdef int64_t n = 1
    for d in range(b.ndim):
        n *= b.dims[d]
    return n


cdef int box_axis(const fx_box *b, int operand) noexcept nogil:
    """A leading dim is preferred to a later one unless that is much longer: parts then touch separate memory."""
    cdef int d, best = -1
    cdef int64_t length = 1
    for d in range(b.ndim):
        if operand >= 0 and b.strides[operand][d] == 0:
            continue
        if b.dims[d] > length:
            best = d
            length = b.dims[d] if b.dims[d] < 64 else b.dims[d] * 8
    return best


cdef bint box_part(const fx_box *b, fx_box *part, int axis, int t, int n) noexcept nogil:
    cdef int d, o
    cdef int64_t first, last
    part.ndim = b.ndim
    part.operands = b.operands
    for d in range(b.ndim):
        part.dims[d] = b.dims[d]
    for o in range(b.operands):
        part.data[o] = b.data[o]
        for d in range(b.ndim):
            part.strides[o][d] = b.strides[o][d]
    if axis >= 0:
        first = b.dims[axis] * t // n
        last = b.dims[axis] * (t + 1) // n
        part.dims[axis] = last - first
        for o in range(b.operands):
            part.data[o] += first * b.strides[o][axis]
    return box_numel(part) > 0


cdef void box_reset(const fx_box *b, int64_t *counter) noexcept nogil:
    cdef int d
    for d in range(b.ndim):
        counter[d] = 0


cdef bint box_next(fx_box *b, int64_t *counter, int inner) noexcept nogil:
    cdef int d, o
    for d in range(b.ndim - inner - 1, -1, -1):
        counter[d] += 1
        if counter[d] < b.dims[d]:
            for o in range(b.operands):
                b.data[o] += b.strides[o][d]
            return True
        counter[d] = 0
        for o in range(b.operands):
            b.data[o] -= b.strides[o][d] * (b.dims[d] - 1)
    return False


cdef int threads_for(int64_t n) noexcept nogil:
    cdef int64_t worth = n // grain
    if worth >= num_threads:
        return num_threads if num_threads > 1 else 1
    return <int> worth if worth > 1 else 1


def set_grain(int64_t steps):
    """Sets how many elementary steps are worth a thread, and returns what was set before; for tests."""
    global grain
    before = grain
    grain = steps
    return before


cdef void *scratch(size_t bytes) noexcept nogil:
    cdef fx_backend *backend = backends[FX_CPU]
    if backend != NULL:
        return backend.allocate(bytes if bytes else 1, 0)
    return malloc(bytes if bytes else 1)


cdef void scratch_free(void *block, size_t bytes) noexcept nogil:
    cdef fx_backend *backend = backends[FX_CPU]
    if block == NULL:
        return
    if backend != NULL:
        backend.release(block, bytes if bytes else 1, 0)
    else:
        free(block)


cdef int64_t stride_of(const fx_array *a, int dim) noexcept nogil:
    return a.dims[a.ndim + dim] if dim < a.ndim else 0


cdef int64_t size_of(const fx_array *a, int dim) noexcept nogil:
    """A 0-d array counts as one of size 1."""
    return a.dims[dim] if dim < a.ndim else 1


cdef void _pack_row(word zero, char *to, const char *source, int64_t stride, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef word *o = <word *> to
    for i in range(n):
        o[i] = (<const word *> (source + i * stride))[0]


cdef void pack(const fx_array *a, void *to) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t size = fx_itemsize(a.dtype), n
    cdef char *o = <char *> to
    if a.numel == 0:
        return
    box_over(&b, a)
    box_add(&b, a)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    n = b.dims[b.ndim - 1]
    while True:
        if b.strides[0][b.ndim - 1] == size or n == 1:
            memcpy(o, b.data[0], n * size)
        elif size == 1:
            _pack_row[uint8_t](0, o, b.data[0], b.strides[0][b.ndim - 1], n)
        elif size == 2:
            _pack_row[uint16_t](0, o, b.data[0], b.strides[0][b.ndim - 1], n)
        elif size == 4:
            _pack_row[uint32_t](0, o, b.data[0], b.strides[0][b.ndim - 1], n)
        else:
            _pack_row[uint64_t](0, o, b.data[0], b.strides[0][b.ndim - 1], n)
        o += n * size
        if not box_next(&b, counter, 1):
            return


cdef float half_to_float(uint16_t bits, int dtype) noexcept nogil:
    cdef uint32_t sign = <uint32_t> (bits & 0x8000) << 16, rest = bits & 0x7fff, u
    cdef float f
    if dtype == FX_BF16:
        u = <uint32_t> bits << 16
    elif rest >= 0x7c00:  # infinity, NaN
        u = sign | 0x7f800000 | ((rest & 0x3ff) << 13)
    elif rest >= 0x400:
        u = sign | ((rest << 13) + 0x38000000)
    else:                 # subnormal: rest * 2^-24, exactly
        f = <float> rest * <float> 5.9604644775390625e-08
        memcpy(&u, &f, 4)
        u |= sign
    memcpy(&f, &u, 4)
    return f


cdef uint16_t float_to_half(float value, int dtype) noexcept nogil:
    """Rounds to nearest, ties to even."""
    cdef uint32_t u, sign, rest, shift, kept
    memcpy(&u, &value, 4)
    sign = (u >> 16) & 0x8000
    rest = u & 0x7fffffff
    if dtype == FX_BF16:
        if rest > 0x7f800000:
            return <uint16_t> ((u >> 16) | 0x40)
        return <uint16_t> ((u + 0x7fff + ((u >> 16) & 1)) >> 16)
    if rest > 0x7f800000:
        return <uint16_t> (sign | 0x7e00 | ((rest >> 13) & 0x3ff))
    if rest >= 0x477ff000:  # 65520 and above round to infinity
        return <uint16_t> (sign | 0x7c00)
    if rest >= 0x38800000:  # normal in float16
        rest -= 0x38000000
        return <uint16_t> (sign | ((rest + 0xfff + ((rest >> 13) & 1)) >> 13))
    if rest < 0x33000000:   # below half of the least subnormal
        return <uint16_t> sign
    shift = 126 - (rest >> 23)  # 14 to 24
    rest = (rest & 0x7fffff) | 0x800000
    kept = rest >> shift
    rest &= (<uint32_t> 1 << shift) - 1
    if rest > (<uint32_t> 1 << (shift - 1)) or (rest == (<uint32_t> 1 << (shift - 1)) and kept & 1):
        kept += 1
    return <uint16_t> (sign | kept)


cdef void widen(const fx_array *a, float *to) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t i
    if a.numel == 0:
        return
    box_over(&b, a)
    box_add(&b, a)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        for i in range(b.dims[b.ndim - 1]):
            to[i] = half_to_float((<const uint16_t *> (b.data[0] + i * b.strides[0][b.ndim - 1]))[0], a.dtype)
        to += b.dims[b.ndim - 1]
        if not box_next(&b, counter, 1):
            return


cdef void narrow_changed(const fx_array *a, const float *source) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t i
    cdef uint16_t *p
    cdef float before
    cdef uint32_t was, now
    if a.numel == 0:
        return
    box_over(&b, a)
    box_add(&b, a)
    box_collapse(&b, 1)
    box_reset(&b, counter)
    while True:
        for i in range(b.dims[b.ndim - 1]):
            p = <uint16_t *> (b.data[0] + i * b.strides[0][b.ndim - 1])
            before = half_to_float(p[0], a.dtype)
            memcpy(&was, &before, 4)
            memcpy(&now, source + i, 4)
            if was != now:
                p[0] = float_to_half(source[i], a.dtype)
        source += b.dims[b.ndim - 1]
        if not box_next(&b, counter, 1):
            return


cdef int wide_open(fx_wide *w, const fx_array *a) noexcept nogil:
    cdef int d
    cdef int64_t stride = 1
    w.array = a[0]
    w.array.dims = w.dims
    w.array.dtype = FX_F32
    w.array.data = scratch(a.numel * 4)
    if w.array.data == NULL:
        return FX_ERROR_MEMORY
    for d in range(a.ndim - 1, -1, -1):
        w.dims[d] = a.dims[d]
        w.dims[a.ndim + d] = stride
        stride *= a.dims[d]
    widen(a, <float *> w.array.data)
    return FX_OK


cdef void wide_close(fx_wide *w) noexcept nogil:
    scratch_free(w.array.data, w.array.numel * 4)
