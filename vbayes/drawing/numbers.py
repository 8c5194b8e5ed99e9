"""The draws of a guide as unconstrained numbers, with their log-densities and scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from ..errors import Unsuitable
from ..pair.modules import buffers_stay
from ..pair.sites import Layout, Term, is_point_mass, latents, sites
from ..validation import validation
from .flow_score import flow_score, is_flow
from .latents import as_rows


class _Part(NamedTuple):
    """The numbers of one site: its value is `transform(restore(z[..., where]))`."""

    site: Any
    transform: Transform
    arrange: Callable[[Tensor], Tensor]
    restore: Callable[[Tensor], Tensor]
    where: slice


def _check_support(site: Any) -> None:
    support = site["fn"].support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if any(isinstance(end, Tensor) and end.requires_grad for end in vars(support).values()):
        raise Unsuitable(
            f"The support of site {site['name']!r} of the guide depends on parameters, so a part of the gradient would be lost. Use vb.Pathwise(), or "
            "give it a fixed support."
        )


class Numbers:
    """z, the draws of a guide as (*local, d) real numbers, and log p(x, z) and log q(z|x) as densities of these.

    z consists of the guide's draws, site after site, unchanged if the support is the real line, otherwise mapped to it by
    `biject_to(support)`. An autoguide draws unconstrained numbers in an auxiliary site and computes the latents from them, so z is the value of that site. The Jacobian of each transform
    from z to a latent is in log p, and that of each transform from z to the guide's own draws also in log q; so log p − log q is log w, whatever the transforms.

    Args:
        q: A run of the guide.
        layout: Layout of the plates.
        moved: Values of the guide's draws → runs of guide and model there.
        terms_of_model: Such runs → the terms of the model.

    Attributes:
        z: (*local, d), differentiable.

    Raises:
        Unsuitable: The guide draws nothing, or has a support that depends on parameters, so that z can't be held constant.
    """

    def __init__(
        self,
        q: Trace,
        layout: Layout,
        moved: Callable[[dict[str, Tensor]], tuple[Trace, Trace]],
        terms_of_model: Callable[[Trace, Trace], list[Term]],
    ) -> None:
        self._layout, self._moved, self._terms_of_model = layout, moved, terms_of_model
        self.parts: list[_Part] = []
        found, end = [], 0
        for site in latents(q):
            if is_point_mass(site["fn"]):
                continue
            _check_support(site)
            transform: Any = biject_to(site["fn"].support)
            value = transform.inv(site["value"])
            arrange, restore = as_rows(layout, value, transform.domain.event_dim)
            found.append(arrange(value))
            start, end = end, end + found[-1].shape[-1]
            self.parts.append(_Part(site, transform, arrange, restore, slice(start, end)))
        if not found:
            raise Unsuitable("The guide draws nothing: its sites are point masses. Use vb.Pathwise() or vb.Trace().")
        self.z = torch.cat(found, -1)

    def at(self, z: Tensor, *, of_q: bool = True) -> tuple[Tensor, Tensor]:
        """log p and log q, each (*local), at any numbers (*local, d); differentiable in these and in the parameters.

        Args:
            z: The numbers.
            of_q: Whether to compute log q; zeros are returned otherwise.
        """
        total = self._layout.total
        inside = {part.site["name"]: part.restore(z[..., part.where]) for part in self.parts}
        values = {part.site["name"]: part.transform(inside[part.site["name"]]) for part in self.parts}
        volumes = []
        for part in self.parts:
            name = part.site["name"]
            volume = part.transform.log_abs_det_jacobian(inside[name], values[name])  # type: ignore[no-untyped-call]
            volumes.append(Term(part.site, self._layout, volume))
        with validation(False), buffers_stay():
            q, p = self._moved(values)
            made = [Term.of(site, self._layout) for site in sites(q) if site["name"] not in values]
            drawn = [Term.of(site, self._layout) for site in sites(q) if of_q and site["name"] in values]
            log_p = total(self._terms_of_model(q, p)) - total(made)
        return log_p + total(volumes), total(drawn) + total(volumes)

    @cached_property
    def scores(self) -> tuple[Tensor, Tensor]:
        """∇_z log p(x, z) and ∇_z log q(z|x) at the draw, each (*local, d); differentiable themselves if gradients are enabled."""
        live = torch.is_grad_enabled()
        flow = self.parts[0].site if len(self.parts) == 1 and is_flow(self.parts[0].site) else None
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            z = self.z if self.z.requires_grad else self.z.detach().requires_grad_()
            log_p, log_q = self.at(z, of_q=flow is None)
            score_p, score_q = (
                torch.autograd.grad(part.sum(), z, create_graph=live, retain_graph=True, materialize_grads=True)[0]
                if part.requires_grad
                else torch.zeros_like(z)
                for part in (log_p, log_q)
            )
            if flow is not None:
                score_q = self.parts[0].arrange(flow_score(flow["fn"], flow["value"], live=live))
        return (score_p, score_q) if live else (score_p.detach(), score_q.detach())
