"""Drawing: the one part that asks Pyro's handlers; what comes out is tensors.

K particles are drawn one by one, so a model never has to broadcast over them: `vectorize_particles` asks that, and then
breaks a model (`X @ w`) or silently changes it (`w.mean()`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine.messenger import Messenger
from pyro.util import check_model_guide_match
from torch import Tensor

from .dataset import Batch
from .errors import Unsuitable
from .pair import Pair
from .sites import Layout, Term, base, closed_form_kls, has_path, is_point_mass, sites


@dataclass(frozen=True)
class ScoredSite:
    """A site of the guide without a reparameterised path: its gradient must come through its score.

    Attributes:
        name: The site.
        log_q: (K, *local, own) log q(z_k|parents), unscaled; `own` are its plates beyond the local ones, flattened.
        cost: (K, *local, own) what the draw did to log w within its plates, held constant.
    """

    name: str
    log_q: Tensor
    cost: Tensor


@dataclass(frozen=True)
class Particles:
    """What an estimator sees of K draws. Fields that it did not declare in `needs` are None.

    `*local` are the plates that all sites share (for a VAE the data; with a global latent none).

    Attributes:
        log_p: (K, *local) log p(x, z_k), z live: gradients flow through the reparameterised path.
        log_q: (K, *local) log q(z_k|x), z live.
        log_p_fixed: (K, *local) the same value with z held constant: gradients reach the parameters alone.
        log_q_fixed: (K, *local) likewise.
        score: (K, *local) log q with z held constant and without any minibatch scale: its gradient is the score.
        kl: (*local) Σ KL(q‖p) of the sites where it is closed-form, averaged over the particles' parents. When it is
            needed, those sites are left out of log_p and log_q.
        scored: The sites without a reparameterised path.
        scale: Factor on the estimate where all sites carry the same N/M; inside a logarithm it would change the bound.
        closed_form: Names of the sites in `kl`.
    """

    log_p: Tensor = None  # type: ignore[assignment]
    log_q: Tensor = None  # type: ignore[assignment]
    log_p_fixed: Tensor = None  # type: ignore[assignment]
    log_q_fixed: Tensor = None  # type: ignore[assignment]
    score: Tensor = None  # type: ignore[assignment]
    kl: Tensor = None  # type: ignore[assignment]
    scored: tuple[ScoredSite, ...] = ()
    scale: float = 1.0
    closed_form: tuple[str, ...] = ()

    @property
    def log_w(self) -> Tensor:
        """(K, *local) log p(x, z_k) − log q(z_k|x)."""
        return self.log_p - self.log_q


def draw(pair: Pair, batch: Batch, num_particles: int, needs: Set[str]) -> Particles:
    """Draws K particles from the guide and weighs them.

    Args:
        pair: Model and guide; its parameters are live in the result only inside `pair.scope()`.
        batch: What they are called with.
        num_particles: K.
        needs: Which fields of `Particles` to compute, and `"path"` if every site must have a reparameterised path.

    Raises:
        Unsuitable: `needs` has `"path"` and a site of the guide has none.
    """
    model, guide = pair.scaled(batch.total)
    return draw_from(model, guide, batch.args, {}, num_particles, needs)


def draw_from(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_particles: int,
    needs: Set[str],
) -> Particles:
    """`draw` for a bare Pyro model and guide, in whatever param store is current."""
    drawn = [_draw_one(model, guide, args, kwargs, needs) for _ in range(num_particles)]
    first = drawn[0]

    def stack(values: Iterable[Tensor | None]) -> Tensor:
        kept = [v for v in values if v is not None]
        return torch.stack(kept) if kept else None  # type: ignore[return-value]

    return Particles(
        **{f: stack(getattr(d, f) for d in drawn) for f in ("log_p", "log_q", "log_p_fixed", "log_q_fixed", "score")},
        kl=first.kl if first.kl is None else stack(d.kl for d in drawn).mean(0),
        scored=tuple(
            ScoredSite(s[0].name, stack(x.log_q for x in s), stack(x.cost for x in s))
            for s in zip(*(d.scored for d in drawn), strict=True)
        ),
        scale=first.scale,
        closed_form=first.closed_form,
    )


class _HoldConstant(Messenger):
    """Cuts every draw off the path that made it. Stands outside the trace, so that the trace records the constant."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


def _draw_one(
    model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any, needs: Set[str]
) -> Particles:
    """One particle; its fields lack the leading K."""
    fixed_fields = needs & {"log_p_fixed", "log_q_fixed", "score"}
    live = bool(needs & {"log_p", "log_q", "kl", "scored"})
    # Only held-constant values are wanted: no path need be recorded at all. A child then sees its parents' constants,
    # which is what replaying the whole guide at constants gives.
    with nullcontext() if live else _HoldConstant():
        q = _trace(guide, args, kwargs)
    p = _trace(pyro.poutine.replay(model, trace=q), args, kwargs)
    if is_validation_enabled():
        check_model_guide_match(p, q)
    if "path" in needs and (without := [s["name"] for s in sites(q) if not has_path(s)]):
        raise Unsuitable(
            f"Site{'s' * (len(without) > 1)} {', '.join(map(repr, without))} of the guide {'have' if len(without) > 1 else 'has'} no "
            "reparameterised path "
            "(`has_rsample` is false), which this estimator needs. Use vb.Trace(), vb.AnalyticKL() or vb.Score(), or "
            "give the site a reparameterised distribution."
        )
    shared = Layout(q, p)
    fields: dict[str, Any] = {"scale": shared.scale}
    if live:
        closed = closed_form_kls(q, p) if "kl" in needs else {}
        fields["closed_form"] = tuple(closed)
        terms_p = [Term.of(s, shared) for s in sites(p) if s["name"] not in closed]
        terms_q = [Term.of(s, shared) for s in sites(q) if s["name"] not in closed]
        terms_kl = [Term(s, shared, kl) for s, kl in closed.values()]
        fields["log_p"], fields["log_q"] = shared.total(terms_p), shared.total(terms_q)
        if "kl" in needs:
            fields["kl"] = shared.total(terms_kl)
        if "scored" in needs:
            fields["scored"] = tuple(
                _scored(s, shared, terms_p, terms_q, terms_kl) for s in sites(q) if not has_path(s)
            )
    if fixed_fields:
        q_fixed, p_fixed = q, p
        if live:
            constants = q.copy()
            for site in sites(constants):
                site["value"] = site["value"].detach()
            q_fixed = _trace(pyro.poutine.replay(guide, trace=constants), args, kwargs)
            if "log_p_fixed" in needs:
                p_fixed = _trace(pyro.poutine.replay(model, trace=constants), args, kwargs)
        if "score" in needs and (points := [s["name"] for s in sites(q_fixed) if _moves_a_point(s)]):
            raise Unsuitable(
                f"The guide puts a point mass with parameters at {', '.join(map(repr, points))}: it has no score function, "
                "so this estimator would never move it. Use vb.Trace() or vb.Pathwise()."
            )
        terms = [Term.of(s, shared) for s in sites(q_fixed)]
        fields["log_q_fixed"] = shared.total(terms)
        fields["score"] = shared.total(terms, scaled=False)
        if "log_p_fixed" in needs:
            fields["log_p_fixed"] = shared.total([Term.of(s, shared) for s in sites(p_fixed)])
    return Particles(**{k: v for k, v in fields.items() if k in needs or k in ("scale", "closed_form")})


def _moves_a_point(site: Any) -> bool:
    return not site["is_observed"] and is_point_mass(site["fn"]) and base(site["fn"]).v.requires_grad


def _trace(fn: Callable[..., Any], args: Any, kwargs: Any) -> pyro.poutine.Trace:
    return pyro.poutine.trace(fn).get_trace(*args, **kwargs)


def _scored(site: Any, layout: Layout, terms_p: list[Term], terms_q: list[Term], terms_kl: list[Term]) -> ScoredSite:
    """A site's score and its cost within its own plates (as Pyro's `Trace_ELBO` has it).

    The gradient of −log q that log w carries for this site is pure noise (mean zero): the cost takes it out.
    """
    own = Term.of(site, layout)
    frames = own.frames
    cost: Any = sum(t.sum_to(frames) for t in terms_p)
    cost = cost - sum(t.sum_to(frames) for t in terms_q) - sum(t.sum_to(frames) for t in terms_kl)
    cost = cost.detach() + (own.scale if any(t.name == own.name for t in terms_q) else 0.0)
    log_q = own.unscaled
    log_q, cost = torch.broadcast_tensors(log_q, cost)
    return ScoredSite(own.name, layout.arrange(log_q), layout.arrange(cost))


class _Given(Messenger):
    """Answers for some latents with values from outside, as a draw would."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def weigh(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x, z) and log q(z|x) at given values of the latents, which are constants: gradients reach the parameters alone.

    Model and guide are run as a whole, so a guide whose sites depend on each other is right. Point masses, as autoguides have
    them, are left to compute their own value.

    Args:
        model, guide, args: As for `draw_from`.
        values: Site of the guide → its value, in the site's own shape.

    Returns:
        Each (*local): log p and log q as in `Particles` (masks and scales applied, but not the common minibatch scale); and log of
        the density by which the guide draws, which knows neither masks nor scales.
    """
    with _Given(values):
        q = _trace(guide, args, {})
    p = _trace(pyro.poutine.replay(model, trace=q), args, {})
    shared = Layout(q, p)
    drawn = [s for s in sites(q) if s["name"] in values]
    density = [Term({**s, "mask": None, "scale": 1.0}, shared, s["fn"].log_prob(s["value"])) for s in drawn]
    log_p, log_q = (shared.total([Term.of(s, shared) for s in sites(t)]) for t in (p, q))
    return log_p, log_q, shared.total(density)
