"""Dropout layers; in evaluation mode each is the identity."""

from __future__ import annotations

import ferrox as fx
from ferrox.nn import functional as F
from ferrox.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability `p` and divide the others by ``1 - p``.

    Parameters
    ----------
    p : float, default 0.5
        The probability.
    inplace : bool, default False
        Change the input itself.

    Notes
    -----
    G. E. Hinton et al., "Improving neural networks by preventing co-adaptation of feature detectors", 2012.

    Examples
    --------
    >>> import ferrox as fx
    >>> layer = fx.nn.Dropout(0.5).eval()
    >>> layer(fx.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """Zero whole channels of ``(N, C, L)`` inputs with probability `p`; see `Dropout`."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """Zero whole channels of ``(N, C, H, W)`` inputs with probability `p`; see `Dropout`."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """Zero whole channels of ``(N, C, D, H, W)`` inputs with probability `p`; see `Dropout`."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance of self-normalising (SELU) networks."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels."""

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        return F.feature_alpha_dropout(input, self.p, self.training)
