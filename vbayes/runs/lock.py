"""A lock that lets one process at a time write to a folder; it is released however the process ends, so process numbers need not be trusted."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Taken(Exception):
    """Another process has the lock; the message is its number, if it is known."""


class Lock:
    """A lock for a folder. On file systems without locks it has no effect.

    Args:
        folder: An existing folder.

    Raises:
        Taken: Another process holds the lock.
        OSError: The folder can't be written, or was removed meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Taken(os.read(self._file, 20).decode("ascii", "replace")) from None
                except OSError:  # this file system has no locks
                    pass
            # Between `open` and `flock` the folder may have been renamed to its final name, or removed.
            if not os.path.samestat(os.fstat(self._file), os.stat(path)):
                raise Taken("")
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Releases the lock."""
        os.close(self._file)
