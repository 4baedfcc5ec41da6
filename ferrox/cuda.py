"""GPUs, as far as this build can use them."""
from ferrox._core.backend import kernels as _kernels

__all__ = ["device_count", "is_available", "is_initialized", "manual_seed", "manual_seed_all", "synchronize", "why_not"]

_CUDA = 1


def is_available():
    """Whether tensors can be put on a GPU."""
    return bool(_kernels(_CUDA))


def why_not():
    """What is missing for GPUs, in one sentence; an empty string when nothing is.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cuda.is_available() or len(fx.cuda.why_not()) > 0
    True
    """
    if is_available():
        return ""
    return "This build of Ferrox has no CUDA backend: it computes on the CPU."


def device_count():
    """Number of GPUs that can be used."""
    return 0


def is_initialized():
    """Whether a GPU is in use."""
    return False


def synchronize(device=None):
    """Wait for the work on a GPU; RuntimeError where there is none."""
    raise RuntimeError(f"[synchronize] {why_not()}")


def manual_seed(seed):
    """Begin a random stream on the GPU; nothing happens where there is none."""


def manual_seed_all(seed):
    """Begin a random stream on every GPU; nothing happens where there is none."""
