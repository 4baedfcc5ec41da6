"""Saving and loading of tensors, state dicts and nested containers, as safetensors files.

Note [File layout]: the tensors lie in the file as any safetensors file has them, under their dotted path, so that other
programs can read them.  The metadata holds, under ``"ferrox"``, the containers as JSON (with references to tensors by
name and a checksum of each) and a checksum of that JSON.  Nothing in a file is ever executed or unpickled.
"""

import base64
import collections
import ctypes
import json
import math
import os
import secrets
import zlib

import ferrox as fx
from ferrox._core.dtype import by_safetensors_name

__all__ = ["CheckpointError", "load", "save"]

_VERSION = 1
_KIND = "~"  # the key that marks a JSON object as an encoded value


class CheckpointError(RuntimeError):
    """A file cannot be loaded; the message names it and says what is wrong."""


def _dtype_name(dtype):
    return str(dtype).rpartition(".")[2]


# ---- encoding


class _Encoder:
    """Turns a nested object into JSON values and a dict of named tensors."""

    def __init__(self):
        self.tensors = {}
        self._names = {}  # what a tensor looks at in memory -> its name
        self._open = set()  # containers being encoded, to find cycles

    def encode(self, value, path):
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {_KIND: "float", "v": repr(float(value))}
        if isinstance(value, fx.Tensor):
            return {_KIND: "tensor", "v": self._name(value.detach(), path), "device": str(value.device)}
        if isinstance(value, bytes):
            return {_KIND: "bytes", "v": base64.b64encode(value).decode("ascii")}
        if isinstance(value, fx.dtype):
            return {_KIND: "dtype", "v": _dtype_name(value)}
        if isinstance(value, fx.device):
            return {_KIND: "device", "v": str(value)}
        if not isinstance(value, (dict, list, tuple, set, frozenset)) or hasattr(value, "_fields"):
            raise TypeError(f"[save] cannot save a {type(value).__name__} (at {_shown(path)})")
        if id(value) in self._open:
            raise ValueError(f"[save] the object contains itself (at {_shown(path)})")
        self._open.add(id(value))
        try:
            return self._encode_container(value, path)
        finally:
            self._open.discard(id(value))

    def _encode_container(self, value, path):
        if isinstance(value, dict):
            # The path of a tensor is made of the keys, as strings; the keys themselves keep their types.
            items = [[self.encode(k, path), self.encode(v, (*path, str(k)))] for k, v in value.items()]
            kinds = ((collections.OrderedDict, "odict"), (collections.Counter, "counter"))
            encoded = {_KIND: next((kind for cls, kind in kinds if isinstance(value, cls)), "dict"), "v": items}
            metadata = getattr(value, "_metadata", None)
            if isinstance(metadata, dict):  # the versions of modules in a state dict
                encoded["metadata"] = self.encode(metadata, path)
            return encoded
        items = [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, list):
            return items
        kind = "tuple" if isinstance(value, tuple) else type(value).__name__
        return {_KIND: kind, "v": items}

    def _name(self, tensor, path):
        key = id(tensor)
        if tensor.numel():
            place = (tensor.data_ptr(), str(tensor.device), str(tensor.dtype))
            key = (*place, tuple(tensor.shape), tuple(tensor.stride()))
        if key in self._names:  # the same elements again, such as tied weights: saved once
            return self._names[key]
        base = name = ".".join(path) or "tensor"
        suffix = 1
        while name in self.tensors or name == "__metadata__":
            suffix += 1
            name = f"{base}#{suffix}"
        self._names[key] = name
        self.tensors[name] = tensor
        return name


def _shown(path):
    return "obj" + "".join(f"[{key!r}]" for key in path)


# ---- raw bytes


def _n_bytes(tensor):
    return tensor.numel() * tensor.element_size()


def _crc(tensor):
    size = _n_bytes(tensor)
    return zlib.crc32((ctypes.c_char * size).from_address(tensor.data_ptr())) if size else 0


def _specs(tensors):
    """Describe contiguous CPU tensors to the safetensors package, whose newer versions take addresses."""
    import safetensors

    address_form = getattr(safetensors, "TensorSpec", None)
    specs = {}
    for name, tensor in tensors.items():
        dtype, shape, size = _dtype_name(tensor.dtype), list(tensor.shape), _n_bytes(tensor)
        if address_form is None:
            data = ctypes.string_at(tensor.data_ptr(), size) if size else b""
            specs[name] = {"dtype": dtype, "shape": shape, "data": data}
        else:
            specs[name] = address_form(
                dtype=dtype, shape=shape, data_ptr=tensor.data_ptr() if size else 1, data_len=size
            )
    return specs


def _tensor_of(code, shape, data, where):
    dtype = by_safetensors_name.get(code)
    if dtype is None:
        raise CheckpointError(f"{where} has dtype {code}, which Ferrox does not have")
    tensor = fx.empty(tuple(shape), dtype=dtype)
    if _n_bytes(tensor) != len(data):
        raise CheckpointError(f"{where} has {len(data)} bytes, but its shape {tuple(shape)} needs {_n_bytes(tensor)}")
    if data:
        ctypes.memmove(tensor.data_ptr(), bytes(data), len(data))
    return tensor


# ---- saving


def save(obj, path):
    """Write an object of nested containers, numbers, strings and tensors to a safetensors file.

    Parameters
    ----------
    obj : object
        Dicts (with keys of any of these kinds), lists, tuples, sets, numbers, strings, bytes, None, dtypes, devices and
        tensors; for instance the `state_dict` of a module and of an optimiser.
    path : str or path-like
        Where to write.  The file is complete or, if writing is interrupted at any point, what it was before.

    Raises
    ------
    TypeError
        `obj` contains something else; the message says where.

    Examples
    --------
    >>> import os, tempfile
    >>> import ferrox as fx
    >>> model = fx.nn.Linear(2, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fx.save({"model": model.state_dict(), "epoch": 3}, path)
    >>> fx.load(path)["epoch"]
    3
    """
    from safetensors import serialize_file

    path = os.path.realpath(os.fspath(path))
    encoder = _Encoder()
    structure = encoder.encode(obj, ())
    if not encoder.tensors:  # safetensors 0.4.3 writes a broken header when there is none
        encoder.tensors["none"] = fx.empty(0)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in encoder.tensors.items()}
    checks = {name: [_crc(tensor), _dtype_name(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    text = json.dumps({"version": _VERSION, "object": structure, "checks": checks}, allow_nan=False)
    metadata = {"ferrox": text, "ferrox_crc32": str(zlib.crc32(text.encode()))}

    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        serialize_file(_specs(tensors), temporary, metadata)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    _sync(folder)  # the new name itself


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- loading


def load(path, map_location=None):
    """Read what `save` wrote, or any safetensors file as a dict of tensors.

    Parameters
    ----------
    path : str or path-like
        The file.
    map_location : str, device, dict or callable, optional
        The device of the tensors; a dict from saved to wanted devices; or a function of a CPU tensor and its saved
        device (a string) that returns the tensor to use.  Default: the device each was saved from.

    Returns
    -------
    object
        Tensors that were one in memory are one again.

    Raises
    ------
    CheckpointError
        The file is truncated, damaged or not a safetensors file.
    """
    from safetensors import SafetensorError, deserialize

    path = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read()
    try:
        entries = deserialize(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({len(content)} bytes): {error}") from error
    del content

    raw = {
        name: _tensor_of(entry["dtype"], entry["shape"], entry["data"], f"{path}: tensor {name!r}")
        for name, entry in sorted(entries)
    }
    if "ferrox" not in metadata:
        return {name: _placed(tensor, "cpu", map_location) for name, tensor in raw.items()}

    text = metadata["ferrox"]
    if str(zlib.crc32(text.encode())) != metadata.get("ferrox_crc32"):
        raise CheckpointError(f"{path} is damaged: the checksum of its description does not match")
    description = json.loads(text)
    if description["version"] > _VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Ferrox (layout {description['version']}, this one reads {_VERSION})"
        )
    checks = description["checks"]
    for name in sorted(checks.keys() | raw.keys()):
        if name not in raw or name not in checks:
            raise CheckpointError(f"{path} is damaged: tensor {name!r} is {'missing' if name in checks else 'unknown'}")
        tensor = raw[name]
        if checks[name] != [_crc(tensor), _dtype_name(tensor.dtype), list(tensor.shape)]:
            raise CheckpointError(f"{path} is damaged: the checksum of tensor {name!r} does not match")

    placed = {}

    def tensor_at(name, device):
        if name not in placed:
            placed[name] = _placed(raw[name], device, map_location)
        return placed[name]

    return _decode(description["object"], tensor_at)


def _placed(tensor, saved, map_location):
    if callable(map_location):
        return map_location(tensor, saved)
    if isinstance(map_location, dict):
        target = map_location.get(saved, saved)
    else:
        target = saved if map_location is None else map_location
    if str(target) == "cpu":
        return tensor
    try:
        return tensor.to(target)
    except RuntimeError as failure:
        if map_location is not None or fx.cuda.is_available():
            raise
        raise RuntimeError(f"[load] The file has tensors of {saved}.  {failure}  With map_location=\"cpu\" they are "
                           "loaded to the CPU.") from None


def _decode(value, tensor_at):
    if isinstance(value, list):
        return [_decode(item, tensor_at) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = value[_KIND], value["v"]
    if kind == "tensor":
        return tensor_at(content, value["device"])
    if kind == "float":
        return float(content)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "dtype":
        return getattr(fx, content)
    if kind == "device":
        return fx.device(content)
    if kind in ("dict", "odict", "counter"):
        items = {_decode(key, tensor_at): _decode(item, tensor_at) for key, item in content}
        if kind == "dict":
            return items
        if kind == "counter":
            return collections.Counter(items)
        ordered = _OrderedDict(items) if "metadata" in value else collections.OrderedDict(items)
        if "metadata" in value:
            ordered._metadata = _decode(value["metadata"], tensor_at)
        return ordered
    make = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return make(_decode(item, tensor_at) for item in content)


class _OrderedDict(collections.OrderedDict):
    """A loaded state dict, which carries `_metadata` beside its entries."""
