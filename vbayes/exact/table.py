"""A table of a pair's densities at all values of its latents, and exact expectations from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import BadInput, Unsuitable

NEGLIGIBLE = 1e-14  # fraction of q's mass that is below the rounding error of the sums
MOST = 2**27  # maximum number of log-weights in all tuples, which take about ten seconds
CHUNK = 2**21  # of these at a time: 16 MiB in double precision, about ten times that with autograd


@dataclass(frozen=True)
class Table:
    """Result of `vb.tabulate`: log p and log q at G values of the latents, with the mass of each.

    ∫ f(z) dz ≈ Σ_g m_g f(z_g), exact for discrete latents, and to about ten digits for quadrature. The densities are
    differentiable in the parameters, so `torch.autograd.grad(table.elbo().sum(), ...)` is the exact gradient, without a path or a score.
    `*local` are the plates that all sites share (for a VAE the data; with a global latent none), as in `Particles`.

    Attributes:
        log_p: (G, *local) log p(x, z_g) in nats; −∞ for impossible values.
        log_q: (G, *local) log q(z_g|x).
        log_measure: (G, *local) log m_g: 0 for discrete latents; otherwise the quadrature weight and the Jacobian of
            the transform that made the nodes.
        uncovered: Latents whose values q can't all draw: nodes only cover q, so they give the ELBO but not the evidence.
        values: Latent → (G, *local, n) its elements at the nodes; for a discrete latent, its enumerated values.
        gap: Computes (G, *local) ‖∇ log p(x, z_g) − ∇ log q(z_g|x)‖² in unconstrained space; None for discrete latents.
    """

    log_p: Tensor
    log_q: Tensor
    log_measure: Tensor
    uncovered: tuple[str, ...] = ()
    values: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    gap: Callable[[], Tensor] | None = field(default=None, compare=False, repr=False)

    @property
    def weight(self) -> Tensor:
        """(G, *local) m_g q(z_g): the probability of each node under q."""
        return (self.log_q + self.log_measure).exp()

    @property
    def log_w(self) -> Tensor:
        """(G, *local) log p(x, z_g) − log q(z_g|x); 0 at nodes that q never draws."""
        # Replaced before the difference: afterwards the gradient would be 0 · ∞.
        drawn = self.weight > 0
        return torch.where(drawn, self.log_p, 0.0) - torch.where(drawn, self.log_q, 0.0)

    @property
    def mass(self) -> Tensor:
        """(*local) Σ m q, which is 1 if the nodes cover q."""
        return self.weight.sum(0)

    def log_evidence(self) -> Tensor:
        """(*local) log p(x) = log Σ m p(x, z_g), in nats.

        Raises:
            Unsuitable: q can't draw all values of a latent, so the sum over the nodes is only a part of the evidence.
        """
        if self.uncovered:
            raise Unsuitable(
                f"q can't draw all values that {', '.join(map(repr, self.uncovered))} may have, so the table gives the ELBO, but neither the evidence nor the "
                "posterior. Wanted: a guide over the model's support."
            )
        return (self.log_p + self.log_measure).logsumexp(0)

    def posterior(self) -> Tensor:
        """(G, *local) the probability of each node given x, m p(x, z_g) / p(x)."""
        return (self.log_p + self.log_measure - self.log_evidence()).exp()

    def elbo(self) -> Tensor:
        """(*local) E_q[log p(x, z) − log q(z|x)], in nats."""
        return (self.weight * self.log_w).sum(0)

    def kl(self) -> Tensor:
        """(*local) KL(q(z|x) ‖ p(z|x)), in nats."""
        return (self.weight * (self.log_evidence() - self.log_w)).sum(0)

    def forward_kl(self) -> Tensor:
        """(*local) KL(p(z|x) ‖ q(z|x)), in nats; infinite if q excludes values that the posterior allows."""
        posterior = self.posterior()
        there = posterior > 0  # replaced before the difference, as in `log_w`
        gap = torch.where(there, self.log_p, 0.0) - torch.where(there, self.log_q, 0.0) - self.log_evidence()
        return (posterior * torch.where(there, gap, 0.0)).sum(0)

    def fisher(self) -> Tensor:
        """(*local) E_q ‖∇ log p(x, z) − ∇ log q(z|x)‖², the Fisher divergence, of the latents on the real line.

        Raises:
            Unsuitable: A latent is discrete, and so has no gradient.
        """
        if self.gap is None:
            raise Unsuitable(
                "A table with discrete latents has no Fisher divergence, as they have no gradients. Wanted: continuous latents."
            )
        return (self.weight * torch.where(self.weight > 0, self.gap(), 0.0)).sum(0)

    def mean(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Means of a function of the latents.

        Args:
            f: (G, *local) its values at the nodes.

        Returns:
            (*local) under the posterior, and (*local) under q.
        """
        return (self.posterior() * f).sum(0), (self.weight * f).sum(0)

    def expected(
        self, bound_of: Callable[[Tensor], Tensor], num_particles: int, *, negligible: float = NEGLIGIBLE
    ) -> Tensor:
        """The mean of a bound over K independent draws from q.

        Σ over the K-tuples (g_1, ..., g_K) of Π_k m_{g_k} q(z_{g_k}) · bound_of(log w of the tuple)

        Args:
            bound_of: (K, *local) log-weights → (*local) nats. It is called with one more dimension, of tuples: (K, T, *local).
            num_particles: K.
            negligible: How much of q's mass may be left out, in the least likely nodes. A larger value gives fewer tuples.

        Returns:
            (*local) nats.

        Raises:
            BadInput: There are too many tuples.
        """
        weight, log_w = self._likely(negligible)
        nodes, each = len(weight), math.prod(weight.shape[1:]) * num_particles
        if nodes**num_particles * each > MOST:
            raise BadInput(
                f"{nodes} relevant nodes make {nodes**num_particles} tuples of {num_particles} particles, too many to sum over. "
                "Wanted: fewer particles, fewer latents or fewer data, or a larger negligible mass."
            )

        def part(numbers: Tensor, weight: Tensor, log_w: Tensor) -> Tensor:
            tuples = torch.stack([numbers // nodes**k % nodes for k in range(num_particles)])  # (K, T)
            return (weight[tuples].prod(0) * bound_of(log_w[tuples])).sum(0)

        chunks = torch.arange(nodes**num_particles, device=weight.device).split(max(1, CHUNK // each))
        if len(chunks) == 1:
            return part(chunks[0], weight, log_w)
        # Intermediate results are recomputed in the backward pass, chunk by chunk.
        sums = (checkpoint(part, c, weight, log_w, use_reentrant=False, preserve_rng_state=False) for c in chunks)
        return sum(sums, torch.zeros_like(weight[0]))

    def _likely(self, negligible: float) -> tuple[Tensor, Tensor]:
        """Weights and log-weights (G', *local) of the most likely nodes under q, for each datum its own."""
        weight, log_w = self.weight, self.log_w
        order = weight.detach().argsort(0, descending=True)
        weight, log_w = weight.gather(0, order), log_w.gather(0, order)
        left = weight.detach().flip(0).cumsum(0).flip(0)  # the mass of a node and all less likely ones
        kept = int((left > negligible).reshape(len(left), -1).any(1).sum())
        return weight[:kept], log_w[:kept]
