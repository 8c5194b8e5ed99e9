"""What a model makes of new rows, given latents that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro.poutine import Trace
from torch import Tensor

from ..pair.generation import forgetful
from ..pair.pair import Pair
from ..pair.sites import latents, recorded
from .given import Given
from .known import Axis, Known
from .summed import Summed


@dataclass(frozen=True)
class Predictive:
    """One draw of what a model makes, inside the pair's scope.

    Attributes:
        pair: Model and guide.
        args: What they are called with.
        wanted: Sites whose values are asked for.
        guided: Latents of rows that the guide draws, given those that are known.
        summed: Latents of rows that are summed out: they are drawn from their conditional given the others and the rows.
        anew: As for `Known`.
        new_groups: Whether some rows are of groups that are not known.
    """

    pair: Pair
    args: tuple[Any, ...]
    wanted: Sequence[str]
    guided: Sequence[str] = ()
    summed: Sequence[str] = ()
    anew: Mapping[Axis, Set[int]] = field(default_factory=dict)
    new_groups: bool = False

    def __call__(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Site → its value.

        Args:
            known: Latent → its value, of rows and groups that the fit has met.
        """
        made: Any = self.run(known).nodes
        return {name: made[name]["value"] for name in self.wanted if name in made}

    def run(self, known: Mapping[str, Tensor]) -> Trace:
        """The model's run, its data forgotten."""
        values, anew = dict(known), self.anew
        if self.new_groups and (
            self.guided or self.summed
        ):  # the latents of a row and the row are of one draw of its group
            values, anew = values | self._with_new_groups(values), {}
        if self.guided:
            with Given(values):
                drawn: Any = pyro.poutine.trace(self.pair.guide).get_trace(*self.args).nodes
            values |= {name: drawn[name]["value"] for name in self.guided}
        if self.summed:
            values |= self._conditional(values)
        return pyro.poutine.trace(forgetful(Known(values, anew)(self.pair.model))).get_trace(*self.args)

    def _with_new_groups(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The known latents, those of new groups drawn among them."""
        made: Any = pyro.poutine.trace(Known(known, self.anew)(self.pair.model)).get_trace(*self.args).nodes
        return {name: made[name]["value"] for name in known if name in made}

    def _conditional(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the sites that are summed out, given those of all others."""
        p: Any = pyro.poutine.trace(Known(values)(self.pair.model)).get_trace(*self.args)
        q = Trace()
        for site in latents(p):
            if site["name"] in values:
                q.add_node(site["name"], **site)
        drawn: Any = Summed(self.pair.model, self.args, {}, q, p).drawn.nodes
        return {name: drawn[name]["value"] for name in self.summed}


def made_sites(trace: Trace, observed: Sequence[str]) -> list[Any]:
    """The sites of a run that a prediction is of: what is observed where there are data, and what `pyro.deterministic` computes."""
    return [s for s in recorded(trace) if s["name"] in observed or s["infer"].get("_deterministic")]
