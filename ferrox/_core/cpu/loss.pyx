"""Cross-entropy and negative log-likelihood over the second dimension (the only one, of a single sample), per sample.

cross_entropy:           loss, lse, sample_weight? | logits, target, weight?          ignore_index i, label_smoothing f
cross_entropy_backward:  dlogits | g, logits, target, lse, weight?                    ignore_index i, label_smoothing f
nll:                     loss, sample_weight? | logp, target, weight?                 ignore_index i
nll_backward:            dlogp | g, target, weight?                                   C i, ignore_index i

logits and logp are (N, C, ...) or (C,), target int64 (N, ...) or 0-d; the other arrays are like target.  sample_weight
(an output that may be absent or left out) is weight[target], 0 where the target is ignored: a mean divides by its sum.
With s = label_smoothing, p = exp(logits - lse) and w the class weights, a sample's loss is
(1 - s) w[t] (lse - logits[t]) + s/C sum_c w[c] (lse - logits[c]).
Every target is checked before anything is written.
"""
from libc.stdio cimport snprintf
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_ERROR_INDEX, FX_ERROR_MEMORY, FX_F32, FX_F64, FX_OK, \
    fx_array, fx_call
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport exp_down, exp_sum, log, real, row_max
from ferrox._core.cpu.rows cimport deliver, int64_t, load_columns, load_one, load_row, offset_of, over_rows, \
    row_start, row_worker, \
    store_columns, store_one, target

cdef enum:
    TILE = 64        # samples side by side, where the classes of one are far apart, or few
    SHORT_ROW = 32   # few classes

cdef struct loss_task:
    fx_array *loss           # of a gradient: what is written
    fx_array *lse
    fx_array *sample_weight
    fx_array *x              # logits or logp
    fx_array *target
    fx_array *g
    double *weight           # of the classes, NULL for ones
    double weight_sum
    int dim
    int64_t n                # classes
    int64_t inner            # samples between two classes of one sample
    int64_t ignored
    double smoothing


cdef inline int64_t read(const fx_array *a, int64_t r) noexcept nogil:
    """Element r of target, counted row-major."""
    return (<const int64_t *> a.data)[r if a.flags & FX_CONTIGUOUS else offset_of(a, r, -1)]


cdef inline double value(const fx_array *a, int64_t r) noexcept nogil:
    cdef double v
    load_one(&v, a, r if a.flags & FX_CONTIGUOUS else offset_of(a, r, -1))
    return v


cdef int check(fx_call *call, loss_task *t) noexcept nogil:
    cdef int64_t r, k
    for r in range(t.target.numel):
        k = read(t.target, r)
        if k != t.ignored and (k < 0 or k >= t.n):
            snprintf(call.message, sizeof(call.message), "target %lld is out of bounds for %lld classes", <long long> k,
                     <long long> t.n)
            return FX_ERROR_INDEX
    return FX_OK


cdef int read_weight(loss_task *t, fx_array *weight) noexcept nogil:
    cdef int64_t c
    t.weight = NULL
    t.weight_sum = <double> t.n
    if weight == NULL:
        return FX_OK
    t.weight = <double *> malloc((t.n + 1) * sizeof(double))
    if t.weight == NULL:
        return FX_ERROR_MEMORY
    t.weight_sum = 0
    for c in range(t.n):
        t.weight[c] = value(weight, c)
        t.weight_sum += t.weight[c]
    return FX_OK


cdef inline double weight_of(loss_task *t, int64_t k) noexcept nogil:
    if k == t.ignored:
        return 0
    return t.weight[k] if t.weight != NULL else 1


cdef inline void finish(loss_task *t, int64_t r, double top, double log_sum, double picked,
                        double weighted) noexcept nogil:
    """Writes sample r; picked is its target's logit, weighted the sum of w[c] (logits[c] - top)."""
    cdef int64_t k = read(t.target, r)
    cdef double w = weight_of(t, k), loss = 0
    if k != t.ignored:
        loss = w * (log_sum - (picked - top))
        if t.smoothing != 0:
            loss = (1 - t.smoothing) * loss + t.smoothing / t.n * (t.weight_sum * log_sum - weighted)
    store_one(loss, t.loss, r)
    store_one(top + log_sum, t.lse, r)
    if t.sample_weight != NULL:
        store_one(w, t.sample_weight, r)


cdef inline double weighted_sum(loss_task *t, const real *x, real top) noexcept nogil:
    cdef int64_t c
    cdef double s = 0
    if t.weight == NULL:
        for c in range(t.n):
            s += x[c] - top
    else:
        for c in range(t.n):
            s += t.weight[c] * (x[c] - top)
    return s


cdef void forward_rows(loss_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t r, k, n = t.n, stride = t.x.dims[t.x.ndim + t.dim]
    cdef const real *x
    cdef real top
    cdef double picked
    for r in range(begin, end):
        x = load_row(t.x.data, t.x.dtype, row_start(t.x, r, t.dim, n, t.inner), stride, n, scratch)
        top = row_max(x, n)
        k = read(t.target, r)
        picked = x[k] if k != t.ignored else 0
        finish(t, r, top, log(exp_sum(x, top, n)), picked, weighted_sum(t, x, top) if t.smoothing != 0 else 0)


cdef inline void forward_tile(loss_task *t, const real *x, int64_t step, int64_t sample, int64_t w) noexcept nogil:
    """w samples from number `sample` on, side by side, the classes of each `step` apart; w <= TILE."""
    cdef real top[TILE]
    cdef real s[TILE]
    cdef double weighted[TILE]
    cdef double class_weight, picked
    cdef const real *row
    cdef int64_t c, k, j
    for j in range(w):
        top[j] = -INFINITY
        s[j] = 0
        weighted[j] = 0
    for c in range(t.n):
        row = x + c * step
        for j in range(w):
            top[j] = row[j] if row[j] > top[j] else top[j]
    for c in range(t.n):
        row = x + c * step
        for j in range(w):
            s[j] += exp_down(row[j] - top[j])
        if t.smoothing != 0:
            class_weight = t.weight[c] if t.weight != NULL else 1
            for j in range(w):
                weighted[j] += class_weight * (row[j] - top[j])
    for j in range(w):
        k = read(t.target, sample + j)
        picked = x[k * step + j] if k != t.ignored else 0
        finish(t, sample + j, top[j], log(<double> s[j]), picked, weighted[j])


cdef void forward_tiles(loss_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t inner = t.inner, tiles = (inner + TILE - 1) // TILE, q, first, w
    for q in range(begin, end):
        first = q % tiles * TILE
        w = inner - first if inner - first < TILE else TILE
        forward_tile(t, <const real *> t.x.data + q // tiles * t.n * inner + first, inner,
                     q // tiles * inner + first, w)


cdef void forward_short(loss_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    """Few classes: the logits of TILE samples transposed."""
    cdef int64_t q, w, rows = t.target.numel
    for q in range(begin, end):
        w = rows - q * TILE if rows - q * TILE < TILE else TILE
        load_columns(t.x, t.dim, q * TILE, w, t.n, scratch + t.n, TILE, scratch)
        forward_tile(t, scratch + t.n, TILE, q * TILE, w)


cdef inline void slopes(loss_task *t, int64_t r, double *on_p, double *on_target, double *on_class) noexcept nogil:
    """dlogits[c] = on_p p[c] - on_class w[c] - (on_target where c is the target)."""
    cdef int64_t k = read(t.target, r)
    cdef double g = value(t.g, r), s = t.smoothing
    on_p[0] = on_target[0] = on_class[0] = 0
    if k != t.ignored:
        on_target[0] = g * (1 - s) * weight_of(t, k)
        on_class[0] = g * s / t.n
        on_p[0] = on_target[0] + on_class[0] * t.weight_sum


cdef void backward_rows(loss_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t r, k, c, n = t.n, stride = t.x.dims[t.x.ndim + t.dim], start
    cdef const real *x
    cdef real *o
    cdef real lse, factor, share
    cdef double on_p, on_target, on_class
    for r in range(begin, end):
        start = row_start(t.loss, r, t.dim, n, t.inner)
        o = target(t.loss, False, t.inner, start, scratch + n)
        k = read(t.target, r)
        if k == t.ignored:
            memset(o, 0, n * sizeof(real))
        else:
            x = load_row(t.x.data, t.x.dtype, row_start(t.x, r, t.dim, n, t.inner), stride, n, scratch)
            slopes(t, r, &on_p, &on_target, &on_class)
            lse, factor, share = <real> value(t.lse, r), <real> on_p, <real> on_class
            for c in range(n):
                o[c] = exp_down(x[c] - lse) * factor
            if share != 0:
                for c in range(n):
                    o[c] -= share * <real> t.weight[c] if t.weight != NULL else share
            o[k] -= <real> on_target
        deliver(t.loss, False, t.inner, start, o, n)


cdef inline void backward_tile(loss_task *t, const real *x, real *o, int64_t step, int64_t sample,
                               int64_t w) noexcept nogil:
    cdef real lse[TILE]
    cdef real factor[TILE]
    cdef real share[TILE]
    cdef real one[TILE]
    cdef real class_weight
    cdef double on_p, on_target, on_class
    cdef int64_t c, k, j
    for j in range(w):
        slopes(t, sample + j, &on_p, &on_target, &on_class)
        lse[j], factor[j], share[j] = <real> value(t.lse, sample + j), <real> on_p, <real> on_class
        one[j] = <real> on_target
    for c in range(t.n):
        class_weight = <real> t.weight[c] if t.weight != NULL else 1
        for j in range(w):
            o[c * step + j] = exp_down(x[c * step + j] - lse[j]) * factor[j] - share[j] * class_weight
    for j in range(w):
        k = read(t.target, sample + j)
        if k != t.ignored:
            o[k * step + j] -= one[j]
        else:
            for c in range(t.n):  # whatever the logits: NaN times 0 is not 0
                o[c * step + j] = 0


cdef void backward_tiles(loss_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t inner = t.inner, tiles = (inner + TILE - 1) // TILE, q, first, w, start
    for q in range(begin, end):
        first = q % tiles * TILE
        w = inner - first if inner - first < TILE else TILE
        start = q // tiles * t.n * inner + first
        backward_tile(t, <const real *> t.x.data + start, <real *> t.loss.data + start, inner,
                      q // tiles * inner + first, w)


cdef void backward_short(loss_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t q, w, rows = t.target.numel
    cdef real *x = scratch + t.n
    cdef real *o = x + t.n * TILE
    for q in range(begin, end):
        w = rows - q * TILE if rows - q * TILE < TILE else TILE
        load_columns(t.x, t.dim, q * TILE, w, t.n, x, TILE, scratch)
        backward_tile(t, x, o, TILE, q * TILE, w)
        store_columns(o, TILE, t.loss, q * TILE, w, t.n, scratch)


cdef int run(fx_call *call, loss_task *t, fx_array *weight, bint backward) noexcept nogil:
    cdef int wanted = FX_F64 if call.dtype == FX_F64 else FX_F32, status
    cdef bint whole
    cdef int64_t rows = t.target.numel
    cdef row_worker work
    cdef size_t scratch = 2 * t.n * (8 if wanted == FX_F64 else 4)
    status = check(call, t)
    if status != FX_OK:
        return status
    status = read_weight(t, weight)
    if status != FX_OK:
        return status
    whole = t.x.dtype == wanted and t.x.flags & FX_CONTIGUOUS and (not backward or t.loss.dtype == wanted)
    if whole and t.inner >= 8:
        rows = rows // t.inner * ((t.inner + TILE - 1) // TILE)
        scratch = 0
        if backward:
            work = <row_worker> backward_tiles[double] if wanted == FX_F64 else <row_worker> backward_tiles[float]
        else:
            work = <row_worker> forward_tiles[double] if wanted == FX_F64 else <row_worker> forward_tiles[float]
    elif t.inner == 1 and t.n <= SHORT_ROW and rows >= 8:
        rows = (rows + TILE - 1) // TILE
        scratch = t.n * (1 + 2 * TILE) * (8 if wanted == FX_F64 else 4)
        if backward:
            work = <row_worker> backward_short[double] if wanted == FX_F64 else <row_worker> backward_short[float]
        else:
            work = <row_worker> forward_short[double] if wanted == FX_F64 else <row_worker> forward_short[float]
    else:
        if whole and t.inner == 1:
            scratch = 0
        if backward:
            work = <row_worker> backward_rows[double] if wanted == FX_F64 else <row_worker> backward_rows[float]
        else:
            work = <row_worker> forward_rows[double] if wanted == FX_F64 else <row_worker> forward_rows[float]
    status = over_rows(work, t, rows, t.x.numel, scratch)
    free(t.weight)
    return status


cdef inline void shape(loss_task *t, const fx_array *x) noexcept nogil:
    cdef int d
    t.dim = 1 if x.ndim > 1 else 0
    t.n = x.dims[t.dim]
    t.inner = 1
    for d in range(t.dim + 1, x.ndim):
        t.inner *= x.dims[d]


cdef int cross_entropy(fx_call *call) noexcept nogil:
    cdef loss_task t
    cdef fx_array **a = call.arrays + call.n_out
    t.loss, t.lse = call.arrays[0], call.arrays[1]
    t.sample_weight = call.arrays[2] if call.n_out > 2 else NULL
    t.x, t.target = a[0], a[1]
    t.ignored, t.smoothing = call.params[0].i, call.params[1].f
    shape(&t, t.x)
    return run(call, &t, a[2], False)


cdef int cross_entropy_backward(fx_call *call) noexcept nogil:
    cdef loss_task t
    t.loss, t.g, t.x, t.target, t.lse = call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3], call.arrays[4]
    t.ignored, t.smoothing = call.params[0].i, call.params[1].f
    shape(&t, t.x)
    return run(call, &t, call.arrays[5], True)


cdef int nll(fx_call *call) noexcept nogil:
    cdef loss_task t
    cdef fx_array **a = call.arrays + call.n_out
    cdef int64_t r, k
    cdef double w
    cdef int status
    t.x, t.target, t.ignored = a[0], a[1], call.params[0].i
    t.sample_weight = call.arrays[1] if call.n_out > 1 else NULL
    shape(&t, t.x)
    status = check(call, &t)
    if status != FX_OK:
        return status
    for r in range(t.target.numel):
        k = read(t.target, r)
        w = 0
        if k != t.ignored:
            w = value(a[2], k) if a[2] != NULL else 1
            load_one(&t.smoothing, t.x, row_start(t.x, r, t.dim, t.n, t.inner) + k * t.x.dims[t.x.ndim + t.dim])
            store_one(-w * t.smoothing, call.arrays[0], r)
        else:
            store_one(w, call.arrays[0], r)
        if t.sample_weight != NULL:
            store_one(w, t.sample_weight, r)
    return FX_OK


cdef int nll_backward(fx_call *call) noexcept nogil:
    cdef loss_task t
    cdef fx_array *o = call.arrays[0]
    cdef fx_array *weight = call.arrays[3]
    cdef int64_t r, k
    cdef int status
    t.g, t.target, t.ignored = call.arrays[1], call.arrays[2], call.params[1].i
    shape(&t, o)
    t.n = call.params[0].i
    status = check(call, &t)
    if status != FX_OK:
        return status
    memset(o.data, 0, o.numel * (8 if o.dtype == FX_F64 else 4 if o.dtype == FX_F32 else 2))
    for r in range(t.target.numel):
        k = read(t.target, r)
        if k != t.ignored:
            store_one(-value(t.g, r) * (value(weight, k) if weight != NULL else 1.0), o,
                      row_start(o, r, t.dim, t.n, t.inner) + k * t.inner)
    return FX_OK


provide(FX_CPU, "cross_entropy", cross_entropy,
        "rows float | loss T, lse A, sample_weight T? | logits T, target int64, weight T? | ignore_index i, "
        "label_smoothing f")
provide(FX_CPU, "cross_entropy_backward", cross_entropy_backward,
        "rows float | dlogits T | g T, logits T, target int64, lse A, weight T? | ignore_index i, label_smoothing f")
provide(FX_CPU, "nll", nll, "rows float | loss T, sample_weight T? | logp T, target int64, weight T? | ignore_index i")
provide(FX_CPU, "nll_backward", nll_backward,
        "rows float | dlogp T | g T, target int64, weight T? | classes i, ignore_index i")
