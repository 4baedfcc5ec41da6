"""Complete a Cython loop module with what the operator lines of elementwise.h say: tags, fused types, registration.

    loops_table.py elementwise.h loops_unary.pyx loops_unary_real.pyx

The generated text takes the place of the line `include "loops_table.pxi"`.  The output's name says the family of lines
(unary, guarded, binary, ternary) and the class of dtypes (real, integer) that the module instantiates its loops for.
"""

import re
import sys
from pathlib import Path

# The dtypes that arithmetic is done in, by class: pointer type -> number.  Halves go by way of float32.
ROW = re.compile(r"X\((\w+), +(\w+), .*?(INTEGRAL|FLOATING), +\d, \d+, +(\w+),")
DTYPES = {"real": {}, "integer": {}}
for _code, _suffix, _category, _sum in ROW.findall((Path(__file__).parent / "include/fx/dtypes.h").read_text()):
    if _category == "INTEGRAL":
        DTYPES["integer"][_suffix + "p"] = "FX_" + _code
    elif _sum == _code:
        DTYPES["real"][_suffix + "p"] = "FX_" + _code
CLASSES = {
    "REAL": "real",
    "NUMBER": "real integer",
    "ANY": "real integer bool",
    "INTEGER": "integer",
    "BITS": "integer bool",
}
# family -> {macro: (fused loop, operands, result is bool)}
FAMILIES = {
    "unary": {"UNARY": ("unary", 1, False), "TEST": ("test", 1, True)},
    "guarded": {"GUARDED": ("guarded", 1, False)},
    "binary": {"BINARY": ("binary", 2, False), "COMPARE": ("compare", 2, True)},
    "ternary": {"TERNARY": ("ternary", 3, False)},
}
LINE = re.compile(r"^FX_(\w+)\((\w+), (\w+)(.*)\)$", re.M)
# Functions of a few instructions; a line that calls any other costs many.
CHEAP = {
    "absolute", "sign", "floor", "ceil", "round", "trunc", "sqrt", "rsqrt", "isnan", "isinf", "isfinite", "signbit",
    "nan_to_num", "floor_divide", "div_trunc", "remainder", "fmod", "maximum", "minimum", "fmax", "fmin", "copysign",
    "nextafter", "clamp", "left_shift", "right_shift", "lerp", "heaviside", "hardsigmoid", "not_a_number", "smooth_l1",
    "huber",
}


def is_costly(value):
    """Whether a line's arithmetic is transcendental, by the functions that it calls."""
    return bool(set(re.findall(r"fx::(\w+)", value)) - CHEAP)


def main(header, source, output):
    family, dtype_class = Path(output).stem.split("_")[1:]
    lines = LINE.findall(Path(header).read_text())
    pointers = DTYPES[dtype_class]
    declare, fuse, register = [], [], []
    for macro, (loop, n_in, to_bool) in FAMILIES[family].items():
        tags = []
        for kind, name, dtypes, value in lines:
            if kind != macro:
                continue
            classes = CLASSES[dtypes].split()
            if dtype_class not in classes:
                continue
            tags.append(f"{name}_op")
            places = list(pointers.items())
            if "bool" in classes and dtype_class == "integer":
                places.append(("u8p", "FX_BOOL"))
            register += [
                f'    provide_loop("{name}", {dtype}, <fx_loop> {loop}[{pointer}, {name}_op], {n_in}, {to_bool}, '
                f"{is_costly(value)})"
                for pointer, dtype in places
            ]
        declare += [f"    cppclass {tag}:\n        pass" for tag in tags]
        fuse += [f"ctypedef fused {loop}_op:"] + [f"    {tag}" for tag in tags]
    aliases = [f'    alias_bool_loop("{name}", "{other}")' for kind, name, other, _ in lines if kind == "BOOL"]
    if family == "binary" and dtype_class == "integer":
        register += aliases
    text = [
        "from ferrox._core.abi cimport *",
        "from ferrox._core.cpu.table cimport alias_bool_loop, fx_loop, provide_loop",
        'cdef extern from "fx/loops.h" namespace "fx" nogil:',
        *declare,
        "ctypedef fused operand:",
        *(f"    {pointer}" for pointer in pointers),
        *fuse,
        "cdef int register() except -1:",
        *register,
        "    return 0",
        "",
    ]
    module = Path(source).read_text().replace('include "loops_table.pxi"\n', "\n".join(text))
    Path(output).write_text(module)


if __name__ == "__main__":
    main(*sys.argv[1:])
