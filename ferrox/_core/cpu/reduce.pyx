"""Reductions: a driver that brings any layout to the two forms that fx/reduce.h has loops for.

Arrays: out (contiguous, row-major over the kept dimensions), in.  params[0].i is the bit mask of the reduced ones.

sum, nansum            params[1].f a factor (mean: 1/n), taken where the arithmetic is floating; absent means 1
prod, amax, amin, all, any, count_nonzero, logsumexp
sum_squares            of absolute values
norm                   params[1].f the order p
argmax, argmin         out int64; one dimension, or all of them in row-major order
max_dim, min_dim       outs: values, indices; as argmax
var                    outs: var, mean (may be absent); params[1].f the correction, params[2].i 1: standard deviation

Rows (the reduced dimension is dense, or nothing is kept) are folded one state at a time; columns (a kept dimension is
denser, or rows are short) many states at a time.  Few outputs of many items are cut into chunks whose states are
combined in a tree.  Chunks depend on the shape alone: every number of threads gives the same bits.
"""
from cython.parallel cimport prange
from libc.math cimport INFINITY, fabs, log, pow, sqrt
from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, llabs, malloc

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F32, FX_F64, FX_I64, FX_OK, \
    fx_array, fx_call, fx_is_floating, fx_is_half, fx_is_whole, fx_itemsize
from ferrox._core.door.backend cimport MAX_KERNELS, kernel_id, provide
from ferrox._core.cpu.blocks cimport PARALLEL_MIN, move_tile
from ferrox._core.cpu.table cimport casts, fx_loop
from ferrox._core.door.threads cimport num_threads

cdef enum:
    COLUMNS = 1024        # states of one unit of work
    GATHER = 2048         # items gathered at a time
    CHUNK = 1 << 16       # items of a chunk, at least
    FEW = 16              # units of work below which the reduced dimensions are cut into chunks
    SHORT = 32            # rows shorter than this are folded as columns
    NARROW = 128          # fewer columns than this are folded several rows side by side

# The states of a unit of work: two cells of eight bytes each.
ctypedef double[COLUMNS] cells

cdef struct reduce_plan:
    fx_reduce_entry loops
    fx_loop cast
    const double *p
    int finish, size, loop_size
    bint floating, by_columns
    char *data
    int n_kept, n_reduced
    Py_ssize_t kept[64]          # innermost first; by columns, the columns are dimension 0
    Py_ssize_t kept_step[64]     # strides of the input, in items
    Py_ssize_t out_step[64]
    Py_ssize_t reduced[64]
    Py_ssize_t step[64]
    Py_ssize_t outer             # units along the kept dimensions
    Py_ssize_t block             # states of a unit
    Py_ssize_t blocks            # units along dimension 0
    Py_ssize_t count             # items of one output
    Py_ssize_t chunks, chunk     # of the outermost reduced dimension
    Py_ssize_t chunk_items       # items of a chunk
    fx_array *out
    fx_array *second
    double factor, correction
    bint root


cdef void _start(reduce_plan *plan, double *a, double *b, Py_ssize_t n) noexcept nogil:
    """The states of no items."""
    cdef Py_ssize_t i
    for i in range(n):
        (<int64_t *> a)[i] = plan.loops.start[0]
    if plan.loops.cells > 1:
        for i in range(n):
            (<int64_t *> b)[i] = plan.loops.start[1]


cdef void _row(reduce_plan *plan, double *state, char *data, Py_ssize_t first, Py_ssize_t last, char *scratch,
               char *raw) noexcept nogil:
    """One output: items first to last of the outermost reduced dimension, all of the others."""
    cdef Py_ssize_t[64] index
    cdef Py_ssize_t done = 0, n, m, i, r, rows, high, lo = 0, step = plan.step[0]
    cdef int d, top = plan.n_reduced - 1
    cdef bint direct = step == 1 and plan.cast == NULL
    n = plan.reduced[0]
    if top == 0:
        lo = first
        n = last - first
    # Two dimensions at a time where the inner one is short.
    rows = 1
    if top > 0 and n < 256:
        rows = GATHER // n
        direct = False
    for d in range(1, top + 1):
        index[d] = first if d == top else 0
    if top > 0:
        data += first * plan.step[top] * plan.size
    data += lo * step * plan.size
    while True:
        if direct:
            plan.loops.row(state, data, n, done, plan.p)
            done += n
        elif rows == 1:
            i = 0
            while i < n:
                m = min(<Py_ssize_t> GATHER, n - i)
                _gather(plan, scratch, raw, data + i * step * plan.size, 0, step, 1, m)
                plan.loops.row(state, scratch, m, done, plan.p)
                i += m
                done += m
        else:
            high = last if top == 1 else plan.reduced[1]
            r = min(rows, high - index[1])
            _gather(plan, scratch, raw, data, plan.step[1], step, r, n)
            plan.loops.row(state, scratch, r * n, done, plan.p)
            done += r * n
            index[1] += r - 1
            data += (r - 1) * plan.step[1] * plan.size
        for d in range(1, top + 1):
            index[d] += 1
            data += plan.step[d] * plan.size
            high = last if d == top else plan.reduced[d]
            if index[d] < high:
                break
            if d == top:
                return
            data -= plan.reduced[d] * plan.step[d] * plan.size
            index[d] = 0
        else:
            return


cdef inline void _gather(reduce_plan *plan, char *scratch, char *raw, char *data, Py_ssize_t rs, Py_ssize_t cs,
                         Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    """rows x cols items, at most GATHER, into scratch in the dtype of the loops."""
    if plan.cast == NULL:
        move_tile(scratch, cols, 1, data, rs, cs, rows, cols, plan.size)
    elif cs == 1 and rows == 1:
        plan.cast(scratch, data, NULL, NULL, NULL, cols)
    else:
        move_tile(raw, cols, 1, data, rs, cs, rows, cols, plan.size)
        plan.cast(scratch, raw, NULL, NULL, NULL, rows * cols)


cdef void _fold_rows(reduce_plan *plan, double *a, double *b, char *data, Py_ssize_t rows, Py_ssize_t cols,
                     Py_ssize_t done, char *scratch, char *raw) noexcept nogil:
    """A run of rows along the innermost reduced dimension."""
    cdef cells wide_a, wide_b
    cdef Py_ssize_t r, m, side, per
    cdef Py_ssize_t rs = plan.step[0], cs = plan.kept_step[0]
    if cs != 1 or plan.cast != NULL:
        m = max(<Py_ssize_t> 1, GATHER // cols)
        r = 0
        while r < rows:
            m = min(m, rows - r)
            _gather(plan, scratch, raw, data + r * rs * plan.size, rs, cs, m, cols)
            plan.loops.fold(a, b, scratch, cols, m, cols, done + r, plan.p)
            r += m
        return
    if rs == cols and cols < NARROW and not plan.loops.ordered:
        # Narrow dense rows: `side` of them make one wide row, whose states are combined in a tree.
        side = 2
        while 2 * side * cols <= 512:
            side *= 2
        per = rows // side
        if per >= 4:
            _start(plan, wide_a, wide_b, side * cols)
            plan.loops.fold(wide_a, wide_b, data, side * cols, per, side * cols, 0, plan.p)
            data += side * per * cols * plan.size
            rows -= side * per
            while side > 1:
                side //= 2
                m = side * cols
                plan.loops.combine(wide_a, wide_b, wide_a + m, wide_b + m, m, per, per)
                per *= 2
            plan.loops.combine(a, b, wide_a, wide_b, cols, done, per)
            done += per
    plan.loops.fold(a, b, data, rs, rows, cols, done, plan.p)


cdef void _columns(reduce_plan *plan, double *a, double *b, char *data, Py_ssize_t cols, Py_ssize_t first,
                   Py_ssize_t last, char *scratch, char *raw) noexcept nogil:
    cdef Py_ssize_t[64] index
    cdef Py_ssize_t done = 0, rows = plan.reduced[0], high
    cdef int d, top = plan.n_reduced - 1
    if top == 0:
        rows = last - first
    data += first * plan.step[top] * plan.size
    for d in range(1, top + 1):
        index[d] = first if d == top else 0
    while True:
        _fold_rows(plan, a, b, data, rows, cols, done, scratch, raw)
        done += rows
        for d in range(1, top + 1):
            index[d] += 1
            data += plan.step[d] * plan.size
            high = last if d == top else plan.reduced[d]
            if index[d] < high:
                break
            if d == top:
                return
            data -= plan.reduced[d] * plan.step[d] * plan.size
            index[d] = 0
        else:
            return


cdef Py_ssize_t _place(reduce_plan *plan, Py_ssize_t unit, Py_ssize_t *offset, Py_ssize_t *out) noexcept nogil:
    """Where the states of a unit lie in the input and the output; how many they are."""
    cdef Py_ssize_t block = unit % plan.blocks, rest = unit // plan.blocks
    cdef Py_ssize_t begin = block * plan.block
    cdef int d
    offset[0] = begin * plan.kept_step[0]
    out[0] = begin * plan.out_step[0]
    for d in range(1, plan.n_kept):
        offset[0] += rest % plan.kept[d] * plan.kept_step[d]
        out[0] += rest % plan.kept[d] * plan.out_step[d]
        rest = rest // plan.kept[d]
    return min(plan.block, plan.kept[0] - begin)


cdef void _unit(reduce_plan *plan, Py_ssize_t unit, Py_ssize_t chunk, double *a, double *b, char *scratch,
                char *raw) noexcept nogil:
    cdef Py_ssize_t offset, out, n, i, first = chunk * plan.chunk
    cdef Py_ssize_t last = min(first + plan.chunk, plan.reduced[plan.n_reduced - 1])
    cdef double[2] state
    n = _place(plan, unit, &offset, &out)
    _start(plan, a, b, n)
    if plan.count == 0:
        return
    if plan.by_columns:
        _columns(plan, a, b, plan.data + offset * plan.size, n, first, last, scratch, raw)
        return
    for i in range(n):
        state[0] = a[i]
        state[1] = b[i]
        _row(plan, state, plan.data + (offset + i * plan.kept_step[0]) * plan.size, first, last, scratch, raw)
        a[i] = state[0]
        b[i] = state[1]


# ---- results ---------------------------------------------------------------------------------------------------------

cdef void _store(fx_array *out, Py_ssize_t at, Py_ssize_t step, const void *values, bint floating,
                 Py_ssize_t n) noexcept nogil:
    cdef int source = FX_F64 if floating else FX_I64, size = fx_itemsize(out.dtype)
    cdef cells stored
    if out.dtype != source:
        if n == 1:
            casts[out.dtype][source](<char *> out.data + at * size, <void *> values, NULL, NULL, NULL, 1)
            return
        casts[out.dtype][source](stored, <void *> values, NULL, NULL, NULL, n)
        values = stored
    move_tile(<char *> out.data + at * size, 0, step, values, 0, 1, 1, n, size)


cdef void _finish(reduce_plan *plan, Py_ssize_t unit, double *a, double *b) noexcept nogil:
    """From states to results, and out."""
    cdef Py_ssize_t offset, at, i, n = _place(plan, unit, &offset, &at)
    cdef Py_ssize_t step = plan.out_step[0]
    cdef int64_t *whole = <int64_t *> a
    cdef double order = plan.factor, degrees
    cdef bint floating = plan.floating
    cdef int how = plan.finish
    if how == FX_FINISH_INDEX:
        _store(plan.out, at, step, b, False, n)
        return
    if how == FX_FINISH_WITH_INDEX:
        _store(plan.second, at, step, b, False, n)
    elif how == FX_FINISH_SCALE:
        if floating and order != 1:
            for i in range(n):
                a[i] *= order
    elif how == FX_FINISH_ALL:
        for i in range(n):
            whole[i] = whole[i] == plan.count
    elif how == FX_FINISH_ANY:
        for i in range(n):
            whole[i] = whole[i] != 0
    elif how == FX_FINISH_ROOT:
        for i in range(n):
            a[i] = sqrt(a[i])
    elif how == FX_FINISH_POWER:
        for i in range(n):
            a[i] = pow(a[i], 1 / order)
    elif how == FX_FINISH_LOG:
        for i in range(n):
            # A maximum that is infinite or NaN was not subtracted.
            a[i] = log(b[i]) + (a[i] if fabs(a[i]) < INFINITY else 0)
    elif how == FX_FINISH_DEVIATION:
        degrees = plan.count - plan.correction
        if degrees < 0:
            degrees = 0
        for i in range(n):
            if plan.count == 0:
                a[i] = b[i] = INFINITY - INFINITY
            b[i] /= degrees
            if plan.root:
                b[i] = sqrt(b[i])
        _store(plan.out, at, step, b, True, n)
        if plan.second != NULL:
            _store(plan.second, at, step, a, True, n)
        return
    _store(plan.out, at, step, a, floating, n)


cdef void _run(reduce_plan *plan, Py_ssize_t first, Py_ssize_t last, double *partial) noexcept nogil:
    """Tasks first to last: units, or with chunks (unit, chunk) pairs whose states go to `partial`."""
    cdef double[GATHER] scratch, raw
    cdef cells a, b
    cdef Py_ssize_t task
    for task in range(first, last):
        if partial == NULL:
            _unit(plan, task, 0, a, b, <char *> scratch, <char *> raw)
            _finish(plan, task, a, b)
        else:
            _unit(plan, task // plan.chunks, task % plan.chunks, partial + 2 * task * plan.block,
                  partial + (2 * task + 1) * plan.block, <char *> scratch, <char *> raw)


cdef void _combine(reduce_plan *plan, double *partial, Py_ssize_t unit) noexcept nogil:
    """The chunks of a unit in a tree over neighbours, which keeps their order."""
    cdef Py_ssize_t i, stride = 1, offset, out, n = _place(plan, unit, &offset, &out)
    cdef double *base = partial + 2 * unit * plan.chunks * plan.block
    cdef double *left
    cdef double *right
    while stride < plan.chunks:
        i = 0
        while i + stride < plan.chunks:
            left = base + 2 * i * plan.block
            right = base + 2 * (i + stride) * plan.block
            plan.loops.combine(left, left + plan.block, right, right + plan.block, n, stride * plan.chunk_items,
                               min(stride * plan.chunk_items, plan.count - (i + stride) * plan.chunk_items))
            i += 2 * stride
        stride *= 2
    _finish(plan, unit, base, base + plan.block)


# ---- plans -----------------------------------------------------------------------------------------------------------

cdef void _swap(Py_ssize_t *x, int i, int j) noexcept nogil:
    x[i], x[j] = x[j], x[i]


cdef void _dimensions(reduce_plan *plan, fx_array *x, int64_t mask) noexcept nogil:
    """Kept and reduced dimensions, innermost first, merged where they are one."""
    cdef int d, e, last
    cdef int64_t n, step
    cdef Py_ssize_t out = 1
    plan.n_kept = plan.n_reduced = 0
    for d in range(x.ndim - 1, -1, -1):
        n = x.dims[d]
        step = x.dims[x.ndim + d]
        if mask >> d & 1:
            if n == 1:
                continue
            last = plan.n_reduced
            plan.reduced[last] = n
            plan.step[last] = step
            plan.n_reduced += 1
        else:
            if n == 1:
                continue
            last = plan.n_kept
            if last > 0 and step == plan.kept[last - 1] * plan.kept_step[last - 1]:
                plan.kept[last - 1] *= n
            else:
                plan.kept[last] = n
                plan.kept_step[last] = step
                plan.out_step[last] = out
                plan.n_kept += 1
            out *= n
    if not plan.loops.ordered:
        # The order of the items does not matter: by rising stride, all strides positive.
        for d in range(plan.n_reduced):
            if plan.step[d] < 0:
                plan.data += (plan.reduced[d] - 1) * plan.step[d] * plan.size
                plan.step[d] = -plan.step[d]
        for d in range(1, plan.n_reduced):
            e = d
            while e > 0 and plan.step[e] < plan.step[e - 1]:
                _swap(plan.reduced, e, e - 1)
                _swap(plan.step, e, e - 1)
                e -= 1
    e = 0
    for d in range(1, plan.n_reduced):
        if plan.step[d] == plan.reduced[e] * plan.step[e]:
            plan.reduced[e] *= plan.reduced[d]
        else:
            e += 1
            plan.reduced[e] = plan.reduced[d]
            plan.step[e] = plan.step[d]
    if plan.n_reduced == 0:
        plan.reduced[0] = plan.step[0] = 1
    if plan.n_kept == 0:
        plan.kept[0] = 1
        plan.kept_step[0] = plan.out_step[0] = 0
        plan.n_kept = 1
    plan.n_reduced = e + 1


cdef void _choose(reduce_plan *plan) noexcept nogil:
    """Rows or columns, the units of work, and the chunks."""
    cdef int d, dense = 0
    cdef Py_ssize_t outputs = 1, per_unit, unit_items, longest
    for d in range(plan.n_kept):
        outputs *= plan.kept[d]
        if llabs(plan.kept_step[d]) < llabs(plan.kept_step[dense]) and plan.kept[d] >= 4:
            dense = d
    plan.by_columns = plan.kept[dense] >= 4 and (
        llabs(plan.kept_step[dense]) < llabs(plan.step[0]) or plan.reduced[0] < SHORT)
    plan.count = 1
    for d in range(plan.n_reduced):
        plan.count *= plan.reduced[d]
    if plan.by_columns:
        if dense:
            _swap(plan.kept, 0, dense)
            _swap(plan.kept_step, 0, dense)
            _swap(plan.out_step, 0, dense)
        plan.block = COLUMNS
        if plan.kept_step[0] != 1 or plan.cast != NULL:
            plan.block = max(<Py_ssize_t> 64, min(<Py_ssize_t> COLUMNS, GATHER // max(<Py_ssize_t> 1, plan.reduced[0])))
    else:
        # Enough states to make a unit worth its start, few enough to share the units out.
        plan.block = max(<Py_ssize_t> 1, min(<Py_ssize_t> 256, CHUNK // (4 * max(<Py_ssize_t> 1, plan.count))))
    plan.block = min(plan.block, plan.kept[0])
    plan.blocks = (plan.kept[0] + plan.block - 1) // plan.block
    plan.outer = outputs // plan.kept[0]
    longest = plan.reduced[plan.n_reduced - 1]
    per_unit = plan.count // max(<Py_ssize_t> 1, longest)
    unit_items = per_unit * plan.block
    plan.chunk = longest
    if plan.blocks * plan.outer < FEW and plan.count * plan.block >= 2 * CHUNK:
        plan.chunk = max(<Py_ssize_t> 1, CHUNK // unit_items)
    plan.chunks = (longest + plan.chunk - 1) // plan.chunk if plan.chunk else 1
    plan.chunk_items = plan.chunk * per_unit


cdef void _whole(reduce_plan *plan, const void *data, Py_ssize_t n) noexcept nogil:
    """One output of n adjacent items: what a plan would come to, without making one."""
    cdef double[2] state
    plan.n_kept = 1
    plan.kept[0] = plan.block = plan.blocks = 1
    plan.kept_step[0] = plan.out_step[0] = 0
    plan.count = n
    _start(plan, state, state + 1, 1)
    plan.loops.row(state, data, n, 0, plan.p)
    _finish(plan, 0, state, state + 1)


cdef int _reduce(fx_call *call, int reduction, int how) noexcept nogil:
    cdef reduce_plan plan
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[call.n_out]
    cdef int dtype = call.dtype, threads = 1, t
    cdef Py_ssize_t tasks, unit
    cdef double *partial = NULL
    if fx_is_half(dtype):
        dtype = FX_F32
    if fx_is_whole(dtype) and fx_is_whole(x.dtype):
        dtype = x.dtype  # states of integers are int64, so that a wider dtype of the arithmetic needs no cast
    plan.loops = reducers[reduction][dtype]
    plan.cast = NULL
    if x.dtype != dtype:
        plan.cast = casts[dtype][x.dtype]
    if plan.loops.row == NULL or x.dtype != dtype and plan.cast == NULL:
        snprintf(call.message, sizeof(call.message), "not defined for this dtype")
        return FX_ERROR_TYPE
    if out.numel == 0:
        return FX_OK
    plan.finish = how
    plan.floating = fx_is_floating(dtype) and not plan.loops.whole
    plan.size = fx_itemsize(x.dtype)
    plan.loop_size = fx_itemsize(dtype)
    plan.data = <char *> x.data
    plan.out = out
    plan.second = call.arrays[1] if call.n_out > 1 else NULL
    plan.p = <const double *> (call.params + 1) if call.n_params > 1 else NULL
    plan.factor = call.params[1].f if call.n_params > 1 else 1
    plan.correction = plan.factor
    plan.root = call.n_params > 2 and call.params[2].i != 0
    if out.numel == 1 and x.flags & FX_CONTIGUOUS and plan.cast == NULL and 0 < x.numel < 2 * CHUNK:
        _whole(&plan, x.data, x.numel)
        return FX_OK
    _dimensions(&plan, x, call.params[0].i)
    _choose(&plan)
    tasks = plan.blocks * plan.outer * plan.chunks
    if plan.chunks > 1:
        partial = <double *> malloc(2 * tasks * plan.block * sizeof(double))
        if partial == NULL:
            return FX_ERROR_MEMORY
    if x.numel >= PARALLEL_MIN:
        threads = <int> min(<Py_ssize_t> num_threads, min(tasks, x.numel // (PARALLEL_MIN // 2)))
    if threads <= 1:
        _run(&plan, 0, tasks, partial)
    else:
        for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            _run(&plan, tasks * t // threads, tasks * (t + 1) // threads, partial)
    if partial != NULL:
        for unit in range(plan.blocks * plan.outer):
            _combine(&plan, partial, unit)
        free(partial)
    return FX_OK


cdef int reduce_(fx_call *call) noexcept nogil:
    cdef int reduction = reduction_of[call.kernel]
    if reduction == FX_REDUCE_nansum and fx_is_whole(call.dtype):
        reduction = FX_REDUCE_sum  # an integer is never NaN
    return _reduce(call, reduction, finish_of[call.kernel])


cdef int norm(fx_call *call) noexcept nogil:
    cdef double order = call.params[1].f
    if order == 0:
        return _reduce(call, FX_REDUCE_count, FX_FINISH_PLAIN)
    if order == 1:
        return _reduce(call, FX_REDUCE_sum_abs, FX_FINISH_PLAIN)
    if order == 2:
        return _reduce(call, FX_REDUCE_sum_squares, FX_FINISH_ROOT)
    if order == INFINITY:
        return _reduce(call, FX_REDUCE_max_abs, FX_FINISH_PLAIN)
    if order == -INFINITY:
        return _reduce(call, FX_REDUCE_min_abs, FX_FINISH_PLAIN)
    return _reduce(call, FX_REDUCE_sum_powers, FX_FINISH_POWER)


cdef uint8_t[MAX_KERNELS] reduction_of, finish_of


cdef int _provide() except -1:
    """The kernels that fx/reductions.h names."""
    cdef const fx_reduce_kernel *line = fx_reduce_kernels
    while line.name != NULL:
        if line.finish != FX_FINISH_HIDDEN:
            name = line.name.decode()
            reduction_of[kernel_id(name)] = line.reduction
            finish_of[kernel_id(name)] = line.finish
            if line.reduction == FX_REDUCE_sum_powers:
                provide(FX_CPU, name, norm, "reduction | out any | x any | mask i, p f, unused i")
            else:
                provide(FX_CPU, name, reduce_,
                        "reduction | out any, second any? | x any | mask i, parameter f, flag i")
        line += 1
    return 0


_provide()
