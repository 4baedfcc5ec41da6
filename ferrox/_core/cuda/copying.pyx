"""The kernels `copy` and `fill` on the GPU: out, in; any dtypes and strides, `in` broadcast.

Equal bytes without gaps are the driver's copy.  A matrix whose source lies along the other dimension than its target
goes through shared memory (kernels/cuda/copy.cu).  Everything else, casts too, is the elementwise kernel `positive`.
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CUDA, FX_F32, FX_F64, FX_HOST_SCALAR, FX_I64, FX_MAX_DIMS, FX_OK, \
    fx_array, fx_call, fx_is_floating, fx_itemsize
from ferrox._core.door.backend cimport kernel_id, provide
from ferrox._core.cuda.abi cimport CUdeviceptr, CUresult
from ferrox._core.cuda.context cimport bind, devices
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.elementwise cimport elementwise
from ferrox._core.cuda.module cimport cuda_kernel, driver_call, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/copy_args.h" nogil:
    enum:
        FX_TRANSPOSE_TILE
    ctypedef struct fx_transpose_args:
        void *out
        const void *in_ "in"
        int64_t rows, columns, out_row, in_column
        int64_t size[2]
        int64_t out_step[2]
        int64_t in_step[2]

cdef enum:
    THREADS = 256
    BLOCKS = 16             # per multiprocessor, at most
    LEAST = 16              # rows and columns from which a tile is worth it

cdef int _positive = kernel_id("positive")
cdef cuda_kernel *_transposes[4]        # of 1, 2, 4, 8 bytes

cdef struct dims:           # merged, innermost of the output first; strides in elements
    int n
    int64_t size[FX_MAX_DIMS]
    int64_t out[FX_MAX_DIMS]
    int64_t in_[FX_MAX_DIMS]


cdef bint _merge(fx_array *out, fx_array *x, dims *m) noexcept nogil:
    """Join the dimensions that lie behind each other in both; False where they differ in shape, or are too many."""
    cdef int d, k = 0
    if x.ndim != out.ndim:
        return False
    m.n = 0
    for d in range(out.ndim - 1, -1, -1):
        if x.dims[d] != out.dims[d]:
            return False
        if out.dims[d] == 1:
            continue
        k = m.n - 1
        if k >= 0 and out.dims[out.ndim + d] == m.out[k] * m.size[k] and x.dims[x.ndim + d] == m.in_[k] * m.size[k]:
            m.size[k] *= out.dims[d]
            continue
        m.size[m.n] = out.dims[d]
        m.out[m.n] = out.dims[out.ndim + d]
        m.in_[m.n] = x.dims[x.ndim + d]
        m.n += 1
    return 2 <= m.n <= 4


cdef bint _transposes_fit(fx_array *out, fx_array *x, fx_transpose_args *args) noexcept nogil:
    """Whether a copy is a transposition; fills `args`."""
    cdef dims m
    cdef int d, row = -1, column = -1, around = 0
    if not _merge(out, x, &m):
        return False
    for d in range(m.n):
        if m.out[d] == 1 and column < 0:
            column = d
        elif m.in_[d] == 1 and row < 0:
            row = d
    if row < 0 or column < 0 or m.size[row] < LEAST or m.size[column] < LEAST:
        return False
    args.out = out.data
    args.in_ = x.data
    args.rows = m.size[row]
    args.columns = m.size[column]
    args.out_row = m.out[row]
    args.in_column = m.in_[column]
    for d in range(2):
        args.size[d] = 1
        args.out_step[d] = args.in_step[d] = 0
    for d in range(m.n):
        if d != row and d != column:
            args.size[around] = m.size[d]
            args.out_step[around] = m.out[d]
            args.in_step[around] = m.in_[d]
            around += 1
    return True


cdef int _transpose(fx_array *out, fx_transpose_args *args) noexcept nogil:
    cdef int device = out.device_index, bytes = fx_itemsize(out.dtype), power = 0
    cdef int64_t tiles = (args.rows + FX_TRANSPOSE_TILE - 1) // FX_TRANSPOSE_TILE
    cdef void *pointer = args
    cdef launch_shape shape
    while 1 << power < bytes:
        power += 1
    tiles *= (args.columns + FX_TRANSPOSE_TILE - 1) // FX_TRANSPOSE_TILE
    tiles *= args.size[0] * args.size[1]
    shape = flat_shape(<unsigned int> min(tiles, <int64_t> BLOCKS * devices[device].multiprocessors), THREADS)
    return launched(launch(_transposes[power], device, current_stream(device), &shape, &pointer))


cdef int copy(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_transpose_args args
    cdef CUresult status
    if out.dtype == x.dtype and x.device_type == FX_CUDA and x.device_index == out.device_index \
            and x.numel == out.numel and not x.flags & FX_HOST_SCALAR:
        if out.numel == 0:
            return FX_OK
        if out.flags & x.flags & FX_CONTIGUOUS:
            status = bind(out.device_index)
            if status == 0:
                status = cu.cuMemcpyDtoDAsync(<CUdeviceptr> out.data, <CUdeviceptr> x.data,
                                              <size_t> (out.numel * fx_itemsize(out.dtype)),
                                              current_stream(out.device_index))
            return driver_call(status, b"copying")
        if _transposes_fit(out, x, &args):
            return _transpose(out, &args)
    call.kernel = _positive
    # In the arithmetic that holds both: integers of any width in int64.
    if out.dtype == FX_F64 or x.dtype == FX_F64:
        call.dtype = FX_F64
    else:
        call.dtype = FX_F32 if fx_is_floating(out.dtype) or fx_is_floating(x.dtype) else FX_I64
    return elementwise(call)


def register():
    """Provide both kernels."""
    cdef int power
    for power in range(4):
        _transposes[power] = find_kernel("copy", f"transpose_{1 << power}")
    provide(FX_CUDA, "copy", copy)
    provide(FX_CUDA, "fill", copy)
