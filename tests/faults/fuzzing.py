"""One bad call: what came of it, and whether anything of the process was changed by it."""

from __future__ import annotations

import random
import re
import signal
import time
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from torch.distributions import Distribution

import vbayes as vb

LIMIT = 20  # seconds a call


class TooLong(BaseException):
    """It has not come back in time."""


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        kind: "worked", a name of `vb.errors`, "raw", "wordless" (an error of ours without its four parts), "slow" or "changed".
        detail: Of what is wrong, in words.
    """

    kind: str
    detail: str = ""

    @property
    def bad(self) -> bool:
        return self.kind in ("raw", "wordless", "slow", "changed")


def state() -> dict[str, Any]:
    """What a process has once."""
    return {
        "parameters": tuple(sorted(pyro.get_param_store().keys())),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": str(np.random.get_state(legacy=False)),
        "Python's generator": random.getstate(),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "SIGTERM": signal.getsignal(signal.SIGTERM),
        "validation": (Distribution._validate_args, pyro.infer.util.is_validation_enabled()),
        "gradients": torch.is_grad_enabled(),
        "handlers": len(pyro.poutine.runtime._PYRO_STACK),
        "type": torch.get_default_dtype(),
        "default seed": vb.default_seed(),
    }


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(call: Any, arguments: dict[str, Any], *, draws: bool = False) -> Outcome:
    """Makes a call.

    Args:
        call: Whose.
        arguments: By name.
        draws: Whether it may draw from the generators around it, and train what is in Pyro's store.
    """
    before, began = state(), time.perf_counter()
    outcome = Outcome("worked")
    try:
        with warnings.catch_warnings(), limited(LIMIT):
            warnings.simplefilter("ignore")
            found = call(**arguments)
            if isinstance(found, types.GeneratorType) or hasattr(found, "__enter__"):
                with found if hasattr(found, "__enter__") else _exhausted(found):
                    pass
    except vb.errors.VBayesError as error:
        missing = missing_parts(error)
        outcome = Outcome("wordless", f"{', '.join(missing)}: {error}") if missing else Outcome(type(error).__name__)
    except TooLong:
        outcome = Outcome("slow", f"more than {LIMIT} s")
    except BaseException as error:  # whatever it is, nobody was to see it
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome = Outcome("raw", f"{type(error).__name__}: {str(error)[:200]}")
    after = state()
    changed = [name for name, value in before.items() if after[name] != value]
    if draws:
        changed = [name for name in changed if name not in ("parameters", "torch's generator")]
    if changed and not outcome.bad:
        outcome = Outcome("changed", ", ".join(changed))
    if time.perf_counter() - began > LIMIT and not outcome.bad:
        outcome = Outcome("slow", f"{time.perf_counter() - began:.0f} s")
    return outcome


@contextmanager
def _exhausted(generator: Any) -> Iterator[None]:
    for _ in generator:
        pass
    yield


MENDS = re.compile(
    r"(^|[.;:,] |\n)(or )?(Add|Ask|Build|Call|Check|Choose|Common fixes|Drop|Fill|Fix|Give|Hand|Known|Leave|Make|Name|Pass|Put|Remove|Rename|Replace|Run|Set|Take|They must agree|Use|Wanted|Write|use|write|leave|pass|check|look|They run)\b"
)
"""How a sentence begins that says what was wanted, or how to mend it."""


def missing_parts(error: vb.errors.VBayesError) -> list[str]:
    """Which of what, got, wanted and mend a message has not: as its parts, or in words where it was written in one piece."""
    if parts := getattr(error, "parts", None):
        return [name for name in ("what", "got", "wanted", "mend") if not parts.get(name)]
    text = str(error)
    found = [] if re.search(r"['\"=\d`]| is an? |shape|No ", text) else ["got"]
    return found if MENDS.search(text) else [*found, "wanted and mend"]
