"""Runs tasks in parallel: in local processes, on a Dask cluster, or on a Ray cluster."""

from __future__ import annotations

import re
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import joblib
import pandas as pd

from ..errors import BadInput, TaskFailed, VBayesError
from .task import Task

if TYPE_CHECKING:
    from distributed import Client

Outcomes: TypeAlias = Callable[[Sequence[tuple[int, Task]]], Iterable[tuple[int, pd.DataFrame | str]]]

PATIENCE = 10  # seconds between checks that a Dask cluster still has workers
LONELY = 120  # seconds that it may be without workers, while it starts some
IN_A_ROW = 3  # number of crashed tasks after which the rest is not tried
NAMED = 5  # failed tasks that are named besides the first
DIED = "its process died{}, and again when it ran alone. Wanted: enough memory, and no os._exit, signal or crash in the code that it calls."


def measured(tasks: Sequence[Task], *, jobs: int, backend: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yields number and table of each task as it finishes; if a task fails, the others are still measured.

    Args:
        tasks: The tasks to measure.
        jobs: Number of local processes; 1 for this process only. A cluster uses all its workers.
        backend: "loky" (this machine), "dask:ADDRESS" or "ray".

    Raises:
        TaskFailed: Some tasks failed, raised at the end; or worker processes crash repeatedly.
        BadInput: There is no such backend, it isn't installed, or the cluster can't be reached.
    """
    left, failed = dict(enumerate(tasks)), dict[int, str]()
    dead = 0  # consecutive tasks that crashed their process
    with _configured(backend, jobs) as outcomes:
        while left:
            try:
                for number, outcome in outcomes(list(left.items())):
                    del left[number]
                    if isinstance(outcome, pd.DataFrame):
                        yield number, outcome
                    else:
                        failed[number] = outcome
                continue
            except (
                BrokenProcessPool
            ):  # it is unknown which of the running tasks crashed it, so each of them is run by itself
                suspects = list(left.items())[: 2 * jobs]  # the number that joblib sends ahead
            for number, task in suspects:
                try:
                    alone, dead = next(outcome for _, outcome in list(outcomes([(number, task)]))), 0
                except BrokenProcessPool as again:
                    alone, dead = DIED.format(_exit_code(again)), dead + 1
                del left[number]
                if isinstance(alone, pd.DataFrame):
                    yield number, alone
                else:
                    failed[number] = alone
                if dead >= IN_A_ROW:
                    raise TaskFailed(
                        _said(tasks, failed, f"{dead} in a row died, so the other {len(left)} were not tried.")
                    )
    if failed:
        raise TaskFailed(_said(tasks, failed, "The others are saved."))


def _exit_code(error: BrokenProcessPool) -> str:
    """How the process ended, if joblib reports it: ` by SIGKILL(-9)`."""
    found = re.search(r"exit codes? of the workers (?:is|are) \{(.+?)\}", str(error))
    return f" by {found[1]}" if found else ""


def _said(tasks: Sequence[Task], failed: Mapping[int, str], rest: str) -> str:
    """The names of all failed tasks, and the error of the first."""
    (first, why), *others = failed.items()
    named = "".join(
        f"\nAlso failed: {tasks[number].described()}: {why.splitlines()[0]}" for number, why in others[:NAMED]
    )
    more = f"\n{len(others) - NAMED} more failed." if len(others) > NAMED else ""
    start = f"{len(failed)} of {len(tasks)} measurements failed. {rest}"
    return f"{start}\n{tasks[first].path.stem} with {tasks[first].described()} failed: {why}{named}{more}"


def _measure(number: int, task: Task, *, quiet: bool = True) -> tuple[int, pd.DataFrame | str]:
    """The table, or a description of the error, whose class might be in a file that can't be imported elsewhere.

    For an error of vbayes the description is its message; for any other the traceback follows.
    """
    try:
        return number, task.measure(quiet=quiet)
    except VBayesError as error:
        return number, f"{type(error).__name__}: {error}"
    except Exception as error:
        return number, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    except SystemExit:
        if quiet:  # in a worker, which dies from the signal; the task is measured again
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        raise


@contextmanager
def _configured(backend: str, jobs: int) -> Iterator[Outcomes]:
    """Function from numbered tasks to an iterator of their results."""
    kind, _, address = backend.partition(":")
    if backend == "loky" and jobs == 1:
        yield _here
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
        with joblib.parallel_config(backend="ray"):  # it returns no result before all are finished
            yield _in_parallel(n_jobs=-1 if jobs == 1 else jobs, pre_dispatch="all")
    else:
        raise BadInput(
            f"There is no backend {backend!r}. Wanted: loky, dask:ADDRESS (such as dask:tcp://HOST:8786), or ray."
        )


def _here(tasks: Sequence[tuple[int, Task]]) -> Iterator[tuple[int, pd.DataFrame | str]]:
    """Measures in this process, except tasks that have crashed a process before, which get one of their own."""
    for number, task in tasks:
        if task.has_died():
            yield from _in_parallel(n_jobs=2)([(number, task)])
            task.ends()
        else:
            task.begins()
            try:
                found = _measure(number, task, quiet=False)
            finally:
                task.ends()
            yield found


def _in_parallel(**how: Any) -> Outcomes:
    def outcomes(tasks: Sequence[tuple[int, Task]]) -> Iterable[tuple[int, pd.DataFrame | str]]:
        try:
            yield from joblib.Parallel(batch_size=1, **how)(joblib.delayed(_measure)(*numbered) for numbered in tasks)
        except Exception as error:
            if not type(error).__module__.startswith(
                "ray."
            ):  # errors of tasks are returned as text, so this is another error
                raise
            raise BrokenProcessPool(f"{type(error).__name__}: {error}") from error

    return outcomes


def _on_dask(client: Client) -> Outcomes:
    """Measures by Dask's own futures, because joblib's wait for ever if a task has killed every worker that tried it."""
    from distributed import KilledWorker, wait

    def outcomes(tasks: Sequence[tuple[int, Task]]) -> Iterator[tuple[int, pd.DataFrame | str]]:
        left = {client.submit(_measure, *numbered, pure=False): numbered[0] for numbered in tasks}
        seen = time.monotonic()  # a worker crashed
        while left:
            try:
                done = wait(list(left), timeout=PATIENCE, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            for future in done:
                try:
                    outcome = future.result(timeout=PATIENCE)
                except TimeoutError:
                    continue  # lost with its worker, and is being measured again
                except KilledWorker as error:
                    outcome = left[future], f"It crashed every worker that tried it: {error}"
                del left[future]
                yield outcome
            if client.nthreads():
                seen = time.monotonic()
            elif time.monotonic() - seen > LONELY:
                raise TaskFailed(
                    f"The Dask cluster has had no workers for {LONELY} s. Completed measurements are saved."
                )

    return outcomes


def _missing(extra: str) -> str:
    return f"--backend {extra} needs a package that is not installed. Fix: pip install 'vbayes[{extra}]'"
