"""Which columns of a data set a model asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import BadData, near

ROWS = "rows"  # an argument that gets the row numbers


def columns_for(
    model: Callable[..., Any], names: Sequence[str], *, data: str, named: bool, unusable: Mapping[str, str] | None
) -> list[str]:
    """The columns in the order of a model's arguments; `"rows"` for the row numbers.

    Args:
        model: Whose signature says which it wants.
        names: Those that there are.
        data: The data set's name.
        named: Whether they mean anything; if not, they go by position.
        unusable: Of a table, whose columns never go by position: what else stands in it, and why it is no column.

    Raises:
        BadData: It asks for more, or for others.
    """
    if not named:
        return list(names)
    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    except (TypeError, ValueError):
        return list(names)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in positional if p.default is p.empty]
    wanted = [p.name for p in positional if p.default is p.empty or p.name in names or p.name == ROWS]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return list(names)
    if set(wanted) <= {*names, ROWS}:
        return wanted
    if unusable is not None:
        lacking = next(name for name in wanted if name not in names and name != ROWS)
        if lacking in unusable:
            raise BadData(unusable[lacking])
        raise BadData(
            f"The model takes {', '.join(required)}; the table has no column {lacking!r}. {near(lacking, names)} Its columns: {', '.join(names)}. "
            f"Wanted: columns called as the model's arguments. Mend: rename one, or hand in {{{lacking!r}: table[...]}} with the others: a column, or several as a matrix."
        )
    if len(required) <= len(names):
        return list(names[: max(len(required), min(1, len(positional)))])
    raise BadData(
        f"The model takes {len(required)} arguments ({', '.join(required)}); data set {data!r} has "
        f"{len(names)} columns ({', '.join(names)}). Name the columns after the model's arguments."
    )
