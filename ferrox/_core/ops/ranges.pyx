"""Ranges and matrices of a given form."""
from cpython.long cimport PyLong_Check
from cpython.number cimport PyNumber_Index
from libc.math cimport ceil, isfinite, pow
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_F64, FX_I64
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, categories, default_dtype
from ferrox._core.graph.op import row
from ferrox._core.ops.creation cimport allocate, read_dtype, read_number
from ferrox._core.ops.shape cimport read_int
from ferrox._core.tensor.base cimport TensorBase, new_tensor, new_view
from ferrox._core.tensor.frame cimport begin, copy_into, fill, frame, into, number, real, run
from ferrox._core.tensor.values cimport moved, with_grad

cdef int _arange_kernel = kernel_id("arange")
cdef int _linspace_kernel = kernel_id("linspace")


# Ranges

cdef int64_t _arange_count(object start, object end, object step, int dtype) except -1:
    cdef double exact
    if step == 0:
        raise RuntimeError("[arange] step must be nonzero")
    if not (isfinite(start) and isfinite(end)):
        raise RuntimeError(f"[arange] unsupported range: {start} -> {end}")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise RuntimeError(f"[arange] upper bound and lower bound inconsistent with step sign: {start} -> {end} by "
                           f"{step}")
    if PyLong_Check(start) and PyLong_Check(end) and PyLong_Check(step):
        count = -((start - end) // step)
        if count > 0x7fffffffffffffff:
            raise RuntimeError(f"[arange] the range {start} -> {end} by {step} has too many elements")
        return count
    exact = ceil((<double> end - <double> start) / <double> step)
    if exact >= 9.2e18:
        raise RuntimeError(f"[arange] the range {start} -> {end} by {step} has too many elements")
    return <int64_t> exact


def _arange(start=None, end=None, step=1, *, out=None, dtype=None, device=None, requires_grad=False):
    """start, start + step, … up to but without end.

    Parameters
    ----------
    start : number, optional
        0 when only one bound is given.
    end : number
        The values stop before it.
    step : number, default 1
        Not zero; negative to count down.
    out, dtype, device, requires_grad : optional
        As of `zeros`; without `dtype`, int64 when all bounds are integers, else the default dtype.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.arange(1, 2.5, 0.5)
    tensor([1.0000, 1.5000, 2.0000])
    """
    cdef int64_t shape[1]
    cdef frame f
    cdef TensorBase made
    cdef int dtype_code
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() missing required argument \"end\"")
    start = 0 if start is None else start
    start = read_number("arange", "start", start)
    end = read_number("arange", "end", end)
    step = read_number("arange", "step", step)
    whole = PyLong_Check(start) and PyLong_Check(end) and PyLong_Check(step)
    dtype_code = read_dtype(dtype, FX_I64 if whole else default_dtype) if out is None else (<TensorBase?> out).a.dtype
    if dtype_code == FX_BOOL:
        raise NotImplementedError("[arange] a range of bool is not defined")
    if dtype_code == FX_I64 and not whole and isfinite(start) and isfinite(end):
        start, end, step = int(start), int(end), int(step)
    shape[0] = _arange_count(start, end, step, dtype_code)
    made = allocate("arange", 1, shape, out, dtype, dtype_code, device)
    begin(&f, _arange_kernel, dtype_code)
    into(&f, made, out is None)
    number(&f, start)
    number(&f, step)
    run(&f, "arange")
    return with_grad(made, requires_grad)


cdef int64_t _steps(str name, object steps) except -1:
    cdef int64_t n = read_int(name, "steps", steps)
    if n < 0:
        raise RuntimeError(f"[{name}] number of steps must be non-negative, got {n}")
    return n


cdef double _bound(str name, str argument, object value, int dtype) except? -1:
    """The first or last value of a range; those of integers are integers, cut off."""
    value = read_number(name, argument, value)
    return value if categories[dtype] == FLOATING else int(value)


def _linspace(start, end, steps, *, out=None, dtype=None, device=None, requires_grad=False):
    """`steps` values from `start` to `end`, both included, evenly spaced.

    Parameters
    ----------
    start, end : number
        The first and the last value.
    steps : int
        How many.
    out, dtype, device, requires_grad : optional
        As of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    cdef int64_t shape[1]
    cdef frame f
    cdef TensorBase made
    shape[0] = _steps("linspace", steps)
    made = allocate("linspace", 1, shape, out, dtype, default_dtype, device)
    begin(&f, _linspace_kernel, made.a.dtype)
    into(&f, made, out is None)
    real(&f, _bound("linspace", "start", start, made.a.dtype))
    real(&f, _bound("linspace", "end", end, made.a.dtype))
    run(&f, "linspace")
    return with_grad(made, requires_grad)


def _logspace(start, end, steps, base=10.0, *, out=None, dtype=None, device=None, requires_grad=False):
    """`steps` values from base ** start to base ** end, evenly spaced in the exponent.

    Parameters
    ----------
    start, end : number
        The first and the last exponent.
    steps : int
        How many.
    base : float, default 10
        Of the powers.
    out, dtype, device, requires_grad : optional
        As of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.logspace(0, 3, 4, base=2)
    tensor([1., 2., 4., 8.])
    """
    cdef int64_t shape[1]
    cdef double root = base, at, first, last
    cdef int64_t i, n = _steps("logspace", steps)
    cdef TensorBase host, made
    cdef double *values
    shape[0] = n
    made = allocate("logspace", 1, shape, out, dtype, default_dtype, device)
    first, last = _bound("logspace", "start", start, made.a.dtype), _bound("logspace", "end", end, made.a.dtype)
    host = new_tensor(1, shape, FX_F64, FX_CPU, 0)
    values = <double *> host.a.data
    for i in range(n):
        at = (last - first) / (n - 1) if n > 1 else 0.0
        values[i] = pow(root, first + i * at if i < n // 2 or n == 1 else last - (n - 1 - i) * at)
    if made.a.device_type != FX_CPU:
        host = moved(host, made.a.device_type, made.a.device_index)
    copy_into("logspace", made, host, out is None)
    return with_grad(made, requires_grad)


def _eye(n, m=None, *, out=None, dtype=None, device=None, requires_grad=False):
    """Ones on the diagonal, zeros elsewhere.

    Parameters
    ----------
    n : int
        Rows.
    m : int, optional
        Columns; as many as rows by default.
    out, dtype, device, requires_grad : optional
        As of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    cdef int64_t shape[2]
    cdef int64_t length[1]
    cdef int64_t stride[1]
    cdef TensorBase made
    shape[0] = PyNumber_Index(n)
    shape[1] = shape[0] if m is None else PyNumber_Index(m)
    if shape[0] < 0 or shape[1] < 0:
        raise RuntimeError(f"[eye] n and m must be greater or equal to 0, got {shape[0]} and {shape[1]}")
    made = allocate("eye", 2, shape, out, dtype, default_dtype, device)
    fill("eye", made, 0, out is None)
    length[0] = min(shape[0], shape[1])
    stride[0] = made.a.dims[2] + made.a.dims[3]
    if length[0]:
        fill("eye", new_view(made, 1, length, stride, 0), 1, True)
    return with_grad(made, requires_grad)


row("arange", function=_arange, composite=True, reference="np.arange(start, end, step)", sample="(1, 10, 3)")
row("linspace", function=_linspace, composite=True, reference="np.linspace(start, end, steps)", sample="(0, 1, 5)")
row("logspace", function=_logspace, composite=True, reference="np.logspace(start, end, steps)", sample="(0, 2, 5)")
row("eye", function=_eye, composite=True, reference="np.eye(n, m)", sample="(3, 4)")
