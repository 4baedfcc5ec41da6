"""What `import ferrox` opens and loads: a few shared objects, none of them OpenBLAS, and nothing that is not needed."""

import importlib
import os
import pickle
import subprocess
import sys

import pytest

import ferrox as fx
from ferrox._core import BundleFinder
from ferrox._core.bundles import BUNDLES

OPENED = """
import ferrox
with open("/proc/self/maps") as maps:
    files = {line.split()[-1] for line in maps if " r-xp " in line and "/ferrox/" in line}
print(*sorted(files), sep="\\n")
"""
SPARED = ["numpy", "pathlib", "typing", "inspect", "re", "dataclasses", "contextlib", "subprocess", "json", "ctypes"]


def python(program):
    # -S: what site-packages load at the start, as an editable installation does, says nothing about Ferrox.
    paths = [path for path in sys.path if os.path.isdir(path)]
    program = f"import sys; sys.path[:] = {paths!r}\n{program}"
    return subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True).stdout


def test_one_shared_object_for_each_folder():
    opened = python(OPENED).split()
    assert {path.rpartition("/")[2].partition(".")[0] for path in opened} == {"_bundle"}
    # Rooms, operators, CPU, and the level of this machine; the CUDA wing waits for a GPU to be asked for.
    assert len(opened) == 4


def test_what_is_not_needed_is_not_imported():
    loaded = python("import ferrox; print(*sys.modules)").split()
    assert not set(SPARED) & set(loaded)


def test_every_module_of_a_bundle_is_found_there():
    finder = BundleFinder()
    for folder, names in BUNDLES.items():
        leaves = [name.rpartition(".")[2] for name in names]
        assert len(leaves) == len(set(leaves)), "a shared object is asked by the last part of a name"
        if ".cpu.v" not in folder:
            importlib.import_module(folder)
            for name in names:
                spec = finder.find_spec(f"{folder}.{name}")
                assert spec.name == f"{folder}.{name}" and "_bundle" in spec.origin
    assert finder.find_spec("ferrox._core.nothing") is None


@pytest.mark.parametrize("name", ["tensor.base", "ops.shape", "cpu.matmul", "cuda.driver"])
def test_a_module_knows_where_it_is_from(name):
    module = __import__(f"ferrox._core.{name}", fromlist=["x"])
    assert module.__name__ == f"ferrox._core.{name}" and module.__file__ == module.__spec__.origin
    assert module is sys.modules[module.__name__]


def test_a_module_that_is_not_there_is_missing():
    with pytest.raises(ModuleNotFoundError, match=r"ferrox\._core\.nothing"):
        __import__("ferrox._core.nothing")


def test_what_is_pickled_is_found_again_in_a_fresh_process():
    tensor = pickle.dumps(fx.arange(3.0)).hex()
    assert python(f"import pickle; print(pickle.loads(bytes.fromhex({tensor!r})).tolist())") == "[0.0, 1.0, 2.0]\n"
