"""Distances as modules."""

from __future__ import annotations

import ferrox as fx
from ferrox.nn import functional as F
from ferrox.nn.module import Module

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Module):
    """The cosine of the angle between two inputs along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: fx.Tensor, x2: fx.Tensor) -> fx.Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The `p`-norm of the difference of two inputs over the last dimension."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: fx.Tensor, x2: fx.Tensor) -> fx.Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
