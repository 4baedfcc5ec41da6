"""Methods of Tensor that are no operators: conversions, in-place fills, and the finer points of autograd.

`METHODS` goes into the class as it is (api/public.py).
"""
import sys
from importlib import import_module

from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from ferrox._core.dtype import all_dtypes
from ferrox._core.graph.hooks import Handle
from ferrox._core.graph.tracking import adopt
from ferrox._core.abi cimport FX_AUTO, FX_BF16, FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_CUDA, FX_F16, FX_F32, FX_F64, \
    FX_I8, FX_I16, FX_I32, FX_I64, FX_MAX_DIMS, FX_U8, fx_itemsize
from ferrox._core.door.device cimport as_device, device as _device, device_object
from ferrox._core.door.dispatch cimport check_memory, count_change
from ferrox._core.dtype cimport as_dtype, dtype_name, dtype_object
from ferrox._core.graph.node cimport Node, grad_enabled, history_of, record, retain, rule, take_over
from ferrox._core.tensor.interchange cimport numpy_array, to_numpy
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.elementwise cimport as_operand, assign, in_place_operators
from ferrox._core.ops.shape cimport contiguous, to_dtype
from ferrox._core.memory.storage cimport storage_foreign
from ferrox._core.tensor.base cimport TensorBase, alias, bare, needs_grad, new_like
from ferrox._core.tensor.frame cimport converted, fill
from ferrox._core.tensor.values cimport element, moved, nested, transfer

METHODS = {}
cdef frozenset _dtype_names = frozenset([each.name for each in all_dtypes])


def _method(function):
    METHODS[function.__name__] = function
    return function


# To Python

@_method
def item(self):
    """The only element as a Python number.

    Raises
    ------
    RuntimeError
        When the tensor has not exactly one element.
    """
    return element(<TensorBase?> self)


@_method
def tolist(self):
    """The elements as nested lists; a number for a tensor without dimensions."""
    return nested(<TensorBase?> self, -1)


@_method
def numpy(self, *, force=False):
    """A NumPy array on the same memory.

    Parameters
    ----------
    force : bool, default False
        Take `self.detach().cpu()` first, where that is needed.
    """
    return to_numpy(<TensorBase?> self, force)


@_method
def __array__(self, dtype=None, *, copy=None):
    array = to_numpy(<TensorBase?> self, False)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError(f"a tensor of {self.dtype} cannot become an array of {dtype} without a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


@_method
def __array_wrap__(self, array, context=None, return_scalar=False):
    import numpy

    return numpy_array(numpy.asarray(array))


# Dtype and device

cdef object _move_vjp(Node n, object g):
    return _moved(<TensorBase> g, n.params[0], n.params[1])

cdef Op MOVE = row("_to_device", rule=rule(_move_vjp), public=False, doc="A copy on another device.")


cdef enum:
    OWN_STREAM = 1 << 20    # bytes from which a copy that nobody waits for goes beside other work


cdef object _cuda(str name):
    """A module of the CUDA backend, which is opened; RuntimeError where there is none."""
    as_device("cuda")
    return import_module(f"ferrox._core.cuda.{name}")


cdef bint _is_pinned(TensorBase x):
    """Without opening the CUDA backend: what it has not seen it has not pinned."""
    transfers = sys.modules.get("ferrox._core.cuda.transfer")
    return transfers is not None and x.a.device_type == FX_CPU and transfers.is_pinned(<size_t> x.a.data)


cdef TensorBase _pinned_like(TensorBase x):
    """A fresh contiguous tensor of x's shape and dtype in page-locked memory of the host."""
    cdef size_t size = <size_t> (x.a.numel * fx_itemsize(x.a.dtype)), address
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t step = 1
    cdef int d
    for d in range(x.a.ndim - 1, -1, -1):
        strides[d] = step
        step *= max(x.a.dims[d], <int64_t> 1)
    block = _cuda("pinned").PinnedBlock(size)
    address = block.address
    cdef TensorBase out = bare(x.a.ndim, x.a.dims, strides, x.a.dtype)
    out.a.storage = storage_foreign(<void *> address, size, block, FX_CPU, 0)
    out.a.data = out.a.storage.data
    out.a.device_type = FX_CPU
    out.a.device_index = 0
    return out


cdef TensorBase _sent(TensorBase x, int device_type, int device_index):
    """`moved`, but the host does not wait where it need not."""
    cdef TensorBase out
    if device_type == FX_CPU:
        out = _pinned_like(x)
        transfer(out, x if x.a.flags & FX_CONTIGUOUS else converted(x, x.a.dtype), False)
        return out
    if x.a.numel * fx_itemsize(x.a.dtype) < OWN_STREAM or not x.a.flags & FX_CONTIGUOUS or not _is_pinned(x):
        return moved(x, device_type, device_index, False)
    with _cuda("transfer").upload(device_index) as upload:
        out = moved(x, device_type, device_index, False)
    upload.received(<size_t> out.a.storage.data)
    return out


cdef TensorBase _moved(TensorBase x, int device_type, int device_index, bint wait=True):
    cdef PyObject *inputs[1]
    cdef TensorBase out
    if wait or x.a.device_type == device_type or x.a.device_type == FX_AUTO or device_type == FX_AUTO:
        out = moved(x, device_type, device_index)
    else:
        out = _sent(x, device_type, device_index)
    if grad_enabled() and needs_grad(x):
        inputs[0] = <PyObject *> x
        record(MOVE, inputs, 1, out, (x.a.device_type, x.a.device_index))
    return out


cdef TensorBase _common_device(str name, PyObject **inputs, int n, list held):
    """The first tensor that is not on the CPU, when others are: those may be single values without dimensions.

    The kernels read such a value from the host.  One that requires a gradient is replaced by a recorded copy on the
    GPU, put into `held`, so that its gradient comes back to where it is.
    """
    cdef TensorBase like = None, t
    cdef int i
    for i in range(n):
        if like is None and isinstance(<object> inputs[i], TensorBase) \
                and (<TensorBase> inputs[i]).a.device_type != FX_CPU:
            like = <TensorBase> inputs[i]
    for i in range(n):
        if not isinstance(<object> inputs[i], TensorBase):
            continue
        t = <TensorBase> inputs[i]
        if t.a.device_type != like.a.device_type:
            if t.a.ndim or t.a.device_type != FX_CPU:
                raise RuntimeError(f"[{name}] Expected all tensors to be on the same device, but found at least two "
                                   f"devices, {like.device} and {t.device}!")
            if needs_grad(t) and grad_enabled():
                t = _moved(t, like.a.device_type, like.a.device_index)
                held.append(t)
                inputs[i] = <PyObject *> t
    return like

in_place_operators.common_device = _common_device


cdef TensorBase converted_to(TensorBase x, int code, _device place, bint copy, bint wait=True):
    """x itself where nothing has to change, else a recorded copy; `place` may be None."""
    cdef TensorBase out = x
    if place is not None and (place.type_code != x.a.device_type
                              or (place.has_index and place.index_code != x.a.device_index)):
        if fx_itemsize(code) <= fx_itemsize(x.a.dtype):
            out = to_dtype(out, code)
        out = _moved(out, place.type_code, place.index_code, wait)
    out = to_dtype(out, code)
    if out is x and copy:
        out = registry["clone"](x)
    return out


@_method
def to(self, *args, dtype=None, device=None, other=None, non_blocking=False, copy=False):
    """The tensor in another dtype or on another device: `to(dtype)`, `to(device, dtype)`, `to(other)`.

    Parameters
    ----------
    dtype, device : optional
        What to convert to; what is not given stays.
    other : Tensor, optional
        Take dtype and device of this one.
    non_blocking : bool, default False
        Do not wait for a copy between pinned memory and a GPU.  A result in host memory is then pinned, and holds its
        values once the GPU's current stream has been waited for.
    copy : bool, default False
        Copy even where nothing changes.

    Returns
    -------
    Tensor
        `self` where nothing changes.
    """
    cdef TensorBase x = <TensorBase?> self
    cdef int at = 0
    if args:
        first = args[0]
        if isinstance(first, TensorBase):
            other = first
            at = 1
        elif first is None or type(first) in (int, _device_class) \
                or (isinstance(first, str) and first not in _dtype_names):
            device = first
            at = 1
            if len(args) > 1 and not isinstance(args[1], bool):
                dtype = args[1]
                at = 2
        else:
            dtype = first
            at = 1
        if len(args) > at:
            non_blocking = args[at]
        if len(args) > at + 1:
            copy = args[at + 1]
        if len(args) > at + 2:
            raise TypeError(f"to() takes at most {at + 2} positional arguments here, got {len(args)}")
    if other is not None:
        dtype = (<TensorBase?> other).dtype if dtype is None else dtype
        device = other.device if device is None else device
    return converted_to(x, x.a.dtype if dtype is None else as_dtype(dtype),
                        None if device is None else as_device(device), copy, not non_blocking)


def _cast(str name, int code):
    def method(self):
        return to_dtype(<TensorBase?> self, code)
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor in {dtype_name(code)}; itself if it is already."
    METHODS[name] = method


for _name, _code in (("float", FX_F32), ("double", FX_F64), ("half", FX_F16), ("bfloat16", FX_BF16), ("int", FX_I32),
                     ("long", FX_I64), ("short", FX_I16), ("char", FX_I8), ("byte", FX_U8), ("bool", FX_BOOL)):
    _cast(_name, _code)

_legacy = {"BoolTensor": FX_BOOL, "ByteTensor": FX_U8, "CharTensor": FX_I8, "ShortTensor": FX_I16, "IntTensor": FX_I32,
           "LongTensor": FX_I64, "HalfTensor": FX_F16, "BFloat16Tensor": FX_BF16, "FloatTensor": FX_F32,
           "DoubleTensor": FX_F64}


def _type(self, dtype=None, non_blocking=False):
    """The name of the tensor's type, such as "ferrox.FloatTensor"; with `dtype`, the tensor converted to it."""
    cdef TensorBase x = <TensorBase?> self
    if dtype is None:
        middle = "" if x.a.device_type == FX_CPU else x.device.type + "."
        return f"ferrox.{middle}" + next(name for name, code in _legacy.items() if code == x.a.dtype)
    device = x.device
    if isinstance(dtype, str):
        where, dot, name = dtype.rpartition(".")
        if name in _legacy:
            dtype = dtype_object(_legacy[name])
            kind = where.partition(".")[2] or "cpu"
            if dot and kind != device.type:
                device = as_device(kind)
    return converted_to(x, as_dtype(dtype), device, False, not non_blocking)


METHODS["type"] = _type


@_method
def type_as(self, other):
    """The tensor in the dtype of another, on its device."""
    cdef TensorBase like = <TensorBase?> other
    return converted_to(<TensorBase?> self, like.a.dtype, device_object(like.a.device_type, like.a.device_index), False)


@_method
def cpu(self):
    """The tensor in host memory; itself if it is there."""
    cdef TensorBase x = <TensorBase?> self
    return converted_to(x, x.a.dtype, device_object(0, 0), False)


@_method
def cuda(self, device=None, non_blocking=False):
    """The tensor on a GPU; itself if it is there."""
    cdef TensorBase x = <TensorBase?> self
    return converted_to(x, x.a.dtype, as_device("cuda" if device is None else device), False, not non_blocking)


@_method
def get_device(self):
    """The number of the GPU it is on, -1 for the CPU and "auto"."""
    cdef TensorBase x = <TensorBase?> self
    return x.a.device_index if x.a.device_type == FX_CUDA else -1


def _contiguous(self, *, memory_format=None):
    """The tensor with its elements in order, one after the other, in memory; itself if they are."""
    return contiguous(<TensorBase?> self)


METHODS["contiguous"] = _contiguous


@_method
def pin_memory(self, device=None):
    """The tensor in page-locked memory of the host, which a GPU copies from and to by itself; itself if it is there."""
    cdef TensorBase x = <TensorBase?> self, out
    cdef PyObject *inputs[1]
    if x.a.device_type != FX_CPU:
        raise RuntimeError(f"[pin_memory] only memory of the host can be pinned, the tensor is on {x.device}")
    if _is_pinned(x):
        return self
    out = _pinned_like(x)
    transfer(out, x if x.a.flags & FX_CONTIGUOUS else converted(x, x.a.dtype), True)
    if grad_enabled() and needs_grad(x):
        inputs[0] = <PyObject *> x
        record(MOVE, inputs, 1, out, (x.a.device_type, x.a.device_index))
    return out


@_method
def is_pinned(self, device=None):
    """Whether the tensor is in page-locked memory of the host."""
    return _is_pinned(<TensorBase?> self)


@_method
def record_stream(self, s):
    """Do not hand out the tensor's memory again, once it is freed, before stream `s` has done what it has been given.

    For a tensor that was made on one stream and is used on another.
    """
    cdef TensorBase x = <TensorBase?> self
    if x.a.device_type != FX_CUDA:
        raise RuntimeError(f"[record_stream] the tensor is on {x.device}, whose memory belongs to no stream")
    if x.a.storage.owner == NULL:
        _cuda("device_memory").record_stream(<size_t> x.a.storage.data, x.a.device_index, s)


# Elements in place

cdef Op COPY = Op("copy_")
cdef Op FILL = Op("fill_")


@_method
def copy_(self, src, non_blocking=False):
    """Overwrite the elements with those of `src`, which is broadcast and cast; returns self."""
    cdef TensorBase target = <TensorBase?> self
    cdef TensorBase source
    cdef size_t dims
    if isinstance(src, TensorBase):
        source = <TensorBase> src
    else:
        source = as_operand(src, "copy_")
    cdef bint grad = grad_enabled() and (needs_grad(target) or needs_grad(source))
    if source is target:
        return self
    if source.a.device_type != target.a.device_type or source.a.device_index != target.a.device_index:
        dims = sizeof(int64_t) * <size_t> target.a.ndim
        if not grad and source.a.dtype == target.a.dtype and source.a.ndim == target.a.ndim \
                and memcmp(source.a.dims, target.a.dims, dims) == 0 \
                and source.a.flags & target.a.flags & FX_CONTIGUOUS:
            check_memory("copy_", &target.a)
            transfer(target, source, not non_blocking)
            count_change("copy_", &target.a)
            return self
        source = _moved(source, target.a.device_type, target.a.device_index)
    if source.a.dtype != target.a.dtype:
        source = to_dtype(source, target.a.dtype)
    if grad and source.grad_fn == NULL and source.requires_grad_:
        source = registry["clone"](source)      # the target takes over a history, which a leaf has not
    assign(COPY, target, source)
    return self


@_method
def fill_(self, value):
    """Set every element to a number or to the one element of a tensor; returns self."""
    cdef TensorBase target = <TensorBase?> self
    cdef TensorBase filled
    if isinstance(value, TensorBase):
        if (<TensorBase> value).a.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{(<TensorBase> value).a.ndim} dimensions.")
        if grad_enabled() and needs_grad(<TensorBase> value):
            return copy_(self, value)
        value = element(<TensorBase> value)
    elif not isinstance(value, (int, float)) and hasattr(value, "item"):
        value = value.item()
    if grad_enabled() and needs_grad(target):
        filled = new_like(target, target.a.dtype)
        fill("fill_", filled, value, True)
        return assign(FILL, target, filled)
    fill("fill_", target, value, False)
    return self


@_method
def zero_(self):
    """Set every element to zero; returns self."""
    return fill_(self, 0)


# Autograd

@_method
def detach(self):
    """The same elements outside the graph; in-place changes are seen by both."""
    return alias(<TensorBase?> self)


@_method
def detach_(self):
    """Cut the tensor off from its history, making it a leaf; returns self."""
    cdef TensorBase x = <TensorBase?> self
    if x.base != NULL:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    take_over(x, NULL, 0)
    x.history += 1
    (<TensorBase> x).requires_grad_ = False
    return self


@_method
def retain_grad(self):
    """Have backward store the gradient of this non-leaf tensor in `.grad`."""
    cdef TensorBase x = <TensorBase?> self
    if not needs_grad(x):
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if history_of(x) is not None and not _retains(x):
        retain(x)


cdef bint _retains(TensorBase x):
    return x.meta is not None and x.meta.get("retains_grad", False) and x.grad_fn != NULL


@_method
def register_post_accumulate_grad_hook(self, hook):
    """Call `hook(self)` whenever backward has added to the `.grad` of this leaf; returns a handle with `remove()`."""
    cdef TensorBase x = <TensorBase?> self
    if not needs_grad(x):
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if x.grad_fn != NULL:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    x.meta = {} if x.meta is None else x.meta
    adopt((x, hook), 0)
    return Handle(x.meta.setdefault("post_hooks", []), hook)


def _property(function):
    METHODS[function.__name__] = property(function, doc=function.__doc__)
    return function


@_property
def retains_grad(self):
    """Whether `retain_grad` was asked of this non-leaf tensor."""
    return _retains(<TensorBase?> self)


@_property
def output_nr(self):
    """Which output of `grad_fn` it is."""
    return (<TensorBase?> self).output


_device_class = as_device("cpu").__class__
