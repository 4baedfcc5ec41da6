"""The drivers of layer, RMS and batch normalisation on the GPU.  Arrays and params as the CPU's (cpu/norm.pyx and
cpu/batch_norm.pyx).

Sums over many rows (weight gradients, statistics of channels) take two launches, cut by the shape alone.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_F32, FX_OK, fx_array, fx_call, \
    fx_is_floating, fx_is_whole, fx_suffix
from ferrox._core.door.backend cimport kernel_id, provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.long_rows cimport run_long_rows
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.rows cimport ENOUGH, PLENTY, REGISTER_ROW, THREADS, ceiling, data_of, dtype_or, \
    power_of_two, run_blocks
from ferrox._core.cuda.rows_args cimport fx_norm_args
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef enum:
    NORM_ROWS, NORM_LONG, BACKWARD_ROWS, BACKWARD_LONG, NORM_SUMS, MOMENTS_ROWS, MOMENTS_COLUMNS, SUMS_ROWS, \
        SUMS_COLUMNS, APPLY_ROWS, APPLY_COLUMNS, FORMS

cdef enum:
    STATE = 24          # bytes of a state of moments; sums take 16
    PIECE = 4096        # elements of a row that one group of threads takes
    COLUMN_ROWS = 64    # rows of a column that a block takes, at least: 8 for each thread
    MOST_CHUNKS = 256

cdef cuda_kernel *kernels[FORMS][FX_DTYPES]
cdef cuda_kernel *merge_layer = find_kernel("norm", "norm_gradients")
cdef cuda_kernel *merge_batch = find_kernel("batch_norm", "batch_norm_gradients")
cdef cuda_kernel *settle = find_kernel("batch_norm", "batch_norm_settle")
cdef int _layer = kernel_id("layer_norm"), _layer_backward = kernel_id("layer_norm_backward")
cdef int _train = kernel_id("batch_norm_train")


cdef void _take(fx_norm_args *a, fx_array *weight, fx_array *bias, fx_array *mean, fx_array *rstd) noexcept nogil:
    a.weight, a.weight_dtype = data_of(weight), dtype_or(weight, FX_F32)
    a.bias, a.bias_dtype = data_of(bias), dtype_or(bias, FX_F32)
    a.mean, a.mean_dtype = data_of(mean), dtype_or(mean, FX_F32)
    a.rstd, a.rstd_dtype = data_of(rstd), dtype_or(rstd, FX_F32)


cdef int _over_rows(fx_norm_args *a, int backward, int dtype, int device) noexcept nogil:
    cdef int form = (BACKWARD_ROWS if backward else NORM_ROWS) + (a.n > REGISTER_ROW)
    if a.n > REGISTER_ROW:
        return run_long_rows(kernels[form][dtype], device, a.rows, a.n, STATE, &a.pieces, a)
    a.group = power_of_two(ceiling(a.n, 4), 32) if a.n <= 512 else <int> THREADS
    return run_blocks(kernels[form][dtype], device, ceiling(a.rows, THREADS // a.group), a)


cdef void _cut_columns(fx_norm_args *a, int64_t columns) noexcept nogil:
    """Chunks of rows for sums over columns, 32 of them to a block."""
    cdef int64_t strips = ceiling(columns, 32), chunks = 1
    if strips < ENOUGH:
        chunks = max(<int64_t> 1, min(min(ceiling(PLENTY, max(strips, <int64_t> 1)), a.rows // COLUMN_ROWS),
                                      <int64_t> MOST_CHUNKS))
    a.chunk = max(<int64_t> 1, ceiling(a.rows, chunks))
    a.chunks = max(<int64_t> 1, ceiling(a.rows, a.chunk))


cdef int _layer_forward(fx_call *call) noexcept nogil:
    cdef fx_norm_args a
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef fx_array *y = call.arrays[0]
    memset(&a, 0, sizeof(a))
    a.centred = call.kernel == _layer
    a.n, a.eps = call.params[0].i, call.params[1].f
    a.rows = y.numel // a.n
    a.x, a.y = in_[0].data, y.data
    _take(&a, in_[1], in_[2] if a.centred else NULL, call.arrays[1] if a.centred else NULL,
          call.arrays[2 if a.centred else 1])
    return _over_rows(&a, 0, y.dtype, y.device_index)


cdef int _layer_gradients(fx_call *call) noexcept nogil:
    cdef fx_norm_args a
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef fx_array *x = in_[1]
    cdef fx_array *dweight = call.arrays[1]
    cdef fx_array *dbias = call.arrays[2] if call.n_out > 2 else NULL
    cdef int status = FX_OK, device = x.device_index, at = 1 if call.n_out > 2 else 0
    memset(&a, 0, sizeof(a))
    a.centred = at
    a.n = a.channels = call.params[0].i
    a.rows = x.numel // a.n
    a.g, a.x, a.y = in_[0].data, x.data, data_of(call.arrays[0])
    _take(&a, in_[3 + at], NULL, in_[2] if a.centred else NULL, in_[2 + at])
    if a.y != NULL and a.rows:
        status = _over_rows(&a, 1, x.dtype, device)
    if status != FX_OK or (dweight == NULL and dbias == NULL):
        return status
    a.dweight, a.dweight_dtype = data_of(dweight), dtype_or(dweight, FX_F32)
    a.dbias, a.dbias_dtype = data_of(dbias), dtype_or(dbias, FX_F32)
    _cut_columns(&a, a.n)
    a.partial = scratch(device, <size_t> (16 * (a.chunks + 1) * a.n))
    if a.partial == NULL:
        return FX_ERROR_MEMORY
    status = run_blocks(kernels[<int> NORM_SUMS][x.dtype], device, a.chunks * ceiling(a.n, 32), &a)
    if status == FX_OK:
        status = run_blocks(merge_layer, device, ceiling(a.n, 8), &a)
    scratch_free(device, a.partial)
    return status


cdef int layer_forward(fx_call *call) noexcept nogil:
    if fx_is_whole(call.dtype):
        return FX_ERROR_TYPE
    if call.arrays[0].numel == 0:
        return FX_OK
    return dense(call, _layer_forward, 0, 1 | 1 << call.n_out)


cdef int layer_backward(fx_call *call) noexcept nogil:
    if call.params[0].i == 0:
        return FX_OK
    return dense(call, _layer_gradients, 0, 1 | 3 << call.n_out)


# ---- batch normalisation ---------------------------------------------------------------------------------------------

cdef void _shape(fx_norm_args *a, fx_array *x) noexcept nogil:
    cdef int d
    a.channels, a.n = x.dims[1], 1
    for d in range(2, x.ndim):
        a.n *= x.dims[d]
    a.count = x.dims[0] * a.n
    a.rows = x.dims[0] if a.n == 1 else x.dims[0] * a.channels


cdef int64_t _cut(fx_norm_args *a) noexcept nogil:
    """Pieces of rows, or chunks of columns; returns the blocks that the first stage takes."""
    if a.n == 1:
        a.group = 32
        _cut_columns(a, a.channels)
        return a.chunks * ceiling(a.channels, 32)
    a.chunk = PIECE
    a.chunks = a.count // a.n * ceiling(a.n, PIECE)
    a.group = power_of_two(ceiling(a.n, 4), 32) if a.n <= 512 else <int> THREADS
    return ceiling(a.rows * ceiling(a.n, PIECE), THREADS // a.group)


cdef int _apply(fx_norm_args *a, int64_t blocks, int dtype, int device) noexcept nogil:
    return run_blocks(kernels[APPLY_COLUMNS if a.n == 1 else APPLY_ROWS][dtype], device, blocks, a)


cdef int _batch_forward(fx_call *call) noexcept nogil:
    cdef fx_norm_args a
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef fx_array **running = call.arrays + 3 if call.kernel == _train else in_ + 3
    cdef fx_array *x = in_[0]
    cdef fx_array *y = call.arrays[0]
    cdef int status, device = y.device_index
    cdef int64_t blocks
    memset(&a, 0, sizeof(a))
    _shape(&a, x)
    a.training = call.kernel == _train
    a.x, a.y, a.eps = x.data, y.data, call.params[0].f
    _take(&a, in_[1], in_[2], call.arrays[1] if a.training else NULL, call.arrays[2] if a.training else NULL)
    a.running_mean, a.running_mean_dtype = data_of(running[0]), dtype_or(running[0], FX_F32)
    a.running_var, a.running_var_dtype = data_of(running[1]), dtype_or(running[1], FX_F32)
    blocks = _cut(&a)
    if a.training:
        a.momentum = call.params[1].f
        a.partial = scratch(device, <size_t> (STATE * a.chunks * a.channels))
        if a.partial == NULL:
            return FX_ERROR_MEMORY
        status = run_blocks(kernels[MOMENTS_COLUMNS if a.n == 1 else MOMENTS_ROWS][y.dtype], device, blocks, &a)
        if status == FX_OK:
            status = run_blocks(settle, device, ceiling(a.channels, 8), &a)
        scratch_free(device, a.partial)
        if status != FX_OK:
            return status
    return _apply(&a, blocks, y.dtype, device)


cdef int _batch_gradients(fx_call *call) noexcept nogil:
    cdef fx_norm_args a
    cdef fx_array *g = call.arrays[3]
    cdef fx_array *x = call.arrays[4]
    cdef int status = FX_OK, device = x.device_index
    cdef int64_t blocks = 0
    memset(&a, 0, sizeof(a))
    _shape(&a, x)
    a.training = call.params[0].i != 0
    a.g, a.x, a.y = g.data, x.data, data_of(call.arrays[0])
    _take(&a, call.arrays[7], NULL, call.arrays[5], call.arrays[6])
    a.dweight, a.dweight_dtype = data_of(call.arrays[1]), dtype_or(call.arrays[1], FX_F32)
    a.dbias, a.dbias_dtype = data_of(call.arrays[2]), dtype_or(call.arrays[2], FX_F32)
    if a.channels == 0:
        return FX_OK
    if x.numel:
        blocks = _cut(&a)
    a.partial = scratch(device, <size_t> (16 * (a.chunks + 1) * a.channels))
    if a.partial == NULL:
        return FX_ERROR_MEMORY
    if x.numel:
        status = run_blocks(kernels[SUMS_COLUMNS if a.n == 1 else SUMS_ROWS][x.dtype], device, blocks, &a)
    if status == FX_OK:
        status = run_blocks(merge_batch, device, ceiling(a.channels, 8), &a)
    if status == FX_OK and a.y != NULL and x.numel:
        status = _apply(&a, blocks, x.dtype, device)
    scratch_free(device, a.partial)
    return status


cdef int batch_forward(fx_call *call) noexcept nogil:
    if fx_is_whole(call.dtype):
        return FX_ERROR_TYPE
    if call.arrays[0].numel == 0:
        return FX_OK
    if call.kernel != _train:
        return dense(call, _batch_forward, 0, 1 | 1 << call.n_out)
    return dense(call, _batch_forward, 3 << 3, 1 | 1 << call.n_out)     # the running statistics are kept


cdef int batch_backward(fx_call *call) noexcept nogil:
    return dense(call, _batch_gradients, 0, 1 | 3 << call.n_out)


for _dtype in range(FX_DTYPES):
    if not fx_is_floating(_dtype):
        continue
    _suffix = fx_suffix(_dtype).decode()
    for _form, _family, _name in (
        (NORM_ROWS, "norm", "norm_rows"), (NORM_LONG, "norm", "norm_long"),
        (BACKWARD_ROWS, "norm", "norm_backward_rows"), (BACKWARD_LONG, "norm", "norm_backward_long"),
        (NORM_SUMS, "norm", "norm_sums"), (MOMENTS_ROWS, "batch_norm", "batch_norm_moments_rows"),
        (MOMENTS_COLUMNS, "batch_norm", "batch_norm_moments_columns"),
        (SUMS_ROWS, "batch_norm", "batch_norm_sums_rows"), (SUMS_COLUMNS, "batch_norm", "batch_norm_sums_columns"),
        (APPLY_ROWS, "batch_norm", "batch_norm_apply_rows"),
        (APPLY_COLUMNS, "batch_norm", "batch_norm_apply_columns"),
    ):
        kernels[<int> _form][<int> _dtype] = find_kernel(_family, f"{_name}_{_suffix}")
provide(FX_CUDA, "layer_norm", layer_forward)
provide(FX_CUDA, "rms_norm", layer_forward)
provide(FX_CUDA, "layer_norm_backward", layer_backward)
provide(FX_CUDA, "rms_norm_backward", layer_backward)
provide(FX_CUDA, "batch_norm_train", batch_forward)
provide(FX_CUDA, "batch_norm_eval", batch_forward)
provide(FX_CUDA, "batch_norm_backward", batch_backward)
