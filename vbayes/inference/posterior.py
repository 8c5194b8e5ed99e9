"""The posterior: which latents may have made some data."""

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
from ..summaries.card import Card, Displayable, first_few, rounded
from ..validation import validation
from .advice import Advice, advice_of
from .draws import draws_of
from .psis import ENOUGH, Trust, smoothed, trust

if TYPE_CHECKING:
    from arviz import InferenceData

Method = Literal["auto", "exact", "guide", "psis", "importance"]
POOR = 0.1  # of the draws: an effective number below says that q is far from the posterior
GUIDE_DRAWS = 200  # that say what q is worth beside exact draws
PROPOSALS = 10  # for each draw that importance resampling keeps


@dataclass(frozen=True, repr=False)
class Posterior(Displayable):
    """Result of `vb.posterior`: draws of the latents given data, and what they are worth; on the CPU.

    Attributes:
        draws: Site → (S, …) values.
        method: Where they are from: "exact", "guide", "psis" or "importance".
        pair, data: Names.
        log_density: (S, *local) of each draw in nats, normalised; of the sites together, `*local` as in `Particles`. Where the exact posterior is
            given site by site, or draws were resampled, None.
        effective: (*local) the number of independent draws from the posterior that they are worth by their importance weights (Kong 1992): of S that were resampled by weights
            worth E, S E / (S + E). None for exact ones.
        guide_effective: (*local) the same of 200 draws of the guide, beside exact ones: what q is worth, that the exact draws do not show. None for others, and
            where the guide has no density.
        uncovered: Sites of which the guide can't draw all values: importance weights can't see what it leaves out.
        k_hat: Pareto k̂ of the weights, of the worst datum; None where draws of the guide are worth so many that it needs no look, and for exact ones.
        trust: What the weights say: "good", "reweight" or "bad", of nine of ten data, as `vb.diagnose` has it of more draws; that of the diagnosis, where a fit has one of these data; None for
            exact draws.
        different: Least number of different draws among those that were resampled, over the data; None for others.
        dims: Site → names of its dimensions: its plates.
        labels: Dimension → its labels, where the data have some (the rule is that of `vb.to_arviz`).
        guide: What it is, in words; empty for one of a user's own.
        advice: What to do with draws of the guide, as the verdict of a fit has it; None for exact ones that q is near to.
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
        """The draws, their sites with shapes, and what they are worth."""
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
        """Site → the value below which a part q of its draws lies."""
        return {name: values.double().quantile(q, dim=0) for name, values in self.draws.items()}

    def to_arviz(self) -> InferenceData:
        """ArviZ's own object, with one chain and the group `posterior`; plates have their names, and the labels that the data have."""
        from ..export import arviz as export

        arrays: dict[str, np.ndarray] = {name: values.cpu().numpy()[None] for name, values in self.draws.items()}
        dims = {name: own for name, own in self.dims.items() if name in arrays and len(own) == arrays[name].ndim - 2}
        return export.from_arrays({"posterior": arrays}, dims=dims, coords=self.labels)

    def verdict(self) -> str:
        """In a sentence, or two where the guide can't be trusted."""
        return self._worth() + missed(self.uncovered)

    def _worth(self) -> str:
        if self.effective is None:
            text = f"{len(self)} draws from the exact posterior, each latent by itself."
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
    """Draws of the latents given data: exact where the pair knows its posterior, otherwise from the guide.

    Either way the verdict says what q is worth, for exact draws are as good after a fit that went wrong; and whether q can draw all that the model allows, for
    weights can't see what it leaves out. Sites that the model sums out are summed out in the weights, and drawn from their conditional given the rest: they used to be drawn
    from the prior, and such weights were worth next to nothing.

    Args:
        pair: Model and guide; a fit brings its data.
        data: As for `fit`; new rows are welcome where the guide computes q from a row.
        draws: S.
        method: "exact", each latent from its own marginal; "guide"; "importance", draws from the guide that are resampled by their weights, for each
            datum by itself where it has latents of its own (Rubin 1987); "psis", the same by Pareto-smoothed weights (Vehtari et al. 2024, arXiv:1507.02646), which is better
            in nearly all cases; "auto": exact where the pair has a closed form, else the guide.
        proposals: K that "psis" and "importance" draw; 10 for each of S if None.
        seed: Of everything.
        device: As for `fit`; what was trained stays where it is under "auto".

    Raises:
        BadInput: An unknown method, or fewer than two draws.
        BadPair: Model and guide do not fit together, or not with the data.
        Unsuitable: No closed form, or a guide without densities.

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
            f"Pair {pair.name!r} knows no exact posterior. Wanted: a pair with exact=vb.Exact(...), or method='guide'."
        )
    weighted = method in ("importance", "psis")
    made = draws_of(pair, batch, (proposals or PROPOSALS * draws) if weighted else draws, seed)
    effective = _effective(made.log_w)
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
    """k̂ of the datum whose K draws are worth least, unless they are worth so much that nobody need look; and what to do with them by what nine of ten data have, or better."""
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
    """(*local) what draws of the guide are worth; None where it has no density."""
    try:
        return _effective(draws_of(pair, batch, GUIDE_DRAWS, rng.child(seed, 2)).log_w)
    except Unsuitable:
        return None
