"""Hands the registry out: public functions, Tensor methods and in-place methods, each from its row."""
import sys
import types
from importlib.machinery import ModuleSpec

import ferrox._core.api.custom
import ferrox._core.cpu
import ferrox._core.ops  # noqa: F401
from ferrox._core.api import array_protocol, attributes, dlpack, methods, pickling, tensorclass
from ferrox._core.door.device import device
from ferrox._core.graph.op import Op, method, operators
from ferrox._core.ops import creation, elementwise, random
from ferrox._core.ops.family import in_place, with_out
from ferrox._core.tensor import interchange
from ferrox._core.tensor.generator import Generator

# What rows may name as their namespace, and what is in it.
NAMESPACES = {
    "fft": "Fourier transforms, as in torch.fft.",
    "linalg": "Linear algebra, as in torch.linalg.",
    "special": "Special functions, as in torch.special.",
}


def _namespace(functions, name):
    """The module `ferrox.name`, whose functions are rows."""
    if name not in functions:
        full = f"ferrox.{name}"
        functions[name] = sys.modules[full] = types.ModuleType(full, NAMESPACES[name])
        functions[name].__spec__ = ModuleSpec(full, None)
        functions[name].__all__ = []
    return functions[name]


def _method(name, function):
    """A method as it goes into the class: called as operators are, if it has arguments to be named or got wrong."""
    code = getattr(function, "__code__", None)
    if name.startswith("__") or isinstance(function, Op) or code is None:
        return function
    alone = code.co_argcount == 1 and not code.co_kwonlyargcount and not code.co_flags & 0x0C
    return function if alone and function.__name__ == name else method(name, function)


def install():
    """Put every row into the Tensor class; returns the public functions, and modules of them, by name."""
    functions = {}
    for module in (methods, attributes, array_protocol, creation, random, dlpack, pickling):
        for name, function in module.METHODS.items():
            tensorclass.install(name, _method(name, function))
    for name, op in operators().items():
        row = op.row
        if row.get("out") and row.get("family") != "elementwise":
            with_out(op)
        namespace, _, short = name.rpartition(".")
        if namespace:
            module = _namespace(functions, namespace)
            setattr(module, short, op)
            module.__all__ = sorted([*module.__all__, short])
            if not row.get("namespace"):
                continue                # another name of what lives elsewhere, with its methods
        elif row.get("public", True) is True:
            functions[name] = op
        name = short
        if row.get("method"):
            # A callable where the method's arguments are in another order than the function's.
            tensorclass.install(name, _method(name, row["method"]) if callable(row["method"]) else op)
        if row.get("inplace"):
            tensorclass.install(name + "_", _method(name + "_", in_place(op)))
    tensorclass.publish(device, "ferrox.device")
    tensorclass.publish(Generator, "ferrox.Generator")
    elementwise.coerce = interchange.coerce
    tensorclass.resolve()
    return functions


def namespaces():
    """The names of the modules that rows live in."""
    return {name.rpartition(".")[0] for name in operators()} - {""}


def neural():
    """The functions of `ferrox.nn.functional` that `ferrox` does not have (public="nn" in their row), by name."""
    return {name: op for name, op in operators().items() if op.row.get("public") == "nn"}
