"""One column of a data set: converts values to a tensor, or explains why they can't be converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ..arguments.choice import Text
from ..arguments.kind import refuse
from ..arguments.said import type_of
from ..arguments.tensor import odd
from ..errors import BadData
from ..summaries.card import counted
from .columns_of_table import matrix_of
from .labels import coded
from .stored import Stored, stored_or_whole

INDEX = "a slice, row numbers (M,), or a boolean for each row"
WANTED = "a vb.Dataset, a tensor or array of shape (N, ...), or a tuple, a mapping or a pandas table of those"


def columns_of(
    name: str, tensors: Any, known: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Converts the columns of a data set, and returns them with the names that their codes stand for.

    Args:
        known: Column → names that already have codes.

    Raises:
        BadData: `tensors` is not a mapping from names to columns, or has no columns, no rows, or unequal lengths.
    """
    if not isinstance(tensors, Mapping):
        mend = "vb.Dataset.of(x), or vb.Dataset({'x': x})"
        refuse("tensors", tensors, wanted="a mapping from names of columns to tensors", mend=mend, error=BadData)
    if not tensors:
        raise BadData(f"Data set {name!r} has no columns. Wanted: at least one tensor of shape (N, ...).")
    found, labels = dict[str, Any](), dict[str, tuple[str, ...]]()
    for key, values in tensors.items():
        values = matrix_of(stored_or_whole(values))
        numbers, names = coded(Text(empty=False)("a column's name", key), values, known.get(key))
        found[key] = numbers if isinstance(numbers, Stored) else column(key, numbers)
        if (own := known.get(key) if names is None else names) is not None:
            labels[key] = tuple(own)
    lengths = {key: len(values) for key, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise BadData(f"The columns of {name!r} differ in length: {lengths}. Wanted: the same N rows in each.")
    if 0 in lengths.values():
        raise BadData(f"Data set {name!r} is empty: 0 rows. Wanted: at least one. Was a filter too strict?")
    return found, labels


def described(values: Tensor, names: Sequence[str] | None) -> str:
    """Shape and kind of a column, in words."""
    kind = str(values.dtype).removeprefix("torch.") if names is None else counted(len(names), "name")
    return f"{tuple(values.shape)} {kind}{', read from disk' * isinstance(values, Stored)}"


def check_beside(what: str, own: Tensor | None, rows: int) -> None:
    """Raises `BadData` if something that accompanies the columns has a different number of rows."""
    if own is not None and len(column(what, own)) != rows:
        got, wanted = f"of shape {tuple(own.shape)}", f"None, or a number for each of {rows} rows"
        refuse(what, own, got=got, wanted=wanted, mend=f"leave {what} out", error=BadData)


def chosen(numbers: Tensor, index: Any) -> Tensor:
    """The row numbers (M,) that an index selects from (N,).

    Raises:
        BadData: The index is not valid for a tensor, selects a single row, or a row beyond the last.
    """
    try:
        found = numbers[index]
    except Exception as error:  # anything that torch raises for a foreign object
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        refuse(
            "index",
            index,
            got=f"{type_of(index)} that does not select rows ({why})",
            wanted=INDEX,
            mend="slice(0, 10), or torch.tensor([0, 1])",
            error=BadData,
        )
    if found.dim() != 1:
        refuse(
            "index",
            index,
            got=f"{type_of(index)} that makes rows of shape {tuple(found.shape)}",
            wanted=INDEX,
            mend="slice(0, 1) for a single row",
            error=BadData,
        )
    return found


def column(name: str, values: Any) -> Tensor:
    """Converts values to a dense tensor of numbers, detached from any computation, as data are not learnt.

    Tensors keep their type: integers may be counts or indices, and booleans masks, so neither is converted to floating point. Real numbers
    that are not tensors yet (NumPy's are float64 by default) get torch's default dtype.

    Args:
        name: Name of the column.
        values: A tensor, an array, a pandas series, numbers in lists.

    Raises:
        BadData: The values are of none of these types, or a model can't use them.
    """
    if isinstance(values, Tensor):
        made = values
    else:
        made = _made(name, values)
        made = made.to(torch.get_default_dtype()) if made.is_floating_point() else made
    if found := odd(made):
        _refuse(name, f"a tensor {found[0]}", found[1].format(x=name))
    if not made.dim():
        _refuse(name, f"a single number, {float(made):g}", f"a row of it is {name}.reshape(1), or [{float(made):g}]")
    return made.detach() if made.requires_grad else made


def _made(name: str, values: Any) -> Tensor:
    if values is None or isinstance(values, (str, bytes)) or callable(values):
        _refuse(name, type_of(values), "torch.as_tensor of its numbers")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            _refuse(name, f"a masked array, whose mask (of {int(np.ma.getmaskarray(values).sum())} numbers) would be lost",
                f"pass {{'{name}': {name}.filled(0), 'known': ~{name}.mask}} and leave masked values out with pyro.poutine.mask(mask=known), or let vb.impute fill them in",
            )  # fmt: skip
        values = values.data
    values = values.to_numpy() if hasattr(values, "to_numpy") else values  # an array of xarray, say
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biufc":
        mend = (
            f"{name}.astype(float), if all of them are numbers"
            if values.dtype.kind in "OUS"
            else f"{name}.astype('int64')"
        )
        _refuse(name, f"an array of {values.dtype}", mend)
    if isinstance(values, np.ndarray) and not (values.flags.writeable and values.dtype.isnative):
        values = values.astype(values.dtype.newbyteorder("="))  # a copy: a tensor could write to it
    try:
        return torch.as_tensor(values)
    except Exception as error:  # an object of a user's own class, which torch converts
        _refuse(
            name,
            f"{type_of(values)}, which can't be converted to a tensor ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "numbers in rows of one length",
        )


def _refuse(name: str, got: str, mend: str) -> NoReturn:
    refuse(f"column {name!r}", object(), got=got, wanted=WANTED, mend=mend, error=BadData)
