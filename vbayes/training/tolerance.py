"""The gain in the ELBO that counts as none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide

from ..pair.check import DATA_PLATE
from ..pair.sites import latents, plates
from ..validation import no_warnings_of_nan, validation

NATS = 0.01  # of a posterior: a mean that is .14 standard deviations off, or an error spread over many
EACH = 0.001  # for each datum whose latents have parameters of their own
AMORTISED = 0.02  # for each datum whose latents a network names
WORTH = 0.2  # for each datum: a network's ELBO creeps on for ever, by less and less


@dataclass(frozen=True)
class Tolerance:
    """Gains that count as none.

    Attributes:
        nats: A further phase's, for all data.
        rows: N, where gains are named by the datum; 1 otherwise.
        network: Whether a window's gain may also be too small to go on for at the same rate.
    """

    nats: float
    rows: int = 1
    network: bool = False

    @classmethod
    def of(cls, fit: Any) -> Tolerance:
        """Tolerance for a fit: 0.01 nats for a posterior, plus 0.001 for each datum with its own latents; 0.02 per datum if one network computes the latents of all."""
        pair, total = fit.pair, len(fit.data)
        index = None if fit.batch_size is None else torch.arange(fit.batch_size, device=fit.data.first.device)
        with pair.look(), torch.no_grad(), validation(False), no_warnings_of_nan():
            guide, _ = pair.run(fit.data.batch(pair.model, index))
        local = any(DATA_PLATE in {frame.name for frame in plates(site)} for site in latents(guide))
        if not local:
            return cls(NATS)
        # An autoguide of Pyro's keeps all latents in one vector, which is as long as they are together.
        own = isinstance(pair.guide, AutoGuide) or any(total in leaf.shape for leaf in pair.parameters.values())
        if own:
            return cls(NATS + EACH * total)
        return cls(NATS + AMORTISED * total, total, True)

    @property
    def worth(self) -> float:
        """Below which a window's gain is not worth another one at the same rate, nats."""
        return WORTH * self.rows if self.network else float("-inf")
