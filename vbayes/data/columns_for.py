"""Matches the columns of a data set to the arguments of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import BadData, near

ROWS = "rows"  # an argument that gets the row numbers


def parameters_of(model: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The parameters of a model, or of a module's `forward`; None if Python can't tell, as of some functions in C."""
    try:
        return list(inspect.signature(getattr(model, "forward", model)).parameters.values())
    except (TypeError, ValueError):
        return None


def columns_for(
    model: Callable[..., Any], names: Sequence[str], *, data: str, named: bool, unusable: Mapping[str, str] | None
) -> list[str]:
    """The columns in the order of a model's arguments; `"rows"` for the row numbers.

    Args:
        model: The model, whose signature determines the columns.
        names: Names of the available columns.
        data: Name of the data set.
        named: Whether the names are meaningful; if not, columns are matched by position.
        unusable: For a table, whose columns are never matched by position: its other columns, and why they can't be used.

    Raises:
        BadData: The model has arguments without a column.
    """
    if not named:
        return list(names)
    parameters = parameters_of(model)
    if parameters is None:
        return list(names)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in positional if p.default is p.empty]
    present = {
        *names,
        *(unusable or ()),
    }  # an optional column that can't be used is an error too, rather than missing
    wanted = [p.name for p in positional if p.default is p.empty or p.name in present or p.name == ROWS]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return list(names)
    if set(wanted) <= {*names, ROWS}:
        _by_place(positional, wanted, parameters, names)
        return wanted
    if unusable is not None:
        lacking = next(name for name in wanted if name not in names and name != ROWS)
        if lacking in unusable:
            raise BadData(unusable[lacking])
        raise BadData(
            f"The model takes {', '.join(required)}; the table has no column {lacking!r}. {near(lacking, names)} Its columns: {', '.join(names)}. "
            f"Wanted: columns named after the model's arguments. Fix: rename one, or pass a mapping with {{{lacking!r}: table[...]}} and the others, each a column or several as a matrix."
        )
    if len(required) <= len(names):
        return list(names[: max(len(required), min(1, len(positional)))])
    raise BadData(
        f"The model takes {len(required)} arguments ({', '.join(required)}); data set {data!r} has "
        f"{len(names)} columns ({', '.join(names)}). Name the columns after the model's arguments."
    )


def _by_place(positional: Sequence[inspect.Parameter], wanted: Sequence[str], every: Any, names: Sequence[str]) -> None:
    """Checks that columns can be passed by position: none may come after an argument that is left out, and none may go to a keyword-only argument.

    Raises:
        BadData: A column would be passed as a different argument, or not at all.
    """
    taken = [p.name for p in positional[: len(wanted)]]
    if taken != list(wanted):
        skipped = next(name for name, other in zip(taken, wanted, strict=True) if name != other)
        raise BadData(
            f"The model's argument {skipped!r} comes before {wanted[-1]!r}, but the data have no column of that name; columns are passed by position, so {wanted[-1]!r} would be "
            f"passed to another argument. Wanted: arguments without a column last. Fix: def model({', '.join([*wanted, f'{skipped}=None'])}), or a column {skipped!r}."
        )
    alone = [p.name for p in every if p.kind is p.KEYWORD_ONLY and p.name in names]
    if alone:
        raise BadData(
            f"The model takes {alone[0]!r} only by keyword (after *), but columns are passed by position, so it would not get that column. Wanted: def model({', '.join([*wanted, alone[0]])})."
        )
