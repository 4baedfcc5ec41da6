"""Sizes, strides, offsets and counts at the ends of int64: an error or the right value, never a wrapped one or a crash.

Everything runs in a child process with a limit on its memory; it answers one line per expression.
"""

import json
import math
import os
import select
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox as fx

SECONDS = 60  # for one expression; none needs more than a fraction of one, but machines are busy
CHILD = """
import json, math, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import numpy as np
import ferrox as fx
from ferrox import nn
F = nn.functional
REFUSED = (RuntimeError, IndexError, ValueError, TypeError, MemoryError, OverflowError, BufferError)

class Foreign:
    def __init__(self, shape, strides, typestr="<f4"):
        self.memory = np.zeros(64, np.float32)
        self.__array_interface__ = {"shape": shape, "strides": strides, "typestr": typestr, "version": 3,
                                    "data": (self.memory.ctypes.data, False)}

def tensors(value):
    if isinstance(value, fx.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each)

print("ready", flush=True)
for line in sys.stdin:
    try:
        value = eval(json.loads(line))
    except REFUSED as error:
        answer = {"error": type(error).__name__, "message": str(error)[:200]}
    else:
        answer = {"shapes": [list(t.shape) for t in tensors(value)], "numels": [t.numel() for t in tensors(value)]}
        if isinstance(value, fx.Tensor) and value.numel() <= 1000:
            answer["value"] = value.tolist()
        del value
    print(json.dumps(answer), flush=True)
"""


class Child:
    """One process, started again when it is gone."""

    def __init__(self):
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
        )
        assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def ask(self, expression):
        if self.process is None:
            self.start()
        self.process.stdin.write(json.dumps(expression) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if not ready:
            self.stop()
            pytest.fail(f"{expression}: no end within {SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.stop()
            pytest.fail(f"{expression}: the process died with status {status}")
        answer = json.loads(line)
        for shape, numel in zip(answer.get("shapes", ()), answer.get("numels", ()), strict=True):
            assert min(shape, default=0) >= 0, expression
            assert numel == math.prod(shape) < 2**63, expression
        return answer


@pytest.fixture(scope="module")
def child():
    made = Child()
    yield made
    made.stop()


REFUSED = [
    "fx.arange(16).as_strided((3,), (2**60,), 0)",
    "fx.arange(16).as_strided((3,), (2**62,), 0)",
    "fx.arange(16).as_strided((3,), (1,), 2**61)",
    "fx.arange(16).as_strided((3,), (1,), 2**62)",
    "fx.arange(16).as_strided((3,), (1,), 2**63 - 1)",
    "fx.arange(16).as_strided((3,), (1,), -5)",
    "fx.arange(16).as_strided((2**62, 2), (0, 1), 0)",
    "fx.arange(16).as_strided((2**33, 2**33), (0, 0), 0)",
    "fx.arange(16).as_strided((2, 2), (2**62, 2**62), 0)",
    "fx.ones(1).expand(2**32, 2**32)",
    "fx.ones(1).expand(2**63 - 1)",
    "fx.ones(1).expand(2**62, 2).t()",
    "fx.ones(1, 0, 1).expand(2**62, 0, 2**62)",
    "fx.broadcast_to(fx.ones(1), (2**32, 2**32))",
    "fx.ones(1).expand(2**32, 1) + fx.ones(1).expand(1, 2**32)",
    "fx.ones(1).expand(2**32, 1) @ fx.ones(1).expand(1, 2**32)",
    "fx.outer(fx.ones(1).expand(2**32), fx.ones(1).expand(2**32))",
    "fx.meshgrid(fx.ones(1).expand(2**32), fx.ones(1).expand(2**32), indexing='ij')",
    "fx.einsum('i,j,k->ijk', *[fx.ones(1).expand(2**22)] * 3)",
    "fx.triu_indices(4, 2**62, -10)",
    "fx.tril_indices(2**62, 4, 10)",
    "fx.tril_indices(2**62, 2**62)",
    "fx.triu_indices(2**62, 2**62, -2**62)",
    "fx.tril_indices(2**63 - 1, 1, 2**63 - 1)",
    "fx.empty(0, 2**40, 2**40)",
    "fx.zeros((2**40, 0, 2**40))",
    "fx.zeros(0, 2**62, 4)",
    "fx.ones(0).reshape(2**62, 2**62, 0)",
    "fx.ones(0).view(0, 2**62, 2**62)",
    "fx.ones(3).new_zeros(2**40, 0, 2**40)",
    "fx.ones(4).reshape(2**62, 4)",
    "fx.ones(4).reshape(2**32, -1, 2**32)",
    "fx.ones(4).unflatten(0, (2**62, 4))",
    "fx.ones(4).unflatten(0, (2**32, 2**32, -1))",
    "fx.ones(0).reshape(-1, 0)",
    "fx.empty(2**62)",
    "fx.empty(2**63)",
    "fx.empty(2**40, 2**40)",
    "fx.rand(2**62)",
    "fx.full((2**31, 2**31, 2**31), 1.0)",
    "fx.randint(0, 5, (2**62,))",
    "fx.ones(3).repeat(2**62)",
    "fx.ones(3).repeat(2**62, 2**62)",
    "fx.ones(0).repeat(2**62, 2**62)",
    "fx.tile(fx.ones(3), (2**62, 2**62))",
    "fx.ones(3).repeat_interleave(2**62)",
    "fx.ones(3).repeat_interleave(fx.tensor([2**62] * 3))",
    "fx.repeat_interleave(fx.tensor([2**62, 2**62, 2**62]))",
    "fx.arange(0, 1e30)",
    "fx.arange(-2**63, 2**63 - 1)",
    "fx.linspace(0, 1, steps=2**62)",
    "fx.logspace(0, 1, steps=2**62)",
    "fx.eye(2**40)",
    "fx.eye(2**62, 2**62)",
    "fx.ones(3).diag_embed(offset=2**62)",
    "fx.ones(3).diag_embed(offset=2**63 - 1)",
    "fx.ones(3).diag(-2**63)",
    "F.pad(fx.ones(3), (2**62, 2**62))",
    "F.pad(fx.ones(3), (2**63 - 1, 2**63 - 1))",
    "F.pad(fx.ones(3), (2**62, -2**62))",
    "F.pad(fx.ones(3), (-2**63, 0))",
    "F.pad(fx.ones(1, 3), (2**62, 2**62), mode='circular')",
    "F.pad(fx.ones(1, 3), (2**60, 2**60), mode='replicate')",
    "F.pad(fx.ones(1, 3), (-2**60, 1), mode='reflect')",
    "fx.arange(10).unfold(0, 2**62, 1)",
    "fx.ones(3).narrow(0, 1, 2**63 - 1)",
    "fx.ones(3).narrow(0, 2**63 - 1, 2)",
    "fx.ones(3).narrow(0, -2**63, 1)",
    "fx.ones(3)[2**63 - 1]",
    "fx.ones(3)[-2**63]",
    "fx.ones(3).select(0, 2**64)",
    "fx.ones(3).select(2**62, 0)",
    "fx.ones(2, 3).unsqueeze(-2**63)",
    "fx.ones(2, 3).transpose(2**64, 0)",
    "F.one_hot(fx.tensor([1, 2]), num_classes=2**62)",
    "F.one_hot(fx.tensor([2**63 - 1]))",
    "fx.bincount(fx.tensor([1]), minlength=2**62)",
    "fx.bincount(fx.tensor([2**63 - 1]))",
    "fx.histc(fx.ones(3), bins=2**62)",
    "fx.randperm(2**62)",
    "fx.ones(5).topk(2**62)",
    "fx.ones(5).multinomial(2**62, replacement=True)",
    "fx.ones(4).tensor_split(2**62)",
    "fx.ones(1).expand(2**40).split(1)",
    "fx.ones(1).expand(2**40).unbind()",
    "fx.ones(0).chunk(2**62)",
    "fx.ones(4).split([2**63 - 1, 2**63 - 1, 6])",
    "fx.cat([fx.ones(1).expand(2**60)] * 8)",
    "fx.cat([fx.ones(1, dtype=fx.uint8).expand(2**62)] * 3)",
    "fx.stack([fx.ones(1).expand(2**60)] * 4)",
    "fx.ones(1).expand(2**60).contiguous()",
    "fx.ones(1).expand(2**60).sort()",
    "fx.ones(1).expand(2**60).view(fx.uint8).view(fx.float64)",
    "fx.ones(1, dtype=fx.uint8).expand(2**63 - 1).to(fx.int8, copy=True)",
    "fx.ones(4).gather(0, fx.tensor([-2**63]))",
    "fx.ones(4)[fx.tensor([2**62])]",
    "fx.ones(4).index_add(0, fx.tensor([-2**63]), fx.ones(1))",
    "F.embedding(fx.tensor([2**62]), fx.ones(3, 3))",
    "fx.frombuffer(bytearray(8), dtype=fx.float64, count=2**62)",
    "fx.frombuffer(bytearray(8), dtype=fx.float64, count=2**64)",
    "fx.tensor(Foreign((2**62, 2**62), None))",
    "fx.tensor(Foreign((-1,), None))",
    "fx.as_tensor(Foreign((3,), (2**63,)))",
    "nn.Linear(2**40, 2**40)",
    "nn.Embedding(2**62, 4)",
]


@pytest.mark.parametrize("expression", REFUSED)
def test_refused(child, expression):
    answer = child.ask(expression)
    assert "error" in answer, answer


ARANGE = np.arange(9.0).reshape(3, 3)
RIGHT = [
    ("fx.arange(9.).reshape(3, 3).tril(2**63 - 1)", ARANGE),
    ("fx.arange(9.).reshape(3, 3).tril(-2**63)", ARANGE * 0),
    ("fx.arange(9.).reshape(3, 3).triu(2**63 - 1)", ARANGE * 0),
    ("fx.arange(9.).reshape(3, 3).triu(-2**63)", ARANGE),
    ("fx.arange(9.).reshape(3, 3).diagonal(offset=2**63 - 1)", []),
    ("fx.arange(9.).reshape(3, 3).diagonal(offset=-2**63)", []),
    ("fx.tril_indices(4, 4, 2**63 - 1)", np.tril_indices(4, 3)),
    ("fx.triu_indices(4, 4, -2**63)", np.triu_indices(4, -4)),
    ("fx.triu_indices(4, 4, 2**63 - 1)", [[], []]),
    ("fx.tril_indices(4, 4, -2**63)", [[], []]),
    ("fx.tril_indices(2**62, 4, 2 - 2**62)", [[2**62 - 2, 2**62 - 1, 2**62 - 1], [0, 0, 1]]),
    ("fx.triu_indices(2, 2**62, 2**62 - 2)", [[0, 0, 1], [2**62 - 2, 2**62 - 1, 2**62 - 1]]),
    ("fx.arange(3).roll(2**63 - 1)", np.roll(np.arange(3), (2**63 - 1) % 3)),
    ("fx.arange(3).roll(-2**63)", np.roll(np.arange(3), -(2**63) % 3)),
    ("fx.arange(10).unfold(0, 2, 2**62)", [[0, 1]]),
    ("fx.arange(10).unfold(0, 1, 2**63 - 1)", [[0]]),
    ("fx.arange(8).reshape(2, 4).t().unfold(0, 2, 2**62)", [[[0, 1], [4, 5]]]),
    ("fx.arange(3)[::2**62]", [0]),
    ("fx.arange(3)[-2**63:2**63 - 1:2**63 - 1]", [0]),
    ("fx.arange(3)[2**62:]", []),
    ("fx.arange(3)[:2**70]", [0, 1, 2]),
    ("fx.arange(-2**63, 2**63 - 1, 2**62)", [-(2**63), -(2**62), 0, 2**62]),
    ("fx.arange(4).split(2**63 - 1)[0]", [0, 1, 2, 3]),
    ("fx.arange(4).chunk(2**63 - 1)[3]", [3]),
    ("fx.arange(4).tensor_split([2**62, -2**63])[0]", [0, 1, 2, 3]),
    ("fx.ones(3, 3).rot90(2**62 + 1)", np.ones((3, 3))),
    ("fx.ones(1, dtype=fx.uint8).expand(2**40)[2**39 + 3]", 1),
    ("fx.zeros(0, 5).as_strided((0,), (1,), 0)", []),
    ("fx.arange(2.).as_strided((1,), (2**62,), 1)", [1.0]),
]


@pytest.mark.parametrize(("expression", "expected"), RIGHT, ids=[expression for expression, _ in RIGHT])
def test_right(child, expression, expected):
    answer = child.ask(expression)
    assert answer.get("value") == np.asarray(expected).tolist(), answer


ENDS = [0, 1, 2, 3, 4, 7, 2**15, 2**31 - 1, 2**31, 2**32, 2**40, 2**59, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64]
INT = st.sampled_from(ENDS + [-each for each in ENDS if each] + [2**62 - 1, 2**62 + 1, -(2**63) - 1])
INTS = st.lists(INT, min_size=1, max_size=3)
SMALL = st.integers(-3, 3)
# Every function that takes sizes, strides, offsets, steps or counts; what stands in braces is drawn.
TEMPLATES = [
    "fx.arange(16).as_strided({s}, {s}, {i})",
    "fx.ones(2, 3).as_strided(({i}, {i}), ({i}, {i}), {i})",
    "fx.ones(1, 1).expand(*{s})",
    "fx.ones(3, 0).expand({i}, {i}, {i})",
    "fx.broadcast_to(fx.ones(1), {s})",
    "fx.triu_indices({i}, {i}, {i})",
    "fx.tril_indices({i}, {i}, {i})",
    "fx.empty({s})",
    "fx.empty({i}, 0, {i})",
    "fx.ones(2).new_empty({s})",
    "fx.empty_like(fx.ones(1).expand({s}))",
    "fx.ones(6).reshape({s})",
    "fx.ones(0).reshape({s})",
    "fx.ones(2, 3).t().reshape({s})",
    "fx.ones(4).unflatten(0, {s})",
    "fx.ones(2).repeat({s})",
    "fx.tile(fx.ones(2), {s})",
    "fx.ones(2).repeat_interleave({i})",
    "fx.ones(2).repeat_interleave(fx.tensor([{n}, {n}]))",
    "fx.arange({i}, {i}, {i})",
    "fx.arange(float({i}), float({i}), float({i}))",
    "fx.linspace(0, 1, {i})",
    "fx.logspace(0, 1, {i})",
    "fx.eye({i}, {i})",
    "fx.ones(2, 2).diagonal({i}, {i}, {i})",
    "fx.ones(2).diag_embed({i})",
    "fx.ones(2).diag({i})",
    "fx.ones(2, 2).diag({i})",
    "fx.ones(2, 3).tril({i})",
    "fx.ones(2, 3).triu({i})",
    "fx.arange(10).unfold({d}, {i}, {i})",
    "F.pad(fx.ones(3), ({i}, {i}))",
    "F.pad(fx.ones(2, 3), ({i}, {i}, {i}, {i}))",
    "F.pad(fx.ones(1, 3), ({i}, {i}), mode='replicate')",
    "F.pad(fx.ones(1, 3), ({i}, {i}), mode='reflect')",
    "F.pad(fx.ones(1, 3), ({i}, {i}), mode='circular')",
    "fx.ones(3).narrow({d}, {i}, {i})",
    "fx.ones(3)[{i}:{i}:{p}]",
    "fx.ones(3, 2)[{i}]",
    "fx.ones(3, 2)[..., {i}]",
    "fx.ones(3, 2).select({d}, {i})",
    "fx.ones(3).roll({i})",
    "fx.ones(3, 2).roll(({i}, {i}), ({d}, {d}))",
    "fx.ones(3, 2).rot90({n})",
    "F.one_hot(fx.tensor([0, 1]), {i})",
    "F.one_hot(fx.tensor([{n}]))",
    "fx.bincount(fx.tensor([0, 1]), minlength={i})",
    "fx.bincount(fx.tensor([{n}]))",
    "fx.histc(fx.ones(3), {i})",
    "fx.randperm({i})",
    "fx.randint({i}, {i}, {s})",
    "fx.rand({s})",
    "fx.ones(4).tensor_split({i})",
    "fx.ones(4).tensor_split({s})",
    "fx.ones(4).split({i})",
    "fx.ones(4).split({s})",
    "fx.ones(4).chunk({i})",
    "fx.cat([fx.ones(1).expand({i}), fx.ones(1).expand({i})])",
    "fx.stack([fx.ones(1).expand({i})] * 3)",
    "fx.ones(4).topk({i})",
    "fx.ones(4).kthvalue({i})",
    "fx.ones(4).multinomial({i}, True)",
    "fx.ones(4).gather(0, fx.tensor([{n}]))",
    "fx.ones(4).scatter(0, fx.tensor([{n}]), 1.0)",
    "fx.ones(4).index_select(0, fx.tensor([{n}]))",
    "fx.ones(4).index_fill(0, fx.tensor([{n}]), 1.0)",
    "fx.ones(4)[fx.tensor([{n}])]",
    "fx.ones(4).take(fx.tensor([{n}]))",
    "F.embedding(fx.tensor([{n}]), fx.ones(3, 2))",
    "fx.frombuffer(bytearray(16), dtype=fx.int32, count={i}, offset={i})",
    "fx.ones(2, 3).flatten({i}, {i})",
    "fx.ones(2, 3).movedim({i}, {i})",
    "fx.ones(2, 3).permute({i}, {i})",
    "fx.ones(2, 3).squeeze({i})",
    "fx.ones(2, 3).unsqueeze({i})",
    "fx.ones(2, 3).sum({i})",
    "fx.ones(2, 3).cumsum({i})",
    "fx.ones(2, 3).softmax({i})",
    "fx.meshgrid(fx.ones(1).expand({i}), fx.ones(1).expand({i}), indexing='ij')",
    "fx.einsum('i,j->ij', fx.ones(1).expand({i}), fx.ones(1).expand({i}))",
    "nn.Embedding({i}, {i})",
]


@st.composite
def expressions(draw):
    text, template = "", draw(st.sampled_from(TEMPLATES))
    while "{" in template:
        head, _, template = template.partition("{")
        kind, template = template[0], template[2:]
        value = {
            "i": INT,
            "s": INTS.map(tuple),
            "d": SMALL,
            "n": INT.filter(lambda i: -(2**63) <= i < 2**63),
            "p": INT.filter(lambda i: i > 0),
        }[kind]
        text += head + repr(draw(value))
    return text + template


@settings(max_examples=400, deadline=None, derandomize=True)
@given(expression=expressions())
def test_extreme_integers(child, expression):
    """`ask` fails where the process dies, does not end, or a shape has wrapped."""
    child.ask(expression)


@pytest.mark.parametrize("interface", ["shape", "strides"])
def test_foreign_dlpack_shapes(interface):
    """A DLPack capsule that says absurd sizes is refused before its memory is read."""
    import ctypes

    class Tensor(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.c_void_p), ("device_type", ctypes.c_int), ("device_id", ctypes.c_int),
            ("ndim", ctypes.c_int), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("byte_offset", ctypes.c_uint64), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
        ]  # fmt: skip

    shapes = {"shape": [(2**32, 2**32), (-1,), (2**62, 4), (2**63 - 1,)], "strides": [(3,), (2, 2), (3,), (2,)]}
    strides = {"shape": [None] * 4, "strides": [(2**62,), (2**61, 1), (-(2**62),), (2**63 - 1,)]}
    memory = (ctypes.c_float * 16)()
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    for shape, steps in zip(shapes[interface], strides[interface], strict=True):
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        tensor = Tensor(ctypes.addressof(memory), 1, 0, len(shape), 2, 32, 1, sizes, None, 0, None, None)
        if steps is not None:
            tensor.strides = (ctypes.c_int64 * len(steps))(*steps)
        with pytest.raises((RuntimeError, BufferError)):
            fx.from_dlpack(new(ctypes.addressof(tensor), b"dltensor", None))
