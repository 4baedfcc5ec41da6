"""Ferrox: reverse-mode automatic differentiation with a Cython core and PyTorch's habits.

Examples
--------
>>> import ferrox as fx
>>> x = fx.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""
from ferrox._core import dtype as _dtypes
from ferrox._core.dtype import (
    dtype, finfo, get_default_dtype, iinfo, promote_types, set_default_dtype,
)
from ferrox._core.device import device
from ferrox._core.errors import LinAlgError, OutOfMemoryError
from ferrox._core.face import install as _install
from ferrox._core.graph import graph_stats, is_grad_enabled
from ferrox._core.interchange import from_numpy
from ferrox._core.op import Op
from ferrox._core.tensorclass import Tensor
from ferrox._core.threads import get_num_threads, set_num_threads
from ferrox.autograd.grad_mode import enable_grad, inference_mode, is_inference_mode_enabled, no_grad, set_grad_enabled

__version__ = "0.1.0"

for _each in _dtypes.all_dtypes:
    globals()[_each.name] = _each
float, double, half = float32, float64, float16  # noqa: F821
int, long, short = int32, int64, int16  # noqa: F821
globals().update(_install())

# Loaded when first asked for.
_SUBMODULES = ("autograd", "func", "metrics", "nn", "optim", "testing", "utils", "viz")


def __getattr__(name):
    if name in _SUBMODULES:
        import importlib

        return importlib.import_module(f"ferrox.{name}")
    raise AttributeError(f"module 'ferrox' has no attribute {name!r}")
