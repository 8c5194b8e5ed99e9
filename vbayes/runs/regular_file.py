"""Reads and writes files in folders that others may have written to: follows no links, reads only regular files, and writes atomically."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

LARGEST = 2**28  # bytes; a sparse file may claim to be millions of times larger than memory

# Absent on Windows. Non-blocking, as reading from a named pipe would wait for ever.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def is_regular(path: Path) -> bool:
    """Whether there is a regular file: not a link, folder, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: It is missing, not a regular file, or too large.
    """
    if path.is_symlink():
        raise OSError("it is a link, and links are not followed")
    with open(os.open(path, os.O_RDONLY | _NO_LINK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        if found.st_size > LARGEST:
            raise OSError(
                f"it has {found.st_size:,} bytes, and no file that is read as a whole has more than {LARGEST:,}"
            )
        return file.read()


def write(path: Path, content: bytes) -> None:
    """Writes a file atomically and synchronously, replacing whatever is there; a link is replaced, not followed.

    Raises:
        OSError: It can't be written; an existing file is left as it was.
    """
    part = path.with_name(
        f".{secrets.token_hex(8)}.part"
    )  # created exclusively, so that it can't be a link made by someone else
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
