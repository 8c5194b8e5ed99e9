"""The folder where machine code is stored. Only this user may write to it, as its files are loaded, and loading executes them."""

from __future__ import annotations

import atexit
import functools
import hmac
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import platformdirs

SIZE = 256 * 2**20  # bytes: some thousands of programs
STALE = 24 * 3600.0  # seconds after which nobody still works on a half-made file
_KEY = 32  # bytes, of SHA-256
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def cache_folder() -> Path:
    """`$VBAYES_CACHE`, or the user's cache.

    Raises:
        OSError: The user has no home.
    """
    given = os.environ.get("VBAYES_CACHE")
    return (Path(given) if given else _at_home(platformdirs.user_cache_dir)) / "programs"


def private_folder() -> tuple[Path, bytes]:
    """A folder that nobody else can write to, and the key of the hashes in it: the cache, or else a temporary folder for this process.

    Warns once if the cache belongs to another user, or others can write to it.
    """
    try:
        folder = cache_folder()
        for place in (folder.parent, folder):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := _reason_against(folder):
            _refused(folder, reason)
        elif os.access(folder, os.W_OK):
            return folder, _kept_key()
    except OSError as error:  # nowhere to write, or no key that lasts
        _nowhere(str(error))
    return temporary_folder()


def content(file: Path) -> bytes:
    """The contents of one of our files.

    Raises:
        OSError: It is missing, a link, no regular file, another's, or others can write to it.
    """
    with open(os.open(file, os.O_RDONLY | _NO_LINK), "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
            raise PermissionError(f"{file} is not a file that only its owner, this user, can write to")
        return opened.read()


def drop_oldest(folder: Path) -> None:
    """Keeps the folder within its size: deletes the least recently used files, and unfinished files of processes that died."""
    found = []
    for entry in os.scandir(folder):
        try:
            seen = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(seen.st_mode):
                found.append((seen.st_mtime, seen.st_size, entry.path))
            elif time.time() - seen.st_mtime > STALE:
                shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:  # another process was quicker
            continue
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= SIZE:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


def _is_ours(found: os.stat_result) -> bool:
    """Of this user, who alone can write to it; Windows, which has no such modes, keeps the user's folders from others itself."""
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not _others_write(found))


def _others_write(found: os.stat_result) -> bool:
    # Many systems give each user a private group without other members, and let it write for that reason (pam_umask, `usergroups`).
    alone = found.st_gid == os.getgid() == os.getuid() != 0
    return bool(found.st_mode & (stat.S_IWOTH if alone else stat.S_IWOTH | stat.S_IWGRP))


def _reason_against(folder: Path) -> str:
    """Why others could change what is loaded from a folder; empty where they can't."""
    if not hasattr(os, "getuid"):
        return ""
    found, above = folder.lstat(), folder.parent.stat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is a link"
    if found.st_uid != os.getuid():
        return f"{folder} belongs to another user"
    if above.st_uid not in (0, os.getuid()):
        return f"{folder.parent} belongs to another user"
    if _others_write(found):
        return f"others can write to {folder}"
    if (
        _others_write(above) and not above.st_mode & stat.S_ISVTX
    ):  # in a sticky one, as /tmp is, nobody can replace what is ours
        return f"others can write to {folder.parent}"
    return ""


@functools.cache
def _nowhere(reason: str) -> None:
    """Prints a message once; not as a warning, which some users turn into errors."""
    print(
        f"Compiled code is not stored: {reason}. A temporary folder is used, which is deleted when this process ends. Fix: set VBAYES_CACHE.",
        file=sys.stderr,
    )


@functools.cache
def _refused(folder: Path, reason: str) -> None:
    """Says it once."""
    warnings.warn(
        f"Compiled code is not stored in {folder}: {reason}, and could make this process run arbitrary code. A temporary folder is used, so everything is compiled "
        f"again in each process. Fix: `chmod 700` both folders, if they are yours; or set VBAYES_CACHE to a folder that only you can write to.",
        stacklevel=3,
    )


def temporary_folder() -> tuple[Path, bytes]:
    """A folder and a key that are deleted when this process ends."""
    return _temporary(os.getpid())


@functools.cache
def _temporary(process: int) -> tuple[Path, bytes]:
    folder = Path(tempfile.mkdtemp(prefix="vbayes-"))  # mode 0700

    def remove() -> None:
        if os.getpid() == process:  # and not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder, secrets.token_bytes(_KEY)


def _at_home(place: Callable[[str], str]) -> Path:
    """A folder in the user's home. Without a home, older versions of platformdirs return `~`, which would be created in the current folder."""
    try:
        found = Path(place("vbayes"))
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if not found.is_absolute():
        raise OSError(f"there is no home for {found}")
    return found


def _kept_key() -> bytes:
    """This user's key, made at its first use. It is not stored in the cache, so that nothing is loaded from a cache that was copied from elsewhere.

    Raises:
        OSError: It can't be kept.
    """
    file = _at_home(platformdirs.user_state_dir) / "key"
    if (key := _key_in(file)) is not None:
        return key
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_bytes(_KEY))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(part, file)  # of several processes one makes it, and all read that
        except OSError:
            if _key_in(file) is None:  # damaged, or in a file system without such links
                os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    if (key := _key_in(file)) is None:
        raise OSError(f"{file} does not keep a key")
    return key


def _key_in(file: Path) -> bytes | None:
    try:
        key = content(file)
    except OSError:
        return None
    return key if len(key) == _KEY and (not hasattr(os, "getuid") or not file.stat().st_mode & 0o077) else None


def keyed(key: bytes, *parts: bytes) -> str:
    """A keyed hash, in hexadecimal."""
    made = hmac.new(key, digestmod="sha256")
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.hexdigest()
