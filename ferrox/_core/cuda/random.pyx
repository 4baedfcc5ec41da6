"""Random fills on the GPU: kernels, arrays, params and bits of ferrox/_core/cpu/random.pyx.

A permutation is, as there, the order that sorts one 64-bit draw for each index, by the radix sort of order.pyx.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ferrox._core.abi cimport FX_BOOL, FX_CUDA, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F64, FX_I64, FX_OK, fx_array, \
    fx_call, fx_is_floating
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.capturing cimport captured_state, captures, may_wait, set_captured_state
from ferrox._core.cuda.context cimport bind
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.order cimport blocks_for, close_pairs, launch_elements, open_pairs, pairs, refused, sort_pairs
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/random_args.h" nogil:
    ctypedef struct fx_random_args:
        char *out
        const char *x
        uint8_t *mask
        uint64_t seed, offset
        const uint64_t *state
        int64_t n
        uint64_t low, range
        double a, b
        int dtype, wide

# By `wide`.
cdef cuda_kernel *_uniform[2]
cdef cuda_kernel *_normal[2]
cdef cuda_kernel *_exponential[2]
cdef cuda_kernel *_integers[2]
cdef cuda_kernel *_dropout[2]
cdef cuda_kernel *_bernoulli = find_kernel("random", "random_bernoulli_32")
cdef cuda_kernel *_draws = find_kernel("random", "random_draws_64")
cdef cuda_kernel *_widen = find_kernel("random", "random_widen")
_uniform[:] = [find_kernel("random", "random_uniform_32"), find_kernel("random", "random_uniform_64")]
_normal[:] = [find_kernel("random", "random_normal_32"), find_kernel("random", "random_normal_64")]
_exponential[:] = [find_kernel("random", "random_exponential_32"), find_kernel("random", "random_exponential_64")]
_integers[:] = [find_kernel("random", "random_integers_32"), find_kernel("random", "random_integers_64")]
_dropout[:] = [find_kernel("random", "dropout_32"), find_kernel("random", "dropout_64")]


cdef int _begin(fx_call *call, fx_random_args *args, bint real, int n_params) noexcept nogil:
    """Read what all fills share."""
    cdef fx_array *out = call.arrays[0]
    if real and not fx_is_floating(out.dtype):
        return refused(call, FX_ERROR_TYPE, b"needs a floating-point dtype")
    if call.n_params < n_params:
        return refused(call, FX_ERROR_VALUE, b"too few params")
    args.out = <char *> out.data
    args.x = NULL
    args.mask = NULL
    args.seed = <uint64_t> call.params[0].i
    args.offset = <uint64_t> call.params[1].i
    args.state = NULL
    if captures and bind(out.device_index) == 0 and may_wait(current_stream(out.device_index)):
        args.state = <const uint64_t *> captured_state()    # what `reserve` has set for this very call (graphs.pyx)
        set_captured_state(NULL)
        if args.state == NULL:
            return refused(call, FX_ERROR_VALUE, b"a graph can only draw from a generator of the captured device")
    args.n = out.numel
    args.low = args.range = 0
    args.a = args.b = 0
    args.dtype = out.dtype
    args.wide = real and out.dtype == FX_F64
    return FX_OK


cdef int _fill(fx_call *call, cuda_kernel *kernel, fx_random_args *args) noexcept nogil:
    return launch_elements(kernel, call.arrays[0].device_index, blocks_for(args.n, 2 if args.wide else 4), args)


cdef int _uniform_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef int status = _begin(call, &args, True, 4)
    if status != FX_OK:
        return status
    args.a = call.params[2].f
    args.b = call.params[3].f
    if not args.a <= args.b:
        return refused(call, FX_ERROR_VALUE, b"needs low <= high")
    return _fill(call, _uniform[args.wide], &args)


cdef int _normal_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef int status = _begin(call, &args, True, 4)
    if status != FX_OK:
        return status
    args.a = call.params[2].f
    args.b = call.params[3].f
    if not args.b >= 0:
        return refused(call, FX_ERROR_VALUE, b"needs std >= 0")
    return _fill(call, _normal[args.wide], &args)


cdef int _exponential_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef int status = _begin(call, &args, True, 3)
    if status != FX_OK:
        return status
    args.a = call.params[2].f
    if not args.a > 0:
        return refused(call, FX_ERROR_VALUE, b"needs lambda > 0")
    args.b = 1 / args.a
    return _fill(call, _exponential[args.wide], &args)


cdef int _bernoulli_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef fx_array *p
    cdef bint given = call.n_in > 0 and call.arrays[1] != NULL
    cdef int status = _begin(call, &args, False, 2 if given else 3)
    if status != FX_OK:
        return status
    if given:
        p = call.arrays[1]
        if p.dtype != FX_F64 or p.numel != args.n:
            return refused(call, FX_ERROR_VALUE, b"the probabilities must be float64, one for each element")
        args.x = <const char *> p.data
    else:
        args.a = call.params[2].f
        if not 0 <= args.a <= 1:
            return refused(call, FX_ERROR_VALUE, b"needs 0 <= p <= 1")
    return _fill(call, _bernoulli, &args)


cdef int _integers_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef uint64_t one = 1
    cdef int status = _begin(call, &args, False, 4)
    if status != FX_OK:
        return status
    if call.params[2].i >= call.params[3].i:
        return refused(call, FX_ERROR_VALUE, b"needs low < high")
    args.low = <uint64_t> call.params[2].i
    args.range = <uint64_t> call.params[3].i - args.low
    args.wide = args.range > one << 32
    return _fill(call, _integers[args.wide], &args)


cdef int _permutation_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef pairs p
    cdef int device = call.arrays[0].device_index, status = _begin(call, &args, False, 2)
    cdef char *out = args.out
    if status != FX_OK:
        return status
    if args.dtype != FX_I64:
        return refused(call, FX_ERROR_TYPE, b"needs an int64 output")
    if args.n >> 32:
        return refused(call, FX_ERROR_VALUE, b"more than 2**32 elements")
    if args.n == 0:
        return FX_OK
    status = open_pairs(&p, device, args.n, 1, 8)
    if status != FX_OK:
        return status
    args.out = <char *> p.keys[0]
    args.wide = True
    status = _fill(call, _draws, &args)
    if status == FX_OK:
        status = sort_pairs(&p, device, args.n, 1, 64, False)
    args.x = <const char *> p.values[p.at]
    args.out = out
    if status == FX_OK:
        status = launch_elements(_widen, device, args.n, &args)
    close_pairs(&p, device)
    return status


cdef int _dropout_dense(fx_call *call) noexcept nogil:
    cdef fx_random_args args
    cdef fx_array *mask = call.arrays[1]
    cdef fx_array *x = call.arrays[2]
    cdef int status = _begin(call, &args, True, 3)
    cdef double p
    if status != FX_OK:
        return status
    if mask.numel != args.n or x.numel != args.n:
        return refused(call, FX_ERROR_VALUE, b"output, mask and input must be of one size")
    if mask.dtype != FX_BOOL or x.dtype != args.dtype:
        return refused(call, FX_ERROR_TYPE, b"the mask must be bool, the input of the output's dtype")
    p = call.params[2].f
    if not 0 <= p <= 1:
        return refused(call, FX_ERROR_VALUE, b"needs 0 <= p <= 1")
    args.a = 1 - p
    args.b = 1 / args.a if args.a > 0 else 0
    args.mask = <uint8_t *> mask.data
    args.x = <const char *> x.data
    args.wide = False
    return _fill(call, _dropout[args.dtype == FX_F64], &args)


cdef int random_uniform(fx_call *call) noexcept nogil:
    return dense(call, _uniform_dense, 0, 0)


cdef int random_normal(fx_call *call) noexcept nogil:
    return dense(call, _normal_dense, 0, 0)


cdef int random_exponential(fx_call *call) noexcept nogil:
    return dense(call, _exponential_dense, 0, 0)


cdef int random_bernoulli(fx_call *call) noexcept nogil:
    return dense(call, _bernoulli_dense, 0, 0)


cdef int random_integers(fx_call *call) noexcept nogil:
    return dense(call, _integers_dense, 0, 0)


cdef int random_permutation(fx_call *call) noexcept nogil:
    return dense(call, _permutation_dense, 0, 0)


cdef int dropout(fx_call *call) noexcept nogil:
    return dense(call, _dropout_dense, 0, 0)


provide(FX_CUDA, "random_uniform", random_uniform)
provide(FX_CUDA, "random_normal", random_normal)
provide(FX_CUDA, "random_exponential", random_exponential)
provide(FX_CUDA, "random_bernoulli", random_bernoulli)
provide(FX_CUDA, "random_integers", random_integers)
provide(FX_CUDA, "random_permutation", random_permutation)
provide(FX_CUDA, "dropout", dropout)
