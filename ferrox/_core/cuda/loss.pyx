"""The driver of cross-entropy and negative log-likelihood on the GPU.  Arrays and params as the CPU's (cpu/loss.pyx).

A target that is no class is reported when the host next waits for the device (fault.pyx), and counts as ignored until
then.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F32, FX_F64, FX_OK, fx_array, \
    fx_call, fx_is_floating, fx_is_whole, fx_suffix
from ferrox._core.door.backend cimport kernel_id, provide
from ferrox._core.cuda.abi cimport CUdeviceptr, CUresult
from ferrox._core.cuda.context cimport bind
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.long_rows cimport cut_rows, run_long_rows
from ferrox._core.cuda.module cimport cuda_kernel, driver_call, find_kernel
from ferrox._core.cuda.rows cimport REGISTER_ROW, THREADS, ceiling, data_of, dtype_or, power_of_two, run_blocks, \
    split
from ferrox._core.cuda.rows_args cimport fx_loss_args
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef enum:
    ROWS, LONG, COLUMNS, BACKWARD_ROWS, BACKWARD_COLUMNS, FORMS
    STATE = 24                      # bytes of what is kept of a sample

cdef cuda_kernel *kernels[FORMS][FX_DTYPES]
cdef cuda_kernel *weights_kernel = find_kernel("loss", "class_weights")
cdef cuda_kernel *nll_kernel = find_kernel("loss", "nll")
cdef cuda_kernel *nll_backward_kernel = find_kernel("loss", "nll_backward")
cdef int _backward = kernel_id("cross_entropy_backward"), _nll_backward = kernel_id("nll_backward")


cdef void _begin(fx_loss_args *a, fx_call *call, fx_array *x, fx_array *target, fx_array *weight) noexcept nogil:
    """The shape of x, or of its gradient."""
    memset(a, 0, sizeof(a[0]))
    split(x, 1 if x.ndim > 1 else 0, &a.outer, &a.n, &a.inner)
    a.target = <const int64_t *> target.data
    a.weight, a.weight_dtype = data_of(weight), dtype_or(weight, FX_F32)
    a.out, a.out_dtype = call.arrays[0].data, call.arrays[0].dtype
    a.kernel = call.kernel
    a.fault = fault_record(x.device_index)


cdef int _over_samples(fx_loss_args *a, bint backward, fx_array *x) noexcept nogil:
    cdef int form
    cdef int64_t blocks
    if a.inner > 1:
        form = BACKWARD_COLUMNS if backward else COLUMNS
        a.group = power_of_two(a.inner, 32)
        blocks = a.outer * ceiling(a.inner, a.group)
    elif a.n > REGISTER_ROW and not backward:
        return run_long_rows(kernels[<int> LONG][x.dtype], x.device_index, a.outer, a.n, STATE, &a.pieces, a)
    else:
        form = BACKWARD_ROWS if backward else ROWS
        a.group = power_of_two(ceiling(a.n, 4), 32) if a.n <= 1024 else <int> THREADS
        blocks = ceiling(cut_rows(&a.pieces, a.outer, a.n), THREADS // a.group)
    return run_blocks(kernels[form][x.dtype], x.device_index, blocks, a)


cdef int _cross_entropy(fx_call *call) noexcept nogil:
    cdef fx_loss_args a
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef bint backward = call.kernel == _backward
    cdef fx_array *x = in_[1 if backward else 0]
    cdef fx_array *target = in_[2 if backward else 1]
    cdef fx_array *lse = in_[3] if backward else call.arrays[1]
    cdef fx_array *weights = call.arrays[2] if call.n_out > 2 else NULL
    cdef fx_loss_args sums
    cdef void *all_weights
    cdef int status
    _begin(&a, call, x, target, in_[4 if backward else 2])
    a.x, a.lse, a.lse_dtype = x.data, lse.data, lse.dtype
    a.ignored, a.smoothing = call.params[0].i, call.params[1].f
    a.sample_weight, a.sample_weight_dtype = data_of(weights), dtype_or(weights, FX_F32)
    if backward:
        a.g, a.g_dtype = in_[0].data, in_[0].dtype
    if a.smoothing == 0 or a.weight == NULL:
        return _over_samples(&a, backward, x)
    sums = a
    sums.out = all_weights = scratch(x.device_index, sizeof(double))
    if all_weights == NULL:
        return FX_ERROR_MEMORY
    a.all_weights = <const double *> all_weights
    status = run_blocks(weights_kernel, x.device_index, 1, &sums)
    if status == FX_OK:
        status = _over_samples(&a, backward, x)
    scratch_free(x.device_index, all_weights)
    return status


cdef int _nll(fx_call *call) noexcept nogil:
    cdef fx_loss_args a
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef fx_array *weights = call.arrays[1] if call.n_out > 1 else NULL
    _begin(&a, call, in_[0], in_[1], in_[2])
    a.x, a.lse_dtype = in_[0].data, in_[0].dtype
    a.ignored = call.params[0].i
    a.sample_weight, a.sample_weight_dtype = data_of(weights), dtype_or(weights, FX_F32)
    return run_blocks(nll_kernel, in_[0].device_index, ceiling(in_[1].numel, THREADS), &a)


cdef int _nll_gradient(fx_call *call) noexcept nogil:
    cdef fx_loss_args a
    cdef fx_array *out = call.arrays[0]
    cdef CUresult status = bind(out.device_index)
    _begin(&a, call, out, call.arrays[2], call.arrays[3])
    a.g, a.g_dtype = call.arrays[1].data, call.arrays[1].dtype
    a.ignored = call.params[1].i
    if status == 0:
        status = cu.cuMemsetD8Async(<CUdeviceptr> out.data, 0, <size_t> (
            out.numel * (8 if out.dtype == FX_F64 else 4 if out.dtype == FX_F32 else 2)),
            current_stream(out.device_index))
    if status != 0:
        return driver_call(status, b"filling with zeros")
    return run_blocks(nll_backward_kernel, out.device_index, ceiling(call.arrays[2].numel, THREADS), &a)


cdef int cross_entropy(fx_call *call) noexcept nogil:
    cdef bint backward = call.kernel == _backward
    if fx_is_whole(call.dtype):
        return FX_ERROR_TYPE
    # Without classes there are targets, and losses, all the same.
    if call.arrays[0].numel == 0:
        return FX_OK
    return dense(call, _cross_entropy, 0, 1 | 1 << 2 if backward else 1 << call.n_out)


cdef int nll(fx_call *call) noexcept nogil:
    if call.arrays[0].numel == 0:
        return FX_OK
    return dense(call, _nll_gradient if call.kernel == _nll_backward else _nll, 0, 0)


for _dtype in range(FX_DTYPES):
    if not fx_is_floating(_dtype):
        continue
    _suffix = fx_suffix(_dtype).decode()
    for _form, _name in (
        (ROWS, "cross_entropy_rows"), (LONG, "cross_entropy_long"), (COLUMNS, "cross_entropy_columns"),
        (BACKWARD_ROWS, "cross_entropy_backward_rows"), (BACKWARD_COLUMNS, "cross_entropy_backward_columns"),
    ):
        kernels[<int> _form][<int> _dtype] = find_kernel("loss", f"{_name}_{_suffix}")
for _name in ("cross_entropy", "cross_entropy_backward"):
    provide(FX_CUDA, _name, cross_entropy)
for _name in ("nll", "nll_backward"):
    provide(FX_CUDA, _name, nll)
