"""A model's predictions for new rows, given known latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli

from ..pair.generation import forgetful
from ..pair.pair import Pair
from ..pair.sites import base, latents, recorded
from .given import Given
from .known import Axis, Known
from .summed import Summed


@dataclass(frozen=True)
class Predictive:
    """One predictive draw of a model, inside the pair's scope.

    Attributes:
        pair: Model and guide.
        args: Their arguments.
        wanted: The sites whose values are returned.
        guided: Latents of rows that the guide draws, given the known ones.
        summed: Latents of rows that are summed out; they are drawn from their conditional given the others and the rows.
        anew: As for `Known`.
        new_groups: Whether some rows belong to unknown groups.
        chances: Binary site → the name under which the probability of a 1 is returned too.
    """

    pair: Pair
    args: tuple[Any, ...]
    wanted: Sequence[str]
    guided: Sequence[str] = ()
    summed: Sequence[str] = ()
    anew: Mapping[Axis, Set[int]] = field(default_factory=dict)
    new_groups: bool = False
    chances: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Site → its value.

        Args:
            known: Latent → its value, for the rows and groups of the fit.
        """
        made: Any = self.run(known).nodes
        found = {name: made[name]["value"] for name in self.wanted if name in made}
        chances = {name: made[site] for site, name in self.chances.items() if site in made}
        return found | {name: site["fn"].mean.expand(site["value"].shape) for name, site in chances.items()}

    def run(self, known: Mapping[str, Tensor]) -> Trace:
        """The model's run, with its data removed."""
        values, anew = dict(known), self.anew
        if self.new_groups and (
            self.guided or self.summed
        ):  # the latents of a row, and the row itself, must come from the same draw of its group
            values, anew = values | self._with_new_groups(values), {}
        if self.guided:
            with Given(values):
                drawn: Any = pyro.poutine.trace(self.pair.guide).get_trace(*self.args).nodes
            values |= {name: drawn[name]["value"] for name in self.guided}
        if self.summed:
            values |= self._conditional(values)
        return pyro.poutine.trace(forgetful(Known(values, anew)(self.pair.model))).get_trace(*self.args)

    def _with_new_groups(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The known latents, including draws of those of new groups."""
        made: Any = pyro.poutine.trace(Known(known, self.anew)(self.pair.model)).get_trace(*self.args).nodes
        return {name: made[name]["value"] for name in known if name in made}

    def _conditional(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws the sites that are summed out, given all others."""
        p: Any = pyro.poutine.trace(Known(values)(self.pair.model)).get_trace(*self.args)
        q = Trace()
        for site in latents(p):
            if site["name"] in values:
                q.add_node(site["name"], **site)
        drawn: Any = Summed(self.pair.model, self.args, {}, q, p).drawn.nodes
        return {name: drawn[name]["value"] for name in self.summed}


def made_sites(trace: Trace, observed: Sequence[str]) -> list[Any]:
    """The sites of a run that are predicted: observed sites with data, and `pyro.deterministic` sites."""
    return [s for s in recorded(trace) if s["name"] in observed or s["infer"].get("_deterministic")]


def is_binary(site: Any) -> bool:
    """Whether the values of a site are 0 and 1."""
    return isinstance(base(site["fn"]), Bernoulli)
