"""Run folders: their names, atomic creation, and the provenance of their numbers."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .run_folder import hidden_of, run_folder

PACKAGES = ("vbayes", "torch", "pyro-ppl", "numpy", "jax", "arviz", "matplotlib")


def default_folder(command: str, pair: str) -> Path:
    """`runs/compare-vae-20260131-123456`, with a number appended if that exists already."""
    folder = first = Path("runs") / f"{command}-{pair}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while os.path.lexists(folder) or os.path.lexists(hidden_of(folder)):
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder


@contextmanager
def unfinished(folder: Path, *, replaces: bool = False) -> Iterator[Path]:
    """Context with a hidden folder beside `folder` to write to, which becomes `folder` at the end, or is removed after an error. See `run_folder`.

    Raises:
        OutputUnwritable: `folder` is not empty, another process writes to it, or it can't be made; raised before any work is done.
    """
    with run_folder(folder, replaces=replaces) as place:
        yield place.path
        place.publish()


def environment(*, device: str, seed: int) -> dict[str, Any]:
    """What is needed to know where numbers come from.

    Args:
        device: Where they were made; "auto" where some of them may name another.
    """
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    cuda = chosen.startswith("cuda")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "device": f"{device}: {torch.cuda.get_device_name(chosen)}, CUDA {torch.version.cuda}" if cuda else chosen,
        "float32_matmul_precision": _precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "git": _git(),
        "seed": seed,
    }


def _precision() -> str:
    """Of products of float32, as torch has been told; on a card they are in TF32 below "highest"."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # where it has been told in its newer way
        return torch.backends.cuda.matmul.fp32_precision


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
