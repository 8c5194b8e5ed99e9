"""Drawing: the one part that asks Pyro's handlers; what comes out is tensors.

K particles are drawn one by one, so a model never has to broadcast over them: `vectorize_particles` asks that, and then
breaks a model (`X @ w`) or silently changes it (`w.mean()`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import nullcontext
from typing import Any

import pyro
import torch
from pyro.infer.tracegraph_elbo import TrackNonReparam
from pyro.infer.util import is_validation_enabled
from pyro.poutine.messenger import Messenger
from pyro.util import check_model_guide_match
from torch import Tensor

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..pair.sites import Layout, Term, base, closed_form_kls, has_path, is_point_mass, sites
from ..validation import validation
from .base_noise import NoiseKind, contexts
from .enumeration import enumerated
from .latents import FAMILIES, latents_of
from .particles import Latent, Particles, ScoredSite
from .simulation import dreamt

STACKED = ("log_p", "log_q", "log_p_fixed", "log_q_fixed", "score", "dreamt", "enumerated")


def draw(pair: Pair, batch: Batch, num_particles: int, needs: Set[str], *, noise: NoiseKind = "iid") -> Particles:
    """Draws K particles from the guide and weighs them.

    Args:
        pair: Model and guide; its parameters are live in the result only inside `pair.scope()`.
        batch: What they are called with.
        num_particles: K.
        needs: Which fields of `Particles` to compute. Besides: `"path"` if every site must have a reparameterised path,
            `"closed_form"` if each must have its KL in `kl`, `"downstream"` for `scored` with costs downstream of the draw, and with `"latents"` the families that will do.
        noise: How the base noise of the particles hangs together.

    Raises:
        Unsuitable: A site of the guide is not what is needed.
    """
    model, guide = pair.scaled(batch.total)
    return draw_from(model, guide, batch.args, {}, num_particles, needs, noise=noise)


def draw_from(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_particles: int,
    needs: Set[str],
    *,
    noise: NoiseKind = "iid",
    **enumeration: Any,
) -> Particles:
    """`draw` for a bare Pyro model and guide, in whatever param store is current.

    Args:
        enumeration: Keywords for Pyro's `TraceEnum_ELBO`.
    """
    drawn = []
    for together in contexts("antithetic" if "antithetic" in needs else noise, num_particles):
        with together:
            drawn.append(draw_one(model, guide, args, kwargs, needs, **enumeration))
    return stacked(drawn)


def stacked(drawn: Sequence[Particles]) -> Particles:
    """K particles from one each, whose fields lack the leading K."""
    first = drawn[0]

    def stack(values: Iterable[Tensor | None]) -> Tensor:
        kept = [v for v in values if v is not None]
        return torch.stack(kept) if kept else None  # type: ignore[return-value]

    def weigh_at(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        log_p, log_q = zip(*(d.weigh([v[k] for v in values]) for k, d in enumerate(drawn)), strict=True)
        return torch.stack(log_p), torch.stack(log_q)

    return Particles(
        **{field: stack(getattr(d, field) for d in drawn) for field in STACKED},
        kl=first.kl if first.kl is None else stack(d.kl for d in drawn).mean(0),
        scored=tuple(
            ScoredSite(s[0].name, *(stack(getattr(x, f) for x in s) for f in ("log_q", "cost", "scale")))
            for s in zip(*(d.scored for d in drawn), strict=True)
        ),
        scale=first.scale,
        closed_form=first.closed_form,
        latents=tuple(
            Latent(
                same[0].name,
                same[0].family,
                {name: stack(x.parameters[name] for x in same) for name in same[0].parameters},
                stack(x.value for x in same),
            )
            for same in zip(*(d.latents for d in drawn), strict=True)
        ),
        weigh=weigh_at,
    )


class _HoldConstant(Messenger):
    """Cuts every draw off the path that made it. Stands outside the trace, so that the trace records the constant."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


def draw_one(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: Any,
    kwargs: Any,
    needs: Set[str],
    **enumeration: Any,
) -> Particles:
    """One particle; its fields lack the leading K."""
    if "enumerated" in needs:
        return Particles(enumerated=enumerated(model, guide, args, kwargs, **enumeration))
    fixed_fields = needs & {"log_p_fixed", "log_q_fixed", "score"}
    live = bool(needs & {"log_p", "log_q", "kl", "scored", "downstream"})
    # Only held-constant values are wanted: no path need be recorded at all. A child then sees its parents' constants,
    # which is what replaying the whole guide at constants gives.
    with nullcontext() if live else _HoldConstant(), TrackNonReparam() if "downstream" in needs else nullcontext():
        q = _trace(guide, args, kwargs)
        p = _trace(pyro.poutine.replay(model, trace=q), args, kwargs)
    if is_validation_enabled():
        check_model_guide_match(p, q)
    _check_path(q, needs)
    shared = Layout(q, p)
    fields: dict[str, Any] = {"scale": shared.scale}
    if "latents" in needs:
        found = latents_of(q, shared, needs & FAMILIES, lambda: guide(*args, **kwargs))
        fields["latents"] = tuple(latent for latent, _ in found)

        def weigh_at(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            restored = {latent.name: restore(value) for (latent, restore), value in zip(found, values, strict=True)}
            return weigh(model, guide, args, kwargs, q, restored, shared)

        fields["weigh"] = weigh_at
    if live:
        closed = closed_form_kls(q, p) if "kl" in needs else {}
        if "closed_form" in needs and (without := [s["name"] for s in sites(q) if s["name"] not in closed]):
            raise Unsuitable(
                f"Site{'s' * (len(without) > 1)} {', '.join(map(repr, without))} of the guide {'have' if len(without) > 1 else 'has'} no KL in closed form, "
                "which this estimator needs. Use vb.AnalyticKL(), which samples what has none."
            )
        fields["closed_form"] = tuple(closed)
        terms_p = [Term.of(s, shared) for s in sites(p) if s["name"] not in closed]
        terms_q = [Term.of(s, shared) for s in sites(q) if s["name"] not in closed]
        terms_kl = [Term(s, shared, kl) for s, kl in closed.values()]
        fields["log_p"], fields["log_q"] = shared.total(terms_p), shared.total(terms_q)
        if "kl" in needs:
            fields["kl"] = shared.total(terms_kl)
        if needs & {"scored", "downstream"}:
            fields["scored"] = tuple(
                _scored(s, shared, terms_p, terms_q, terms_kl, downstream="downstream" in needs)
                for s in sites(q)
                if not has_path(s)
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
    if "dreamt" in needs:
        fields["dreamt"] = dreamt(model, guide, args, kwargs, p, shared)
    always = {"scale", "closed_form", "scored", "weigh"}
    return Particles(**{k: v for k, v in fields.items() if k in needs or k in always})


def _check_path(q: pyro.poutine.Trace, needs: Set[str]) -> None:
    if "path" in needs and (without := [s["name"] for s in sites(q) if not has_path(s)]):
        raise Unsuitable(
            f"Site{'s' * (len(without) > 1)} {', '.join(map(repr, without))} of the guide {'have' if len(without) > 1 else 'has'} no "
            "reparameterised path (`has_rsample` is false), which this estimator needs. Use vb.Trace(), vb.RaoBlackwell(), "
            "vb.RLOO() or vb.VIMCO(), or give the site a reparameterised distribution."
        )


def weigh(
    model: Any, guide: Any, args: Any, kwargs: Any, drawn: pyro.poutine.Trace, values: dict[str, Tensor], layout: Layout
) -> tuple[Tensor, Tensor]:
    """log p and log q, each (*local), at other values of the latents than drawn; they need not be in the support.

    Args:
        drawn: A trace of the guide, for what is not given: the rows of a subsample.
        values: Site → value.
    """
    given = drawn.copy()
    for name, value in values.items():
        given.nodes[name]["value"] = value
    with validation(False):
        q = _trace(pyro.poutine.replay(guide, trace=given), args, kwargs)
        p = _trace(pyro.poutine.replay(model, trace=given), args, kwargs)
        log_p, log_q = (layout.total([Term.of(s, layout) for s in sites(trace)]) for trace in (p, q))
    return log_p, log_q


def _moves_a_point(site: Any) -> bool:
    return not site["is_observed"] and is_point_mass(site["fn"]) and base(site["fn"]).v.requires_grad


def _trace(fn: Callable[..., Any], args: Any, kwargs: Any) -> pyro.poutine.Trace:
    return pyro.poutine.trace(fn).get_trace(*args, **kwargs)


def _scored(
    site: Any, layout: Layout, terms_p: list[Term], terms_q: list[Term], terms_kl: list[Term], *, downstream: bool
) -> ScoredSite:
    """A site's score and its cost within its own plates (as Pyro's `Trace_ELBO` has it), or of those only what follows
    from the draw (`TraceGraph_ELBO`).
    """
    own = Term.of(site, layout)
    frames = own.frames

    def cost_in(terms: list[Term]) -> Any:
        return sum(t.sum_to(frames) for t in terms if not downstream or own.name in t.follows)

    cost = torch.as_tensor(cost_in(terms_p) - cost_in(terms_q) - cost_in(terms_kl)).detach()
    scale = torch.as_tensor(own.scale if any(t.name == own.name for t in terms_q) else 0.0, dtype=cost.dtype)
    arranged = (layout.arrange(t) for t in torch.broadcast_tensors(own.unscaled, cost, scale))
    return ScoredSite(own.name, *arranged)
