"""The user's home, which not everybody has: in a container a process may have no entry among the users, or a home that is not its own."""

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
    """Whether there is a home with a cache, or one that this process can write to."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or not os.path.isdir(home):
        return False
    return os.access(home, os.W_OK | os.X_OK) or os.path.isdir(os.path.join(home, ".cache"))


def temporary() -> Path:
    """A folder in its place, of mode 0700, that goes with this process; one line says so."""
    return _temporary(os.getpid())


def settle() -> None:
    """Gives a process without a home that folder for one, for what it calls and starts too."""
    if not is_usable():
        os.environ["HOME"] = str(temporary())


@contextmanager
def lent() -> Iterator[None]:
    """Inside there is a home: some packages do not bear to be imported without one."""
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
        f"vbayes: there is no home that can be written to, so data and machine code are kept in {folder}, which goes with this process. Mend: set HOME, or VBAYES_CACHE.",
        file=sys.stderr,
    )
    return folder
