"""Optimiser steps, gradient norm and scaling of many tensors on the GPU, in a few launches.

Arrays and params as the CPU's (cpu/optim.pyx).  The tensors' addresses travel in the kernels' arguments.  A parameter
with an array that has gaps takes a launch of its own, over copies.  The norm is summed in double precision, in an order
that depends on the sizes alone.
"""
from libc.math cimport INFINITY, isnan, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F16, FX_F32, \
    FX_F64, FX_HOST_SCALAR, FX_OK, fx_array, fx_call, fx_is_whole, fx_kernel, fx_scalar
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.dense cimport dense, elsewhere
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from *:
    """
    #include <string.h>
    static double fx_read_f16(const void *p) {
        _Float16 h;
        memcpy(&h, p, 2);
        return (double)h;
    }
    """
    double fx_read_f16(const void *p) nogil

cdef extern from "fx/step_args.h" nogil:
    enum:
        FX_STEP_CHUNK
        FX_STEP_TENSORS
        FX_LIST_CHUNK
        FX_LIST_TENSORS
        FX_STEP_DECAY
        FX_STEP_NESTEROV
        FX_STEP_FIRST
        FX_STEP_NEAR
        FX_STEP_SIZE
        FX_STEP_SIGN
        FX_STEP_WEIGHT
        FX_SGD_MOMENTUM
        FX_SGD_FRESH
        FX_ADAM_SHRINK
        FX_ADAM_FRESH1
        FX_ADAM_FRESH2
        FX_ADAM_KEPT2
        FX_ADAM_ROOT
        FX_ADAM_EPS
        FX_STEP_FACTORS
        FX_LIVE_FACTORS
        FX_NORM_2
        FX_NORM_1
        FX_NORM_MAX
        FX_NORM_MIN
        FX_NORM_P
    ctypedef struct fx_step_args:
        double factor[FX_STEP_FACTORS]
        const double *live
        int32_t flags, count
        void *data[FX_STEP_TENSORS][5]
        int64_t numel[FX_STEP_TENSORS]
        uint32_t first_block[FX_STEP_TENSORS + 2]
        uint8_t dtype[FX_STEP_TENSORS][5]
        uint8_t direct[FX_STEP_TENSORS]
    ctypedef struct fx_count_args:
        double lr, beta1, beta2, decay
        void *count
        const void *lr_there
        double *live
        int32_t count_dtype, lr_dtype
    ctypedef struct fx_list_args:
        double p
        const void *factor
        double *sums
        void *norm
        int64_t n_sums
        int32_t count, kind, factor_dtype, norm_dtype
        void *data[FX_LIST_TENSORS]
        int64_t numel[FX_LIST_TENSORS]
        uint32_t first_block[FX_LIST_TENSORS + 2]
        uint8_t dtype[FX_LIST_TENSORS]

cdef enum:
    MOST_BLOCKS = 1 << 30       # of one launch

# [double precision]
cdef cuda_kernel *sgd_kernel[2]
cdef cuda_kernel *adam_kernel[2]
cdef cuda_kernel *scale_kernel[2]
cdef cuda_kernel *norm_kernel[2]
cdef cuda_kernel *norm_finish
cdef cuda_kernel *count_kernel


cdef int _fits(fx_call *call, const fx_array *x, int device) noexcept nogil:
    if x.device_type != FX_CUDA or x.flags & FX_HOST_SCALAR or x.device_index != device:
        return elsewhere(call, x, device)
    if fx_is_whole(x.dtype):
        snprintf(call.message, sizeof(call.message), b"expected floating-point tensors")
        return FX_ERROR_TYPE
    return FX_OK


cdef int _device(fx_call *call) noexcept nogil:
    cdef int i
    for i in range(call.n_out + call.n_in):
        if call.arrays[i] != NULL and call.arrays[i].device_type == FX_CUDA:
            return call.arrays[i].device_index
    return 0


cdef int _flush_steps(fx_step_args *a, cuda_kernel *kernel, int device) noexcept nogil:
    cdef void *pointer = a
    cdef launch_shape shape
    if a.count == 0:
        return FX_OK
    shape = flat_shape(a.first_block[a.count], 256)
    status = launched(launch(kernel, device, current_stream(device), &shape, &pointer))
    a.count = 0
    memset(a.data, 0, sizeof(a.data))
    return status


cdef int _apart(fx_call *call, int first, int width, int at, fx_kernel again) noexcept nogil:
    """One parameter by a call of its own, over arrays without gaps; params[at] counts the parameters."""
    cdef fx_call alone = call[0]
    cdef fx_scalar params[16]
    cdef int status
    memcpy(params, call.params, <size_t> call.n_params * sizeof(fx_scalar))
    if at >= 0:
        params[at].i = 1
    alone.params = params
    alone.arrays = call.arrays + first
    alone.n_out, alone.n_in = width, 0
    status = dense(&alone, again, <uint64_t> -1, 0)
    if status != FX_OK:
        memcpy(call.message, alone.message, sizeof(call.message))
    return status


cdef int _steps(fx_call *call, fx_step_args *a, cuda_kernel *kernel, int width, int at, fx_kernel again) noexcept nogil:
    cdef int q, k, status, device = _device(call), wanted = FX_F64 if call.dtype == FX_F64 else FX_F32
    cdef int n = <int> call.params[at].i
    cdef fx_array **x
    cdef bint gaps
    cdef int64_t blocks
    for q in range(n):
        x = call.arrays + q * width
        if x[0] == NULL or x[1] == NULL or x[0].numel == 0:
            continue
        gaps = False
        for k in range(width):
            if x[k] != NULL:
                status = _fits(call, x[k], device)
                if status != FX_OK:
                    return status
                gaps = gaps or not x[k].flags & FX_CONTIGUOUS
        if gaps:
            status = _apart(call, q * width, width, at, again)
            if status != FX_OK:
                return status
            continue
        blocks = (x[0].numel + FX_STEP_CHUNK - 1) // FX_STEP_CHUNK
        if a.count == FX_STEP_TENSORS or (a.count and a.first_block[a.count] + blocks > MOST_BLOCKS):
            status = _flush_steps(a, kernel, device)
            if status != FX_OK:
                return status
        a.numel[a.count] = x[0].numel
        a.direct[a.count] = 1
        for k in range(width):
            if x[k] != NULL:
                a.data[a.count][k] = x[k].data
                a.dtype[a.count][k] = x[k].dtype
                if x[k].dtype != wanted or <size_t> x[k].data % 16:
                    a.direct[a.count] = 0
        a.first_block[a.count + 1] = <uint32_t> ((a.first_block[a.count] if a.count else 0) + blocks)
        a.count += 1
    return _flush_steps(a, kernel, device)


cdef int sgd_step(fx_call *call) noexcept nogil:
    cdef fx_step_args a
    cdef const fx_scalar *v = call.params
    memset(&a, 0, sizeof(a))
    a.factor[FX_STEP_SIZE] = -v[0].f
    a.factor[FX_STEP_SIGN] = -1 if v[5].i else 1
    a.factor[FX_STEP_WEIGHT] = v[4].f
    a.factor[FX_SGD_MOMENTUM] = v[1].f
    a.factor[FX_SGD_FRESH] = 1 - v[2].f
    a.flags = (FX_STEP_NESTEROV if v[3].i else 0) | (FX_STEP_DECAY if v[4].f != 0 else 0) \
        | (FX_STEP_FIRST if v[6].i else 0)
    return _steps(call, &a, sgd_kernel[call.dtype == FX_F64], 3, 7, sgd_step)


cdef int adam_step(fx_call *call) noexcept nogil:
    cdef fx_step_args a
    cdef const fx_scalar *v = call.params
    cdef bint decoupled = v[7].i != 0
    memset(&a, 0, sizeof(a))
    a.factor[FX_STEP_SIZE] = -v[0].f / v[8].f
    a.factor[FX_STEP_SIGN] = -1 if v[6].i else 1
    a.factor[FX_STEP_WEIGHT] = v[4].f
    a.factor[FX_ADAM_SHRINK] = 1 - v[0].f * v[4].f if decoupled else 1
    a.factor[FX_ADAM_FRESH1] = 1 - v[1].f
    a.factor[FX_ADAM_FRESH2] = 1 - v[2].f
    a.factor[FX_ADAM_KEPT2] = v[2].f
    a.factor[FX_ADAM_ROOT] = sqrt(v[9].f)
    a.factor[FX_ADAM_EPS] = v[3].f
    a.flags = FX_STEP_DECAY if v[4].f != 0 and not decoupled else 0
    if (1 - v[1].f if call.dtype == FX_F64 else <float> (1 - v[1].f)) < 0.5:
        a.flags |= FX_STEP_NEAR
    if call.n_params > 11:
        a.live = <const double *> v[11].i
    return _steps(call, &a, adam_kernel[call.dtype == FX_F64], 5, 10, adam_step)


cdef int adam_step_capturable(fx_call *call) noexcept nogil:
    """As adam_step, but params[8] and [9] are not read: the last output is the count of steps before this one, which is
    moved on; the input is the learning rate, or NULL for params[0].  Both may change between a graph's replays."""
    cdef fx_count_args c
    cdef fx_call counted = call[0]
    cdef fx_scalar params[12]
    cdef fx_array *count = call.arrays[call.n_out - 1]
    cdef fx_array *lr = call.arrays[call.n_out]
    cdef void *pointer = &c
    cdef const fx_scalar *v = call.params
    cdef int device = count.device_index, status = _fits(call, count, device)
    cdef launch_shape shape = flat_shape(1, 1)
    memset(&c, 0, sizeof(c))
    if status == FX_OK and lr != NULL:
        status = _fits(call, lr, device)
        c.lr_there, c.lr_dtype = lr.data, lr.dtype
    if status != FX_OK:
        return status
    c.lr, c.beta1, c.beta2, c.decay = v[0].f, v[1].f, v[2].f, v[4].f if v[7].i else 0
    c.count, c.count_dtype = count.data, count.dtype
    c.live = <double *> scratch(device, FX_LIVE_FACTORS * sizeof(double))
    if c.live == NULL:
        return FX_ERROR_MEMORY
    status = launched(launch(count_kernel, device, current_stream(device), &shape, &pointer))
    if status == FX_OK:
        memcpy(params, v, 11 * sizeof(fx_scalar))
        params[8].f = params[9].f = 1
        params[11].i = <int64_t> c.live
        counted.params, counted.n_params, counted.n_in, counted.n_out = params, 12, 0, call.n_out - 1
        status = adam_step(&counted)
        memcpy(call.message, counted.message, sizeof(call.message))
    scratch_free(device, c.live)
    return status


cdef void _add_list(fx_list_args *a, const fx_array *x) noexcept nogil:
    cdef uint32_t before = a.first_block[a.count] if a.count else 0
    a.data[a.count], a.numel[a.count], a.dtype[a.count] = x.data, x.numel, x.dtype
    a.first_block[a.count + 1] = before + <uint32_t> ((x.numel + FX_LIST_CHUNK - 1) // FX_LIST_CHUNK)
    a.count += 1


cdef int _flush_list(fx_list_args *a, cuda_kernel *kernel, int device) noexcept nogil:
    cdef void *pointer = a
    cdef launch_shape shape
    if a.count == 0:
        return FX_OK
    shape = flat_shape(a.first_block[a.count], 256)
    shape.shared = 8 * sizeof(double)
    status = launched(launch(kernel, device, current_stream(device), &shape, &pointer))
    if a.sums != NULL:
        a.sums += a.first_block[a.count]
    a.count = 0
    return status


cdef int scale_all(fx_call *call) noexcept nogil:
    cdef fx_list_args a
    cdef fx_array *x
    cdef fx_array *factor = NULL
    cdef int q, status, device = _device(call)
    cdef cuda_kernel *kernel = scale_kernel[call.dtype == FX_F64]
    cdef fx_call alone
    cdef fx_array *both[2]
    memset(&a, 0, sizeof(a))
    a.p = call.params[0].f if call.n_params else 1
    if call.n_in and call.arrays[call.n_out] != NULL:
        factor = call.arrays[call.n_out]
        if factor.device_type == FX_CUDA and not factor.flags & FX_HOST_SCALAR:
            status = _fits(call, factor, device)
            if status != FX_OK:
                return status
            a.factor, a.factor_dtype = factor.data, factor.dtype
        elif factor.dtype == FX_F64:
            a.p = (<double *> factor.data)[0]
        elif factor.dtype == FX_F32:
            a.p = (<float *> factor.data)[0]
        elif factor.dtype == FX_F16:
            a.p = fx_read_f16(factor.data)
        else:
            snprintf(call.message, sizeof(call.message), b"expected a floating-point factor")
            return FX_ERROR_TYPE
    for q in range(call.n_out):
        x = call.arrays[q]
        if x == NULL or x.numel == 0:
            continue
        status = _fits(call, x, device)
        if status == FX_OK and not x.flags & FX_CONTIGUOUS:
            alone = call[0]
            both[0], both[1] = x, factor
            alone.arrays, alone.n_out, alone.n_in = both, 1, 1
            status = dense(&alone, scale_all, 1, 0)
        elif status == FX_OK:
            if a.count == FX_LIST_TENSORS or (a.count and a.first_block[a.count] > MOST_BLOCKS):
                status = _flush_list(&a, kernel, device)
            _add_list(&a, x)
        if status != FX_OK:
            return status
    return _flush_list(&a, kernel, device)


cdef int _norm(fx_call *call) noexcept nogil:
    cdef fx_list_args a
    cdef fx_array *x
    cdef double *sums = NULL
    cdef int q, status = FX_OK, device = _device(call)
    cdef int64_t units = 0
    cdef double p = call.params[0].f
    cdef void *pointer = &a
    cdef cuda_kernel *kernel = norm_kernel[call.dtype == FX_F64]
    cdef launch_shape shape
    memset(&a, 0, sizeof(a))
    a.p = p
    a.kind = FX_NORM_2 if p == 2 else FX_NORM_1 if p == 1 else FX_NORM_MAX if p == INFINITY else \
        FX_NORM_MIN if p == -INFINITY else FX_NORM_P
    for q in range(call.n_in):
        x = call.arrays[1 + q]
        if x != NULL:
            status = _fits(call, x, device)
            if status != FX_OK:
                return status
            units += (x.numel + FX_LIST_CHUNK - 1) // FX_LIST_CHUNK
    if units:
        sums = <double *> scratch(device, <size_t> units * sizeof(double))
        if sums == NULL:
            return FX_ERROR_MEMORY
    a.sums = sums
    for q in range(call.n_in):
        x = call.arrays[1 + q]
        if x == NULL or x.numel == 0 or status != FX_OK:
            continue
        if a.count == FX_LIST_TENSORS or (a.count and a.first_block[a.count] > MOST_BLOCKS):
            status = _flush_list(&a, kernel, device)
        _add_list(&a, x)
    if status == FX_OK:
        status = _flush_list(&a, kernel, device)
    if status == FX_OK:
        memset(a.data, 0, sizeof(a.data))
        a.sums, a.n_sums = sums, units
        a.norm, a.norm_dtype = call.arrays[0].data, call.arrays[0].dtype
        shape = flat_shape(1, 256)
        shape.shared = 8 * sizeof(double)
        status = launched(launch(norm_finish, device, current_stream(device), &shape, &pointer))
    if sums != NULL:
        scratch_free(device, sums)
    return status


cdef int grad_norm(fx_call *call) noexcept nogil:
    if call.params[0].f == 0 or isnan(call.params[0].f):
        snprintf(call.message, sizeof(call.message), "norm_type %g is not supported", call.params[0].f)
        return FX_ERROR_VALUE
    return dense(call, _norm, 0, 0)


for _wide in range(2):
    _suffix = ("f32", "f64")[_wide]
    sgd_kernel[<int> _wide] = find_kernel("optim", f"sgd_{_suffix}")
    adam_kernel[<int> _wide] = find_kernel("optim", f"adam_{_suffix}")
    scale_kernel[<int> _wide] = find_kernel("optim", f"scale_{_suffix}")
    norm_kernel[<int> _wide] = find_kernel("optim", f"norm_{_suffix}")
norm_finish = find_kernel("optim", "norm_finish")
count_kernel = find_kernel("optim", "adam_count")
provide(FX_CUDA, "sgd_step", sgd_step)
provide(FX_CUDA, "adam_step", adam_step)
provide(FX_CUDA, "adam_step_capturable", adam_step_capturable,
        "transcendental float | {param real!, grad real<?, exp_avg real!, exp_avg_sq real!, max_exp_avg_sq real!?}, "
        "count any! | lr any? | lr f, beta1 f, beta2 f, eps f, weight_decay f, amsgrad i, maximize i, decoupled i, "
        "unused f, unused f, n i")
provide(FX_CUDA, "grad_norm", grad_norm)
provide(FX_CUDA, "scale_all", scale_all)
