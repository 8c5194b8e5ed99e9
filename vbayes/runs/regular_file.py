"""Files of a folder that anybody may have written to: no link is followed, nothing but a regular file is read, and a new one is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

LARGEST = 2**28  # bytes; a file with holes says that it has millions of times what there is memory for

# Absent on Windows. Without waiting: a named pipe would keep its reader for ever.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def is_regular(path: Path) -> bool:
    """Whether a file is there, and is itself what it holds: no link, folder, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def read(path: Path) -> bytes:
    """What it holds.

    Raises:
        OSError: It is missing, no regular file, or too large.
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
    """Puts a file in the place of whatever is there, once it is whole and on the disk; of a link it is the link that goes.

    Raises:
        OSError: It can't be written; what was there is as it was.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")  # made new, so that nobody can have laid a link there
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
