# Memory of device="auto": a block that may lie on the host, on a GPU, or on both.  See residence.pyx.
from libc.stdint cimport int32_t, uint8_t

from ferrox._core.abi cimport fx_storage

cdef enum:
    HOST = 0                    # sides; FX_CPU and FX_CUDA
    GPU = 1

cdef struct residence:
    fx_storage *sides[2]        # the block's memory on the host and on the GPU; NULL where it has none
    size_t nbytes
    double credit               # seconds that were lost because the block lies where it does (placement.pyx)
    int32_t slot                # its place in the table, and in its addresses
    int32_t busy                # calls under way that use its memory
    uint8_t valid               # a bit for each side that holds the values; none before the first write

cdef struct traffic_counts:
    unsigned long long copies[2]    # to the host, to the GPU
    unsigned long long bytes[2]
    unsigned long long evicted      # bytes given up on the GPU because it was full

cdef traffic_counts traffic
cdef int gpu_index              # which GPU; -1 without one

cdef residence *residence_of(const void *address) noexcept nogil
cdef void *bring(residence *block, int side, const void *address) except NULL
cdef int hold(residence *block) noexcept
cdef int unhold(residence *block) noexcept
cdef int written(residence *block, int side) noexcept
cdef int copy_between(void *to, int to_device, const void *source, int from_device, size_t bytes, bint wait) except -1
cdef int open_residence(int gpu) except -1
