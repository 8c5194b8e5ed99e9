"""Processes that end as processes do: killed, terminated, interrupted."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable


def in_a_child(work: Callable[[], object]) -> int:
    """Does some work in a fork of this process, which spares the seconds of importing: its exit status, negative for a signal that ended it."""
    return in_children(work)[0]


def in_children(*works: Callable[[], object]) -> list[int]:
    """Does each in a fork of its own, all at a time."""
    started = [_begun(work) for work in works]
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]


def _begun(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
        process = os.fork()
    if not process:
        status = 70
        try:
            signal.alarm(60)  # it is not to outlive a test that fails
            work()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def killed_at(count: int, function: Callable[..., object]) -> Callable[..., object]:
    """A function at whose so many-th call, once it has done its work, `kill -9` comes."""
    calls = 0

    def called(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        found = function(*args, **options)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return called
