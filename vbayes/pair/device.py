"""Devices of a pair and its data, and errors for tensors that were not moved along."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask

from ..arguments.device import DEVICE
from ..arguments.kind import refuse
from ..errors import BadInput

_LIBRARIES = (
    *(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")),
    *(str(Path(module.__file__ or "").parent) for module in (torch, pyro)),
    str(Path(__file__).parents[1]),
    "<frozen",
    "<eval_with_key>",
)
_APART = re.compile(
    "on the same device|device type for generator|between CPU and CUDA|device type tensor to numpy|different device|is on cpu"
)  # torch's messages about tensors on two devices

MEND = (
    "Wanted: constants made inside model, guide or estimator, such as x.new_tensor(2.0), or registered as buffers of a module, which are moved; or "
    "device='cpu'."
)


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" means CUDA if available.

    Raises:
        BadInput: There is no such device, or it can't be used.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(DEVICE("device", name))
    if found.type == "meta":
        refuse("device", str(name), got="a device that stores no numbers", wanted=DEVICE.words, mend="device='cpu'")
    return found


@contextmanager
def one_device(name: str, device: torch.device | None) -> Iterator[None]:
    """Context in which tensors without an explicit device are made on the pair's device, such as those of `Normal(0.0, 1.0)`. A tensor that was made before,
    on another device, is an error that names the line where it is used.

    Args:
        name: Name of the pair.
        device: Device of its parameters. Nothing is done for the CPU, or None.

    Raises:
        BadInput: Tensors on two devices met.
    """
    if device is None or device.type == "cpu":
        yield
        return
    try:
        with device:
            yield
    except (RuntimeError, TypeError) as error:
        if not _APART.search(str(error)):
            raise
        raise BadInput(
            f"Pair {name!r} is on {device}, but uses a tensor that is not{line_of(error)}: {str(error).splitlines()[0]} {MEND}"
        ) from error


def stays_behind(name: str, trace: pyro.poutine.Trace, device: torch.device) -> None:
    """Raises `BadInput` if the density of a site uses constants on another device, which a draw alone doesn't use."""
    for node in trace.nodes.values():
        site: Any = node
        if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
            continue
        try:
            scale_and_mask(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"]), mask=site["mask"])
        except (RuntimeError, TypeError) as error:
            if _APART.search(str(error)):
                raise BadInput(
                    f"Pair {name!r} is on {device}, but the {type(site['fn']).__name__} of site {site['name']!r}, or its mask, uses a tensor that is not. {MEND}"
                ) from error
        except (ValueError, NotImplementedError):
            continue  # a site without a density


def on_the_cpu(tensors: Sequence[torch.Tensor]) -> AbstractContextManager[object]:
    """Context in which tensors without an explicit device are made on the CPU again."""
    return torch.device("cpu") if any(t.device.type != "cpu" for t in tensors) else nullcontext()


def line_of(error: BaseException) -> str:
    """The last line of the user's own code that an error came through; empty if it came through none."""
    return line_among(traceback.extract_tb(error.__traceback__))


def line_among(frames: Sequence[traceback.FrameSummary]) -> str:
    """The last line of the user's own code among some, in brackets; empty if there is none."""
    lines = [frame for frame in frames if frame.line and not frame.filename.startswith(_LIBRARIES)]
    return f" (line {lines[-1].lineno} of {Path(lines[-1].filename).name}: `{lines[-1].line}`)" if lines else ""
