"""Looks for NaN in a window of host memory, by bits, or of a device, by operators; for `autograd.detect_anomaly`."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from ferrox._core.abi cimport FX_BF16, FX_CPU, FX_F16, FX_F32, FX_F64, FX_MAX_DIMS, fx_itemsize
from ferrox._core.memory.storage cimport storage_foreign
from ferrox._core.tensor.base cimport TensorBase, bare, shape_tuple, stride_tuple


cdef bint _row(const void *data, int64_t n, int64_t step, int dtype) noexcept nogil:
    cdef int64_t i
    cdef bint found = False
    if dtype == FX_F32:
        for i in range(n):
            found |= (((<const uint32_t *> data)[i * step] & 0x7fffffffu) > 0x7f800000u)
    elif dtype == FX_F64:
        for i in range(n):
            found |= (((<const uint64_t *> data)[i * step] & 0x7fffffffffffffffULL) > 0x7ff0000000000000ULL)
    elif dtype == FX_F16:
        for i in range(n):
            found |= (((<const uint16_t *> data)[i * step] & 0x7fff) > 0x7c00)
    else:
        for i in range(n):
            found |= (((<const uint16_t *> data)[i * step] & 0x7fff) > 0x7f80)
    return found


def window_has_nan(size_t address, int dtype, tuple shape, tuple strides):
    """Whether the host array at `address` holds a NaN; False for dtypes that have none."""
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int64_t steps[FX_MAX_DIMS]
    cdef int64_t at[FX_MAX_DIMS]
    cdef int d, ndim = len(shape)
    cdef int64_t n, step
    cdef const char *data = <const char *> address
    if dtype != FX_F32 and dtype != FX_F64 and dtype != FX_F16 and dtype != FX_BF16:
        return False
    for d in range(ndim):
        sizes[d] = shape[d]
        steps[d] = strides[d]
        at[d] = 0
        if sizes[d] == 0:
            return False
    n = sizes[ndim - 1] if ndim else 1
    step = steps[ndim - 1] if ndim else 1
    while True:
        if _row(data, n, step, dtype):
            return True
        d = ndim - 2
        while d >= 0:
            at[d] += 1
            data += steps[d] * fx_itemsize(dtype)
            if at[d] < sizes[d]:
                break
            data -= sizes[d] * steps[d] * fx_itemsize(dtype)
            at[d] = 0
            d -= 1
        if d < 0:
            return False


def device_window_has_nan(size_t address, int dtype, tuple shape, tuple strides, int device_type, int device):
    """The same for an array on a device; waits for it."""
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int64_t steps[FX_MAX_DIMS]
    cdef TensorBase tensor
    cdef int d
    if dtype != FX_F32 and dtype != FX_F64 and dtype != FX_F16 and dtype != FX_BF16:
        return False
    for d in range(len(shape)):
        sizes[d] = shape[d]
        steps[d] = strides[d]
    tensor = bare(len(shape), sizes, steps, dtype)
    tensor.a.storage = storage_foreign(<void *> address, 0, None, device_type, device)   # somebody keeps it meanwhile
    tensor.a.data = <void *> address
    tensor.a.device_type = device_type
    tensor.a.device_index = device
    return has_nan(tensor)


def has_nan(TensorBase tensor):
    """Whether a tensor holds a NaN."""
    if tensor.a.device_type != FX_CPU:
        return bool((<object> tensor).isnan().any())
    return window_has_nan(<size_t> tensor.a.data, tensor.a.dtype, shape_tuple(&tensor.a), stride_tuple(&tensor.a))
