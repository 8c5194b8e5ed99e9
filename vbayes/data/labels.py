"""Columns of names in tables, which become labelled codes, and missing values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from torch import Tensor

from ..arguments.kind import refuse
from ..errors import BadData
from .numbers_as_text import refuse_numbers
from .stored import Stored

NUMBERS = (
    "integer",
    "floating",
    "mixed-integer-float",
    "decimal",
    "boolean",
    "empty",
)  # pandas's names for types of objects
TIMES = {"M": "days since the first, ({x} - {x}.min()) / pd.Timedelta('1D')", "m": "{x}.dt.total_seconds()"}


def coded(name: str, values: Any, known: Sequence[str] | None = None) -> tuple[Any, tuple[str, ...] | None]:
    """Encodes a column of names as numbers; a column of numbers is unchanged, whatever its index.

    Missing values become NaN, so integers and codes with gaps become floats.

    Args:
        name: Name of the column.
        values: A series of pandas or polars, a `Categorical`, an array, a list, or a tensor.
        known: Names that already have the codes 0, 1, ...; others get the following ones.

    Returns:
        The numbers, and the names that they stand for; None for a column of numbers.

    Raises:
        BadData: The column has times, a mixture of names and numbers, or numbers as text.
    """
    series = _series(values)
    if series is None:
        return values, None
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, names = series.cat.codes.to_numpy(), tuple(map(str, series.cat.categories))
    elif kind == "string":
        texts = series.astype(object).map(str, na_action="ignore")
        codes, found = pd.factorize(texts, sort=True)
        names = tuple(found)
        if known is None:
            refuse_numbers(name, texts, names)
    else:
        return _numbers(name, series, kind), None
    if len(set(names)) < len(names):
        _refuse(name, f"a column with categories that look the same, {', '.join(names[:4])}", f"{name}.astype(str)")
    if known is not None:
        names, codes = _recoded(codes, names, known)
    gaps = codes < 0
    return (np.where(gaps, np.nan, codes) if gaps.any() else codes.astype(np.int64)), names


def as_names(name: str, values: Any, known: Sequence[str]) -> Any:
    """The names that numbers in a column of names stand for, as a table that was read again may have 10 instead of "10" or "010". Anything else is unchanged; tensors hold codes.

    Args:
        name: Name of the column.
        values: As for `coded`.
        known: Its names.

    Raises:
        BadData: There are numbers that are not among the names.
    """
    if isinstance(values, (Tensor, Stored)):
        return values
    if (series := _series(values)) is None:
        if not isinstance(values, (np.ndarray, list, tuple)) or np.ndim(values) != 1:
            return values
        series = pd.Series(np.asarray(values))
    if isinstance(series.dtype, pd.CategoricalDtype) or pd.api.types.infer_dtype(series, skipna=True) not in NUMBERS:
        return values
    numbers = {number: each for each in known if (number := _number(each)) is not None}
    found = series.astype(object).map(lambda value: numbers.get(float(value)) or _text(value), na_action="ignore")
    if not numbers and not set(found.dropna()) <= set(known):
        _refuse(
            name, f"numbers, where the data of the fit have names, such as {known[0]!r}", f"the names; or, if they are its codes, torch.tensor({name})",
        )  # fmt: skip
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def relabelled(
    tensors: Mapping[str, Tensor],
    labels: Mapping[str, tuple[str, ...]],
    known: Mapping[str, tuple[str, ...]],
    *,
    table: bool,
) -> dict[str, Any]:
    """`tensors` and `labels` with the codes of names in `known`, and the following codes for other names.

    Args:
        table: Whether the tensors were columns of a table, in which numbers may be names; otherwise they are codes.
    """
    found, own = dict[str, Any](tensors), dict(labels)
    for name in tensors.keys() & known.keys():
        codes = tensors[name]
        if name in labels:
            numbers = codes.cpu().nan_to_num(nan=-1).numpy().astype(np.int64)
            own[name], numbers = _recoded(numbers, labels[name], known[name])
            made = codes.new_tensor(numbers)
            found[name] = made.masked_fill(made < 0, float("nan")) if codes.is_floating_point() else made
        elif table and not isinstance(codes, Stored):
            named, names = coded(name, as_names(name, codes.cpu().numpy(), known[name]), known[name])
            if names is not None:
                found[name], own[name] = named, names
    return {"tensors": found, "labels": own}


def _recoded(codes: np.ndarray[Any, Any], names: tuple[str, ...], known: Sequence[str]) -> Any:
    both = (*known, *(name for name in names if name not in set(known)))
    place = {each: number for number, each in enumerate(both)}
    return both, np.array([*(place[each] for each in names), -1], dtype=np.int64)[codes]


def _series(values: Any) -> pd.Series | None:
    """A pandas series of values that may include names or gaps; None for an array or tensor of numbers, and for anything that can't become a column."""
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, (pd.Index, pd.api.extensions.ExtensionArray)):
        return pd.Series(values).reset_index(drop=True)
    if type(values).__module__.startswith("polars"):
        return _of_polars(values)
    if isinstance(values, (list, tuple)) and any(isinstance(each, str) for each in values):
        values = np.array(values, dtype=object)
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "OUSTMm":
        return pd.Series(
            np.char.decode(values)
            if values.dtype.kind == "S"
            else values.astype(object)
            if values.dtype.kind in "UT"
            else values
        )
    return None


def _of_polars(values: Any) -> pd.Series:
    kind = str(values.dtype)
    if kind.startswith(("Date", "Time", "Duration")):
        return pd.Series(values.to_list(), dtype="timedelta64[us]" if kind.startswith("Duration") else None)
    if kind.startswith("Enum"):  # it has its own order
        return pd.Series(pd.Categorical(values.to_list(), categories=values.dtype.categories.to_list()))
    if kind.startswith("Categorical"):
        return pd.Series(pd.Categorical(values.to_list()))
    return (
        pd.Series(values.to_list(), dtype=object)
        if kind in ("String", "Boolean", "Object") or values.null_count()
        else pd.Series(values.to_numpy())
    )


def _numbers(name: str, series: pd.Series, kind: str) -> np.ndarray[Any, Any]:
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biufc":
        return series.to_numpy()
    if getattr(dtype, "kind", "O") in TIMES or kind.startswith(("date", "time")):
        letter = "m" if kind.startswith("timedelta") else "M"
        _refuse(name, "a column of times", TIMES[letter].format(x=name))
    if kind not in NUMBERS:
        _refuse(
            name,
            f"a column of {kind} values",
            f"pd.to_numeric({name}, errors='coerce'), if they are numbers, or {name}.astype(str).astype('category'), if they are names",
        )
    if series.isna().any() or kind not in ("integer", "boolean"):
        return series.to_numpy(dtype=float, na_value=np.nan)
    return series.to_numpy(dtype=bool if kind == "boolean" else np.int64)


def _refuse(name: str, got: str, mend: str) -> NoReturn:
    refuse(f"column {name!r}", object(), got=got, wanted="numbers, booleans or names", mend=mend, error=BadData)


def require_alike(
    labels: Mapping[str, Sequence[str]], other: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> None:
    """Raises `BadData` if a column has names but had numbers in the data of the fit, as its codes would be taken for those numbers.

    Args:
        labels: Labels of the new data.
        other: The columns of the fit's data.
        known: Labels of the fit's data.
    """
    for name, found in labels.items():
        if name in other and name not in known:
            raise BadData(
                f"Column {name!r} has names, such as {found[0]!r}, where the data of the fit have numbers. Wanted: numbers here too, or names there."
            )
