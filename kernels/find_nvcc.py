"""Print the path of nvcc and its version: from PATH, from CUDA_HOME, or from its PyPI packages; nothing if there is
none.

find_nvcc.py 12.8       at least this version, else the reason is printed to stderr
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def candidates():
    yield shutil.which("nvcc")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if variable in os.environ:
            yield Path(os.environ[variable]) / "bin" / "nvcc"
    for folder in sys.path:
        # nvidia/cu13/bin/nvcc of nvidia-cuda-nvcc, nvidia/cuda_nvcc/bin/nvcc of its predecessors
        yield from sorted(Path(folder).glob("nvidia/*/bin/nvcc"), reverse=True)
    yield Path("/usr/local/cuda/bin/nvcc")


def main(lowest):
    reasons = []
    for path in filter(None, candidates()):
        if not os.access(path, os.X_OK):
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True)
        version = re.search(r"release (\d+)\.(\d+)", said.stdout)
        if said.returncode or not version:
            reasons.append(f"{path} does not run: {said.stderr.strip()}")
        elif tuple(map(int, version.groups())) < tuple(map(int, lowest.split("."))):
            reasons.append(f"{path} is version {version[1]}.{version[2]}, and {lowest} is needed")
        else:
            print(path)
            print(f"{version[1]}.{version[2]}")
            return
    print("; ".join(reasons) or "there is no nvcc on PATH, in CUDA_HOME, or among the Python packages", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
