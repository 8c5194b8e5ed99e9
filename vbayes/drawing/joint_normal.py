"""Conditionals of a guide that is a joint normal of all latents: some latents given the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.infer.autoguide import AutoContinuous
from torch import Tensor
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal, biject_to

MOST = 2000  # maximum number of dimensions with all covariances


class JointNormal:
    """The normal of an `AutoContinuous`, in unconstrained numbers.

    Args:
        guide: A guide that was called before.
        mean: (D,).
        covariance: (D, D); or (D,) variances of independent numbers.
    """

    NAME = "_joint"  # the name for the shared numbers

    def __init__(self, guide: AutoContinuous, mean: Tensor, covariance: Tensor) -> None:
        self._guide, self._mean, self._covariance = guide, mean, covariance
        self._known: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, guide: AutoContinuous) -> JointNormal | None:
        """Makes it; None for a guide of another family, or one too large to compute all covariances."""
        q: Any = guide.get_posterior()
        if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
            return cls(guide, q.mean.double(), q.variance.double())
        if isinstance(q, MultivariateNormal | LowRankMultivariateNormal) and len(q.mean) <= MOST:
            return cls(guide, q.mean.double(), q.covariance_matrix.double())
        return None

    def draw(
        self, local: Sequence[str], dim: int, size: int, held: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Draws the shared numbers from their marginal, and those of each datum from their conditional given the shared ones.

        Args:
            local: The sites of single data.
            dim: Dimension of their plate.
            size: N.
            held: Values of the shared numbers, if they should not be drawn.

        Returns:
            Site → value, with the shared numbers under `NAME`; (N,) log q(z_n | θ), and log q(θ), densities of the sites' values.
        """
        if self._known is None:
            self._known = self._conditional(local, dim, size)
        index, rest, root, gain, roots = self._known
        mean, draw = self._mean, torch.randn_like(self._mean)
        if held:
            shared = held[self.NAME]
        else:
            shared = mean[rest] + (root @ draw[rest] if root.dim() == 2 else root * draw[rest])
        middle = mean[index] + (gain @ (shared - mean[rest]) if gain is not None else 0.0)
        noise = draw[index]
        numbers = mean.new_zeros(len(mean)).index_put((rest,), shared)
        made = middle + (roots @ noise[..., None])[..., 0]
        numbers = numbers.index_put((index,), made)
        log_q = -0.5 * noise.square().sum(1) - roots.diagonal(dim1=1, dim2=2).log().sum(1)
        log_q = log_q - 0.9189385332046727 * index.shape[1]  # ½ log 2π for each number
        log_q_shared = self._density(shared - mean[rest], root)
        return self._values(numbers, set(local), dim, {self.NAME: shared}, log_q, log_q_shared)

    def _density(self, off: Tensor, root: Tensor) -> Tensor:
        plain = torch.linalg.solve_triangular(root, off[:, None], upper=False)[:, 0] if root.dim() == 2 else off / root
        scale = root.diagonal() if root.dim() == 2 else root
        return -0.5 * plain.square().sum() - scale.log().sum() - 0.9189385332046727 * len(off)

    def _values(
        self,
        numbers: Tensor,
        local: set[str],
        dim: int,
        found: dict[str, Tensor],
        log_q: Tensor,
        log_q_shared: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Adds the log-determinants of the transforms from numbers to values."""
        for site, part in self._guide._unpack_latent(numbers.to(self._guide.get_posterior().mean.dtype)):
            name, fn = site["name"], site["fn"]
            transform: Any = biject_to(fn.support)
            found[name] = value = transform(part)
            volume = transform.log_abs_det_jacobian(part, value).double()
            rank = len(fn.batch_shape)
            volume = volume.reshape(*fn.batch_shape, -1).sum(-1)
            if name in local:
                log_q = log_q - volume.movedim(rank + dim, 0).reshape(len(log_q), -1).sum(1)
            else:
                log_q_shared = log_q_shared - volume.sum()
        return found, log_q, log_q_shared

    def _conditional(self, local: Sequence[str], dim: int, size: int) -> tuple[Any, ...]:
        """Indices (N, d) of each datum's numbers and (G,) of the shared ones; root of the shared covariance; gain (N, d, G) and conditional root (N, d, d)."""
        every = torch.arange(len(self._mean), device=self._mean.device)
        columns, rest = [], []
        for site, places in self._guide._unpack_latent(every):
            rank = len(site["fn"].batch_shape)
            if site["name"] in local:
                columns.append(places.movedim(rank + dim, 0).reshape(size, -1))
            else:
                rest.append(places.reshape(-1))
        index = torch.cat(columns, 1)
        others = torch.cat([every[:0], *rest])
        whole = self._covariance
        if whole.dim() == 1:
            return index, others, whole[others].sqrt(), None, whole[index].sqrt().diag_embed()
        own = whole[index[:, :, None], index[:, None, :]]
        if not len(others):
            return index, others, whole.new_ones(0), None, torch.linalg.cholesky(own)
        root = torch.linalg.cholesky(whole[others][:, others])
        across = whole[index[:, :, None], others]
        gain = torch.cholesky_solve(across.mT, root).mT
        return index, others, root, gain, torch.linalg.cholesky(own - gain @ across.mT)
