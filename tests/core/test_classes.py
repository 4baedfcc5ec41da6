"""Every compiled class: instances that no constructor filled, and methods called with another self, raise."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import ferrox as fx

# Each member of a class is tried on what `cls.__new__(cls)` gives and on objects of other classes.  What it does with
# them is its affair, but the process has to live, and another self is a TypeError.
PROGRAM = """
import gc, importlib, sys, types
import ferrox as fx

HEAP_TYPE = 1 << 9
module, name = sys.argv[1:]
cls = getattr(importlib.import_module(module), name)
arguments = [(), (0,), (0, 1), ("a",), (None, None, None), (fx.ones(2),), (fx.ones(2), 0), ([0],), (1.5, 2.5),
             (lambda *args: None,)]
skipped = {"__new__", "__class__", "__init_subclass__", "__subclasshook__", "__getattribute__", "__reduce_cython__x"}


def members():
    for key, value in list(cls.__dict__.items()):
        if key in skipped or isinstance(value, (staticmethod, classmethod, str, dict, tuple, int, float, type(None))):
            continue
        yield key, value


def attempt(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    return None


def calls(value, self):
    if isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType, property)):
        yield "get", lambda: value.__get__(self, cls) if not isinstance(value, property) else value.fget(self)
        if not isinstance(value, property):
            yield "set", lambda: value.__set__(self, 1)
            yield "set None", lambda: value.__set__(self, None)
            yield "delete", lambda: value.__delete__(self)
    elif callable(value):
        for given in arguments:
            yield str(len(given)), lambda given=given: value(self, *given)


try:
    fresh = cls.__new__(cls)
except TypeError:
    fresh = None
strangers = [5, "text", object(), fx.device("cpu"), fx.float32, fx.ones(2),
             fx.ones(2, requires_grad=True).exp().grad_fn]
accepted = []
for key, value in members():
    if fresh is not None:
        for how, call in calls(value, fresh):
            print(key, how, "fresh", flush=True)
            attempt(call)
        try:
            fresh = cls.__new__(cls)
        except TypeError:
            pass
    for stranger in strangers:
        if isinstance(stranger, cls):
            continue
        for how, call in calls(value, stranger):
            print(key, how, type(stranger).__name__, flush=True)
            error = attempt(call)
            if error is None or not isinstance(error, (TypeError, AttributeError)):
                accepted.append((key, how, type(stranger).__name__, repr(error)))
if fresh is not None:
    for function in (repr, str, hash, bool, len, list, dir, float, int, iter, abs):
        print(function, "fresh", flush=True)
        attempt(function, fresh)
    for other in (fresh, 2, fx.ones(2)):
        for text in ("f + o", "o + f", "f == o", "f < o", "f[0]", "f @ o", "f ** o", "f * o", "o * f", "-f", "f[o]",
                     "f.__dict__", "memoryview(f)", "o in f", "__import__('copy').copy(f)",
                     "__import__('copy').deepcopy(f)", "__import__('pickle').dumps(f)"):
            print(text, "fresh", flush=True)
            attempt(eval, text, {"f": fresh, "o": other})
    print("subclass", flush=True)
    attempt(lambda: type("Sub", (cls,), {"__init__": lambda self: None})())
gc.collect()
del fresh
gc.collect()
print("ACCEPTED", accepted)
"""

HEAP_TYPE = 1 << 9


def classes():
    found = {}
    for module in pkgutil.walk_packages(fx.__path__, "ferrox."):
        try:
            loaded = importlib.import_module(module.name)
        except Exception:
            continue
        for name, value in vars(loaded).items():
            if isinstance(value, type) and value.__module__ == module.name and not value.__flags__ & HEAP_TYPE:
                found[f"{module.name}.{name}"] = value
    return sorted(found)


# Those that Python can make and that operators rely on to be filled are left out: their constructors are the core's.
CORES_OWN = ("ferrox._core.cuda.",)
CLASSES = [name for name in classes() if not name.startswith(CORES_OWN)]


@pytest.mark.parametrize("name", CLASSES)
def test_no_member_of_a_compiled_class_crashes(name):
    module, _, cls = name.rpartition(".")
    run = subprocess.run([sys.executable, "-c", PROGRAM, module, cls], capture_output=True, text=True, timeout=300,
                         check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, (run.returncode, lines[-1:], run.stderr[-500:])
    assert lines[-1] == "ACCEPTED []", lines[-1]
