"""Many tasks at a time: in processes of this machine, on a Dask cluster, or on a Ray cluster."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import joblib
import pandas as pd

from ..errors import BadInput, TaskFailed
from .task import Task

if TYPE_CHECKING:
    from distributed import Client

Outcomes: TypeAlias = Callable[[Sequence[tuple[int, Task]]], Iterable[tuple[int, pd.DataFrame | str]]]

PATIENCE = 10  # seconds between looks at whether a Dask cluster still has workers
LONELY = 120  # seconds that it may have none, while it starts some
ATTEMPTS = 3  # in a row in which no task came out, because worker processes died


def measured(tasks: Sequence[Task], *, jobs: int, backend: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Number and table of each task, as they come; one that fails doesn't keep the others from being measured.

    Args:
        tasks: What to measure.
        jobs: How many at a time in processes of this machine; 1 for none but this. A cluster takes what it has.
        backend: "loky" (this machine), "dask:ADDRESS" or "ray".

    Raises:
        TaskFailed: In the end, if some did not come out; or where worker processes die again and again.
        BadInput: No such backend, one that isn't installed, or a cluster out of reach.
    """
    left, failed = dict(enumerate(tasks)), []
    with _configured(backend, jobs) as outcomes:
        attempts = 0
        while left:
            attempts += 1
            try:
                for number, outcome in outcomes(list(left.items())):
                    task, attempts = left.pop(number), 0
                    if isinstance(outcome, pd.DataFrame):
                        yield number, outcome
                    else:
                        failed.append(f"{task.path.stem} with {task.described()} failed:\n{outcome}")
            except BrokenProcessPool as error:  # those that came out have been kept; the others are tried anew
                if attempts >= ATTEMPTS:
                    raise TaskFailed(
                        f"A worker process died {ATTEMPTS} times in a row ({error}). Wanted: enough memory for each; try fewer --jobs."
                    ) from error
    if failed:
        raise TaskFailed(f"{len(failed)} of {len(tasks)} measurements failed, the others are kept. {failed[0]}")


def _measure(number: int, task: Task, *, quiet: bool = True) -> tuple[int, pd.DataFrame | str]:
    """The table, or what went wrong in words: an error's class may be in a file that can't be imported elsewhere."""
    try:
        return number, task.measure(quiet=quiet)
    except Exception:
        return number, traceback.format_exc()


@contextmanager
def _configured(backend: str, jobs: int) -> Iterator[Outcomes]:
    """Numbered tasks → what comes of each."""
    kind, _, address = backend.partition(":")
    if backend == "loky" and jobs == 1:
        yield lambda tasks: (_measure(number, task, quiet=False) for number, task in tasks)
    elif backend == "loky":
        yield _in_parallel(n_jobs=jobs, return_as="generator_unordered")
    elif kind == "dask" and address:
        try:
            from distributed import Client
        except ImportError as error:
            raise BadInput(_missing("dask")) from error
        try:
            client = Client(address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise BadInput(f"No Dask scheduler at {address}: {error}. Wanted: dask:tcp://HOST:8786.") from error
        with client:
            yield _on_dask(client)
    elif backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise BadInput(_missing("ray")) from error
        register_ray()
        with joblib.parallel_config(backend="ray"):  # which gives no result before it has all
            yield _in_parallel(n_jobs=-1 if jobs == 1 else jobs, pre_dispatch="all")
    else:
        raise BadInput(
            f"There is no backend {backend!r}. Wanted: loky, dask:ADDRESS (as dask:tcp://HOST:8786), or ray."
        )


def _in_parallel(**how: Any) -> Outcomes:
    def outcomes(tasks: Sequence[tuple[int, Task]]) -> Iterable[tuple[int, pd.DataFrame | str]]:
        return joblib.Parallel(batch_size=1, **how)(joblib.delayed(_measure)(*numbered) for numbered in tasks)

    return outcomes


def _on_dask(client: Client) -> Outcomes:
    """By Dask's own futures: joblib's wait for ever when a task has killed every worker that tried it."""
    from distributed import KilledWorker, wait

    def outcomes(tasks: Sequence[tuple[int, Task]]) -> Iterator[tuple[int, pd.DataFrame | str]]:
        left = {client.submit(_measure, *numbered, pure=False): numbered[0] for numbered in tasks}
        seen = time.monotonic()  # a worker
        while left:
            try:
                done = wait(list(left), timeout=PATIENCE, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            for future in done:
                try:
                    outcome = future.result(timeout=PATIENCE)
                except TimeoutError:
                    continue  # lost with its worker, and being measured again
                except KilledWorker as error:
                    outcome = left[future], f"It killed each worker that tried it: {error}"
                del left[future]
                yield outcome
            if client.nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > LONELY:
                raise TaskFailed(f"The Dask cluster has had no workers for {LONELY} s. What was measured is kept.")

    return outcomes


def _missing(extra: str) -> str:
    return f"--backend {extra} wants a package that is not installed. Mend: pip install 'vbayes[{extra}]'"
