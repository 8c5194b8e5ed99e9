"""What an estimator sees of K draws: tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ScoredSite:
    """A site of the guide without a reparameterised path: its gradient must come through its score.

    Attributes:
        name: The site.
        log_q: (K, *local, own) log q(z_k|parents), unscaled; `own` are its plates beyond the local ones, flattened.
        cost: (K, *local, own) what the draw did to log w, held constant: the terms within its plates, and of those only the ones
            that depend on the draw where "downstream" was needed.
        scale: (K, *local, own) what log w's own −∇ log q of this site is multiplied by. That gradient is pure noise; scale · log q takes it out.
    """

    name: str
    log_q: Tensor
    cost: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Latent:
    """A site of the guide whose distribution depends on no other draw, from a family that an estimator knows.

    Attributes:
        name: The site.
        family: "bernoulli", "normal" or "one_hot".
        parameters: Name → (K, *local, own), live: `logits`, or `loc` and `scale`; `own` is all beyond the local plates, flattened
            (for "one_hot" (K, *local, own, categories)).
        value: Of the same shape, held constant.
    """

    name: str
    family: str
    parameters: dict[str, Tensor]
    value: Tensor


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
        dreamt: (K, *local) log q(z̃_k|x̃_k) of latents and data that the model drew, held constant.
        kl: (*local) Σ KL(q‖p) of the sites where it is closed-form, averaged over the particles' parents. When it is
            needed, those sites are left out of log_p and log_q.
        scored: The sites without a reparameterised path.
        scale: Factor on the estimate where all sites carry the same N/M; inside a logarithm it would change the bound.
        closed_form: Names of the sites in `kl`.
        enumerated: (K,) the ELBO for all data with its finite discrete sites summed out.
        latents: Every site of the guide, where it was said which families will do.
        weigh: Values for all the latents, as `Latent.value`, paths live → (log_p, log_q) there, each (K, *local).
    """

    log_p: Tensor = None  # type: ignore[assignment]
    log_q: Tensor = None  # type: ignore[assignment]
    log_p_fixed: Tensor = None  # type: ignore[assignment]
    log_q_fixed: Tensor = None  # type: ignore[assignment]
    score: Tensor = None  # type: ignore[assignment]
    dreamt: Tensor = None  # type: ignore[assignment]
    kl: Tensor = None  # type: ignore[assignment]
    scored: tuple[ScoredSite, ...] = ()
    scale: float = 1.0
    closed_form: tuple[str, ...] = ()
    enumerated: Tensor = None  # type: ignore[assignment]
    latents: tuple[Latent, ...] = ()
    weigh: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]] = None  # type: ignore[assignment]

    @property
    def log_w(self) -> Tensor:
        """(K, *local) log p(x, z_k) − log q(z_k|x)."""
        return self.log_p - self.log_q
