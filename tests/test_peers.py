"""Tests run where the libraries that they compare with are not installed: no file asks for one at its head."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import peers
import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPORTED_AS = {"cuda-bindings": "cuda", "meson-python": "mesonpy"}


def at_hand():
    """Names for the heads of test files: what `pip install ferrox[test]` brings, and what lies in the clone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.match(r"[\w-]+", each)[0] for each in required}
    installed = {IMPORTED_AS.get(each, each.replace("-", "_")) for each in names}
    own = {path.stem for folder in ("tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
    return installed | own | {"ferrox"} | sys.stdlib_module_names


def imports(path):
    """What a file imports whenever it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_heads_import_what_every_test_environment_has():
    allowed = at_hand()
    bare = {
        str(path.relative_to(ROOT)): sorted(missing)
        for path in (ROOT / "tests").rglob("*.py")
        if (missing := set(imports(path)) - allowed)
    }
    assert not bare, f"from peers import …: {bare}"


def test_a_library_that_is_missing_skips_whoever_asks_it():
    library = peers.peer("surely_not_installed.here")
    with pytest.raises(pytest.skip.Exception, match=r"compares with surely_not_installed, which is not installed"):
        _ = library.Tensor
    assert not hasattr(library, "__wrapped__") and not hasattr(library, "pytestmark")


def test_a_library_that_is_there_is_itself():
    assert peers.peer("os.path") is sys.modules["os.path"]
