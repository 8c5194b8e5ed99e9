"""Which rows a torch `DataLoader` takes."""

from __future__ import annotations

from typing import Any, NoReturn

from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler

from ..arguments.kind import refuse
from ..errors import BadData


def rows_of_loader(loader: Any) -> list[int] | None:
    """The numbers of the rows that it takes, each once per epoch, in any order; None for all rows.

    Raises:
        BadData: It takes some rows more often than others, or its rows can't be determined.
    """
    batches = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        _refuse(f"batch_sampler={type(batches).__name__}", batches)
    sampler = loader.sampler if batches is None else batches.sampler
    count = len(loader.dataset)
    if type(sampler) is SequentialSampler:
        # The rows at the end, which are in no epoch.
        whole = count if batches is None or not batches.drop_last else count - count % batches.batch_size
        return None if whole == count else list(range(whole))
    if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == count:
        return None
    if isinstance(sampler, (SubsetRandomSampler, list, tuple, range)):
        some: Any = sampler.indices if isinstance(sampler, SubsetRandomSampler) else sampler
        rows = [int(row) for row in some]
        if len(set(rows)) == len(rows):
            return rows
        _refuse("a sampler that takes rows twice", sampler)
    _refuse(f"sampler={type(sampler).__name__}", sampler)


def _refuse(got: str, sampler: Any) -> NoReturn:
    weighted = (
        "; put weights into the model instead, with pyro.poutine.scale(scale=weight) around the observed sites"
        if hasattr(sampler, "weights")
        else ""
    )
    refuse(
        "data",
        object(),
        got=f"a DataLoader with {got}, whose selection of rows a fit can't reproduce",
        wanted="each row once per epoch, in an order drawn by the fit: no sampler, shuffle=True, or a SubsetRandomSampler of some rows",
        mend=f"DataLoader(data, batch_size=...), or for some rows DataLoader(torch.utils.data.Subset(data, rows), batch_size=...){weighted}",
        error=BadData,
    )
