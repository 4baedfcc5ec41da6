"""One table of dtypes (kernels/include/fx/dtypes.h): what it says, and that nothing keeps a list of its own."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.dtype import all_dtypes, by_safetensors_name, by_typestr

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "kernels" / "include" / "fx" / "dtypes.h"
ROW = re.compile(
    r"^    X\((\w+), +(\w+), +\"(\w+)\", +(\w+), +(\w+), +([01]), (\d+), +(\w+), \"(\w+)\", +(\S+), +__VA", re.M
)
COMPILED = [
    path
    for folder in (ROOT / "ferrox" / "_core", ROOT / "kernels")
    for path in sorted(folder.rglob("*"))
    if path.suffix in (".pyx", ".pxd", ".h", ".cu", ".cuh", ".py") and path != TABLE
]
CODES = "BOOL|U8|I8|I16|I32|I64|F16|BF16|F32|F64"

PROGRAM = """
#include <stdio.h>
#include "dtypes.h"
int main(void) {
    for (int d = 0; d < FX_DTYPES; d++)
        printf("%s %d %d %d %s %lld %lld %llx\\n", fx_dtype_name(d), fx_itemsize(d), fx_is_whole(d), fx_is_signed(d),
               fx_typestr(d), (long long)fx_least(d), (long long)fx_most(d), (unsigned long long)fx_infinity_bits(d));
    return 0;
}
"""


def found(pattern):
    """Lines of compiled sources that match, as path:line: text."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in COMPILED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]


def rows():
    return ROW.findall(TABLE.read_text())


def test_the_table_is_read_whole():
    assert [name for _, _, name, *_ in rows()] == [each.name for each in all_dtypes]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[2])
def test_rows_say_what_numpy_says(row):
    code, _, name, _, category, is_signed, digits, _, typestr, letter = row
    ours = getattr(fx, name)
    assert by_safetensors_name[code] is ours
    assert by_typestr[typestr] is ours
    assert ours.is_floating_point == (category == "FLOATING")
    if name == "bfloat16":
        assert ours.itemsize == 2
        return
    theirs = np.dtype(name)
    assert ours.itemsize == theirs.itemsize
    assert theirs.str[1:] == typestr
    assert np.dtype(letter.strip("'")) == theirs
    if category == "FLOATING":
        assert int(digits) == np.finfo(theirs).nmant + 1
    elif category == "INTEGRAL":
        assert ours.is_signed == (theirs.kind == "i") == bool(int(is_signed))
        assert 2 ** int(digits) - 1 == np.iinfo(theirs).max == fx.iinfo(ours).max
        assert np.iinfo(theirs).min == fx.iinfo(ours).min


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_finfo_follows_from_the_table(name):
    ours, theirs = fx.finfo(getattr(fx, name)), np.finfo(name)
    assert ours.resolution == pytest.approx(float(theirs.resolution), rel=1e-3)  # NumPy holds it in the dtype itself
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
        assert getattr(ours, field) == pytest.approx(float(getattr(theirs, field)), rel=1e-12), field


@pytest.mark.parametrize("name", [each.name for each in all_dtypes])
def test_nan_to_num_knows_the_largest_value(name):
    if not getattr(fx, name).is_floating_point:
        pytest.skip("only floating dtypes have infinities")
    x = fx.tensor([float("inf"), float("-inf"), float("nan")], dtype=getattr(fx, name))
    assert x.nan_to_num().tolist() == [fx.finfo(x.dtype).max, -fx.finfo(x.dtype).max, 0.0]


def test_nothing_keeps_item_sizes():
    assert not found(r"1, 1, 1, 2, 4, 8|1, 2, 4, 8, 2, 2, 4")


def test_nothing_counts_dtypes_by_hand():
    assert not found(r"range\(10\)|\[10\](?!\.i)(?<!\*arrays\[10\])")


def test_nothing_compares_dtypes_by_order():
    """But by category: a dtype added to the table has any number."""
    assert not found(rf"(?<!int)(<=|>=|<|>) *FX_({CODES})\b|\bFX_({CODES}) *(<=|>=|<|>)(?! *NULL)")


def test_nothing_lists_names():
    """Python names of dtypes in a row, or suffixes by dtype, are lists that a new dtype would have to be added to."""
    names = "|".join(each.name for each in all_dtypes)
    assert not found(rf"\"({names})\", *\"({names})\", *\"({names})\"")
    assert not found(rf"FX_({CODES}), \"\w+\"\), \(FX_({CODES}), \"\w+\"\), \(FX_({CODES}), \"\w+\"\), \(FX_")


def test_adding_a_dtype_is_a_row(tmp_path):
    """The header alone, with one row more, knows everything of uint16."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    text = TABLE.read_text()
    row = '    X(U16, u16, "uint16", uint16_t, INTEGRAL, 0, 16, I64, "u2", \'H\', __VA_ARGS__) \\\n'
    changed, count = re.subn(r"#define FX_EACH_INTEGRAL\(X, \.\.\.\) +\\\n", lambda head: head[0] + row, text)
    assert count == 1
    (tmp_path / "dtypes.h").write_text(changed)
    (tmp_path / "main.c").write_text(PROGRAM)
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    lines = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split("\n")
    table = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert len(table) == len(all_dtypes) + 1
    for name, (size, is_whole, is_signed, typestr, least, most, infinity) in table.items():
        if name == "bfloat16":
            assert (size, infinity) == ("2", "7f80")
            continue
        kind = np.dtype(name)
        assert int(size) == kind.itemsize
        assert typestr == kind.str[1:]
        assert int(is_whole) == (kind.kind in "biu")
        assert int(is_signed) == (kind.kind in "if")
        if kind.kind in "iu":
            assert (int(least), int(most)) == (np.iinfo(kind).min, np.iinfo(kind).max)
        elif kind.kind == "f":
            assert int(infinity, 16) == int(np.array(np.inf, kind).view(f"u{kind.itemsize}"))
