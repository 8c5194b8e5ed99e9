"""How far a guide is from the posterior, by measures that do not depend on its training objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Dataset
from ..errors import BadInput, Unsuitable
from ..exact.table import Table
from ..inference.draws import Draws, draws_of
from ..inference.psis import smoothed
from ..inference.tabulate import tabulate
from ..pair.pair import Pair
from ..validation import no_warnings_of_nan

MEASURES = ("kl", "forward_kl", "mean_error", "sd_error", "k_hat", "effective")
NODES = 500_000  # nodes of a table at each evaluation, which take a fraction of a second
DRAWS = 4000


class AgainstPosterior:
    """Six measures of a guide's distance from the posterior, independent of its training objective.

    `kl`, `forward_kl`: KL(q ‖ p) and KL(p ‖ q), nats per datum, exact from a table of all values of the latents. `mean_error`: the root mean square, over elements of
    the latents, of the error of q's mean in posterior sds; `sd_error`: that of log(sd of q / sd of p); both from the table, or from reference draws. `k_hat`,
    `effective`: Pareto k̂ of the weights of 4000 draws, and their relative effective number, for the worst datum. Measures that are not available are NaN.

    Args:
        pair: An initialised pair.
        data: The whole data set.
        reference: Site → (S, ...) draws of the posterior, if available.
        seed: Seed for the draws.

    Attributes:
        description: How the measures are computed, in words.
    """

    def __init__(
        self, pair: Pair, data: Dataset, reference: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> None:
        self._batch, self._rows, self._seed = data.batch(pair.model), len(data), rng.or_default(seed)
        self._reference = {name: _numbers(name, draws) for name, draws in (reference or {}).items()}
        self._table = self._tabulated(pair) is not None
        if self._reference:
            self._check(pair)
        by = "a table of all values of the latents" if self._table else "reference draws" if reference else "weights"
        self.description = f"{by}, and the weights of {DRAWS} draws"

    def __call__(self, pair: Pair) -> dict[str, float]:
        """The six numbers of a pair at the parameters that it has."""
        found = dict.fromkeys(MEASURES, math.nan)
        with no_warnings_of_nan(), suppress(Unsuitable, BadInput), torch.no_grad():
            draws = draws_of(pair, self._batch, DRAWS, self._seed)
            with np.errstate(invalid="ignore"):  # a tail of equal weights, as for discrete latents, has no k̂
                weights = smoothed(draws.log_w)
            k_hat = float(weights.k_hat.max())
            found |= {
                "k_hat": k_hat if math.isfinite(k_hat) else math.nan,
                "effective": float(weights.effective.min()) / DRAWS,
            }
            if self._reference:
                found |= _moved([self._pairs(draws, name) for name in self._reference])
            if self._table and (table := self._tabulated(pair)):
                found |= {
                    "kl": float(table.kl().sum()) / self._rows,
                    "forward_kl": float(table.forward_kl().sum()) / self._rows,
                }
                if not self._reference:
                    found |= _moved([_of_table(table, values) for values in table.values.values()])
        return found

    def _tabulated(self, pair: Pair) -> Table | None:
        with suppress(Unsuitable, BadInput):
            table = tabulate(pair, self._batch, nodes=NODES)
            return None if table.uncovered else table
        return None

    def _check(self, pair: Pair) -> None:
        drawn = draws_of(pair, self._batch, 2, self._seed).values
        wanted = ", ".join(f"{site} (S{''.join(f', {n}' for n in values.shape[1:])})" for site, values in drawn.items())
        for name, draws in self._reference.items():
            if name not in drawn:
                raise BadInput(
                    f"reference has {name!r}, which is not a latent of the pair. Wanted: draws of its latents, {wanted}."
                )
            if draws.shape[1:] != drawn[name].shape[1:] or len(draws) < 2:
                raise BadInput(
                    f"reference[{name!r}] has the shape {tuple(draws.shape)}. Wanted: draws of the pair's latents, {wanted}."
                )

    def _pairs(self, draws: Draws, name: str) -> tuple[Tensor, ...]:
        ours, theirs = (z.reshape(len(z), -1).double().cpu() for z in (draws.values[name], self._reference[name]))
        return theirs.mean(0), theirs.std(0), ours.mean(0), ours.std(0)


def _numbers(name: str, draws: Any) -> Tensor:
    """Reference draws in the form for comparisons."""
    try:
        made = torch.as_tensor(draws, device="cpu").double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"reference[{name!r}] is {draws!r:.80}. Wanted: an array of draws, (S, ...).") from error
    if not made.dim() or not made.isfinite().all():
        raise BadInput(
            f"reference[{name!r}] has numbers that are not finite, or is a scalar. Wanted: an array of draws, (S, ...)."
        )
    return made


def _of_table(table: Table, values: Tensor) -> tuple[Tensor, ...]:
    """Means and sds under the posterior and under q, each (*local, n)."""
    found: list[Tensor] = []
    for weight in (table.posterior().detach(), table.weight.detach()):
        weight = weight.unsqueeze(-1).to(values.dtype if values.is_floating_point() else weight.dtype)
        mean = (weight * values).sum(0)
        found += [mean, (weight * (values - mean).square()).sum(0).sqrt()]
    return tuple(found)


def _moved(sites: list[tuple[Tensor, ...]]) -> dict[str, float]:
    """The two errors over all elements of all sites that vary under the posterior."""
    mean, sd, mine, my_sd = (torch.cat([site[part].double().flatten() for site in sites]) for part in range(4))
    varies = sd > 0
    off, ratio = ((mine - mean) / sd)[varies], (my_sd / sd)[varies].log()
    return {"mean_error": float(off.square().mean().sqrt()), "sd_error": float(ratio.square().mean().sqrt())}
