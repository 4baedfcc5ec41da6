"""Ferrox: reverse-mode automatic differentiation with a Cython core and PyTorch's habits.

Examples
--------
>>> import ferrox as fx
>>> x = fx.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""
# Operators come from the registry (api/public.py); packages and what is in them are imported when they are first used.
from ferrox._core import dtype as _dtypes
from ferrox._core.api.attributes import layout, strided
from ferrox._core.api.dlpack import from_dlpack
from ferrox._core.api.public import install as _install
from ferrox._core.api.public import namespaces as _namespaces
from ferrox._core.api.tensorclass import Tensor
from ferrox._core.door.device import device
from ferrox._core.door.threads import get_num_threads, set_num_threads
from ferrox._core.dtype import dtype, finfo, get_default_dtype, iinfo, promote_types, set_default_dtype
from ferrox._core.errors import LinAlgError, OutOfMemoryError
from ferrox._core.graph.node import is_grad_enabled
from ferrox._core.graph.op import Op
from ferrox._core.graph.statistics import graph_stats
from ferrox._core.ops.movement import broadcast_shapes
from ferrox._core.tensor.generator import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from ferrox._core.tensor.interchange import from_numpy, frombuffer
from ferrox._core.tensor.size import Size

__version__ = "0.1.0"

_modules = frozenset({
    "autograd", "backends", "cpu", "cuda", "func", "io", "metrics", "nn", "optim", "profiler", "return_types",
    "testing", "utils", "viz",
})
_homes = {
    "enable_grad": "autograd", "inference_mode": "autograd", "is_inference_mode_enabled": "autograd",
    "no_grad": "autograd", "set_grad_enabled": "autograd",
    "load": "io", "save": "io",
    "can_cast": "type_info", "is_complex": "type_info", "is_floating_point": "type_info", "is_nonzero": "type_info",
    "is_tensor": "type_info", "numel": "type_info", "result_type": "type_info", "typename": "type_info",
    "get_printoptions": "_core.api.printing", "printoptions": "_core.api.printing",
    "set_printoptions": "_core.api.printing",
}

inf = 1e999
nan = inf - inf
pi = 3.141592653589793
e = 2.718281828459045
newaxis = None
for _each in _dtypes.all_dtypes:
    globals()[_each.name] = _each
float, double, half = float32, float64, float16  # noqa: F821
int, long, short = int32, int64, int16  # noqa: F821
globals().update(_install())
_modules |= set(_namespaces())


def __getattr__(name):
    import importlib

    home = name if name in _modules else _homes.get(name)
    if home is None:
        raise AttributeError(f"module 'ferrox' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"ferrox.{home}")
    except ModuleNotFoundError as missing:
        if missing.name != f"ferrox.{home}":
            raise
        raise AttributeError(f"module 'ferrox' has no attribute {name!r}") from None
    value = module if name in _modules else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    import importlib.util

    present = {home for home in {*_modules, *_homes.values()} if importlib.util.find_spec(f"ferrox.{home}")}
    lazy = {name for name in _modules if name in present} | {name for name, home in _homes.items() if home in present}
    return sorted({name for name in globals() if not name.startswith("_")} | lazy | {"__version__"})
