"""Calls operators with arguments that no one would give them: `python tests/fuzz.py [--calls N] [--seed S]`.

Every call must return or raise an ordinary exception, and one that raises must leave its arguments as they were.  The
call under way is noted in a file, so that a crash names it.
"""

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
ORDINARY = (RuntimeError, TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError, BufferError)
NUMBERS = [0, 1, -1, 2, 3, -3, 7, 64, 65, 2**31, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63), 2**64, 0.0, 0.5, -2.5,
           1e300, math.inf, -math.inf, math.nan, True, False]
SIZES = [0, 1, 1, 2, 3, 4, 5, 7, 16, 33]


class Fuzzer:
    def __init__(self, seed):
        import ferrox as fx
        from ferrox._core.graph.op import operators

        self.fx, self.pick = fx, random.Random(seed)
        self.names = sorted(operators())
        self.rows = operators()
        self.pool = []

    def shape(self):
        return tuple(self.pick.choice(SIZES) for _ in range(self.pick.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 6])))

    def tensor(self):
        fx, pick = self.fx, self.pick
        if self.pool and pick.random() < 0.3:
            return pick.choice(self.pool)
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
        self.pool = [*self.pool[-20:], x]
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

    def index(self):
        """Something to index with."""
        pick = self.pick
        return pick.choice([
            lambda: pick.choice(NUMBERS), self.tensor, lambda: None, lambda: Ellipsis,
            lambda: slice(*(pick.choice([None, *NUMBERS[:8], -100, 100]) for _ in range(3))),
            lambda: [pick.randint(-3, 3) for _ in range(pick.randint(0, 3))],
            lambda: tuple(self.index() for _ in range(pick.randint(0, 4))),
        ])()

    def value(self, depth=0):
        fx, pick = self.fx, self.pick
        kinds = [self.tensor] * 8 + [
            lambda: pick.choice(NUMBERS), lambda: pick.randint(-4, 4), lambda: pick.random(), self.shape,
            lambda: pick.choice([None, "mean", "sum", "none", "ij", "", "relu", b"x", 1j, object(), fx.float32,
                                 fx.int64, fx.bool, fx.float16, slice(None), "cpu", "cuda"]),
            lambda: tuple(pick.choice(NUMBERS) for _ in range(pick.randint(0, 3))),
        ]
        if depth < 2:
            kinds += [lambda: [self.value(depth + 1) for _ in range(pick.randint(0, 3))]]
        return pick.choice(kinds)()

    def sensible(self, name):
        """The arguments of a sample call of the row, most of them kept."""
        from samples import ROWS, calls, over_arrays

        if name not in ROWS or not ROWS[name].sample:
            return None
        call = self.pick.choice(calls(name, seed=self.pick.randrange(1000)))
        args = [over_arrays(lambda array, free: self.fx.from_numpy(array.copy()), each) for each in call.args]
        for k in range(len(args)):
            if self.pick.random() < 0.35:
                args[k] = self.value()
            elif isinstance(args[k], self.fx.Tensor):
                for _ in range(self.pick.choice([0, 0, 1])):
                    args[k] = self.viewed(args[k])
                if self.pick.random() < 0.3:
                    args[k] = args[k].to(getattr(self.fx, self.pick.choice(DTYPES)))
        if self.pick.random() < 0.1:
            args = args[:-1]
        if self.pick.random() < 0.1:
            args.append(self.value())
        return args, dict(call.keywords)

    def call(self):
        """(what, function, arguments, keywords) of the next call."""
        fx, pick = self.fx, self.pick
        kind = pick.random()
        if kind < 0.06:
            return "getitem", fx.Tensor.__getitem__, [self.tensor(), self.index()], {}
        if kind < 0.12:
            return "setitem", fx.Tensor.__setitem__, [self.tensor(), self.index(), self.value()], {}
        name = pick.choice(self.names)
        given = self.sensible(name) if pick.random() < 0.75 else None
        args, keywords = given or ([self.value() for _ in range(pick.choice([0, 1, 1, 2, 2, 3, 4]))], {})
        if pick.random() < 0.1:
            value = self.value()
            keywords[pick.choice(["dim", "keepdim", "out", "dtype", "alpha", "reduction", "generator", "size"])] = value
        inplace = getattr(fx.Tensor, name + "_", None)
        if inplace is not None and pick.random() < 0.25 and args and isinstance(args[0], fx.Tensor):
            return name + "_", inplace, args, keywords
        return name, self.rows[name], args, keywords


def tensors_in(fx, value):
    if isinstance(value, fx.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(fx, each)
    elif isinstance(value, dict):
        yield from tensors_in(fx, list(value.values()))


def bytes_of(x):
    x = x.detach()
    return (tuple(x.shape), x.stride(), x.dtype, bytes(memoryview(x.contiguous().flatten().view(type_of_bytes)))
            if x.numel() else b"")


def told(value):
    import ferrox as fx

    if isinstance(value, fx.Tensor):
        return f"Tensor{tuple(value.shape)}/{value.stride()} {value.dtype}{' grad' if value.requires_grad else ''}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{', '.join(map(told, value))}]"
    return repr(value)


def backward(outputs, wrong, what, text):
    """Gradients of one of the outputs; an ordinary refusal is fine."""
    for each in outputs:
        if each.requires_grad and each.numel():
            try:
                each.sum().backward()
            except ORDINARY:
                pass
            except Exception as error:
                wrong[what, "backward", type(error)] = f"{type(error).__name__} ({error}) from the backward of {text}"
            return


def work(calls, seed, note):
    global type_of_bytes
    import faulthandler

    import ferrox as fx

    faulthandler.enable()
    warnings.simplefilter("ignore")
    type_of_bytes = fx.uint8
    fx.cpu.set_memory_limit(2**30)
    fx.manual_seed(seed)
    fuzzer = Fuzzer(seed)
    wrong = {}
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for k in range(calls):
        what, function, args, keywords = fuzzer.call()
        named = {key: told(v) for key, v in keywords.items()}
        text = f"call {k} of seed {seed}: {what}({', '.join(map(told, args))}, {named})"
        os.pwrite(note, text.encode()[:4000].ljust(4000), 0)
        given = list(tensors_in(fx, [args, keywords]))
        before = [bytes_of(x) for x in given]
        signal.alarm(20)
        try:
            out = function(*args, **keywords)
        except ORDINARY as error:
            if [bytes_of(x) for x in given] != before:
                wrong[what, "changed"] = f"an argument was changed by a call that raised {error!r}: {text}"
            continue
        except Exception as error:
            wrong[what, type(error)] = f"{type(error).__name__} ({error}) from {text}"
            continue
        if fuzzer.pick.random() < 0.5:
            backward(list(tensors_in(fx, out)), wrong, what, text)
    if wrong:
        sys.exit("\n".join(wrong.values()))


def fuzz(calls, seed):
    """Run in a process of its own; returns what went wrong, or None."""
    with tempfile.NamedTemporaryFile() as note:
        command = [sys.executable, "-P", __file__, "--calls", str(calls), "--seed", str(seed), "--note", note.name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
        if done.returncode == 0:
            return None
        last = Path(note.name).read_bytes().decode(errors="replace").strip()
        return f"exit {done.returncode}: {done.stderr[-3000:]}\n{last}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "ops"))
    if options.note:
        work(options.calls, options.seed, os.open(options.note, os.O_WRONLY))
    else:
        sys.exit(fuzz(options.calls, options.seed))
