"""Where a pair and its data are."""

from __future__ import annotations

import torch

from ..errors import BadInput


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise BadInput(f"device={name!r} can't be used here: {reason} Wanted: 'auto', 'cpu' or 'cuda'.") from error
    return device
