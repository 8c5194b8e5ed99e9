"""How good a guide is for local latents and for shared ones, separately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..data.spread import spread
from ..drawing.apart import Apart
from ..inference.psis import WORST_K, Trust, smoothed, trust
from ..pair.pair import Pair
from ..staging.many import Affordable, many
from ..summaries.card import rounded
from ..summaries.listed import listed
from ..validation import validation

INNER = 4  # draws of the local latents for each draw of the shared ones
ROWS = 1000  # data, enough to estimate the distribution of their k̂
WEIGHTS = 2_000_000  # weights of each datum, to be smoothed
KNOWN = 1.0  # nats: maximum sd of the noise in a log-weight of the shared latents that is due to the inner draws


@dataclass(frozen=True)
class Parts:
    """Weights of the latents of single data, log p(x_n, z_n | θ) − log q(z_n | θ) with θ from q, and of the shared latents θ, log p(x, θ) − log q(θ).

    The latter needs p(x | θ) = Π E_q p(x_n, z_n | θ)/q(z_n | θ), each factor of which is estimated by a mean over inner draws. These weights are unbiased, so a small k̂
    can be trusted; a large one may also be due to too few inner draws.

    Attributes:
        plate: Plate of the data.
        local, shared: Names of latents.
        data: Number of data, N.
        each: k_hat and effective of each datum, for at most a thousand of them.
        draws: K, the number of draws of θ.
        inner: Number of draws of each z_n for each draw of θ.
        k_hat, effective: k̂ and effective number of the weights of θ; NaN if there are none.
        open: Standard deviation, in nats, of the noise in a log-weight of θ that is due to the inner draws.
        trust: Trust in the draws of θ; None if there are none, or it can't be determined.
    """

    plate: str
    local: tuple[str, ...]
    shared: tuple[str, ...]
    data: int
    each: pd.DataFrame
    draws: int
    inner: int
    k_hat: float
    effective: float
    open: float
    trust: Trust | None

    @property
    def above(self) -> float:
        """The fraction of the data whose k̂ is 0.7 or more."""
        return float((self.each.k_hat >= WORST_K).mean())

    def verdict(self) -> str:
        """The result in two sentences."""
        k = self.each.k_hat
        effective = rounded(float(self.each.effective.median()), 3)
        text = (
            f"Of {listed(self.local)} by itself, k̂ is {WORST_K} or above at {self.above:.0%} of {self.data:,} data in plate {self.plate!r} (median {k.median():.2f}, nine of ten below "
            f"{k.quantile(0.9):.2f}; {self.draws:,} draws are worth {effective} in the median)."
        )
        if not self.shared:
            return text
        names = listed(self.shared)
        if self.trust is None:
            return f"{text} How good q is for {names} alone can't be determined: with {self.inner} inner draws, the log-weights have a noise of {rounded(self.open, 2)} nats."
        words = {"good": "good as they are", "reweight": "good when weighted", "bad": "not to be used"}[self.trust]
        worth = f"k̂ = {self.k_hat:.2f}, {self.draws:,} draws worth {rounded(self.effective, 3)}"
        return f"{text} Of {names}, which all data share, the draws by themselves are {words} ({worth})."


def parts_of(pair: Pair, batch: Batch, seed: int) -> Parts | None:
    """Computes `Parts`; None if no plate has its own latents with rows that are independent given the other latents, in the model and in the guide.

    Args:
        pair: An initialised pair.
        batch: The rows, not rescaled to the size of a larger data set.
        seed: Seed for the draws.
    """
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        found = _apart(pair, batch)
        if found is None:
            return None
        inner = INNER if found.shared else 1
        rows = spread(found.size, ROWS, "cpu")

        def one() -> dict[str, Tensor]:
            made = found.weigh(inner)
            weights = made.each.exp()
            mean = made.each.logsumexp(0) - torch.tensor(float(inner), device=weights.device).log()
            spread = (weights.square().mean(0) / weights.mean(0).square() - 1) / max(inner - 1, 1)
            return {
                "each": made.each[0, rows.to(made.each.device)],
                "shared": made.shared + mean.sum(),
                "open": spread.sum(),
            }

        count = Affordable(most=max(1000, min(50_000, WEIGHTS // len(rows))), least=1000, room=2**31)
        made = many(one, count, batch.args[0].device if batch.args else torch.device("cpu"))
    return _judged(found, made, inner)


def _apart(pair: Pair, batch: Batch) -> Apart | None:
    try:
        found = Apart.of(pair.model, pair.guide, batch.args)
        if found is not None:
            found.weigh(1)
        return found
    except Exception:  # anything that the model's code raises on tracked or given draws
        return None


def _judged(found: Apart, made: dict[Any, Tensor], inner: int) -> Parts:
    each = smoothed(made["each"])
    table = pd.DataFrame({"k_hat": each.k_hat.cpu().numpy(), "effective": each.effective.cpu().numpy()})
    draws, nan = len(made["each"]), float("nan")
    if not found.shared:
        return Parts(found.name, found.local, (), found.size, table, draws, inner, nan, nan, nan, None)
    all_of = smoothed(made["shared"])
    k_hat, effective = float(all_of.k_hat), float(all_of.effective)
    left = float(made["open"].nan_to_num(nan=torch.inf).median()) ** 0.5
    # As all latents together were judged bad, a part is only called good beyond the error of its k̂.
    judged = trust(k_hat + float(all_of.k_hat_se), effective / draws)
    known = judged != "bad" or left < KNOWN
    return Parts(
        found.name, found.local, found.shared, found.size, table, draws, inner, k_hat, effective, left, judged if known else None
    )  # fmt: skip
