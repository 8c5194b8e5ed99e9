"""Many cells at a time: processes of this machine, a Dask cluster, or a Ray cluster, all through joblib."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import joblib
import pandas as pd

from .cell import Cell
from .errors import BadInput, CellFailed

ATTEMPTS = 3  # at what no cell of came out because worker processes died


def measured(cells: Sequence[Cell], *, jobs: int, backend: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Number and table of each cell, as they come.

    Args:
        cells: What to measure.
        jobs: How many at a time in processes of this machine; 1 for none but this. A cluster takes what it has.
        backend: "loky" (this machine), "dask:ADDRESS" or "ray".

    Raises:
        CellFailed: The measurement of one failed, or its process died again and again.
        BadInput: No such backend, one that isn't installed, or a cluster out of reach.
    """
    if backend == "loky" and jobs == 1:
        for number, cell in enumerate(cells):
            yield number, cell.measure(quiet=False)
        return
    left, attempts = dict(enumerate(cells)), 0
    with _configured(backend, jobs) as how:
        while left:
            attempts += 1
            try:
                tasks = [joblib.delayed(_measure)(number, cell) for number, cell in left.items()]
                for number, table in joblib.Parallel(batch_size=1, pre_dispatch="all", **how)(tasks):
                    del left[number]
                    attempts = 0
                    yield number, table
            except BrokenProcessPool as error:  # those that came out have been kept; the others are tried anew
                if attempts >= ATTEMPTS:
                    raise CellFailed(
                        f"A worker process died {ATTEMPTS} times in a row ({error}). Wanted: enough memory for each; try fewer --jobs."
                    ) from error


def _measure(number: int, cell: Cell) -> tuple[int, pd.DataFrame]:
    """In the worker. Of an error only the text travels: the file that its class is in can't be imported elsewhere."""
    try:
        return number, cell.measure(quiet=True)
    except Exception:
        settings = ", ".join(f"{name}={value}" for name, value in cell.settings.items())
        text = f"{cell.path.stem} with {settings}, seed {cell.seed} failed:\n{traceback.format_exc()}"
        raise CellFailed(text) from None


@contextmanager
def _configured(backend: str, jobs: int) -> Iterator[dict[str, Any]]:
    """Arguments of joblib.Parallel."""
    kind, _, address = backend.partition(":")
    if backend == "loky":
        yield {"n_jobs": jobs, "return_as": "generator_unordered"}
    elif kind == "dask" and address:
        try:
            from distributed import Client
        except ImportError as error:
            raise BadInput(_missing("dask")) from error
        try:
            client = Client(address, set_as_default=False, timeout=10)
        except (OSError, ValueError) as error:
            raise BadInput(f"No Dask scheduler at {address}: {error}. Wanted: dask:tcp://HOST:8786.") from error
        with client, joblib.parallel_config(backend="dask", client=client):
            yield {"n_jobs": -1, "return_as": "generator_unordered"}
    elif backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise BadInput(_missing("ray")) from error
        register_ray()
        with joblib.parallel_config(backend="ray"):
            yield {"n_jobs": -1 if jobs == 1 else jobs}  # Ray's gives no result before it has all
    else:
        raise BadInput(
            f"There is no backend {backend!r}. Wanted: loky, dask:ADDRESS (as dask:tcp://HOST:8786), or ray."
        )


def _missing(extra: str) -> str:
    return f"--backend {extra} wants a package that is not installed. Mend: pip install 'vbayes[{extra}]'"
