"""Batches out of samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import ferrox as fx

__all__ = ["default_collate", "default_convert"]


def _is_named_tuple(data):
    return isinstance(data, tuple) and hasattr(data, "_fields")


def _like_mapping(first: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """Return the items in a mapping of the class of `first`, with what else it carries; a dict where that fails."""
    if type(first) is dict:
        return items
    try:
        if isinstance(first, MutableMapping):
            made = copy.copy(first)
            made.update(items)
            return made
        return type(first)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _like_sequence(first: Sequence[Any], items: list[Any]) -> Any:
    if type(first) is list or type(first) is tuple:
        return items
    try:
        if isinstance(first, MutableSequence):
            made = copy.copy(first)
            for i, item in enumerate(items):
                made[i] = item
            return made
        return type(first)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def default_convert(data: Any) -> Any:
    """Return `data` with NumPy arrays turned into tensors, as a loader without batches gives it out."""
    if isinstance(data, fx.Tensor):
        return data
    if type(data).__module__ == "numpy" and hasattr(data, "dtype"):
        return data if data.dtype.kind in "SUO" else fx.as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if _is_named_tuple(data):
        return type(data)(*map(default_convert, data))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray, range)):
        return _like_sequence(data, [default_convert(value) for value in data])
    return data


def default_collate(batch: Sequence[Any]) -> Any:
    """Join a list of samples into one batch: tensors, arrays and numbers are stacked, containers entered.

    Examples
    --------
    >>> import ferrox as fx
    >>> batch = fx.utils.data.default_collate([{"x": 1.0, "y": 2}, {"x": 3.0, "y": 4}])
    >>> batch["y"].tolist()
    [2, 4]
    """
    first = batch[0]
    if isinstance(first, fx.Tensor):
        return fx.stack(list(batch), 0)
    if type(first).__module__ == "numpy" and hasattr(first, "dtype"):
        if first.dtype.kind in "SUO":
            raise TypeError(
                f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found a NumPy "
                f"{type(first).__name__} of {first.dtype}: give the loader a collate_fn"
            )
        return fx.stack([fx.as_tensor(value) for value in batch], 0)
    if isinstance(first, float):
        return fx.tensor(batch, dtype=fx.float64)
    if isinstance(first, int):
        return fx.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _like_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if _is_named_tuple(first):
        return type(first)(*(default_collate(samples) for samples in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        # Tuples become lists, so that batches may be changed in place.
        return _like_sequence(first, [default_collate(samples) for samples in zip(*batch, strict=True)])
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
        f"{type(first)}: give the loader a collate_fn"
    )


def pinned(data: Any) -> Any:
    """Return `data` with its tensors in page-locked memory."""
    pin: Callable[[], Any] | None = getattr(data, "pin_memory", None)
    if pin is not None:
        return pin()
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: pinned(value) for key, value in data.items()})
    if _is_named_tuple(data):
        return type(data)(*map(pinned, data))
    if type(data) is tuple:
        return tuple(map(pinned, data))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray, range)):
        return _like_sequence(data, [pinned(value) for value in data])
    return data
