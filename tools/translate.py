"""Translate Cython modules to C, several in one process: two thirds of Cython's time on a small module is its start.

    translate.py DEPFILE OUT... -- OPTION-OF-CYTHON... MODULE.pyx...

Only what has changed since is translated again, going by the dependencies that Cython notes, and a file whose C comes
out the same keeps its time, so that the compiler is spared too.  DEPFILE tells Ninja what to watch.
"""

import os
import sys
from pathlib import Path

from Cython import __version__
from Cython.Compiler.CmdLine import parse_command_line
from Cython.Compiler.Main import CompilationOptions, compile_single


def dependencies(note):
    """The files that a translation was made from; Cython notes them as `out.c: a.pyx \\ b.pxd`."""
    return note.read_text().partition(": ")[2].replace("\\\n", " ").split()


def fresh(out, note, how):
    """Whether `out` is what the translation would give; the note is written last, so that its time is the newest."""
    if not (out.exists() and note.exists() and how.is_file()):
        return False
    made = note.stat().st_mtime_ns
    files = [*map(Path, dependencies(note)), how, Path(__file__)]
    return all(each.exists() and each.stat().st_mtime_ns < made for each in files)


def translate(source, out, note, options):
    """Translate one module; false after an error, which Cython has printed."""
    made = out.with_name("fresh-" + out.name)
    options = CompilationOptions(options, output_file=str(made), depfile=True)
    if compile_single(source, options, None).num_errors:
        return False
    if not out.exists() or made.read_bytes() != out.read_bytes():
        os.replace(made, out)
    else:
        made.unlink()
    os.replace(f"{made}.dep", note)
    return True


def main(depfile, outs, arguments):
    # What an earlier run was told, apart from which modules: other options make all of it stale.
    how = Path(f"{depfile}.options")
    told = "\n".join([__version__, *(each for each in arguments if not each.endswith(".pyx"))])
    if not how.exists() or how.read_text() != told:
        how.write_text(told)
    options, sources = parse_command_line([*arguments])
    failed, watched = False, set()
    for source, out in zip(sources, map(Path, outs), strict=True):
        note = out.with_name(out.name + ".dep")
        if not fresh(out, note, how) and not translate(source, out, note, options):
            failed = True
            continue
        watched |= {os.path.abspath(each) for each in dependencies(note)}
    Path(depfile).write_text(f"{' '.join(outs)}: {' '.join(sorted(watched))}\n")
    return failed


if __name__ == "__main__":
    cut = sys.argv.index("--")
    sys.exit(main(sys.argv[1], sys.argv[2:cut], sys.argv[cut + 1 :]))
