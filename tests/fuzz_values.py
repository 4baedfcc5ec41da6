"""Values that no caller means to give: what tests/fuzz.py passes to everything public.

Objects that raise, lie, or change what they lie in while they are asked; tensors of every dtype and layout, also those
that no constructor has filled; extreme numbers; arrays, buffers, recursive lists.
"""

import array
import math
import mmap
import pathlib
import tempfile

import numpy as np

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
NUMBERS = [0, 1, -1, 2, 3, -3, 7, 64, 65, 2**31, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63), 2**64, 0.0, 0.5, -2.5,
           1e300, math.inf, -math.inf, math.nan, True, False]
SIZES = [0, 1, 1, 2, 3, 4, 5, 7, 16, 33]
WORDS = ["mean", "sum", "none", "ij", "", "relu", "float32", "cpu", "cuda", "cuda:7", "meta", "constant", "reflect",
         "circular", "max", "macro", "fan_in", "linear", "tanh", "\0", "é" * 40, "i,i->", "...", "weight", "x.pt"]
MODES = ["raise", "wrong", "plain", "extreme", "clear", "grow", "detach", "swap"]


class MischiefError(Exception):
    """What the objects below raise."""


def read_only_map(n):
    with tempfile.TemporaryFile() as file:
        file.write(bytes(8 * max(n, 1)))
        file.flush()
        return mmap.mmap(file.fileno(), 8 * max(n, 1), access=mmap.ACCESS_READ)


class Values:
    """Draws values; `tensors` and `lists` are those that the call under way has been given."""

    def __init__(self, fx, pick):
        self.fx, self.pick = fx, pick
        self.tensors, self.lists, self.armed = [], [], False

    def shape(self):
        return tuple(self.pick.choice(SIZES) for _ in range(self.pick.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 6])))

    def ordinary(self):
        """A tensor, or a view of one, of any dtype; sometimes one that the call has already."""
        fx, pick = self.fx, self.pick
        if self.tensors and pick.random() < 0.3:
            return pick.choice(self.tensors)
        shape = self.shape()
        if math.prod(shape) > 20000:
            shape = shape[:2]
        dtype = getattr(fx, pick.choice(DTYPES))
        if pick.random() < 0.6:
            x = (fx.randn(shape) * pick.choice([0, 1, 3, 1e10])).to(dtype)
        else:
            x = fx.randint(-3, 9, shape).to(dtype)
        for _ in range(pick.choice([0, 0, 1, 1, 2])):
            x = self.viewed(x)
        if dtype.is_floating_point and pick.random() < 0.3:
            x = x.detach().requires_grad_()
            x = x * 1 if pick.random() < 0.5 else x
        self.tensors.append(x)
        return x

    def viewed(self, x):
        pick = self.pick
        if not x.ndim:
            return x.expand(pick.choice(SIZES))
        d = pick.randrange(x.ndim)
        kind = pick.randrange(5)
        if kind == 0:
            return x.transpose(d, pick.randrange(x.ndim))
        if kind == 1:
            return x.narrow(d, pick.randint(0, x.shape[d]) // 2, x.shape[d] // 2)
        if kind == 2:
            return x.unsqueeze(d)
        if kind == 3:
            return x[(slice(None),) * d + (slice(None, None, pick.choice([1, 2, 3])),)]
        return x.unsqueeze(d).expand(*x.shape[:d], 3, *x.shape[d:])

    def odd(self):
        """A tensor that few have met."""
        fx, pick = self.fx, self.pick
        kind = pick.choice([0, 1, 2, 3, 6, 7, 8])
        if kind == 0:
            x = fx.ones((1,) * 64)
        elif kind == 1:
            x = fx.randn(12).as_strided((3, 4), (pick.choice([0, 1, 2]), 1))
        elif kind == 2:
            x = fx.frombuffer(bytes(range(8)) * 3, dtype=fx.uint8)
        elif kind == 3:
            x = fx.frombuffer(read_only_map(6), dtype=fx.float32)
        elif kind == 4:
            x = fx.Tensor.__new__(fx.Tensor)
        elif kind == 5:
            x = type("Bare", (fx.Tensor,), {"__init__": lambda self, *args: None})()
        elif kind == 6:
            x = type("Boast", (fx.Tensor,), {pick.choice(["shape", "dtype", "device", "grad", "requires_grad", "ndim"]):
                                             property(lambda self: self.given)})(fx.randn(3))
            x.given = pick.choice([None, (2**40,), -1, fx.int64, "cpu", fx.ones(2)])
        elif kind == 7:
            x = fx.nn.Parameter(fx.randn(pick.choice([1, 3, 4])))
        else:
            x = fx.empty((0, pick.choice([0, 3, 2**40])))
        self.tensors.append(x)
        return x

    def tensor(self):
        return self.odd() if self.pick.random() < 0.15 else self.ordinary()

    def tamper(self, mode):
        """Change what the call has been given, while it is under way."""
        if not self.armed:
            return
        for each in self.lists:
            if mode == "clear":
                each.clear()
            elif mode == "grow" and len(each) < 50:
                each.extend([None] * 20)
            elif mode == "swap" and each:
                each[self.pick.randrange(len(each))] = object()
        if mode == "detach":
            for x in list(self.tensors):
                if type(x) is self.fx.Tensor and x.grad_fn is not None and not x._is_view():
                    x.detach_()

    def liar(self):
        """An object whose special methods misbehave."""
        pick = self.pick

        def answer(plain, extreme):
            def method(self, *args, **keywords):
                mode = modes[0] if len(modes) == 1 else pick.choice(modes)
                if mode == "raise":
                    raise MischiefError("asked")
                if mode == "wrong":
                    return pick.choice([None, "x", object(), 1j, [], NotImplemented])
                values.tamper(mode)
                return pick.choice(extreme) if mode == "extreme" else plain()
            return method

        values, modes = self, [pick.choice(MODES)]
        special = {
            "__index__": answer(lambda: 1, [2**63, -(2**63), 2**64, 2**31]),
            "__int__": answer(lambda: 1, [2**64]),
            "__float__": answer(lambda: 1.0, [math.nan, math.inf]),
            "__complex__": answer(lambda: 1j, [1j]),
            "__bool__": answer(lambda: True, [False]),
            "__len__": answer(lambda: 2, [-1, 2**31, 2**63, 0]),
            "__iter__": answer(lambda: iter([1, 2]), [iter([]), iter([1.5, None])]),
            "__getitem__": answer(lambda: 1, [2**64]),
            "__array__": answer(lambda: np.ones(3), [np.ones(3)[::-1], np.array([None, 1]), np.zeros((0, 2)), 3]),
            "__array_interface__": property(answer(lambda: {"shape": (2,)}, [{"version": 3, "typestr": "<f4"}, {}])),
            "__dlpack__": answer(lambda: self.ordinary().detach().__dlpack__(), [3, np.ones(2).__dlpack__()]),
            "__dlpack_device__": answer(lambda: (1, 0), [(2**31, -1), (2, 0), (1,), ("x", 1)]),
            "__cuda_array_interface__": property(answer(lambda: {"shape": (2,)}, [{}, 3])),
            "__hash__": answer(lambda: 1, [0]),
            "__eq__": answer(lambda: True, [False]),
            "__call__": answer(lambda: self.ordinary(), [0, (1, 2), []]),
            "__add__": answer(lambda: 1, [2**64]),
            "__radd__": answer(lambda: 1, [2**64]),
            "__fspath__": answer(lambda: "y", ["\0", "/nowhere/x"]),
            "__class__": property(lambda self: values.fx.Tensor),
            "__setstate__": answer(lambda: None, [0]),
        }
        bases = pick.choice([(), (), (), (int,), (float,), (str,), (list,), (tuple,), (dict,)])
        chosen = pick.sample(sorted(special), pick.choice([1, 1, 2, 4]))
        members = {name: special[name] for name in chosen}
        made = type("Liar", bases, {"__hash__": object.__hash__, **members})()
        if bases == (list,) and "__len__" not in chosen:
            self.lists.append(made)
        return made

    def foreign(self):
        """Arrays and buffers of others."""
        pick = self.pick
        fixed = np.arange(6.0)
        fixed.flags.writeable = False
        unaligned = np.frombuffer(bytes(25), np.uint8)[1:].view(np.float32)
        return pick.choice([
            lambda: fixed, lambda: unaligned, lambda: np.arange(6)[::-1], lambda: np.array([1, None, "x"], object),
            lambda: np.arange(6, dtype=">i4"), lambda: np.zeros(2, [("a", "i4"), ("b", "f8")]), lambda: np.array("x"),
            lambda: np.array(["2020-01-01"], "M8[D]"), lambda: np.ones(3, complex), lambda: np.float16(2.5),
            lambda: np.uint64(2**64 - 1), lambda: np.bool_(True), lambda: np.zeros((0, 3)), lambda: np.longdouble(1),
            lambda: np.lib.stride_tricks.as_strided(np.ones(4), (3, 2**20), (8, 0)), lambda: np.ma.masked_array([1, 2]),
            lambda: b"\x00\xff" * 5, lambda: bytearray(b"abcdefgh"), lambda: memoryview(bytearray(16)).cast("f"),
            lambda: memoryview(bytes(12))[::-1], lambda: array.array("d", [1, 2]),
            lambda: np.int8([1, 2, 3]).view(bool),
        ])()

    def listed(self, depth):
        pick = self.pick
        kind = pick.random()
        made = [self.value(depth + 1) for _ in range(pick.randint(0, 4))]
        self.lists.append(made)
        if kind < 0.06:
            made.append(made)
        elif kind < 0.08:
            for _ in range(3000):
                made = [made]
        elif kind < 0.35:
            return tuple(made)
        elif kind < 0.4:
            return iter(made)
        elif kind < 0.5:
            return {pick.choice(["x", "weight", "params", "lr", 0, None]): each for each in made}
        elif kind < 0.55:
            return range(pick.choice([0, 3, 10]))
        return made

    def function(self):
        fx, pick = self.fx, self.pick
        return pick.choice([
            lambda *args: args[0] if args else None, lambda *args: None, lambda *args: self.ordinary(), fx.sum, fx.relu,
            lambda *args: pick.choice([1, "x", (1, 2)]), lambda *args: self.tamper("detach"), fx.Tensor.mul, int, list,
        ])

    def module(self):
        nn, pick = self.fx.nn, self.pick
        return pick.choice([
            lambda: nn.Linear(3, 2), lambda: nn.BatchNorm1d(4), lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU()),
            lambda: nn.Embedding(5, 2), lambda: nn.Module.__new__(nn.Linear), lambda: nn.ModuleList([nn.ReLU()]),
            lambda: nn.ParameterDict({"x": nn.Parameter(self.fx.ones(2))}), lambda: nn.Dropout(0.5), lambda: nn.Linear,
        ])()

    def index(self):
        """Something to index with."""
        pick = self.pick
        return pick.choice([
            lambda: pick.choice(NUMBERS), self.tensor, lambda: None, lambda: Ellipsis, self.liar, self.foreign,
            lambda: slice(*(pick.choice([None, *NUMBERS[:8], -100, 100]) for _ in range(3))),
            lambda: [pick.randint(-3, 3) for _ in range(pick.randint(0, 3))],
            lambda: tuple(self.index() for _ in range(pick.randint(0, 4))),
        ])()

    def other(self):
        """Whatever else there is."""
        fx, pick = self.fx, self.pick
        return pick.choice([
            lambda: None, lambda: pick.choice(WORDS), lambda: pick.choice(WORDS), lambda: b"x", lambda: 1j, object,
            lambda: getattr(fx, pick.choice(DTYPES)), lambda: fx.device("cpu"), lambda: fx.device("cuda", 0),
            lambda: slice(None), lambda: pathlib.Path(pick.choice(["out.bin", "/nowhere/x"])), fx.Generator,
            lambda: pick.choice([int, float, bool, fx.Tensor, fx.nn.Parameter, np.float32, Ellipsis, np.dtype("i2")]),
            lambda: fx.Generator.__new__(fx.Generator), lambda: fx.Size((2, 3)), self.index,
            lambda: (fx.ones(2, requires_grad=True) * 2).grad_fn, lambda: {"x": fx.ones(2)},
            lambda: fx.optim.SGD([fx.ones(2, requires_grad=True)], lr=0.1), lambda: ValueError("x"),
        ])()

    def value(self, depth=0):
        pick = self.pick
        kinds = [self.tensor] * 8 + [
            lambda: pick.choice(NUMBERS), lambda: pick.randint(-4, 4), pick.random, self.shape, self.other, self.other,
            lambda: tuple(pick.choice(NUMBERS) for _ in range(pick.randint(0, 3))), self.liar, self.foreign,
            self.function, self.module,
        ]
        if depth < 2:
            kinds += [lambda: self.listed(depth)] * 2
        return pick.choice(kinds)()

    def apt(self, name):
        """What a parameter of this name may well be."""
        fx, pick = self.fx, self.pick
        if name in ("dim", "axis", "n", "k", "start", "end", "step", "dim0", "dim1", "diagonal", "num_classes", "index",
                    "batch_size", "num_features", "in_features", "out_features", "num_layers", "seed", "num_samples"):
            return pick.randint(-2, 4)
        if name in ("p", "eps", "lr", "alpha", "beta", "value", "momentum", "std", "margin", "gamma", "rtol", "low"):
            return pick.choice([0.0, 0.1, 0.5, 1.0, 2, 1e-5])
        if name in ("size", "shape", "sizes", "normalized_shape", "dims", "repeats", "padding", "pad"):
            return self.shape()
        if name in ("keepdim", "training", "bias", "affine", "inplace", "requires_grad", "descending", "largest"):
            return pick.random() < 0.5
        if name in ("f", "func", "function", "hook", "fn", "closure", "lr_lambda", "pack_hook", "unpack_hook"):
            return self.function()
        if name in ("params", "tensors", "parameters", "args", "inputs", "sequence", "outputs", "datasets"):
            return [fx.randn(3).requires_grad_() if pick.random() < 0.5 else self.ordinary() for _ in range(2)]
        if name in ("model", "module", "modules"):
            return self.module()
        if name == "optimizer":
            return fx.optim.SGD([fx.ones(2, requires_grad=True)], lr=0.1)
        if name in ("dtype", "type"):
            return getattr(fx, pick.choice(DTYPES))
        if name in ("reduction", "mode"):
            return pick.choice(WORDS)
        if name == "generator":
            return fx.Generator()
        return self.ordinary()
