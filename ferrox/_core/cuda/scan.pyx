"""The driver of scans and of the linear recurrence on the GPU.  Arrays and params as the CPU's (cpu/scan.pyx and
cpu/recurrence.pyx).

One launch where there are lines enough; otherwise they are cut into chunks, by the shape alone, and three launches find
the chunks' states, what comes before each, and the results.
"""
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_OK, fx_accumulation, fx_array, \
    fx_call, fx_is_floating, fx_suffix
from ferrox._core.door.backend cimport MAX_KERNELS, kernel_id, provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.rows cimport ENOUGH, PLENTY, THREADS, ceiling, power_of_two, run_blocks, split
from ferrox._core.cuda.rows_args cimport fx_scan_args
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef enum:
    SCANS = 6
    STATE = 16              # bytes of a state, at most
    ROW_CHUNK = 4096        # elements of a chunk, at least
    COLUMN_CHUNK = 64
    MOST_CHUNKS = 256

cdef cuda_kernel *kernels[SCANS][3][FX_DTYPES]     # rows, columns, carry; by dtype
cdef int _place[MAX_KERNELS]
cdef int _linear = kernel_id("linear_scan")


cdef int _run(fx_call *call) noexcept nogil:
    cdef fx_scan_args a
    cdef fx_array *out = call.arrays[0]
    cdef fx_array **in_ = call.arrays + call.n_out
    cdef int which = _place[call.kernel], dtype = out.dtype, device = out.device_index, columns, status
    cdef int64_t blocks, lines, chunks = 1
    memset(&a, 0, sizeof(a))
    split(out, <int> call.params[0].i, &a.outer, &a.n, &a.inner)
    a.reverse = call.n_params > 1 and call.params[1].i != 0
    a.x, a.out = in_[call.n_in - 1].data, out.data
    a.a = in_[0].data
    if call.n_out > 1:
        a.index = call.arrays[1].data
    columns = a.inner > 1
    a.group = power_of_two(ceiling(a.n, 4), 32) if a.n <= 1024 else <int> THREADS
    lines = ceiling(a.outer * a.inner, THREADS) if columns else ceiling(a.outer, THREADS // a.group)
    if lines < ENOUGH:
        chunks = min(min(a.n // (COLUMN_CHUNK if columns else ROW_CHUNK), ceiling(PLENTY, lines)),
                     <int64_t> MOST_CHUNKS)
    a.chunk = max(<int64_t> 4, ceiling(ceiling(a.n, max(chunks, <int64_t> 1)), 4) * 4)
    a.chunks = ceiling(a.n, a.chunk)
    blocks = ceiling(a.outer * a.chunks * a.inner, THREADS if columns else THREADS // a.group)
    if a.chunks == 1:
        return run_blocks(kernels[which][columns][dtype], device, blocks, &a)
    a.states = scratch(device, <size_t> (STATE * a.outer * a.chunks * a.inner))
    if a.states == NULL:
        return FX_ERROR_MEMORY
    a.totals = 1
    status = run_blocks(kernels[which][columns][dtype], device, blocks, &a)
    a.totals = 0
    if status == FX_OK:
        status = run_blocks(kernels[which][2][dtype], device, ceiling(a.outer * a.inner, THREADS), &a)
    a.carried = 1
    if status == FX_OK:
        status = run_blocks(kernels[which][columns][dtype], device, blocks, &a)
    scratch_free(device, a.states)
    return status


cdef int scan(fx_call *call) noexcept nogil:
    cdef fx_array *x = call.arrays[call.n_out]
    if call.kernel == _linear:
        call.dtype = x.dtype
    if kernels[_place[call.kernel]][0][call.dtype] == NULL:
        snprintf(call.message, sizeof(call.message), "not defined for integers")
        return FX_ERROR_TYPE
    if x.numel == 0:
        return FX_OK
    # Values, then indices where there are any, then one or two inputs.
    return dense(call, _run, 0, 1 | 1 << call.n_out | (1 << (call.n_out + 1) if call.n_in > 1 else 0))


for _at, _name in enumerate(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "linear_scan")):
    for _dtype in range(FX_DTYPES):
        if _at > 3 and not fx_is_floating(_dtype):
            continue
        _suffix, _state = fx_suffix(_dtype).decode(), fx_suffix(fx_accumulation(_dtype)).decode()
        for _form, _kernel in enumerate((f"{_suffix}_rows", f"{_suffix}_columns", f"{_state}_carry")):
            kernels[<int> _at][<int> _form][<int> _dtype] = find_kernel("scan", f"{_name}_{_kernel}")
    _place[<int> kernel_id(_name)] = _at
    provide(FX_CUDA, _name, scan)
