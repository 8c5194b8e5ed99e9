"""Groups that were not in the fit: the model draws them from their population, in rows of its plates that no group in the new rows needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..drawing.known import Axis
from ..drawing.relations import Relations
from ..errors import Unsuitable
from ..summaries.card import first_few

Values = dict[str, Tensor]


@dataclass(frozen=True)
class NewGroups:
    """The new groups of a column, and the calls of the model for them: one, or several if there are more groups than free places.

    Attributes:
        column: Position of the column among the arguments.
        name: Its name.
        names: Names of the new groups.
        codes: For each call the (M,) codes passed to the model; rows of other calls have some known code.
        calls: (M,) the number of the call to which each row belongs.
        anew: For each call, the places that hold new groups.
        places: Plate → group (its code) → its row there; empty where plates grow by themselves.
    """

    column: int
    name: str
    names: tuple[str, ...]
    codes: tuple[Tensor, ...]
    calls: Tensor
    anew: tuple[Mapping[Axis, Set[int]], ...]
    places: Mapping[str, Mapping[int, int]]

    @property
    def axes(self) -> tuple[Axis, ...] | None:
        """The axes of the places that they take; None if plates grow."""
        return None if self.names and not self.anew[0] else tuple(self.anew[0])


class Groups:
    """The new groups of all columns.

    Raises:
        Unsuitable: More of them than the model has places for, in one column and others beside it.
    """

    def __init__(self, own: Sequence[NewGroups]) -> None:
        self.own = tuple(own)
        self.calls = max((len(one.codes) for one in own), default=1)
        if self.calls > 1 and len(own) > 1:
            crowded = next(one for one in own if len(one.codes) > 1)
            raise Unsuitable(
                f"Column {crowded.name!r} has {len(crowded.names)} new groups, more than the model's plate has places for, and {', '.join(repr(o.name) for o in own if o is not crowded)} has "
                "others. Wanted: fewer new groups at a time, or a plate of size int(g.max()) + 1, which grows."
            )

    @property
    def new(self) -> bool:
        """Whether latents must be drawn for new groups."""
        return any(one.names for one in self.own)

    def args(self, args: tuple[Any, ...], call: int) -> tuple[Any, ...]:
        """The arguments of the model in a call."""
        found = list(args)
        for one in self.own:
            found[one.column] = one.codes[min(call, len(one.codes) - 1)]
        return tuple(found)

    def anew(self, call: int) -> dict[Axis, Set[int]]:
        """The places that hold new groups in a call."""
        return {axis: rows for one in self.own for axis, rows in one.anew[min(call, len(one.anew) - 1)].items()}

    def merged(self, parts: Sequence[Values], dims: Mapping[str, Sequence[str]], rows: Set[str]) -> Values:
        """Site → (S, …), each row from the call to which it belongs. If there are several calls, sites with a row for each group are incomplete in each, and are left out.

        Args:
            parts: The results of the calls.
            dims: Site → names of its dimensions.
            rows: Names of the dimensions along the rows of the data.
        """
        if len(parts) == 1:
            return dict(parts[0])
        (crowded,) = self.own
        found = {name: values for name, values in parts[0].items() if not set(dims[name]) & set(crowded.places)}
        for number, part in enumerate(parts[1:], 1):
            for name, values in found.items():
                for place in [i for i, dim in enumerate(dims[name]) if dim in rows]:
                    mine = (crowded.calls == number).reshape(-1, *[1] * (len(dims[name]) - 1 - place))
                    found[name] = torch.where(mine, part[name], values)
        return found


def new_groups(
    relations: Relations, column: int, codes: Tensor, known: int, names: Mapping[int, str]
) -> NewGroups | None:
    """The groups in new rows that were not in the fit; None if there are none, or the column's integers are not codes of groups.

    If the model's plates grow with the codes (`int(g.max()) + 1`), they grow. If they have a fixed size, a new group takes the place of a known one: it is drawn
    from the model in that row of the plate; any row will do, since the model's densities do not change if groups are renumbered.

    Args:
        relations: Relations of the model's plates and columns.
        column: Position of the column among the arguments.
        codes: (M,) codes of the new rows.
        known: Number of groups in the fit, which have the codes below it.
        names: Code → name, of a column with labels; empty for one of plain integers.

    Raises:
        Unsuitable: There are new groups, but no plate that could have them.
    """
    if not bool((codes >= known).any()) or codes.dim() != 1:
        return None
    new = sorted(set(codes[codes >= known].tolist()))
    name = relations.names[column]
    calls = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    if relations.grown_by(column):
        said = tuple(names.get(code, str(code)) for code in new)
        return NewGroups(column, name, said, (codes,), calls, ({},), {})
    axes = relations.numbered_by(column, known)
    if not axes:
        if axes is None and names:
            raise Unsuitable(
                f"Column {name!r} has new groups ({first_few(names[code] for code in new)}), and the model has no plate of exchangeable groups that {name!r} numbers: relabelling the "
                "groups changes its density. Wanted: latents of groups in a pyro.plate, all of one distribution; what is known of each group in columns of the data; or "
                "a plate of size int(g.max()) + 1, which grows."
            )
        if names:  # the model does not depend on a row's group
            return NewGroups(column, name, (), (codes.clamp(max=known - 1),), calls, ({},), {})
        return None
    size = min(relations.size(axis) for axis in axes)
    if not names:  # a group without rows, but with latents in the fit, is not new
        new = [code for code in new if code >= size]
        if not new:
            return None
    old = sorted(set(codes.tolist()) - set(new))
    free = [place for place in range(size) if place not in set(old)]
    parts = [new[: len(free)]] + [new[i : i + size] for i in range(len(free), len(new), size)]
    handed, anew = [], []
    places = {code: code for code in old}
    for number, part in enumerate(parts):
        here = dict(zip(part, free if number == 0 else range(size), strict=False))
        places |= here
        made = torch.full_like(codes, old[0] if old else 0)
        for code, place in here.items():
            calls[codes == code] = number
            made[codes == code] = place
        if number == 0:
            made = torch.where(torch.isin(codes, codes.new_tensor(old)), codes, made)
        handed.append(made)
        anew.append({axis: frozenset(here.values()) for axis in axes})
    said = tuple(names.get(code, str(code)) for code in new)
    plates = {axis: places for axis in axes if isinstance(axis, str)}
    return NewGroups(column, name, said, tuple(handed), calls, tuple(anew), plates)
