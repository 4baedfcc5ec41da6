# distutils: language = c++
"""Kernels that move data, on the GPU: arrays, params and semantics of cpu/movement.pyx and cpu/copy.pyx.

cat, tril, triu, where, arange, linspace; strided_add is in index_kernels.pyx.  Elements are moved as words of their
size, rows of cat as the widest words that all of its inputs allow.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CUDA, FX_ERROR_RUNTIME, FX_ERROR_TYPE, FX_HOST_SCALAR, \
    FX_MAX_DIMS, FX_OK, FX_U8, fx_array, fx_call, fx_is_whole, fx_itemsize
from ferrox._core.door.backend cimport kernel_id, provide
from ferrox._core.cuda.context cimport devices
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.order cimport blocks_for, launch_elements, refused, run_unary
from ferrox._core.cuda.stream cimport current_stream

cdef extern from *:
    """
    #include "fx/abi.h"
    #include "fx/half.h"
    template <class To, class From> static void fx_put(void *to, const void *from) {
        To y{};
        fx::convert_to(&y, *(const From *)from);
        memcpy(to, &y, sizeof y);
    }
    template <class To> static void fx_put_from(void *to, const void *from, int dtype) {
        switch (dtype) {
    #define FX_CASE(code, suffix, name, type, ...) \
        case FX_##code: fx_put<To, type>(to, from); break;
        FX_EACH_DTYPE(FX_CASE)
    #undef FX_CASE
        }
    }
    /* The bits of one host value, cast from dtype to another. */
    static uint64_t fx_bits_as(const void *from, int dtype, int to) {
        uint64_t bits = 0;
        switch (to) {
    #define FX_CASE(code, suffix, name, type, ...) \
        case FX_##code: fx_put_from<type>(&bits, from, dtype); break;
        FX_EACH_DTYPE(FX_CASE)
    #undef FX_CASE
        }
        return bits;
    }
    """
    uint64_t fx_bits_as(const void *data, int dtype, int to) noexcept nogil

cdef extern from "fx/movement_args.h" nogil:
    enum:
        FX_WHERE_DIMS
        FX_CAT_INPUTS
    ctypedef struct fx_where_args:
        void *out
        const uint8_t *condition
        const void *x
        const void *y
        uint64_t value[2]
        int64_t n
        int ndim, together
        int64_t size[FX_WHERE_DIMS]
        int64_t stride[FX_WHERE_DIMS][4]
    ctypedef struct fx_cat_args:
        void *out
        int64_t outer, row
        const void *x[FX_CAT_INPUTS]
        int64_t size[FX_CAT_INPUTS]
        int64_t start[FX_CAT_INPUTS]
    ctypedef struct fx_triangle_args:
        void *out
        const void *x
        int64_t n, rows, columns, k
        int upper, unused
    ctypedef struct fx_range_args:
        char *out
        int64_t n, first, by
        double start, step, end
        int dtype, form

cdef int _copy = kernel_id("copy")
# By the size of a word: 1, 2, 4, 8, 16 bytes.
cdef cuda_kernel *_where[4]
cdef cuda_kernel *_cat[5]
cdef cuda_kernel *_triangle_kernel[4]
cdef cuda_kernel *_range = find_kernel("movement", "range")
_where[:] = [find_kernel("movement", "where_1"), find_kernel("movement", "where_2"),
             find_kernel("movement", "where_4"), find_kernel("movement", "where_8")]
_cat[:] = [find_kernel("movement", "cat_1"), find_kernel("movement", "cat_2"), find_kernel("movement", "cat_4"),
           find_kernel("movement", "cat_8"), find_kernel("movement", "cat_16")]
_triangle_kernel[:] = [find_kernel("movement", "triangle_1"), find_kernel("movement", "triangle_2"),
                       find_kernel("movement", "triangle_4"), find_kernel("movement", "triangle_8")]


cdef inline int _width(int size) noexcept nogil:
    """The place in a table by size of word."""
    return 0 if size == 1 else 1 if size == 2 else 2 if size == 4 else 3 if size == 8 else 4


# --- where

cdef int _lay(fx_call *call, fx_where_args *args) noexcept nogil:
    """Sizes and strides, dimensions joined where all arrays allow it."""
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef int d, k, at
    cdef int64_t size
    cdef int64_t stride[4]
    cdef bint joins
    args.ndim = 0
    for d in range(out.ndim):       # from the innermost dimension
        size = out.dims[out.ndim - 1 - d]
        if size == 1:
            continue
        for k in range(4):
            x = call.arrays[k]
            at = x.ndim - 1 - d
            stride[k] = 0
            if not x.flags & FX_HOST_SCALAR and at >= 0 and x.dims[at] != 1:
                stride[k] = x.dims[x.ndim + at]
        joins = args.ndim > 0
        for k in range(4):
            joins = joins and stride[k] == args.stride[args.ndim - 1][k] * args.size[args.ndim - 1]
        if joins:
            args.size[args.ndim - 1] *= size
            continue
        if args.ndim == FX_WHERE_DIMS:
            return refused(call, FX_ERROR_RUNTIME, b"too many dimensions")
        args.size[args.ndim] = size
        for k in range(4):
            args.stride[args.ndim][k] = stride[k]
        args.ndim += 1
    for d in range(args.ndim, FX_WHERE_DIMS):
        args.size[d] = 1
        for k in range(4):
            args.stride[d][k] = 0
    return FX_OK


cdef bint _together(const fx_where_args *args, int size) noexcept nogil:
    cdef size_t low = <size_t> args.out
    cdef int k
    if args.ndim > 1 or (args.ndim == 1 and args.stride[0][0] != 1):
        return False
    for k in range(1, 4):
        if args.stride[0][k] != 0 and args.stride[0][k] != 1:
            return False
    if args.stride[0][1] and <size_t> args.condition % 4:
        return False
    if args.stride[0][2]:
        low |= <size_t> args.x
    if args.stride[0][3]:
        low |= <size_t> args.y
    return low % <size_t> (4 * size) == 0


cdef int _where_on_device(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef fx_where_args args
    cdef int k, status, size = fx_itemsize(out.dtype)
    for k in range(2):
        x = call.arrays[2 + k]
        args.value[k] = fx_bits_as(x.data, x.dtype, out.dtype) if x.flags & FX_HOST_SCALAR else 0
    args.out = out.data
    args.condition = <const uint8_t *> call.arrays[1].data
    args.x = NULL if call.arrays[2].flags & FX_HOST_SCALAR else call.arrays[2].data
    args.y = NULL if call.arrays[3].flags & FX_HOST_SCALAR else call.arrays[3].data
    args.n = out.numel
    status = _lay(call, &args)
    if status != FX_OK or args.n == 0:
        return status
    args.together = _together(&args, size)
    return launch_elements(_where[_width(size)], out.device_index, blocks_for(args.n, 4) if args.together else args.n,
                           &args)


cdef inline bint _is_here(const fx_array *x, int device, int dtype) noexcept nogil:
    return x.flags & FX_HOST_SCALAR or (x.device_type == FX_CUDA and x.device_index == device and x.dtype == dtype)


cdef int where(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef uint64_t cast = 0
    cdef int k
    if call.arrays[1].dtype != FX_BOOL and call.arrays[1].dtype != FX_U8:
        return refused(call, FX_ERROR_TYPE, b"the condition must be bool")
    for k in range(2, 4):
        if not _is_here(call.arrays[k], out.device_index, out.dtype):
            cast |= <uint64_t> 1 << k
    if cast or call.arrays[1].flags & FX_HOST_SCALAR or call.arrays[1].device_type != FX_CUDA:
        call.dtype = out.dtype
        return dense(call, _where_on_device, 0, cast)
    return _where_on_device(call)


# --- cat

cdef int _cat_one(fx_array *out, fx_array *x, int dim, int64_t offset) noexcept nogil:
    """By the copy kernel, which takes any strides."""
    cdef fx_array part = out[0]
    cdef int64_t dims[2 * FX_MAX_DIMS]
    cdef int d
    for d in range(out.ndim):
        dims[d] = x.dims[d]
        dims[out.ndim + d] = out.dims[out.ndim + d]
    part.dims = dims
    part.numel = x.numel
    part.flags = 0
    part.data = <char *> out.data + offset * out.dims[out.ndim + dim] * fx_itemsize(out.dtype)
    return run_unary(_copy, &part, x, out.dtype)


cdef int _cat_many(fx_cat_args *args, int n, int device) noexcept nogil:
    """The inputs gathered so far, in bytes; as words that divide all of them."""
    cdef uint64_t low = <uint64_t> args.out | <uint64_t> args.row
    cdef int64_t most = 0, blocks
    cdef int i, width = 16
    cdef launch_shape shape
    cdef void *pointer = args
    if n == 0:
        return FX_OK
    for i in range(n):
        low |= <uint64_t> args.x[i] | <uint64_t> args.size[i] | <uint64_t> args.start[i]
    while low & <uint64_t> (width - 1):
        width //= 2
    args.row //= width
    for i in range(FX_CAT_INPUTS):
        if i >= n:
            args.x[i] = NULL
            args.size[i] = args.start[i] = 0
        args.size[i] //= width
        args.start[i] //= width
        most = max(most, args.size[i])
    blocks = max(<int64_t> 1, <int64_t> 32 * devices[device].multiprocessors // n)
    blocks = min(blocks_for(most * args.outer, 256), blocks)
    shape = flat_shape(<unsigned int> blocks, 256)
    shape.grid[1] = n
    i = launched(launch(_cat[_width(width)], device, current_stream(device), &shape, &pointer))
    args.row *= width
    return i


cdef int cat(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x
    cdef fx_cat_args args
    cdef int dim = <int> call.params[0].i, i, d, n = 0, status = FX_OK
    cdef int64_t offset = 0, inner = fx_itemsize(out.dtype)
    if out.numel == 0:
        return FX_OK
    for d in range(dim + 1, out.ndim):
        inner *= out.dims[d]
    args.out = out.data
    args.row = out.dims[dim] * inner
    args.outer = 1
    for d in range(dim):
        args.outer *= out.dims[d]
    for i in range(1, 1 + call.n_in):
        x = call.arrays[i]
        if x.numel == 0:
            continue
        if not x.flags & out.flags & FX_CONTIGUOUS or x.device_type != FX_CUDA or x.dtype != out.dtype:
            status = _cat_one(out, x, dim, offset)
        else:
            args.x[n] = x.data
            args.size[n] = x.dims[dim] * inner
            args.start[n] = offset * inner
            n += 1
            if n == FX_CAT_INPUTS:
                status = _cat_many(&args, n, out.device_index)
                n = 0
        if status != FX_OK:
            return status
        offset += x.dims[dim]
    return _cat_many(&args, n, out.device_index)


# --- tril, triu

cdef int _triangle(fx_call *call, bint upper) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_triangle_args args
    if out.numel == 0:
        return FX_OK
    args.out = out.data
    args.x = call.arrays[1].data
    args.n = out.numel
    args.rows = out.dims[out.ndim - 2]
    args.columns = out.dims[out.ndim - 1]
    # Far diagonals are as good as the corner ones, and row + k cannot overflow.
    args.k = min(max(call.params[0].i, -args.rows), args.columns)
    args.upper = upper
    args.unused = 0
    return launch_elements(_triangle_kernel[_width(fx_itemsize(out.dtype))], out.device_index, args.n, &args)


cdef int _tril(fx_call *call) noexcept nogil:
    return _triangle(call, False)


cdef int _triu(fx_call *call) noexcept nogil:
    return _triangle(call, True)


cdef int tril(fx_call *call) noexcept nogil:
    return dense(call, _tril, 0, 0)


cdef int triu(fx_call *call) noexcept nogil:
    return dense(call, _triu, 0, 0)


# --- ranges

cdef int _launch_range(fx_call *call, fx_range_args *args) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    args.out = <char *> out.data
    args.n = out.numel
    args.dtype = out.dtype
    return launch_elements(_range, out.device_index, args.n, args)


cdef int _arange(fx_call *call) noexcept nogil:
    cdef fx_range_args args
    cdef bint integers = fx_is_whole(call.dtype)
    args.first = call.params[0].i if integers else 0
    args.by = call.params[1].i if integers else 0
    args.start = 0 if integers else call.params[0].f
    args.step = 0 if integers else call.params[1].f
    args.end = 0
    args.form = 0 if integers else 1
    return _launch_range(call, &args)


cdef int _linspace(fx_call *call) noexcept nogil:
    cdef fx_range_args args
    cdef int64_t n = call.arrays[0].numel
    args.first = args.by = 0
    args.start = call.params[0].f
    args.end = call.params[1].f
    args.step = (args.end - args.start) / (n - 1) if n > 1 else 0
    args.form = 2
    return _launch_range(call, &args)


cdef int arange(fx_call *call) noexcept nogil:
    return dense(call, _arange, 0, 0)


cdef int linspace(fx_call *call) noexcept nogil:
    return dense(call, _linspace, 0, 0)


provide(FX_CUDA, "where", where)
provide(FX_CUDA, "cat", cat)
provide(FX_CUDA, "tril", tril)
provide(FX_CUDA, "triu", triu)
provide(FX_CUDA, "arange", arange)
provide(FX_CUDA, "linspace", linspace)
