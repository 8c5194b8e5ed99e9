"""A model and a guide laid out over a grid of latent values: truth by summation.

For discrete latents the grid is their support and sums are exact. For continuous ones it is a quadrature whose error falls
faster than any power of its spacing, which leaves rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NEGLIGIBLE = 1e-13  # of q's mass, that tuples of nodes may leave out


@dataclass(frozen=True)
class Table:
    """Densities at G latent values, live in the parameters, so that derivatives of the sums are exact too.

    Attributes:
        log_p: (G, *local) log p(x, z_g).
        log_q: (G, *local) log q(z_g|x).
        log_measure: (G,) log of the weight of node g: 0 for discrete values, the quadrature's otherwise.
    """

    log_p: Tensor
    log_q: Tensor
    log_measure: Tensor

    @property
    def log_w(self) -> Tensor:
        """(G, *local) log p(x, z_g) − log q(z_g|x)."""
        return self.log_p - self.log_q

    def _measured(self, log_density: Tensor) -> Tensor:
        return log_density + self.log_measure.view(-1, *[1] * (log_density.dim() - 1))

    @property
    def mass(self) -> Tensor:
        """(*local) what q's probabilities add up to: 1, if the grid holds all of it."""
        return torch.logsumexp(self._measured(self.log_q), 0).exp()

    def log_evidence(self) -> Tensor:
        """(*local) log p(x), nats."""
        return torch.logsumexp(self._measured(self.log_p), 0)

    def elbo(self) -> Tensor:
        """(*local) E_q[log p(x, z) − log q(z|x)], nats."""
        return _weighed(self._measured(self.log_q).exp(), self.log_w).sum(0)

    def kl(self) -> Tensor:
        """(*local) KL(q(z|x) ‖ p(z|x)), nats, summed on its own: log p(x) = ELBO + KL is then a statement."""
        log_posterior = self.log_p - self.log_evidence()
        return _weighed(self._measured(self.log_q).exp(), self.log_q - log_posterior).sum(0)

    def expected(self, bound_of: Callable[[Tensor], Tensor], num_particles: int) -> Tensor:
        """(*local) E[bound_of(log w_1 … log w_K)] over K independent draws of q, nats.

        Args:
            bound_of: (K, …) log-weights → (…).
            num_particles: K; there are G^K terms.
        """
        log_q, log_w = self._measured(self.log_q), self.log_w
        if num_particles > 1:  # nodes that no tuple will miss
            rows = log_q.detach().reshape(len(log_q), -1).amax(1)
            kept = rows > torch.log(torch.tensor(NEGLIGIBLE / len(rows), dtype=rows.dtype))
            log_q, log_w = log_q[kept], log_w[kept]
        g, local = log_q.shape[0], log_q.shape[1:]
        total: Tensor | float = 0.0
        # One particle at a time over its nodes, the others side by side.
        axes = [torch.arange(g)] * (num_particles - 1)
        others = torch.cartesian_prod(*axes).view(-1, len(axes)) if axes else torch.empty(1, 0, dtype=torch.long)
        for first in range(g):
            index = torch.cat([torch.full((len(others), 1), first), others], 1)
            probability = log_q[index].sum(1).exp()
            bound = bound_of(log_w[index].transpose(0, 1))
            total = total + _weighed(probability, bound).sum(0)
        assert isinstance(total, Tensor) and total.shape == local
        return total


def _weighed(probability: Tensor, value: Tensor) -> Tensor:
    """probability × value, 0 where there is no probability."""
    return probability * torch.where(probability > 0, value, 0.0)
