# What the drivers of kernels along rows share (fx/rows_args.h).  Inline only.
from libc.stdint cimport int32_t, int64_t, uint8_t

from ferrox._core.abi cimport fx_array
from ferrox._core.cuda.context cimport devices
from ferrox._core.cuda.module cimport cuda_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.stream cimport current_stream

cdef enum:
    THREADS = 256
    WAVES = 32              # blocks per multiprocessor, at most: a block then takes several rounds
    ENOUGH = 256            # blocks from which on there is work for a whole device
    PLENTY = 1024           # blocks that chunks are cut for
    REGISTER_ROW = 4096     # elements of a row that a block keeps in registers


cdef inline int32_t power_of_two(int64_t n, int32_t most) noexcept nogil:
    """The least one from n on, at most `most`."""
    cdef int32_t power = 1
    while power < n and power < most:
        power *= 2
    return power


cdef inline void split(const fx_array *x, int dim, int64_t *outer, int64_t *n, int64_t *inner) noexcept nogil:
    """A contiguous array as [outer, n, inner] around a dimension."""
    cdef int d
    outer[0] = n[0] = inner[0] = 1
    for d in range(x.ndim):
        if d < dim:
            outer[0] *= x.dims[d]
        elif d == dim:
            n[0] = x.dims[d]
        else:
            inner[0] *= x.dims[d]


cdef inline int run_blocks(cuda_kernel *kernel, int device, int64_t blocks, void *args) noexcept nogil:
    cdef launch_shape shape = flat_shape(
        <unsigned int> max(<int64_t> 1, min(blocks, <int64_t> WAVES * devices[device].multiprocessors)), THREADS)
    return launched(launch(kernel, device, current_stream(device), &shape, &args))


cdef inline int64_t ceiling(int64_t n, int64_t by) noexcept nogil:
    return (n + by - 1) // by


cdef inline uint8_t dtype_or(const fx_array *x, int otherwise) noexcept nogil:
    return x.dtype if x != NULL else otherwise


cdef inline void *data_of(const fx_array *x) noexcept nogil:
    return x.data if x != NULL else NULL
