"""Kernels that read, write and accumulate through index tensors, on the GPU: arrays, params and semantics of
cpu/index_kernels.pyx, and strided_add of cpu/movement.pyx.

An index out of range is reported (fx/fault.h) and what it stands for left out: zero where it is read, unchanged where
it would have been written.  Accumulation follows the order of the index; see Note [Runs] in accumulate.cu.
"""
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_FLOATING, \
    FX_HOST_SCALAR, FX_MAX_DIMS, FX_OK, fx_array, fx_call, fx_category, fx_itemsize, fx_kernel, fx_scalar
from ferrox._core.door.backend cimport implementation, kernel_id, provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.index_walk cimport FX_ACTION_ADD, FX_ACTION_MAXIMUM, FX_ACTION_MINIMUM, FX_ACTION_MULTIPLY, \
    accumulate_indexed, fx_index_args, lay_along, lay_region, lay_through, read_indexed, reduction, write_indexed
from ferrox._core.cuda.order cimport run_unary
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef int _copy = kernel_id("copy")
cdef int _add = kernel_id("add")

cdef enum:
    MEAN = 2


cdef int _dense_with(fx_call *call, fx_kernel inner, int place, fx_array *instead) noexcept nogil:
    """`dense` of an in-place kernel with another array in one place."""
    cdef fx_array *arrays[3]
    cdef fx_array **given = call.arrays
    cdef int i, status
    for i in range(3):
        arrays[i] = instead if i == place else given[i]
    call.arrays = arrays
    status = dense(call, inner, 1, 0)
    call.arrays = given
    return status


cdef bint _single(const fx_array *y, fx_array *one) noexcept nogil:
    """Whether all elements of y are one in memory; `one` is then that element."""
    cdef int d
    if y.flags & FX_HOST_SCALAR or y.numel <= 1:
        return False
    for d in range(y.ndim):
        if y.dims[d] != 1 and y.dims[y.ndim + d] != 0:
            return False
    one[0] = y[0]
    one.numel = 1
    one.ndim = 0
    one.flags = FX_CONTIGUOUS
    return True


# --- one index array with x's own dims

cdef int _gather(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[1]
    cdef int status = lay_along(call, &a, x, call.arrays[0], call.arrays[2], <int> call.params[0].i)
    a.single = 0
    return status if status != FX_OK else read_indexed(call, &a, x.dtype, x.device_index)


cdef int _scatter(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[0]
    cdef int status = lay_along(call, &a, x, call.arrays[2], call.arrays[1], <int> call.params[0].i)
    return status if status != FX_OK else write_indexed(call, &a, x.dtype, x.device_index)


cdef int _scatter_with(fx_call *call, int action, bint include_self, bint mean) noexcept nogil:
    cdef fx_index_args a
    cdef reduction how
    cdef fx_array *x = call.arrays[0]
    cdef int status = lay_along(call, &a, x, call.arrays[2], call.arrays[1], <int> call.params[0].i)
    how.action = action
    how.alpha = how.alpha_whole = 1
    how.include_self = include_self
    how.mean = mean
    return status if status != FX_OK else accumulate_indexed(call, &a, &how, x.dtype, x.device_index)


cdef int _scatter_add(fx_call *call) noexcept nogil:
    return _scatter_with(call, FX_ACTION_ADD, True, False)


cdef int _scatter_reduce(fx_call *call) noexcept nogil:
    cdef int mode = <int> call.params[1].i
    cdef int[5] actions = [FX_ACTION_ADD, FX_ACTION_MULTIPLY, FX_ACTION_ADD, FX_ACTION_MAXIMUM, FX_ACTION_MINIMUM]
    return _scatter_with(call, actions[mode], call.params[2].i != 0, mode == MEAN)


cdef int _dims_call(fx_call *call, fx_kernel inner) noexcept nogil:
    """x in place | index, src: of src, what the index covers."""
    cdef fx_array *index = call.arrays[1]
    cdef fx_array src = call.arrays[2][0]
    cdef fx_array one
    cdef int64_t dims[2 * FX_MAX_DIMS]
    cdef int d
    cdef bint same = True
    if index.numel == 0:
        return FX_OK
    if _single(&src, &one):
        return _dense_with(call, inner, 2, &one)
    if src.flags & FX_HOST_SCALAR or src.ndim != index.ndim:
        return dense(call, inner, 1, 0)
    for d in range(src.ndim):
        same = same and src.dims[d] == index.dims[d]
        dims[d] = index.dims[d]
        dims[src.ndim + d] = src.dims[src.ndim + d]
    if same:
        return dense(call, inner, 1, 0)
    src.dims = dims
    src.numel = index.numel
    src.flags = 0
    return _dense_with(call, inner, 2, &src)


cdef int gather(fx_call *call) noexcept nogil:
    return dense(call, _gather, 0, 0)


cdef int scatter(fx_call *call) noexcept nogil:
    return _dims_call(call, _scatter)


cdef int scatter_add(fx_call *call) noexcept nogil:
    return _dims_call(call, _scatter_add)


cdef int scatter_reduce(fx_call *call) noexcept nogil:
    if call.params[1].i == MEAN and call.arrays[0].dtype == FX_BOOL:
        snprintf(call.message, sizeof(call.message), b"the mean of bool is not defined")
        return FX_ERROR_TYPE
    return _dims_call(call, _scatter_reduce)


# --- advanced indexing

cdef int _index_get(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[1]
    cdef int status = lay_through(call, &a, x, call.arrays[0], call.arrays + 2, <int> call.params[0].i,
                                  <int> call.params[1].i, call.params + 2, True)
    a.single = 0
    return status if status != FX_OK else read_indexed(call, &a, x.dtype, x.device_index)


cdef int _write_or_add(fx_call *call, fx_index_args *a, fx_array *x, bint accumulate,
                       const fx_scalar *alpha) noexcept nogil:
    """x[index] = y, or += alpha * y; NULL: alpha is 1."""
    cdef reduction how
    if not accumulate:
        return write_indexed(call, a, x.dtype, x.device_index)
    how.action = FX_ACTION_ADD
    how.alpha = how.alpha_whole = 1
    if alpha != NULL and fx_category(x.dtype) == FX_FLOATING:
        how.alpha = alpha.f
    elif alpha != NULL:
        how.alpha_whole = alpha.i
    how.include_self = True
    how.mean = False
    return accumulate_indexed(call, a, &how, x.dtype, x.device_index)


cdef int _index_put(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[0]
    cdef int status = lay_through(call, &a, x, call.arrays[1], call.arrays + 2, <int> call.params[0].i,
                                  <int> call.params[1].i, call.params + 3, True)
    return status if status != FX_OK else _write_or_add(call, &a, x, call.params[2].i != 0, NULL)


cdef int index_get(fx_call *call) noexcept nogil:
    return dense(call, _index_get, 0, 0)


cdef int index_put(fx_call *call) noexcept nogil:
    cdef fx_array one
    cdef fx_array *values = call.arrays[1]
    cdef int status
    if _single(values, &one):
        call.arrays[1] = &one
    status = dense(call, _index_put, 1, 0)
    call.arrays[1] = values
    return status


# --- index_select and its kin: one 1-D index along one dim

cdef int _along(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, fx_array *index, bint wrap) noexcept nogil:
    """A 0-d x or index counts as 1-D."""
    cdef fx_scalar tags[FX_MAX_DIMS]
    cdef fx_array x1 = x[0]
    cdef int64_t[2] one = [1, 1]
    cdef int d, dim = <int> call.params[0].i
    if x.ndim == 0:
        x1.ndim = 1
        x1.dims = one
    for d in range(x1.ndim):
        tags[d].i = -1
    tags[dim].i = 0
    return lay_through(call, a, &x1, y, &index, 1, dim, tags, wrap)


cdef int _index_select(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[1]
    cdef int status = _along(call, &a, x, call.arrays[0], call.arrays[2], False)
    a.single = 0
    return status if status != FX_OK else read_indexed(call, &a, x.dtype, x.device_index)


cdef int _index_add(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[0]
    cdef int status = _along(call, &a, x, call.arrays[2], call.arrays[1], False)
    return status if status != FX_OK else _write_or_add(call, &a, x, True, call.params + 1)


cdef int _index_copy(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[0]
    cdef int status = _along(call, &a, x, call.arrays[2], call.arrays[1], False)
    return status if status != FX_OK else _write_or_add(call, &a, x, False, NULL)


cdef int _index_fill(fx_call *call) noexcept nogil:
    cdef fx_index_args a
    cdef fx_array *x = call.arrays[0]
    cdef int status = _along(call, &a, x, call.arrays[2], call.arrays[1], True)
    return status if status != FX_OK else _write_or_add(call, &a, x, False, NULL)


cdef int _slices_call(fx_call *call, fx_kernel inner) noexcept nogil:
    cdef fx_array one
    if _single(call.arrays[2], &one):
        return _dense_with(call, inner, 2, &one)
    return dense(call, inner, 1, 0)


cdef int index_select(fx_call *call) noexcept nogil:
    return dense(call, _index_select, 0, 0)


cdef int index_add(fx_call *call) noexcept nogil:
    return _slices_call(call, _index_add)


cdef int index_copy(fx_call *call) noexcept nogil:
    return _slices_call(call, _index_copy)


cdef int index_fill(fx_call *call) noexcept nogil:
    return _slices_call(call, _index_fill)


# --- strided_add

cdef bint _apart(const fx_array *region) noexcept nogil:
    """Whether no two elements can be one: each stride leads beyond all that the smaller ones reach."""
    cdef int64_t size[FX_MAX_DIMS]
    cdef int64_t stride[FX_MAX_DIMS]
    cdef int64_t s, reach = 0
    cdef int d, e, n = 0
    for d in range(region.ndim):
        if region.dims[d] == 1:
            continue
        s = region.dims[region.ndim + d]
        s = -s if s < 0 else s
        e = n
        while e > 0 and stride[e - 1] > s:
            stride[e] = stride[e - 1]
            size[e] = size[e - 1]
            e -= 1
        stride[e] = s
        size[e] = region.dims[d]
        n += 1
    for d in range(n):
        if stride[d] <= reach:
            return False
        reach += (size[d] - 1) * stride[d]
    return True


cdef int _add_to(fx_call *call, fx_array *out, fx_array *x) noexcept nogil:
    """out += x by the elementwise kernel, which takes any strides."""
    cdef fx_array *arrays[3]
    cdef fx_call step
    arrays[0] = arrays[1] = out
    arrays[2] = x
    step = call[0]
    step.arrays = arrays
    step.n_out = 1
    step.n_in = 2
    step.kernel = _add
    step.dtype = out.dtype
    step.params = NULL
    step.n_params = 0
    return implementation[<int> FX_CUDA][_add](&step)


cdef int strided_add(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_array packed = x[0]
    cdef fx_index_args a
    cdef reduction how
    cdef int64_t dims[2 * FX_MAX_DIMS]
    cdef int64_t step = 1
    cdef int d, status = FX_OK
    if out.numel == 0:
        return FX_OK
    if _apart(out):
        return _add_to(call, out, x)
    packed.data = NULL
    if not x.flags & FX_CONTIGUOUS:
        for d in range(x.ndim - 1, -1, -1):
            dims[d] = x.dims[d]
            dims[x.ndim + d] = step
            step *= x.dims[d]
        packed.dims = dims
        packed.flags = FX_CONTIGUOUS
        packed.data = scratch(out.device_index, <size_t> (x.numel * fx_itemsize(x.dtype)))
        if packed.data == NULL:
            return FX_ERROR_MEMORY
        status = run_unary(_copy, &packed, x, x.dtype)
    how.action = FX_ACTION_ADD
    how.alpha = how.alpha_whole = 1
    how.include_self = True
    how.mean = False
    if status == FX_OK:
        status = lay_region(call, &a, out, x if packed.data == NULL else &packed)
    if status == FX_OK:
        status = accumulate_indexed(call, &a, &how, out.dtype, out.device_index)
    if packed.data != NULL:
        scratch_free(out.device_index, packed.data)
    return status


provide(FX_CUDA, "gather", gather)
provide(FX_CUDA, "scatter", scatter)
provide(FX_CUDA, "scatter_add", scatter_add)
provide(FX_CUDA, "scatter_reduce", scatter_reduce)
provide(FX_CUDA, "index_get", index_get)
provide(FX_CUDA, "index_put", index_put)
provide(FX_CUDA, "index_select", index_select)
provide(FX_CUDA, "index_add", index_add)
provide(FX_CUDA, "index_copy", index_copy)
provide(FX_CUDA, "index_fill", index_fill)
provide(FX_CUDA, "strided_add", strided_add)
