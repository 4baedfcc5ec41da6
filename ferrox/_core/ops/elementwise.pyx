"""Elementwise operators: what all of them share.

`apply` finds the dtype and the shape of the result, hands the operands to the door as they are (kernels broadcast and
cast on the way), and records.  `apply_in_place` does the same into the first input.

Note [Dtypes].  As PyTorch: tensors with dimensions decide, then tensors without, then Python numbers; a later group
counts only when its category (bool < integer < floating) is higher.

Note [In place].  With no gradient involved the kernel writes over its first input.  Otherwise the operator is recorded
out of place on a shadow of the target (same memory and history, so that the node does not own the tensor that owns it),
the result is copied into the target's memory, and the target takes over the result's history.  When the target is a
view, its base takes over a scatter of that result, and other views find out by `history` (graph/node.pyx).
"""
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_Check
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.object cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_F64, FX_I64, FX_MAX_DIMS, fx_array
from ferrox._core.dtype cimport FLOATING, categories, default_dtype, dtype_name, promotions
from ferrox._core.graph.node cimport Node, attach, grad_enabled, history_of, record, record_frame, take_over
from ferrox._core.graph.op cimport MAX_NEEDS, Op
from ferrox._core.tensor.base cimport TensorBase, alias, is_tensor, needs_grad, new_like, new_tensor, set_data, \
    shape_tuple
from ferrox._core.tensor.frame cimport begin, check_call, converted, copy_into, frame, make, make_like, \
    nearest_whole, read, read_number, real, run, set_to, whole, write

cdef enum:
    MAX_INPUTS = 4


cdef bint is_number(object value) noexcept:
    """A Python bool, int or float."""
    return PyFloat_Check(value) or PyLong_Check(value)


cdef inline int _scalar_dtype(object value) noexcept:
    if PyFloat_Check(value):
        return default_dtype
    return FX_BOOL if PyBool_Check(value) else FX_I64


cdef TensorBase as_operand(object value, str name):
    """A tensor from what may stand where a tensor is expected; TypeError otherwise."""
    if isinstance(value, TensorBase):
        return <TensorBase> value
    made = as_input(value, name)
    if isinstance(made, TensorBase):
        return <TensorBase> made
    raise TypeError(f"[{name}] expected a tensor, got {type(value).__name__}")


cdef object as_input(object value, str name):
    """A tensor or a Python number from a value that is neither; TypeError otherwise."""
    if coerce is not None:
        made = coerce(value)
        if made is not None:
            return made
    raise TypeError(f"[{name}] expected a tensor or a number, got {type(value).__name__}")


coerce = None   # set by interchange: a tensor or Python number from a NumPy array or scalar, None for anything else


cdef int broadcast(str name, fx_array *a, fx_array *b, int64_t *shape) except -1:
    """The shape that two operands broadcast to; returns its number of dimensions."""
    cdef int ndim = max(a.ndim, b.ndim), d, da, db
    cdef int64_t sa, sb
    for d in range(ndim):
        da = d - (ndim - a.ndim)
        db = d - (ndim - b.ndim)
        sa = a.dims[da] if da >= 0 else 1
        sb = b.dims[db] if db >= 0 else 1
        if sa == sb or sb == 1:
            shape[d] = sa
        elif sa == 1:
            shape[d] = sb
        else:
            raise RuntimeError(f"[{name}] The size of tensor a ({sa}) must match the size of tensor b ({sb}) at "
                               f"non-singleton dimension {d}: a is {shape_tuple(a)}, b is {shape_tuple(b)}")
    return ndim


cdef inline int _computed(Op op, PyObject **inputs, int n, int dtype) except -1:
    """The dtype of the arithmetic by the operator's rule."""
    if op.kind == REAL:
        return dtype if categories[dtype] == FLOATING else default_dtype
    if op.kind == WHOLE:
        return FX_I64 if dtype == FX_BOOL else dtype
    if op.kind == TEST:
        return dtype if categories[dtype] == FLOATING else _holding(inputs, n, dtype)
    if op.kind >= SIGNED:
        _check_dtypes(op, inputs, n)
    return dtype


cdef object _above = float("inf"), _below = -_above


cdef int _holding(PyObject **inputs, int n, int dtype) noexcept:
    """The dtype in which integers are compared: wide enough for the Python numbers among them.

    One that no integer dtype holds is beyond every element: infinite, in float64.
    """
    cdef int i, overflow = 0
    cdef long long value
    for i in range(n):
        if PyLong_Check(<object> inputs[i]):
            value = PyLong_AsLongLongAndOverflow(<object> inputs[i], &overflow)
            if overflow:
                inputs[i] = <PyObject *> (_above if overflow > 0 else _below)
                return FX_F64
            if not nearest_whole(-INFINITY, dtype) <= value <= nearest_whole(INFINITY, dtype):
                dtype = FX_I64
    return dtype


cdef int _check_dtypes(Op op, PyObject **inputs, int n) except -1:
    cdef int i, d, seen = -1
    for i in range(n):
        if isinstance(<object> inputs[i], TensorBase):
            d = (<TensorBase> inputs[i]).a.dtype
            if op.kind == ALIKE and seen >= 0 and d != seen:
                raise RuntimeError(f"[{op.name}] expected tensors of one dtype, got {dtype_name(seen)} and "
                                   f"{dtype_name(d)}")
            seen = d
        else:
            d = _scalar_dtype(<object> inputs[i])
        if op.kind == SIGNED and d == FX_BOOL:
            raise RuntimeError(f"[{op.name}] a bool operand is not supported; use `^` or logical_xor(), or for an "
                               "inverted mask `~` or logical_not()")
    return 0


cdef int promoted(PyObject **inputs, int n) except -1:
    """The dtype of the arithmetic, by Note [Dtypes]."""
    cdef int i, d, with_dims = -1, without = -1, dtype
    cdef TensorBase t
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            t = <TensorBase> inputs[i]
            d = t.a.dtype
            if t.a.ndim:
                with_dims = d if with_dims < 0 else promotions[with_dims][d]
            else:
                without = d if without < 0 else promotions[without][d]
    dtype = with_dims
    if dtype < 0:
        dtype = without
    elif without >= 0 and categories[without] > categories[dtype]:
        dtype = promotions[dtype][without]
    for i in range(n):
        if not is_tensor(<object> inputs[i]):
            d = _scalar_dtype(<object> inputs[i])
            if dtype < 0:
                dtype = d
            elif categories[d] > categories[dtype]:
                dtype = promotions[dtype][d]
    return dtype


cdef int _check_devices(str name, TensorBase a, TensorBase b) except -1:
    raise RuntimeError(f"[{name}] Expected all tensors to be on the same device, but found at least two devices, "
                       f"{a.device} and {b.device}!")


cdef int _set_params(frame *f, const parameters *p) noexcept:
    """An integer operator takes its parameters as integers: exactly, or, of bounds, the nearest that its dtype has."""
    cdef int i
    for i in range(PARAMETERS):
        if categories[f.call.dtype] == FLOATING:
            real(f, p.real[i])
        else:
            whole(f, p.whole[i] if p.exact else nearest_whole(p.real[i], f.call.dtype))
    return 0


cdef TensorBase apply(Op op, PyObject **inputs, int n, TensorBase out, const parameters *params, object kept):
    """Compute an elementwise operator over tensors and Python numbers.

    `out` is written instead of a fresh tensor when given; `kept` goes to the node's params.
    """
    cdef frame f
    cdef int64_t shape[FX_MAX_DIMS]
    cdef TensorBase first = None, t, result
    cdef int i, ndim, dtype = -1, out_dtype, n_tensors = 0, devices = 0
    cdef bint same = True
    cdef list held = None
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            t = <TensorBase> inputs[i]
        elif is_number(<object> inputs[i]):
            same = False
            continue
        else:
            given = as_input(<object> inputs[i], op.name)
            if held is None:
                held = []
            held.append(given)
            inputs[i] = <PyObject *> given
            if not is_tensor(given):
                same = False
                continue
            t = <TensorBase> given
        n_tensors += 1
        devices |= 1 << t.a.device_type
        if first is None:
            first = t
            dtype = t.a.dtype
        elif t.a.dtype != dtype or t.a.ndim != first.a.ndim \
                or memcmp(t.a.dims, first.a.dims, 8 * <size_t> t.a.ndim) != 0:
            same = False
    if first is None:
        raise TypeError(f"[{op.name}] expected a tensor, got only numbers")
    if devices & (devices - 1):
        held = [] if held is None else held
        first = in_place_operators.common_device(op.name, inputs, n, held)
    if not same:
        dtype = promoted(inputs, n)
    if op.kind:
        dtype = _computed(op, inputs, n, dtype)
    out_dtype = FX_BOOL if op.kind == TEST else dtype
    begin(&f, op.kernel, dtype)
    if out is not None:
        result = _prepared_out(op, inputs, n, out, out_dtype)
        write(&f, result)
    elif same or n_tensors == 1:
        result = make_like(&f, first, out_dtype)
    else:
        ndim = _broadcast_inputs(op, inputs, n, first, shape)
        result = make(&f, ndim, shape, out_dtype, first)
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            read(&f, <TensorBase> inputs[i])
        else:
            read_number(&f, <object> inputs[i], dtype, op.name)
    if params != NULL:
        _set_params(&f, params)
    run(&f, op.name)
    if f.wants_grad:
        record_frame(op, &f, result, kept)
    return result


cdef int _broadcast_inputs(Op op, PyObject **inputs, int n, TensorBase first, int64_t *shape) except -1:
    """The shape that all tensors among the inputs broadcast to; returns its number of dimensions."""
    cdef int i, ndim = first.a.ndim
    cdef TensorBase t
    for i in range(ndim):
        shape[i] = first.a.dims[i]
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            ndim = broadcast_more(op.name, ndim, shape, <TensorBase> inputs[i])
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            t = <TensorBase> inputs[i]
            if t.a.device_index != first.a.device_index and t.a.device_type == first.a.device_type:
                _check_devices(op.name, first, t)
    return ndim


cdef int broadcast_more(str name, int ndim, int64_t *shape, TensorBase t) except -1:
    """Broadcast `shape` with another operand, in place; returns the new number of dimensions."""
    cdef int wide = max(ndim, t.a.ndim), d, at
    cdef int64_t s
    if wide > ndim:
        for d in range(ndim - 1, -1, -1):
            shape[d + wide - ndim] = shape[d]
        for d in range(wide - ndim):
            shape[d] = 1
    for d in range(t.a.ndim):
        at = d + wide - t.a.ndim
        s = t.a.dims[d]
        if shape[at] == 1:
            shape[at] = s
        elif s != 1 and s != shape[at]:
            before = tuple([shape[k] for k in range(wide - ndim, wide)])
            raise RuntimeError(f"[{name}] The size of tensor a ({shape[at]}) must match the size of tensor b ({s}) at "
                               f"non-singleton dimension {at}: a is {before}, b is {shape_tuple(&t.a)}")
    return wide


cdef TensorBase _prepared_out(Op op, PyObject **inputs, int n, TensorBase out, int dtype):
    """Check `out=`: shape, dtype, memory; it is resized when empty."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int i, ndim = 0
    for i in range(n):
        if is_tensor(<object> inputs[i]):
            ndim = broadcast_more(op.name, ndim, shape, <TensorBase> inputs[i])
            if grad_enabled() and (needs_grad(<TensorBase> inputs[i]) or needs_grad(out)):
                _no_gradient_with_out(op)
    _fit_out(op, out, ndim, shape, dtype)
    return out


cdef int _no_gradient_with_out(Op op) except -1:
    raise RuntimeError(f"{op.name}(): functions with out=... arguments don't support automatic differentiation, "
                       "but one of the arguments requires grad.")


cdef int _fit_out(Op op, TensorBase out, int ndim, const int64_t *shape, int dtype) except -1:
    """Check that `out` takes a result of this shape and dtype; resize it when it is empty."""
    cdef TensorBase fresh
    cdef int i
    if categories[dtype] > categories[out.a.dtype]:
        raise RuntimeError(f"[{op.name}] result type {dtype_name(dtype)} can't be cast to the desired output type "
                           f"{dtype_name(out.a.dtype)}")
    if out.a.ndim != ndim or memcmp(out.a.dims, shape, 8 * <size_t> ndim) != 0:
        if out.a.numel == 0:
            fresh = new_tensor(ndim, shape, out.a.dtype, out.a.device_type, out.a.device_index)
            set_data(out, fresh)
        else:
            raise RuntimeError(f"[{op.name}] out has shape {shape_tuple(&out.a)}, the result has shape "
                               f"{tuple([shape[i] for i in range(ndim)])}")
    return 0


cdef int check_out(Op op, TensorBase result, object out) except -1:
    """Whether `result` may be written into `out`, which is resized when it is empty."""
    if not isinstance(out, TensorBase):
        raise TypeError(f"{op.name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if grad_enabled() and (needs_grad(result) or needs_grad(<TensorBase> out)):
        _no_gradient_with_out(op)
    if not result.a.device_type == (<TensorBase> out).a.device_type:
        _check_devices(op.name, result, <TensorBase> out)
    return _fit_out(op, <TensorBase> out, result.a.ndim, result.a.dims, result.a.dtype)


cdef TensorBase deliver(Op op, TensorBase result, object out):
    """`result`, or `out` when given, filled with it."""
    if out is None:
        return result
    check_out(op, result, out)
    copy_into(op.name, <TensorBase> out, result, False)
    return <TensorBase> out


cdef TensorBase apply1(Op op, object x):
    cdef PyObject *inputs[1]
    inputs[0] = <PyObject *> x
    return apply(op, inputs, 1, None, NULL, None)


cdef TensorBase apply2(Op op, object x, object y):
    cdef PyObject *inputs[2]
    inputs[0] = <PyObject *> x
    inputs[1] = <PyObject *> y
    return apply(op, inputs, 2, None, NULL, None)


cdef TensorBase apply3(Op op, object x, object y, object z):
    cdef PyObject *inputs[3]
    inputs[0] = <PyObject *> x
    inputs[1] = <PyObject *> y
    inputs[2] = <PyObject *> z
    return apply(op, inputs, 3, None, NULL, None)


cdef inline void _set3(parameters *params, double p0, double p1, double p2) noexcept:
    params.real[0] = p0
    params.real[1] = p1
    params.real[2] = p2
    params.real[3] = 0
    params.exact = False


cdef TensorBase apply1p(Op op, object x, double p0, double p1, double p2, object kept):
    """With up to three parameters of the kernel; `kept` is what the gradient rule finds in node.params."""
    cdef PyObject *inputs[1]
    cdef parameters params
    inputs[0] = <PyObject *> x
    _set3(&params, p0, p1, p2)
    return apply(op, inputs, 1, None, &params, kept)


cdef TensorBase apply2p(Op op, object x, object y, double p0, double p1, double p2, object kept):
    cdef PyObject *inputs[2]
    cdef parameters params
    inputs[0] = <PyObject *> x
    inputs[1] = <PyObject *> y
    _set3(&params, p0, p1, p2)
    return apply(op, inputs, 2, None, &params, kept)


cdef TensorBase apply3p(Op op, object x, object y, object z, double p0, double p1, double p2, object kept):
    cdef PyObject *inputs[3]
    cdef parameters params
    inputs[0] = <PyObject *> x
    inputs[1] = <PyObject *> y
    inputs[2] = <PyObject *> z
    _set3(&params, p0, p1, p2)
    return apply(op, inputs, 3, None, &params, kept)


cdef TensorBase apply_scaled(Op op, PyObject **inputs, int n, object factor, object kept):
    """With a factor for parameter: a Python number, exact in integer arithmetic, where it wraps as products do."""
    cdef parameters params
    cdef int i
    _set3(&params, factor, 0, 0)
    for i in range(PARAMETERS):
        params.whole[i] = 0
    if PyLong_Check(factor):
        params.whole[0] = factor
    else:
        params.whole[0] = nearest_whole(params.real[0], FX_I64)
    params.exact = True
    return apply(op, inputs, n, None, &params, kept)


cdef TensorBase shadow(TensorBase tensor):
    """The same memory with the same history: stands for `tensor` in the record of its own in-place change.

    It is no view: what a view's history becomes when its base changes is not what the shadow's, of before, is.
    """
    cdef TensorBase made = alias(tensor)
    cdef Node history = history_of(tensor)
    made.requires_grad_ = tensor.requires_grad_
    if history is not None:
        attach(made, history, tensor.output)
    return made


cdef TensorBase shadow_for(Op op, TensorBase tensor):
    """A shadow for the record of op's in-place change: memory of its own where a gradient reads the value before."""
    cdef TensorBase made = shadow(tensor), before
    cdef int i
    cdef uint32_t reads = 0
    if not grad_enabled() or not needs_grad(tensor):
        return made
    for i in range(MAX_NEEDS):
        reads |= op.needs[i]
    if reads & 1 or op.vjp == NULL:
        before = converted(tensor, tensor.a.dtype)
        set_data(made, before)
    return made


cdef int check_leaf(TensorBase target) except -1:
    if target.grad_fn == NULL and target.requires_grad_:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if target.base != NULL and (<TensorBase> target.base).grad_fn == NULL and (<TensorBase> target.base).requires_grad_:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    return 0


cdef object apply_in_place(Op op, PyObject **inputs, int n):
    """An elementwise operator into its first input; by Note [In place]."""
    cdef TensorBase target = <TensorBase?> <object> inputs[0]
    cdef TensorBase stand_in
    cdef PyObject *shadowed[MAX_INPUTS]
    cdef frame f
    cdef object _held
    cdef int i
    begin(&f, op.kernel, 0)
    _held = _overwriting(op, &f, inputs, n, target)
    if not (f.wants_grad and grad_enabled()):
        run(&f, op.name)
        return target
    check_leaf(target)
    check_call(op.name, &f)
    stand_in = shadow_for(op, target)
    shadowed[0] = <PyObject *> stand_in
    for i in range(1, n):
        shadowed[i] = <PyObject *> stand_in if inputs[i] == inputs[0] else inputs[i]
    return assign(op, target, apply(op, shadowed, n, None, NULL, None))


cdef object _overwriting(Op op, frame *f, PyObject **inputs, int n, TensorBase target):
    """Put together the call that writes an operator's result over its first input; returns what it keeps alive."""
    cdef list held = None
    cdef int64_t shape[FX_MAX_DIMS]
    cdef TensorBase t
    cdef int i, dtype, ndim = target.a.ndim
    for i in range(n):
        if not is_tensor(<object> inputs[i]) and not is_number(<object> inputs[i]):
            given = as_input(<object> inputs[i], op.name)
            held = [given] if held is None else [*held, given]
            inputs[i] = <PyObject *> given
    f.call.dtype = dtype = _computed(op, inputs, n, promoted(inputs, n))
    if categories[FX_BOOL if op.kind == TEST else dtype] > categories[target.a.dtype]:
        raise RuntimeError(f"[{op.name}_] result type {dtype_name(dtype)} can't be cast to the desired output type "
                           f"{dtype_name(target.a.dtype)}")
    write(f, target)
    for i in range(n):
        if not is_tensor(<object> inputs[i]):
            read_number(f, <object> inputs[i], dtype, op.name)
            continue
        t = <TensorBase> inputs[i]
        read(f, t)
        if i and (t.a.ndim != ndim or memcmp(t.a.dims, target.a.dims, 8 * <size_t> ndim) != 0):
            _check_expands(op.name, &t.a, &target.a, shape)
        if t.a.device_type != target.a.device_type and (t.a.ndim or t.a.device_type != FX_CPU):
            _check_devices(op.name, target, t)
    return held


cdef int _check_expands(str name, fx_array *a, fx_array *target, int64_t *shape) except -1:
    cdef int ndim = broadcast(name, a, target, shape)
    if ndim != target.ndim or memcmp(shape, target.dims, 8 * <size_t> ndim) != 0:
        raise RuntimeError(f"[{name}_] output with shape {shape_tuple(target)} doesn't match the broadcast shape "
                           f"{tuple([shape[d] for d in range(ndim)])}")
    return 0


cdef object assign(Op op, TensorBase target, TensorBase result):
    """Put `result`, computed for `op` on a shadow of `target`, into `target`; by Note [In place]."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef TensorBase cast
    cdef bint grad = grad_enabled() and (needs_grad(result) or needs_grad(target))
    if categories[result.a.dtype] > categories[target.a.dtype]:
        raise RuntimeError(f"[{op.name}] result type {dtype_name(result.a.dtype)} can't be cast to the desired output "
                           f"type {dtype_name(target.a.dtype)}")
    _check_expands(op.name, &result.a, &target.a, shape)
    if grad:
        check_leaf(target)
        if result.a.dtype != target.a.dtype or result.a.ndim != target.a.ndim \
                or memcmp(result.a.dims, target.a.dims, 8 * <size_t> target.a.ndim) != 0:
            cast = conform(result, target)
            return assign(op, target, cast)
        if target.base == NULL and needs_grad(target) and (op.vjp == NULL or not needs_grad(result)):
            result = _overwritten(target, result)
    copy_into(op.name, target, result, False)
    if grad:
        rebase(target, result)
    return target


cdef object _overwrite_vjp(Node n, object g):
    cdef TensorBase zeros = new_like(<TensorBase> g, (<TensorBase> g).a.dtype)
    set_to(zeros, 0)
    return (zeros, g) if n.n_in == 2 else zeros

cdef Op OVERWRITE = Op("overwrite")
OVERWRITE.vjp = <void *> _overwrite_vjp


cdef TensorBase _overwritten(TensorBase target, TensorBase result):
    """`result`, which does not come from `target`'s value of before: that gets a gradient of zeros, as in PyTorch."""
    cdef TensorBase before = shadow(target), made = alias(result)
    cdef PyObject *inputs[2]
    inputs[0] = <PyObject *> before
    inputs[1] = <PyObject *> result
    record(OVERWRITE, inputs, 2 if needs_grad(result) else 1, made, None)
    return made


cdef TensorBase conform(TensorBase result, TensorBase target):
    """`result` expanded and cast to `target`'s shape and dtype, recorded."""
    return in_place_operators.conform(result, target)


cdef int rebase(TensorBase target, TensorBase result) except -1:
    """Give `target` the history of `result`, and its base a scatter of it."""
    cdef TensorBase base, again
    if target.base != NULL:
        base = <TensorBase> target.base
        again = in_place_operators.scatter_view(base, target, result)
        take_history(base, again)
        again = in_place_operators.view_again(base, target)
        take_history(target, again)
        target.base_history = base.history
        return 0
    return take_history(target, result)


cdef int take_history(TensorBase target, TensorBase source) except -1:
    take_over(target, source.grad_fn, source.output)
    target.history += 1
    return 0
