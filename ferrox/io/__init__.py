"""Saving and loading of tensors, state dicts and nested containers, as safetensors files.

Note [File layout]: the tensors lie in the file as any safetensors file has them, under their dotted path, so that other
programs can read them.  The metadata holds, under ``"ferrox"``, the containers as JSON (with references to tensors by
name and a checksum of each) and, under ``"ferrox_check"``, a checksum of the whole header, made with zeros in its own
place.  Nothing in a file is ever executed or unpickled.
"""

import contextlib
import errno
import io
import json
import os
import re
import secrets
import stat
import zlib
from typing import TYPE_CHECKING, Any

import ferrox as fx
from ferrox.io import _safetensors as safetensors
from ferrox.io._foreign import recognised
from ferrox.io._safetensors import FormatError, bytes_of
from ferrox.io._structure import Encoder, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import IO, TypeAlias

    _File: TypeAlias = str | os.PathLike[str] | IO[bytes]
    _Location: TypeAlias = (
        str | fx.device | Mapping[str, str] | Callable[[fx.Tensor, str], fx.Tensor | None] | None
    )

__all__ = ["CheckpointError", "load", "save"]

_VERSION = 2
_CHECK = re.compile(rb'(?<="ferrox_check":")[0-9a-f]{8}(?=")')


class CheckpointError(RuntimeError):
    """A file cannot be loaded; the message names it and says what is wrong."""


def _crc(tensor):
    return zlib.crc32(bytes_of(tensor))


# ---- saving


def save(obj: Any, f: "_File") -> None:
    """Write an object of nested containers, numbers, strings, tensors and arrays to a safetensors file.

    Parameters
    ----------
    obj : object
        Dicts (with keys of any of these kinds), lists, tuples, sets, numbers, strings, bytes, None, dtypes, devices,
        NumPy arrays and scalars, and tensors; for instance the `state_dict` of a module and of an optimiser.  Tensors
        that are the same elements, such as tied weights, are written once and load as one; other views are written as
        tensors of their own.
    f : str, path-like or binary file object
        Where to write.  A file given by its path is complete or, if writing fails or is interrupted at any point, what
        it was before.

    Raises
    ------
    TypeError
        `obj` contains something else; the message says where.
    OSError
        The file cannot be written: no such folder, a full disk, no permission.

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
    _check_file(f, "save", "write")
    encoder = Encoder()
    try:
        structure = encoder.encode(obj, ())
    except RecursionError:
        raise ValueError("[save] the object is nested too deep") from None
    tensors = {name: tensor.cpu().contiguous() for name, tensor in encoder.tensors.items()}
    checks = {name: [_crc(tensor), tensor.dtype.name, list(tensor.shape)] for name, tensor in tensors.items()}
    text = json.dumps({"version": _VERSION, "object": structure, "checks": checks}, allow_nan=False)
    head, ordered = safetensors.header(tensors, {"ferrox": text, "ferrox_check": "0" * 8})
    head = head[:8] + _CHECK.sub(_header_crc(head[8:]), head[8:], count=1)
    if hasattr(f, "write"):
        safetensors.write(f, head, ordered)
        return
    path = os.path.realpath(os.fsdecode(f))
    try:
        _write_path(path, head, ordered)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"[save] {os.strerror(error.errno)}", os.fspath(f)) from error


def _header_crc(text):
    return b"%08x" % zlib.crc32(_CHECK.sub(b"0" * 8, text, count=1))


def _write_path(path, head, tensors):
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if mode is not None and not stat.S_ISREG(mode):  # a device or a pipe is written to, not replaced
        with open(path, "wb", buffering=0) as file:
            safetensors.write(file, head, tensors)
        return
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        # The mode of a new file, which the umask narrows, or of the file that was there.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb", buffering=0) as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            safetensors.write(file, head, tensors)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # a folder that may be written but not read
        _sync(folder)  # the new name itself


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_file(f, function, method):
    if isinstance(f, io.TextIOBase):
        raise TypeError(f"[{function}] the file object is open for text: open it in binary mode")
    if not hasattr(f, method) and not isinstance(f, (str, bytes, os.PathLike)):
        raise TypeError(
            f"[{function}] expected a path or a binary file object with {method}(), got {type(f).__name__}"
        )


# ---- loading


def load(f: "_File", map_location: "_Location" = None, *, weights_only: bool = True, mmap: bool | None = None) -> Any:
    """Read what `save` wrote, or any safetensors file as a dict of tensors.

    Parameters
    ----------
    f : str, path-like or binary file object
        The file; a file object is read from where it stands to the end of what was saved.
    map_location : str, device, dict or callable, optional
        The device of the tensors; a dict from saved to wanted devices; or a function of a CPU tensor and its saved
        device (a string) that returns the tensor to use, or None for the saved device.  Default: the device each was
        saved from.
    weights_only, mmap : bool, optional
        Accepted for PyTorch's sake: nothing in a file is ever executed, and tensors are read at once.

    Returns
    -------
    object
        Tensors that were one in memory are one again.

    Raises
    ------
    CheckpointError
        The file is truncated, damaged or not a safetensors file.
    """
    _check_file(f, "load", "read")
    if hasattr(f, "read"):
        return _load(f, None, str(getattr(f, "name", type(f).__name__)), map_location)
    with open(f, "rb") as file:
        return _load(file, os.fstat(file.fileno()).st_size, os.fsdecode(f), map_location)


def _load(file, size, path, map_location):
    regular = size is not None and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    start = _Start(file)
    try:
        text, metadata, entries = safetensors.read_header(start, size if regular else None)
    except FormatError as error:
        what = recognised(start.read_so_far())
        if what is not None:
            raise CheckpointError(f"[load] {path} is not a safetensors file; {what}") from None
        length = f" ({size} bytes)" if regular else ""
        raise CheckpointError(f"[load] {path} is not a whole safetensors file{length}: {error}") from None
    start.stop()
    description = _description(text, metadata, path)
    raw = {}
    try:
        for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
            raw[name] = safetensors.read_tensor(file, name, entry)
    except FormatError as error:
        raise CheckpointError(f"[load] {path}: {error}") from None
    if description is None:
        return {name: _placed(_only_bits(raw[name]), "cpu", map_location) for name in sorted(raw)}

    checks = description["checks"]
    for name in sorted(checks.keys() | raw.keys()):
        if name not in raw or name not in checks:
            missing = name in checks
            raise CheckpointError(f"[load] {path} is damaged: tensor {name!r} is {'missing' if missing else 'unknown'}")
        tensor = raw[name]
        if checks[name] != [_crc(tensor), tensor.dtype.name, list(tensor.shape)]:
            raise CheckpointError(f"[load] {path} is damaged: the checksum of tensor {name!r} does not match")
    return decode(description["object"], _Tensors(raw, map_location))


class _Start:
    """Reads a file and remembers how it began, for a file that turns out to be of another kind."""

    def __init__(self, file):
        self._file = file
        self._kept = b""

    def read(self, count):
        content = self._file.read(count)
        if self._kept is not None and len(self._kept) < 4096:
            self._kept += content[:4096]
        return content

    def read_so_far(self):
        if len(self._kept) < 4096:
            self._kept += safetensors.read_exactly(self._file, 4096 - len(self._kept))
        return self._kept

    def stop(self):
        self._kept = None


def _description(text, metadata, path):
    """Return what Ferrox wrote of the structure, or None for another's file; every bit of the header is checked."""
    if "ferrox" not in metadata and "ferrox_check" not in metadata:
        return None
    damaged = f"[load] {path} is damaged: the checksum of its description does not match"
    found = _CHECK.search(text)
    if found is not None:
        if found[0] != _header_crc(text) or "ferrox" not in metadata:
            raise CheckpointError(damaged)
    elif str(zlib.crc32(metadata.get("ferrox", "").encode())) != metadata.get("ferrox_crc32"):  # layout 1
        raise CheckpointError(damaged)
    description = json.loads(metadata["ferrox"])
    if description["version"] > _VERSION:
        raise CheckpointError(
            f"[load] {path} was written by a newer Ferrox (layout {description['version']}, this one reads {_VERSION})"
        )
    if (description["version"] == 1) != (found is None):
        raise CheckpointError(damaged)
    return description


class _Tensors:
    """Gives out the tensors of a file, each made once for each way in which it was saved."""

    def __init__(self, raw, map_location):
        self._raw = raw
        self._map_location = map_location
        self._placed = {}
        self._made = {}

    def __call__(self, name, encoded):
        device = encoded["device"]
        if device == "numpy":
            return self._raw[name]
        requires_grad, parameter = encoded.get("requires_grad", False), encoded.get("parameter", False)
        key = (name, requires_grad, parameter)
        if key not in self._made:
            if name not in self._placed:
                self._placed[name] = _placed(_only_bits(self._raw[name]), device, self._map_location)
            tensor = self._placed[name]
            if parameter:
                tensor = fx.nn.Parameter(tensor, requires_grad)
            elif requires_grad:
                tensor = tensor.detach().requires_grad_()
            self._made[key] = tensor
        return self._made[key]


def _only_bits(tensor):
    """Return a bool tensor with 1 for every byte that is not 0, others as they are: another's file may hold any."""
    if tensor.dtype != fx.bool or not tensor.numel():
        return tensor
    content = bytes_of(tensor)
    content[:] = bytes(content).translate(b"\x00" + b"\x01" * 255)
    return tensor


def _placed(tensor, saved, map_location):
    target = saved
    if callable(map_location):
        made = map_location(tensor, saved)
        if made is not None:
            return made
    elif hasattr(map_location, "get"):
        target = map_location.get(saved, saved)
    elif map_location is not None:
        target = map_location
    if str(target) == "cpu":
        return tensor
    try:
        return tensor.to(target)
    except RuntimeError as failure:
        if map_location is not None or fx.cuda.is_available():
            raise
        raise RuntimeError(
            f'[load] the file has tensors of {saved}: {failure}  With map_location="cpu" they are loaded to the CPU.'
        ) from None
