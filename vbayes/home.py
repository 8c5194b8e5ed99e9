"""The user's home directory, which may be missing: in a container, the user may not exist, or may not own its home."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_usable() -> bool:
    """Whether there is a home directory with a cache, or one that this process can write to."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or not os.path.isdir(home):
        return False
    return os.access(home, os.W_OK | os.X_OK) or os.path.isdir(os.path.join(home, ".cache"))


def temporary() -> Path:
    """A temporary replacement with mode 0700, deleted when this process ends; a message says so."""
    return _temporary(os.getpid())


def settle() -> None:
    """Sets the home of a process without one to that folder, also for its subprocesses."""
    if not is_usable():
        os.environ["HOME"] = str(temporary())


@contextmanager
def lent() -> Iterator[None]:
    """Provides a home inside the block: some packages can't be imported without one."""
    if is_usable():
        yield
        return
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(temporary())
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


@functools.cache
def _temporary(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vbayes-home-"))

    def remove() -> None:
        if os.getpid() == process:  # and not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    print(
        f"vbayes: there is no writable home directory, so data and compiled code are stored in {folder}, which is deleted when this process ends. Fix: set HOME, or VBAYES_CACHE.",
        file=sys.stderr,
    )
    return folder
