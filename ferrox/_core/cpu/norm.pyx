"""Layer normalisation and RMS normalisation over trailing elements, and their gradients.

layer_norm:           y, mean?, rstd? | x, weight?, bias?                      n i, eps f
rms_norm:             y, rstd? | x, weight?                                    n i, eps f
layer_norm_backward:  dx?, dweight?, dbias? | g, x, mean, rstd, weight?        n i
rms_norm_backward:    dx?, dweight? | g, x, rstd, weight?                      n i

n is the number of normalised trailing elements: x is seen as rows of n.  Weight gradients are summed in chunks of rows
whose number depends on the shape alone, so that they do not depend on the number of threads.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_ERROR_MEMORY, FX_F32, FX_F64, FX_OK, fx_array, fx_call
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport gradient_sums, real, row_sum, sqrt, square_sum
from ferrox._core.cpu.rows cimport STREAM_BYTES, deliver, int64_t, load_flat, load_one, over_rows, row_worker, \
    store_flat, store_one, stream_add, stream_close, stream_open, streamer, target

cdef enum:
    BLOCK = 512       # elements on their way past the cache
    MAX_CHUNKS = 16   # of rows, for weight gradients
    FLUSH = 64        # rows summed before they are added to the chunk's sum

cdef struct norm_task:
    fx_array *y
    fx_array *mean
    fx_array *rstd
    fx_array *x
    fx_array *weight
    fx_array *bias
    fx_array *g
    fx_array *dx
    bint centred
    bint streamed
    bint weight_sums
    int64_t n
    int64_t rows
    int64_t chunk       # rows of a chunk
    double eps
    void *partial       # chunk sums: dweight[n], dbias[n] of each chunk


cdef inline void affine(const real *x, real mean, real rstd, const real *w, const real *b, real *y,
                        int64_t n) noexcept nogil:
    cdef int64_t i
    if w != NULL and b != NULL:
        for i in range(n):
            y[i] = (x[i] - mean) * rstd * w[i] + b[i]
    elif w != NULL:
        for i in range(n):
            y[i] = (x[i] - mean) * rstd * w[i]
    elif b != NULL:
        for i in range(n):
            y[i] = (x[i] - mean) * rstd + b[i]
    else:
        for i in range(n):
            y[i] = (x[i] - mean) * rstd


cdef void forward_rows(norm_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t n = t.n, r, i, k
    cdef const real *x
    cdef const real *w = load_flat(t.weight, 0, n, scratch + 2 * n) if t.weight != NULL else NULL
    cdef const real *b = load_flat(t.bias, 0, n, scratch + 3 * n) if t.bias != NULL else NULL
    cdef real *y
    cdef real block[BLOCK]
    cdef real mean = 0, rstd
    cdef streamer out
    if t.streamed:
        stream_open(&out, <real *> t.y.data + begin * n)
    for r in range(begin, end):
        x = load_flat(t.x, r * n, n, scratch)
        if t.centred:
            mean = <real> (row_sum(x, n) / n)
        rstd = <real> (1 / sqrt(square_sum(x, mean, n) / n + t.eps))
        if t.mean != NULL:
            store_one(mean, t.mean, r)
        if t.rstd != NULL:
            store_one(rstd, t.rstd, r)
        if not t.streamed:
            y = target(t.y, False, 1, r * n, scratch + n)
            affine(x, mean, rstd, w, b, y, n)
            deliver(t.y, False, 1, r * n, y, n)
            continue
        i = 0
        while i < n:
            k = n - i if n - i < BLOCK else BLOCK
            affine(x + i, mean, rstd, w + i if w != NULL else NULL, b + i if b != NULL else NULL, <real *> block, k)
            stream_add(&out, block, k * sizeof(real))
            i += k
    if t.streamed:
        stream_close(&out)


cdef void backward_chunks(norm_task *t, real *scratch, int64_t begin, int64_t end) noexcept nogil:
    cdef int64_t n = t.n, c, r, i, start
    cdef const real *x
    cdef const real *g
    cdef const real *w = load_flat(t.weight, 0, n, scratch + 3 * n) if t.weight != NULL else NULL
    cdef real *dx
    cdef real *dw = scratch + 4 * n
    cdef real *db = scratch + 5 * n
    cdef real *sum_w
    cdef real mean = 0, rstd, a, b
    cdef double plain, product
    for c in range(begin, end):
        sum_w = <real *> t.partial + 2 * n * c
        if t.weight_sums:
            memset(sum_w, 0, 2 * n * sizeof(real))
            memset(dw, 0, 2 * n * sizeof(real))
        start = c * t.chunk
        for r in range(start, start + t.chunk if start + t.chunk < t.rows else t.rows):
            x = load_flat(t.x, r * n, n, scratch)
            g = load_flat(t.g, r * n, n, scratch + n)
            if t.centred:
                load_one(&mean, t.mean, r)
            load_one(&rstd, t.rstd, r)
            if t.dx != NULL:
                gradient_sums(g, x, w, mean, n, &plain, &product)
                a = <real> (-product * rstd * rstd * rstd / n)
                b = <real> (-plain * rstd / n) if t.centred else 0
                dx = target(t.dx, False, 1, r * n, scratch + 2 * n)
                if w != NULL:
                    for i in range(n):
                        dx[i] = g[i] * w[i] * rstd + ((x[i] - mean) * a + b)
                else:
                    for i in range(n):
                        dx[i] = g[i] * rstd + ((x[i] - mean) * a + b)
                deliver(t.dx, False, 1, r * n, dx, n)
            if t.weight_sums:
                for i in range(n):
                    dw[i] += g[i] * ((x[i] - mean) * rstd)
                if t.centred:
                    for i in range(n):
                        db[i] += g[i]
                if (r - start) % FLUSH == FLUSH - 1:
                    for i in range(2 * n):
                        sum_w[i] += dw[i]
                        dw[i] = 0
        if t.weight_sums:
            for i in range(2 * n):
                sum_w[i] += dw[i]


cdef void add_chunks(norm_task *t, fx_array *dweight, fx_array *dbias, int64_t chunks, real *partial) noexcept nogil:
    cdef int64_t n = t.n, c, i
    for c in range(1, chunks):
        for i in range(2 * n):
            partial[i] += partial[2 * n * c + i]
    if dweight != NULL:
        store_flat(partial, dweight, 0, n)
    if dbias != NULL:
        store_flat(partial + n, dbias, 0, n)


cdef inline bint direct(fx_array *a, int wanted) noexcept nogil:
    return a == NULL or (a.dtype == wanted and a.flags & 1)


cdef int forward(fx_call *call, norm_task *t) noexcept nogil:
    cdef int wanted = FX_F64 if call.dtype == FX_F64 else FX_F32
    cdef size_t size = 8 if wanted == FX_F64 else 4, scratch = 0
    t.n = call.params[0].i
    t.eps = call.params[1].f
    if t.y.numel == 0:
        return FX_OK
    t.rows = t.y.numel // t.n
    t.streamed = t.y.dtype == wanted and t.y.flags & FX_CONTIGUOUS and t.y.numel * size >= STREAM_BYTES
    if not (direct(t.y, wanted) and direct(t.x, wanted) and direct(t.weight, wanted) and direct(t.bias, wanted)):
        scratch = 4 * t.n * size
    return over_rows(<row_worker> forward_rows[double] if wanted == FX_F64 else <row_worker> forward_rows[float], t,
                     t.rows,
                     t.y.numel, scratch)


cdef int backward(fx_call *call, norm_task *t, fx_array *dweight, fx_array *dbias) noexcept nogil:
    cdef int wanted = FX_F64 if call.dtype == FX_F64 else FX_F32, status
    cdef size_t size = 8 if wanted == FX_F64 else 4
    cdef int64_t chunks
    cdef row_worker work
    t.n = call.params[0].i
    t.weight_sums = dweight != NULL or dbias != NULL
    t.partial = NULL
    if t.n == 0:
        return FX_OK
    t.rows = t.g.numel // t.n
    t.chunk = (t.rows + MAX_CHUNKS - 1) // MAX_CHUNKS
    if t.chunk < 16:
        t.chunk = 16
    chunks = (t.rows + t.chunk - 1) // t.chunk
    if t.weight_sums:
        t.partial = malloc(2 * t.n * (chunks if chunks else 1) * size)
        if t.partial == NULL:
            return FX_ERROR_MEMORY
        if chunks == 0:
            memset(t.partial, 0, 2 * t.n * size)
    work = <row_worker> backward_chunks[double] if wanted == FX_F64 else <row_worker> backward_chunks[float]
    status = over_rows(work, t, chunks, 2 * t.g.numel, 6 * t.n * size)
    if status == FX_OK and t.weight_sums:
        if wanted == FX_F64:
            add_chunks(t, dweight, dbias, chunks, <double *> t.partial)
        else:
            add_chunks(t, dweight, dbias, chunks, <float *> t.partial)
    free(t.partial)
    return status


cdef int layer_norm(fx_call *call) noexcept nogil:
    cdef norm_task t
    memset(&t, 0, sizeof(t))
    t.centred = True
    t.y, t.mean, t.rstd = call.arrays[0], call.arrays[1], call.arrays[2]
    t.x, t.weight, t.bias = call.arrays[3], call.arrays[4], call.arrays[5]
    return forward(call, &t)


cdef int rms_norm(fx_call *call) noexcept nogil:
    cdef norm_task t
    memset(&t, 0, sizeof(t))
    t.y, t.rstd, t.x, t.weight = call.arrays[0], call.arrays[1], call.arrays[2], call.arrays[3]
    return forward(call, &t)


cdef int layer_norm_backward(fx_call *call) noexcept nogil:
    cdef norm_task t
    memset(&t, 0, sizeof(t))
    t.centred = True
    t.dx, t.g, t.x = call.arrays[0], call.arrays[3], call.arrays[4]
    t.mean, t.rstd, t.weight = call.arrays[5], call.arrays[6], call.arrays[7]
    return backward(call, &t, call.arrays[1], call.arrays[2])


cdef int rms_norm_backward(fx_call *call) noexcept nogil:
    cdef norm_task t
    memset(&t, 0, sizeof(t))
    t.dx, t.g, t.x = call.arrays[0], call.arrays[2], call.arrays[3]
    t.rstd, t.weight = call.arrays[4], call.arrays[5]
    return backward(call, &t, call.arrays[1], NULL)


provide(FX_CPU, "layer_norm", layer_norm,
        "rows float | y T, mean A?, rstd A? | x T, weight real?, bias real? | n i, eps f")
provide(FX_CPU, "rms_norm", rms_norm, "rows float | y T, rstd A? | x T, weight real? | n i, eps f")
provide(FX_CPU, "layer_norm_backward", layer_norm_backward,
        "rows float | dx T?, dweight real?, dbias real? | g T, x T, mean A, rstd A, weight real? | n i")
provide(FX_CPU, "rms_norm_backward", rms_norm_backward,
        "rows float | dx T?, dweight real? | g T, x T, rstd A, weight real? | n i")
