"""Records the kernels that functions launch on a CUDA device, and puts torch back in order where that fails."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch

from ..errors import VBayesError
from ..rng import TURN
from .machine_code import say_once

R = TypeVar("R")
WARM = 3  # runs before recording: libraries set themselves up in the first, and the last tells what can't be recorded
WHY = "no CUDA graph of it can be recorded"
MEND = "Fix: install JAX's CUDA support, so that XLA compiles the program, or use device='cpu'"
_ABANDONED: list[
    Any
] = []  # graphs whose capture failed: some versions of torch go on asking them which memory is theirs


class Unrecordable(Exception):
    """A program that brings a value to the host, which no CUDA graph can."""


def recorded_or_why(make: Callable[[], R]) -> tuple[R | None, str | None]:
    """Returns what `make` records; or the reason why that failed, which is reported once.

    Raises:
        VBayesError: A capture failed and left CUDA unusable.
    """
    try:
        return make(), None
    except VBayesError:
        raise
    except Exception as error:  # whatever an operation raises that can't be captured
        say_once(f"{WHY}: {_in_words(error)}. {MEND}")
        return None, WHY


def recorded(*functions: Callable[[], None], device: torch.device) -> list[Callable[[], None]]:
    """Records the kernels that functions launch, and returns functions that launch them again, on the current stream.

    They may not read values, their tensors must keep their addresses, and as they share memory, no two of them may run at once.

    Raises:
        VBayesError: A capture failed and left CUDA unusable.
        Exception: They can't be recorded; torch is as it was.
    """
    with torch.cuda.device(device):
        here, aside, pool = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                for once in functions:
                    for _ in range(WARM - 1):
                        once()
                    with _without_reads():
                        once()
        finally:
            here.wait_stream(aside)
        with TURN:  # a capture begins by waiting for the device, which no other capture survives
            return [_captured(once, aside, pool).replay for once in functions]


@contextmanager
def _without_reads() -> Iterator[None]:
    """Makes torch refuse operations that bring a value to the host, as a capture that meets one leaves torch in disorder.

    The setting is one for the process: with other threads, which may read values of their own, it stays off.
    """
    if not _alone():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, that it does not know of all such operations
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _alone() -> bool:
    """Whether this is the only thread."""
    return threading.active_count() == 1


def _captured(once: Callable[[], None], aside: torch.cuda.Stream, pool: Any) -> torch.cuda.CUDAGraph:
    here, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    torch._C._cuda_clearCublasWorkspaces()  # so that the graph has one in its own memory, which no other kernel uses
    try:
        # A stream of this device, as torch's own for captures is on the device of the first; and other threads may go on.
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            once()
    except BaseException as error:
        _put_in_order(graph, pool, here, error)
        raise
    finally:
        torch._C._cuda_clearCublasWorkspaces()
    return graph


def _put_in_order(graph: torch.cuda.CUDAGraph, pool: Any, here: torch.cuda.Stream, error: BaseException) -> None:
    """Undoes what a failed capture leaves, depending on torch's version: its stream as the current one, an allocator that takes the capture to be under way,
    and a generator that refuses to draw."""
    torch.cuda.set_stream(here)
    _ABANDONED.append(graph)
    for undo in (lambda: torch._C._cuda_endAllocateToPool(here.device_index, pool), graph.reset):
        with suppress(RuntimeError):  # done already
            undo()
    try:
        number = torch.zeros((), device=here.device)
        with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            number.add_(1)  # at the end of a capture the generator is put back
    except Exception as another:
        torch.cuda.set_stream(here)
        raise VBayesError(
            f"Recording a CUDA graph failed ({_in_words(error)}), and CUDA can't be used any more in this process ({_in_words(another)}). "
            "Fix: start Python anew, and use compile=False."
        ) from error


def _in_words(error: BaseException) -> str:
    if error.__context__ and "captur" in str(error):  # what ended the capture, and not that it has ended
        error = error.__context__
    if "synchronizing CUDA operation" in str(error):
        return "an operation brings a value to the host"
    said = str(error).split("\n")[0]
    return said if isinstance(error, Unrecordable) else f"{type(error).__name__}: {said}"
