"""Creation: fresh tensors from numbers, shapes and ranges."""
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_Check
from cpython.long cimport PyLong_Check
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_I64, FX_MAX_DIMS
from ferrox._core.door.device cimport as_device, device as _device
from ferrox._core.dtype cimport as_dtype, default_dtype, dtype_name, dtype_object
from ferrox._core.tensor.interchange import foreign_tensor, frombuffer
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.tensor.base cimport TensorBase, alias, new_tensor, set_data
from ferrox._core.tensor.frame cimport converted, fill
from ferrox._core.tensor.values cimport element, moved, tensor_of, with_grad


METHODS = {}        # of Tensor


# Arguments

cdef int _read_size(str name, object value, Py_ssize_t at, int64_t *into) except -1:
    if PyBool_Check(value) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument 'size' (position {at + 1}) must be tuple of ints, not "
                        f"{type(value).__name__}")
    into[0] = PyNumber_Index(value)
    if into[0] < 0:
        raise RuntimeError(f"[{name}] Dimension size must be non-negative, got {into[0]}")
    return 0


cdef int read_shape(str name, tuple args, object size, int64_t *shape) except -1:
    """Sizes from `f(2, 3)`, `f((2, 3))` or `f(size=(2, 3))`; returns how many."""
    cdef Py_ssize_t i, n
    if size is None:
        if not args:
            raise TypeError(f"{name}() missing 1 required positional arguments: \"size\"")
        size = args
        if len(args) == 1 and isinstance(args[0], (tuple, list)):
            size = args[0]
    elif args:
        raise TypeError(f"{name}() got sizes twice: {args} and size={size}")
    elif not isinstance(size, (tuple, list)):
        raise TypeError(f"{name}(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    n = len(size)
    if n > FX_MAX_DIMS:
        raise RuntimeError(f"[{name}] a tensor has at most {FX_MAX_DIMS} dimensions, got {n}")
    for i in range(n):
        _read_size(name, size[i], i, shape + i)
    return <int> n


cdef int read_dtype(object dtype, int default) except -1:
    return default if dtype is None else as_dtype(dtype)


cdef TensorBase allocate(str name, int ndim, const int64_t *shape, object out, object dtype, int default, object place):
    """The tensor to write a result into: fresh, or `out`, which is resized where needed."""
    cdef TensorBase given
    cdef _device where
    cdef int d
    cdef bint same
    if out is None:
        if place is None:
            return new_tensor(ndim, shape, read_dtype(dtype, default), FX_CPU, 0)
        where = as_device(place)
        return new_tensor(ndim, shape, read_dtype(dtype, default), where.type_code, where.index_code)
    if not isinstance(out, TensorBase):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    given = <TensorBase> out
    if dtype is not None and as_dtype(dtype) != given.a.dtype:
        raise RuntimeError(f"[{name}] dtype {dtype_name(as_dtype(dtype))} does not match dtype of out parameter "
                           f"({dtype_name(given.a.dtype)})")
    if given.grad_fn != NULL or given.requires_grad_:
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but "
                           "one of the arguments requires grad.")
    same = given.a.ndim == ndim
    for d in range(ndim):
        same = same and given.a.dims[d] == shape[d]
    if not same:
        set_data(given, new_tensor(ndim, shape, given.a.dtype, given.a.device_type, given.a.device_index))
    return given


cdef object read_number(str name, str argument, object value):
    """A Python number from a number, a tensor or a NumPy scalar of one element."""
    if PyFloat_Check(value) or PyLong_Check(value):
        return value
    if isinstance(value, TensorBase):
        return element(<TensorBase> value)
    made = foreign_tensor(value)
    if made is not None:
        return element(<TensorBase> made)
    raise TypeError(f"{name}(): argument '{argument}' must be Number, not {type(value).__name__}")


# From data

cdef TensorBase _from_data(str name, object data, object dtype, object place, bint copy):
    """A tensor of `data`, outside the graph; shares its memory unless `copy` or something has to change."""
    cdef TensorBase made, source = None
    cdef _device where
    cdef int code
    if isinstance(data, TensorBase):
        source = <TensorBase> data
    elif not isinstance(data, (list, tuple, int, float)):
        source = foreign_tensor(data)
    if source is None:
        made = tensor_of(data, -1 if dtype is None else as_dtype(dtype))
    else:
        code = read_dtype(dtype, source.a.dtype)
        made = converted(source, code) if copy or code != source.a.dtype else source
    if place is None:
        return made
    where = as_device(place)
    if where.type_code == made.a.device_type and (not where.has_index or where.index_code == made.a.device_index):
        return made
    return moved(made, where.type_code, where.index_code)


def _tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A fresh leaf tensor with a copy of `data`.

    Parameters
    ----------
    data : number, nested sequence, numpy.ndarray or Tensor
        The elements.  Nested sequences must not be ragged.
    dtype : dtype, optional
        By default inferred: float becomes the default dtype, int int64, bool bool; arrays and tensors keep theirs.
    device : device, optional
        By default that of `data`, or the CPU.
    requires_grad : bool, default False
        Whether gradients are accumulated for it.

    Raises
    ------
    ValueError
        `data` is ragged, or holds an integer beyond 64 bits.
    RuntimeError
        An element does not fit the dtype.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> fx.tensor([1, 2.5], requires_grad=True)
    tensor([1.0000, 2.5000], requires_grad=True)
    """
    return with_grad(_from_data("tensor", data, dtype, device, True), requires_grad)


def _as_tensor(data, dtype=None, device=None):
    """A tensor of `data` that shares its memory where it can.

    Parameters
    ----------
    data : Tensor, numpy.ndarray, nested sequence or number
        A tensor with nothing to change is returned as it is, inside the graph; a NumPy array's memory is shared.
    dtype, device : optional
        What to convert to.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.as_tensor([1.0, 2.0])
    tensor([1., 2.])
    """
    if isinstance(data, TensorBase):
        return data.to(device=device, dtype=dtype)
    return _from_data("as_tensor", data, dtype, device, False)


def _asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """A tensor of `obj`: a tensor, an array, an object with DLPack or a buffer, a nested sequence or a number.

    Parameters
    ----------
    obj : object
        The elements.
    dtype, device : optional
        What to convert to.
    copy : bool, optional
        True copies always, False never (ValueError where it would have to), None where it must.
    requires_grad : bool, default False
        Whether gradients are accumulated for it; a tensor is detached then.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.asarray(bytearray(b"ab"), dtype=fx.uint8)
    tensor([97, 98], dtype=ferrox.uint8)
    """
    cdef TensorBase made, shares = None
    if isinstance(obj, TensorBase):
        shares = alias(<TensorBase> obj) if requires_grad else <TensorBase> obj
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        shares = frombuffer(obj, dtype=dtype_object(default_dtype) if dtype is None else dtype)
    elif not isinstance(obj, (list, tuple, int, float)):
        shares = foreign_tensor(obj)
    if shares is None:
        if copy is False:
            raise ValueError(f"[asarray] can't alias arbitrary sequence into a tensor, got {type(obj).__name__}")
        return with_grad(_from_data("asarray", obj, dtype, device, True), requires_grad)
    made = shares.to(device=device, dtype=dtype, copy=bool(copy))
    if copy is False and made is not shares:
        raise ValueError("[asarray] can't alias the array: dtype or device differ from what is asked for")
    return with_grad(made, requires_grad) if made is not obj else made


# From a shape

cdef TensorBase _filled(str name, tuple args, object size, object value, int default, object out, object dtype,
                        object place, object requires_grad):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_shape(name, args, size, shape)
    cdef TensorBase made = allocate(name, ndim, shape, out, dtype, default, place)
    fill(name, made, value, out is None)
    return with_grad(made, requires_grad)


def _zeros(*sizes, size=None, out=None, dtype=None, device=None, requires_grad=False):
    """Zeros of a shape.

    Parameters
    ----------
    *sizes : int, or one tuple
        The shape; also as the keyword `size`.
    out : Tensor, optional
        Written and returned.
    dtype, device : optional
        By default the default dtype, and the CPU.
    requires_grad : bool, default False
        Whether gradients are accumulated for it.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return _filled("zeros", sizes, size, 0, default_dtype, out, dtype, device, requires_grad)


def _ones(*sizes, size=None, out=None, dtype=None, device=None, requires_grad=False):
    """Ones of a shape; arguments as of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.ones(2, dtype=fx.int64)
    tensor([1, 1])
    """
    return _filled("ones", sizes, size, 1, default_dtype, out, dtype, device, requires_grad)


def _empty(*sizes, size=None, out=None, dtype=None, device=None, requires_grad=False):
    """A tensor of a shape whose elements are whatever was in memory; arguments as of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.empty(2, 3).shape
    (2, 3)
    """
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_shape("empty", sizes, size, shape)
    return with_grad(allocate("empty", ndim, shape, out, dtype, default_dtype, device), requires_grad)


cdef int _dtype_of(object value):
    return default_dtype if PyFloat_Check(value) else FX_BOOL if PyBool_Check(value) else FX_I64


def _full(size, fill_value, *, out=None, dtype=None, device=None, requires_grad=False):
    """A shape filled with a number.

    Parameters
    ----------
    size : tuple of int
        The shape.
    fill_value : number
        Every element; without `dtype` it decides the dtype as in `tensor`.
    out, dtype, device, requires_grad : optional
        As of `zeros`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.full((2,), 3.5)
    tensor([3.5000, 3.5000])
    """
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    value = read_number("full", "fill_value", fill_value)
    return _filled("full", (), size, value, _dtype_of(value), out, dtype, device, requires_grad)


cdef TensorBase _like(str name, object input, object dtype, object place):
    cdef TensorBase like
    cdef int type_code, index_code
    cdef _device where
    if not isinstance(input, TensorBase):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    like = <TensorBase> input
    type_code = like.a.device_type
    index_code = like.a.device_index
    if place is not None:
        where = as_device(place)
        type_code = where.type_code
        index_code = where.index_code
    return new_tensor(like.a.ndim, like.a.dims, read_dtype(dtype, like.a.dtype), type_code, index_code)


cdef TensorBase _filled_like(str name, object input, object value, object dtype, object place, object requires_grad):
    cdef TensorBase made = _like(name, input, dtype, place)
    fill(name, made, value, True)
    return with_grad(made, requires_grad)


def _zeros_like(input, *, dtype=None, device=None, requires_grad=False):
    """Zeros of the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.zeros_like(fx.tensor([1, 2]))
    tensor([0, 0])
    """
    return _filled_like("zeros_like", input, 0, dtype, device, requires_grad)


def _ones_like(input, *, dtype=None, device=None, requires_grad=False):
    """Ones of the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.ones_like(fx.tensor([5.0, 6.0]))
    tensor([1., 1.])
    """
    return _filled_like("ones_like", input, 1, dtype, device, requires_grad)


def _full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False):
    """`fill_value` in the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.full_like(fx.zeros(2), 7)
    tensor([7., 7.])
    """
    return _filled_like("full_like", input, read_number("full_like", "fill_value", fill_value), dtype, device,
                        requires_grad)


def _empty_like(input, *, dtype=None, device=None, requires_grad=False):
    """An uninitialised tensor of the shape, dtype and device of `input`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.empty_like(fx.zeros(2, 3)).shape
    (2, 3)
    """
    return with_grad(_like("empty_like", input, dtype, device), requires_grad)


# Methods: the dtype and device of self are the defaults.

cdef object _place(TensorBase like, object place):
    return like.device if place is None and like.a.device_type != FX_CPU else place


def _new_zeros(self, *sizes, size=None, dtype=None, device=None, requires_grad=False):
    """Zeros in the dtype and on the device of this tensor."""
    cdef TensorBase like = <TensorBase?> self
    return _filled("new_zeros", sizes, size, 0, like.a.dtype, None, dtype, _place(like, device), requires_grad)


def _new_ones(self, *sizes, size=None, dtype=None, device=None, requires_grad=False):
    """Ones in the dtype and on the device of this tensor."""
    cdef TensorBase like = <TensorBase?> self
    return _filled("new_ones", sizes, size, 1, like.a.dtype, None, dtype, _place(like, device), requires_grad)


def _new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """A shape filled with a number, in the dtype and on the device of this tensor."""
    cdef TensorBase like = <TensorBase?> self
    return _filled("new_full", (), size, read_number("new_full", "fill_value", fill_value), like.a.dtype, None, dtype,
                   _place(like, device), requires_grad)


def _new_empty(self, *sizes, size=None, dtype=None, device=None, requires_grad=False):
    """An uninitialised tensor in the dtype and on the device of this tensor."""
    cdef TensorBase like = <TensorBase?> self
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_shape("new_empty", sizes, size, shape)
    return with_grad(allocate("new_empty", ndim, shape, None, dtype, like.a.dtype, _place(like, device)), requires_grad)


def _new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    """A copy of `data` in the dtype and on the device of this tensor."""
    cdef TensorBase like = <TensorBase?> self
    return with_grad(_from_data("new_tensor", data, like.dtype if dtype is None else dtype,
                                like.device if device is None else device, True), requires_grad)


for _function in (_new_zeros, _new_ones, _new_full, _new_empty, _new_tensor):
    METHODS[_function.__name__[1:]] = _function


row("tensor", function=_tensor, composite=True, reference="np.array(data)", sample="([[1.0, 2.0], [3.0, 4.0]],)")
row("as_tensor", function=_as_tensor, composite=True, reference="np.asarray(data)", sample="([1.0, 2.0],)")
row("asarray", function=_asarray, composite=True, reference="np.asarray(obj)", sample="([1.0, 2.0],)")
row("zeros", function=_zeros, composite=True, reference="np.zeros((2, 3))", sample="(2, 3)")
row("ones", function=_ones, composite=True, reference="np.ones((2, 3))", sample="(2, 3)")
row("empty", function=_empty, composite=True)
row("full", function=_full, composite=True, reference="np.full(size, fill_value)", sample="((2, 3), 2.5)")
row("zeros_like", function=_zeros_like, composite=True, reference="np.zeros_like(input)", sample="i(3, 4)")
row("ones_like", function=_ones_like, composite=True, reference="np.ones_like(input)", sample="i(3, 4)")
row("full_like", function=_full_like, composite=True, reference="np.full_like(input, fill_value)", sample="i(3, 4), 2")
row("empty_like", function=_empty_like, composite=True)
