"""What people, scripts and files hand in by mistake: a table of values, by what the argument wants."""

from __future__ import annotations

import decimal
import fractions
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

Poison = Callable[[], Any]

NUMBERS: dict[str, Poison] = {
    "text of a number": lambda: "3",
    "1.5": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: -float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "True": lambda: True,
    "10**9": lambda: 10**9,
    "10**30": lambda: 10**30,
    "-1e20": lambda: -1e20,
    "NumPy's NaN": lambda: np.float64("nan"),
    "NumPy's 2": lambda: np.int64(2),
    "a tensor of one number": lambda: torch.tensor(2),
    "a tensor of one real number": lambda: torch.tensor(1.5),
    "complex": lambda: 1 + 2j,
    "a fraction": lambda: fractions.Fraction(3, 2),
    "a decimal": lambda: decimal.Decimal("1.5"),
}
TEXTS: dict[str, Poison] = {
    "no text": lambda: "",
    "nonsense": lambda: "nonsense",
    "bytes": lambda: b"cpu",
    "a line of 10 000": lambda: "x" * 10_000,
    "a NUL": lambda: "a\0b",
}
THINGS: dict[str, Poison] = {
    "None": lambda: None,
    "an empty dict": dict,
    "an empty list": list,
    "an empty tuple": tuple,
    "a list of None": lambda: [None],
    "a list of numbers": lambda: [1, 2],
    "a list of text": lambda: ["a", "a"],
    "a dict of nonsense": lambda: {"a": None},
    "a dict by numbers": lambda: {1: 2},
    "len": lambda: len,
    "a class": lambda: int,
    "an object": object,
    "a module": lambda: torch,
    "a generator": lambda: (i for i in range(3)),
    "a set": lambda: {1, 2},
    "a path": lambda: pathlib.Path("/nonexistent/file"),
    "Ellipsis": lambda: ...,
    "a device": lambda: torch.device("cpu"),
    "an exception": lambda: ValueError("no"),
}
DATA: dict[str, Poison] = {
    "0-d tensor": lambda: torch.tensor(1.0),
    "empty tensor": lambda: torch.zeros(0),
    "rows of nothing": lambda: torch.zeros(3, 0),
    "complex tensor": lambda: torch.zeros(4, dtype=torch.complex64),
    "sparse tensor": lambda: torch.eye(4).to_sparse(),
    "boolean tensor": lambda: torch.tensor([True, False, True, True]),
    "tensor that requires grad": lambda: torch.zeros(4, requires_grad=True),
    "half precision": lambda: torch.zeros(4, dtype=torch.float16),
    "uint8": lambda: torch.zeros(4, dtype=torch.uint8),
    "meta tensor": lambda: torch.zeros(4, device="meta"),
    "NaN in a tensor": lambda: torch.tensor([0.0, float("nan"), 1.0, 2.0]),
    "infinity in a tensor": lambda: torch.tensor([0.0, float("inf"), 1.0, 2.0]),
    "tensor of four dimensions": lambda: torch.zeros(2, 1, 1, 3),
    "masked array": lambda: np.ma.masked_array([1.0, 2.0, 3.0, 4.0], mask=[0, 1, 0, 0]),
    "array of objects": lambda: np.array([1.0, None, "a", 2.0], dtype=object),
    "array of text": lambda: np.array(["a", "b", "c", "d"]),
    "array of dates": lambda: np.array(["2020-01-01"] * 4, dtype="datetime64[D]"),
    "structured array": lambda: np.zeros(4, dtype=[("a", float)]),
    "ragged list": lambda: [[1.0], [2.0, 3.0]],
    "list of numbers": lambda: [1.0, 2.0, 3.0, 4.0],
    "columns of two lengths": lambda: {"x": torch.zeros(3), "y": torch.zeros(4)},
    "a column of None": lambda: {"x": None},
    "a column by a number": lambda: {1: torch.zeros(4)},
    "a table": lambda: pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]}),
    "a table with text": lambda: pd.DataFrame({"x": ["a", "b"]}),
    "a series": lambda: pd.Series([1.0, 2.0, 3.0, 4.0]),
    "a tuple of nothing": lambda: (torch.zeros(4), None),
    "a distribution": lambda: torch.distributions.Normal(0.0, 1.0),
}
ALL = NUMBERS | TEXTS | THINGS | DATA

WANTED: dict[str, dict[str, Poison]] = {
    "int": NUMBERS | TEXTS,
    "float": NUMBERS | TEXTS,
    "bool": NUMBERS | TEXTS,
    "str": TEXTS | NUMBERS,
    "Path": TEXTS | THINGS,
    "Literal": TEXTS | NUMBERS,
    "Noise": TEXTS | NUMBERS,
    "Method": TEXTS | NUMBERS,
    "Tensor": DATA | NUMBERS,
    "Sequence": THINGS | NUMBERS,
    "tuple": THINGS | NUMBERS,
    "Mapping": THINGS | DATA,
    "Callable": THINGS,
    "Any": DATA | THINGS,
}


def poisons_for(annotation: str) -> dict[str, Poison]:
    """What may be wrong with an argument of this type; half of the time anything at all."""
    found: dict[str, Poison] = {}
    for word, some in WANTED.items():
        if word in annotation:
            found |= some
    return found or ALL
