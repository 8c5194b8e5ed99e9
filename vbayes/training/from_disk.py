"""Checks of data that are read from disk during training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from ..data.dataset import Dataset
from ..errors import BadInput
from ..pair.pair import Pair

WANTED = "an array in memory, if it fits"


def batch_size_of(data: Any, batch_size: int | None) -> int | None:
    """The given batch size, or else that of a data loader."""
    if batch_size is not None or not isinstance(data, DataLoader):
        return batch_size
    return data.batch_size or getattr(data.batch_sampler, "batch_size", None)


def asked_of_disk(pair: Pair, data: Dataset, batch_size: int | None, **options: Any) -> Dataset:
    """The columns that the model asks for: others are not to be read. Data in memory as they are.

    Args:
        batch_size: M.
        options: Of the fit, of which none can be had with such data.

    Raises:
        BadInput: What needs all rows at once.
    """
    if not data.stored:
        return data
    rows = f"Data set {data.name!r} with {len(data)} rows is read during training"
    for name, value in options.items():
        if value is not None:
            raise BadInput(f"{rows}, but {name}={value!r} needs all rows at once. Wanted: no {name}; or {WANTED}.")
    if batch_size is None:
        raise BadInput(
            f"{rows}, in minibatches. Wanted: a batch size, such as batch_size={min(1000, len(data))}; or {WANTED}."
        )
    if pair.word is not None:
        raise BadInput(
            f"{rows}, but guide={pair.word!r} needs all rows at once to find its start. Wanted: a guide of your own, such as pyro.infer.autoguide.AutoNormal(model); or {WANTED}."
        )
    return replace(data, tensors={name: data.tensors[name] for name in data.asked(pair.model) if name in data.tensors})
