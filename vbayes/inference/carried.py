"""An upper bound on the information that the latents of a datum carry about it: has their posterior collapsed to the prior?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data.dataset import Batch
from ..drawing.densities import guide_density
from ..pair.pair import Pair
from ..pair.sites import Layout, Term, is_point_mass, latents
from ..summaries.card import with_error
from ..validation import validation

NOTHING = 0.01  # nats per datum, as in `latent_use`, but here for all latents together
LOOKS = 10  # draws of each datum's latents
SURE = 5.0  # standard errors beyond which a difference is taken for real


@dataclass(frozen=True)
class Carried:
    """The KL divergence of the guide from the prior, averaged over the data: R = E[log q(z|x) − log p(z)], an upper bound on the mutual information of z and x under q.

    Attributes:
        kl: R, in nats per datum.
        se: Its standard error over the draws.

    References:
        Hoffman & Johnson 2016, ELBO surgery; Alemi et al. 2018, Fixing a broken ELBO, arXiv:1711.00464, where R is called the rate.
    """

    kl: float
    se: float

    @property
    def nothing(self) -> bool:
        """Whether R is below .01 nats by more than five standard errors."""
        return self.kl + SURE * self.se < NOTHING

    def __str__(self) -> str:
        return f"{with_error(max(self.kl, 0.0), self.se, 2)} nats per datum"


def carried(pair: Pair, batch: Batch) -> Carried | None:
    """Estimates R for a pair; None if some latents are shared by several data, are summed out, or have no density.

    Args:
        pair: Initialised.
        batch: Rows of the data; their densities must not be scaled to a larger data set.
    """
    found = []
    with pair.look(), torch.no_grad(), validation(False):
        for _ in range(LOOKS):
            q, p = pair.run(batch)
            shared, ours, theirs = Layout(q, p), latents(q), latents(p)
            alike = {site["name"] for site in ours} == {site["name"] for site in theirs}
            if not (ours and alike and shared.local) or any(is_point_mass(site["fn"]) for site in ours):
                return None
            prior = shared.total([Term.of(site, shared) for site in theirs])
            found.append((guide_density(q, shared) - prior).double().reshape(-1))
            gaps = torch.cat(found)
            seen = Carried(float(gaps.mean()), float(gaps.std(correction=0) / len(gaps) ** 0.5))
            if seen.kl - SURE * seen.se > NOTHING:  # clearly not collapsed: a more precise R is not needed
                break
    return seen
