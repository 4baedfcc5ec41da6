"""The one driver of every elementwise kernel: finds the contiguous loop in the table and feeds it.

Arrays: out, then one to three inputs; params 0 to 3 are handed to the loop as doubles.  float16 and bfloat16 are
computed in float32.  An integer division by zero is refused before anything is written.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_ERROR_RUNTIME, FX_ERROR_TYPE, FX_F32, FX_I64, FX_OK, \
    fx_array, fx_call, fx_is_half, fx_is_whole, fx_itemsize, fx_scalar
from ferrox._core.door.backend cimport MAX_KERNELS, implementation, kernel_id, kernel_name, provide, signatures
from ferrox._core.cpu.blocks cimport BLOCK_BYTES, PARALLEL_MIN, move_tile, run_blocks
from ferrox._core.cpu.table cimport casts, divides_by_zero, elementwise_entry, entries, fx_loop


cdef int _count_nonzero = kernel_id("count_nonzero")


cdef bint _holds_zero(fx_array *y) noexcept nogil:
    """Whether an integer array of any layout holds a zero."""
    cdef fx_call call
    cdef fx_array count
    cdef fx_array *arrays[2]
    cdef fx_scalar mask
    cdef int64_t total = 0
    count.data = &total
    count.dims = NULL
    count.numel = 1
    count.dtype = FX_I64
    count.ndim = 0
    count.flags = FX_CONTIGUOUS
    arrays[0] = &count
    arrays[1] = y
    mask.i = -1
    call.arrays = arrays
    call.n_out = call.n_in = 1
    call.kernel = _count_nonzero
    call.dtype = y.dtype
    call.params = &mask
    call.n_params = 1
    implementation[<int> FX_CPU][_count_nonzero](&call)
    return total != y.numel


cdef int elementwise(fx_call *call) noexcept nogil:
    cdef elementwise_entry *entry = &entries[call.kernel]
    cdef int dtype = call.dtype, out_dtype, i
    cdef fx_loop loop = entry.loop[dtype]
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef Py_ssize_t n = out.numel, size
    cdef void *arg[4]
    cdef fx_scalar values[4]
    cdef const fx_scalar *p = call.params
    cdef uint8_t dtypes[4]
    cdef char scratch[3][BLOCK_BYTES]
    cdef char value[8]
    cdef int64_t zero = 0
    if loop == NULL and (fx_is_half(dtype)):
        dtype = FX_F32
        loop = entry.loop[dtype]
    if loop == NULL:
        snprintf(call.message, sizeof(call.message), "not defined for this dtype")
        return FX_ERROR_TYPE
    if call.n_params < 4:
        for i in range(4):
            if i < call.n_params:
                values[i] = call.params[i]
            else:
                values[i].i = 0
        p = values
    if fx_is_whole(dtype) and call.n_in == 2 and divides_by_zero(call.kernel, dtype, &zero, 1) and n \
            and _holds_zero(call.arrays[2]):
        snprintf(call.message, sizeof(call.message), "ZeroDivisionError: integer division by zero")
        return FX_ERROR_RUNTIME
    out_dtype = FX_BOOL if entry.to_bool else dtype
    size = fx_itemsize(dtype)
    # The everyday small call: contiguous, of the right dtype, or one value.
    if out.flags & FX_CONTIGUOUS and out.dtype == out_dtype and n < PARALLEL_MIN:
        arg[2] = arg[3] = NULL
        for i in range(1, call.n_in + 1):
            x = call.arrays[i]
            if x.numel == n and x.dtype == dtype and x.flags & FX_CONTIGUOUS:
                arg[i] = x.data
            elif x.numel == 1 and n * size <= BLOCK_BYTES:
                arg[i] = scratch[i - 1]
                if x.dtype == dtype:
                    move_tile(arg[i], 0, 1, x.data, 0, 0, 1, n, size)
                else:
                    casts[dtype][x.dtype](value, x.data, NULL, NULL, NULL, 1)
                    move_tile(arg[i], 0, 1, value, 0, 0, 1, n, size)
            else:
                break
        else:
            loop(out.data, arg[1], arg[2], arg[3], p, n)
            return FX_OK
    dtypes[0] = out_dtype
    for i in range(1, 4):
        dtypes[i] = dtype
    return run_blocks(call.arrays, call.n_in, loop, dtypes, p)


def register():
    """Provide every kernel that has loops in the table by now; called again after further loops were added."""
    cdef int kernel
    for kernel in range(MAX_KERNELS):
        if entries[kernel].n_in and signatures[kernel] == NULL:
            name = kernel_name(kernel)
            kind = "transcendental" if entries[kernel].is_costly else "elementwise"
            operands = ", ".join([f"{letter} any" for letter in "xyz"[:entries[kernel].n_in]])
            provide(FX_CPU, name, elementwise, f"{kind} in_place | out any | {operands} | ...")


register()
