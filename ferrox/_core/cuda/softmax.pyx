"""The driver of softmax, log-softmax and their gradients on the GPU.  Arrays and params as the CPU's (cpu/softmax.pyx).
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_ERROR_TYPE, FX_OK, fx_array, fx_call, fx_is_floating, \
    fx_is_whole, fx_suffix
from ferrox._core.door.backend cimport kernel_id, provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.long_rows cimport run_long_rows
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.rows cimport REGISTER_ROW, THREADS, ceiling, power_of_two, run_blocks, split
from ferrox._core.cuda.rows_args cimport fx_softmax_args

cdef enum:
    STATE = 16      # bytes of a row's largest element and sum

cdef cuda_kernel *kernels[2][3][FX_DTYPES]     # forward or backward; rows, long, columns; by dtype
cdef int _log[2]
_log[0], _log[1] = kernel_id("log_softmax"), kernel_id("log_softmax_backward")


cdef int _run(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef int dim = <int> call.params[0].i, backward = call.n_in - 1, form
    cdef int64_t blocks
    cdef fx_softmax_args a
    memset(&a, 0, sizeof(a))
    if dim < 0:
        dim += out.ndim
    split(out, dim, &a.outer, &a.n, &a.inner)
    a.x = call.arrays[1].data
    a.y = call.arrays[call.n_in].data
    a.out = out.data
    a.log = call.kernel == _log[backward]
    if a.inner > 1:
        form = 2
        a.group = power_of_two(a.inner, 32)
        blocks = a.outer * ceiling(a.inner, a.group)
    elif a.n > REGISTER_ROW:
        return run_long_rows(kernels[backward][1][out.dtype], out.device_index, a.outer, a.n, STATE, &a.pieces, &a)
    else:
        form = 0
        a.group = power_of_two(ceiling(a.n, 4), 32) if a.n <= 512 else <int> THREADS
        blocks = ceiling(a.outer, THREADS // a.group)
    return run_blocks(kernels[backward][form][out.dtype], out.device_index, blocks, &a)


cdef int softmax(fx_call *call) noexcept nogil:
    if fx_is_whole(call.dtype):
        return FX_ERROR_TYPE
    if call.arrays[0].numel == 0:
        return FX_OK
    return dense(call, _run, 0, 0xff)


for _dtype in range(FX_DTYPES):
    if not fx_is_floating(_dtype):
        continue
    _suffix = fx_suffix(_dtype).decode()
    for _form, _name in enumerate(("rows", "long", "columns")):
        kernels[0][_form][_dtype] = find_kernel("softmax", f"softmax_{_name}_{_suffix}")
        kernels[1][_form][_dtype] = find_kernel("softmax", f"softmax_backward_{_name}_{_suffix}")
for _name in ("softmax", "log_softmax", "softmax_backward", "log_softmax_backward"):
    provide(FX_CUDA, _name, softmax)
