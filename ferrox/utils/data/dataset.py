"""Data sets: maps from an index to a sample, and streams of samples."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import ferrox as fx

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Dataset(Generic[_T_co]):
    """A map from an index to a sample: subclasses define `__getitem__`, and `__len__` where there is one.

    A class may define ``__getitems__(indices)``, which returns the list of samples of a whole batch.
    """

    def __getitem__(self, index: Any) -> _T_co:
        raise NotImplementedError(f"Subclasses of Dataset should implement __getitem__. {type(self).__name__} does not")

    def __add__(self, other: Dataset[_T_co]) -> ConcatDataset[_T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[_T_co]):
    """A stream of samples: subclasses define `__iter__`.

    With several worker threads each iterates over the data set; `get_worker_info` tells it which part is its own.
    """

    def __iter__(self) -> Iterator[_T_co]:
        raise NotImplementedError(
            f"Subclasses of IterableDataset should implement __iter__. {type(self).__name__} does not"
        )

    def __add__(self, other: Dataset[_T_co]) -> ChainDataset[_T_co]:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[fx.Tensor, ...]]):
    """Samples along the first dimension of one or more tensors.

    Parameters
    ----------
    *tensors : Tensor
        Of equal size in the first dimension.

    Examples
    --------
    >>> import ferrox as fx
    >>> data = fx.utils.data.TensorDataset(fx.arange(3), fx.arange(3) * 10)
    >>> [value.item() for value in data[2]]
    [2, 20]
    """

    def __init__(self, *tensors: fx.Tensor) -> None:
        for tensor in tensors:
            if not hasattr(tensor, "shape"):
                raise TypeError(f"[TensorDataset] expected tensors, got {type(tensor).__name__}")
            if not tensor.shape:
                raise ValueError("[TensorDataset] expected tensors with a first dimension, got one of shape ()")
        if any(tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
            sizes = [tensor.shape[0] for tensor in tensors]
            raise AssertionError(f"Size mismatch between tensors: their first dimensions are {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[fx.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def _collated(self, indices):
        """Return the batch that collating the samples one by one would give, by one indexing per tensor."""
        if isinstance(indices, slice):
            # A copy: the batch must not be a view of the data.
            return [tensor[indices].clone() for tensor in self.tensors]
        if not isinstance(indices, fx.Tensor):
            indices = fx.tensor(indices, dtype=fx.int64)
        return [
            tensor[indices if tensor.device == indices.device else indices.to(tensor.device)] for tensor in self.tensors
        ]


class StackDataset(Dataset[Any]):
    """Several data sets side by side: samples are tuples, or dicts where the data sets are given by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like input/output, but both "
                "types are given or neither."
            )
        self.datasets = args or kwargs
        sizes = {len(dataset) for dataset in (args or kwargs.values())}
        if len(sizes) != 1:
            raise ValueError(f"Size mismatch between datasets: they have {sorted(sizes)} samples")
        self._length = sizes.pop()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[_T_co]):
    """Data sets one after the other.

    Examples
    --------
    >>> import ferrox as fx
    >>> data = fx.utils.data.ConcatDataset([[1, 2], [3]])
    >>> len(data), data[2], data[-3]
    (3, 3, 1)
    """

    def __init__(self, datasets: Iterable[Dataset[_T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise AssertionError("ConcatDataset does not support IterableDataset: use ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> _T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError(
                    f"absolute value of index should not exceed dataset length: got {index} for {len(self)} samples"
                )
            index += len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        if which == len(self.datasets):
            raise IndexError(f"index {index} is out of range for a data set of {len(self)}")
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]


class ChainDataset(IterableDataset[_T_co]):
    """Streams one after the other."""

    def __init__(self, datasets: Iterable[Dataset[_T_co]]) -> None:
        self.datasets = list(datasets)
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError(
                    f"ChainDataset only supports IterableDataset, got {type(dataset).__name__}: use ConcatDataset"
                )

    def __iter__(self) -> Iterator[_T_co]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


class Subset(Dataset[_T_co]):
    """The samples of `dataset` at the given `indices`."""

    def __init__(self, dataset: Dataset[_T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> _T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[_T_co]:
        mapped = [self.indices[i] for i in indices]
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.dataset.__getitems__(mapped)
        return [self.dataset[i] for i in mapped]

    def __len__(self) -> int:
        return len(self.indices)

    def _collated(self, indices):
        if isinstance(indices, slice):
            mapped = list(self.indices[indices])
        else:
            if isinstance(indices, fx.Tensor):
                indices = indices.tolist()
            mapped = [self.indices[i] for i in indices]
        return self.dataset._collated(mapped)


def collates_itself(dataset):
    """Return whether whole batches of `dataset` can be indexed at once."""
    if type(dataset) is Subset:
        return collates_itself(dataset.dataset)
    return type(dataset) is TensorDataset and len(dataset.tensors) > 0


def random_split(
    dataset: Dataset[_T], lengths: Sequence[float], generator: fx.Generator | None = None
) -> list[Subset[_T]]:
    """Split a data set at random into subsets of the given lengths.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    lengths : sequence of int or of float
        Numbers of samples, or fractions that sum to one (what rounding leaves over goes to the first ones).
    generator : Generator, optional
        The source of randomness.

    Returns
    -------
    list of Subset

    Examples
    --------
    >>> import ferrox as fx
    >>> [len(part) for part in fx.utils.data.random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    size = len(dataset)
    if math.isclose(sum(lengths), 1):
        fractions = lengths
        lengths = []
        for i, fraction in enumerate(fractions):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {i} is not between 0 and 1: got {fraction}")
            lengths.append(math.floor(size * fraction))
        for i in range(size - sum(lengths)):
            lengths[i % len(lengths)] += 1
        for i, length in enumerate(lengths):
            if length == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.", stacklevel=2
                )
    if sum(lengths) != size:
        raise ValueError(
            "Sum of input lengths does not equal the length of the input dataset! "
            f"[random_split] got lengths {list(lengths)} for {size} samples"
        )
    options = {} if generator is None else {"generator": generator}
    indices = fx.randperm(sum(lengths), **options).tolist()
    ends = itertools.accumulate(lengths)
    return [Subset(dataset, indices[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
