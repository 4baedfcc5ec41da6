"""Write the type stubs of Ferrox, from what is installed: the names it has compiled or makes at run time.

    python tools/stubs.py [--check]

Names, parameters and defaults are those of the operators, functions and classes themselves; types are those that
stubs.toml gives to names.  A parameter without one is an error, so that every new name is decided on once.  `--check`
writes nothing and fails when a file is not what would be written.
"""

import importlib
import inspect
import re
import sys
import textwrap
import tomllib
import types
from pathlib import Path

import ferrox
import ferrox.nn.functional
import ferrox.return_types
from ferrox._core.api.public import namespaces
from ferrox._core.graph.op import Op, operators

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HEADING = "# Written by tools/stubs.py from what it describes; to write it anew: make stubs-write\n"
WIDTH = 120
# The compiled modules that hold public classes.
MODULES = ("api.custom", "api.tensorclass", "cuda.graphs", "cuda.stream", "door.device", "dtype", "errors",
           "graph.engine", "graph.node", "graph.op", "graph.statistics", "tensor.generator", "tensor.size")
IMPORTS = {
    "from builtins import bool as _bool": ["_bool"],
    "from builtins import float as _float": ["_float"],
    "from builtins import int as _int": ["_int"],
    "from collections.abc": ["Callable", "Iterable", "Iterator", "Sequence"],
    "from contextlib": ["AbstractContextManager"],
    "from os": ["PathLike"],
    "from types": ["EllipsisType"],
    "from typing": ["IO", "Any", "Literal", "NamedTuple", "Self", "SupportsIndex", "TypeAlias", "final", "overload"],
    "import numpy as np": ["np"],
    "from numpy.typing": ["NDArray"],
    "from ferrox import return_types": ["return_types"],
    "from ferrox._core.cuda.stream": ["Stream"],
    "from ferrox._core.door.device import device as _device": ["_device"],
    "from ferrox._core.dtype import dtype as _dtype": ["_dtype"],
    "from ferrox._core.dtype": ["_FloatInfo", "_IntInfo"],
    "from ferrox._core.graph.node": ["Node"],
    "from ferrox._core.graph.hooks": ["Handle"],
    "from ferrox._core.graph.op": ["Op"],
    "from ferrox._core.tensor.generator": ["Generator"],
    "from ferrox._core.tensor.size": ["Size"],
    "from ferrox._core.api.attributes import layout as _layout": ["_layout"],
    "from ferrox._core.api.tensorclass": ["Tensor", "_Device", "_Dims", "_Index", "_Operand", "_Type"],
}
ALIASES = """\
_Device: TypeAlias = _device | str | _int
_Dims: TypeAlias = _int | Sequence[_int]
_Operand: TypeAlias = Tensor | _float | NDArray[Any] | np.generic
_Type: TypeAlias = _dtype | type[_bool] | type[_int] | type[_float]
_Index: TypeAlias = SupportsIndex | slice | EllipsisType | Tensor | NDArray[Any] | Sequence[Any] | None

"""
ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift",
              "rshift"]
BASES = {"Size": "(tuple[_int, ...])"}
PROTOCOLS = {"__array__", "__array_wrap__", "__array_ufunc__", "__reversed__",
             "__copy__", "__deepcopy__", "__dlpack_device__"}


def by_name(table):
    """A table from types to names, as one from names to types."""
    return {name: kind for kind, names in table.items() for name in names.split()}


TABLES = tomllib.loads((HERE / "stubs.toml").read_text())
TYPES, RETURNS, MEMBERS = (by_name(TABLES[table]) for table in ("types", "returns", "members"))
VARIANTS, BY_HAND = TABLES["variants"], TABLES["by_hand"]
EMPTY, KEYWORD = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def lookup(table, *keys):
    return next((table[key] for key in keys if key in table), None)


def undecided(what, name):
    raise SystemExit(f"no type for the {what} {name!r}: give it one in tools/stubs.toml")


def written(value):
    return f'"{value}"' if isinstance(value, str) else repr(value)


def filled(items, width):
    """Lines of items, each with its comma, broken between them only."""
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > width:
            lines.append("")
        lines[-1] += " " * bool(lines[-1]) + item + ","
    return textwrap.indent("\n".join(lines), "    ")


class Routine:
    """A function, or a method of the class `owner`; its result is a `default` where no table says otherwise."""

    def __init__(self, name, value, owner="", default=None):
        self.name, self.owner, self.default = name, owner, "Tensor" if isinstance(value, Op) else default
        self.parameters = list(inspect.signature(value).parameters.values())
        # What tables may call it: with its class, by name, as the operator whose alias or in-place form it is.
        self.row = value.name if isinstance(value, Op) else name
        self.keys = [f"{owner}.{name}", name, name.removesuffix("_"), self.row, self.row.removesuffix("_")]

    def type_of(self, parameter):
        name, default = parameter.name, parameter.default
        if name == "axis" and any(each.name == "dim" for each in self.parameters):
            name = "dim"
        found = lookup(TYPES, *(f"{key}.{name}" for key in self.keys), name)
        if found is None and type(default) in (bool, int, float, str):
            found = type(default).__name__ if isinstance(default, str) else f"_{type(default).__name__}"
        found = found or undecided("parameter", f"{self.name}.{name}")
        return found + " | None" if default is None and not found.endswith(("| None", "Any")) else found

    def result(self):
        if self.owner and self.name.endswith("_") and not self.name.startswith("_"):
            return "Self"
        found = lookup(RETURNS, *self.keys)
        if found is None and self.row in vars(ferrox.return_types):
            return f"return_types.{self.row}"
        return found or self.default or undecided("result", self.name)

    def declared(self, changes=None, result=None):
        """The declaration; `changes` gives parameters other annotations."""
        parts, keyword_only, optional = [], False, False
        for at, each in enumerate(self.parameters):
            name, default = each.name, "" if each.default is EMPTY else f" = {written(each.default)}"
            changed = (changes or {}).get(name)
            if changed == "!" or (name.startswith("_") and each.kind is KEYWORD):
                continue
            if self.owner and at == 0:
                parts.append(name)
                continue
            required = (changed is not None and "=" not in changed) or (not default and each.kind not in STARS)
            if not keyword_only and (each.kind is KEYWORD or (required and optional)):
                parts.append("*")
                keyword_only = True
            optional = optional or not required
            if each.kind in STARS:
                keyword_only = True
                parts.append(f"{STARS[each.kind]}{name}: {self.type_of(each)}")
            else:
                parts.append(f"{name}: {changed or self.type_of(each) + default}")
            if each.kind is inspect.Parameter.POSITIONAL_ONLY:
                parts.append("/")
        result = f"return_types.{self.row}" if result == "named" else result or self.result()
        line = f"def {self.name}({', '.join(parts)}) -> {result}: ..."
        if len(line) + (4 if self.owner else 0) <= WIDTH:
            return line
        return f"def {self.name}(\n{filled(parts, WIDTH - 8)}\n) -> {result}: ..."

    def __str__(self):
        variants = lookup(VARIANTS, *self.keys)
        variants = VARIANTS[variants] if isinstance(variants, str) else variants
        if not variants:
            return self.declared()
        return "\n".join("@overload\n" + self.declared(*variant) for variant in variants)


def class_stub(cls, name, base=""):
    """A compiled class: what is written by hand, then its members in alphabetical order."""
    body = BY_HAND.get(name, "").strip().splitlines()
    known = set(re.findall(r"^(?:def )?(\w+)[:(]", "\n".join(body), re.M))
    if name == "Tensor":
        body += [
            f"def __{form}{each}__(self, other: _Operand, /) -> {'Self' if form == 'i' else 'Tensor'}: ..."
            for each in ARITHMETIC for form in ("", "r", "i") if f"__{form}{each}__" in vars(cls).keys() - known
        ]
    own = [one for one in reversed(cls.__mro__) if one.__module__.partition(".")[0] == "ferrox"]
    members = {key: value for one in own for key, value in vars(one).items()}
    for key in sorted(members):
        value = members[key]
        hidden = key.startswith("_") and key not in PROTOCOLS and lookup(MEMBERS, f"{name}.{key}", key) is None
        if key in known or hidden:
            continue
        if callable(value):
            body.append(str(Routine(key, value, name, "Tensor" if name in ("Tensor", "Generator") else None)))
        else:
            kind = lookup(MEMBERS, f"{name}.{key}", key) or undecided("member", f"{name}.{key}")
            body += ["@property", f"def {key}(self) -> {kind}: ..."]
    head = ("@final\n" if not cls.__flags__ & 1 << 10 else "") + f"class {name}{base}:"
    return head + ("\n" + textwrap.indent("\n".join(body), "    ") + "\n" if body else " ...\n")


def finished(body):
    """The text of a file: the imports that its body needs, and the body."""
    words = set(re.findall(r"\w+", body)) - set(re.findall(r"(?:^class |^| as )(\w+)(?=:|\(|$)", body, re.M))
    lines = []
    for start, names in IMPORTS.items():
        used = [name for name in names if name in words]
        if used:
            lines.append(start if "import" in start else f"{start} import {', '.join(used)}")
    body = re.sub(r"(?<=[^\n]\n)(?<!@final\n)(?=(@final\n)?class )", "\n", body)
    return HEADING + "\n".join(lines) + "\n\n" * bool(lines) + body.rstrip("\n") + "\n"


def listed(names):
    return "__all__ = [\n" + filled([f'"{name}"' for name in names], WIDTH - 4) + "\n]\n"


# The compiled modules of the classes that go by a public name.
HOMES = {ferrox.Tensor: "api.tensorclass", ferrox.device: "door.device", ferrox.dtype: "dtype", Op: "graph.op",
         ferrox.Generator: "tensor.generator", ferrox.Size: "tensor.size", ferrox.layout: "api.attributes"}


def home_of(value, default):
    """The module that a function or class is declared in."""
    home = HOMES.get(value) if isinstance(value, type) else None
    return getattr(value, "__module__", default) if home is None else f"ferrox._core.{home}"


def module_stub(module):
    """A compiled module: its public functions and classes."""
    parts = []
    for name, value in vars(module).items():
        private = name.startswith("_") and name not in BY_HAND
        foreign = home_of(value, module.__name__) != module.__name__
        if private or foreign or isinstance(value, types.ModuleType):
            continue
        if isinstance(value, type):
            base = f"({value.__base__.__name__})" if issubclass(value, Exception) else BASES.get(name, "")
            parts.append(class_stub(value, name, base))
        elif callable(value):
            parts.append(str(Routine(name, value)))
        else:
            parts.append(f"{name}: {MEMBERS[name]}")
    return "\n".join(parts)


def exported(name, value, package):
    """The line, or the declaration, of a name in a package."""
    if isinstance(value, types.ModuleType):
        return f"from {package} import {name} as {name}"
    if isinstance(value, ferrox.dtype):
        return f"{name}: _dtype"
    if isinstance(value, ferrox.layout):
        return f"{name}: _layout"
    if isinstance(value, type) or (package != "ferrox" and not isinstance(value, Op)):
        return f"from {home_of(value, '')} import {name} as {name}"
    if callable(value):
        return str(Routine(name, value))
    return f"{name}: " + {float: "_float", str: "str", type(None): "None"}[type(value)]


def package_stub(package, names, modules):
    """A package: what it takes over from its modules, and the names of its own."""
    values = {name: getattr(package, name) for name in names}
    lines = [
        exported(name, value, package.__name__) for name, value in values.items()
        if name in modules or not isinstance(value, types.ModuleType)
    ]
    taken = sorted(line for line in lines if line.startswith("from "))
    return "\n".join(taken) + "\n\n" + "\n".join(line for line in lines if line not in taken) + "\n"


def files():
    """Every stub's path and text."""
    made = {}
    for name in MODULES:
        made[f"_core/{name.replace('.', '/')}"] = module_stub(importlib.import_module(f"ferrox._core.{name}"))
    functional, autograd = ferrox.nn.functional, ferrox.autograd
    tuples = [
        f"class {name}(NamedTuple):\n" + "".join(f"    {field}: Tensor\n" for field in value._fields)
        for name, value in vars(ferrox.return_types).items() if isinstance(value, type)
    ]
    made["_core/api/tensorclass"] = ALIASES + made["_core/api/tensorclass"]
    rows = {name for name, op in operators().items() if op.row.get("public", True) is True and "." not in name}
    made["__init__"] = package_stub(ferrox, sorted({*dir(ferrox), *rows, "__version__"}), ferrox._modules)
    made["autograd/__init__"] = package_stub(autograd, autograd.__all__, autograd._MODULES) + listed(autograd.__all__)
    made["nn/functional"] = listed(functional.__all__) + "\n" + "\n".join(
        str(Routine(name, getattr(functional, name), default="Tensor")) for name in functional.__all__
    )
    for name in namespaces():
        module = getattr(ferrox, name)
        made[name] = listed(module.__all__) + "\n" + "\n".join(
            str(Routine(each, getattr(module, each))) for each in module.__all__
        )
    made["return_types"] = "\n".join(tuples)
    return {ROOT / "ferrox" / f"{name}.pyi": finished(body) for name, body in made.items()}


def main():
    made = files()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    left = [path for path in (ROOT / "ferrox").rglob("*.pyi") if path not in made]
    names = [str(path.relative_to(ROOT)) for path in stale + left]
    if sys.argv[1:] == ["--check"]:
        if names:
            raise SystemExit(f"not what the operators say now: {', '.join(names)}; run `make stubs-write` and commit")
        return
    for path in stale:
        path.write_text(made[path])
    for path in left:
        path.unlink()
    for name in names:
        print(name)


if __name__ == "__main__":
    main()
