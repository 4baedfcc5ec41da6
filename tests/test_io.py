"""Saving and loading: round trips, sharing, damage, interruption."""

import collections
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import ferrox as fx
from ferrox.io import CheckpointError

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def same(a, b):
    if isinstance(a, fx.Tensor):
        return a.dtype == b.dtype and tuple(a.shape) == tuple(b.shape) and a.tolist() == b.tolist()
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0, 4)])
def test_tensors(tmp_path, dtype, shape):
    count = math.prod(shape)
    tensor = (fx.arange(count) % 2 if dtype == "bool" else fx.arange(count)).to(getattr(fx, dtype)).reshape(shape)
    fx.save(tensor, tmp_path / "t")
    assert same(fx.load(tmp_path / "t"), tensor)


def test_strided_tensors(tmp_path):
    tensor = fx.arange(24.0).reshape(4, 6)
    for view in (tensor.t(), tensor[1:, ::2], tensor[0].expand(3, 6)):
        fx.save(view, tmp_path / "t")
        assert same(fx.load(tmp_path / "t"), view)


def test_special_values(tmp_path):
    tensor = fx.tensor([math.nan, math.inf, -math.inf, -0.0])
    fx.save({"t": tensor, "f": [math.nan, math.inf, -math.inf, -0.0, 0.1]}, tmp_path / "t")
    back = fx.load(tmp_path / "t")
    assert str(back["t"].tolist()) == str(tensor.tolist())
    assert str(back["f"]) == str([math.nan, math.inf, -math.inf, -0.0, 0.1])


def test_nested_containers(tmp_path):
    obj = {
        "a": [1, 2.5, None, True, "text \u00e9\n", b"\x00\xff", (1, (2,), [])],
        3: {"x": fx.arange(3), -1: fx.ones(2, dtype=fx.bfloat16)},
        (1, "k"): {},
        None: 10**30,
        2.5: collections.OrderedDict([("z", 1), ("a", fx.zeros(0))]),
        "c": collections.Counter({3: 2}),
        "s": {1, 2},
        "dtype": fx.float16,
        "~": {"~": "tensor", "v": "not one"},
        "": fx.ones(1),
    }
    fx.save(obj, tmp_path / "t")
    assert same(fx.load(tmp_path / "t"), obj)


def test_scalar_objects(tmp_path):
    for obj in (None, 3, "x", [], {}, (), 1.5):
        fx.save(obj, tmp_path / "t")
        assert same(fx.load(tmp_path / "t"), obj)


def test_names_that_collide(tmp_path):
    obj = {"a.b": fx.ones(1), "a": {"b": fx.zeros(1)}, "__metadata__": fx.ones(2), 1: fx.ones(3), "1": fx.ones(4)}
    fx.save(obj, tmp_path / "t")
    assert same(fx.load(tmp_path / "t"), obj)


def test_shared_tensors_stay_shared(tmp_path):
    tied = fx.arange(1000.0)
    fx.save({"a": tied, "b": [tied.detach()], "other": tied[:500]}, tmp_path / "t")
    back = fx.load(tmp_path / "t")
    back["a"][0] = 7.0
    assert back["b"][0][0].item() == 7.0
    assert back["other"][0].item() == 0.0
    assert os.path.getsize(tmp_path / "t") < 1.7 * 4000


def test_module_and_optimizer(tmp_path):
    def build():
        model = fx.nn.Sequential(fx.nn.Linear(3, 4), fx.nn.BatchNorm1d(4), fx.nn.ReLU(), fx.nn.Linear(4, 1))
        return model, fx.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)

    def train(model, optimizer, inputs):
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()

    inputs = fx.arange(15.0).reshape(5, 3) / 7
    model, optimizer = build()
    train(model, optimizer, inputs)
    fx.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "t")
    other, other_optimizer = build()
    state = fx.load(tmp_path / "t")
    assert state["model"]._metadata == model.state_dict()._metadata
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer, inputs)
    train(other, other_optimizer, inputs)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p.tolist() == q.tolist()


def test_files_of_the_safetensors_package(tmp_path):
    numpy = pytest.importorskip("numpy")
    theirs = pytest.importorskip("safetensors.numpy")
    load_file, save_file = theirs.load_file, theirs.save_file

    arrays = {"w": numpy.arange(6, dtype="float32").reshape(2, 3), "b": numpy.array([True, False])}
    save_file(arrays, tmp_path / "theirs")
    back = fx.load(tmp_path / "theirs")
    assert {name: tensor.tolist() for name, tensor in back.items()} == {k: v.tolist() for k, v in arrays.items()}
    fx.save({"w": back["w"], "b": back["b"]}, tmp_path / "ours")
    again = load_file(tmp_path / "ours")
    assert {name: array.tolist() for name, array in again.items()} == {k: v.tolist() for k, v in arrays.items()}
    save_file({"u": numpy.arange(3, dtype="uint16")}, tmp_path / "unknown")
    with pytest.raises(CheckpointError, match="unknown: tensor 'u' has dtype U16"):
        fx.load(tmp_path / "unknown")


def test_every_truncation_is_found(tmp_path):
    path = tmp_path / "t"
    fx.save({"w": fx.arange(10.0), "n": [1, 2]}, path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=str(path)):
            fx.load(path)


def flipped(content):
    for i in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[i // 8] ^= 1 << (i % 8)
        yield i, bytes(damaged)


@pytest.mark.parametrize(
    "obj",
    [{"w": fx.arange(4.0), "n": [1, "text"], "k": fx.ones(2, dtype=fx.int8)}, {"n": [1, {"a": 2}]}, fx.ones(1)],
    ids=["both", "no tensors", "one tensor"],
)
def test_every_flipped_bit_is_found(tmp_path, obj):
    path = tmp_path / "t"
    fx.save(obj, path)
    unharmed = []
    for i, damaged in flipped(path.read_bytes()):
        path.write_bytes(damaged)
        try:
            fx.load(path)
        except CheckpointError:
            continue
        unharmed.append(i)
    assert unharmed == []


def test_flipped_bits_of_other_peoples_files_do_not_crash(tmp_path):
    numpy = pytest.importorskip("numpy")
    theirs = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "t"
    theirs.save_file({"w": numpy.arange(3.0), "b": numpy.array([True])}, path, {"format": "np"})
    for _, damaged in flipped(path.read_bytes()):
        path.write_bytes(damaged)
        try:
            back = fx.load(path)
        except CheckpointError:
            continue
        assert sum(tensor.numel() for tensor in back.values()) in (4, 5, 10, 13, 16, 25)  # other dtypes, at most


def test_not_a_checkpoint(tmp_path):
    path = tmp_path / "t"
    for content in (b"", b"PK\x03\x04" * 10, b"\xff" * 64, os.urandom(100)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(path)):
            fx.load(path)
    with pytest.raises(FileNotFoundError):
        fx.load(tmp_path / "absent")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "t"
    fx.save({"a": fx.ones(2)}, path)
    with pytest.raises(TypeError, match=r"cannot save a object \(at obj\['b'\]\['1'\]\)"):
        fx.save({"a": fx.zeros(2), "b": [0, object()]}, path)
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        fx.save(loop, path)
    assert fx.load(path)["a"].tolist() == [1.0, 1.0]
    assert os.listdir(tmp_path) == ["t"]


def test_map_location(tmp_path):
    path = tmp_path / "t"
    fx.save({"a": fx.ones(2)}, path)
    for location in ("cpu", fx.device("cpu"), {"cuda:0": "cpu"}):
        assert fx.load(path, map_location=location)["a"].tolist() == [1.0, 1.0]
    assert fx.load(path, map_location=lambda tensor, device: (tensor * 2, device))["a"][1] == "cpu"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_while_saving(tmp_path):
    path = tmp_path / "t"
    script = textwrap.dedent(
        f"""
        import ferrox as fx
        i = 0
        while True:
            i += 1
            fx.save({{"i": i, "t": fx.full((200_000,), float(i))}}, {str(path)!r})
            print(i, flush=True)
        """
    )
    for round_ in range(4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            last = int(process.stdout.readline())
        time.sleep(0.003 * round_)
        process.kill()
        rest, _ = process.communicate()
        last = max([last, *map(int, rest.split())])
        back = fx.load(path)
        assert back["i"] in (last, last + 1)
        assert back["t"].shape[0] == 200_000
        assert back["t"][0].item() == back["t"][-1].item() == back["i"]
