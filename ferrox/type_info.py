"""Questions about tensors and dtypes: `ferrox.is_tensor`, `ferrox.result_type`, …"""
import builtins

from ferrox._core.api.tensorclass import Tensor
from ferrox._core.dtype import dtype, get_default_dtype, promote_types

__all__ = ["can_cast", "is_complex", "is_floating_point", "is_nonzero", "is_tensor", "numel", "result_type", "typename"]


def is_tensor(obj):
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input):
    """Whether a tensor's dtype is floating point."""
    return input.is_floating_point()


def is_complex(input):
    """Whether a tensor's dtype is complex; Ferrox has no such dtypes."""
    return input.is_complex()


def is_nonzero(input):
    """Whether the only element of a tensor is not zero.

    Raises
    ------
    RuntimeError
        When it has not exactly one element.
    """
    return bool(input)


def numel(input):
    """Number of elements of a tensor."""
    return input.numel()


def typename(obj):
    """The name of an object's type; of a tensor "ferrox.FloatTensor" and the like."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    module = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
    return module + kind.__qualname__


def _category(kind):
    return 2 if kind.is_floating_point else 0 if kind.name == "bool" else 1


def result_type(tensor1, tensor2):
    """The dtype of the result of arithmetic between two tensors or numbers.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.result_type(fx.tensor([1, 2], dtype=fx.int32), 1.0)
    ferrox.float32
    """
    # Tensors with dimensions decide, then those without, then numbers; a later group counts in a higher category only.
    groups = [None, None, None]
    for value in (tensor1, tensor2):
        if isinstance(value, Tensor):
            at, kind = (0 if value.ndim else 1), value.dtype
        else:
            at, kind = 2, _number_dtype(value)
        groups[at] = kind if groups[at] is None else promote_types(groups[at], kind)
    found = None
    for kind in groups:
        if kind is not None and (found is None or _category(kind) > _category(found)):
            found = kind
    return found


def _number_dtype(value):
    import ferrox

    if isinstance(value, builtins.bool):
        return ferrox.bool
    if isinstance(value, builtins.int):
        return ferrox.int64
    if isinstance(value, builtins.float):
        return get_default_dtype()
    raise TypeError(f"[result_type] expected tensors or numbers, got {type(value).__name__}")


def can_cast(from_, to):
    """Whether arithmetic may cast one dtype to the other: never from floating point to integers, nor to bool.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.can_cast(fx.float32, fx.int64)
    False
    """
    for kind in (from_, to):
        if not isinstance(kind, dtype):
            raise TypeError(f"[can_cast] expected a dtype, got {type(kind).__name__}")
    return _category(from_) <= _category(to)
