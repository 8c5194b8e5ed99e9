"""A published file, found on this machine or downloaded; its hash is always checked before it is used.

It is searched in this order:

1. ``$VBAYES_DATA``, a folder that the user fills by hand. A wrong file there is an error, as only its owner may replace it.
2. The user's cache: ``$VBAYES_CACHE``, or the operating system's cache folder. A wrong file there is downloaded again.
3. The URL. A download appears in the cache only when it is complete and its hash is right.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import home
from ..arguments.choice import TEXT
from ..arguments.function import FUNCTION
from ..arguments.takes import takes
from ..errors import DataUnavailable


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@takes(path=TEXT, digest=FUNCTION)
@dataclass(frozen=True)
class DataFile:
    """One file of a data set, with the hash that verifies it.

    Args:
        path: Path relative to `$VBAYES_DATA` and to the cache, with `/` between folders.
        sha256: What `digest` must return, in hexadecimal.
        url: URL where it is published; empty for a repacked copy, which is searched in `$VBAYES_DATA` only.
        digest: Computes the hash that is compared with `sha256`: that of the file, or of its content if the hash of the file itself
            is not known. An error that it raises counts as a wrong hash.
    """

    path: str
    sha256: str
    url: str = ""
    digest: Callable[[Path], str] = sha256_of


def fetch(published: DataFile, *repacked: DataFile) -> Path:
    """Returns the path of a file on this machine, downloading it if necessary; its hash is checked every time.

    Args:
        published: The file as its authors publish it.
        repacked: The same content in other forms, which `$VBAYES_DATA` may hold instead.

    Returns:
        The path of the first form found.

    Raises:
        DataUnavailable: A file in `$VBAYES_DATA` has a wrong hash; or the file was in neither place and its download
            failed, was cut short or has a wrong hash; or the cache can't be written.
    """
    if own := _folder("VBAYES_DATA"):
        for file in (*repacked, published):
            if (path := own / file.path).exists():
                _check_own(file, path)
                return path
    cached = cache() / published.path
    if not cached.exists() or _got(published, cached) != published.sha256:
        _download(published, cached)
    return cached


def cache() -> Path:
    """The folder for downloads: `$VBAYES_CACHE`, or the operating system's cache folder; a temporary one if there is no home directory."""
    import pooch

    if given := _folder("VBAYES_CACHE"):
        return given
    with nullcontext() if os.environ.get("XDG_CACHE_HOME") else home.lent():
        return Path(pooch.os_cache("vbayes"))


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    with home.lent() if value and value.startswith("~") else nullcontext():
        return Path(value).expanduser() if value else None


def _got(file: DataFile, path: Path) -> str:
    try:
        return file.digest(path)
    except Exception as error:  # a damaged container may raise anything at all
        return f"unreadable, {type(error).__name__}: {error}"


def _check_own(file: DataFile, path: Path) -> None:
    if (got := _got(file, path)) != file.sha256:
        raise DataUnavailable(
            f"{path}, in your VBAYES_DATA folder, is not the expected file.\n"
            f"Got:    {got}\n"
            f"Wanted: {_wanted(file)}\n"
            f"Fix:    replace it{f' by {file.url}' if file.url else ''}, or remove it and let vbayes download the data."
        )


def _download(file: DataFile, target: Path) -> None:
    import pooch
    import requests

    # identity: no compression on the way, so that what arrives is byte for byte what was published.
    # stream: pooch's own True leaves the connection open after a 404, which Python then warns of.
    download = pooch.HTTPDownloader(headers={"Accept-Encoding": "identity"}, stream=False, chunk_size=2**16)
    print(f"vbayes: downloading {file.url} to {target}", file=sys.stderr)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A separate folder on the same disk, so that partial files are never visible, and are always removed.
        with TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            part = Path(folder) / target.name
            download(file.url, str(part), None)
            if (got := _got(file, part)) == file.sha256:
                os.replace(part, target)
    except requests.RequestException as error:
        raise _not_downloaded(file, f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise DataUnavailable(
            f"Can't save {file.url} to {target}.\n"
            f"Got:    {type(error).__name__}: {error}\n"
            "Wanted: a writable folder with enough space for the file.\n"
            "Fix:    set VBAYES_CACHE to such a folder."
        ) from error
    if got != file.sha256:
        raise _not_downloaded(file, got)


def _not_downloaded(file: DataFile, got: str) -> DataUnavailable:
    own = os.environ.get("VBAYES_DATA")
    return DataUnavailable(
        f"Can't download {file.url}\n"
        f"Got:    {got}\n"
        f"Wanted: {_wanted(file)}\n"
        f"Fix:    try again with a network connection; or get the file by other means, put it at $VBAYES_DATA/{file.path} and set "
        f"VBAYES_DATA to that folder (now {repr(own) if own else 'not set'})."
    )


def _wanted(file: DataFile) -> str:
    return f"sha256 {file.sha256}" + ("" if file.digest is sha256_of else " (of the content, not of the file)")
