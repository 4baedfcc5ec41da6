"""Calls with contiguous arrays only: what a kernel family need not know of strides.

`dense` looks at every array of a call.  One that is contiguous, on the device, and of the wanted dtype goes on as it
is; anything else is copied into scratch memory first, by the kernel `copy`, which takes any strides, casts, and reads
host scalars and CPU tensors without dimensions from the arguments.  So is an output whose memory an input overlaps:
kernels may write before they have read.  Outputs in scratch are copied back after the call.  All of it is
queued on the current stream; nothing waits.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_RUNTIME, FX_HOST_SCALAR, FX_OK, \
    fx_array, fx_call, fx_itemsize, fx_kernel
from ferrox._core.cuda.copying cimport copy
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef enum:
    MOST = 64               # arrays that `keep` and `cast` can name


cdef struct stand_in:       # an array in scratch memory
    fx_array array
    int position            # in the call
    stand_in *next


cdef inline bint _is_dense(fx_array *x) noexcept nogil:
    return x.device_type == FX_CUDA and x.flags & FX_CONTIGUOUS and not x.flags & FX_HOST_SCALAR


cdef bint _overlap(fx_array *a, fx_array *b) noexcept nogil:
    """Whether two arrays of one device may share memory, judged by the spans that they lie in."""
    cdef char *low[2]
    cdef char *high[2]
    cdef fx_array *x
    cdef int i, d
    cdef int64_t reach
    if a.numel == 0 or b.numel == 0 or b.device_type != FX_CUDA:
        return False
    for i in range(2):
        x = a if i == 0 else b
        low[i] = high[i] = <char *> x.data
        for d in range(x.ndim):
            reach = (x.dims[d] - 1) * x.dims[x.ndim + d] * fx_itemsize(x.dtype)
            if reach < 0:
                low[i] += reach
            else:
                high[i] += reach
        high[i] += fx_itemsize(x.dtype)
    return low[0] < high[1] and low[1] < high[0]


cdef int _move(fx_call *call, fx_array *to, fx_array *source) noexcept nogil:
    cdef fx_call move
    cdef fx_array *arrays[2]
    cdef int status
    arrays[0] = to
    arrays[1] = source
    move.arrays = arrays
    move.n_out = move.n_in = 1
    move.kernel = call.kernel
    move.dtype = to.dtype
    move.params = NULL
    move.n_params = 0
    move.message[0] = 0
    status = copy(&move)
    if status != FX_OK:
        memcpy(call.message, move.message, sizeof(call.message))
    return status


cdef stand_in *_stand_in(fx_array *x, int position, int dtype, int device) noexcept nogil:
    """A contiguous array of x's shape in scratch memory; NULL when there is none."""
    cdef stand_in *made = <stand_in *> malloc(sizeof(stand_in) + 16 * <size_t> x.ndim)
    cdef int64_t step = 1
    cdef int d
    if made == NULL:
        return NULL
    made.position = position
    made.array.dims = <int64_t *> (made + 1)
    made.array.numel = x.numel
    made.array.dtype = dtype
    made.array.ndim = x.ndim
    made.array.flags = FX_CONTIGUOUS
    made.array.device_type = FX_CUDA
    made.array.device_index = device
    for d in range(x.ndim - 1, -1, -1):
        made.array.dims[d] = x.dims[d]
        made.array.dims[x.ndim + d] = step
        step *= x.dims[d]
    made.array.data = scratch(device, <size_t> (x.numel * fx_itemsize(dtype)))
    if made.array.data == NULL:
        free(made)
        return NULL
    return made


cdef int _device_of(fx_call *call) noexcept nogil:
    """The device of the first output, or of the first array that is on one."""
    cdef int i
    for i in range(call.n_out + call.n_in):
        if call.arrays[i] != NULL and call.arrays[i].device_type == FX_CUDA:
            return call.arrays[i].device_index
    return 0


cdef int elsewhere(fx_call *call, const fx_array *x, int device) noexcept nogil:
    if x.device_type == FX_CUDA and not x.flags & FX_HOST_SCALAR:
        snprintf(call.message, sizeof(call.message), b"Expected all tensors to be on the same device, but found at "
                 b"least two devices, cuda:%d and cuda:%d!", device, x.device_index)
    else:
        snprintf(call.message, sizeof(call.message), b"Expected all tensors to be on the same device, but found at "
                 b"least two devices, cuda:%d and cpu!", device)
    return FX_ERROR_RUNTIME


cdef int _check(fx_call *call, fx_array *x, bint is_output, int device) noexcept nogil:
    if x.device_type == FX_CUDA and not x.flags & FX_HOST_SCALAR:
        if x.device_index == device:
            return FX_OK
        return elsewhere(call, x, device)
    if x.flags & FX_HOST_SCALAR or (x.ndim == 0 and not is_output):
        return FX_OK
    return elsewhere(call, x, device)


cdef int dense(fx_call *call, fx_kernel inner, uint64_t keep, uint64_t cast) noexcept nogil:
    cdef fx_array *few[MOST]
    cdef fx_array **arrays = few
    cdef fx_array **given = call.arrays
    cdef fx_array *x
    cdef stand_in *first = NULL
    cdef stand_in *each
    cdef int n = call.n_out + call.n_in, device = _device_of(call), status = FX_OK, i, k, dtype
    cdef uint64_t one = 1
    cdef bint is_dense
    if n > MOST:
        arrays = <fx_array **> malloc(sizeof(fx_array *) * <size_t> n)
        if arrays == NULL:
            return FX_ERROR_MEMORY
    for i in range(n):
        arrays[i] = x = given[i]
        if x == NULL:
            continue
        status = _check(call, x, i < call.n_out, device)
        if status != FX_OK:
            break
        dtype = call.dtype if i < MOST and cast & one << i else x.dtype
        is_dense = _is_dense(x) and x.dtype == dtype
        k = call.n_out
        while is_dense and i < call.n_out and k < n:
            is_dense = given[k] == NULL or not _overlap(x, given[k])
            k += 1
        if is_dense:
            continue
        each = _stand_in(x, i, dtype, device)
        if each == NULL:
            status = FX_ERROR_MEMORY
            break
        each.next = first
        first = each
        arrays[i] = &each.array
        if i >= call.n_out or (i < MOST and keep & one << i):
            status = _move(call, &each.array, x)
            if status != FX_OK:
                break
    if status == FX_OK:
        call.arrays = arrays
        status = inner(call)
        call.arrays = given
    while first != NULL:
        each = first
        if status == FX_OK and each.position < call.n_out:
            status = _move(call, given[each.position], &each.array)
        scratch_free(device, each.array.data)
        first = each.next
        free(each)
    if arrays != few:
        free(arrays)
    return status
