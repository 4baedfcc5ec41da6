"""What a script asks of a tensor that has one answer here, where tensors are strided and of real numbers."""

__all__ = ["layout", "strided"]
METHODS = {}


class layout:
    """How the elements of a tensor lie in memory; there is one, `ferrox.strided`."""

    def __init__(self, name):
        self._name = name

    def __repr__(self):
        return f"ferrox.{self._name}"

    def __reduce__(self):
        return _layout, (self._name,)


strided = layout("strided")


def _layout(name):
    return {"strided": strided}[name]


def _constant(name, value, doc):
    METHODS[name] = property(lambda self: value, doc=doc)


for _name in ("is_sparse", "is_sparse_csr", "is_quantized", "is_mkldnn", "is_nested", "is_meta", "is_mps", "is_xla",
              "is_xpu", "is_ipu", "is_maia", "is_mtia", "is_vulkan", "volatile"):
    _constant(_name, False, "False: Ferrox has no such tensors.")
_constant("layout", strided, "How the elements lie in memory: always `ferrox.strided`.")
_constant("name", None, "None: tensors have no names.")


def _method(function):
    METHODS[function.__name__] = function
    return function


def _property(function):
    METHODS[function.__name__] = property(function, doc=function.__doc__)
    return function


@_property
def real(self):
    """The real part: the tensor itself."""
    return self


@_property
def imag(self):
    """No real tensor has one; RuntimeError."""
    raise RuntimeError("[imag] is not implemented for tensors with non-complex dtypes")


@_method
def conj(self):
    """The complex conjugate: the tensor itself."""
    return self


@_method
def resolve_conj(self):
    """The tensor itself: no conjugation is ever pending."""
    return self


@_method
def resolve_neg(self):
    """The tensor itself: no negation is ever pending."""
    return self


@_method
def is_conj(self):
    """False: no conjugation is ever pending."""
    return False


@_method
def is_neg(self):
    """False: no negation is ever pending."""
    return False


@_method
def is_distributed(self):
    """False: a tensor is on one device."""
    return False


@_method
def is_inference(self):
    """False: `inference_mode` makes ordinary tensors that record nothing."""
    return False


@_method
def is_shared(self):
    """Whether other processes can see the memory: that of a GPU, which they can open, as in PyTorch."""
    return self.is_cuda


@_method
def is_signed(self):
    """Whether the dtype has negative values."""
    return self.dtype.is_signed


@_method
def is_nonzero(self):
    """Whether the only element is not zero; RuntimeError when there is not exactly one."""
    return bool(self)


@_method
def is_same_size(self, other):
    """Whether the other tensor has the same shape."""
    return self.shape == other.shape


@_method
def is_set_to(self, tensor):
    """Whether the other tensor is the same window on the same memory."""
    return (self.data_ptr() == tensor.data_ptr() and self.shape == tensor.shape and self.stride() == tensor.stride()
            and self.dtype == tensor.dtype and self.device == tensor.device)


@_method
def dense_dim(self):
    """The number of dimensions."""
    return self.ndim


@_method
def sparse_dim(self):
    """0: no dimension is sparse."""
    return 0


@_method
def to_dense(self, dtype=None):
    """The tensor itself, in `dtype` if it is given."""
    return self if dtype is None else self.to(dtype)


@_method
def dim_order(self):
    """The dimensions from the one with the largest stride to the one with the smallest."""
    return tuple(sorted(range(self.ndim), key=lambda d: (-self.stride(d), d)))


@_method
def adjoint(self):
    """The last two dimensions exchanged, as `mH`."""
    return self.mH


@_method
def sum_to_size(self, *size):
    """Sum over dimensions until the shape is `size`, one that broadcasts to this tensor's shape.

    Parameters
    ----------
    size : ints or a sequence of ints
        The shape of the result.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.ones(2, 3).sum_to_size(1, 3)
    tensor([[2., 2., 2.]])
    """
    wanted = tuple(size[0]) if len(size) == 1 and not hasattr(size[0], "__index__") else size
    ahead = self.ndim - len(wanted)
    fits = ahead >= 0 and all(have == want or want == 1 for have, want in zip(self.shape[ahead:], wanted, strict=True))
    if not fits:
        raise RuntimeError(f"[sum_to_size] size {tuple(wanted)} is not expandable to size {tuple(self.shape)}")
    over = [d for d in range(self.ndim) if d < ahead or (wanted[d - ahead] == 1 and self.shape[d] != 1)]
    return (self.sum(over, keepdim=True) if over else self).reshape(wanted)


@_method
def split_with_sizes(self, split_sizes, dim=0):
    """`split` into pieces of the given sizes along a dimension."""
    return self.split(split_sizes, dim)


@_method
def __reversed__(self):
    return self.flip(tuple(range(self.ndim))) if self.ndim else self


@_method
def apply_(self, callable):
    """Replace each element by `callable` of it, a Python call for each: slow, and for the CPU.

    Parameters
    ----------
    callable : function
        Of a number, giving a number.
    """
    if not self.is_cpu:
        raise TypeError(f"[apply_] is only implemented on CPU tensors, got one on {self.device}")
    if self.requires_grad:
        raise RuntimeError("[apply_] can't be called on a tensor that requires grad; use x.detach().apply_()")
    made = [callable(each) for each in self.flatten().tolist()]
    return self.copy_(self.new_tensor(made).reshape(self.shape)) if made else self


@_method
def new(self, *args):
    """A fresh tensor of this dtype and device, of the sizes given or with the values of a sequence."""
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        return self.new_tensor(args[0])
    return self.new_empty(args or (0,))
