"""Reading and writing through index tensors of the input's dimensions: gather, scatter and their kin.

An operator that changes a tensor at indices computes on a copy (`changed`); its in-place form writes into the tensor
itself unless a gradient is recorded.  Gradients are again gathers and scatters; accumulation follows the order of the
indices, so results do not depend on the number of threads.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_I32, FX_I64
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport dtype_name
from ferrox._core.graph.node cimport Node, grad_enabled, record, record_frame, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport div, mul
from ferrox._core.ops.elementwise cimport as_operand, assign, is_number, shadow_for
from ferrox._core.ops.subscript cimport get_item
from ferrox._core.ops.shape cimport expand, read_dim, reshape, to_dtype
from ferrox._core.ops.views cimport narrow_dim, zeros
from ferrox._core.tensor.base cimport TensorBase, needs_grad, new_tensor, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport adopt, begin, converted, fill, frame, make, make_shaped, read, run, whole, write

cdef int _arange = kernel_id("arange")


# tensors from numbers

cdef TensorBase number_like(object value, int dtype, TensorBase like):
    """A tensor without dimensions of the given dtype, on the device of `like`."""
    cdef TensorBase out = new_tensor(0, NULL, dtype, like.a.device_type, like.a.device_index)
    fill("fill", out, value, True)
    return out


cdef TensorBase counting(int64_t n, TensorBase like):
    """0, 1, …, n - 1 as int64 on the device of `like`."""
    cdef int64_t[1] shape
    cdef frame f
    cdef TensorBase out
    shape[0] = n
    begin(&f, _arange, FX_I64)
    out = make(&f, 1, shape, FX_I64, like)
    whole(&f, 0)
    whole(&f, 1)
    run(&f, "arange")
    return out


# checks

cdef TensorBase whole_numbers(str name, object index):
    """An index as int64."""
    cdef TensorBase i = as_operand(index, name)
    if i.a.dtype != FX_I64 and i.a.dtype != FX_I32:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index but got: {dtype_name(i.a.dtype)}")
    return to_dtype(i, FX_I64)


cdef TensorBase _places(str name, object index):
    """An index of gather or scatter as int64; one without elements may be of any dtype, as PyTorch's."""
    if isinstance(index, TensorBase) and (<TensorBase> index).a.numel == 0:
        return to_dtype(<TensorBase> index, FX_I64)
    return whole_numbers(name, index)


cdef list _sizes(TensorBase x):
    return list(shape_tuple(&x.a)) if x.a.ndim else [1]


cdef int _check_dtypes(str name, TensorBase x, TensorBase src) except -1:
    if x.a.dtype != src.a.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype, got {dtype_name(x.a.dtype)} and "
                           f"{dtype_name(src.a.dtype)}")
    return 0


cdef int _check_index(TensorBase x, int dim, TensorBase index, TensorBase src) except -1:
    """Dimensions of gather (no src) and scatter."""
    cdef list own = _sizes(x), at = _sizes(index), given
    cdef int d
    what = "input" if src is None else "self"
    if index.a.numel == 0:
        return 0
    if len(own) != len(at):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {what} tensor")
    if src is None:
        for d in range(len(own)):
            if d != dim and at[d] > own[d]:
                raise RuntimeError(f"Size does not match at dimension {d} expected index {at} to be no larger than "
                                   f"self {own} apart from dimension {dim}")
        return 0
    given = _sizes(src)
    if len(given) != len(at):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    for d in range(len(own)):
        if d != dim and at[d] > own[d] or at[d] > given[d]:
            raise RuntimeError(f"Expected index {at} to be no larger than self {own} apart from dimension {dim} and "
                               f"to be no larger size than src {given}")
    return 0


# one path for all that change a tensor at indices

cdef TensorBase changed(frame *f, Op op, TensorBase x, TensorBase index, TensorBase src, object kept, bint here):
    """x with src written through index: a copy, or x itself (`here`); the frame holds the parameters already."""
    cdef PyObject *inputs[3]
    cdef TensorBase out
    cdef bint grad = grad_enabled() and (needs_grad(x) or needs_grad(src))
    if here and grad:
        return assign(op, x, changed(f, op, shadow_for(op, x), index, src, kept, False))
    if here:
        out = x
        write(f, x)
    else:
        out = adopt(f, converted(x, x.a.dtype))
    read(f, index)
    read(f, src)
    if index.a.numel:
        run(f, op.name)
    if grad:
        inputs[0], inputs[1], inputs[2] = <PyObject *> x, <PyObject *> index, <PyObject *> src
        record(op, inputs, 3, out, kept)
    return out


# gather

cdef object _gather_vjp(Node n, object g):
    return scatter_zeros(n.params[1], n.params[0], saved_input(n, 1), <TensorBase> g), None


def _gather(input, dim, index, *, sparse_grad=False):
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on: the elements at `index` along one dimension.

    Parameters
    ----------
    input : Tensor
    dim : int
    index : Tensor
        int64 or int32, with as many dimensions as the input and, apart from `dim`, no larger.

    Raises
    ------
    RuntimeError, IndexError
        When the shapes do not fit, or an index is out of range.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.gather(fx.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, fx.tensor([[0, 0], [1, 0]]))
    tensor([[1., 1.],
            [4., 3.]])
    """
    cdef TensorBase x = <TensorBase?> input, at = _places("gather", index)
    cdef int d = read_dim(dim, x.a.ndim)
    _check_index(x, d, at, None)
    return gather_dim(x, d, at)

cdef Op GATHER = row("gather", function=_gather, out=True, rule=rule(_gather_vjp), needs=("1", ""), method=True,
                     family="indexing",
                     reference="np.take_along_axis(input, index, dim)",
                     sample="[(t(3, 4), 1, i(3, 2, low=0, high=4)), (t(3, 4), 0, i(5, 4, low=0, high=3))]")


cdef TensorBase gather_dim(TensorBase x, int dim, TensorBase index):
    cdef frame f
    cdef TensorBase out
    begin(&f, GATHER.kernel, x.a.dtype)
    out = make(&f, index.a.ndim, shape_of(index), x.a.dtype, x)
    read(&f, x)
    read(&f, index)
    whole(&f, dim)
    if out.a.numel:
        run(&f, "gather")
    if f.wants_grad:
        record_frame(GATHER, &f, out, (dim, shape_tuple(&x.a)))
    return out


def _take_along_dim(input, indices, dim=None):
    """The elements at `indices` along `dim` (of the flattened input by default); other dimensions are broadcast."""
    cdef TensorBase x = <TensorBase?> input, at = whole_numbers("take_along_dim", indices)
    cdef int d, k
    if dim is None:
        return gather_dim(reshape(x, (x.a.numel,)), 0, reshape(at, (at.a.numel,)))
    if x.a.ndim != at.a.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, "
                           f"but got {x.a.ndim} dimensions for input, and {at.a.ndim} dimensions for indices")
    d = read_dim(dim, x.a.ndim)
    shape, own = list(shape_tuple(&at.a)), list(shape_tuple(&x.a))
    for k in range(x.a.ndim):
        if k != d and shape[k] != own[k]:
            shape[k] = own[k] = max(shape[k], own[k]) if shape[k] and own[k] else 0
    # Unlike those of gather, negative indices count from the end.
    at = registry["add"](at, mul(registry["lt"](at, 0), own[d]))
    return gather_dim(expand(x, own), d, expand(at, shape))

row("take_along_dim", function=_take_along_dim, out=True, composite=True, method=True, family="indexing",
    reference="np.take_along_axis(input, indices, dim)", sample="[(t(3, 4), i(3, 2, low=0, high=4), 1)]")


def _take(input, index):
    """The elements at flat positions `index`, in the shape of `index`; negative ones count from the end."""
    cdef TensorBase x = <TensorBase?> input, at = whole_numbers("take", index)
    if x.a.numel == 0 and at.a.numel:
        raise IndexError("take(): tried to take from an empty tensor")
    flat = get_item(reshape(x, (-1,)), reshape(at, (-1,)))
    return reshape(flat, shape_tuple(&at.a))

row("take", function=_take, out=True, composite=True, method=True, reference="np.take(input, index)", family="indexing",
    sample="t(3, 4), i(2, 5, low=0, high=12)")


# scatter, scatter_add

cdef TensorBase _source(str name, TensorBase x, TensorBase index, object src):
    """src as a tensor of the index's shape."""
    cdef TensorBase s
    cdef int d
    if is_number(src):
        return expand(number_like(src, x.a.dtype, x), shape_tuple(&index.a))
    s = as_operand(src, name)
    if s.a.ndim == 0 and index.a.ndim:
        s = reshape(s, (1,))
    if index.a.numel == 0:
        return reshape(narrow_dim(reshape(s, (s.a.numel,)), 0, 0, 0), shape_tuple(&index.a))
    for d in range(min(s.a.ndim, index.a.ndim)):
        if s.a.ndim == index.a.ndim and shape_of(s)[d] > shape_of(index)[d]:
            s = narrow_dim(s, d, 0, shape_of(index)[d])
    return s


cdef object _scatter_any(Op op, object input, object dim, object index, object src, bint here):
    cdef TensorBase x = <TensorBase?> input, at = _places(op.name, index), s
    cdef frame f
    cdef int d = read_dim(dim, x.a.ndim)
    s = _source(op.name, x, at, src)
    _check_dtypes(op.name, x, s)
    _check_index(x, d, at, s)
    begin(&f, op.kernel, x.a.dtype)
    whole(&f, d)
    return changed(&f, op, x, at, s, d, here)


cdef TensorBase last_written(tuple shape, int dim, TensorBase index):
    """Whether each position of an index is the last that points to its place: the one that a scatter writes, on every
    device."""
    cdef TensorBase order = reshape(counting(index.a.numel, index), shape_tuple(&index.a)), last
    cdef frame f
    begin(&f, SCATTER.kernel, FX_I64)
    whole(&f, dim)
    last = make_shaped(&f, shape, FX_I64, index)
    read(&f, index)
    read(&f, order)
    if index.a.numel:
        run(&f, "scatter")
    return registry["eq"](gather_dim(last, dim, index), order)


cdef object _scatter_vjp(Node n, object g):
    cdef TensorBase index = saved_input(n, 1), grad = <TensorBase> g
    cdef object gx = None, gs = None
    if wants(n, 0):
        gx = _scatter_any(SCATTER, grad, n.params, index, expand(zeros((), grad.a.dtype, grad), shape_tuple(&index.a)),
                          False)
    if wants(n, 2):
        gs = gather_dim(grad, n.params, index)
        if index.a.numel > 1:
            gs = mul(gs, last_written(shape_tuple(&grad.a), n.params, index))
    return gx, None, gs


def _written(input, dim, index, src, value, reduce, here):
    given = value if src is None else src
    if given is None:
        raise TypeError("scatter() missing argument 'src' or 'value'")
    if reduce is None:
        return _scatter_any(SCATTER, input, dim, index, given, here)
    if reduce == "add":
        return _scatter_any(SCATTER_ADD, input, dim, index, given, here)
    if reduce == "multiply":
        return _reduced_any(input, dim, index, given, "prod", True, here)
    raise RuntimeError("reduce argument must be either add or multiply.")


def _scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of the input with out[index[i][j]][j] = src[i][j] for dim 0, and so on.

    Parameters
    ----------
    input : Tensor
    dim : int
    index : Tensor
        int64 or int32, with as many dimensions as the input; apart from `dim` no larger, and no larger than `src`.
    src : Tensor or number
        What is written.  A number may also be given as `value`.  Where indices repeat, the last value is written, and
        only it receives a gradient.
    reduce : {"add", "multiply"}, optional
        Combine with what is there instead.

    Raises
    ------
    RuntimeError, IndexError
        When shapes or dtypes do not fit, or an index is out of range.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.scatter(fx.zeros(4), 0, fx.tensor([2, 0]), fx.tensor([5.0, 6.0]))
    tensor([6., 0., 5., 0.])
    """
    return _written(input, dim, index, src, value, reduce, False)


def _scatter_(input, dim, index, src=None, *, value=None, reduce=None):
    """In-place version of `scatter`."""
    return _written(input, dim, index, src, value, reduce, True)

cdef Op SCATTER = row("scatter", function=_scatter, rule=rule(_scatter_vjp), needs=("1", "", "1"), method=True,
                      out=True, inplace=_scatter_, family="indexing",
                      reference="(lambda y: (np.put_along_axis(y, index, src, dim), y)[1])(input.copy())",
                      sample="[(t(3, 4), 1, np.array([[1, 0], [2, 3], [0, 3]]), t(3, 2))]")


cdef object _scatter_add_vjp(Node n, object g):
    return g, None, gather_dim(<TensorBase> g, n.params, saved_input(n, 1)) if wants(n, 2) else None


def _scatter_add(input, dim, index, src):
    """A copy of the input with src[i][j] added to out[index[i][j]][j] for dim 0, and so on.

    Arguments and errors as for `scatter`.  Terms are added in the order of the index, whatever the number of threads.
    """
    return _scatter_any(SCATTER_ADD, input, dim, index, src, False)


def _scatter_add_(input, dim, index, src):
    """In-place version of `scatter_add`."""
    return _scatter_any(SCATTER_ADD, input, dim, index, src, True)

cdef Op SCATTER_ADD = row("scatter_add", function=_scatter_add, rule=rule(_scatter_add_vjp), needs=("", "", "1"),
                          out=True, method=True,
                          inplace=_scatter_add_, family="indexing",
                          reference="(lambda y: (np.add.at(y, (index, np.arange(index.shape[1])[None, :]), src), y)[1])"
                                    "(input.copy())",
                          sample="t(3, 4), 0, i(5, 4, low=0, high=3), t(5, 4)")


cdef TensorBase scatter_add_dim(TensorBase x, int dim, TensorBase index, TensorBase src):
    cdef frame f
    begin(&f, SCATTER_ADD.kernel, x.a.dtype)
    whole(&f, dim)
    return changed(&f, SCATTER_ADD, x, index, src, dim, False)


cdef TensorBase scatter_zeros(tuple shape, int dim, TensorBase index, TensorBase src):
    """src added into zeros: the gradient of whatever picks elements along a dimension."""
    cdef TensorBase out = zeros(shape, src.a.dtype, src)
    cdef frame f
    if index.a.numel == 0:
        return out
    begin(&f, SCATTER_ADD.kernel, src.a.dtype)
    whole(&f, dim)
    added_to_zeros(&f, SCATTER_ADD, out, index, src, dim)
    return out


cdef int added_to_zeros(frame *f, Op op, TensorBase out, TensorBase index, TensorBase src, object kept) except -1:
    """Add src through index into `out`, fresh zeros; recorded as a change of zeros without dimensions."""
    cdef PyObject *inputs[3]
    cdef TensorBase nothing
    adopt(f, out)
    read(f, index)
    read(f, src)
    if index.a.numel and out.a.numel:
        run(f, op.name)
    if grad_enabled() and needs_grad(src):
        nothing = zeros((), src.a.dtype, src)
        inputs[0], inputs[1], inputs[2] = <PyObject *> nothing, <PyObject *> index, <PyObject *> src
        record(op, inputs, 3, out, kept)
    return 0


# scatter_reduce

cdef dict MODES = {"sum": 0, "prod": 1, "mean": 2, "amax": 3, "amin": 4}


cdef object _reduced_any(object input, object dim, object index, object src, str mode, bint include_self, bint here):
    cdef TensorBase x = <TensorBase?> input, at = _places("scatter_reduce", index), s
    cdef frame f
    cdef int d = read_dim(dim, x.a.ndim)
    if mode not in MODES:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {mode}")
    s = _source("scatter_reduce", x, at, src)
    _check_dtypes("scatter_reduce", x, s)
    _check_index(x, d, at, s)
    begin(&f, SCATTER_REDUCE.kernel, x.a.dtype)
    whole(&f, d)
    whole(&f, MODES[mode])
    whole(&f, include_self)
    return changed(&f, SCATTER_REDUCE, x, at, s, (d, mode, include_self), here)


cdef object unless(object mask, object x):
    """x with zeros where mask is true."""
    return registry["where"](mask, zeros((), (<TensorBase> x).a.dtype, <TensorBase> x), x)


cdef object _ones_if(object mask, object x):
    return registry["where"](mask, number_like(1, (<TensorBase> x).a.dtype, <TensorBase> x), x)


cdef tuple _product_gradients(TensorBase x, TensorBase index, TensorBase src, TensorBase out, TensorBase g, int dim,
                              bint include_self):
    """g times the product of the others: by division, but for a single zero, whose others are multiplied anew."""
    eq = registry["eq"]
    x_zero, src_zero = eq(x, 0), eq(src, 0)
    ones = _ones_if(x_zero, x)
    gx = div(mul(g, _reduced_any(ones, dim, index, src, "prod", include_self, False)), ones)
    zeros_met = scatter_zeros(shape_tuple(&x.a), dim, index, to_dtype(<TensorBase> src_zero, FX_I64))
    if include_self:
        zeros_met = zeros_met + to_dtype(<TensorBase> x_zero, FX_I64)
    # Another zero among the operands: the product of the others is zero.
    met = gather_dim(zeros_met, dim, index)
    if grad_enabled() and bool(registry["any"](registry["gt"](met, 1))):
        raise NotImplementedError("[scatter_reduce] the second derivative of a product with more than one zero is not "
                                  "implemented")
    single = registry["logical_and"](src_zero, eq(met, 1))
    others = _reduced_any(x, dim, index, _ones_if(single, src), "prod", include_self, False)
    gs = registry["where"](single, gather_dim(mul(g, others), dim, index),
                           div(gather_dim(mul(g, out), dim, index), _ones_if(src_zero, src)))
    return gx, gs


cdef object _scatter_reduce_vjp(Node n, object g_):
    cdef TensorBase x = saved_input(n, 0), index = saved_input(n, 1), src = saved_input(n, 2), out = saved_output(n, 0)
    cdef TensorBase g = <TensorBase> g_, share
    cdef int dim = n.params[0]
    mode, include_self = n.params[1], n.params[2]
    eq = registry["eq"]
    if mode == "sum":
        gx, gs = g, gather_dim(g, dim, index)
    elif mode == "prod":
        gx, gs = _product_gradients(x, index, src, out, g, dim, include_self)
    elif mode == "mean":
        count = scatter_zeros(shape_tuple(&x.a), dim, index,
                              expand(number_like(1, FX_I64, x), shape_tuple(&index.a)))
        if include_self:
            count = count + 1
        share = div(g, _ones_if(eq(count, 0), count))
        gx, gs = share, gather_dim(share, dim, index)
    else:
        best_x, best_src = eq(x, out), eq(src, gather_dim(out, dim, index))
        count = scatter_zeros(shape_tuple(&x.a), dim, index, to_dtype(<TensorBase> best_src, FX_I64))
        if include_self:
            count = count + to_dtype(<TensorBase> best_x, FX_I64)
        share = div(g, _ones_if(eq(count, 0), count))
        gx, gs = mul(share, best_x), mul(gather_dim(share, dim, index), best_src)
        if not include_self:
            # Where no index points, the element stays as it was.
            gx = mul(g, best_x)
    if not include_self:
        gx = _scatter_any(SCATTER, gx, dim, index, 0.0, False)
    return gx, None, gs


def _scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """A copy of the input whose elements are combined with those of `src` that `index` sends to them.

    Parameters
    ----------
    input, dim, index, src
        As for `scatter`.
    reduce : {"sum", "prod", "mean", "amax", "amin"}
    include_self : bool
        Whether the input's own elements take part.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.scatter_reduce(fx.zeros(2), 0, fx.tensor([0, 1, 1]), fx.tensor([1.0, 2.0, 3.0]), "amax")
    tensor([1., 3.])
    """
    return _reduced_any(input, dim, index, src, reduce, include_self, False)


def _scatter_reduce_(input, dim, index, src, reduce, *, include_self=True):
    """In-place version of `scatter_reduce`."""
    return _reduced_any(input, dim, index, src, reduce, include_self, True)

cdef Op SCATTER_REDUCE = row("scatter_reduce", function=_scatter_reduce, out=True, rule=rule(_scatter_reduce_vjp),
                             needs=("012o",),
                             method=True, inplace=_scatter_reduce_, family="indexing",
                             reference="(lambda y: ({'sum': np.add, 'prod': np.multiply, "
                                       "'amax': np.maximum}[reduce].at(y, "
                                       "(index, np.arange(4)[None, :]), src), y)[1])(input.copy())",
                             sample="[(t(3, 4), 0, i(5, 4, low=0, high=3), t(5, 4), 'sum'), "
                                    "(t(3, 4), 0, i(5, 4, low=0, high=3), t(5, 4), 'prod'), "
                                    "(t(3, 4), 0, i(5, 4, low=0, high=3), t(5, 4), 'amax')]")
