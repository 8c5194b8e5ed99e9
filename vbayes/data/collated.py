"""Collates rows as torch's data loaders do, into columns by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor

from ..arguments.kind import refuse
from ..errors import BadData

TOGETHER = 256  # rows made at a time


class Collated:
    """Collates rows, or raises our own error; a class, as it is sent to worker processes."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate

    def __call__(self, rows: Sequence[Any]) -> Any:
        try:
            return self._collate(rows)
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
            refuse_rows(
                f"of rows that can't be collated ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                "rows with the same columns, each a number or a tensor of fixed shape; use a transform",
            )


def named(made: Any) -> dict[str, Tensor]:
    """Column → (M, ...), from a tensor, or a tuple or mapping of them.

    Raises:
        BadData: Something else.
    """
    if isinstance(made, Mapping):
        found = {str(name): each for name, each in made.items()}
    elif isinstance(made, (tuple, list)):
        found = {f"x{i}" if i else "x": each for i, each in enumerate(made)}
    else:
        found = {"x": made}
    for name, each in found.items():
        if not isinstance(each, Tensor):
            refuse_rows(
                f"of rows with {type(each).__name__} for {name!r}",
                "tensors of one shape: use a transform to tensors, such as torchvision's ToTensor()",
            )
    return found


def refuse_rows(got: str, mend: str) -> NoReturn:
    """Raises `BadData` for items of torch data sets or streams that are not rows."""
    refuse(
        "data", object(), got=got, wanted="rows (tensors, or tuples or mappings of them) by index, or a known number of rows in each pass", mend=mend, error=BadData,
    )  # fmt: skip
