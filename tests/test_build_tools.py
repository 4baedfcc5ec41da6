"""What the build runs: modules translated several at a time, and a long command whose steps are shown."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
MODULES = {
    "shared.pxd": "cdef int shared(int x)\n",
    "shared.pyx": "cdef int shared(int x):\n    return x + 1\n",
    "user.pyx": "from shared cimport shared\n\ndef use(int x):\n    return shared(x)\n",
    "alone.pyx": "def alone():\n    return 1\n",
}
NAMES = ("shared", "user", "alone")


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("Cython", reason="Cython is not installed")
    for name, text in MODULES.items():
        write(tmp_path / name, text)
    return tmp_path


def write(path, text):
    """Write a file that is older than whatever is made of it from now on, and newer than what was."""
    path.write_text(text)
    time.sleep(0.02)


def translate(folder, *options):
    """Translate all; returns how it ended, what was said, and the times of the C files."""
    outs = [f"{name}.c" for name in NAMES]
    command = [sys.executable, TOOLS / "translate.py", "all.d", *outs, "--", "-3", "-I", ".", *options,
               *(f"{name}.pyx" for name in NAMES)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, [os.stat(folder / each).st_mtime_ns for each in outs]


def test_only_what_has_changed_is_translated(folder):
    status, said, first = translate(folder)
    assert status == 0, said
    assert b"PyInit_user" in (folder / "user.c").read_bytes()
    watched = (folder / "all.d").read_text()
    assert watched.startswith("shared.c user.c alone.c: ") and str(folder / "shared.pxd") in watched
    assert translate(folder)[2] == first, "nothing has changed"

    write(folder / "shared.pxd", MODULES["shared.pxd"] + "cdef int more(int x)\n")
    write(folder / "shared.pyx", MODULES["shared.pyx"] + "cdef int more(int x):\n    return x\n")
    write(folder / "user.pyx", MODULES["user.pyx"].replace("shared(x)", "shared(x) + 1"))
    status, said, second = translate(folder)
    assert status == 0, said
    assert second[0] > first[0] and second[1] > first[1] and second[2] == first[2]


def test_c_that_comes_out_the_same_keeps_its_time(folder):
    first = translate(folder)[2]
    write(folder / "alone.pyx", MODULES["alone.pyx"])
    assert translate(folder)[2] == first


def test_other_options_translate_all(folder):
    first = translate(folder)[2]
    second = translate(folder, "-X", "binding=False")[2]
    assert second[1] > first[1] and second[2] > first[2]  # the first module has no Python function to bind


def test_an_error_is_told_and_the_rest_is_translated(folder):
    first = translate(folder)[2]
    write(folder / "shared.pyx", "cdef int shared(int x):\n    return nonsense(\n")
    write(folder / "alone.pyx", "def alone():\n    return 2\n")
    status, said, second = translate(folder)
    assert status != 0 and "shared.pyx:" in said
    assert second[0] == first[0] and second[2] > first[2]
    write(folder / "shared.pyx", MODULES["shared.pyx"])
    assert translate(folder)[0] == 0


def progress(tmp_path, program):
    done = subprocess.run([sys.executable, TOOLS / "progress.py", tmp_path / "log", sys.executable, "-c", program],
                          capture_output=True, text=True)
    return done.returncode, done.stdout


def test_steps_are_shown_and_the_rest_is_kept(tmp_path):
    program = "print('  [1/2] Compiling C object a/b/c.o'); print('a warning'); print('[2/2] Linking target d/e.so')"
    status, shown = progress(tmp_path, program)
    assert status == 0 and shown.splitlines()[:2] == ["[1/2] Compiling C object c.o", "[2/2] Linking target e.so"]
    assert "warning" not in shown and "done in" in shown
    assert "a warning" in (tmp_path / "log").read_text()


def test_a_failure_shows_the_end_of_the_log(tmp_path):
    program = "print('\\n'.join(map(str, range(500)))); print('what went wrong'); raise SystemExit(3)"
    status, shown = progress(tmp_path, program)
    assert status == 3 and "what went wrong" in shown and "\n400\n" not in shown and str(tmp_path / "log") in shown
