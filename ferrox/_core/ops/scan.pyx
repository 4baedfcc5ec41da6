"""Scans along one dimension: running sums, products, extremes and log-sum-exps; products; differences; trapezoids.

Note [Products].  The gradient of a product is the product of the others, which a division by the element gets wrong
where elements are zero.  `prod` multiplies the running product before the element by the one after it.  For `cumprod`
the sum over later outputs is a linear recurrence, r[k] = g[k] + x[k + 1] * r[k + 1], computed by `linear_scan`, whose
own gradient is a recurrence again.  So all orders are exact, zeros or not.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_I64
from ferrox._core.dtype cimport FLOATING, as_dtype, categories, default_dtype
from ferrox._core.graph.node cimport Node, record_frame, record_frame_many, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, mul, sub
from ferrox._core.ops.elementwise cimport as_operand
from ferrox._core.ops.gather_scatter cimport number_like, scatter_zeros
from ferrox._core.ops.join cimport concatenate
from ferrox._core.ops.reduction cimport dims_mask, kept_shape, named, reduced, sum_dims
from ferrox._core.ops.shape cimport expand, permute, read_dim, read_int, reshape, to_dtype
from ferrox._core.ops.views cimport narrow_dim
from ferrox._core.tensor.base cimport TensorBase, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make_like, read, run, whole


cdef TensorBase _scanned(Op op, TensorBase x, int dim, bint reverse, int dtype):
    cdef frame f
    cdef TensorBase out
    begin(&f, op.kernel, dtype)
    out = make_like(&f, x, dtype)
    read(&f, x)
    whole(&f, dim)
    whole(&f, reverse)
    run(&f, op.name)
    if f.wants_grad:
        record_frame(op, &f, out, (dim, reverse))
    return out


cdef int _widened(TensorBase x, object dtype) except -1:
    if dtype is not None:
        return as_dtype(dtype)
    return x.a.dtype if categories[x.a.dtype] == FLOATING else FX_I64


cdef TensorBase _shifted(TensorBase x, int dim, bint forward, double first):
    """Each element's predecessor (successor if not `forward`) along dim, `first` where there is none."""
    cdef int64_t n = shape_of(x)[dim] if x.a.ndim else 1
    cdef TensorBase edge
    shape = list(shape_tuple(&x.a))
    if x.a.ndim == 0:
        return number_like(first, x.a.dtype, x)
    if n == 0:
        return x
    shape[dim] = 1
    edge = expand(number_like(first, x.a.dtype, x), shape)
    if forward:
        return concatenate([edge, narrow_dim(x, dim, 0, n - 1)], dim)
    return concatenate([narrow_dim(x, dim, 1, n - 1), edge], dim)


# cumsum

cdef object _cumsum_vjp(Node n, object g):
    return cumsum_dim(<TensorBase> g, n.params[0], not n.params[1])


def _cumsum(input, dim, *, dtype=None, axis=None):
    """Running sum along `dim`; integers and bools are summed as int64 unless `dtype` says otherwise.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([1.0, 2.0, 3.0]).cumsum(0)
    tensor([1., 3., 6.])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int code = _widened(x, dtype)
    return _scanned(CUMSUM, to_dtype(x, code), read_dim(dim if axis is None else axis, x.a.ndim), False, code)

cdef Op CUMSUM = row("cumsum", function=_cumsum, rule=rule(_cumsum_vjp), method=True, inplace=True, family="scan",
                     out=True, reference="np.cumsum(input, dim)", sample="[(t(3, 4), 1), (t(3, 4), 0)]")


cdef TensorBase cumsum_dim(TensorBase x, int dim, bint reverse):
    return _scanned(CUMSUM, x, dim, reverse, x.a.dtype)


# linear_scan, cumprod, prod

cdef object _linear_scan_vjp(Node n, object g):
    dim, reverse = n.params
    cdef TensorBase later = linear_scan(_shifted(saved_input(n, 0), dim, reverse, 0), <TensorBase> g, dim, not reverse)
    return mul(later, _shifted(saved_output(n, 0), dim, not reverse, 0)) if wants(n, 0) else None, later

cdef Op LINEAR_SCAN = row("_linear_scan", kernel="linear_scan", rule=rule(_linear_scan_vjp), needs=("0o", "0"),
                          public=False,
                          doc="h[t] = a[t] * h[t - 1] + b[t] along a dimension, from nothing.")


cdef TensorBase linear_scan(TensorBase a, TensorBase b, int dim, bint reverse):
    """h[t] = a[t] * h[t - 1] + b[t]; in reverse h[t] = a[t] * h[t + 1] + b[t].  a and b are of one shape and dtype."""
    cdef frame f
    cdef TensorBase out
    begin(&f, LINEAR_SCAN.kernel, b.a.dtype)
    out = make_like(&f, b, b.a.dtype)
    read(&f, a)
    read(&f, b)
    whole(&f, dim)
    whole(&f, reverse)
    run(&f, "linear_scan")
    if f.wants_grad:
        record_frame(LINEAR_SCAN, &f, out, (dim, reverse))
    return out


cdef object _cumprod_vjp(Node n, object g):
    dim, reverse = n.params
    before = _shifted(saved_output(n, 0), dim, not reverse, 1)
    return mul(before, linear_scan(_shifted(saved_input(n, 0), dim, reverse, 1), <TensorBase> g, dim, not reverse))


def _cumprod(input, dim, *, dtype=None, axis=None):
    """Running product along `dim`; integers and bools are multiplied as int64 unless `dtype` says otherwise."""
    cdef TensorBase x = <TensorBase?> input
    cdef int code = _widened(x, dtype)
    return _scanned(CUMPROD, to_dtype(x, code), read_dim(dim if axis is None else axis, x.a.ndim), False, code)

cdef Op CUMPROD = row("cumprod", function=_cumprod, rule=rule(_cumprod_vjp), needs=("0o",), method=True, inplace=True,
                      out=True,
                      family="scan", reference="np.cumprod(input, dim)", sample="[(t(3, 4), 1), (t(3, 4), 0)]")


cdef TensorBase cumprod_dim(TensorBase x, int dim, bint reverse):
    return _scanned(CUMPROD, x, dim, reverse, x.a.dtype)


cdef TensorBase _others(TensorBase x, int dim):
    """For each element the product of the others along dim."""
    return mul(_shifted(cumprod_dim(x, dim, False), dim, True, 1), _shifted(cumprod_dim(x, dim, True), dim, False, 1))


cdef object _prod_vjp(Node n, object g):
    cdef TensorBase x = saved_input(n, 0), line, others
    cdef int64_t mask = n.params[0]
    cdef int d, dim
    cdef list dims = [d for d in range(x.a.ndim) if mask >> d & 1], order, inverse, kept
    shape = shape_tuple(&x.a)
    g = reshape(<TensorBase> g, kept_shape(mask, shape))
    if x.a.ndim == 0:
        return g
    if len(dims) == 1:
        dim = dims[0]
        return mul(g, _others(x, dim))
    # Several dimensions: moved to the end and taken as one.
    kept = [d for d in range(x.a.ndim) if not mask >> d & 1]
    order = kept + dims
    line = permute(x, order)
    moved = shape_tuple(&line.a)
    dim = len(kept)
    line = reshape(line, moved[:dim] + (_product(moved[dim:]),))
    others = _others(line, dim)
    inverse = [order.index(d) for d in range(x.a.ndim)]
    return mul(g, permute(reshape(others, moved), inverse))


cdef int64_t _product(tuple sizes) except -1:
    cdef int64_t product = 1, size
    for size in sizes:
        product *= size
    return product


def _prod(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Product of the elements, all or over `dim` (an int or several).

    Integers and bools are multiplied as int64 unless `dtype` says otherwise.  The gradient is exact where elements are
    zero.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([2.0, 3.0, 4.0]).prod()
    tensor(24.)
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim if axis is None else axis, x.a.ndim)
    cdef int code = _widened(x, dtype)
    x = to_dtype(x, code)
    return reduced(PROD, x, mask, keepdim if keepdims is None else keepdims, code, code, 1.0, (mask,))

cdef Op PROD = row("prod", function=_prod, rule=rule(_prod_vjp), needs=("0",), method=True, family="reduction",
                   out=True, reference="np.prod(input, dim, keepdims=keepdim)",
                   sample="[(t(3, 4),), (t(3, 4), 1, True), (t(2, 3, 4), (0, 2))]")


# logcumsumexp

cdef object _logcumsumexp_vjp(Node n, object g):
    """sum over i >= k of g[i] exp(x[k] - y[i]), as a recurrence whose factors exp(y[k] - y[k + 1]) are at most 1."""
    dim = n.params[0]
    exp = registry["exp"]
    cdef TensorBase y = saved_output(n, 0)
    # Up to the first element above -inf, y is -inf and has no slope: taken from 0, its exponential is 0.
    cdef TensorBase reached = registry["where"](registry["eq"](y, -INFINITY), 0, y)
    decay = exp(sub(y, _shifted(reached, dim, False, 0)))
    later = linear_scan(<TensorBase> decay, <TensorBase> g, dim, True)
    return mul(exp(sub(saved_input(n, 0), reached)), later)


def _logcumsumexp(input, dim):
    """log of the running sum of exp(x) along `dim`, without overflow."""
    cdef TensorBase x = <TensorBase?> input
    cdef int code = x.a.dtype if categories[x.a.dtype] == FLOATING else default_dtype
    return _scanned(LOGCUMSUMEXP, to_dtype(x, code), read_dim(dim, x.a.ndim), False, code)

cdef Op LOGCUMSUMEXP = row("logcumsumexp", function=_logcumsumexp, rule=rule(_logcumsumexp_vjp), needs=("0o",),
                           out=True, method=True,
                           family="scan", reference="np.log(np.cumsum(np.exp(input), dim))",
                           sample="[(t(3, 4), 1), (t(3, 4), 0)]")


# cummax, cummin

cdef object _running_vjp(Node n, object g):
    return scatter_zeros(n.params[1], n.params[0], saved_output(n, 1), <TensorBase> g[0])


cdef object _running(Op op, object input, object dim):
    cdef TensorBase x = <TensorBase?> input, values, indices
    cdef int d = read_dim(dim, x.a.ndim)
    cdef frame f
    begin(&f, op.kernel, x.a.dtype)
    values = make_like(&f, x, x.a.dtype)
    indices = make_like(&f, x, FX_I64)
    read(&f, x)
    whole(&f, d)
    whole(&f, 0)
    run(&f, op.name)
    if f.wants_grad:
        record_frame_many(op, &f, (values, indices), (d, shape_tuple(&x.a)))
    return named(op.name, (values, indices))


def _cummax(input, dim):
    """Running maximum along `dim`: (values, indices); of equal elements the last, NaN from where it first stands."""
    return _running(CUMMAX, input, dim)

cdef Op CUMMAX = row("cummax", function=_cummax, rule=rule(_running_vjp), needs=("p",), method=True, family="scan",
                     out=True, reference="np.maximum.accumulate(input, dim)", sample="[(t(3, 4), 1), (t(3, 4), 0)]")


def _cummin(input, dim):
    """Running minimum along `dim`: (values, indices); of equal elements the last, NaN from where it first stands."""
    return _running(CUMMIN, input, dim)

cdef Op CUMMIN = row("cummin", function=_cummin, rule=rule(_running_vjp), needs=("p",), method=True, family="scan",
                     out=True, reference="np.minimum.accumulate(input, dim)", sample="[(t(3, 4), 1), (t(3, 4), 0)]")


# diff, trapezoids

def _diff(input, n=1, dim=-1, prepend=None, append=None):
    """Differences of neighbours along `dim`, n times over.

    Parameters
    ----------
    prepend, append : Tensor, optional
        Joined to the input along `dim` first.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.diff(fx.tensor([1.0, 4.0, 9.0]))
    tensor([3., 5.])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int d
    cdef int64_t times = read_int("diff", "n", n), size
    if x.a.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if times < 0:
        raise RuntimeError(f"order must be non-negative but got {times}")
    d = read_dim(dim, x.a.ndim)
    if times and (prepend is not None or append is not None):
        x = concatenate([as_operand(each, "diff") for each in (prepend, x, append) if each is not None], d)
    if times == 0:
        return registry["clone"](x)
    for _ in range(min(times, shape_of(x)[d])):
        size = max(shape_of(x)[d] - 1, 0)
        after, before = narrow_dim(x, d, shape_of(x)[d] - size, size), narrow_dim(x, d, 0, size)
        x = registry["ne"](after, before) if x.a.dtype == FX_BOOL else sub(after, before)
    return x

row("diff", function=_diff, out=True, composite=True, method=True, family="scan", reference="np.diff(input, n, dim)",
    sample="[(t(3, 4),), (t(5, 4), 2, 0)]")


cdef TensorBase _panels(object y, object x, object dx, int dim, str name):
    """Areas under the segments along dim."""
    cdef TensorBase values = <TensorBase?> y, at
    cdef int64_t n = shape_of(values)[dim]
    if n == 0:
        raise RuntimeError(f"{name}(): expected at least one sample along dim {dim}")
    heights = add(narrow_dim(values, dim, 1, n - 1), narrow_dim(values, dim, 0, n - 1))
    if x is None:
        return mul(heights, 0.5 if dx is None else mul(dx, 0.5) if isinstance(dx, TensorBase) else 0.5 * dx)
    if dx is not None:
        raise TypeError(f"{name}() takes x or dx, not both")
    at = as_operand(x, name)
    if at.a.ndim == 1:
        if at.a.numel != n:
            raise RuntimeError(f"There must be one `x` value for each sample point, got {at.a.numel} and {n}")
        at = reshape(at, (-1,) + (1,) * (values.a.ndim - dim - 1))
        return mul(mul(heights, _diff(at, 1, 0)), 0.5)
    return mul(mul(heights, _diff(at, 1, dim - values.a.ndim)), 0.5)


def _trapezoid(y, x=None, *, dx=None, dim=-1):
    """Integral of `y` along `dim` by the trapezoidal rule.

    Parameters
    ----------
    x : Tensor, optional
        Where the samples were taken; a vector, or broadcast against `y`.
    dx : float, optional
        Their distance when there is no `x`; 1 by default.
    """
    cdef int d = read_dim(dim, (<TensorBase?> y).a.ndim)
    return sum_dims(_panels(y, x, dx, d, "trapezoid"), [d - (<TensorBase> y).a.ndim], False)

row("trapezoid", function=_trapezoid, composite=True, reference="np.trapezoid(y, x)", family="scan",
    sample="[(t(3, 4),), (t(3, 4), np.array([0.0, 1.0, 3.0, 3.5]))]")
registry["trapz"] = registry["trapezoid"]


def _cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """Running integral of `y` along `dim` by the trapezoidal rule; arguments as for `trapezoid`."""
    cdef int d = read_dim(dim, (<TensorBase?> y).a.ndim)
    return _cumsum(_panels(y, x, dx, d, "cumulative_trapezoid"), d - (<TensorBase> y).a.ndim)

row("cumulative_trapezoid", function=_cumulative_trapezoid, composite=True, family="scan",
    reference="np.cumsum((y[:, 1:] + y[:, :-1]) / 2, 1)", sample="t(3, 4)")
