"""The benchmarks of the GPU run: every part at its smallest, and compared with PyTorch where that has a GPU."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAM = """
import runpy, sys
sys.path.insert(0, {folder!r})
sys.argv = ["gpu.py", "--tiny", "--rounds", "1", "--seconds", "0.001", "--results", "."]
runpy.run_path({folder!r} + "/gpu.py", run_name="__main__")
"""


@pytest.mark.usefixtures("cached")
def test_every_part_writes_a_table(python, tmp_path):
    python(PROGRAM.format(folder=str(FOLDER)))
    parts = {each.stem.removeprefix("gpu-"): each.read_text() for each in tmp_path.glob("gpu-*.md")}
    assert {"overhead", "bandwidth", "gemm", "attention", "train", "graphs", "gpt", "allocator", "trace"} == set(parts)
    for name, text in parts.items():
        assert "|---:|" in text, name
