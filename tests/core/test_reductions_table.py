"""One line of fx/reductions.h is a reduction: what the lines say, and that one more gives loops by itself."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ferrox._core.door.backend import kernels

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ROOT / "kernels" / "include" / "fx"
LINE = re.compile(r"^FX_(SUM|SUM_BY_ONE|FOLD|EXTREME|PLACE|STATES|ALSO)\((\w+), (\w+),.* (\w+)\)$", re.M)

ADDED = {
    "nanamax": "FX_FOLD(nanamax, REAL, T, fx::least<A>(), x > a ? x : a, b > a ? b : a, PLAIN)",
    "sum_cubes": "FX_SUM(sum_cubes, NUMBER, double, true, x * x * x, PLAIN)",
    "widest": "FX_EXTREME(widest, REAL, 0, x * x, x > a, PLAIN)",
    "where_widest": "FX_PLACE(where_widest, REAL, widest, INDEX)",
}
PROGRAM = """
#include "fx/reduce.h"
#include <stdio.h>
static fx_reduce_entry table[FX_REDUCTIONS][FX_DTYPES];
int main() {
    enum { ROWS = 37, N = 301 };
    static double x[ROWS * N], a[N], b[N];
    if (fread(x, sizeof(double), ROWS * N, stdin) != ROWS * N) return 1;
    fx::reduce::fill_table(table);
    for (const fx_reduce_kernel *line = fx_reduce_kernels; line->name; line++) {
        const fx_reduce_entry *e = &table[line->reduction][FX_F64];
        int64_t state[2] = {e->start[0], e->start[1]}, other[2] = {e->start[0], e->start[1]};
        double p = 3, value;
        /* A row in two parts that are combined, and all columns. */
        e->row(state, x, 5000, 0, &p);
        e->row(other, x + 5000, ROWS * N - 5000, 0, &p);
        e->combine(state, state + 1, other, other + 1, 1, 5000, ROWS * N - 5000);
        memcpy(&value, state, sizeof value);
        printf("%s %.17g %lld", line->name, value, (long long)state[1]);
        for (int i = 0; i < N; i++) memcpy(a + i, &e->start[0], 8), memcpy(b + i, &e->start[1], 8);
        e->fold(a, b, x, N, ROWS, N, 0, &p);
        for (int i = 0; i < N; i++) printf(" %.17g", a[i]);
        puts("");
    }
    return 0;
}
"""


def test_every_line_gives_its_kernel():
    lines = LINE.findall((HEADERS / "reductions.h").read_text())
    assert len(lines) > 15
    provided = set(kernels(0))
    for _, name, _, finish in lines:
        assert (name in provided) == (finish != "HIDDEN"), name


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Values, and what a library with a few lines more computes of them: {name: (row, place, columns)}."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("reductions")
    shutil.copytree(HEADERS, folder / "fx")
    table = folder / "fx" / "reductions.h"
    text = table.read_text()
    assert "\nFX_ALSO(all," in text
    table.write_text(text.replace("\nFX_ALSO(all,", "\n" + "\n".join(ADDED.values()) + "\nFX_ALSO(all,", 1))
    (folder / "main.cpp").write_text(PROGRAM)
    subprocess.run([compiler, "-std=c++17", "-O1", "-I.", "main.cpp", "-o", "main"], cwd=folder, check=True)
    x = np.random.default_rng().standard_normal((37, 301))
    x[3, 5] = x[20, 200] = np.nan
    out = subprocess.run([folder / "main"], input=x.tobytes(), capture_output=True, check=True).stdout.decode()
    found = {}
    for line in out.splitlines():
        name, value, place, *columns = line.split()
        found[name] = float(value), int(place), np.array([float(each) for each in columns])
    return x, found


def test_one_line_more_is_a_reduction(extended):
    x, found = extended
    value, _, columns = found["nanamax"]
    assert value == np.nanmax(x)
    np.testing.assert_array_equal(columns, np.nanmax(x, 0))
    clean = np.nan_to_num(x)
    _, _, columns = found["sum_cubes"]
    has_nan = np.isnan(x).any(0)
    np.testing.assert_allclose(columns[~has_nan], (clean**3).sum(0)[~has_nan], rtol=1e-12, atol=1e-12)
    assert np.isnan(columns[has_nan]).all()
    value, _, columns = found["widest"]
    assert np.isnan(value)
    np.testing.assert_array_equal(columns, (x * x).max(0))


def test_the_lines_that_are_there_are_right(extended):
    x, found = extended
    assert set(ADDED) < set(found)
    flat, whole = x.reshape(-1), ~np.isnan(x).any(0)
    expected = {
        "sum": np.sum(x, 0),
        "nansum": np.nansum(x, 0),
        "sum_abs": np.abs(x).sum(0),
        "sum_squares": np.square(x).sum(0),
        "sum_powers": (np.abs(x) ** 3).sum(0),
        "prod": np.prod(x, 0),
        "amax": np.max(x, 0),
        "amin": np.min(x, 0),
        "max_abs": np.abs(x).max(0),
        "min_abs": np.abs(x).min(0),
    }
    for name, columns in expected.items():
        np.testing.assert_allclose(found[name][2][whole], columns[whole], rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(found["nansum"][2], expected["nansum"], rtol=1e-12, atol=1e-12)
    assert found["nansum"][0] == pytest.approx(np.nansum(flat), rel=1e-12, abs=1e-9)
    assert np.isnan(found["amax"][0])
    # In the second of two parts, 5000 items after the first.
    assert found["argmax"][1] == int(np.flatnonzero(np.isnan(flat))[0])
