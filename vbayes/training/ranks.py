"""The processes of distributed training, and their communication."""

from __future__ import annotations

import atexit
import functools
import itertools
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from ..errors import BadInput, ProcessLost
from ..progress import WHO, Stop, between_steps

T = TypeVar("T")

TIMEOUT = timedelta(
    minutes=10
)  # time in which the slowest process must catch up with the others; compiling may take some time
PATIENCE = 2.0  # seconds: torchrun forwards a Ctrl-C to processes that already got it from the terminal
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # environment variables set by torchrun
MEND = "Fix: devices=1, with which each process trains by itself."


class Agreed(Stop):
    """A request to stop that all processes agree on.

    Args:
        mine: Tells whether this process has been asked; the others learn of it at the next step.
    """

    def __init__(self, mine: Stop | None = None) -> None:
        super().__init__()
        self.mine = mine or Stop()

    def ask(self, by: str) -> None:
        self.mine.ask(by)

    def heard(self, by: str) -> None:
        """Records that one of the processes has been asked."""
        super().ask(by)


class Ranks:
    """The processes of torch's default group, from the point of view of one of them.

    Attributes:
        rank, world: The number of this process, from 0, and the number of processes.
        stop: Whether one of them was asked to stop, and all know about it.
        seconds: Time on the clock of the first process at the last step, which all of them use.
    """

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.stop, self.seconds = Agreed(), 0.0
        self._where: AbstractContextManager[Any] = nullcontext()
        self._began = time.perf_counter()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @property
    def words(self) -> str:
        """A description of this process."""
        return f"Process {self.rank} of {self.world}"

    def device(self, asked: Any) -> Any:
        """The device of this process: for "auto" or "cuda" the GPU that torchrun assigned to it.

        Raises:
            BadInput: There are more processes than GPUs, or the process group can't communicate tensors on the device.
        """
        if str(asked) == "cuda" or (str(asked) == "auto" and torch.cuda.is_available()):
            number, cards = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
            if 0 < cards <= number:  # without GPUs, the search for a device raises the error
                raise BadInput(
                    f"device={str(asked)!r} would put {self.words.lower()} on GPU number {number}, but there are only {cards} GPUs. Wanted: one GPU for each process on a machine. "
                    f"Fix: torchrun --nproc-per-node={cards}, device='cpu', or device='cuda:0' where each process is shown a GPU of its own."
                )
            asked = f"cuda:{number}"
        if str(asked).startswith("cuda"):
            self._where = torch.cuda.device(torch.device(asked))
        elif dist.get_backend() == "nccl":
            raise BadInput(
                f"device={str(asked)!r} in an NCCL process group, which supports only CUDA devices. Wanted: dist.init_process_group('cpu:gloo,cuda:nccl')."
            )
        return asked

    def clock(self) -> float:
        """The common time of all processes."""
        return self.seconds

    # ---- communication ---------------------------------------------------------------------------------

    def mean(self, tensors: Sequence[Tensor], weight: float, lost: bool = False) -> list[Tensor]:
        """The weighted mean of tensors over the processes; requests to stop, and the time, are communicated along with it.

        Args:
            tensors: Floating-point tensors on one device, with the same shapes in all processes.
            weight: Weight of this process; the weights of all add up to 1.
            lost: Whether this process can't continue, so that its numbers are meaningless.

        Raises:
            ProcessLost: Another process can't continue, or does not respond.
        """
        wide = functools.reduce(torch.promote_types, (each.dtype for each in tensors))
        seconds = time.perf_counter() - self._began if self.first else 0.0
        asked = [float(self.stop.mine.by == who) for who in WHO]
        news = tensors[0].new_tensor([*asked, float(lost), seconds], dtype=wide)
        flat = torch.cat([*(each.detach().reshape(-1).to(wide) for each in tensors), news])
        flat[: -len(news)].mul_(weight)
        with self._hearing():
            dist.all_reduce(flat)
        *asked, missing, self.seconds = flat[-len(news) :].tolist()
        for who in itertools.compress(WHO, asked):
            self.stop.heard(who)
        if missing and not lost:
            raise ProcessLost(
                f"{self.words} stops because another process could not take its step; see the error of that process. {MEND_LOST}"
            )
        parts = flat[: -len(news)].split([each.numel() for each in tensors])
        return [part.view(each.shape).to(each.dtype) for part, each in zip(parts, tensors, strict=True)]

    def gather(self, thing: T) -> list[T]:
        """The objects of all processes, in order of rank."""
        found: list[Any] = [None] * self.world
        with self._hearing(), self._where:
            dist.all_gather_object(found, _on_the_cpu(thing))
        return found

    def by_first(self, make: Callable[[], T]) -> T:
        """Runs a function in the first process, and returns its result in all of them; if it raises an error, all do.

        Raises:
            ProcessLost: In the other processes, if it failed.
        """
        made: list[Any] = [None, None]
        error: BaseException | None = None
        if self.first:
            try:
                made[0] = _on_the_cpu(make())
            except Exception as raised:
                error, made[1] = raised, f"{type(raised).__name__}: {raised}"
        with self._hearing(), self._where:
            dist.broadcast_object_list(made, src=0)
        if error is not None:
            raise error
        if made[1] is not None:
            raise ProcessLost(f"{self.words} stops because the first process had an error: {made[1]}")
        return made[0]  # type: ignore[no-any-return]

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch's own errors are of this type
            raise ProcessLost(
                f"{self.words} has lost contact with the others ({str(error).splitlines()[0]}). One of them has died, is executing other code, or is far behind. "
                f"{MEND_LOST}"
            ) from error

    # ---- behaviour of this process ----------------------------------------------------------------------------------

    @contextmanager
    def between_steps(self, *, saves: bool = False) -> Iterator[Stop]:
        """Like `vbayes.progress.between_steps`, but all processes stop after the same step, whichever of them was asked to; those that SIGTERM would end do so then, all of them.

        Args:
            saves: Whether this process saves the steps.
        """
        with between_steps(PATIENCE, saves=True, says=saves) as mine:
            self.stop = Agreed(mine)
            try:
                yield self.stop
            finally:
                mine.ask(self.stop.by)
                self.stop = Agreed()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Context in which only the first process warns."""
        with warnings.catch_warnings():
            if not self.first:
                warnings.simplefilter("ignore")
            yield


MEND_LOST = "Fix: look at the messages of the other processes, and start all of them again; a fit with checkpoint= continues from its file."


def ranks_of(devices: int | None) -> Ranks | None:
    """The processes that train together; None if this one trains alone.

    Args:
        devices: Expected number of processes; None uses those that torchrun has started, or that are in the program's process group.

    Raises:
        BadInput: The number of processes is a different one.
    """
    if devices == 1:
        return None
    ready = dist.is_available() and dist.is_initialized()
    # A child process inherits these variables, but is not one of the processes.
    launched = all(os.environ.get(each) for each in LAUNCHED) and multiprocessing.parent_process() is None
    world = dist.get_world_size() if ready else int(os.environ["WORLD_SIZE"]) if launched else 1
    if devices is not None and devices != world:
        raise BadInput(
            f"devices={devices}, but there is only {world} process. Wanted: one process for each device. Fix: torchrun --nproc-per-node={devices} script.py"
            if world == 1
            else f"devices={devices}, but there are {world} processes. Wanted: devices={world}, or 1 for separate fits. Fix: leave it out."
        )
    if world == 1:
        return None
    if not ready:
        cards = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo", timeout=TIMEOUT)
        atexit.register(_leave)
    return Ranks()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _on_the_cpu(thing: T) -> T:
    """A copy on the CPU for another process, which may not have access to this one's GPU."""
    return tree_map(lambda each: each.detach().cpu() if isinstance(each, Tensor) else each, thing)  # type: ignore[no-any-return]
