"""Comparisons, tests, logic, bits, and choosing between values."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_F64, FX_MAX_DIMS, FX_U8
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, record, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, operators, row
from ferrox._core.ops.arithmetic cimport absolute, add, mul, sub
from ferrox._core.ops.elementwise cimport SAME, TEST, apply1, apply2, as_operand, broadcast_more, \
    in_place_operators, is_number, promoted
from ferrox._core.ops.family cimport binary, unary
from ferrox._core.ops.shape cimport to_dtype
from ferrox._core.tensor.base cimport TensorBase, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make, read, read_number, real, run, whole

cdef int _all = kernel_id("all")


# Comparisons

cdef Op _comparison(str name, str sign, str words):
    return binary(name, TEST, None, "", f"a {sign} b", "t(3, 4), t(4)",
                  f"Whether `input` is {words} `other`, element by element.")

cdef Op EQ = _comparison("eq", "==", "equal to")
cdef Op NE = _comparison("ne", "!=", "different from")
cdef Op LT = _comparison("lt", "<", "less than")
cdef Op LE = _comparison("le", "<=", "less than or equal to")
cdef Op GT = _comparison("gt", ">", "greater than")
cdef Op GE = _comparison("ge", ">=", "greater than or equal to")

for _name, _of in (("not_equal", "ne"), ("less", "lt"), ("less_equal", "le"), ("greater", "gt"),
                   ("greater_equal", "ge")):
    alias_row(_name, _of)


# Tests of one value

cdef Op _test(str name, str reference, str doc):
    cdef Op op = unary(name, TEST, None, "", reference, "t(3, 4)", doc)
    op.row["inplace"] = False
    return op

cdef Op ISNAN = _test("isnan", "np.isnan(x)", "Whether each element is not a number.")
cdef Op ISINF = _test("isinf", "np.isinf(x)", "Whether each element is infinite.")
cdef Op ISFINITE = _test("isfinite", "np.isfinite(x)", "Whether each element is finite.")
_test("isposinf", "np.isposinf(x)", "Whether each element is positive infinity.")
_test("isneginf", "np.isneginf(x)", "Whether each element is negative infinity.")
_test("signbit", "np.signbit(x)", "Whether each element has its sign set; true for -0.")


# Logic and bits

binary("logical_and", TEST, None, "", "np.logical_and(a, b)", "b(3, 4), b(4)",
       "Whether both elements are true, that is not zero.")
cdef Op LOGICAL_OR = binary("logical_or", TEST, None, "", "np.logical_or(a, b)", "b(3, 4), b(4)",
                            "Whether one element or both are true.")
binary("logical_xor", TEST, None, "", "np.logical_xor(a, b)", "b(3, 4), b(4)", "Whether just one element is true.")
unary("logical_not", TEST, None, "", "np.logical_not(x)", "b(3, 4)", "Whether each element is false, that is zero.")
cdef Op LOGICAL_AND = operators()["logical_and"]
cdef Op BITWISE_AND = binary("bitwise_and", SAME, None, "", "a & b", "i(3, 4), i(4)", "Bits set in both integers.")
binary("bitwise_or", SAME, None, "", "a | b", "i(3, 4), i(4)", "Bits set in one integer or both.")
binary("bitwise_xor", SAME, None, "", "a ^ b", "i(3, 4), i(4)", "Bits set in just one of two integers.")
unary("bitwise_not", SAME, None, "", "~x", "i(3, 4)", "All bits of each integer flipped; logical not of bool.")

cdef Op _shifted = binary("bitwise_left_shift", SAME, None, "", "a << b", "i(3, 4, low=0, high=9), i(4, low=0, high=9)",
                          "Bits moved up by `other` places; past the width all are lost.")
_shifted.kernel = kernel_id("left_shift")
_shifted = binary("bitwise_right_shift", SAME, None, "", "a >> b", "i(3, 4, low=0, high=9), i(4, low=0, high=9)",
                  "Bits moved down by `other` places, the sign kept.")
_shifted.kernel = kernel_id("right_shift")


# isclose, allclose, equal

cdef int _same_dtype(TensorBase a, TensorBase b) except -1:
    if a.a.dtype != b.a.dtype:
        raise RuntimeError(f"{dtype_name(a.a.dtype)} did not match {dtype_name(b.a.dtype)}")
    return 0


cdef TensorBase _close(TensorBase a, TensorBase b, object rtol, object atol, bint equal_nan):
    cdef TensorBase close, distance
    _same_dtype(a, b)
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"[isclose] rtol and atol must not be negative, got {rtol} and {atol}")
    close = apply2(EQ, a, b)
    if equal_nan and categories[a.a.dtype] == FLOATING:
        close = apply2(LOGICAL_OR, close, apply2(LOGICAL_AND, apply1(ISNAN, a), apply1(ISNAN, b)))
    if rtol == 0 and atol == 0:
        return close
    if categories[a.a.dtype] != FLOATING:
        a, b = to_dtype(a, FX_F64), to_dtype(b, FX_F64)
    distance = absolute(sub(a, b))
    near = apply2(LE, distance, add(absolute(mul(b, rtol)), atol))
    return apply2(LOGICAL_OR, close, apply2(LOGICAL_AND, apply1(ISFINITE, distance), near))


def _isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether ``|input - other| <= atol + rtol * |other|``, element by element.

    Parameters
    ----------
    input, other : Tensor
        Of one dtype; broadcast against each other.
    rtol, atol : float, optional
        Relative and absolute tolerance.
    equal_nan : bool, optional
        Whether two NaN are close.

    Returns
    -------
    Tensor
        Of dtype bool.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.isclose(fx.tensor([1.0, 2.0]), fx.tensor([1.0 + 1e-7, 2.1]))
    tensor([ True, False])
    """
    return _close(<TensorBase?> input, <TensorBase?> other, rtol, atol, equal_nan)

row("isclose", function=_isclose, composite=True, reference="np.isclose(x, other, rtol, atol, equal_nan)",
    sample="t(3, 4), t(4), 0.5, 0.1", method=True)


cdef bint all_true(TensorBase x) except -1:
    cdef TensorBase out
    cdef frame f
    begin(&f, _all, FX_BOOL)
    out = make(&f, 0, NULL, FX_BOOL, x)
    read(&f, x)
    whole(&f, -1)
    real(&f, 0)
    real(&f, 0)
    run(&f, "all")
    if out.a.device_type == FX_CPU:
        return (<uint8_t *> out.a.data)[0]
    return bool((<object> out).item())


def _allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements of two tensors are close; see `isclose`.

    Returns
    -------
    bool

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.allclose(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 2.0 + 1e-7]))
    True
    """
    return all_true(_close(<TensorBase?> input, <TensorBase?> other, rtol, atol, equal_nan))

row("allclose", function=_allclose, composite=True, reference="np.allclose(x, other, rtol, atol, equal_nan)",
    sample="t(3, 4), t(3, 4)", method=True)


def _equal(input, other):
    """Whether two tensors have the same shape and the same elements.

    Returns
    -------
    bool

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.equal(fx.tensor([1, 2]), fx.tensor([1, 2]))
    True
    """
    cdef TensorBase a = <TensorBase?> input, b = <TensorBase?> other
    if shape_tuple(&a.a) != shape_tuple(&b.a):
        return False
    return all_true(apply2(EQ, a, b))

row("equal", function=_equal, composite=True, reference="np.array_equal(x, other)", sample="t(3, 4), t(3, 4)",
    method=True)


# where, masked_fill: out = condition ? x : y

cdef TensorBase _selected(Op op, PyObject **inputs, int mask, int x, int y, int dtype):
    """Run and record op over three inputs, of which `mask`, `x` and `y` are the places of those three."""
    cdef frame f
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int places[3]
    cdef TensorBase t, out, like = <TensorBase> inputs[mask]
    cdef int i, ndim = 0, devices = 0
    cdef list held = []
    places[0] = mask
    places[1] = x
    places[2] = y
    for i in range(3):
        if isinstance(<object> inputs[i], TensorBase):
            devices |= 1 << (<TensorBase> inputs[i]).a.device_type
    if devices & (devices - 1):
        like = in_place_operators.common_device(op.name, inputs, 3, held)
    for i in range(3):
        if not isinstance(<object> inputs[i], TensorBase):
            continue
        t = <TensorBase> inputs[i]
        ndim = broadcast_more(op.name, ndim, shape, t)
        if t.a.device_type == like.a.device_type and t.a.device_index != like.a.device_index:
            raise RuntimeError(f"[{op.name}] Expected all tensors to be on the same device, but found at least two "
                               f"devices, {like.device} and {t.device}!")
    begin(&f, WHERE.kernel, dtype)
    out = make(&f, ndim, shape, dtype, like)
    for i in range(3):
        if isinstance(<object> inputs[places[i]], TensorBase):
            read(&f, <TensorBase> inputs[places[i]])
        else:
            read_number(&f, <object> inputs[places[i]], dtype, op.name)
    run(&f, op.name)
    if f.wants_grad:
        record(op, inputs, 3, out, None)
    return out


cdef object where_vjp(Node n, object g):
    cdef object condition = saved_input(n, 0)
    return (None, where(condition, g, 0) if wants(n, 1) else None, where(condition, 0, g) if wants(n, 2) else None)


def _where(condition, input=None, other=None):
    """Elements of `input` where `condition` holds, of `other` elsewhere.

    Parameters
    ----------
    condition : Tensor
        Of dtype bool.
    input, other : Tensor or number, optional
        Broadcast against each other and the condition.  Without both, the result is
        ``nonzero(condition, as_tuple=True)``: the indices where the condition holds.

    Returns
    -------
    Tensor, or tuple of Tensor
        Of the dtype that `input` and `other` promote to.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor([-1.0, 2.0])
    >>> fx.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    if input is None and other is None:
        return operators()["nonzero"](condition, as_tuple=True)
    if input is None or other is None:
        raise TypeError("[where] expected both input and other, or neither")
    return where(condition, input, other)


def _where_method(self, condition, other):
    """Elements of this tensor where `condition` holds, of `other` elsewhere; see `ferrox.where`."""
    return where(condition, self, other)

cdef Op WHERE = row("where", function=_where, out=True, inputs=3, rule=rule(where_vjp), needs=("", "0", "0"),
                    reference="np.where(x, input, other)", sample="b(3, 4), t(3, 1), t(4)", method=_where_method)


cdef TensorBase where(object condition, object x, object y):
    cdef PyObject *inputs[3]
    cdef TensorBase mask = as_operand(condition, "where")
    x = x if is_number(x) else as_operand(x, "where")
    y = y if is_number(y) else as_operand(y, "where")
    if mask.a.dtype == FX_U8:
        mask = to_dtype(mask, FX_BOOL)
    elif mask.a.dtype != FX_BOOL:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{dtype_name(mask.a.dtype)}")
    inputs[0] = <PyObject *> mask
    inputs[1] = <PyObject *> x
    inputs[2] = <PyObject *> y
    return _selected(WHERE, inputs, 0, 1, 2, promoted(inputs + 1, 2))


cdef object masked_fill_vjp(Node n, object g):
    cdef object mask = saved_input(n, 1)
    return (where(mask, 0, g) if wants(n, 0) else None, None, where(mask, g, 0) if wants(n, 2) else None)


def _masked_fill(input, mask, value):
    """`input` with `value` in the places where `mask` holds.

    Parameters
    ----------
    input : Tensor
    mask : Tensor
        Of dtype bool; broadcast against `input`.
    value : number or Tensor without dimensions

    Returns
    -------
    Tensor
        Of the dtype of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.masked_fill(fx.tensor([1.0, 2.0]), fx.tensor([True, False]), -9.0)
    tensor([-9.,  2.])
    """
    cdef PyObject *inputs[3]
    cdef TensorBase x = <TensorBase?> input, m = <TensorBase?> mask
    if m.a.dtype != FX_BOOL:
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {dtype_name(m.a.dtype)}")
    if is_number(value):
        if categories[x.a.dtype] != FLOATING and isinstance(value, float):
            value = bool(value) if x.a.dtype == FX_BOOL else int(value)
    elif (<TensorBase?> value).a.ndim:
        raise RuntimeError(f"masked_fill only supports a 0-dimensional value tensor, but got tensor with "
                           f"{(<TensorBase> value).a.ndim} dimension(s).")
    inputs[0] = <PyObject *> x
    inputs[1] = <PyObject *> m
    inputs[2] = <PyObject *> value
    return _selected(MASKED_FILL, inputs, 1, 2, 0, x.a.dtype)

cdef Op MASKED_FILL = row("masked_fill", function=_masked_fill, kernel="where", inputs=3, rule=rule(masked_fill_vjp),
                          needs=("1", "", "1"), reference="np.where(mask, value, x)", sample="t(3, 4), b(4), 1.5",
                          method=True, inplace=True)


cdef TensorBase eq(object a, object b):
    return apply2(EQ, a, b)

cdef TensorBase lt(object a, object b):
    return apply2(LT, a, b)

cdef TensorBase le(object a, object b):
    return apply2(LE, a, b)

cdef TensorBase gt(object a, object b):
    return apply2(GT, a, b)

cdef TensorBase ge(object a, object b):
    return apply2(GE, a, b)

cdef TensorBase isnan(object x):
    return apply1(ISNAN, x)

cdef TensorBase isfinite(object x):
    return apply1(ISFINITE, x)

cdef TensorBase both(object a, object b):
    return apply2(LOGICAL_AND, a, b)

cdef TensorBase either(object a, object b):
    return apply2(LOGICAL_OR, a, b)
