"""A run folder: all of it or nothing, and where its numbers come from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import OutputUnwritable

PACKAGES = ("vbayes", "torch", "pyro-ppl", "numpy", "arviz", "matplotlib")


def default_folder(command: str, pair: str) -> Path:
    """`runs/compare-vae-20260131-123456`."""
    return Path("runs") / f"{command}-{pair}-{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def unfinished(folder: Path, *, replaces: bool = False) -> Iterator[Path]:
    """A hidden folder beside `folder` to write to; it takes its place at the end, or vanishes after an error.

    Args:
        replaces: Whether `folder` may hold an older run, which stays until the new one is complete.

    Raises:
        OutputUnwritable: `folder` holds something already, or can't be made; known before any work is done.
    """
    folder = folder.absolute()
    if not replaces and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputUnwritable(f"{folder} exists and is not an empty folder. Choose another --out, or remove it first.")
    missing = [parent for parent in folder.parents if not parent.exists()]
    hidden = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    older = folder.with_name(f".{folder.name}.older-{os.getpid()}")
    try:
        hidden.mkdir(parents=True)
        (hidden / "environment.json").touch()
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write to {folder}: {error}. Choose another --out, in a folder that is yours."
        ) from error
    try:
        yield hidden
        if replaces and folder.exists():
            os.replace(folder, older)
        os.replace(hidden, folder)
    except OSError as error:
        raise OutputUnwritable(f"Can't finish {folder}: {error}.") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if older.exists() and not folder.exists():
            os.replace(older, folder)
        shutil.rmtree(older, ignore_errors=True)
        if not folder.exists():
            _remove_empty(missing)


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, up to one that is in use."""
    try:
        for folder in folders:
            folder.rmdir()
    except OSError:
        return


def save_figure(figure: Any, path: Path) -> None:
    """The figure as a file; it is closed."""
    from matplotlib import pyplot

    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def environment(*, device: str, seed: int) -> dict[str, Any]:
    """What is needed to know where numbers come from."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cuda = device.startswith("cuda")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if cuda else device,
        "git": _git(),
        "seed": seed,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git() -> str:
    """The commit of the working directory; empty outside a repository."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
