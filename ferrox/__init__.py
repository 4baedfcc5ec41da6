"""Ferrox: reverse-mode automatic differentiation with a Cython core and PyTorch's habits.

Examples
--------
>>> import ferrox as fx
>>> x = fx.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""
import importlib as _importlib

from ferrox._core import dtype as _dtypes
from ferrox._core.device import device
from ferrox._core.dtype import dtype, finfo, get_default_dtype, iinfo, promote_types, set_default_dtype
from ferrox._core.errors import LinAlgError, OutOfMemoryError
from ferrox._core.face import install as _install
from ferrox._core.graph import graph_stats
from ferrox._core.interchange import from_numpy, frombuffer
from ferrox._core.op import Op
from ferrox._core.ops.movement import broadcast_shapes
from ferrox._core.printing import set_printoptions
from ferrox._core.random import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from ferrox._core.tensorclass import Tensor
from ferrox._core.threads import get_num_threads, set_num_threads
from ferrox.autograd.grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled

__version__ = "0.1.0"

for _each in _dtypes.all_dtypes:
    globals()[_each.name] = _each
float, double, half = float32, float64, float16  # noqa: F821
int, long, short = int32, int64, int16  # noqa: F821
Size = tuple
strided = "strided"
from math import e, inf, nan, pi  # noqa: E402

globals().update(_install())

# Loaded when first asked for, so that `import ferrox` stays quick.
_MODULES = ("autograd", "cpu", "cuda", "func", "io", "metrics", "nn", "optim", "testing", "utils", "viz")
_LATER = {"save": "io", "load": "io", "from_dlpack": "_core.dlpack"}


def __getattr__(name):
    if name in _MODULES:
        value = _importlib.import_module(f"ferrox.{name}")
    elif name in _LATER:
        value = getattr(_importlib.import_module(f"ferrox.{_LATER[name]}"), name)
    else:
        raise AttributeError(f"module 'ferrox' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({each for each in globals() if not each.startswith("_")} | set(_MODULES) | set(_LATER))


def is_tensor(obj):
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input):
    """Whether the tensor's dtype is floating-point."""
    return input.is_floating_point()


def numel(input):
    """Number of elements."""
    return input.numel()
