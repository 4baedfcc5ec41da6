"""Nested Python objects as JSON values that refer to tensors by name."""

import base64
import collections
import math
import sys

import ferrox as fx
from ferrox._core.dtype import by_safetensors_name
from ferrox.io._safetensors import METADATA

KIND = "~"  # the key that marks a JSON object as an encoded value
_TENSOR_DTYPES = {dtype.name for dtype in by_safetensors_name.values()}
_CONTAINERS = (dict, list, tuple, set, frozenset)


class Encoder:
    """Turns a nested object into JSON values and a dict of named tensors."""

    def __init__(self):
        self.tensors = {}
        self._names = {}  # what a tensor looks at in memory -> its name
        self._open = set()  # containers being encoded, to find cycles

    def encode(self, value, path):
        """Return the JSON value of `value`, which lies at `path`, a tuple of names."""
        if value is None or isinstance(value, bool) or type(value) is str:
            return value
        if isinstance(value, fx.Tensor):
            return self._tensor(value, path)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return self._array(value, path)
        for cls, encode in _SCALARS:
            if isinstance(value, cls):
                return encode(value)
        if not isinstance(value, _CONTAINERS) or hasattr(value, "_fields"):
            raise TypeError(f"[save] cannot save a {type(value).__name__} (at {_shown(path)}){_way_on(value)}")
        if id(value) in self._open:
            raise ValueError(f"[save] the object contains itself (at {_shown(path)})")
        self._open.add(id(value))
        try:
            return self._container(value, path)
        finally:
            self._open.discard(id(value))

    def _container(self, value, path):
        if isinstance(value, dict):
            # The path of a tensor is made of the keys, as strings; the keys themselves keep their types.
            items = [[self.encode(k, path), self.encode(v, (*path, str(k)))] for k, v in value.items()]
            kinds = ((collections.OrderedDict, "odict"), (collections.Counter, "counter"))
            encoded = {KIND: next((kind for cls, kind in kinds if isinstance(value, cls)), "dict"), "v": items}
            metadata = getattr(value, "_metadata", None)
            if isinstance(metadata, dict):  # the versions of modules in a state dict
                encoded["metadata"] = self.encode(metadata, path)
            return encoded
        items = [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, list):
            return items
        if fx.Size is not tuple and isinstance(value, fx.Size):
            return {KIND: "size", "v": items}
        kinds = ((tuple, "tuple"), (set, "set"), (frozenset, "frozenset"))
        return {KIND: next(kind for cls, kind in kinds if isinstance(value, cls)), "v": items}

    def _tensor(self, value, path):
        encoded = {KIND: "tensor", "v": self._name(value.detach(), path), "device": str(value.device)}
        if value.requires_grad:
            encoded["requires_grad"] = True
        if _is_parameter(value):
            encoded["parameter"] = True
        return encoded

    def _array(self, value, path):
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"[save] cannot save a NumPy array of {value.dtype} (at {_shown(path)})")
        numpy = sys.modules["numpy"]
        if isinstance(value, numpy.generic):
            content = base64.b64encode(value.tobytes()).decode("ascii")
            return {KIND: "numpy scalar", "v": content, "dtype": value.dtype.str}
        if type(value) not in (numpy.ndarray, numpy.memmap):
            raise TypeError(f"[save] cannot save a {type(value).__name__} (at {_shown(path)}): save a plain array")
        value = numpy.asarray(value)
        encoded = {KIND: "ndarray", "dtype": value.dtype.str, "shape": list(value.shape)}
        if value.dtype.isnative and str(value.dtype) in _TENSOR_DTYPES:
            contiguous = value.flags.writeable and all(stride >= 0 for stride in value.strides)
            tensor = fx.as_tensor(value if contiguous else value.copy())
        else:  # as bytes: a dtype that tensors do not have
            tensor = fx.as_tensor(numpy.frombuffer(bytearray(value.tobytes()), numpy.uint8))
        return {**encoded, "v": self._name(tensor, path)}

    def _name(self, tensor, path):
        key = id(tensor)
        if tensor.numel():
            place = (tensor.data_ptr(), str(tensor.device), str(tensor.dtype))
            key = (*place, tuple(tensor.shape), tuple(tensor.stride()))
        if key in self._names:  # the same elements again, such as tied weights: saved once
            return self._names[key]
        base = name = ".".join(path) or "tensor"
        suffix = 1
        while name in self.tensors or name == METADATA:
            suffix += 1
            name = f"{base}#{suffix}"
        self._names[key] = name
        self.tensors[name] = tensor
        return name


def _int(value):
    # In hexadecimal what is long: the digits of decimals are limited.
    return int(value) if -(1 << 63) <= value < 1 << 64 else {KIND: "int", "v": hex(value)}


def _float(value):
    return float(value) if math.isfinite(value) else {KIND: "float", "v": repr(float(value))}


# Subclasses too, such as members of an IntEnum, as what they are to JSON.
_SCALARS = (
    (int, _int),
    (float, _float),
    (str, str.__str__),
    (complex, lambda value: {KIND: "complex", "v": [_float(value.real), _float(value.imag)]}),
    (bytes, lambda value: {KIND: "bytes", "v": base64.b64encode(value).decode("ascii")}),
    (bytearray, lambda value: {KIND: "bytearray", "v": base64.b64encode(value).decode("ascii")}),
    (fx.dtype, lambda value: {KIND: "dtype", "v": value.name}),
    (fx.device, lambda value: {KIND: "device", "v": str(value)}),
)


def _is_parameter(value):
    parameters = sys.modules.get("ferrox.nn.parameter")
    return parameters is not None and isinstance(value, parameters.Parameter)


def _shown(path):
    return "obj" + "".join(f"[{key!r}]" for key in path)


def _way_on(value):
    if callable(getattr(value, "state_dict", None)):
        return ": save its state_dict()"
    if hasattr(value, "_asdict"):
        return ": save its _asdict(), or tuple() of it"
    return ": a file holds tensors, NumPy arrays, numbers, strings, bytes, None, dtypes, devices, and dicts, lists, " \
           "tuples and sets of them"


def decode(value, tensor_at):
    """Return the object of a JSON value; ``tensor_at(name, encoded)`` gives the tensors."""
    if isinstance(value, list):
        return [decode(item, tensor_at) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = value[KIND], value["v"]
    if kind == "tensor":
        return tensor_at(content, value)
    if kind in ("dict", "odict", "counter"):
        return _decoded_dict(kind, value, tensor_at)
    if kind in ("ndarray", "numpy scalar"):
        return _decoded_array(value, tensor_at)
    if kind in ("tuple", "set", "frozenset", "size"):
        make = {"tuple": tuple, "set": set, "frozenset": frozenset, "size": fx.Size}[kind]
        return make(decode(item, tensor_at) for item in content)
    return {
        "float": float,
        "int": lambda text: int(text, 16),
        "complex": lambda parts: complex(*(decode(part, tensor_at) for part in parts)),
        "bytes": base64.b64decode,
        "bytearray": lambda text: bytearray(base64.b64decode(text)),
        "dtype": lambda name: getattr(fx, name),
        "device": fx.device,
    }[kind](content)


def _decoded_dict(kind, value, tensor_at):
    items = {decode(key, tensor_at): decode(item, tensor_at) for key, item in value["v"]}
    if kind == "dict":
        return items
    if kind == "counter":
        return collections.Counter(items)
    ordered = _OrderedDict(items) if "metadata" in value else collections.OrderedDict(items)
    if "metadata" in value:
        ordered._metadata = decode(value["metadata"], tensor_at)
    return ordered


def _decoded_array(value, tensor_at):
    import numpy

    dtype = numpy.dtype(value["dtype"])
    if value[KIND] == "numpy scalar":
        content = base64.b64decode(value["v"])
        return numpy.frombuffer(content, dtype)[0] if dtype.itemsize else dtype.type()
    tensor = tensor_at(value["v"], {"device": "numpy"})
    return tensor.numpy().view(dtype).reshape(value["shape"]) if tensor.numel() else numpy.empty(value["shape"], dtype)


class _OrderedDict(collections.OrderedDict):
    """A loaded state dict, which carries `_metadata` beside its entries."""
