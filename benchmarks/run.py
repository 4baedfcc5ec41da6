"""Benchmarks side by side: `python benchmarks/run.py [--only overhead,gemm] [--threads 1,2]`.

Each part runs in a process of its own, on as many cores as threads; its tables are printed and written to
benchmarks/results/<part>.md.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {
    "overhead": ("overhead", ["overhead"]),
    "chain": ("overhead", ["chain"]),
    "elementwise": ("throughput", ["elementwise"]),
    "reductions": ("throughput", ["reductions"]),
    "gemm": ("throughput", ["gemm"]),
    "train": ("training", ["train"]),
    "digits": ("process", ["digits"]),
    "import": ("process", ["imports"]),
    "size": ("process", ["size"]),
}


def worker(part, options):
    import importlib

    import harness

    harness.limit_threads(options.threads_now)
    settings = harness.Settings(options.rounds, options.seconds, options.threads_now, options.tiny)
    module, functions = PARTS[part]
    head = f"{harness.machine()}; {options.threads_now} thread(s); median of {options.rounds} interleaved rounds"
    print(f"{head}\n")
    for name in functions:
        print(getattr(importlib.import_module(module), name)(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--threads", default="1", help="thread counts, such as 1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.05, help="per system and round")
    parser.add_argument("--tiny", action="store_true", help="small work, to see that everything runs")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads-now", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options)
    unknown = set(options.only.split(",")) - PARTS.keys()
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    failed = []
    options.results.mkdir(parents=True, exist_ok=True)
    for part in options.only.split(","):
        text = f"# {part}\n\n"
        for threads in options.threads.split(","):
            arguments = [
                "--worker",
                part,
                "--threads-now",
                threads,
                "--rounds",
                str(options.rounds),
                "--seconds",
                str(options.seconds),
                *(["--tiny"] if options.tiny else []),
            ]
            done = subprocess.run(
                [sys.executable, str(HERE / "run.py"), *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            text += done.stdout
            if done.returncode:
                failed.append(f"{part} with {threads} thread(s)")
        print(text, flush=True)
        if not any(each.startswith(f"{part} ") for each in failed):
            (options.results / f"{part}.md").write_text(text)
    return f"failed: {', '.join(failed)}" if failed else 0


if __name__ == "__main__":
    sys.exit(main())
