"""The fields of a checkpoint, each of which is checked; an error names the field that is not valid."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput
from ..staging.backends import BACKENDS
from ..updates.kept import of_json as update_of_json
from .convergence import Convergence
from .fit_run import Progress
from .history import History

MOST = 2**53  # epochs; larger integers are not exact in a float

Reader = Callable[[Any, Mapping[str, Tensor]], Any]


def fields(described: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of a fit by name, with defaults for those missing in older files.

    Raises:
        BadInput: A field is missing or not valid.
    """
    if not isinstance(described, dict):
        raise BadInput("its description is not a table")
    return {name: _read(name, reader, described, tensors) for name, reader in READERS.items()}


def going(packed: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of a training during which the file was written.

    Raises:
        BadInput: A field is not valid.
    """
    made: dict[str, Any] = _read("going", _going, {"going": packed}, tensors)
    return made


def _read(name: str, reader: Reader, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    try:
        return reader(described.get(name, OLDER[name]) if name in OLDER else described[name], tensors)
    except KeyError as error:
        raise BadInput(f"its field {name!r} is missing, or lacks {error}") from error
    except (
        ArithmeticError, AssertionError, AttributeError, IndexError, RecursionError, RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise BadInput(f"its field {name!r} is not valid: {error}") from error


def _going(value: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    made = unpack(value, tensors)
    if type(made) is not dict or type(made["same"]) is not dict or type(made["finished"]) is not bool:
        raise TypeError("wanted is what the fit is told by, and whether it is finished")
    if type(made.get("schedule")) not in (dict, type(None)):
        raise TypeError("wanted is where a schedule stands")
    return made


def _is(*kinds: type) -> Reader:
    def reader(value: Any, tensors: Mapping[str, Tensor]) -> Any:
        if type(value) not in kinds:  # exact types: True does not count as a number
            raise TypeError(f"{value!r:.80}, and wanted is {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    return reader


def _batch_size(value: Any, tensors: Mapping[str, Tensor]) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{value!r:.80}, and wanted is a number of rows")
    return value


def _learning_rate(value: Any, tensors: Mapping[str, Tensor]) -> float | None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
        raise ValueError(f"{value!r:.80}, and wanted is a rate")
    return value


def _compile(value: Any, tensors: Mapping[str, Tensor]) -> bool | str:
    if value not in (True, False, "auto", *BACKENDS) or type(value) not in (bool, str):
        raise ValueError(f"{value!r:.80}, and wanted is true, false, 'auto' or a back end")
    return value


def _switches(value: Any, tensors: Mapping[str, Tensor]) -> tuple[tuple[int, str], ...]:
    made = tuple((step, name) for step, name in value)
    if not all(type(step) is int and type(name) is str for step, name in made):
        raise TypeError("wanted are steps and names")
    return made


def _labels(value: Any, tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    made = {str(name): tuple(names) for name, names in value.items() if type(names) is list}
    if len(made) < len(value) or not all(type(each) is str for names in made.values() for each in names):
        raise TypeError("wanted are names")
    return made


def _convergence(value: Any, tensors: Mapping[str, Tensor]) -> Convergence | None:
    made = Convergence.of_json(value)
    if made is not None:
        numbers = [made.expected_gain, made.tolerance, *(n for phase in made.phases for n in vars(phase).values())]
        if type(made.converged) not in (bool, type(None)) or type(made.reason) is not str:
            raise TypeError("wanted are a word and its reason")
        if not all(type(number) in (int, float) for number in numbers):
            raise TypeError("wanted are numbers")
    return made


def _progress(value: Any, tensors: Mapping[str, Tensor]) -> Progress:
    made = Progress(**unpack(value, tensors))
    if type(made.staged) is not bool or type(made.optimizer) not in (dict, type(None)):
        raise TypeError("wanted is the state of an optimiser")
    # Checked with our own generators first, so that an invalid state is not detected in the middle of `resume`.
    torch.Generator(device="cpu").set_state(made.generator["torch"])
    random.Random().setstate(made.generator["random"])
    np.random.RandomState().set_state(made.generator["numpy"])
    found = made.generator
    if not all(isinstance(state, Tensor) for state in (found.get("mps", found["torch"]), *found.get("cuda", ()))):
        raise TypeError("wanted are states of generators")
    return made


def rows(history: Tensor) -> History:
    """The history of a fit.

    Raises:
        BadInput: It is not valid.
    """
    if history.dtype != torch.float64 or history.dim() != 2 or history.shape[1] != 5:
        raise BadInput(
            f"its history has shape {tuple(history.shape)} of {history.dtype}, not (steps, 5) of torch.float64"
        )
    steps, epochs = history[:, 0], history[:, 1]
    if (
        not torch.equal(steps, torch.arange(1, len(history) + 1, dtype=steps.dtype, device=steps.device))
        or not (epochs.abs() < MOST).all()
    ):
        raise BadInput("its history does not count the steps from 1")
    return History(history.cpu().numpy())


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Decodes nested Python values from JSON and tensors."""
    if not isinstance(value, dict):
        return value
    ((kind, content), *rest) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].cpu().numpy().astype(value["dtype"])
    if kind == "dict":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](unpack(v, tensors) for v in content)


READERS: dict[str, Reader] = {
    "pair": _is(str),
    "estimator": _is(str),
    "batch_size": _batch_size,
    "learning_rate": _learning_rate,
    "seed": _is(int),
    "interrupted": _is(bool),
    "compile": _compile,
    "switches": _switches,
    "average": _is(bool, type(None)),
    "convergence": _convergence,
    "labels": _labels,
    "update": lambda value, tensors: update_of_json(value),
    "progress": _progress,
}
OLDER: dict[str, Any] = {
    "compile": "auto",
    "switches": (),
    "average": None,
    "convergence": None,
    "labels": {},
    "update": None,
}
"""Values of fields that a file does not contain."""
