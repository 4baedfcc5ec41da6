"""Devices: "cpu", "cuda", "cuda:1", "auto"."""
cimport cython
from ferrox._core.abi cimport FX_AUTO, FX_CPU, FX_CUDA

cdef tuple _types = ("cpu", "cuda", "auto")
cdef dict _made = {}


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class device:
    """Where a tensor's memory is.

    Parameters
    ----------
    type : str, int or device
        "cpu", "cuda", "cuda:N" or its N; or "auto", which leaves it to the manager where each call runs (see
        `ferrox.backends.explain`).
    index : int, optional
        The number of the device, when `type` does not say it.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.device("cpu")
    device(type='cpu')
    """

    def __init__(self, type, index=None):
        if isinstance(type, int) and not isinstance(type, bool) and index is None:
            type, index = "cuda", type
        text = type.type if isinstance(type, device) else type
        if not isinstance(text, str):
            raise TypeError(f"[device] expected a name such as 'cpu' or 'cuda:0', got {type!r}")
        if isinstance(type, device) and index is None and (<device> type).has_index:
            index = type.index
        kind, colon, number = text.partition(":")
        if kind not in _types or (colon and not number.isdigit()) or (colon and index is not None) \
                or (kind == "auto" and (colon or index is not None)):
            raise RuntimeError(f"[device] expected 'cpu', 'cuda', 'cuda:N' or 'auto', got {text!r}" +
                               (f" with index {index!r}" if index is not None else ""))
        if colon:
            index = int(number)
        if index is not None and not 0 <= index < 128:
            raise RuntimeError(f"[device] the index must lie in 0..127, got {index}")
        self.type_code = _types.index(kind)
        self.has_index = index is not None
        self.index_code = index or 0

    @property
    def type(self):
        return _types[self.type_code]

    @property
    def index(self):
        return self.index_code if self.has_index else None

    def __repr__(self):
        return f"device(type={self.type!r}" + (f", index={self.index_code})" if self.has_index else ")")

    def __str__(self):
        return f"{self.type}:{self.index_code}" if self.has_index else self.type

    def __eq__(self, other):
        if not isinstance(other, device):
            return NotImplemented
        return (self.type_code == (<device> other).type_code and self.index_code == (<device> other).index_code
                and self.has_index == (<device> other).has_index)

    def __hash__(self):
        return hash((self.type_code, self.index_code, self.has_index))

    def __reduce__(self):
        return device, (str(self),)


cdef device device_object(int type_code, int index):
    """The shared object of a device; the CPU is written without an index."""
    found = _made.get((type_code, index))
    if found is None:
        found = device(_types[type_code], index if type_code == FX_CUDA else None)
        _made[type_code, index] = found
    return <device> found


_locate = None      # of the CUDA backend: gives a device its number
_manages = False    # whether device="auto" has been opened


cdef device _located(device made):
    global _locate
    if _locate is None:
        from importlib import import_module

        _locate = import_module("ferrox._core.cuda.backend").located
    return <device> _locate(made)


cdef int _manage() except -1:
    """Open the manager: there is no GPU to be found, or it is measured, or its figures are read."""
    global _manages
    if not _manages:
        from importlib import import_module

        import_module("ferrox.backends.auto").open_manager()
        _manages = True
    return 0


cdef device as_device(object value):
    """A device from None (the CPU), a name, or a device; RuntimeError when its backend is not there."""
    if value is None:
        return device_object(FX_CPU, 0)
    cdef device made
    if isinstance(value, device):
        made = <device> value
    else:
        made = device(value)
    if made.type_code == FX_AUTO:
        _manage()
        return made
    return made if made.type_code == FX_CPU else _located(made)
