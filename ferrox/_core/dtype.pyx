"""Element types and their promotion, which is PyTorch's."""
cimport cython
import sys

from ferrox._core.abi cimport FX_BF16, FX_BOOL, FX_DTYPES, FX_F32, FX_F64, FX_I64, fx_category, fx_code_name, \
    fx_digits, fx_dtype_name, fx_is_signed, fx_itemsize, fx_least, fx_most, fx_typestr

cdef tuple _names = tuple([fx_dtype_name(code).decode() for code in range(FX_DTYPES)])
default_dtype = FX_F32


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class dtype:
    """The type of a tensor's elements, such as `ferrox.float32`.

    Attributes
    ----------
    name : str
        "float32", …
    itemsize : int
        Bytes per element.
    is_floating_point, is_signed, is_complex : bool
    """

    @property
    def is_floating_point(self):
        return categories[self.code] == FLOATING

    @property
    def is_signed(self):
        return fx_is_signed(self.code)

    @property
    def is_complex(self):
        return False

    def to_numpy(self):
        """The numpy dtype of the same layout; bfloat16 has none and raises TypeError."""
        import numpy

        if self.code == FX_BF16:
            raise TypeError("numpy has no bfloat16; convert with .float() first")
        return numpy.dtype(self.name)

    def __repr__(self):
        return f"ferrox.{self.name}"

    def __reduce__(self):
        return _by_name, (self.name,)


cdef list _objects = []


def _by_name(str name):
    return _objects[_names.index(name)]


cdef dtype dtype_object(int code):
    return <dtype> _objects[code]


cdef str dtype_name(int code):
    return <str> _names[code]


cdef int as_dtype(object value) except -1:
    """The number of a dtype given as a `ferrox.dtype`, a Python type, a name or a numpy dtype: the one place to decide.

    `float` is float64, as in Python itself, in NumPy and in PyTorch, whatever the default dtype.
    """
    if type(value) is dtype:
        return (<dtype> value).code
    if value is float:
        return FX_F64
    if value is int:
        return FX_I64
    if value is bool:
        return FX_BOOL
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.dtype, type)):
        try:
            value = numpy.dtype(value).name
        except TypeError:
            pass
    if isinstance(value, str) and value in _names:
        return _names.index(value)
    raise TypeError(f"expected a dtype such as ferrox.float32, got {value!r}")


cdef int _promote(int a, int b) except -1:
    """The wider category, then the wider type; of two that hold different values of one size, the next wider one."""
    cdef int code, found = -1
    if a == b:
        return a
    if categories[a] != categories[b]:
        return a if categories[a] > categories[b] else b
    if fx_itemsize(a) != fx_itemsize(b):
        return a if fx_itemsize(a) > fx_itemsize(b) else b
    for code in range(FX_DTYPES):
        if categories[code] == categories[a] and fx_itemsize(code) > fx_itemsize(a) and fx_is_signed(code):
            if found < 0 or fx_itemsize(code) < fx_itemsize(found):
                found = code
    if found < 0:
        raise RuntimeError(f"no dtype holds the values of both {_names[a]} and {_names[b]}")
    return found


def promote_types(type1, type2):
    """The smallest dtype that both are converted to in arithmetic, as `torch.promote_types`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.promote_types(fx.int32, fx.float16)
    ferrox.float16
    """
    return dtype_object(promotions[as_dtype(type1)][as_dtype(type2)])


def get_default_dtype():
    """The dtype of floating-point tensors made without one; float32 unless set otherwise."""
    return dtype_object(default_dtype)


def set_default_dtype(d):
    """Set the dtype of floating-point tensors made without one.

    Raises
    ------
    TypeError
        If `d` is not a floating-point dtype.
    """
    global default_dtype
    cdef int code = as_dtype(d)
    if categories[code] != FLOATING:
        raise TypeError(f"[set_default_dtype] only floating-point types can be the default, got {dtype_object(code)}")
    default_dtype = code


def finfo(type=None):
    """Limits of a floating-point dtype: `.bits .eps .max .min .tiny .smallest_normal .resolution`."""
    return _FloatInfo(dtype_object(default_dtype) if type is None else dtype_object(as_dtype(type)))


def iinfo(type):
    """Limits of an integer dtype: `.bits .max .min`."""
    return _IntInfo(dtype_object(as_dtype(type)))


class _FloatInfo:
    def __init__(self, kind):
        cdef int code = (<dtype> kind).code, mantissa = fx_digits(code) - 1
        if categories[code] != FLOATING:
            raise TypeError(f"[finfo] needs a floating-point dtype, got {kind}")
        self.bits = 8 * kind.itemsize
        exponent = (1 << (self.bits - mantissa - 2)) - 1
        self.dtype = kind.name
        self.eps = 2.0 ** -mantissa
        self.max = (2.0 - self.eps) * 2.0 ** exponent
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - exponent)
        self.resolution = float(f"1e-{int(mantissa * 0.30102999566398)}")

    def __repr__(self):
        return (f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, eps={self.eps}, "
                f"smallest_normal={self.smallest_normal}, tiny={self.tiny}, dtype={self.dtype})")


class _IntInfo:
    def __init__(self, kind):
        if categories[(<dtype> kind).code] != INTEGRAL:
            raise TypeError(f"[iinfo] needs an integer dtype, got {kind}")
        self.bits = 8 * kind.itemsize
        self.dtype = kind.name
        self.min = fx_least((<dtype> kind).code)
        self.max = fx_most((<dtype> kind).code)

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


cdef int _fill_tables() except -1:
    cdef int i, j
    cdef dtype kind
    for i in range(FX_DTYPES):
        categories[i] = fx_category(i)
        kind = dtype.__new__(dtype)
        kind.code = i
        kind.name = _names[i]
        kind.itemsize = fx_itemsize(i)
        _objects.append(kind)
    for i in range(FX_DTYPES):
        for j in range(FX_DTYPES):
            promotions[i][j] = _promote(i, j)
    return 0


_fill_tables()
all_dtypes = tuple(_objects)

# What other formats call the dtypes: safetensors files, and the array interface (kind and size).
by_safetensors_name = {fx_code_name((<dtype> each).code).decode(): each for each in all_dtypes}
by_typestr = {fx_typestr((<dtype> each).code).decode(): each for each in all_dtypes}
