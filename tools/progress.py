"""Run a command whose output is long: its steps are shown while they are done, the rest goes to a log.

    progress.py LOG COMMAND...

Steps are Ninja's lines, `[12/200] Compiling ...`: written over one another on a terminal, and to a file or a pipe one
every few seconds.  When the command fails, the end of the log is shown; its exit status is passed on either way.
"""

import collections
import re
import shutil
import subprocess
import sys
import time

STEP = re.compile(r"\s*\[(\d+)/(\d+)\] (.*)")
SECONDS_APART = 5
LINES_OF_A_FAILURE = 60


def shown(count, total, what, width):
    """One step in one line: of a path only the file's name."""
    what = " ".join(word.rpartition("/")[2] for word in what.split())
    return f"[{count}/{total}] {what}"[:width]


def run(command, log, out):
    terminal = out.isatty()
    last, started = float("-inf"), time.monotonic()
    tail = collections.deque(maxlen=LINES_OF_A_FAILURE)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    for line in process.stdout:
        log.write(line)
        tail.append(line)
        step, now = STEP.match(line), time.monotonic()
        if step and terminal:
            out.write("\r\x1b[K" + shown(*step.groups(), shutil.get_terminal_size().columns - 1))
        elif step and (now - last >= SECONDS_APART or step[1] == step[2]):
            out.write(shown(*step.groups(), 120) + "\n")
            last = now
        out.flush()
    status = process.wait()
    if terminal:
        out.write("\r\x1b[K")
    if status:
        out.writelines(tail)
        out.write(f"failed, exit status {status}; all of its output is in {log.name}\n")
    else:
        out.write(f"done in {time.monotonic() - started:.0f} s\n")
    out.flush()
    return status


if __name__ == "__main__":
    with open(sys.argv[1], "w") as log:
        sys.exit(run(sys.argv[2:], log, sys.stdout))
