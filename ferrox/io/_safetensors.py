"""The safetensors format: a length of 8 bytes, a header in JSON, and the tensors' bytes one after the other."""

import ctypes
import json
import math
from typing import NamedTuple

import ferrox as fx
from ferrox._core.dtype import by_safetensors_name

METADATA = "__metadata__"
_CODES = {dtype: code for code, dtype in by_safetensors_name.items()}
_LARGEST_HEADER = 100_000_000  # what the format's own readers take
_CHUNK = 1 << 24


class FormatError(ValueError):
    """The bytes are not a safetensors file."""


class Entry(NamedTuple):
    """One tensor of a header."""

    code: str
    shape: tuple
    begin: int
    end: int


def n_bytes(tensor):
    """Return how many bytes the elements of `tensor` take."""
    return tensor.numel() * tensor.element_size()


def bytes_of(tensor):
    """Return a writable view of the bytes of a contiguous CPU tensor."""
    size = n_bytes(tensor)
    # The buffer knows nothing of the tensor: it must not outlive it.
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B") if size else memoryview(b"")


# ---- writing


def header(tensors, metadata):
    """Return the header's bytes (its length in front) and the tensors in the order of their bytes."""
    # Widest elements first: then each tensor is aligned to its elements.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries, end = {METADATA: metadata}, 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + n_bytes(tensor)
        code = _CODES[tensor.dtype]
        entries[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > _LARGEST_HEADER:
        raise ValueError(
            f"[save] what describes the object takes {len(text)} bytes, more than the {_LARGEST_HEADER} that a "
            "safetensors file may have: keep large lists of numbers in tensors"
        )
    return len(text).to_bytes(8, "little") + text, [tensors[name] for name in names]


def write(file, head, tensors):
    """Write a header and the bytes of `tensors` to a binary file."""
    _write_all(file, head)
    for tensor in tensors:
        content = bytes_of(tensor)
        for start in range(0, len(content), _CHUNK):
            _write_all(file, content[start : start + _CHUNK])


def _write_all(file, content):
    while len(content):
        count = file.write(content)
        if count is None or count >= len(content):  # what is no `io` object may return nothing
            return
        content = content[count:]


# ---- reading


def read_exactly(file, count):
    """Return `count` bytes of a binary file, or fewer at its end."""
    content = file.read(count)
    while len(content) < count and (more := file.read(count - len(content))):
        content += more
    return content


def parse(text, size=None):
    """Return the metadata and the entries of a header; `size`, where known, is the number of bytes after it."""
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise FormatError("its header is nested too deep") from None
    except ValueError as error:
        raise FormatError(f"its header is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError("its header is no JSON object")
    metadata = content.pop(METADATA, None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise FormatError(f"its {METADATA} does not map names to strings")
    entries = {name: _entry(name, value) for name, value in content.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        if entry.begin != end:
            raise FormatError(f"tensor {name!r} begins at byte {entry.begin}, not {end}")
        end = entry.end
    if size is not None and end != size:
        raise FormatError(f"its tensors take {end} bytes, and {size} are there")
    return metadata or {}, entries


def _without_duplicates(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _whole(values):
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _entry(name, value):
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"the entry of tensor {name!r} is not one of dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (isinstance(code, str) and _whole(shape) and _whole(offsets) and len(offsets) == 2):
        raise FormatError(f"the entry of tensor {name!r} has a dtype, shape or data_offsets of the wrong kind")
    if offsets[0] > offsets[1]:
        raise FormatError(f"tensor {name!r} ends before it begins")
    return Entry(code, tuple(shape), *offsets)


def read_header(file, size=None):
    """Read a header; return its bytes, metadata and entries.  `size`: how many bytes there are in all, where known."""
    head = read_exactly(file, 8)
    length = int.from_bytes(head, "little")
    if len(head) < 8:
        raise FormatError("it is shorter than the length of a header")
    if length > _LARGEST_HEADER or (size is not None and length > size - 8):
        raise FormatError(f"its header would take {length} bytes")
    text = read_exactly(file, length)
    if len(text) < length:
        raise FormatError(f"its header of {length} bytes ends after {len(text)}")
    return text, *parse(text, None if size is None else size - 8 - length)


def read_tensor(file, name, entry):
    """Read the next tensor of a file."""
    dtype = by_safetensors_name.get(entry.code)
    if dtype is None:
        raise FormatError(f"tensor {name!r} has dtype {entry.code}, which Ferrox does not have")
    size = entry.end - entry.begin
    wanted = math.prod(entry.shape) * dtype.itemsize
    if wanted != size:
        raise FormatError(f"tensor {name!r} has {size} bytes, but its shape {entry.shape} needs {wanted}")
    try:
        tensor = fx.empty(entry.shape, dtype=dtype)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise FormatError(f"tensor {name!r} has shape {entry.shape}: {error}") from None
    content, at = bytes_of(tensor), 0
    while at < size:
        piece = file.read(min(size - at, _CHUNK))
        if not piece:
            raise FormatError(f"tensor {name!r} of {size} bytes ends after {at}")
        content[at : at + len(piece)] = piece
        at += len(piece)
    return tensor
