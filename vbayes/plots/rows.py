"""The rows of a comparison's table that a figure shows: at one point of training, for one group of parameters."""

from __future__ import annotations

from typing import Any

from ..arguments.kind import refuse


def rows_at(table: Any, at: str | None, group: str) -> tuple[str, Any]:
    """The point, the last one if None, and its rows.

    Raises:
        BadInput: There are no rows for this point and group.
    """
    where = at or table["at"].iloc[-1]
    rows = table[(table["at"] == where) & (table.group == group)]
    if not len(rows):
        for name, value, column in (("at", at, "at"), ("group", group, "group")):
            known = list(dict.fromkeys(table[column]))
            if value is not None and value not in known:
                refuse(
                    name,
                    value,
                    got="not in the table",
                    wanted=f"one of {known}",
                    mend=f"{name}={known[-1]!r}" if known else "another table",
                )
        refuse(
            "group",
            group,
            got=f"not available at {where!r}",
            wanted=f"one of {list(dict.fromkeys(table.group))}",
            mend="group='all'",
        )
    return where, rows
