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

LONGEST = 255  # bytes of a file's name
UNFINISHED, OLDER = ".unfinished", ".older"


class RunFolder:
    """Where a run stands.

    Args:
        final: Where it is to be.
        replaces: Whether an older run may be there, which stays until the new one is complete.

    Attributes:
        path: Where to write now: hidden, and after `publish` the final one.
        published: Whether it is that already.
    """

    def __init__(self, final: Path, *, replaces: bool = False) -> None:
        self.final, self._replaces = Path(os.path.abspath(final)), replaces
        self._hidden, self._older = hidden_of(self.final), hidden_of(self.final, OLDER)
        self.path, self.published = self._hidden, False
        self._missing = [parent for parent in self.final.parents if not parent.exists()]
        self._lock = self._opened()

    def publish(self) -> None:
        """Gives the folder its final name. What comes after is written there."""
        try:
            self._hidden.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
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
        """The names of what a process that died has left in it."""
        return sorted(entry.name for entry in self._hidden.iterdir() if entry.name != NAME)

    def clear(self) -> None:
        """Empties it of what a process that died has left."""
        for entry in list(self._hidden.iterdir()):
            if entry.name != NAME:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def close(self, *, keep: bool) -> None:
        """Lets others in.

        Args:
            keep: Whether an unpublished one is to stay as it is, for another process to go on with.
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
                except FileNotFoundError:  # it has got its final name just now
                    taken = ""
            else:
                raise OutputUnwritable(
                    f"Another process{f' ({taken})' if taken else ''} is writing to {self.final}. Wanted: one process at a time. Fix: choose another --out, or wait until it has finished."
                )
            if not self.final.exists():  # so that a name that can't be is known now
                self.final.mkdir()
                self.final.rmdir()
            (self._hidden / "environment.json").touch()
        except OutputUnwritable:
            raise
        except OSError as error:
            with suppress(OSError):  # no half of a lock on a full disk
                (self._hidden / NAME).unlink(missing_ok=True)
                self._hidden.rmdir()
            _remove_empty(self._missing)
            raise OutputUnwritable(
                f"Can't write to {self.final}: {error}. Choose another --out, in a writable folder."
            ) from error
        return lock

    def _require_free(self) -> None:
        """That nothing of anybody's is in its place."""
        if not self._replaces and self.final.exists() and (not self.final.is_dir() or any(self.final.iterdir())):
            raise OutputUnwritable(
                f"{self.final} exists and is not an empty folder. Choose another --out, or remove it first."
            )

    def _recover(self) -> None:
        """An older run whose replacement never came is put back."""
        if self._older.exists() and not self._older.is_symlink() and not self.final.exists():
            os.replace(self._older, self.final)


@contextmanager
def run_folder(final: Path, *, replaces: bool = False, keeps: str = "") -> Iterator[RunFolder]:
    """A folder to write to, until `publish` a hidden one beside `final`; after an error an unpublished one vanishes.

    Args:
        final: Where it is to be.
        replaces: Whether an older run may be there.
        keeps: A file with which it stays after an error, or when the process dies: another one then finds it. Without a name what a dead process left is removed.

    Raises:
        OutputUnwritable: `final` holds something already, another process writes to it, or it can't be made; known before any work is done.
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
    """`.NAME.unfinished`, or a hash of the name where that would be too long."""
    name = f".{folder.name}{ending}"
    if len(os.fsencode(name)) > LONGEST:
        name = f".{hashlib.sha256(os.fsencode(folder.name)).hexdigest()}{ending}"
    return folder.with_name(name)


def left_behind(parent: Path, *, keeps: str) -> list[Path]:
    """The hidden folders with a file of that name in which nobody is at work any more; those without it are removed."""
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
    """A name to write a file under, which gets its own once it is whole.

    Raises:
        OutputUnwritable: It can't be written; what was there is as it was.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # HDF5 says the latter of a full disk
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
