"""Batch normalisation over every dimension but the second, and its gradient.  x is (N, C, ...).

batch_norm_train:     y, mean, rstd, running_mean?, running_var? | x, weight?, bias?     eps f, momentum f
batch_norm_eval:      y | x, weight?, bias?, running_mean, running_var                   eps f
batch_norm_backward:  dx?, dweight?, dbias? | g, x, mean, rstd, weight?                  training i

The running statistics are updated in place, the variance with its unbiased estimate.  Each channel is summed by one
thread in one order, as N segments of contiguous elements; without trailing dimensions, tiles of neighbouring channels
are summed side by side.
"""
from libc.string cimport memset

from ferrox._core.abi cimport FX_CPU, FX_F32, FX_F64, FX_OK, fx_array, fx_call
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport dot_centred, real, row_sum, sqrt, square_sum
from ferrox._core.cpu.rows cimport deliver, int64_t, load_flat, load_one, over_rows, row_worker, store_one, target

cdef enum:
    TILE = 64    # channels summed side by side
    FLUSH = 64   # elements of each channel summed in its own precision before they are added to a double

cdef struct batch_task:
    fx_array *y          # of a gradient: dx
    fx_array *x
    fx_array *g
    fx_array *weight
    fx_array *bias
    fx_array *mean
    fx_array *rstd
    fx_array *running_mean
    fx_array *running_var
    fx_array *dweight
    fx_array *dbias
    bint training
    int64_t batch
    int64_t channels
    int64_t inner
    double eps
    double momentum


cdef inline int64_t at(const fx_array *a, int64_t i) noexcept nogil:
    """Offset of element i of a vector."""
    return i * a.dims[1]


cdef inline double read(const fx_array *a, int64_t i, double otherwise) noexcept nogil:
    cdef double v = otherwise
    if a != NULL:
        load_one(&v, a, at(a, i))
    return v


cdef inline void settle(batch_task *t, int64_t c, double mean, double squares, real *centre, real *factor,
                        real *offset) noexcept nogil:
    """From a channel's statistics to y = (x - centre) * factor + offset; writes the statistics."""
    cdef int64_t count = t.batch * t.inner
    cdef double var = squares / count, rstd = 1 / sqrt(var + t.eps), m = t.momentum
    if t.mean != NULL:
        store_one(<double> mean, t.mean, at(t.mean, c))
    if t.rstd != NULL:
        store_one(<double> rstd, t.rstd, at(t.rstd, c))
    if t.training and t.running_mean != NULL:
        store_one((1 - m) * read(t.running_mean, c, 0) + m * mean, t.running_mean, at(t.running_mean, c))
    if t.training and t.running_var != NULL:
        store_one((1 - m) * read(t.running_var, c, 1) + m * squares / (count - 1), t.running_var, at(t.running_var, c))
    centre[0] = <real> mean
    factor[0] = <real> (rstd * read(t.weight, c, 1))
    offset[0] = <real> read(t.bias, c, 0)


cdef void forward_channels(batch_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t c, b, i, n = t.inner, start
    cdef const real *x
    cdef real *y
    cdef real mean, factor, offset
    cdef double total
    for c in range(begin, end):
        if t.training:
            total = 0
            for b in range(t.batch):
                total += row_sum(load_flat(t.x, (b * t.channels + c) * n, n, scratch), n)
            mean = <real> (total / (t.batch * n))
            total = 0
            for b in range(t.batch):
                total += square_sum(load_flat(t.x, (b * t.channels + c) * n, n, scratch), mean, n)
            settle(t, c, mean, total, &mean, &factor, &offset)
        else:
            settle(t, c, read(t.running_mean, c, 0), read(t.running_var, c, 1) * (t.batch * n), &mean, &factor, &offset)
        for b in range(t.batch):
            start = (b * t.channels + c) * n
            x = load_flat(t.x, start, n, scratch)
            y = target(t.y, False, 1, start, scratch + n)
            for i in range(n):
                y[i] = (x[i] - mean) * factor + offset
            deliver(t.y, False, 1, start, y, n)


cdef void forward_tiles(batch_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t q, b, j, c, w, start
    cdef const real *x
    cdef real *y
    cdef real mean[TILE]
    cdef real factor[TILE]
    cdef real offset[TILE]
    cdef real s[TILE]
    cdef double total[TILE]
    cdef real d
    for q in range(begin, end):
        c = q * TILE
        w = t.channels - c if t.channels - c < TILE else TILE
        for j in range(w):
            s[j] = 0
            total[j] = 0
        if t.training:
            for b in range(t.batch):
                x = load_flat(t.x, b * t.channels + c, w, scratch)
                for j in range(w):
                    s[j] += x[j]
                if b % FLUSH == FLUSH - 1 or b == t.batch - 1:
                    for j in range(w):
                        total[j] += s[j]
                        s[j] = 0
            for j in range(w):
                mean[j] = <real> (total[j] / t.batch)
                total[j] = 0
            for b in range(t.batch):
                x = load_flat(t.x, b * t.channels + c, w, scratch)
                for j in range(w):
                    d = x[j] - mean[j]
                    s[j] += d * d
                if b % FLUSH == FLUSH - 1 or b == t.batch - 1:
                    for j in range(w):
                        total[j] += s[j]
                        s[j] = 0
            for j in range(w):
                settle(t, c + j, mean[j], total[j], &mean[j], &factor[j], &offset[j])
        else:
            for j in range(w):
                settle(t, c + j, read(t.running_mean, c + j, 0), read(t.running_var, c + j, 1) * t.batch, &mean[j],
                       &factor[j], &offset[j])
        for b in range(t.batch):
            start = b * t.channels + c
            x = load_flat(t.x, start, w, scratch)
            y = target(t.y, False, 1, start, scratch + TILE)
            for j in range(w):
                y[j] = (x[j] - mean[j]) * factor[j] + offset[j]
            deliver(t.y, False, 1, start, y, w)


cdef inline void settle_gradient(batch_task *t, int64_t c, double plain, double product, real *factor, real *slope,
                                 real *shift) noexcept nogil:
    """dx = g * factor + (x - mean) * slope + shift, from the sums of g and of g (x - mean); writes dweight, dbias."""
    cdef double rstd = read(t.rstd, c, 1), scale = rstd * read(t.weight, c, 1)
    cdef int64_t count = t.batch * t.inner
    if t.dweight != NULL:
        store_one(<double> (product * rstd), t.dweight, at(t.dweight, c))
    if t.dbias != NULL:
        store_one(plain, t.dbias, at(t.dbias, c))
    factor[0] = <real> scale
    slope[0] = <real> (-product * rstd * rstd * scale / count) if t.training else 0
    shift[0] = <real> (-plain * scale / count) if t.training else 0


cdef void backward_channels(batch_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t c, b, i, n = t.inner, start
    cdef const real *x
    cdef const real *g
    cdef real *dx
    cdef real mean, factor, slope, shift
    cdef double plain, product
    for c in range(begin, end):
        mean = <real> read(t.mean, c, 0)
        plain = product = 0
        for b in range(t.batch):
            start = (b * t.channels + c) * n
            g = load_flat(t.g, start, n, scratch + n)
            plain += row_sum(g, n)
            product += dot_centred(g, load_flat(t.x, start, n, scratch), mean, n)
        settle_gradient(t, c, plain, product, &factor, &slope, &shift)
        if t.y == NULL:
            continue
        for b in range(t.batch):
            start = (b * t.channels + c) * n
            g = load_flat(t.g, start, n, scratch + n)
            dx = target(t.y, False, 1, start, scratch + 2 * n)
            if t.training:
                x = load_flat(t.x, start, n, scratch)
                for i in range(n):
                    dx[i] = g[i] * factor + ((x[i] - mean) * slope + shift)
            else:
                for i in range(n):
                    dx[i] = g[i] * factor
            deliver(t.y, False, 1, start, dx, n)


cdef void backward_tiles(batch_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t q, b, j, c, w, start
    cdef const real *x
    cdef const real *g
    cdef real *dx
    cdef real mean[TILE]
    cdef real factor[TILE]
    cdef real slope[TILE]
    cdef real shift[TILE]
    cdef real s[TILE]
    cdef real p[TILE]
    cdef double plain[TILE]
    cdef double product[TILE]
    for q in range(begin, end):
        c = q * TILE
        w = t.channels - c if t.channels - c < TILE else TILE
        for j in range(w):
            mean[j] = <real> read(t.mean, c + j, 0)
            s[j] = p[j] = 0
            plain[j] = product[j] = 0
        for b in range(t.batch):
            start = b * t.channels + c
            x = load_flat(t.x, start, w, scratch)
            g = load_flat(t.g, start, w, scratch + TILE)
            for j in range(w):
                s[j] += g[j]
                p[j] += g[j] * (x[j] - mean[j])
            if b % FLUSH == FLUSH - 1 or b == t.batch - 1:
                for j in range(w):
                    plain[j] += s[j]
                    product[j] += p[j]
                    s[j] = p[j] = 0
        for j in range(w):
            settle_gradient(t, c + j, plain[j], product[j], &factor[j], &slope[j], &shift[j])
        if t.y == NULL:
            continue
        for b in range(t.batch):
            start = b * t.channels + c
            x = load_flat(t.x, start, w, scratch)
            g = load_flat(t.g, start, w, scratch + TILE)
            dx = target(t.y, False, 1, start, scratch + 2 * TILE)
            if t.training:
                for j in range(w):
                    dx[j] = g[j] * factor[j] + ((x[j] - mean[j]) * slope[j] + shift[j])
            else:
                for j in range(w):
                    dx[j] = g[j] * factor[j]
            deliver(t.y, False, 1, start, dx, w)


cdef int run(fx_call *call, batch_task *t, bint backward) noexcept nogil:
    cdef int wanted = FX_F64 if call.dtype == FX_F64 else FX_F32, d
    cdef int64_t tiles
    cdef row_worker work
    t.batch = t.x.dims[0]
    t.channels = t.x.dims[1]
    t.inner = 1
    for d in range(2, t.x.ndim):
        t.inner *= t.x.dims[d]
    tiles = (t.channels + TILE - 1) // TILE
    if t.inner == 1:
        if backward:
            work = <row_worker> backward_tiles[double] if wanted == FX_F64 else <row_worker> backward_tiles[float]
        else:
            work = <row_worker> forward_tiles[double] if wanted == FX_F64 else <row_worker> forward_tiles[float]
        return over_rows(work, t, tiles, t.x.numel, 3 * TILE * 8)
    if backward:
        work = <row_worker> backward_channels[double] if wanted == FX_F64 else <row_worker> backward_channels[float]
    else:
        work = <row_worker> forward_channels[double] if wanted == FX_F64 else <row_worker> forward_channels[float]
    return over_rows(work, t, t.channels, t.x.numel, 3 * t.inner * (8 if wanted == FX_F64 else 4))


cdef int batch_norm_train(fx_call *call) noexcept nogil:
    cdef batch_task t
    memset(&t, 0, sizeof(t))
    t.training = True
    t.y, t.mean, t.rstd = call.arrays[0], call.arrays[1], call.arrays[2]
    t.running_mean, t.running_var = call.arrays[3], call.arrays[4]
    t.x, t.weight, t.bias = call.arrays[5], call.arrays[6], call.arrays[7]
    t.eps, t.momentum = call.params[0].f, call.params[1].f
    return run(call, &t, False)


cdef int batch_norm_eval(fx_call *call) noexcept nogil:
    cdef batch_task t
    memset(&t, 0, sizeof(t))
    t.y, t.x, t.weight, t.bias = call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3]
    t.running_mean, t.running_var = call.arrays[4], call.arrays[5]
    t.eps = call.params[0].f
    if t.x.numel == 0:
        return FX_OK
    return run(call, &t, False)


cdef int batch_norm_backward(fx_call *call) noexcept nogil:
    cdef batch_task t
    memset(&t, 0, sizeof(t))
    t.y, t.dweight, t.dbias = call.arrays[0], call.arrays[1], call.arrays[2]
    t.g, t.x, t.mean, t.rstd, t.weight = call.arrays[3], call.arrays[4], call.arrays[5], call.arrays[6], call.arrays[7]
    t.training = call.params[0].i != 0
    return run(call, &t, True)


provide(FX_CPU, "batch_norm_train", batch_norm_train,
        "rows float | y T, mean A?, rstd A?, running_mean real!?, running_var real!? | x T, weight real?, bias real? "
        "| eps f, momentum f")
provide(FX_CPU, "batch_norm_eval", batch_norm_eval,
        "rows float | y T | x T, weight real?, bias real?, running_mean real, running_var real | eps f")
provide(FX_CPU, "batch_norm_backward", batch_norm_backward,
        "rows float | dx T?, dweight real?, dbias real? | g T, x T, mean A, rstd A, weight real? | training i")
