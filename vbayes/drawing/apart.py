"""Separates latents of single data from shared latents, if the model's plate declares the data independent given the shared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoContinuous
from pyro.ops.provenance import track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..pair.check import DATA_PLATE
from ..pair.sites import Layout, Term, latents, plates, sites
from .given import Given
from .joint_normal import JointNormal
from .summed import model_terms

Run = Callable[..., Any]


@dataclass(frozen=True)
class Weighed:
    """One draw of the shared latents θ, with M draws of the latents of each datum given θ.

    Attributes:
        shared: () log p(θ) − log q(θ), nats.
        each: (M, N) log p(x_n, z_n | θ) − log q(z_n | θ).
    """

    shared: Tensor
    each: Tensor


class Apart:
    """A plate in which each row n has its own latents z_n: p(x, θ, z) = p(θ) Π p(x_n, z_n | θ).

    Args:
        model, guide, args: Model and guide, and their arguments.
        name: Name of the plate.
        joint: The guide as a joint normal of all latents, if it has no separate sites for them.
        q, p: A run of guide and model.

    Attributes:
        size: N.
        local: The latents of single data.
        shared: The others.
    """

    def __init__(
        self, model: Run, guide: Run, args: Sequence[Any], name: str, joint: JointNormal | None, q: Any, p: Any
    ) -> None:
        self.name, self._joint = name, joint
        self._model, self._guide, self._args = model, guide, tuple(args)
        known = [site for site in latents(p) if site["name"] in q]
        self.local = tuple(site["name"] for site in known if self._is_mine(plates(site)))
        self.shared = tuple(site["name"] for site in known if site["name"] not in self.local)
        frame = next(f for site in known for f in plates(site) if f.name == name)
        self.size, self._dim = frame.size, frame.dim

    @classmethod
    def of(cls, model: Run, guide: Run, args: Sequence[Any]) -> Apart | None:
        """Finds such a plate; None if there is none, or if the guide can't draw the latents of single data given the others."""
        with _Followed():
            q = pyro.poutine.trace(guide).get_trace(*args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args)
        known = [site for site in latents(p) if site["name"] in q]
        names = dict.fromkeys(f.name for site in known for f in plates(site) if f.size > 1)
        joint = JointNormal.of(guide) if isinstance(guide, AutoContinuous) else None
        if isinstance(guide, AutoContinuous) and joint is None:
            return None
        for name in sorted(names, key=lambda name: name != DATA_PLATE):
            made = cls(model, guide, args, name, joint, q, p)
            if made._independent(q, p):
                return made
        return None

    def weigh(self, inner: int) -> Weighed:
        """Draws the weights, inside the pair's scope.

        Args:
            inner: Number of inner draws, M.
        """
        first = self._by_joint() if self._joint else self._by_guide()
        held = {name: first[0][name] for name in first[0] if name in self._held}
        ((values, log_q, log_q_shared), *rest) = (
            first, *(self._by_joint(held) if self._joint else self._by_guide(held) for _ in range(inner - 1))
        )  # fmt: skip
        log_p, log_p_shared = self._by_model(values)
        more = [self._by_model(values)[0] - q for values, q, _ in rest]
        return Weighed(log_p_shared - log_q_shared, torch.stack([log_p - log_q, *more]))

    # ---- computation -----------------------------------------------------------------------------------------------------------

    def _is_mine(self, frames: Sequence[Any]) -> bool:
        return any(frame.name == self.name for frame in frames)

    def _independent(self, q: Any, p: Any) -> bool:
        """Whether nothing outside the plate depends on a latent inside, in model and guide, and no datum depends on the latents of another."""
        layout = Layout(q, p)
        terms = model_terms(self._model, self._args, {}, q, p, layout)
        if not self._joint:
            inside = {site["name"] for site in sites(q) if self._is_mine(plates(site))}
            if not set(self.local) <= inside:
                return False
            self._held = {site["name"] for site in sites(q)} - inside
            terms = terms + [Term.of(site, layout) for site in sites(q)]
        else:
            inside, self._held = set(self.local), {JointNormal.NAME}
        return not any(term.follows & inside for term in terms if not self._is_mine(term.frames))

    def _by_guide(self, held: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Values of all sites, (N,) log q(z_n | θ), and log q(θ), with the shared latents at given values."""
        with Given(held or {}):
            q = pyro.poutine.trace(self._guide).get_trace(*self._args)
        values: dict[str, Tensor] = {site["name"]: site["value"] for site in latents(q)}
        layout = Layout(q, q)
        return values, *self._split([Term.of(site, layout) for site in sites(q)], layout)

    def _by_joint(self, held: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        assert self._joint is not None
        return self._joint.draw(self.local, self._dim, self.size, held)

    def _by_model(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(N,) log p(x_n, z_n | θ) and log p(θ)."""
        q = pyro.poutine.Trace()
        with Given(values):
            p = pyro.poutine.trace(self._model).get_trace(*self._args)
        for site in latents(p):
            if site["name"] in values:
                q.add_node(site["name"], **site)
        layout = Layout(q, p)
        return self._split(model_terms(self._model, self._args, {}, q, p, layout), layout)

    def _split(self, terms: list[Term], layout: Layout) -> tuple[Tensor, Tensor]:
        """The sums (N,) of the terms in the plate, and () of the others."""
        zero = torch.zeros((), device=layout.device, dtype=torch.float64)
        each, shared = zero.expand(self.size), zero
        for term in terms:
            if not self._is_mine(term.frames):
                shared = shared + term.sum_to(()).double().sum()
                continue
            mine = tuple(f for f in term.frames if f.name == self.name)
            value = term.sum_to(mine).double()
            if value.dim() >= -self._dim:
                value = value.movedim(self._dim, 0)
                value = value.reshape(len(value), -1).sum(1)
            each = each + value
        return each, shared


class _Followed(Messenger):
    """Tracks which draws each tensor was computed from."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = track_provenance(msg["value"], frozenset({msg["name"]}))
