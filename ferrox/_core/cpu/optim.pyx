"""Optimiser steps and gradient clipping over all parameters in one call, in place.

sgd_step:   (param, grad, momentum_buffer?) of each of n parameters
            lr f, momentum f, dampening f, nesterov i, weight_decay f, maximize i, first_step i, n i
adam_step:  (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq?) of each of n parameters
            lr f, beta1 f, beta2 f, eps f, weight_decay f, amsgrad i, maximize i, decoupled i,
            bias_correction1 f, bias_correction2 f, n i
grad_norm:  norm (0-d) | arrays       p f (inf, -inf or not 0)
scale_all:  arrays | factor? (0-d)    factor f

The formulae are those of torch.optim.SGD, Adam and AdamW, in the same order of operations.  A group's arrays have the
same shape; a parameter whose grad is NULL is left as it is.  Arrays that are not contiguous, or not of the compute
dtype, go through blocks.
"""
from libc.math cimport INFINITY, fabs, isnan, pow
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CPU, FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_F32, FX_F64, \
    fx_array, fx_call, fx_scalar
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.lanes cimport real, sqrt, square_sum
from ferrox._core.cpu.rows cimport int64_t, load_flat, load_one, over_rows, row_worker, store_flat, store_one

cdef enum:
    BLOCK = 1024       # elements that pass through scratch at a time
    UNIT = 4096        # elements of one share of work

ctypedef void (*step_function)(void *t, void **p, int64_t n) noexcept nogil

cdef struct step_task:
    fx_array **arrays
    int groups         # parameters
    int width          # arrays of each
    int wanted
    step_function step
    double lr, momentum, dampening, weight_decay, beta1, beta2, eps, correction1, root2, factor
    bint nesterov, maximize, first, amsgrad, decoupled


cdef inline void momentum_loop(step_task *t, real *w, const real *g, real *b, bint l2, int64_t n) noexcept nogil:
    cdef real lr = <real> -t.lr, momentum = <real> t.momentum, fresh = <real> (1 - t.dampening)
    cdef real decay = <real> t.weight_decay, sign = -1 if t.maximize else 1, d
    cdef int64_t i
    if t.first:
        for i in range(n):
            d = sign * g[i] + decay * w[i] if l2 else sign * g[i]
            b[i] = d
            w[i] += lr * (d + momentum * d if t.nesterov else d)
    elif t.nesterov:
        for i in range(n):
            d = sign * g[i] + decay * w[i] if l2 else sign * g[i]
            b[i] = b[i] * momentum + fresh * d
            w[i] += lr * (d + momentum * b[i])
    else:
        for i in range(n):
            d = sign * g[i] + decay * w[i] if l2 else sign * g[i]
            b[i] = b[i] * momentum + fresh * d
            w[i] += lr * b[i]


cdef inline void sgd_block(step_task *t, real **p, int64_t n) noexcept nogil:
    cdef real *w = p[0]
    cdef const real *g = p[1]
    cdef real *b = p[2]
    cdef real lr = <real> -t.lr, decay = <real> t.weight_decay, sign = -1 if t.maximize else 1
    cdef int64_t i
    if b == NULL:
        if decay == 0:
            for i in range(n):
                w[i] += lr * (sign * g[i])
        else:
            for i in range(n):
                w[i] += lr * (sign * g[i] + decay * w[i])
        return
    if decay == 0:
        momentum_loop(t, w, g, b, False, n)
    else:
        momentum_loop(t, w, g, b, True, n)


cdef inline void adam_loop(real *w, const real *g, real *m, real *v, real *top, step_task *t, bint near, bint l2,
                           int64_t n) noexcept nogil:
    """`near`, `l2` and whether top is NULL are constants at each call, so that every loop vectorises."""
    cdef real shrink = <real> (1 - t.lr * t.weight_decay) if t.decoupled else 1
    cdef real decay = <real> t.weight_decay, sign = -1 if t.maximize else 1
    cdef real fresh1 = <real> (1 - t.beta1), kept1 = 1 - fresh1, fresh2 = <real> (1 - t.beta2), kept2 = <real> t.beta2
    cdef real root = <real> t.root2, step = <real> (-t.lr / t.correction1), eps = <real> t.eps, d, x, u
    cdef int64_t i
    for i in range(n):
        x = w[i] * shrink
        d = sign * g[i]
        if l2:
            d += decay * x
        m[i] = m[i] + fresh1 * (d - m[i]) if near else d - (d - m[i]) * kept1  # torch.lerp starts from the nearer end
        u = v[i] * kept2 + fresh2 * d * d
        v[i] = u
        if top != NULL:
            u = top[i] if u < top[i] or top[i] != top[i] else u
            top[i] = u
        w[i] = x + step * m[i] / (sqrt(u) / root + eps)


cdef inline void adam_block(step_task *t, real **p, int64_t n) noexcept nogil:
    cdef bint near = <real> (1 - t.beta1) < 0.5, l2 = t.weight_decay != 0 and not t.decoupled
    if t.amsgrad:
        if near:
            if l2:
                adam_loop(p[0], p[1], p[2], p[3], p[4], t, True, True, n)
            else:
                adam_loop(p[0], p[1], p[2], p[3], p[4], t, True, False, n)
        else:
            adam_loop(p[0], p[1], p[2], p[3], p[4], t, False, l2, n)
    elif near:
        if l2:
            adam_loop(p[0], p[1], p[2], p[3], <real *> NULL, t, True, True, n)
        else:
            adam_loop(p[0], p[1], p[2], p[3], <real *> NULL, t, True, False, n)
    else:
        adam_loop(p[0], p[1], p[2], p[3], <real *> NULL, t, False, l2, n)


cdef inline void scale_block(step_task *t, real **p, int64_t n) noexcept nogil:
    cdef real *w = p[0]
    cdef real factor = <real> t.factor
    cdef int64_t i
    for i in range(n):
        w[i] *= factor


cdef inline void one_range(step_task *t, fx_array **a, int64_t start, int64_t n, real *scratch) noexcept nogil:
    """Elements [start, start + n) of one parameter and what belongs to it."""
    cdef void *p[5]
    cdef bint direct = True
    cdef int k
    cdef int64_t done = 0, w
    for k in range(t.width):
        if a[k] != NULL:
            direct = direct and a[k].dtype == t.wanted and a[k].flags & FX_CONTIGUOUS
    if direct:
        for k in range(t.width):
            p[k] = <real *> a[k].data + start if a[k] != NULL else NULL
        t.step(t, p, n)
        return
    while done < n:
        w = n - done if n - done < BLOCK else BLOCK
        for k in range(t.width):
            p[k] = NULL
            if a[k] != NULL:
                p[k] = <void *> load_flat(a[k], start + done, w, scratch + k * BLOCK)
        t.step(t, p, w)
        for k in range(t.width):
            if a[k] != NULL and k != 1:
                store_flat(<real *> p[k], a[k], start + done, w)
        done += w


cdef void all_ranges(step_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    """Units [begin, end), counted over the parameters one after another."""
    cdef real scratch[5 * BLOCK]
    cdef int64_t first = 0, units, start, stop
    cdef int q
    cdef fx_array **a
    for q in range(t.groups):
        a = t.arrays + q * t.width
        if a[0] == NULL or (t.width > 1 and a[1] == NULL):
            continue
        units = (a[0].numel + UNIT - 1) // UNIT
        start = (begin - first) * UNIT if begin > first else 0
        stop = (end - first) * UNIT
        stop = stop if stop < a[0].numel else a[0].numel
        if start < stop:
            one_range(t, a, start, stop - start, <real *> scratch)
        first += units


cdef int run(step_task *t, fx_call *call) noexcept nogil:
    cdef int64_t units = 0, elements = 0
    cdef int q
    cdef fx_array **a
    t.arrays = call.arrays
    t.wanted = FX_F64 if call.dtype == FX_F64 else FX_F32
    for q in range(t.groups):
        a = t.arrays + q * t.width
        if a[0] != NULL and (t.width == 1 or a[1] != NULL):
            units += (a[0].numel + UNIT - 1) // UNIT
            elements += a[0].numel
    return over_rows(<row_worker> all_ranges[double] if t.wanted == FX_F64 else <row_worker> all_ranges[float], t,
                     units,
                     elements, 0)


cdef int sgd_step(fx_call *call) noexcept nogil:
    cdef step_task t
    cdef const fx_scalar *v = call.params
    t.lr, t.momentum, t.dampening, t.nesterov = v[0].f, v[1].f, v[2].f, v[3].i != 0
    t.weight_decay, t.maximize, t.first = v[4].f, v[5].i != 0, v[6].i != 0
    t.groups, t.width = <int> v[7].i, 3
    t.step = <step_function> sgd_block[double] if call.dtype == FX_F64 else <step_function> sgd_block[float]
    return run(&t, call)


cdef int adam_step(fx_call *call) noexcept nogil:
    cdef step_task t
    cdef const fx_scalar *v = call.params
    t.lr, t.beta1, t.beta2, t.eps, t.weight_decay = v[0].f, v[1].f, v[2].f, v[3].f, v[4].f
    t.amsgrad, t.maximize, t.decoupled = v[5].i != 0, v[6].i != 0, v[7].i != 0
    t.correction1, t.root2 = v[8].f, sqrt(v[9].f)
    t.groups, t.width = <int> v[10].i, 5
    t.step = <step_function> adam_block[double] if call.dtype == FX_F64 else <step_function> adam_block[float]
    return run(&t, call)


cdef int scale_all(fx_call *call) noexcept nogil:
    cdef step_task t
    t.factor = call.params[0].f if call.n_params else 1
    if call.n_in and call.arrays[call.n_out] != NULL:
        load_one(&t.factor, call.arrays[call.n_out], 0)
    t.groups, t.width = call.n_out, 1
    t.step = <step_function> scale_block[double] if call.dtype == FX_F64 else <step_function> scale_block[float]
    return run(&t, call)


cdef struct norm_task:
    fx_array **arrays
    int n
    double p
    double *partial     # of each unit of each array, in order


cdef void norm_units(norm_task *t, real *unused, int64_t begin, int64_t end) noexcept nogil:
    cdef real scratch[BLOCK]
    cdef const real *x
    cdef int64_t first = 0, units, unit, start, stop, w, i
    cdef double s, v
    cdef int q
    for q in range(t.n):
        if t.arrays[q] == NULL:
            continue
        units = (t.arrays[q].numel + UNIT - 1) // UNIT
        for unit in range(begin - first if begin > first else 0, units if units < end - first else end - first):
            start = unit * UNIT
            stop = start + UNIT if start + UNIT < t.arrays[q].numel else t.arrays[q].numel
            s = INFINITY if t.p == -INFINITY else 0
            while start < stop:
                w = stop - start if stop - start < BLOCK else BLOCK
                x = load_flat(t.arrays[q], start, w, <real *> scratch)
                if t.p == 2:
                    s += square_sum(x, 0, w)
                elif t.p == 1:
                    for i in range(w):
                        s += fabs(x[i])
                elif t.p == INFINITY:
                    for i in range(w):
                        v = fabs(x[i])
                        s = v if v > s or isnan(v) else s
                elif t.p == -INFINITY:
                    for i in range(w):
                        v = fabs(x[i])
                        s = v if v < s or isnan(v) else s
                else:
                    for i in range(w):
                        s += pow(fabs(x[i]), t.p)
                start += w
            t.partial[first + unit] = s
        first += units


cdef int grad_norm(fx_call *call) noexcept nogil:
    cdef norm_task t
    cdef int64_t units = 0, elements = 0, i
    cdef int q, status
    cdef double total
    t.p = call.params[0].f
    if t.p == 0 or isnan(t.p):
        snprintf(call.message, sizeof(call.message), "norm_type %g is not supported", t.p)
        return FX_ERROR_VALUE
    t.arrays, t.n = call.arrays + 1, call.n_in
    for q in range(t.n):
        if t.arrays[q] != NULL:
            units += (t.arrays[q].numel + UNIT - 1) // UNIT
            elements += t.arrays[q].numel
    t.partial = <double *> malloc((units + 1) * sizeof(double))
    if t.partial == NULL:
        return FX_ERROR_MEMORY
    status = over_rows(<row_worker> norm_units[double] if call.dtype == FX_F64 else <row_worker> norm_units[float], &t,
                       units, elements, 0)
    total = INFINITY if t.p == -INFINITY and units else 0
    for i in range(units):
        if t.p == INFINITY:
            total = t.partial[i] if t.partial[i] > total or isnan(t.partial[i]) else total
        elif t.p == -INFINITY:
            total = t.partial[i] if t.partial[i] < total or isnan(t.partial[i]) else total
        else:
            total += t.partial[i]
    free(t.partial)
    if t.p == 2:
        total = sqrt(total)
    elif t.p != 1 and t.p != INFINITY and t.p != -INFINITY:
        total = pow(total, 1 / t.p)
    store_one(total, call.arrays[0], 0)
    return status


provide(FX_CPU, "sgd_step", sgd_step,
        "elementwise float | {param real!, grad real<?, momentum_buffer real!?} | - | lr f, momentum f, dampening f, "
        "nesterov i, weight_decay f, maximize i, first_step i, n i")
provide(FX_CPU, "adam_step", adam_step,
        "transcendental float | {param real!, grad real<?, exp_avg real!, exp_avg_sq real!, max_exp_avg_sq real!?} | "
        "- | lr f, beta1 f, beta2 f, eps f, weight_decay f, amsgrad i, maximize i, decoupled i, bias_correction1 f, "
        "bias_correction2 f, n i")
provide(FX_CPU, "grad_norm", grad_norm, "reduction float | norm T | {x real} | p f")
provide(FX_CPU, "scale_all", scale_all, "elementwise float | {x real!} | factor any? | factor f")
