"""The posterior: draws of the latents given data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..arguments.choice import Choice
from ..arguments.takes import takes
from ..data.dataset import Batch
from ..errors import Unsuitable
from ..export.names import Names
from ..export.weights import FEWEST
from ..guides import in_words
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..pair.support import missed
from ..pair.tempered import require_weights, tempered_of
from ..summaries.card import Card, Displayable, first_few, rounded
from ..summaries.marginals import marginals
from ..validation import validation
from .advice import Advice, advice_of
from .draws import draws_of
from .psis import ENOUGH, Trust, smoothed, trust

if TYPE_CHECKING:
    import pandas as pd
    from arviz import InferenceData

Method = Literal["auto", "exact", "guide", "psis", "importance"]
POOR = 0.1  # of the draws: an effective number below says that q is far from the posterior
GUIDE_DRAWS = 200  # draws of the guide that show how good q is, in addition to exact draws
PROPOSALS = 10  # for each draw that importance resampling keeps


@dataclass(frozen=True, repr=False)
class Posterior(Displayable):
    """Result of `vb.posterior`: draws of the latents given data, and how good they are; on the CPU.

    Attributes:
        draws: Latent → (S, …) values. `vb.to_arviz` and `vb.predict` also have what `pyro.deterministic` computes from them.
        method: How they were drawn: "exact", "guide", "psis" or "importance".
        pair, data: Names of the pair and of the data.
        log_density: (S, *local) normalised joint log-density of each draw, in nats, with `*local` as in `Particles`. None if the exact posterior is
            given site by site, or the draws were resampled.
        effective: (*local) effective number of independent posterior draws, from the importance weights (Kong 1992); for S draws resampled by weights
            of effective number E, S E / (S + E). None for exact draws, and where the guide scales a log-density (`poutine.scale`).
        guide_effective: (*local) for exact draws, the effective number of 200 draws of the guide, which shows how good q is. None for other methods, and
            where the guide has no density.
        uncovered: Sites whose values the guide can't all draw; importance weights can't reveal what is left out.
        k_hat: Pareto k̂ of the weights, of the worst datum; None for exact draws, and where the effective number is so high that k̂ is not needed.
        trust: "good", "reweight" or "bad", judged by the weights of nine in ten data, as in `vb.diagnose`; taken from the fit's diagnosis if it has one for these data; None for
            exact draws.
        different: Smallest number of distinct draws after resampling, over the data; None for other methods.
        dims: Site → names of its dimensions, that is, its plates.
        labels: Dimension → its labels, where the data have them (by the rule of `vb.to_arviz`).
        guide: A description of the guide; empty for a user-defined one.
        advice: What to do with draws of the guide, as in the verdict of a fit; None for exact draws where q is close to the posterior.
    """

    draws: Mapping[str, Tensor]
    method: str
    pair: str
    data: str
    log_density: Tensor | None = None
    effective: Tensor | None = None
    guide_effective: Tensor | None = None
    uncovered: tuple[str, ...] = ()
    k_hat: float | None = None
    trust: Trust | None = None
    different: int | None = None
    dims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    guide: str = ""
    advice: Advice | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", {name: values.cpu() for name, values in self.draws.items()})
        for name in ("log_density", "effective", "guide_effective"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, value.cpu())

    def __len__(self) -> int:
        return len(next(iter(self.draws.values())))

    def card(self) -> Card:
        """The draws, their sites with shapes, and how many independent draws they are worth."""
        rows = [("guide", self.guide)] if self.guide else []
        rows += [
            ("draws", f"{len(self) if self.draws else 0:,}, by method {self.method!r}"),
            ("sites", first_few(f"{name} {tuple(values.shape[1:])}" for name, values in self.draws.items())),
        ]
        if self.effective is not None:
            least = rounded(float(self.effective.min()), 3)
            worth = f"{least} independent draws" + (" for the worst datum" if self.effective.numel() > 1 else "")
            rows.append(("worth", worth))
        if self.k_hat is not None:
            rows.append(
                (
                    "k̂",
                    f"{rounded(self.k_hat, 2)} of the weights"
                    + (", of the worst datum" if self.effective is not None and self.effective.numel() > 1 else ""),
                )
            )
        if self.advice is not None and (self.method == "guide" or self.trust == "bad"):
            rows.append(("trust", self.advice.short()))
        if self.guide_effective is not None:
            rows.append(
                ("q is worth", f"{rounded(float(self.guide_effective.min()), 3)} of {GUIDE_DRAWS} independent draws")
            )
        if self.uncovered:
            rows.append(("not covered", f"by the guide: {', '.join(self.uncovered)}"))
        return Card(f"Posterior: {self.pair} on {self.data}", tuple(rows))

    def mean(self) -> dict[str, Tensor]:
        """Site → its mean."""
        return {name: values.double().mean(0) for name, values in self.draws.items()}

    def std(self) -> dict[str, Tensor]:
        """Site → its standard deviation."""
        return {name: values.double().std(0) for name, values in self.draws.items()}

    def quantile(self, q: float) -> dict[str, Tensor]:
        """Site → the q-quantile of its draws."""
        return {name: values.double().quantile(q, dim=0) for name, values in self.draws.items()}

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each element of each site: site, element (with its labels, as `a[Aitkin]`), mean, sd, and the ends of the central 90 % interval, 5% and 95%."""
        return marginals({name: values.cpu().numpy() for name, values in self.draws.items()}, self.dims, self.labels)

    def to_arviz(self) -> InferenceData:
        """Converts to ArviZ's data object, with one chain and the group `posterior`; dimensions have the names of plates, and the labels of the data."""
        from ..export import arviz as export

        arrays: dict[str, np.ndarray] = {name: values.cpu().numpy()[None] for name, values in self.draws.items()}
        dims = {name: own for name, own in self.dims.items() if name in arrays and len(own) == arrays[name].ndim - 2}
        return export.from_arrays({"posterior": arrays}, dims=dims, coords=self.labels)

    def verdict(self) -> str:
        """The result in one sentence, or two if the guide can't be trusted."""
        return self._worth() + missed(self.uncovered)

    def _worth(self) -> str:
        if self.effective is None and self.method == "guide":
            return f"{len(self)} draws from q. How far it is from the posterior is not known, as the guide scales its log-density (pyro.poutine.scale)."
        if self.effective is None:
            text = f"{len(self)} draws from the exact posterior, of each latent separately."
            if self.guide_effective is None:
                return text
            least = float(self.guide_effective.min())
            where = " of the worst datum" if self.guide_effective.numel() > 1 else ""
            mend = f": {self.advice.mend}" if self.advice and self.advice.mend else ""
            far = f" q is far from it{mend}." if self.advice else ""
            return f"{text} {GUIDE_DRAWS} draws from q would be worth {least:.0f}{where}.{far}"
        least = float(self.effective.min())
        where = " of the worst datum" if self.effective.numel() > 1 else ""
        k = "" if self.k_hat is None else f"; k̂ = {self.k_hat:.2f}"
        if self.method == "guide":
            text = f"{len(self)} draws from q, worth {least:.0f} from the posterior{where}{k}."
            said = self.advice if self.advice and (self.trust != "good" or self.advice.collapsed) else None
            return f"{text} {said.words()}" if said else text
        text = f"{len(self)} draws, resampled by weights, {self.different} of them different, worth {least:.0f} from the posterior{where}{k}."
        if self.trust == "bad" and self.advice:
            return f"{text} {self.advice.words()}"
        return text + (" They repeat each other: take more proposals." if least < POOR * len(self) else "")


@takes(method=Choice(get_args(Method), "way to a posterior"))
def posterior(
    pair: Model,
    data: Any = None,
    draws: int = 1000,
    method: Method = "auto",
    *,
    proposals: int | None = None,
    seed: int | None = None,
    device: str = "auto",
) -> Posterior:
    """Draws the latents given data: from the exact posterior if the pair has one, otherwise from the guide.

    Either way the verdict says how good q is, since exact draws don't depend on how well the fit went; and whether q can draw all values that the model allows, since
    weights can't reveal what it leaves out. Sites that the model sums out are summed out in the weights, and drawn from their conditional given the rest.

    Args:
        pair: Model and guide; a fit brings its data.
        data: As for `fit`; may be new rows if the guide is amortized, that is, computes q(z|x) from a row x.
        draws: Number of draws, S.
        method: "exact" draws each latent from its own marginal; "guide" draws from the guide; "importance" resamples draws of the guide by their weights,
            separately for each datum that has its own latents (Rubin 1987); "psis" does so with Pareto-smoothed weights (Vehtari et al. 2024, arXiv:1507.02646), which is better
            in nearly all cases; "auto" is "exact" where the pair has a closed form, else "guide".
        proposals: K, the number of draws that "psis" and "importance" resample from; 10 S if None.
        seed: Seed for all random numbers.
        device: As for `fit`; with "auto" a fit stays on its device.

    Raises:
        BadInput: An unknown method, or fewer than two draws.
        BadPair: Model and guide do not fit together, or not with the data.
        Unsuitable: The pair has no closed form, or the guide has no density.

    Examples:
        >>> found = vb.posterior(fit, x_new, draws=500)
        >>> found.mean()["z"], found.verdict()
    """
    given, own = pair, data is None
    seed, problem = rng.or_default(seed), Problem.of(pair, data, device=device)
    pair, batch = problem.pair, problem.whole
    said = Names(pair, batch, problem.data)
    names: dict[str, Any] = {"pair": pair.name, "data": problem.data.name, "uncovered": problem.uncovered}
    names |= {"dims": said.dims({}), "labels": said.labels({}, {})}
    names["guide"] = in_words(pair.guide, getattr(given, "tried", ()))
    values: dict[str, Tensor] | None = None
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        if method in ("auto", "exact") and pair.exact is not None:
            known = pair.exact.posterior(*batch.args)
            values = {name: fn.sample((draws,)) for name, fn in known.items()}
            only = next(iter(known)) if len(known) == 1 else None
            density = known[only].log_prob(values[only]) if only else None
            names |= {"log_density": density, "guide_effective": _guide_effective(pair, batch, seed)}
    if values is not None:
        worth = names["guide_effective"]
        if worth is not None and float(worth.min()) < POOR * GUIDE_DRAWS:
            names["advice"] = advice_of(given, problem, "bad", own=own)
        return Posterior(values, "exact", **names)
    if method == "exact":
        raise Unsuitable(
            f"Pair {pair.name!r} has no exact posterior. Wanted: a pair with exact=vb.Exact(...), or method='guide'."
        )
    if weighted := method in ("importance", "psis"):
        require_weights(pair, batch)
    made = draws_of(pair, batch, (proposals or PROPOSALS * draws) if weighted else draws, seed)
    effective = _effective(made.log_w)
    if not weighted and tempered_of(pair, batch):
        return Posterior(made.values, "guide", **names, log_density=made.log_q)
    if not weighted:
        names |= _judged(made.log_w, effective, problem, given, own)
        return Posterior(made.values, "guide", **names, log_density=made.log_q, effective=effective)
    log_w = made.log_w
    if method == "psis":
        weights = smoothed(log_w)
        log_w, effective = weights.log_w, weights.effective
    names |= _judged(made.log_w, effective, problem, given, own, always=True)
    with rng.seeded(rng.child(seed, 1)):
        chosen = torch.distributions.Categorical(logits=log_w.movedim(0, -1), validate_args=False).sample((draws,))
    different = min(len(each.unique()) for each in chosen.reshape(draws, -1).T)
    worth = draws * effective / (draws + effective)
    return Posterior(made.taken(chosen), method, **names, effective=worth, different=different)


def _judged(
    log_w: Tensor, effective: Tensor, problem: Problem, given: Model, own: bool, *, always: bool = False
) -> dict[str, Any]:
    """k̂ of the datum with the lowest effective number of draws, unless that is high enough; and what to do with the draws, judged by what nine in ten data reach or exceed."""
    count, each = len(log_w), effective.reshape(-1)
    order = each.argsort()
    worst, judged = int(order[0]), int(order[len(each) // 10])
    found = {worst: _k_hat(log_w, worst)} if always or float(each[worst]) < ENOUGH * count else {}
    part, k_hat = float(each[judged]) / count, found.get(judged, 0.0)
    if judged not in found and (always or part < ENOUGH):
        k_hat = _k_hat(log_w, judged)
    few = count < FEWEST  # too few to fit a tail to; the effective number has to do
    advice = advice_of(given, problem, trust(0.0 if few else k_hat, part), own=own)
    return {"k_hat": None if few else found.get(worst), "trust": advice.trust, "advice": advice}


def _k_hat(log_w: Tensor, datum: int) -> float:
    return float(smoothed(log_w.reshape(len(log_w), -1)[:, datum]).k_hat)


def _effective(log_w: Tensor) -> Tensor:
    """(*local) of log-weights (K, *local); 0 where all of them are."""
    found = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
    return found.nan_to_num(nan=0.0)


def _guide_effective(pair: Pair, batch: Batch, seed: int) -> Tensor | None:
    """(*local) effective number of draws of the guide; None if it has no density."""
    try:
        return _effective(draws_of(pair, batch, GUIDE_DRAWS, rng.child(seed, 2)).log_w)
    except Unsuitable:
        return None
