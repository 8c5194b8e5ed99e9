"""The folder that a run writes to: hidden until the essential files are there, locked by one process, and recoverable after a crash."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputUnwritable
from .lock import NAME, Lock, Taken

LONGEST = 255  # maximum length of a file name in bytes
UNFINISHED, OLDER = ".unfinished", ".older"


class RunFolder:
    """The folder of a run, and whether it is published.

    Args:
        final: Its final path.
        replaces: Whether an older run may be there, which is kept until the new one is complete.

    Attributes:
        path: The current path to write to: hidden, and after `publish` the final one.
        published: Whether it has its final name.
    """

    def __init__(self, final: Path, *, replaces: bool = False) -> None:
        self.final, self._replaces = Path(os.path.abspath(final)), replaces
        self._hidden, self._older = hidden_of(self.final), hidden_of(self.final, OLDER)
        self.path, self.published = self._hidden, False
        self._missing = [parent for parent in self.final.parents if not parent.exists()]
        self._lock = self._opened()

    def publish(self) -> None:
        """Renames the folder to its final name; further files are written there."""
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)  # it may have been removed
            if self._replaces and self.final.exists():
                shutil.rmtree(self._older, ignore_errors=True)
                os.replace(self.final, self._older)
            os.replace(self._hidden, self.final)
            self.path, self.published = self.final, True
            shutil.rmtree(self._older, ignore_errors=True)
        except OSError as error:
            raise OutputUnwritable(
                f"Can't finish {self.final}: {error}. Fix: free some space, or choose another --out."
            ) from error

    def remains(self) -> list[str]:
        """The names of files that a dead process has left in it."""
        return sorted(entry.name for entry in self._hidden.iterdir() if entry.name != NAME)

    def clear(self) -> None:
        """Deletes what a dead process has left in it."""
        for entry in list(self._hidden.iterdir()):
            if entry.name != NAME:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def close(self, *, keep: bool) -> None:
        """Releases the folder.

        Args:
            keep: Whether to keep an unpublished folder, so that another process can continue with it.
        """
        (self.path / NAME).unlink(missing_ok=True) if self.published else None
        if not self.published and not keep:
            shutil.rmtree(self._hidden, ignore_errors=True)
        self._lock.release()
        self._recover()
        if not self.final.exists() and not self._hidden.exists():
            _remove_empty(self._missing)

    def _opened(self) -> Lock:
        try:
            for _ in range(3):
                self._require_free()
                self._hidden.mkdir(parents=True, exist_ok=True)
                if not stat.S_ISDIR(self._hidden.lstat().st_mode):
                    raise OutputUnwritable(
                        f"{self._hidden} is a symbolic link, which is not followed. Remove it first."
                    )
                try:
                    lock = Lock(self._hidden)
                    break
                except Taken as error:
                    taken = str(error)
                except FileNotFoundError:  # it has just been renamed to its final name
                    taken = ""
            else:
                raise OutputUnwritable(
                    f"Another process{f' ({taken})' if taken else ''} is writing to {self.final}. Wanted: one process at a time. Fix: choose another --out, or wait until it has finished."
                )
            if not self.final.exists():  # so that an invalid name is detected now
                self.final.mkdir()
                self.final.rmdir()
            (self._hidden / "environment.json").touch()
        except OutputUnwritable:
            raise
        except OSError as error:
            with suppress(OSError):  # leaves no partial lock on a full disk
                (self._hidden / NAME).unlink(missing_ok=True)
                self._hidden.rmdir()
            _remove_empty(self._missing)
            raise OutputUnwritable(
                f"Can't write to {self.final}: {error}. Choose another --out, in a writable folder."
            ) from error
        return lock

    def _require_free(self) -> None:
        """Checks that its final place is free."""
        if not self._replaces and self.final.exists() and (not self.final.is_dir() or any(self.final.iterdir())):
            raise OutputUnwritable(
                f"{self.final} exists and is not an empty folder. Choose another --out, or remove it first."
            )

    def _recover(self) -> None:
        """Restores an older run whose replacement was never completed."""
        if self._older.exists() and not self._older.is_symlink() and not self.final.exists():
            os.replace(self._older, self.final)


@contextmanager
def run_folder(final: Path, *, replaces: bool = False, keeps: str = "") -> Iterator[RunFolder]:
    """Context with a folder to write to, which is a hidden one beside `final` until `publish`; after an error an unpublished one is removed.

    Args:
        final: Its final path.
        replaces: Whether an older run may be there.
        keeps: A file in the presence of which an unpublished folder is kept after an error or a crash, for another process to find. Without it, leftovers of a dead process are removed.

    Raises:
        OutputUnwritable: `final` is not empty, another process writes to it, or it can't be made; raised before any work is done.
    """
    place = RunFolder(final, replaces=replaces)
    done = False
    try:
        if not keeps or keeps not in place.remains():
            place.clear()
        yield place
        done = True
    except OSError as error:
        if isinstance(error, OutputUnwritable):
            raise
        raise OutputUnwritable(
            f"Can't finish {place.final}: {error}. Fix: free some space, or choose another --out."
        ) from error
    finally:
        place.close(keep=not done and bool(keeps) and (place.path / keeps).exists())


def hidden_of(folder: Path, ending: str = UNFINISHED) -> Path:
    """`.NAME.unfinished`, with a hash instead of a name that would be too long."""
    name = f".{folder.name}{ending}"
    if len(os.fsencode(name)) > LONGEST:
        name = f".{hashlib.sha256(os.fsencode(folder.name)).hexdigest()}{ending}"
    return folder.with_name(name)


def left_behind(parent: Path, *, keeps: str) -> list[Path]:
    """The hidden folders without a running process that have a file of this name; those that lack it are removed."""
    try:
        found = sorted(entry for entry in parent.iterdir() if entry.name.startswith(".") and entry.suffix == UNFINISHED)
    except OSError:
        return []
    kept = []
    for entry in found:
        if entry.is_symlink() or not (entry / NAME).is_file() or (entry / NAME).is_symlink():
            continue
        try:
            lock = Lock(entry)
        except (OSError, Taken):
            continue
        if (entry / keeps).exists():
            kept.append(entry)
        else:
            shutil.rmtree(entry, ignore_errors=True)
        lock.release()
    return kept


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Context with a temporary name for writing a file, which is renamed once it is complete.

    Raises:
        OutputUnwritable: It can't be written; an existing file is left as it was.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeError if the disk is full
        raise OutputUnwritable(
            f"Can't write {path}: {error}. Fix: free some space, or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, up to one that is in use."""
    try:
        for folder in folders:
            folder.rmdir()
    except OSError:
        return
