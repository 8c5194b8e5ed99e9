"""Devices, by their names or as torch's own objects."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from .kind import refuse


@dataclass(frozen=True)
class Device:
    """A device that can be used here; "auto" is chosen later."""

    words: str = "'auto', 'cpu' or 'cuda'"
    example: str = "'cpu'"

    def __call__(self, name: str, value: Any) -> Any:
        torch: Any = sys.modules["torch"]  # torch is loaded if there is anything to move
        if not isinstance(value, (str, torch.device)):
            refuse(name, value, wanted=self.words, mend=f"{name}={self.example}")
        if value == "auto":
            return value
        try:
            there = torch.device(value)
            torch.empty(0, device=there)
        except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            refuse(
                name,
                str(value),
                got=f"not available: {reason}",
                wanted=self.words,
                mend=f"{name}={self.example}",
            )
        return value


DEVICE = Device()
