"""Calls everything public with arguments that no one would give: `python tests/fuzz.py [--calls N] [--seed S]`.

Operators (with most of a sample call's arguments as they should be), indexing, and all functions, classes, methods,
properties and slots.  Every call must end within its time, in a result or in an ordinary exception, and one that raises
must leave its tensors as they were.  The call under way is noted in a file, so that a crash names it; a call depends on
the seed and its number alone: `--seed S --only K` makes it again.
"""

import argparse
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz_surface import Surface, called
from fuzz_values import DTYPES, MischiefError, Values

ORDINARY = (RuntimeError, TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError, BufferError,
            MischiefError)
# From Python of ours and of the arguments themselves.
ORDINARY_OF_PYTHON = (*ORDINARY, AttributeError, KeyError, OSError, StopIteration, AssertionError, EOFError,
                      ImportError)
SECONDS, SECONDS_OF_CPU = 300, 20
ROOM = 16 << 30


class Fuzzer:
    def __init__(self, seed):
        import ferrox as fx
        from ferrox._core.graph.op import operators

        self.fx, self.seed, self.pick = fx, seed, random.Random(seed)
        self.rows = operators()
        self.names = sorted(self.rows)
        self.values = Values(fx, self.pick)
        self.surface = Surface(fx, self.values)

    def restart(self, number):
        """Make what follows depend on the seed and this number alone."""
        self.pick.seed(f"{self.seed}/{number}")
        self.values.tensors, self.values.lists = [], []
        self.fx.manual_seed(self.pick.randrange(2**31))

    def sensible(self, name):
        """The arguments of a sample call of the row, most of them kept."""
        from samples import ROWS, calls, over_arrays

        if name not in ROWS or not ROWS[name].sample:
            return None
        call = self.pick.choice(calls(name, seed=self.pick.randrange(1000)))
        args = [over_arrays(lambda array, free: self.fx.from_numpy(array.copy()), each) for each in call.args]
        for k in range(len(args)):
            if self.pick.random() < 0.35:
                args[k] = self.values.value()
            elif isinstance(args[k], self.fx.Tensor):
                for _ in range(self.pick.choice([0, 0, 1])):
                    args[k] = self.values.viewed(args[k])
                if self.pick.random() < 0.3:
                    args[k] = args[k].to(getattr(self.fx, self.pick.choice(DTYPES)))
        if self.pick.random() < 0.1:
            args = args[:-1]
        if self.pick.random() < 0.1:
            args.append(self.values.value())
        return args, dict(call.keywords)

    def call(self):
        """(what, function, arguments, keywords, what it may raise) of the next call."""
        fx, pick, values = self.fx, self.pick, self.values
        kind = pick.random()
        if kind < 0.05:
            return "getitem", fx.Tensor.__getitem__, [values.tensor(), values.index()], {}, ORDINARY
        if kind < 0.1:
            return "setitem", fx.Tensor.__setitem__, [values.tensor(), values.index(), values.value()], {}, ORDINARY
        if kind < 0.6:
            return *self.surface.call(), ORDINARY_OF_PYTHON
        name = pick.choice(self.names)
        given = self.sensible(name) if pick.random() < 0.75 else None
        args, keywords = given or ([values.value() for _ in range(pick.choice([0, 1, 1, 2, 2, 3, 4]))], {})
        if pick.random() < 0.1:
            value = values.value()
            keywords[pick.choice(["dim", "keepdim", "out", "dtype", "alpha", "reduction", "generator", "size"])] = value
        inplace = getattr(fx.Tensor, name + "_", None)
        if inplace is not None and pick.random() < 0.25 and args and isinstance(args[0], fx.Tensor):
            return name + "_", inplace, args, keywords, ORDINARY_OF_PYTHON
        return name, self.rows[name], args, keywords, ORDINARY_OF_PYTHON


def tensors_in(fx, value, depth=0):
    if isinstance(value, fx.Tensor) and issubclass(type(value), fx.Tensor):
        yield value
    elif type(value) in (list, tuple) and depth < 5:
        for each in value:
            yield from tensors_in(fx, each, depth + 1)
    elif type(value) is dict and depth < 5:
        yield from tensors_in(fx, list(value.values()), depth + 1)


def bytes_of(fx, x):
    """What a call that raises must leave as it is; None where it cannot be read."""
    if type(x) not in (fx.Tensor, fx.nn.Parameter) or x.numel() > 100000:
        return None
    x = x.detach()
    return tuple(x.shape), x.stride(), x.dtype, (
        bytes(memoryview(x.contiguous().flatten().view(fx.uint8))) if x.numel() else b"")


def told(value, depth=0):
    import ferrox as fx

    if type(value) in (fx.Tensor, fx.nn.Parameter):
        return f"Tensor{tuple(value.shape)}/{value.stride()} {value.dtype}{' grad' if value.requires_grad else ''}"
    if type(value) in (list, tuple):
        inside = ", ".join(told(each, depth + 1) for each in value[:6]) if depth < 3 else "..."
        return f"{type(value).__name__}[{inside}]"
    if type(value) in (int, float, bool, str, bytes, slice, complex, type(None), fx.dtype):
        return repr(value)[:200]
    members = [key for key in vars(type(value)) if key[:2] == "__"] if type(value).__name__ in ("Liar", "Bare") else ""
    return f"<{type(value).__name__} {' '.join(members)}>"


def look(fuzzer, out, what, text, wrong):
    """Use a result: show it, walk over it, take its gradient; an ordinary refusal is fine."""
    fx, kind = fuzzer.fx, fuzzer.pick.random()
    try:
        if kind < 0.2:
            repr(out)
        elif kind < 0.3 and hasattr(type(out), "__next__"):
            for _ in range(4):
                next(out)
        elif kind < 0.6:
            for each in tensors_in(fx, out):
                if each.requires_grad and each.numel():
                    each.sum().backward()
                    break
                each * 2
    except ORDINARY_OF_PYTHON:
        pass
    except Exception as error:
        wrong[what, "after", type(error)] = f"{type(error).__name__} ({error}) from the result of {text}"


def restore(fx):
    """Put back what the process shares."""
    fx.set_default_dtype(fx.float32)
    fx.set_num_threads(2)
    fx.cpu.set_memory_limit(2**30)
    fx.autograd.set_detect_anomaly(False)
    fx.set_grad_enabled(True)


def settle():
    """Limit what a call may take of the machine, and where it may write."""
    import faulthandler

    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if "ASAN_OPTIONS" not in os.environ:
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = os.getcwd()

    def refused():
        raise BlockingIOError("no processes here")

    os.fork = refused


def work(numbers, seed, note):
    settle()
    import ferrox as fx

    fuzzer, wrong, unraisable = Fuzzer(seed), {}, []
    sys.unraisablehook = lambda said: unraisable.append(said)
    for k in numbers:
        fuzzer.restart(k)
        os.pwrite(note, f"call {k} of seed {seed}: making its arguments".encode().ljust(4000), 0)
        try:
            what, function, args, keywords, ordinary = fuzzer.call()
        except ORDINARY_OF_PYTHON:  # an instance could not be made, or a property of one could not be read
            continue
        shown = f"{what}({', '.join(map(told, args))}, { {key: told(v) for key, v in keywords.items()} })"
        text = f"call {k} of seed {seed}: {shown}"
        os.pwrite(note, text.encode(errors="replace")[:4000].ljust(4000), 0)
        given = list(tensors_in(fx, [args, keywords]))
        before = [bytes_of(fx, x) for x in given]
        fuzzer.values.armed = True
        signal.alarm(SECONDS)
        signal.setitimer(signal.ITIMER_PROF, SECONDS_OF_CPU)
        try:
            out = function(*args, **keywords)
        except ordinary as error:
            if [bytes_of(fx, x) for x in given] != before and (function is not called or args[1][-1:] != "_"):
                wrong[what, "changed"] = f"an argument was changed by a call that raised {error!r}: {text}"
        except Exception as error:
            last = "".join(traceback.format_tb(error.__traceback__)[-2:])
            wrong[what, type(error)] = f"{type(error).__name__} ({error}) from {text}\n{last}"
        else:
            look(fuzzer, out, what, text, wrong)
            out = None
        fuzzer.values.armed = False
        restore(fx)
        if not k % 100:
            gc.collect()
        for said in unraisable:
            if not isinstance(said.exc_value, MischiefError):
                wrong[what, "lost"] = f"{said.exc_value!r} was raised and lost ({said.err_msg}) in {text}"
        unraisable.clear()
    if wrong:
        sys.exit("\n".join(wrong.values()))


def brief(said):
    """Without the list of a crash's modules."""
    return "\n".join(line for line in said[-20000:].split("\n") if not line.startswith("Extension modules:"))


def fuzz(calls, seed, only=None):
    """Run in a process of its own; returns what went wrong, or None."""
    with tempfile.NamedTemporaryFile() as note, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--calls", str(calls), "--seed", str(seed), "--note", note.name]
        done = subprocess.run(command + (["--only", str(only)] if only is not None else []), capture_output=True,
                              text=True, errors="replace", cwd=folder)
        if done.returncode == 0:
            return None
        last = Path(note.name).read_bytes().decode(errors="replace").strip()
        return f"exit {done.returncode}: {brief(done.stderr)}\n{last}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this one call of the seed")
    parser.add_argument("--each", type=int, default=20000, help="calls of one process, each with the next seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--note", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parent / "ops")]
    if options.note:
        numbers = range(options.calls) if options.only is None else [options.only]
        work(numbers, options.seed, os.open(options.note, os.O_WRONLY))
        return
    if options.only is not None:
        sys.exit(fuzz(1, options.seed, options.only))
    seeds = range(options.seed, options.seed + max(1, -(-options.calls // options.each)))
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for seed, said in zip(seeds, pool.map(lambda seed: fuzz(min(options.calls, options.each), seed), seeds),
                              strict=True):
            failed += said is not None
            print(f"seed {seed}: {said or 'passed'}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
