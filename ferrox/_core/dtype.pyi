# Written by tools/stubs.py from what it describes; to write it anew: make stubs-write
from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from typing import Any
import numpy as np
from ferrox._core.dtype import dtype as _dtype

class dtype:
    @property
    def is_complex(self) -> _bool: ...
    @property
    def is_floating_point(self) -> _bool: ...
    @property
    def is_signed(self) -> _bool: ...
    @property
    def itemsize(self) -> _int: ...
    @property
    def name(self) -> str: ...
    def to_numpy(self) -> np.dtype[Any]: ...

def promote_types(type1: _dtype, type2: _dtype) -> _dtype: ...
def get_default_dtype() -> _dtype: ...
def set_default_dtype(d: _dtype) -> None: ...
def finfo(type: _dtype | None = None) -> _FloatInfo: ...
def iinfo(type: _dtype) -> _IntInfo: ...

class _FloatInfo:
    def __init__(self, kind: _dtype) -> None: ...
    bits: _int
    dtype: str
    eps: _float
    max: _float
    min: _float
    resolution: _float
    smallest_normal: _float
    tiny: _float

class _IntInfo:
    def __init__(self, kind: _dtype) -> None: ...
    bits: _int
    dtype: str
    max: _int
    min: _int

all_dtypes: tuple[_dtype, ...]
by_safetensors_name: dict[str, _dtype]
by_typestr: dict[str, _dtype]
