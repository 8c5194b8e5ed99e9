"""The tensors that an estimator gets from K draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..errors import BadEstimator
from .behind import behind


@dataclass(frozen=True)
class ScoredSite:
    """A site of the guide without a reparameterised path, whose gradient is computed from its score.

    Attributes:
        name: The site.
        log_q: (K, *local, own) log q(z_k|parents), unscaled; `own` are its plates beyond the local ones, flattened.
        cost: (K, *local, own) the terms of log w within its plates, held constant; with "downstream_costs" only those terms
            that depend on the draw.
        scale: (K, *local, own) factor of the −∇ log q of this site that log w contains. That gradient is pure noise, which scale · log q removes.
    """

    name: str
    log_q: Tensor
    cost: Tensor
    scale: Tensor

    PARTS: ClassVar = ("log_q", "cost", "scale")
    """The fields that are tensors."""


@dataclass(frozen=True)
class Latent:
    """A site of the guide whose distribution does not depend on other draws, from a family that an estimator supports.

    Attributes:
        name: The site.
        family: "bernoulli", "categorical", "one_hot", "normal", "full_normal" or "normal_mixture".
        parameters: Name → tensor, live; `own` is all beyond the local plates, flattened. "bernoulli": `logits` (K, *local, own); "categorical" and "one_hot": `logits`
            (K, *local, own, categories). "normal": `loc` and `scale`, (K, *local, own); "full_normal": `loc`, and `scale_tril` (K, *local, own, own). "normal_mixture" of C
            components: `logits` (K, *local, C), `loc` (K, *local, C, own) and `scale_tril` (K, *local, C, own, own), also where the components are independent normals.
        value: (K, *local, own), held constant; for "one_hot" (K, *local, own, categories).
    """

    name: str
    family: str
    parameters: dict[str, Tensor]
    value: Tensor

    def behind(self) -> tuple[Tensor, Tensor]:
        """For a "bernoulli" or "one_hot" site: the noisy logits z = α + noise from which its draw b was made, as b = 1[z > 0] or the largest of z, drawn given b.

        Returns:
            The same value twice, each with the shape of `value`: as α plus a constant, and as a function of α, b and another constant, so that both are differentiable in the
            logits α, in two ways. The noise is logistic, logit(u) of a uniform u, or Gumbel.
        """
        return behind(self)


@dataclass(frozen=True)
class SiteTerm:
    """A site of the guide or model, and its contribution to the log-densities.

    Attributes:
        name: Name of the site.
        observed: Whether it is an observed site or a factor, rather than a draw of the guide.
        log_p: (K, *local) its part of log p(x, z_k); zero for sites only in the guide, such as the auxiliary site of an autoguide.
        log_q: (K, *local) its part of log q(z_k|x); zero for data.
        value: (K, *local, own), live; `own` is all beyond the local plates, flattened; nothing for a factor.
    """

    name: str
    observed: bool
    log_p: Tensor
    log_q: Tensor
    value: Tensor

    PARTS: ClassVar = ("log_p", "log_q", "value")


@dataclass(frozen=True)
class Step:
    """A step of a sequential model: some latents, and the data that follow before the next latent.

    Attributes:
        terms: The terms of its sites, in the order in which they were drawn.
        log_w: (K, *local) log-weights after the step, live: those returned by `Estimator.resample`, plus those of the step.
        ancestors: (K, *local) indices of the particles that the next step continues from; None without resampling.
    """

    terms: tuple[SiteTerm, ...]
    log_w: Tensor
    ancestors: Tensor | None


def stacked_records(of_each: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Stacks K of each `ScoredSite` or `SiteTerm`."""
    return tuple(
        replace(same[0], **{part: torch.stack([getattr(one, part) for one in same]) for part in same[0].PARTS})
        for same in zip(*of_each, strict=True)
    )


def _if_needed() -> Any:
    """The default of a field that exists only if it was requested, so that the class has no value that could be read by mistake."""
    return field(default_factory=lambda: None)


@dataclass(frozen=True, repr=False)
class Particles:
    """The input of an estimator, computed from K draws: the fields that it declares in `needs`. Reading any other field is an error.

    `*local` are the plates that all sites share (for a VAE the data; with a global latent none).

    Attributes:
        log_p: (K, *local) log p(x, z_k), z live: gradients flow through the reparameterised path.
        log_q: (K, *local) log q(z_k|x), z live.
        log_p_fixed: (K, *local) the same value with z held constant: gradients reach the parameters alone.
        log_q_fixed: (K, *local) likewise.
        score: (K, *local) log q with z held constant and without any minibatch scale: its gradient is the score.
        sleep_log_q: (K, *local) log q(z̃_k|x̃_k) of latents and data that the model drew, held constant: the sleep phase of wake-sleep.
        kl: (*local) Σ KL(q‖p) of the sites where it is closed-form, averaged over the particles' parents. When it is
            needed, those sites are left out of log_p and log_q.
        closed_form: Names of the sites in `kl`, with which it comes.
        scored: The sites without a reparameterised path.
        terms: All sites, one by one, in the order in which they are drawn: latents in the order of the guide, each datum after the latents that precede it in the model. Their
            sums are log p and log q.
        steps: The same in steps, between which particles may be resampled by their weights (`Estimator.resample`), separately for each datum. Can't be combined with other fields.
        enumerated: (K,) the ELBO for all data with finite discrete sites summed out. Can't be combined with other fields.
        latents: Every site of the guide, if it belongs to the allowed `families`.
        weigh: Values for all the latents, as `Latent.value`, paths live → (log_p, log_q) there, each (K, *local).
        z: (K, *local, d) the draws as unconstrained numbers, live; `vbayes.drawing.numbers.Numbers` says which.
        score_p: (K, *local, d) ∇_z log p(x, z_k), with the Jacobian of whatever makes the latents from z; live in z and in the parameters, so `detach()` it where it
            is to be a number.
        score_q: (K, *local, d) ∇_z log q(z_k|x), likewise; also of a flow without an inverse.
        densities: Any numbers (k, *local, d), for k ≤ K → (log p, log q) as densities of these, each (k, *local), live.
        scale: Always available: factor on the estimate if all sites have the same N/M; inside a logarithm it would change the bound.
        local: Always available: sizes of the plates in `*local`.
    """

    log_p: Tensor = _if_needed()
    log_q: Tensor = _if_needed()
    log_p_fixed: Tensor = _if_needed()
    log_q_fixed: Tensor = _if_needed()
    score: Tensor = _if_needed()
    sleep_log_q: Tensor = _if_needed()
    kl: Tensor = _if_needed()
    closed_form: tuple[str, ...] = _if_needed()
    scored: tuple[ScoredSite, ...] = _if_needed()
    terms: tuple[SiteTerm, ...] = _if_needed()
    steps: tuple[Step, ...] = _if_needed()
    enumerated: Tensor = _if_needed()
    latents: tuple[Latent, ...] = _if_needed()
    weigh: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]] = _if_needed()
    z: Tensor = _if_needed()
    score_p: Tensor = _if_needed()
    score_q: Tensor = _if_needed()
    densities: Callable[[Tensor], tuple[Tensor, Tensor]] = _if_needed()
    scale: float = 1.0
    local: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in [name for name, value in vars(self).items() if value is None]:
            del self.__dict__[name]

    @property
    def log_w(self) -> Tensor:
        """(K, *local) log p(x, z_k) − log q(z_k|x)."""
        return self.log_p - self.log_q

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called only for fields that do not exist, so that reading the others costs nothing extra."""
            if name not in self.__dataclass_fields__:
                raise AttributeError(f"Particles have no field {name!r}.")
            given = ", ".join(repr(n) for n in vars(self) if n not in ALWAYS)
            raise BadEstimator(
                f"`particles.{name}` was read, but not requested and so not computed. Requested: {given or 'nothing'}. An estimator "
                f"must declare the fields that its `estimate` reads: add {name!r} to its `needs`."
            )

    def __repr__(self) -> str:
        return f"Particles({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


ALWAYS = ("scale", "local")
"""Fields that are always available."""
