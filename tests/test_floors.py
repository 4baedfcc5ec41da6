"""The floors of the house: a module imports only what lies below it, and files stay small enough to read."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 600
# Lowest first; a module is on the floor of its longest matching prefix.
FLOORS = (
    ("ferrox._core.abi", "ferrox._core.dtypes"),
    (
        "ferrox._core.dtype",
        "ferrox._core.errors",
        "ferrox._core.memory",
        "ferrox._core.door",
        "ferrox._core.cpu",
        "ferrox._core.cuda",
    ),
    ("ferrox._core", "ferrox._core.tensor", "ferrox._core.graph", "ferrox._core.cuda.graphs"),
    ("ferrox._core.ops",),
    ("ferrox._core.api",),
    ("ferrox._core.api.public",),
    ("ferrox",),
    (
        "ferrox.autograd",
        "ferrox.func",
        "ferrox.cpu",
        "ferrox.cuda",
        "ferrox.backends",
        "ferrox.type_info",
        "ferrox.testing",
    ),
    ("ferrox.utils", "ferrox.io", "ferrox.viz", "ferrox.metrics", "ferrox.profiler"),
    ("ferrox.nn", "ferrox.optim"),
)
FLOOR = {prefix: floor for floor, prefixes in enumerate(FLOORS) for prefix in prefixes}
SUFFIXES = (".py", ".pyx", ".pxd")
# At the head of a module: what is inside a function is imported when that is called, and binds nothing.
IMPORT = re.compile(r"^(?:from\s+(ferrox[\w.]*)\s+c?import\s+\(?([^#\n]*(?:\\\n[^\n]*)*)|c?import\s+([^#\n]+))", re.M)


def sources():
    return sorted(path for path in (ROOT / "ferrox").rglob("*") if path.suffix in SUFFIXES)


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in sources()}


def imports_of(path):
    """The modules of this package that a file imports or cimports at its head."""
    text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
    found = set()
    for match in IMPORT.finditer(text):
        base, names, plain = match.groups()
        if base is None:
            found |= {each.split(" as ")[0].strip() for each in plain.split(",")} & MODULES
            continue
        parts = {name.split(" as ")[0].strip(" \\()\n") for name in names.split(",")}
        submodules = {f"{base}.{part}" for part in parts} & MODULES
        found |= submodules
        if base in MODULES and parts - {each.rpartition(".")[2] for each in submodules}:
            found.add(base)
    return found


def floor_of(module):
    name = module
    while name not in FLOOR:
        name = name.rpartition(".")[0]
    return FLOOR[name]


def graph():
    edges = {}
    for path in sources():
        edges.setdefault(module_of(path), set()).update(imports_of(path) - {module_of(path)})
    return edges


def test_imports_are_found():
    edges = graph()
    assert "ferrox._core.graph.node" in edges["ferrox._core.graph.engine"]
    assert "ferrox._core.ops.arithmetic" in edges["ferrox._core.ops.pointwise"]
    assert "ferrox._core.api.public" in edges["ferrox"]


def test_downwards_only():
    upward = [
        f"{module} (floor {floor_of(module)}) imports {other} (floor {floor_of(other)})"
        for module, others in sorted(graph().items())
        for other in sorted(others)
        if floor_of(other) > floor_of(module)
    ]
    assert not upward, "\n".join(upward)


def test_no_cycles():
    edges, state, cycles = graph(), {}, []

    def visit(module, trail):
        state[module] = "open"
        for other in sorted(edges.get(module, ())):
            if state.get(other) == "open" and other in trail:
                cycles.append(" -> ".join([*trail[trail.index(other) :], other]))
            elif other not in state:
                visit(other, [*trail, other])
        state[module] = "done"

    for module in sorted(edges):
        if module not in state:
            visit(module, [module])
    assert not cycles, "\n".join(cycles)


@pytest.mark.parametrize("folder", ["ferrox", "kernels", "tests", "benchmarks", "examples"])
def test_files_are_short(folder):
    longer = {}
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (*SUFFIXES, ".h", ".c", ".cpp", ".cu", ".cuh", ".in"):
            lines = path.read_text().count("\n")
            if lines > LONGEST:
                longer[str(path.relative_to(ROOT))] = lines
    assert not longer


def test_declarations_are_short():
    assert not {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if path.suffix == ".pxd" and (lines := path.read_text().count("\n")) > 80
    }


def test_calls_of_kernels_are_put_together_in_frames():
    """Above the door, only the frame fills the arrays of a call, and nobody makes a call up from parts."""
    for path in sources():
        if path.suffix == ".pyx" and path.relative_to(ROOT / "ferrox").parts[:2] in (
            ("_core", "tensor"), ("_core", "graph"), ("_core", "ops"), ("_core", "api")
        ):
            text = path.read_text()
            assert not re.search(r"\bfx_array \*\*?arrays\b|\blaunch\(|\bfx_call \w+\s*$", text, re.M), path
