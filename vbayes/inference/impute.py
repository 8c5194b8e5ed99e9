"""Imputation: missing data, given the observed data."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from .. import rng
from ..arguments.takes import takes
from ..data.column import column
from ..data.dataset import Batch
from ..drawing.densities import drawing_density, run_at
from ..drawing.summed import Summed, model_terms
from ..errors import BadData, BadInput, Unsuitable
from ..pair.missing import GIVEN
from ..pair.pair import DATA_PLATE, Pair
from ..pair.paired import Model, require_guide_of_rows
from ..pair.problem import Problem
from ..pair.sites import Layout, base, factors, is_point_mass, latents, observed, summed_out
from ..progress import bar
from ..summaries.card import Card, Displayable, rounded
from ..validation import validation
from .importance import require_densities


@dataclass(frozen=True, repr=False)
class Imputation(Displayable):
    """Result of `vb.impute`: data with missing values filled in, and draws of them; on the CPU.

    Attributes:
        x: (N, *features) the data, with missing values replaced by the mean of p(x_missing | x_known).
        sd: (N, *features) the standard deviation of that distribution; 0 where x is known.
        draws: (S, N, *features) draws from that distribution, successive states of a Markov chain.
        acceptance: (N,) fraction of proposals accepted; near 0, the guide is too far from the posterior for the chain to move.
    """

    x: Tensor
    sd: Tensor
    draws: Tensor
    acceptance: Tensor

    def card(self) -> Card:
        """How much was imputed, from how many draws, and whether the chain moved."""
        moved = self.acceptance.double()
        uncertain = self.sd > 0
        rows = (
            ("x", f"{tuple(self.x.shape)}, {int(uncertain.sum()):,} of {self.x.numel():,} numbers uncertain"),
            ("draws", f"{len(self.draws):,}"),
            (
                "accepted",
                f"{rounded(float(moved.mean()), 2)} of the proposals, {rounded(float(moved.min()), 2)} at worst",
            ),
        )
        return Card("Imputation", rows)


@takes()
def impute(
    pair: Model,
    data: Any = None,
    known: Any = None,
    *,
    draws: int = 200,
    burn_in: int = 100,
    seed: int | None = None,
    progress: bool = True,
) -> Imputation:
    """Imputes missing data with draws from p(x_missing | x_known). The draws are correct for any guide.

    Two steps alternate: the guide proposes z from the data as currently imputed, and the proposal is accepted or rejected by its weight
    p(x, z) / q(z|x) (Metropolis–Hastings); then the missing values are drawn from p(x|z). Without the acceptance step, as in Rezende et al. 2014, the draws
    would be correct only for a perfect guide.

    Args:
        pair: A trained pair with latents for each row, and one observed site whose features are independent given the latents.
        data: The rows; those of the fit if None. The values at missing entries do not matter, but must be numbers, or NaN for a fit with `missing="mask"`.
        known: (N, *features) or (*features,) booleans, True where the data are known; if None, every entry that is not NaN is known.
        draws: S, the number of draws to keep.
        burn_in: Number of draws to discard first.
        seed: Seed for the draws.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: `known` has the wrong shape or type, or `draws` is 0.
        BadPair: Pair and data do not fit together.
        Unsuitable: The pair is of another kind; the message says why.

    References:
        Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, appendix F; Mattei & Frellsen 2018, arXiv:1802.04826, section 3, for the Metropolis step.

    Examples:
        >>> upper = torch.arange(64) < 32
        >>> found = vb.impute(fit, x_new, known=upper)
        >>> found.x, found.sd
    """
    problem = Problem.of(pair, data)
    pair, batch = problem.pair, problem.whole
    or_masked = (
        "; or vb.fit(model, data, missing='mask') with NaN where data are missing, and its predict(), which draws them"
    )
    require_guide_of_rows(pair, "vb.impute", or_masked)
    require_densities(pair, batch)
    chain = _Chain(pair, batch, known)
    kept, mean, taken = [], torch.zeros_like(chain.x), chain.x.new_zeros(len(chain.x))
    with (
        pair.scope(),
        torch.no_grad(),
        rng.seeded(seed),
        validation(False),
        bar("impute", burn_in + draws, show=progress, unit="draw") as advance,
    ):
        chain.start()
        for number in range(burn_in + draws):
            accepted, expected = chain.sweep()
            taken = taken + accepted
            if number >= burn_in:
                kept.append(chain.x)
                mean = mean + expected / draws
            advance(number + 1, functools.partial("acceptance {:.2f}".format, float((taken / (number + 1)).mean())))
    stacked = torch.stack(kept)
    sd = torch.where(chain.known, 0.0, stacked.std(0))
    found = torch.where(chain.known, chain.x, mean), sd, stacked, taken / (burn_in + draws)
    return Imputation(*(part.cpu() for part in found))


class _Chain:
    """Alternates latents and missing data; its methods run inside the pair's scope."""

    def __init__(self, pair: Pair, batch: Batch, known: Any) -> None:
        self.pair, self.args = pair, list(batch.args)
        with pair.look(), torch.no_grad(), validation(False):
            q, p = pair.run(batch)
        data = observed(p)
        if len(data) != 1:
            raise Unsuitable(
                f"Pair {pair.name!r} has {len(data)} sites with data ({', '.join(s['name'] for s in data) or 'none'}). Wanted: one, with some of its data missing."
            )
        (self.site,) = data
        self.name = self.site["name"]
        given = self.site["infer"].get(GIVEN, self.site["value"])  # with its gaps
        places = [i for i, a in enumerate(self.args) if isinstance(a, Tensor) and a is given]
        if not places:
            raise Unsuitable(
                f"The data of site {self.name!r} are not passed to pair {pair.name!r} as an unmodified argument, so nothing can be imputed. Wanted: obs=x, where x is an argument of the model."
            )
        if base(self.site["fn"]).event_dim:
            raise Unsuitable(
                f"The features of {self.name!r} in pair {pair.name!r} are not independent given the latents ({type(base(self.site['fn'])).__name__}). Wanted: features that are "
                "independent given the latents, such as Bernoulli or Normal ones."
            )
        self.place, self.x = places[0], self.site["value"]
        self.drawn = [s["name"] for s in latents(q) if not is_point_mass(s["fn"])]
        rows = tuple(frame.size for frame in Layout(q, p).local)
        nodes: dict[str, Any] = dict(q.nodes)
        leading = [tuple(nodes[name]["value"].shape[:1]) for name in self.drawn]
        if rows != (len(self.x),) or any(first != rows for first in leading):
            raise Unsuitable(
                f"Pair {pair.name!r} does not have its own latents for each row of the plate {DATA_PLATE!r}. Wanted: a pair such as vb.pairs.vae(), whose rows are "
                "independent of each other."
            )
        here = ~given.isnan()
        if known is None:
            if bool(here.all()):
                raise BadInput(
                    f"known was not given, and none of the data of pair {pair.name!r} are NaN. Wanted: booleans of shape {tuple(self.x.shape)}, True where the data are known."
                )
            known = here
        known = column("known", known).to(self.x.device)
        if known.dtype != torch.bool or known.shape not in (self.x.shape, self.x.shape[1:]):
            raise BadInput(
                f"known has shape {tuple(known.shape)} and type {str(known.dtype).removeprefix('torch.')}. Wanted: booleans of shape {tuple(self.x.shape)} or "
                f"{tuple(self.x.shape[1:])}, True where the data are known."
            )
        if lost := int((known & ~here).sum()):
            raise BadData(
                f"known is True at {lost} entries of the data that are NaN. Wanted: False there. Fix: known & ~x.isnan()."
            )
        self.known = known.expand(self.x.shape)

    def start(self) -> None:
        """What is missing comes from the model, whatever is known."""
        made: Any = self.pair.generate(Batch(tuple(self.args))).nodes[self.name]
        before = self.args[self.place]
        self._fill(made["value"])
        self.z, p, self.log_w = self._propose()
        for site in factors(p):
            self.args[self.place] = before
            weight = self._at(self.z)[0].nodes[site["name"]]["fn"].log_factor
            self.args[self.place] = self.x
            if not torch.equal(weight, site["fn"].log_factor):
                raise Unsuitable(
                    f"The pyro.factor {site['name']!r} of pair {self.pair.name!r} depends on the data, so missing values can't be drawn from p(x|z). Wanted: factors of the "
                    "latents alone."
                )

    def sweep(self) -> tuple[Tensor, Tensor]:
        """One turn: (N,) whether z was taken, and (N, *features) the mean of p(x|z)."""
        proposed, p, log_w = self._propose()
        taken = torch.rand_like(log_w).log() < (log_w - self.log_w).nan_to_num(nan=-torch.inf)
        self.z = {name: _where(taken, proposed[name], old) for name, old in self.z.items()}
        fn = self._at(self.z)[0].nodes[self.name]["fn"]
        self._fill(fn.sample())
        self.log_w = self._at(self.z)[1]  # of the same latents for other data
        return taken.to(self.x.dtype), _mean(fn, self.x)

    def _fill(self, value: Tensor) -> None:
        self.x = torch.where(self.known, self.x, value.to(self.x.dtype))
        self.args[self.place] = self.x

    def _propose(self) -> tuple[dict[str, Tensor], Any, Tensor]:
        q: Any = pyro.poutine.trace(self.pair.guide).get_trace(*self.args)
        z = {name: q.nodes[name]["value"] for name in self.drawn}
        return z, *self._at(z)

    def _at(self, z: dict[str, Tensor]) -> tuple[Any, Tensor]:
        """The model's run at latents, and their log-weight (N,)."""
        q, p, shared = run_at(self.pair.model, self.pair.guide, tuple(self.args), z)
        log_p = shared.total(model_terms(self.pair.model, tuple(self.args), {}, q, p, shared))
        if summed_out(q, p):  # x then comes from what these may be, given all else
            p = Summed(self.pair.model, tuple(self.args), {}, q, p).drawn
        return p, (log_p - drawing_density(q, shared, z)).double()


def _where(taken: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(taken.reshape(-1, *[1] * (new.dim() - 1)), new, old)


def _mean(fn: Any, like: Tensor) -> Tensor:
    """Of p(x|z), or a draw where it has none."""
    try:
        return fn.mean.expand(like.shape)  # type: ignore[no-any-return]
    except NotImplementedError:
        return like
