"""Matrix products.

`matmul` is the one recorded product; mm, bmm, mv and dot are it under stricter checks.  `linear` and `addmm` are
kernels of their own, for the fused bias.  tensordot permutes, reshapes and multiplies; einsum (einsum.pyx) too.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_MAX_DIMS
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, record, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, operators, row
from ferrox._core.ops.arithmetic cimport add, mul
from ferrox._core.ops.elementwise cimport as_operand
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport expand, permute, read_dim, reshape, to_dtype, transpose
from ferrox._core.tensor.base cimport TensorBase, needs_grad, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make, number, read, run, whole


cdef int _check_pair(str name, TensorBase a, TensorBase b) except -1:
    if a.a.dtype != b.a.dtype:
        raise RuntimeError(f"[{name}] expected both operands to have the same dtype, but got: {dtype_name(a.a.dtype)} "
                           f"!= {dtype_name(b.a.dtype)}")
    if a.a.dtype == FX_BOOL:
        raise RuntimeError(f"[{name}] not defined for bool; convert first")
    if a.a.device_type != b.a.device_type or a.a.device_index != b.a.device_index:
        raise RuntimeError(f"[{name}] Expected all tensors to be on the same device, but found at least two devices, "
                           f"{a.device} and {b.device}!")
    return 0


# matmul

cdef object _matmul_vjp(Node n, object g):
    """For operands of two or more dimensions; the engine sums over broadcast batch dimensions."""
    return (matmul(g, _swap(saved_input(n, 1))) if wants(n, 0) else None,
            matmul(_swap(saved_input(n, 0)), g) if wants(n, 1) else None)


cdef TensorBase _swap(object x):
    cdef TensorBase t = <TensorBase> x
    return transpose(t, t.a.ndim - 2, t.a.ndim - 1)


def _matmul(input, other):
    """Matrix product of the last two dimensions; leading ones are broadcast.

    A vector on the left counts as one row, on the right as one column, and that dimension is dropped from the result.

    Parameters
    ----------
    input : Tensor, shape (..., M, K) or (K,)
    other : Tensor, shape (..., K, N) or (K,)

    Raises
    ------
    RuntimeError
        When the inner sizes differ, the dtypes differ, or an operand is 0-d.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.ones(2, 3) @ fx.ones(3)
    tensor([3., 3.])
    """
    return matmul(input, other)

cdef Op MATMUL = row("matmul", function=_matmul, out=True, rule=rule(_matmul_vjp), needs=("1", "0"), method=True,
                     reference="np.matmul(input, other)",
                     sample="[(t(3, 4), t(4, 2)), (t(2, 1, 3, 4), t(5, 4, 2)), (t(4), t(4, 2)), (t(3, 4), t(4)), "
                            "(t(4), t(4))]")


cdef TensorBase matmul(object left, object right):
    cdef TensorBase a = as_operand(left, "matmul"), b = as_operand(right, "matmul"), out
    cdef TensorBase wide_a = a, wide_b = b
    cdef frame f
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim, d, da, db, na, nb
    cdef int64_t sa, sb
    _check_pair("matmul", a, b)
    na = a.a.ndim
    nb = b.a.ndim
    if na == 0 or nb == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {na}D and {nb}D")
    if shape_of(a)[na - 1] != shape_of(b)[nb - 2 if nb > 1 else 0]:
        raise RuntimeError(f"[matmul] inner sizes differ: a is {shape_tuple(&a.a)}, b is {shape_tuple(&b.a)} "
                           "(mat1 and mat2 shapes cannot be multiplied)")
    if na == 1 or nb == 1:
        return _vector(a, b)
    ndim = max(na, nb)
    for d in range(ndim - 2):
        da = d - (ndim - na)
        db = d - (ndim - nb)
        sa = shape_of(a)[da] if da >= 0 else 1
        sb = shape_of(b)[db] if db >= 0 else 1
        if sa != sb and sa != 1 and sb != 1:
            raise RuntimeError(f"[matmul] The size of tensor a ({sa}) must match the size of tensor b ({sb}) at "
                               f"non-singleton dimension {d}: a is {shape_tuple(&a.a)}, b is {shape_tuple(&b.a)}")
        shape[d] = sb if sa == 1 else sa
    shape[ndim - 2] = shape_of(a)[na - 2]
    shape[ndim - 1] = shape_of(b)[nb - 1]
    if ndim > 2:
        batch = [shape[d] for d in range(ndim - 2)]
        wide_a = _batched(a, batch)
        wide_b = _batched(b, batch)
    begin(&f, MATMUL.kernel, a.a.dtype)
    out = make(&f, ndim, shape, a.a.dtype, a)
    read(&f, wide_a)
    read(&f, wide_b)
    run(&f, "matmul")
    if needs_grad(a) or needs_grad(b):
        f.inputs[0], f.inputs[1] = <PyObject *> a, <PyObject *> b       # as they were before they were expanded
        record(MATMUL, f.inputs, 2, out, None)
    return out


cdef TensorBase _batched(TensorBase x, list batch):
    """x with its leading dimensions expanded to `batch`, unrecorded."""
    from ferrox._core.graph.node import _set_grad_enabled

    shape = batch + list(shape_tuple(&x.a))[x.a.ndim - 2:]
    if shape_tuple(&x.a) == tuple(shape):
        return x
    before = _set_grad_enabled(False)
    try:
        return expand(x, shape)
    finally:
        _set_grad_enabled(before)


cdef TensorBase _vector(TensorBase a, TensorBase b):
    """A product with a vector: as a matrix of one row or one column, which is dropped again."""
    cdef int na = a.a.ndim, nb = b.a.ndim
    cdef TensorBase out
    if na == 1:
        a = reshape(a, (1, -1) if a.a.numel else (1, 0))
    if nb == 1:
        b = reshape(b, (-1, 1) if b.a.numel else (0, 1))
    out = matmul(a, b)
    shape = list(shape_tuple(&out.a))
    if nb == 1:
        shape.pop()
    if na == 1:
        del shape[len(shape) - (1 if nb == 1 else 2)]
    return reshape(out, shape)


cdef int _check_dims(str name, object x, int ndim, str role) except -1:
    if not isinstance(x, TensorBase):
        raise TypeError(f"{name}(): argument '{role}' must be Tensor, not {type(x).__name__}")
    if (<TensorBase> x).a.ndim != ndim:
        raise RuntimeError(f"[{name}] {role} must be a {ndim}-D tensor, got shape {shape_tuple(&(<TensorBase> x).a)}")
    return 0


def _mm(input, mat2):
    """Product of two matrices."""
    _check_dims("mm", input, 2, "self")
    _check_dims("mm", mat2, 2, "mat2")
    return _matmul(input, mat2)

row("mm", function=_mm, out=True, composite=True, method=True, reference="input @ mat2", sample="t(3, 4), t(4, 2)")


def _bmm(input, mat2):
    """Products of two batches of matrices, (B, M, K) and (B, K, N)."""
    _check_dims("bmm", input, 3, "batch1")
    _check_dims("bmm", mat2, 3, "batch2")
    if shape_of(<TensorBase> input)[0] != shape_of(<TensorBase> mat2)[0]:
        raise RuntimeError(f"[bmm] Expected the same batch size, got {input.shape} and {mat2.shape}")
    return _matmul(input, mat2)

row("bmm", function=_bmm, composite=True, method=True,
    out=True, reference="input @ mat2", sample="t(2, 3, 4), t(2, 4, 2)")


def _mv(input, vec):
    """Product of a matrix and a vector."""
    _check_dims("mv", input, 2, "self")
    _check_dims("mv", vec, 1, "vec")
    return _matmul(input, vec)

row("mv", function=_mv, out=True, composite=True, method=True, reference="input @ vec", sample="t(3, 4), t(4)")


def _dot(input, tensor):
    """Inner product of two vectors."""
    _check_dims("dot", input, 1, "self")
    _check_dims("dot", tensor, 1, "tensor")
    if (<TensorBase> input).a.numel != (<TensorBase> tensor).a.numel:
        raise RuntimeError(f"inconsistent tensor size, expected tensor {input.shape} and src {tensor.shape} to have "
                           "the same number of elements")
    return _matmul(input, tensor)

row("dot", function=_dot, out=True, composite=True, method=True, reference="np.dot(input, tensor)", sample="t(4), t(4)")


def _vdot(input, other):
    """Inner product of two vectors; the same as `dot` for real numbers."""
    return _dot(input, other)

row("vdot", function=_vdot, out=True, composite=True, method=True, reference="np.vdot(input, other)",
    sample="t(4), t(4)")


def _outer(input, vec2):
    """All products of the elements of two vectors, a matrix."""
    _check_dims("outer", input, 1, "self")
    _check_dims("outer", vec2, 1, "vec2")
    return mul(reshape(<TensorBase> input, (-1, 1) if (<TensorBase> input).a.numel else (0, 1)), vec2)

row("outer", function=_outer, composite=True, method=True,
    out=True, reference="np.outer(input, vec2)", sample="t(3), t(4)")
alias_row("ger", "outer")


def _inner(input, other):
    """Sums of products over the last dimension of both."""
    cdef TensorBase a = as_operand(input, "inner"), b = as_operand(other, "inner")
    if a.a.ndim == 0 or b.a.ndim == 0:
        return mul(a, b)
    return _tensordot(a, b, ([a.a.ndim - 1], [b.a.ndim - 1]))

row("inner", function=_inner, out=True, composite=True, method=True, reference="np.inner(input, other)",
    sample="t(2, 3, 4), t(5, 4)")


# products with a matrix added

cdef object _scaled(object x, object factor):
    return x if factor == 1 else mul(x, factor)


cdef object addmm_vjp(Node n, object g):
    beta, alpha = n.params
    return (_scaled(g, beta) if wants(n, 0) else None,
            _scaled(matmul(g, _swap(saved_input(n, 2))), alpha) if wants(n, 1) else None,
            _scaled(matmul(_swap(saved_input(n, 1)), g), alpha) if wants(n, 2) else None)


cdef TensorBase product_added(Op op, str name, object input, object mat1, object mat2, object beta, object alpha,
                              int activation):
    """f(beta * input + alpha * (mat1 @ mat2)), recorded as `op`; f is an activation of fx/gemm_args.h, 0 for none."""
    cdef TensorBase c = as_operand(input, name), a, b, made, wide
    cdef frame f
    cdef int64_t shape[2]
    _check_dims(name, mat1, 2, "mat1")
    _check_dims(name, mat2, 2, "mat2")
    a, b = <TensorBase> mat1, <TensorBase> mat2
    _check_pair(name, a, b)
    _check_pair(name, c, a)
    if shape_of(a)[1] != shape_of(b)[0]:
        raise RuntimeError(f"[{name}] mat1 and mat2 shapes cannot be multiplied: mat1 is {shape_tuple(&a.a)}, "
                           f"mat2 is {shape_tuple(&b.a)}")
    shape[0] = shape_of(a)[0]
    shape[1] = shape_of(b)[1]
    wide = operators()["expand"](c.detach(), (shape[0], shape[1]))
    begin(&f, op.kernel, a.a.dtype)
    made = make(&f, 2, shape, a.a.dtype, a)
    read(&f, wide)
    read(&f, a)
    read(&f, b)
    _factor(&f, "beta", beta)
    _factor(&f, "alpha", alpha)
    if activation:
        whole(&f, activation)
    run(&f, name)
    if f.wants_grad or needs_grad(c):
        f.inputs[0] = <PyObject *> c    # as it was before it was expanded
        record(op, f.inputs, 3, made, (beta, alpha))
    return made


cdef int _factor(frame *f, str argument, object value) except -1:
    """A factor; that of a whole product is whole, cut off as PyTorch does."""
    return number(f, int(value) if isinstance(value, float) and categories[f.call.dtype] != FLOATING else value)


def _addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta * input + alpha * (mat1 @ mat2); input is broadcast."""
    return product_added(ADDMM, "addmm", input, mat1, mat2, beta, alpha, 0)

cdef Op ADDMM = row("addmm", function=_addmm, rule=rule(addmm_vjp), needs=("", "2", "1"), method=True, inplace=True,
                    out=True, reference="beta * input + alpha * (mat1 @ mat2)",
                    sample="[(t(3, 2), t(3, 4), t(4, 2)), call(t(2), t(3, 4), t(4, 2), beta=0.5, alpha=2.0)]")


cdef TensorBase _product_added(str name, object product, object input, object a, object b, object beta, object alpha):
    """beta * input + alpha * product(a, b); the factors of integers are cut off to integers, as addmm's."""
    cdef TensorBase c = as_operand(input, name), made = product(a, b)
    _check_pair(name, c, made)
    if categories[c.a.dtype] != FLOATING:
        beta, alpha = int(beta), int(alpha)
    return add(_scaled(c, beta), _scaled(made, alpha))


def _addmv(input, mat, vec, *, beta=1, alpha=1):
    """beta * input + alpha * (mat @ vec)."""
    return _product_added("addmv", _mv, input, mat, vec, beta, alpha)

row("addmv", function=_addmv, out=True, composite=True, method=True, inplace=True,
    reference="beta * input + alpha * (mat @ vec)", sample="t(3), t(3, 4), t(4)")


def _baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * (batch1 @ batch2), for batches of matrices."""
    return _product_added("baddbmm", _bmm, input, batch1, batch2, beta, alpha)

row("baddbmm", function=_baddbmm, out=True, composite=True, method=True, inplace=True,
    reference="beta * input + alpha * (batch1 @ batch2)", sample="t(2, 3, 2), t(2, 3, 4), t(2, 4, 2)")


# linear

cdef TensorBase _rows(TensorBase x):
    """x as a matrix: its leading dimensions as one."""
    if x.a.ndim == 2:
        return x
    cdef int64_t width = shape_of(x)[x.a.ndim - 1], count = 1
    cdef int d
    for d in range(x.a.ndim - 1):
        count *= shape_of(x)[d]
    return reshape(x, (count, width))


cdef object _linear_vjp(Node n, object g):
    cdef TensorBase cotangent = <TensorBase> g, x, flat
    cdef object gx = None, gw = None, gb = None
    if wants(n, 0):
        gx = matmul(cotangent, saved_input(n, 1))
    flat = _rows(cotangent) if cotangent.a.ndim > 1 else reshape(cotangent, (1, -1))
    if wants(n, 1):
        x = <TensorBase> saved_input(n, 0)
        gw = matmul(transpose(flat, 0, 1), _rows(x) if x.a.ndim > 1 else reshape(x, (1, -1)))
    if n.n_in == 3 and wants(n, 2):
        gb = sum_dims(flat, [0], False)
    return (gx, gw, gb) if n.n_in == 3 else (gx, gw)


def _linear(input, weight, bias=None):
    """input @ weight.T + bias.

    Parameters
    ----------
    input : Tensor, shape (..., K)
    weight : Tensor, shape (N, K) or (K,)
    bias : Tensor, shape (N,) or (), optional

    Returns
    -------
    Tensor, shape (..., N)

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.linear(fx.ones(2, 3), fx.ones(1, 3), fx.ones(1))
    tensor([[4.],
            [4.]])
    """
    if not isinstance(input, TensorBase) or not isinstance(weight, TensorBase):
        raise TypeError(f"linear(): arguments 'input' and 'weight' must be Tensor, not {type(input).__name__} and "
                        f"{type(weight).__name__}")
    if (<TensorBase> weight).a.ndim == 1:
        made = matmul(input, weight)
        return made if bias is None else add(made, bias)
    return linear(<TensorBase> input, <TensorBase> weight, bias)

cdef Op LINEAR = row("linear", function=_linear, rule=rule(_linear_vjp), needs=("1", "0", ""), public="nn",
                     reference="input @ weight.T + bias",
                     sample="[(t(3, 4), t(2, 4), t(2)), (t(2, 3, 4), t(2, 4), t(2))]")


cdef TensorBase linear(TensorBase x, TensorBase weight, object bias):
    cdef TensorBase out, b = None
    cdef frame f
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int d
    _check_pair("linear", x, weight)
    if weight.a.ndim != 2 or x.a.ndim == 0 or shape_of(x)[x.a.ndim - 1] != shape_of(weight)[1]:
        raise RuntimeError(f"[linear] inner sizes differ: input is {shape_tuple(&x.a)}, weight is "
                           f"{shape_tuple(&weight.a)} (mat1 and mat2 shapes cannot be multiplied)")
    for d in range(x.a.ndim - 1):
        shape[d] = shape_of(x)[d]
    shape[x.a.ndim - 1] = shape_of(weight)[0]
    if bias is not None:
        b = <TensorBase?> bias
        _check_pair("linear", x, b)
        if b.a.ndim == 0 or b.a.ndim == 1 and shape_of(b)[0] == 1 and shape[x.a.ndim - 1] != 1:
            return add(linear(x, weight, None), b)
        if b.a.ndim != 1 or shape_of(b)[0] != shape[x.a.ndim - 1]:
            raise RuntimeError(f"[linear] bias must have shape ({shape[x.a.ndim - 1]},), got {shape_tuple(&b.a)}")
    begin(&f, LINEAR.kernel, x.a.dtype)
    out = make(&f, x.a.ndim, shape, x.a.dtype, x)
    read(&f, x)
    read(&f, weight)
    read(&f, b)
    run(&f, "linear")
    if f.wants_grad:
        record(LINEAR, f.inputs, 2 if b is None else 3, out, None)
    return out


# tensordot

def _tensordot(a, b, dims=2):
    """Sums of products over chosen dimensions of two tensors.

    Parameters
    ----------
    dims : int or pair of sequences of int
        The number of last dimensions of `a` and first of `b` to sum over, or the dimensions of each.
    """
    cdef TensorBase x = as_operand(a, "tensordot"), y = as_operand(b, "tensordot")
    cdef int64_t inner = 1
    if isinstance(dims, TensorBase):
        dims = dims.tolist()
    if hasattr(dims, "__index__"):
        count = int(dims)
        if count < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={count}")
        if count > min(x.a.ndim, y.a.ndim):
            raise RuntimeError(f"[tensordot] dims={count} exceeds the dimensions of {shape_tuple(&x.a)} or "
                               f"{shape_tuple(&y.a)}")
        dims_x, dims_y = list(range(x.a.ndim - count, x.a.ndim)), list(range(count))
    else:
        dims_x, dims_y = [[read_dim(d, t.ndim) for d in (each if isinstance(each, (list, tuple)) else [each])]
                          for each, t in zip(dims, (x, y))]
    if len(dims_x) != len(dims_y):
        raise RuntimeError("both dimension lists should have same length")
    for dx, dy in zip(dims_x, dims_y):
        if x.size(dx) != y.size(dy) and x.size(dx) == 1:
            y = to_dtype(sum_dims(y, [dy], True), y.a.dtype)
        elif x.size(dx) != y.size(dy) and y.size(dy) == 1:
            x = to_dtype(sum_dims(x, [dx], True), x.a.dtype)
        if x.size(dx) != y.size(dy):
            raise RuntimeError(f"contracted dimensions need to match, but first has size {x.size(dx)} in dim {dx} and "
                               f"second has size {y.size(dy)} in dim {dy}")
        inner *= x.size(dx)
    free_x = [d for d in range(x.a.ndim) if d not in dims_x]
    free_y = [d for d in range(y.a.ndim) if d not in dims_y]
    shape = [x.size(d) for d in free_x] + [y.size(d) for d in free_y]
    rows, columns = 1, 1
    for d in free_x:
        rows *= x.size(d)
    for d in free_y:
        columns *= y.size(d)
    made = reshape(matmul(reshape(permute(x, free_x + dims_x), (rows, inner)),
                          reshape(permute(y, dims_y + free_y), (inner, columns))), shape)
    return made

row("tensordot", function=_tensordot, out=True, composite=True, reference="np.tensordot(a, b, dims)",
    sample="[(t(2, 3, 4), t(3, 4, 5)), (t(2, 3, 4), t(4, 3), ([1, 2], [1, 0]))]")
