"""Look-up tables of vectors."""

from __future__ import annotations

from typing import Self

import ferrox as fx
from ferrox.nn import functional as F
from ferrox.nn import init
from ferrox.nn.module import Module
from ferrox.nn.parameter import Parameter

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of `num_embeddings` vectors of size `embedding_dim`, looked up by index.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        The table's size.
    padding_idx : int, optional
        The row that starts as zeros and gets no gradient.
    max_norm : float, optional
        Looked-up rows of a larger norm are scaled down to it, in the table itself.
    norm_type : float, default 2.0
        The p of that norm.
    scale_grad_by_freq : bool, default False
        Divide each row's gradient by the number of times the row was looked up.
    device, dtype : optional
        Of the table.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        Initially standard normal.

    Examples
    --------
    >>> import ferrox as fx
    >>> table = fx.nn.Embedding(10, 3)
    >>> tuple(table(fx.tensor([[1, 2], [4, 5]])).shape)
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: fx.Tensor | None = None,
        _freeze: bool = False,
        device: str | int | fx.device | None = None,
        dtype: fx.dtype | None = None,
    ) -> None:
        super().__init__()
        if sparse:
            raise ValueError("[embedding] sparse gradients are not supported: sparse must be False")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise AssertionError(
                    f"Padding_idx must be within num_embeddings: got padding_idx={padding_idx} for {num_embeddings}"
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = False
        if _weight is None:
            self.weight = Parameter(
                fx.empty((num_embeddings, embedding_dim), device=device, dtype=dtype), requires_grad=not _freeze
            )
            self.reset_parameters()
        else:
            if list(_weight.shape) != [num_embeddings, embedding_dim]:
                raise AssertionError(
                    "Shape of weight does not match num_embeddings and embedding_dim: got "
                    f"{tuple(_weight.shape)}, expected {(num_embeddings, embedding_dim)}"
                )
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    def reset_parameters(self) -> None:
        """Draw the table anew; the padding row becomes zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with fx.no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, input: fx.Tensor) -> fx.Tensor:
        if self.max_norm is not None:
            self._renormalise(input)
        output = F.embedding(input, self.weight, self.padding_idx)
        if self.scale_grad_by_freq and output.requires_grad:
            counts = fx.bincount(input.reshape(-1), minlength=self.num_embeddings)
            share = (1.0 / counts[input].to(output.dtype)).unsqueeze(-1)
            output.register_hook(lambda grad: grad * share)
        return output

    def _renormalise(self, input):
        """Scale down the rows that `input` asks for and whose norm exceeds `max_norm`."""
        with fx.no_grad():
            rows = input.reshape(-1).unique()
            vectors = self.weight[rows]
            norms = vectors.norm(self.norm_type, 1, keepdim=True)
            scale = fx.where(norms > self.max_norm, self.max_norm / (norms + 1e-7), fx.ones_like(norms))
            self.weight[rows] = vectors * scale

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        return text

    @classmethod
    def from_pretrained(
        cls,
        embeddings: fx.Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """Return a layer over the given table, which is trained only where `freeze` is False."""
        if embeddings.ndim != 2:
            raise AssertionError(
                f"Embeddings parameter is expected to be 2-dimensional, got shape {tuple(embeddings.shape)}"
            )
        rows, columns = embeddings.shape
        return cls(
            rows,
            columns,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            _weight=embeddings,
            _freeze=freeze,
        )
