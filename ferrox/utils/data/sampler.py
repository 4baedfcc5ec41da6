"""The order in which a data set is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import ferrox as fx

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


def new_generator():
    """Return a generator seeded from the global one, so that `manual_seed` fixes what is drawn from it."""
    generator = fx.Generator()
    generator.manual_seed(int(fx.randint(0, 2**62, (1,)).item()))
    return generator


class Sampler:
    """Base class: an iterable over indices (or, for a batch sampler, over lists of them)."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")


class SequentialSampler(Sampler):
    """The indices in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The indices in random order.

    Parameters
    ----------
    data_source : sized
        The data set.
    replacement : bool, default False
        Draw each index independently.
    num_samples : int, optional
        How many to draw; default: the size of the data set.
    generator : Generator, optional
        The source of randomness.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: fx.Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 0):
            raise ValueError(f"num_samples should be a non-negative integer value, but got num_samples={num_samples}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices are drawn."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def _permutations(self):
        """Yield tensors of indices that make up one pass."""
        size = len(self.data_source)
        generator = new_generator() if self.generator is None else self.generator
        left = self.num_samples
        while left > 0 and size > 0:
            if self.replacement:
                count = min(left, 32)
                yield fx.randint(0, size, (count,), dtype=fx.int64, generator=generator)
            else:
                count = min(left, size)
                yield fx.randperm(size, generator=generator)[:count]
            left -= count

    def __iter__(self) -> Iterator[int]:
        for indices in self._permutations():
            yield from indices.tolist()

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: fx.Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        options = {} if self.generator is None else {"generator": self.generator}
        for i in fx.randperm(len(self.indices), **options).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Indices drawn with probabilities proportional to `weights`.

    Parameters
    ----------
    weights : sequence of float
        One per sample; they need not sum to one.
    num_samples : int
        How many to draw.
    replacement : bool, default True
        Whether an index may be drawn again.
    generator : Generator, optional
        The source of randomness.
    """

    def __init__(
        self,
        weights: fx.Tensor | Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: fx.Generator | None = None,
    ) -> None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        weights = fx.as_tensor(weights, dtype=fx.float64)
        if weights.ndim != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights have shape {tuple(weights.shape)}")
        self.weights = weights
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        options = {} if self.generator is None else {"generator": self.generator}
        yield from fx.multinomial(self.weights, self.num_samples, self.replacement, **options).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Batches of `batch_size` indices of another sampler.

    Parameters
    ----------
    sampler : iterable of int
        The indices.
    batch_size : int
        The size of each batch; the last may be smaller.
    drop_last : bool
        Leave such a smaller batch out.

    Examples
    --------
    >>> import ferrox as fx
    >>> list(fx.utils.data.BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else (count + self.batch_size - 1) // self.batch_size

    def _without_lists(self):
        """Yield the same batches as slices or index tensors, or return None where the sampler is not a known one."""
        if type(self) is not BatchSampler:
            return None
        if type(self.sampler) is SequentialSampler:
            return self._slices(len(self.sampler))
        if type(self.sampler) is RandomSampler and self.sampler.num_samples <= len(self.sampler.data_source):
            return self._pieces() if not self.sampler.replacement else None
        return None

    def _slices(self, size):
        for start in range(0, size, self.batch_size):
            if start + self.batch_size <= size or not self.drop_last:
                yield slice(start, min(start + self.batch_size, size))

    def _pieces(self):
        for permutation in self.sampler._permutations():
            for piece in self._slices(len(permutation)):
                yield permutation[piece]
