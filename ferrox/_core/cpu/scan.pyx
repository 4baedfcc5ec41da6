"""Scans along one dimension.

Arrays: out (or values, indices for cummax and cummin), in; outputs of any strides and of the shape of in.
params[0].i is the dimension, params[1].i 1 to scan from its end.  call.dtype is the dtype of the arithmetic and of the
accumulator, but that float32 (and float16, bfloat16) sums and products are accumulated in double.

Lines along the dimension are independent and shared out among threads; where the lines' neighbours are denser than the
lines themselves, LANES of them are scanned side by side through scratch.
"""
from cython.parallel cimport prange
from libc.math cimport INFINITY, exp, fabs, log1p
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport llabs

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_ERROR_TYPE, FX_F32, FX_F64, FX_I8, FX_I16, FX_I32, FX_I64, FX_OK, \
    FX_U8, fx_array, fx_call, fx_dtype_name, fx_is_half, fx_is_whole, fx_itemsize
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.blocks cimport PARALLEL_MIN, move_tile
from ferrox._core.cpu.table cimport casts, fx_loop
from ferrox._core.door.threads cimport num_threads

cdef enum:
    TILE = 1024   # items scanned between two moves
    LANES = 32    # lines scanned side by side

cdef enum scan:
    SUM
    PRODUCT
    LARGEST
    SMALLEST
    LOG_SUM

ctypedef fused item:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double

# One tile: rows along the dimension, `lanes` lines; x and o are rows x lanes, dense.  state and index carry over.
ctypedef void (*scan_loop)(int kind, const void *x, void *o, int64_t *index_out, void *state, int64_t *index,
                           Py_ssize_t rows, Py_ssize_t lanes, int64_t first, int64_t step) noexcept nogil

cdef struct side:
    fx_array *array
    char *data
    Py_ssize_t along           # stride of the dimension, in the direction of the scan
    Py_ssize_t stride[64]      # of the others, innermost first
    fx_loop cast
    int size

cdef struct scan_plan:
    scan_loop loop
    int kind, sides, ndim, loop_size
    Py_ssize_t n, lanes
    int64_t first, step        # indices run from `first` by `step`
    Py_ssize_t dims[64]
    Py_ssize_t groups          # of lanes along dims[0]
    side x, out, index


cdef inline bint _takes_over(item v, item best, int kind) noexcept nogil:
    if item is float or item is double:
        if v != v:
            return True
    # False where best is NaN.
    return v >= best if kind == LARGEST else v <= best


cdef void _running(int kind, const item *x, item *o, int64_t *index_out, void *state_, int64_t *index,
                   Py_ssize_t rows, Py_ssize_t lanes, int64_t first, int64_t step) noexcept nogil:
    cdef Py_ssize_t r, c
    cdef double *total = <double *> state_
    cdef int64_t *whole = <int64_t *> state_
    cdef item *best = <item *> state_
    cdef item v
    cdef double a, b
    if kind == SUM or kind == PRODUCT:
        if item is float or item is double:
            for r in range(rows):
                if kind == SUM:
                    for c in range(lanes):
                        total[c] += x[r * lanes + c]
                        o[r * lanes + c] = <item> total[c]
                else:
                    for c in range(lanes):
                        total[c] *= x[r * lanes + c]
                        o[r * lanes + c] = <item> total[c]
        else:
            for r in range(rows):
                if kind == SUM:
                    for c in range(lanes):
                        whole[c] += x[r * lanes + c]
                        o[r * lanes + c] = <item> whole[c]
                else:
                    for c in range(lanes):
                        whole[c] *= x[r * lanes + c]
                        o[r * lanes + c] = <item> whole[c]
    elif kind == LOG_SUM:
        if item is float or item is double:
            for r in range(rows):
                for c in range(lanes):
                    a = total[c]
                    b = x[r * lanes + c]
                    if a < b:
                        a, b = b, a
                    # Equal infinities, and NaN, go through the sum.
                    total[c] = a + log1p(exp(b - a)) if a != b and fabs(a) < INFINITY else _equal(a, b)
                    o[r * lanes + c] = <item> total[c]
    else:
        # PyTorch's ties: the later of two equal values; NaN stays once it came, the latest of several.
        for r in range(rows):
            for c in range(lanes):
                v = x[r * lanes + c]
                if index[c] < 0 or _takes_over(v, best[c], kind):
                    best[c] = v
                    index[c] = first + r * step
                o[r * lanes + c] = best[c]
                index_out[r * lanes + c] = index[c]


cdef inline double _equal(double a, double b) noexcept nogil:
    """log(exp(a) + exp(b)) of equal, infinite or NaN operands, a the larger."""
    if a != a or b != b:
        return a + b
    if a == b and fabs(a) < INFINITY:
        return a + 0.6931471805599453
    return a


cdef void _fetch(scan_plan *plan, side *s, char *at, void *to, char *raw, Py_ssize_t rows,
                 Py_ssize_t lanes) noexcept nogil:
    if s.cast == NULL:
        move_tile(to, lanes, 1, at, s.along, s.stride[0], rows, lanes, s.size)
    else:
        move_tile(raw, lanes, 1, at, s.along, s.stride[0], rows, lanes, s.size)
        s.cast(to, raw, NULL, NULL, NULL, rows * lanes)


cdef void _put(side *s, char *at, void *values, char *raw, Py_ssize_t rows, Py_ssize_t lanes) noexcept nogil:
    if s.cast != NULL:
        s.cast(raw, values, NULL, NULL, NULL, rows * lanes)
        values = raw
    move_tile(at, s.along, s.stride[0], values, lanes, 1, rows, lanes, s.size)


cdef void _group(scan_plan *plan, Py_ssize_t group) noexcept nogil:
    cdef double[TILE] x, o, raw
    cdef int64_t[TILE] indices
    cdef int64_t[LANES] index
    cdef double[LANES] state
    cdef Py_ssize_t begin = group % plan.groups * plan.lanes, rest = group // plan.groups, k, r, rows
    cdef Py_ssize_t lanes = min(plan.lanes, plan.dims[0] - begin)
    cdef char *from_ = plan.x.data + begin * plan.x.stride[0] * plan.x.size
    cdef char *to = plan.out.data + begin * plan.out.stride[0] * plan.out.size
    cdef char *where = NULL
    cdef int d
    if plan.sides == 3:
        where = plan.index.data + begin * plan.index.stride[0] * plan.index.size
    for d in range(1, plan.ndim):
        k = rest % plan.dims[d]
        rest = rest // plan.dims[d]
        from_ += k * plan.x.stride[d] * plan.x.size
        to += k * plan.out.stride[d] * plan.out.size
        if plan.sides == 3:
            where += k * plan.index.stride[d] * plan.index.size
    for r in range(lanes):
        index[r] = -1
        if plan.kind == LOG_SUM:
            state[r] = -INFINITY
        elif plan.loop == <scan_loop> _running[float] or plan.loop == <scan_loop> _running[double]:
            state[r] = 1 if plan.kind == PRODUCT else 0
        else:
            (<int64_t *> state)[r] = 1 if plan.kind == PRODUCT else 0
    r = 0
    while r < plan.n:
        rows = min(TILE // lanes, plan.n - r)
        _fetch(plan, &plan.x, from_ + r * plan.x.along * plan.x.size, x, <char *> raw, rows, lanes)
        plan.loop(plan.kind, x, o, indices, state, index, rows, lanes, plan.first + r * plan.step, plan.step)
        _put(&plan.out, to + r * plan.out.along * plan.out.size, o, <char *> raw, rows, lanes)
        if plan.sides == 3:
            _put(&plan.index, where + r * plan.index.along * plan.index.size, indices, <char *> raw, rows, lanes)
        r += rows


cdef void _run(scan_plan *plan, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t group
    for group in range(first, last):
        _group(plan, group)


cdef scan_loop _loop_of(int dtype) noexcept nogil:
    if dtype == FX_BOOL or dtype == FX_U8:
        return <scan_loop> _running[uint8_t]
    if dtype == FX_I8:
        return <scan_loop> _running[int8_t]
    if dtype == FX_I16:
        return <scan_loop> _running[int16_t]
    if dtype == FX_I32:
        return <scan_loop> _running[int32_t]
    if dtype == FX_I64:
        return <scan_loop> _running[int64_t]
    if dtype == FX_F32:
        return <scan_loop> _running[float]
    if dtype == FX_F64:
        return <scan_loop> _running[double]
    return NULL


cdef int _side(scan_plan *plan, side *s, fx_array *array, int dtype, bint input, int dim, bint reverse) noexcept nogil:
    """Strides of one array: the scanned dimension apart, the others innermost first.  False where there is no cast."""
    cdef int d, k = 0
    s.array = array
    s.data = <char *> array.data
    s.size = fx_itemsize(array.dtype)
    s.cast = NULL
    if array.dtype != dtype:
        s.cast = casts[dtype][array.dtype] if input else casts[array.dtype][dtype]
        if s.cast == NULL:
            return False
    s.along = array.dims[array.ndim + dim] if array.ndim else 0
    if reverse:
        s.data += (plan.n - 1) * s.along * s.size
        s.along = -s.along
    s.stride[0] = 0
    for d in range(array.ndim - 1, -1, -1):
        if d != dim and array.dims[d] != 1:
            s.stride[k] = array.dims[array.ndim + d]
            k += 1
    return True


cdef void _bring_forward(scan_plan *plan, int d) noexcept nogil:
    plan.dims[0], plan.dims[d] = plan.dims[d], plan.dims[0]
    plan.x.stride[0], plan.x.stride[d] = plan.x.stride[d], plan.x.stride[0]
    plan.out.stride[0], plan.out.stride[d] = plan.out.stride[d], plan.out.stride[0]
    if plan.sides == 3:
        plan.index.stride[0], plan.index.stride[d] = plan.index.stride[d], plan.index.stride[0]


cdef int _scan(fx_call *call, int kind) noexcept nogil:
    cdef scan_plan plan
    cdef fx_array *x = call.arrays[call.n_out]
    cdef int dtype = call.dtype, dim = <int> call.params[0].i, d, dense = 0, threads = 1, t
    cdef bint reverse = call.n_params > 1 and call.params[1].i != 0
    cdef Py_ssize_t units = 1
    if fx_is_half(dtype):
        dtype = FX_F32
    plan.loop = _loop_of(dtype)
    if plan.loop == NULL:
        snprintf(call.message, sizeof(call.message), "not defined for %s", fx_dtype_name(call.dtype))
        return FX_ERROR_TYPE
    if kind == LOG_SUM and fx_is_whole(dtype):
        snprintf(call.message, sizeof(call.message), "not defined for integers")
        return FX_ERROR_TYPE
    if x.numel == 0:
        return FX_OK
    plan.kind = kind
    plan.sides = call.n_out + 1
    plan.n = x.dims[dim] if x.ndim else 1
    plan.first = plan.n - 1 if reverse else 0
    plan.step = -1 if reverse else 1
    plan.ndim = 0
    plan.dims[0] = 1
    for d in range(x.ndim - 1, -1, -1):
        if d != dim and x.dims[d] != 1:
            plan.dims[plan.ndim] = x.dims[d]
            plan.ndim += 1
    if not _side(&plan, &plan.x, x, dtype, True, dim, reverse) or \
            not _side(&plan, &plan.out, call.arrays[0], dtype, False, dim, reverse) or \
            (plan.sides == 3 and not _side(&plan, &plan.index, call.arrays[1], FX_I64, False, dim, reverse)):
        snprintf(call.message, sizeof(call.message), "no cast between these dtypes")
        return FX_ERROR_TYPE
    for d in range(1, plan.ndim):
        if llabs(plan.x.stride[d]) < llabs(plan.x.stride[dense]):
            dense = d
    if dense:
        _bring_forward(&plan, dense)
    plan.lanes = min(<Py_ssize_t> LANES, plan.dims[0])
    plan.groups = (plan.dims[0] + plan.lanes - 1) // plan.lanes
    units = plan.groups
    for d in range(1, plan.ndim):
        units *= plan.dims[d]
    if x.numel >= PARALLEL_MIN:
        threads = <int> min(<Py_ssize_t> num_threads, min(units, x.numel // (PARALLEL_MIN // 2)))
    if threads <= 1:
        _run(&plan, 0, units)
    else:
        for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            _run(&plan, units * t // threads, units * (t + 1) // threads)
    return FX_OK


cdef int cumsum(fx_call *call) noexcept nogil:
    return _scan(call, SUM)


cdef int cumprod(fx_call *call) noexcept nogil:
    return _scan(call, PRODUCT)


cdef int cummax(fx_call *call) noexcept nogil:
    return _scan(call, LARGEST)


cdef int cummin(fx_call *call) noexcept nogil:
    return _scan(call, SMALLEST)


cdef int logcumsumexp(fx_call *call) noexcept nogil:
    return _scan(call, LOG_SUM)


provide(FX_CPU, "cumsum", cumsum, "scan | out T | x any | dim i, reverse i")
provide(FX_CPU, "cumprod", cumprod, "scan | out T | x any | dim i, reverse i")
provide(FX_CPU, "cummax", cummax, "scan | values T, indices int64 | x T | dim i, reverse i")
provide(FX_CPU, "cummin", cummin, "scan | values T, indices int64 | x T | dim i, reverse i")
provide(FX_CPU, "logcumsumexp", logcumsumexp, "scan | out T | x any | dim i, reverse i")
