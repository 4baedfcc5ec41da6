"""Deviations and norms."""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from ferrox._core.dtype cimport FLOATING, as_dtype, categories, dtype_name
from ferrox._core.graph.node cimport Node, record_frame, record_frame_many, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, div, full_like, mul, sub
from ferrox._core.ops.gather_scatter cimport number_like, unless
from ferrox._core.ops.reduction cimport check_not_empty, dims_mask, kept_shape, make_reduced, mean_mask, reduced, \
    reduced_size, spread, sum_mask
from ferrox._core.ops.shape cimport reshape, to_dtype
from ferrox._core.tensor.base cimport TensorBase, needs_grad, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, read, real, run, whole


# var, std, var_mean, std_mean

cdef TensorBase _centred(TensorBase g, TensorBase x, int64_t mask, double correction):
    """The gradient of the variance: 2 g (x - mean) / (n - correction); g has the reduced dimensions as 1."""
    cdef double degrees = reduced_size(x, mask) - correction
    return mul(mul(g, 2 / degrees if degrees > 0 else INFINITY), sub(x, mean_mask(x, mask, True)))


cdef TensorBase _kept(object g, TensorBase x, int64_t mask):
    return reshape(<TensorBase> g, kept_shape(mask, shape_tuple(&x.a)))


cdef object _var_vjp(Node n, object g):
    cdef TensorBase x = saved_input(n, 0)
    mask, correction = n.params
    return _centred(_kept(g, x, mask), x, mask, correction)


cdef TensorBase _root(object g, TensorBase std):
    """The cotangent of the variance from that of its root, zero where the root is zero."""
    zero = registry["eq"](std, 0)
    return unless(zero, div(g, mul(registry["where"](zero, number_like(1, std.a.dtype, std), std), 2)))


cdef object _std_vjp(Node n, object g):
    cdef TensorBase x = saved_input(n, 0)
    mask, correction = n.params
    return _centred(_kept(_root(g, saved_output(n, 0)), x, mask), x, mask, correction)


cdef object _pair_vjp(Node n, object gs):
    cdef TensorBase x = saved_input(n, 0), total = None, share
    mask, correction = n.params
    g, g_mean = gs
    if g is not None:
        if n.op is STD_MEAN:
            g = _root(g, saved_output(n, 0))
        total = _centred(_kept(g, x, mask), x, mask, correction)
    if g_mean is not None:
        share = spread(div(_kept(g_mean, x, mask), reduced_size(x, mask)), (mask, True, shape_tuple(&x.a)))
        total = share if total is None else add(total, share)
    return total


cdef object _deviation(Op op, object input, object dim, object unbiased, bint keepdim, object correction, bint root,
                       bint pair):
    cdef TensorBase x = <TensorBase?> input, out, mean = None
    cdef int64_t mask
    cdef frame f
    if isinstance(dim, bool):
        # var(input, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{op.name}() takes unbiased or correction, not both")
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f"{op.name}(): std and var only support floating point and complex dtypes, got "
                           f"{dtype_name(x.a.dtype)}")
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    mask = dims_mask(dim, x.a.ndim)
    begin(&f, op.kernel, x.a.dtype)
    out = make_reduced(&f, x, mask, keepdim, x.a.dtype)
    if pair:
        mean = make_reduced(&f, x, mask, keepdim, x.a.dtype)
    read(&f, x)
    whole(&f, mask)
    real(&f, correction)
    whole(&f, root)
    run(&f, op.name)
    if f.wants_grad:
        kept = (mask, float(correction))
        if pair:
            record_frame_many(op, &f, (out, mean), kept)
        else:
            record_frame(op, &f, out, kept)
    return (out, mean) if pair else out


cdef tuple var_mean_mask(TensorBase x, int64_t mask, bint keepdim, double correction):
    cdef list dims = []
    cdef int d
    for d in range(x.a.ndim):
        if mask >> d & 1:
            dims.append(d)
    return _deviation(VAR_MEAN, x, dims, None, keepdim, correction, False, True)


def _var(input, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """Variance of the elements, all or over `dim`.

    Parameters
    ----------
    input : Tensor
        Of floating-point dtype.
    dim : int or tuple of int, optional
    unbiased : bool
        The older spelling of correction=1 (True) and correction=0 (False); `var(input, unbiased)` works too.
    keepdim : bool
    correction : number
        What is subtracted from the number of elements in the divisor; 1 by default.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([1.0, 2.0, 3.0, 4.0]).var(correction=0)
    tensor(1.2500)
    """
    return _deviation(VAR, input, dim if axis is None else axis, unbiased, keepdim if keepdims is None else keepdims,
                      correction, False, False)

cdef Op VAR = row("var", function=_var, out=True, rule=rule(_var_vjp), needs=("0",), method=True, family="reduction",
                  reference="np.var(input, dim, ddof=1, keepdims=keepdim)",
                  sample="[(t(3, 4),), (t(3, 4), 1, True, True), (t(2, 3, 4), (0, 2))]")


def _std(input, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """Standard deviation of the elements, all or over `dim`; arguments as for `var`."""
    return _deviation(STD, input, dim if axis is None else axis, unbiased, keepdim if keepdims is None else keepdims,
                      correction, True, False)

cdef Op STD = row("std", kernel="var", function=_std, out=True, rule=rule(_std_vjp), needs=("0o",), method=True,
                  family="reduction",
                  reference="np.std(input, dim, ddof=1, keepdims=keepdim)",
                  sample="[(t(3, 4),), (t(3, 4), 1, True, True), (t(2, 3, 4), (0, 2))]")


def _var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """Variance and mean, as a tuple; arguments as for `var`."""
    return _deviation(VAR_MEAN, input, dim if axis is None else axis, unbiased,
                      keepdim if keepdims is None else keepdims,
                      correction, False, True)

cdef Op VAR_MEAN = row("var_mean", kernel="var", function=_var_mean, rule=rule(_pair_vjp), needs=("0",),
                       family="reduction", out=True,
                       reference="(np.var(input, dim, ddof=1), np.mean(input, dim))",
                       sample="[(t(3, 4),), (t(3, 4), 1)]")


def _std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None, axis=None, keepdims=None):
    """Standard deviation and mean, as a tuple; arguments as for `var`."""
    return _deviation(STD_MEAN, input, dim if axis is None else axis, unbiased,
                      keepdim if keepdims is None else keepdims,
                      correction, True, True)

cdef Op STD_MEAN = row("std_mean", kernel="var", function=_std_mean, out=True, rule=rule(_pair_vjp), needs=("0o",),
                       family="reduction",
                       reference="(np.std(input, dim, ddof=1), np.mean(input, dim))",
                       sample="[(t(3, 4),), (t(3, 4), 1)]")


# norm

cdef object _norm_vjp(Node n, object g_):
    """d/dx |x|_p, zero where the norm is: PyTorch's choice of subgradient."""
    cdef TensorBase x = saved_input(n, 0), size, g, one
    cdef double p = n.params[1]
    cdef int64_t mask = n.params[0]
    pow_, abs_, sign, eq, where = (registry["pow"], registry["abs"], registry["sign"], registry["eq"],
                                   registry["where"])
    if p == 0:
        return full_like(x, 0)
    g = _kept(g_, x, mask)
    if p == 1:
        return mul(g, sign(x))
    size = _kept(saved_output(n, 0), x, mask)
    if p == INFINITY or p == -INFINITY:
        ties = eq(abs_(x), size)
        ties = add(ties, registry["logical_and"](registry["ne"](x, x), registry["ne"](size, size)))
        return mul(mul(div(g, sum_mask(ties, mask, True)), sign(x)), ties)
    one = number_like(1, x.a.dtype, x)
    zero = eq(size, 0)
    size = where(zero, one, size)
    if p == 2:
        return unless(zero, mul(g, div(x, size)))
    if p < 1:
        nothing = eq(x, 0)
        scaled = unless(nothing, mul(sign(x), pow_(abs_(where(nothing, one, x)), p - 1)))
        return mul(scaled, unless(zero, mul(g, pow_(size, 1 - p))))
    if p < 2:
        scaled = mul(sign(x), pow_(abs_(x), p - 1))
    else:
        scaled = mul(x, pow_(abs_(x), p - 2))
    return mul(scaled, unless(zero, div(g, pow_(size, p - 1))))

cdef Op NORM = row("_vector_norm", kernel="norm", rule=rule(_norm_vjp), needs=("0o",), public=False,
                   doc="The p-norm over dimensions.")


cdef TensorBase norm_mask(TensorBase x, double order, int64_t mask, bint keepdim, int dtype):
    """The p-norm over the dimensions in mask, computed and returned in a floating-point dtype."""
    if order < 0 or order == INFINITY:
        check_not_empty("linalg.vector_norm", x, mask, False)
    return reduced(NORM, to_dtype(x, dtype), mask, keepdim, dtype, dtype, order,
                   (mask, order) if needs_grad(x) else None)


cdef int _norm_dtype(str name, TensorBase x, object dtype) except -1:
    cdef int code = x.a.dtype if dtype is None else as_dtype(dtype)
    if categories[code] != FLOATING:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {dtype_name(code)}")
    return code


def _norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The p-norm of the elements, all or over `dim`: (sum |x|^p)^(1/p).

    Parameters
    ----------
    input : Tensor
        Of floating-point dtype.
    p : number or "fro"
        inf and -inf give the greatest and least absolute value, 0 the number of non-zero elements; "fro" is 2.
    dim : int or tuple of int, optional
    keepdim : bool
    dtype : dtype, optional
        Cast the input to it first.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.norm(fx.tensor([3.0, 4.0]))
    tensor(5.)
    """
    cdef TensorBase x = <TensorBase?> input
    if p == "nuc":
        raise RuntimeError("[norm] the nuclear norm is linalg.matrix_norm(x, 'nuc')")
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"[norm] p is a number or 'fro', got {p!r}")
    return norm_mask(x, 2 if p == "fro" else p, dims_mask(dim, x.a.ndim), keepdim,
                     _norm_dtype("linalg.vector_norm", x, dtype))

row("norm", function=_norm, out=True, composite=True, method=True, family="reduction",
    reference="np.sum(np.abs(input) ** (2 if p == 'fro' else p), dim, keepdims=keepdim) "
              "** (1 / (2 if p == 'fro' else p))",
    sample="[(t(3, 4),), (t(3, 4), 3, 1), (t(3, 4), 1.5, 0, True), (t(3, 4), 1)]")


def _vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """The p-norm of the elements, all or over `dim`; see `norm`."""
    cdef TensorBase t = <TensorBase?> x
    if isinstance(ord, str):
        raise TypeError(f"linalg.vector_norm(): argument 'ord' must be a number, not {ord!r}")
    return norm_mask(t, ord, dims_mask(dim, t.a.ndim), keepdim, _norm_dtype("linalg.vector_norm", t, dtype))

row("linalg_vector_norm", function=_vector_norm, composite=True, public="linalg", family="reduction",
    reference="np.sum(np.abs(x) ** ord, dim) ** (1 / ord)", sample="[(t(3, 4),), (t(3, 4), 3, 1)]")
