"""Settings of the backends.  PyTorch's names."""
from ferrox.backends import cuda

__all__ = ["cuda"]
