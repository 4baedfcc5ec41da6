# Written by tools/stubs.py from what it describes; to write it anew: make stubs-write
from builtins import int as _int
from ferrox._core.api.tensorclass import Tensor

def graph_stats(*tensors: Tensor) -> dict[str, _int]: ...
