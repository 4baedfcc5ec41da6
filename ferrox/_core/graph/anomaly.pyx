"""Looks for NaN in a window of host memory, by bits, or of a device, by operators; for `autograd.detect_anomaly`."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from ferrox._core.abi cimport FX_CPU, FX_MAX_DIMS, fx_infinity_bits, fx_is_floating, fx_itemsize
from ferrox._core.memory.storage cimport storage_foreign
from ferrox._core.sizes cimport fx_reach
from ferrox._core.tensor.base cimport TensorBase, bare, shape_tuple, stride_tuple


cdef bint _row(const void *data, int64_t n, int64_t step, int dtype) noexcept nogil:
    cdef int64_t i
    cdef uint64_t infinity = fx_infinity_bits(dtype)
    cdef bint found = False
    if fx_itemsize(dtype) == 4:
        for i in range(n):
            found |= ((<const uint32_t *> data)[i * step] & 0x7fffffffu) > <uint32_t> infinity
    elif fx_itemsize(dtype) == 8:
        for i in range(n):
            found |= ((<const uint64_t *> data)[i * step] & 0x7fffffffffffffffULL) > infinity
    elif fx_itemsize(dtype) == 2:
        for i in range(n):
            found |= ((<const uint16_t *> data)[i * step] & 0x7fff) > <uint16_t> infinity
    return found


def window_has_nan(size_t address, int dtype, tuple shape, tuple strides):
    """Whether the host array at `address` holds a NaN; False for dtypes that have none."""
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int64_t steps[FX_MAX_DIMS]
    cdef int64_t at[FX_MAX_DIMS]
    cdef int d, ndim = len(shape)
    cdef int64_t n, step
    cdef const char *data = <const char *> address
    if not fx_is_floating(dtype):
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
    cdef int64_t low = 0, high = 0
    cdef int d
    if not fx_is_floating(dtype):
        return False
    for d in range(len(shape)):
        sizes[d] = shape[d]
        steps[d] = strides[d]
    tensor = bare(len(shape), sizes, steps, dtype)
    fx_reach(tensor.a.ndim, sizes, steps, fx_itemsize(dtype), &low, &high)
    # Somebody keeps it meanwhile.
    tensor.a.storage = storage_foreign(<char *> address + low, <size_t> (high - low), None, device_type, device)
    tensor.a.data = <void *> address
    tensor.a.device_type = device_type
    tensor.a.device_index = device
    return has_nan(tensor)


def has_nan(TensorBase tensor):
    """Whether a tensor holds a NaN."""
    if tensor.a.device_type != FX_CPU:
        return bool((<object> tensor).isnan().any())
    return window_has_nan(<size_t> tensor.a.data, tensor.a.dtype, shape_tuple(&tensor.a), stride_tuple(&tensor.a))
