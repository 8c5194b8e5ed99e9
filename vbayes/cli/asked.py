"""The arguments of a run, as read from its folder and checked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadInput

LENGTH = ("steps", "epochs", "max_steps", "max_seconds")
OPTIONS = ("batch_size", "learning_rate", "binarize", "missing", "categorical", "settings", "guide")
TEXT, NUMBER, WHOLE = (str, type(None)), (int, float, type(None)), (int, type(None))
KINDS: dict[str, tuple[type, ...]] = {
    "pair": (str,),
    "data": TEXT,
    "estimator": TEXT,
    "seed": (int,),
    "steps": WHOLE,
    "epochs": WHOLE,
    "max_steps": WHOLE,
    "max_seconds": NUMBER,
    "batch_size": WHOLE,
    "learning_rate": NUMBER,
    "binarize": TEXT,
    "missing": TEXT,
    "categorical": TEXT,
    "settings": (dict, type(None)),
    "guide": TEXT,
}


def plain(told: Any, folder: Path) -> dict[str, Any]:
    """Name → argument; missing ones are None.

    Raises:
        BadInput: An argument is damaged.
    """
    if not isinstance(told, dict):
        raise BadInput(
            f"{folder / 'unfinished.json'} is damaged: it does not hold the arguments of the run. Fix: start a new run."
        )
    for name, kinds in KINDS.items():
        value = told.get(name)
        parts = value.values() if isinstance(value, dict) else ()
        if type(value) not in kinds or not all(isinstance(part, str) for part in parts):
            raise BadInput(
                f"{folder / 'unfinished.json'} is damaged: its {name!r} is {value!r:.80}. Fix: start a new run."
            )
    return {name: told.get(name) for name in KINDS}
