"""What a fit asks of data that are read while it trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from ..data.dataset import Dataset
from ..errors import BadInput
from ..pair.pair import Pair

WANTED = "an array in memory, where there is room for one"


def batch_size_of(data: Any, batch_size: int | None) -> int | None:
    """A loader's own, where nobody says another."""
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
    rows = f"Data set {data.name!r} with {len(data)} rows is read while a fit trains"
    for name, value in options.items():
        if value is not None:
            raise BadInput(
                f"{rows}, and {name}={value!r} needs all of them at once. Wanted: {name} left out; or {WANTED}."
            )
    if batch_size is None:
        raise BadInput(f"{rows}, so many rows at a time. Wanted: batch_size={min(1000, len(data))}, say; or {WANTED}.")
    if pair.word is not None:
        raise BadInput(
            f"{rows}, and guide={pair.word!r} looks for its place by all rows at once. Wanted: a guide of yours, as pyro.infer.autoguide.AutoNormal(model); or {WANTED}."
        )
    return replace(data, tensors={name: data.tensors[name] for name in data.asked(pair.model) if name in data.tensors})
