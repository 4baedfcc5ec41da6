"""Reductions."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_I64, FX_MAX_DIMS, fx_array, fx_scalar
from ferrox._core.dispatch cimport launch
from ferrox._core.dtype cimport FLOATING, as_dtype, categories
from ferrox._core.graph cimport Node, grad_enabled, record, rule
from ferrox._core.op cimport Op
from ferrox._core.op import row
from ferrox._core.engine cimport operators
from ferrox._core.ops.shape cimport expand, reshape, to_dtype
from ferrox._core.tensor cimport TensorBase, needs_grad, new_tensor, new_view, shape_of, shape_tuple


cdef TensorBase reduced(Op op, TensorBase x, int64_t mask, bint keepdim, int out_dtype, int dtype,
                        double p1, object kept):
    """Launch a reduction over the dimensions in `mask` and record it."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef fx_array *arrays[2]
    cdef fx_scalar params[3]
    cdef PyObject *inputs[1]
    cdef TensorBase out
    cdef int d, ndim = 0
    for d in range(x.a.ndim):
        if mask >> d & 1:
            if keepdim:
                shape[ndim] = 1
                ndim += 1
        else:
            shape[ndim] = shape_of(x)[d]
            ndim += 1
    out = new_tensor(ndim, shape, out_dtype, x.a.device_type, x.a.device_index)
    arrays[0] = &out.a
    arrays[1] = &x.a
    params[0].i = mask
    params[1].f = p1
    params[2].i = 0
    launch(op.name, op.kernel, dtype, arrays, 1, 1, params, 3)
    if grad_enabled() and needs_grad(x):
        inputs[0] = <PyObject *> x
        record(op, inputs, 1, out, kept)
    return out


cdef int64_t dims_mask(object dim, int ndim) except? -1:
    """A bit mask from None (all), an int, or a sequence of ints."""
    cdef int64_t mask = 0
    cdef int d
    if dim is None:
        return (<int64_t> 1 << ndim) - 1
    if hasattr(dim, "__index__"):
        dim = (dim,)
    elif len(dim) == 0:
        return (<int64_t> 1 << ndim) - 1
    for each in dim:
        d = each
        if not -max(ndim, 1) <= d < max(ndim, 1):
            raise IndexError(f"Dimension out of range (expected to be in range of [{-max(ndim, 1)}, {max(ndim, 1) - 1}], "
                             f"but got {d})")
        if d < 0:
            d += max(ndim, 1)
        if ndim:
            if mask >> d & 1:
                raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
            mask |= <int64_t> 1 << d
    return mask


cdef object _sum_vjp(Node n, object g):
    return spread(<TensorBase> g, n.params)


cdef TensorBase spread(TensorBase g, tuple params):
    """A cotangent of a reduction, expanded over the reduced dimensions: params are (mask, keepdim, input shape)."""
    cdef int64_t mask = params[0]
    cdef int d
    full = params[2]
    if not params[1]:
        g = reshape(g, tuple([1 if mask >> d & 1 else full[d] for d in range(len(full))]))
    return expand(g, full)


def _sum(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Sum of the elements, all or over `dim`."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim if axis is None else axis, x.a.ndim)
    return _sum_mask(x, mask, keepdim)

cdef Op SUM = row("sum", function=_sum, rule=rule(_sum_vjp), reference="np.sum(x, dim, keepdims=keepdim)",
                  sample="t(3, 4), 1, True", method=True)


cdef TensorBase _sum_mask(TensorBase x, int64_t mask, bint keepdim):
    cdef int out_dtype = x.a.dtype if categories[x.a.dtype] == FLOATING else FX_I64
    return reduced(SUM, x, mask, keepdim, out_dtype, out_dtype, 1.0,
                   (mask, keepdim, shape_tuple(&x.a)) if needs_grad(x) else None)


cdef TensorBase sum_dims(TensorBase x, list dims, bint keepdim):
    return _sum_mask(x, dims_mask(dims, x.a.ndim), keepdim)


# What the engine asks for.

cdef TensorBase sum_to(TensorBase x, tuple shape):
    """x summed over the dimensions in which it was broadcast from `shape`."""
    cdef int lead = x.a.ndim - <int> len(shape), d
    cdef list dims = list(range(lead))
    for d in range(lead, x.a.ndim):
        if shape[d - lead] == 1 and shape_of(x)[d] != 1:
            dims.append(d)
    if dims:
        x = sum_dims(x, dims, True)
    return x if shape_tuple(&x.a) == shape else reshape(x, shape)


cdef TensorBase _fit(TensorBase g, tuple shape, int dtype):
    if shape_tuple(&g.a) != shape:
        g = sum_to(g, shape)
    return to_dtype(g, dtype)


operators.fit = _fit
