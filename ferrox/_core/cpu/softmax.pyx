"""Softmax and log-softmax along one dimension, and their gradients.

softmax, log_softmax:                    y | x       dim i
softmax_backward, log_softmax_backward:  dx | g, y   dim i

Along the last dimension a row at a time; along another one in tiles of neighbouring columns, vectorised across them.
Short rows are transposed into such tiles.  A row whose elements are all -inf gives NaN.
"""
from libc.math cimport INFINITY

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_F32, FX_F64, FX_OK, fx_array, fx_call
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport dot_row, exp, exp_down, exp_row, exp_sum, log, real, row_max, row_sum
from ferrox._core.cpu.rows cimport STREAM_BYTES, deliver, int64_t, load_columns, load_row, over_rows, row_start, \
    row_worker, store_columns, stream_add, stream_close, stream_open, streamer, target

cdef enum:
    TILE = 64     # columns of a tile
    BLOCK = 512   # elements on their way past the cache
    SHORT_ROW = 32

cdef struct softmax_task:
    fx_array *o
    fx_array *x       # of a gradient: g
    fx_array *y
    int dim
    bint log
    bint streamed
    int64_t n
    int64_t inner


cdef void softmax_rows(softmax_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t n = t.n, r, i, j, w, start, stride = t.x.dims[t.x.ndim + t.dim] if t.x.ndim else 1
    cdef const real *x
    cdef real *y
    cdef real block[BLOCK]
    cdef real top, factor
    cdef double total
    cdef streamer out
    if t.streamed:
        stream_open(&out, <real *> t.o.data + begin * n)
    for r in range(begin, end):
        x = load_row(t.x.data, t.x.dtype, row_start(t.x, r, t.dim, n, t.inner), stride, n, scratch)
        start = row_start(t.o, r, t.dim, n, t.inner)
        y = target(t.o, t.streamed, t.inner, start, scratch + n)
        top = row_max(x, n)
        if t.log:
            total = exp_sum(x, top, n)
            factor = <real> log(total)
        else:
            total = exp_row(x, top, y, n)
            factor = <real> (1 / total)
        if not t.streamed:
            if t.log:
                for i in range(n):
                    y[i] = x[i] - top - factor
            else:
                for i in range(n):
                    y[i] *= factor
            deliver(t.o, t.streamed, t.inner, start, y, n)
            continue
        i = 0
        while i < n:
            w = n - i if n - i < BLOCK else BLOCK
            if t.log:
                for j in range(w):
                    block[j] = x[i + j] - top - factor
            else:
                for j in range(w):
                    block[j] = y[i + j] * factor
            stream_add(&out, block, w * sizeof(real))
            i += w
    if t.streamed:
        stream_close(&out)


cdef inline void forward_tile(const real *x, real *y, int64_t n, int64_t step, int64_t w, bint log_y) noexcept nogil:
    """w neighbouring columns, their elements `step` apart; w <= TILE."""
    cdef real top[TILE]
    cdef real s[TILE]
    cdef real e
    cdef int64_t k, j, row
    for j in range(w):
        top[j] = -INFINITY
        s[j] = 0
    for k in range(n):
        row = k * step
        for j in range(w):
            top[j] = x[row + j] if x[row + j] > top[j] else top[j]
    for k in range(n):
        row = k * step
        if log_y:
            for j in range(w):
                s[j] += exp_down(x[row + j] - top[j])
        else:
            for j in range(w):
                e = exp_down(x[row + j] - top[j])
                y[row + j] = e
                s[j] += e
    if log_y:
        for j in range(w):
            s[j] = log(s[j])
    else:
        for j in range(w):
            s[j] = 1 / s[j]
    for k in range(n):
        row = k * step
        if log_y:
            for j in range(w):
                y[row + j] = x[row + j] - top[j] - s[j]
        else:
            for j in range(w):
                y[row + j] *= s[j]


cdef void softmax_columns(softmax_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    """Tiles of columns: tile number q lies in outer slice q // tiles."""
    cdef int64_t inner = t.inner, tiles = (inner + TILE - 1) // TILE, q, w, first
    for q in range(begin, end):
        first = q // tiles * t.n * inner + q % tiles * TILE
        w = inner - q % tiles * TILE
        w = TILE if w > TILE else w
        forward_tile(<const real *> t.x.data + first, <real *> t.o.data + first, t.n, inner, w, t.log)


cdef void softmax_short(softmax_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    """Short rows, TILE of them transposed into columns."""
    cdef int64_t q, n = t.n, rows = t.o.numel // n, w
    cdef real *x = scratch + n
    cdef real *y = x + n * TILE
    for q in range(begin, end):
        w = rows - q * TILE if rows - q * TILE < TILE else TILE
        load_columns(t.x, t.dim, q * TILE, w, n, x, TILE, scratch)
        forward_tile(x, y, n, TILE, w, t.log)
        store_columns(y, TILE, t.o, q * TILE, w, n, scratch)


cdef void backward_rows(softmax_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t n = t.n, r, i, j, w, start
    cdef int64_t g_stride = t.x.dims[t.x.ndim + t.dim] if t.x.ndim else 1
    cdef int64_t y_stride = t.y.dims[t.y.ndim + t.dim] if t.y.ndim else 1
    cdef const real *g
    cdef const real *y
    cdef real *o
    cdef real *part
    cdef real block[BLOCK]
    cdef real total
    cdef streamer out
    if t.streamed:
        stream_open(&out, <real *> t.o.data + begin * n)
    for r in range(begin, end):
        g = load_row(t.x.data, t.x.dtype, row_start(t.x, r, t.dim, n, t.inner), g_stride, n, scratch)
        y = load_row(t.y.data, t.y.dtype, row_start(t.y, r, t.dim, n, t.inner), y_stride, n, scratch + n)
        start = row_start(t.o, r, t.dim, n, t.inner)
        o = target(t.o, t.streamed, t.inner, start, scratch + 2 * n)
        total = <real> (row_sum(g, n) if t.log else dot_row(g, y, n))
        i = 0
        while i < n:
            w = n - i if n - i < BLOCK else BLOCK
            part = <real *> block if t.streamed else o + i
            if t.log:
                for j in range(w):
                    part[j] = g[i + j] - exp(y[i + j]) * total
            else:
                for j in range(w):
                    part[j] = (g[i + j] - total) * y[i + j]
            if t.streamed:
                stream_add(&out, part, w * sizeof(real))
            i += w
        if not t.streamed:
            deliver(t.o, False, t.inner, start, o, n)
    if t.streamed:
        stream_close(&out)


cdef inline void backward_tile(const real *g, const real *y, real *o, int64_t n, int64_t step, int64_t w,
                               bint log_y) noexcept nogil:
    cdef real s[TILE]
    cdef int64_t k, j, row
    for j in range(w):
        s[j] = 0
    for k in range(n):
        row = k * step
        if log_y:
            for j in range(w):
                s[j] += g[row + j]
        else:
            for j in range(w):
                s[j] += g[row + j] * y[row + j]
    for k in range(n):
        row = k * step
        if log_y:
            for j in range(w):
                o[row + j] = g[row + j] - exp(y[row + j]) * s[j]
        else:
            for j in range(w):
                o[row + j] = (g[row + j] - s[j]) * y[row + j]


cdef void backward_columns(softmax_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t inner = t.inner, tiles = (inner + TILE - 1) // TILE, q, w, first
    for q in range(begin, end):
        first = q // tiles * t.n * inner + q % tiles * TILE
        w = inner - q % tiles * TILE
        w = TILE if w > TILE else w
        backward_tile(<const real *> t.x.data + first, <const real *> t.y.data + first, <real *> t.o.data + first,
                      t.n, inner,
                      w, t.log)


cdef void backward_short(softmax_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t q, n = t.n, rows = t.o.numel // n, w
    cdef real *g = scratch + n
    cdef real *y = g + n * TILE
    cdef real *o = y + n * TILE
    for q in range(begin, end):
        w = rows - q * TILE if rows - q * TILE < TILE else TILE
        load_columns(t.x, t.dim, q * TILE, w, n, g, TILE, scratch)
        load_columns(t.y, t.dim, q * TILE, w, n, y, TILE, scratch)
        backward_tile(g, y, o, n, TILE, w, t.log)
        store_columns(o, TILE, t.o, q * TILE, w, n, scratch)


cdef inline int run(fx_call *call, softmax_task *t, bint backward) noexcept nogil:
    cdef int i, wanted = FX_F64 if call.dtype == FX_F64 else FX_F32
    cdef int64_t d, rows
    cdef size_t size = 8 if wanted == FX_F64 else 4, scratch = 0
    cdef bint direct = True, whole = True
    cdef fx_array *a
    cdef row_worker work
    t.o = call.arrays[0]
    t.x = call.arrays[1]
    t.y = call.arrays[2] if backward else t.x
    if t.o.numel == 0:
        return FX_OK
    t.dim = <int> call.params[0].i
    if t.dim < 0:
        t.dim += t.o.ndim
    t.n = t.o.dims[t.dim] if t.o.ndim else 1
    t.inner = 1
    for d in range(t.dim + 1, t.o.ndim):
        t.inner *= t.o.dims[d]
    for i in range(call.n_out + call.n_in):
        a = call.arrays[i]
        whole = whole and a.dtype == wanted and a.flags & FX_CONTIGUOUS
        direct = direct and a.dtype == wanted and (a.ndim == 0 or a.dims[a.ndim + t.dim] == 1)
    t.streamed = t.inner == 1 and t.o.dtype == wanted and t.o.flags & FX_CONTIGUOUS and t.o.numel * size >= STREAM_BYTES
    rows = t.o.numel // t.n
    if whole and t.inner >= 8:
        rows = t.o.numel // (t.n * t.inner) * ((t.inner + TILE - 1) // TILE)
        if backward:
            work = <row_worker> backward_columns[double] if wanted == FX_F64 else <row_worker> backward_columns[float]
        else:
            work = <row_worker> softmax_columns[double] if wanted == FX_F64 else <row_worker> softmax_columns[float]
    elif t.inner == 1 and t.n <= SHORT_ROW and rows >= 8:
        rows = (rows + TILE - 1) // TILE
        scratch = t.n * (1 + 3 * TILE) * size
        if backward:
            work = <row_worker> backward_short[double] if wanted == FX_F64 else <row_worker> backward_short[float]
        else:
            work = <row_worker> softmax_short[double] if wanted == FX_F64 else <row_worker> softmax_short[float]
    else:
        if not direct or t.streamed:
            scratch = 3 * t.n * size
        if backward:
            work = <row_worker> backward_rows[double] if wanted == FX_F64 else <row_worker> backward_rows[float]
        else:
            work = <row_worker> softmax_rows[double] if wanted == FX_F64 else <row_worker> softmax_rows[float]
    return over_rows(work, t, rows, t.o.numel, scratch)


cdef int softmax(fx_call *call) noexcept nogil:
    cdef softmax_task t
    t.log = False
    return run(call, &t, False)


cdef int log_softmax(fx_call *call) noexcept nogil:
    cdef softmax_task t
    t.log = True
    return run(call, &t, False)


cdef int softmax_backward(fx_call *call) noexcept nogil:
    cdef softmax_task t
    t.log = False
    return run(call, &t, True)


cdef int log_softmax_backward(fx_call *call) noexcept nogil:
    cdef softmax_task t
    t.log = True
    return run(call, &t, True)


provide(FX_CPU, "softmax", softmax, "rows float | y T | x T | dim i")
provide(FX_CPU, "log_softmax", log_softmax, "rows float | y T | x T | dim i")
provide(FX_CPU, "softmax_backward", softmax_backward, "rows float | dx T | g T, y T | dim i")
provide(FX_CPU, "log_softmax_backward", log_softmax_backward, "rows float | dx T | g T, y T | dim i")
