"""Files as an operating system and other programs know them: errors, modes, file objects, foreign formats."""

import contextlib
import errno
import io
import json
import os
import pathlib
import pickle
import resource
import stat
import struct
import subprocess
import sys
import threading
import zipfile

import pytest

import ferrox as fx
from ferrox.io import CheckpointError

numpy = pytest.importorskip("numpy")


def names(folder):
    return sorted(os.listdir(folder))


# ---- writing


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        fx.save({"a": fx.ones(2)}, tmp_path / "absent" / "x")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "absent" / "x")


def test_a_folder_is_no_file(tmp_path):
    for function in (lambda: fx.save({}, tmp_path), lambda: fx.load(tmp_path)):
        with pytest.raises(IsADirectoryError):
            function()
    with pytest.raises(NotADirectoryError):
        fx.save({}, pathlib.Path(__file__) / "x")
    with pytest.raises(OSError, match="too long"):
        fx.save({}, tmp_path / ("x" * 300))
    assert names(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_is_written_to_and_stays():
    before = os.stat("/dev/full")
    if not stat.S_ISCHR(before.st_mode):
        pytest.skip("/dev/full is no device here")
    with pytest.raises(OSError, match="No space left") as caught:
        fx.save({"a": fx.ones(2)}, "/dev/full")
    assert caught.value.errno == errno.ENOSPC
    fx.save({"a": fx.ones(2)}, os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.stat("/dev/full").st_ino == before.st_ino


def test_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=fx.save, args=({"a": fx.arange(5)}, pipe))
    writer.start()
    assert fx.load(pipe)["a"].tolist() == [0, 1, 2, 3, 4]
    writer.join()


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    fx.save({"a": fx.ones(2)}, path)
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
    try:
        for size in (400, 2000, 100_000):
            with contextlib.suppress(OSError) if size == 400 else pytest.raises(OSError, match="too large") as caught:
                fx.save({"a": fx.ones(size)}, path if size != 400 else tmp_path / "y")
            if size != 400:
                assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["x", "y"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes(tmp_path, umask):
    old = os.umask(umask)
    try:
        path = tmp_path / "x"
        fx.save({}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        fx.save({"a": 1}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(old)


def test_links_are_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    fx.save(1, target)
    link.symlink_to(target)
    fx.save(2, link)
    assert link.is_symlink()
    assert fx.load(target) == 2


def test_long_names(tmp_path):
    path = tmp_path / ("n" * 255)
    fx.save({"a": fx.ones(1)}, path)
    assert fx.load(path)["a"].tolist() == [1.0]


# ---- paths and file objects


def test_kinds_of_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("x", tmp_path / "x", b"x", "\u00fcn\u00ef \u6f22.st"):
        fx.save({"a": fx.ones(2)}, path)
        assert fx.load(path)["a"].tolist() == [1.0, 1.0]
    for wrong in (None, 1.5, ["x"]):
        with pytest.raises(TypeError, match=r"\[save\] expected a path or a binary file object"):
            fx.save({}, wrong)
        with pytest.raises(TypeError, match=r"\[load\] expected a path or a binary file object"):
            fx.load(wrong)


def test_file_objects(tmp_path):
    obj = {"a": fx.arange(3), "b": [1, "x"]}
    memory = io.BytesIO()
    fx.save(obj, memory)
    fx.save([fx.ones(1)], memory)
    memory.seek(0)
    first, second = fx.load(memory), fx.load(memory)
    assert first["a"].tolist() == [0, 1, 2]
    assert first["b"] == [1, "x"]
    assert second[0].tolist() == [1.0]
    with pytest.raises(CheckpointError, match="BytesIO is not a whole"):
        fx.load(memory)
    fx.save(obj, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == memory.getvalue()[: (tmp_path / "x").stat().st_size]
    for buffering in (-1, 0):
        with open(tmp_path / "y", "wb", buffering=buffering) as file:
            fx.save(f=file, obj=obj)
        with open(tmp_path / "y", "rb", buffering=buffering) as file:
            assert fx.load(f=file)["a"].tolist() == [0, 1, 2]
    with open(tmp_path / "t", "w") as file, pytest.raises(TypeError, match="binary mode"):
        fx.save(obj, file)
    with zipfile.ZipFile(tmp_path / "z", "w") as archive, archive.open("x", "w") as file:
        fx.save(obj, file)
    with zipfile.ZipFile(tmp_path / "z") as archive, archive.open("x") as file:
        assert fx.load(file)["b"] == [1, "x"]


class Dribble(io.RawIOBase):
    """Takes and gives a few bytes at a time, as sockets do."""

    def __init__(self, content=b""):
        self.content = content
        self.taken = []

    def writable(self):
        return True

    def readable(self):
        return True

    def write(self, data):
        piece = bytes(data[:7])
        self.taken.append(piece)
        return len(piece)

    def readinto(self, buffer):
        piece, self.content = self.content[: min(5, len(buffer))], self.content[min(5, len(buffer)) :]
        buffer[: len(piece)] = piece
        return len(piece)


def test_files_that_take_a_little_at_a_time():
    slow = Dribble()
    fx.save({"a": fx.arange(100)}, slow)
    content = b"".join(slow.taken)
    assert fx.load(Dribble(content))["a"].tolist() == list(range(100))
    with pytest.raises(CheckpointError, match="ends after"):
        fx.load(Dribble(content[:-3]))


def test_options_of_pytorch(tmp_path):
    fx.save({"a": fx.ones(2)}, tmp_path / "x")
    for options in ({"weights_only": True}, {"weights_only": False}, {"mmap": True}, {"map_location": "cpu"}):
        assert fx.load(tmp_path / "x", **options)["a"].tolist() == [1.0, 1.0]
    assert fx.load(tmp_path / "x", map_location=lambda tensor, device: None)["a"].tolist() == [1.0, 1.0]


# ---- what a file can hold


def through(obj):
    file = io.BytesIO()
    fx.save(obj, file)
    file.seek(0)
    return fx.load(file)


ARRAYS = [
    numpy.arange(6, dtype="float32").reshape(2, 3),
    numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    numpy.arange(10)[::-2],
    numpy.array(3.5),
    numpy.zeros((0, 3), "int16"),
    numpy.array([True, False]),
    numpy.arange(3, dtype="uint32"),
    numpy.arange(3, dtype=">f8"),
    numpy.array([1 + 2j]),
    numpy.array(["a", "\u00fc\u00fc"]),
    numpy.array([b"ab", b"c"]),
    numpy.array(["2020-01-01"], "datetime64[D]"),
    numpy.array([1.5, -0.0], "float16"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays(array):
    back = through({"x": [array]})["x"][0]
    assert type(back) is numpy.ndarray
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tolist() == array.tolist()
    array.flags.writeable = False
    assert through(array).tolist() == array.tolist()


@pytest.mark.parametrize(
    "scalar",
    [
        numpy.float32(0.1), numpy.float64(0.1), numpy.int64(-3), numpy.uint8(200), numpy.bool_(True),
        numpy.float16(1.5), numpy.complex64(1j), numpy.str_("x"), numpy.datetime64("2020-01-01"), numpy.bytes_(b"x"),
    ],
    ids=lambda scalar: type(scalar).__name__,
)  # fmt: skip
def test_array_scalars(scalar):
    back = through((scalar,))[0]
    assert type(back) is type(scalar)
    assert back == scalar


@pytest.mark.parametrize(
    "obj",
    [
        1j, complex("nan+infj"), 2**63, -(2**70),
        b"", bytearray(b"\x00\xff"), 10**40, -0.0, True, {1: {2: {3: (4, [5])}}}, {True: 1},
        {"": {"": 1}}, {"a.b": 1, "a": {"b": 2}}, {"\u6f22\n\"\\": "\ud800"}, fx.bfloat16, fx.device("cuda:1"),
        {(1, 2.5, None): frozenset({3})}, [[], {}, (), set()], ...,
    ],
    ids=repr,
)  # fmt: skip
def test_python_values(obj):
    if obj is ...:
        with pytest.raises(TypeError, match=r"\[save\] cannot save a ellipsis \(at obj\): a file holds tensors"):
            through(obj)
        return
    assert repr(through(obj)) == repr(obj)


def test_long_integers_and_deep_nests():
    assert through({"n": [10**5000, -(10**5000)]})["n"] == [10**5000, -(10**5000)]
    nest = []
    for _ in range(5000):
        nest = [nest]
    with pytest.raises(ValueError, match=r"\[save\] the object is nested too deep"):
        through(nest)


def test_sizes_and_subclasses():
    import collections
    import enum

    class Colour(enum.IntEnum):
        RED = 3

    class Name(str):
        pass

    back = through([fx.ones(2, 3).shape, Colour.RED, Name("x"), collections.defaultdict(list, a=[1])])
    assert back == [(2, 3), 3, "x", {"a": [1]}]
    assert [type(each) for each in back[1:]] == [int, str, dict]
    point = collections.namedtuple("Point", "x y")(1, 2)
    with pytest.raises(TypeError, match=r"cannot save a Point \(at obj\['0'\]\): save its _asdict\(\)"):
        through([point])
    with pytest.raises(TypeError, match=r"cannot save a Linear \(at obj\): save its state_dict\(\)"):
        through(fx.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="NumPy array of object"):
        through(numpy.array([None]))


def test_parameters_and_leaves():
    weight = fx.nn.Parameter(fx.arange(3.0))
    leaf = fx.ones(2, requires_grad=True)
    back = through({"p": weight, "again": weight, "frozen": fx.nn.Parameter(fx.ones(1), False), "leaf": leaf,
                    "data": weight.detach(), "y": leaf * 2})
    assert isinstance(back["p"], fx.nn.Parameter)
    assert back["again"] is back["p"]
    assert (back["p"].requires_grad, back["leaf"].requires_grad, back["data"].requires_grad) == (True, True, False)
    assert isinstance(back["frozen"], fx.nn.Parameter)
    assert not back["frozen"].requires_grad
    assert back["leaf"].is_leaf
    assert back["y"].is_leaf
    with fx.no_grad():
        back["p"][0] = 7.0
    assert back["data"].tolist() == [7.0, 1.0, 2.0]


def test_ties_of_modules_survive():
    def build():
        model = fx.nn.Sequential(fx.nn.Embedding(5, 3), fx.nn.Linear(3, 5, bias=False))
        model[1].weight = model[0].weight
        return model

    state = through(build().state_dict())
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()
    model = build()
    model.load_state_dict(state, assign=True)
    assert model[0].weight is model[1].weight


# ---- other people's files


def safetensors_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_foreign_bools_are_bools(tmp_path):
    entry = {"dtype": "BOOL", "shape": [5], "data_offsets": [0, 5]}
    (tmp_path / "b").write_bytes(safetensors_file({"b": entry}, bytes([0, 1, 2, 255, 0])))
    back = fx.load(tmp_path / "b")["b"]
    assert back.tolist() == [False, True, True, True, False]
    assert back.sum().item() == 3
    assert bytes(back.numpy().view("uint8")) == bytes([0, 1, 1, 1, 0])


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
EMPTY = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
BAD = {
    "an entry beyond the end": ({"a": {**F32, "data_offsets": [0, 8], "shape": [2]}}, b"1234"),
    "bytes left over": ({"a": F32}, b"12345"),
    "overlap": ({"a": F32, "b": F32}, b"1234"),
    "a hole": ({"a": F32, "b": {**F32, "data_offsets": [8, 12]}}, b"1" * 12),
    "backwards": ({"a": {**F32, "data_offsets": [4, 0]}}, b"1234"),
    "a negative shape": ({"a": {**F32, "shape": [-1]}}, b"1234"),
    "a bool in the shape": ({"a": {**F32, "shape": [True]}}, b"1234"),
    "sizes beyond 64 bits": ({"a": {"dtype": "U8", "shape": [0, 2**70], "data_offsets": [0, 0]}}, b""),
    "a shape that does not fit": ({"a": {**F32, "shape": [3]}}, b"1234"),
    "an unknown dtype": ({"a": {**F32, "dtype": "F8_E4M3"}}, b"1234"),
    "no entry": ({"a": 3}, b""),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b""),
    "a list": ([], b""),
    "not UTF-8": (b"\xff\xfe", b""),
    "twice": (b'{"a":' + EMPTY + b',"a":' + EMPTY + b"}", b""),
    "nested too deep": (b"[" * 200_000, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_break_the_format(tmp_path, name):
    (tmp_path / "x").write_bytes(safetensors_file(*BAD[name]))
    with pytest.raises(CheckpointError, match=f"{tmp_path}/x"):
        fx.load(tmp_path / "x")


def test_ours_are_read_by_the_safetensors_package(tmp_path):
    theirs = pytest.importorskip("safetensors")
    for obj in ({}, {"a": fx.ones(3, dtype=fx.int8), "b": fx.ones(2, 2), "c": fx.zeros(0), "\u00fc": fx.tensor(True)}):
        fx.save(obj, tmp_path / "x")
        with theirs.safe_open(tmp_path / "x", "np") as file:
            assert set(file.keys()) == set(obj)
            assert {name: file.get_tensor(name).tolist() for name in obj} == {k: v.tolist() for k, v in obj.items()}
        content = (tmp_path / "x").read_bytes()
        assert int.from_bytes(content[:8], "little") % 8 == 0


def test_files_of_the_first_layout(tmp_path):
    import zlib

    text = json.dumps({"version": 1, "object": [1, {"~": "tensor", "v": "0", "device": "cpu"}],
                       "checks": {"0": [zlib.crc32(b"\x00\x00\x80?"), "float32", [1]]}})
    metadata = {"ferrox": text, "ferrox_crc32": str(zlib.crc32(text.encode()))}
    (tmp_path / "x").write_bytes(safetensors_file({"__metadata__": metadata, "0": F32}, b"\x00\x00\x80?"))
    back = fx.load(tmp_path / "x")
    assert (back[0], back[1].tolist()) == (1, [1.0])
    metadata["ferrox_crc32"] = "1"
    (tmp_path / "x").write_bytes(safetensors_file({"__metadata__": metadata, "0": F32}, b"\x00\x00\x80?"))
    with pytest.raises(CheckpointError, match="damaged"):
        fx.load(tmp_path / "x")


def test_files_of_other_kinds_are_named(tmp_path):
    path = tmp_path / "x.pt"

    def said():
        with pytest.raises(CheckpointError) as caught:
            fx.load(path)
        with pytest.raises(CheckpointError) as again, open(path, "rb") as file:
            fx.load(file)
        assert str(again.value) == str(caught.value)
        assert str(caught.value).startswith(f"[load] {path} is not a safetensors file; ")
        return str(caught.value)

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 10)
        archive.writestr("archive/byteorder", b"little")
    assert "this is a PyTorch pickle: load it with PyTorch" in said()
    path.write_bytes(path.read_bytes()[:60])
    assert "this is a PyTorch pickle" in said()
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2))
    assert "this is a PyTorch pickle" in said()
    path.write_bytes(pickle.dumps({"a": 1}))
    assert "this is a Python pickle" in said()
    with open(path, "wb") as file:
        numpy.save(file, numpy.ones(3))
    assert "this is a NumPy array" in said()
    with open(path, "wb") as file:
        numpy.savez(file, a=numpy.ones(3))
    assert "this is a NumPy archive" in said()


def test_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    for legacy in (False, True):
        torch.save({"w": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match=r"this is a PyTorch pickle: .*safetensors\.torch\.save_file"):
            fx.load(tmp_path / "x.pt")


def test_loading_needs_neither_numpy_nor_the_safetensors_package(tmp_path):
    script = f"""
import sys
sys.modules["safetensors"] = None
import ferrox as fx
fx.save({{"a": fx.ones(2)}}, {str(tmp_path / "x")!r})
assert fx.load({str(tmp_path / "x")!r})["a"].tolist() == [1.0, 1.0]
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
