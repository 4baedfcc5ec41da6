"""GPUs.  This build of Ferrox computes on the CPU; `why_not` says so."""


def is_available():
    """Whether tensors can live on a GPU."""
    return why_not() is None


def why_not():
    """None where a GPU can be used, else one sentence that says what is missing."""
    return "this build of Ferrox contains no CUDA backend"


def device_count():
    """Number of GPUs that can be used."""
    return 0
