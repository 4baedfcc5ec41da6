"""The backends: their settings, and the manager of ``device="auto"``."""
from ferrox.backends import auto, cuda
from ferrox.backends.auto import explain

__all__ = ["auto", "cuda", "explain"]
