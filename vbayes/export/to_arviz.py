"""Draws from a trained pair, as arrays and as ArviZ's data object."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from pyro.distributions import ImproperUniform
from pyro.infer import ELBO
from torch import Tensor

from .. import rng
from ..arguments import kind as arguments
from ..arguments.choice import TEXT
from ..arguments.instance import Instance
from ..arguments.kind import Anything, Mapped, Optional, Several
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.dataset import Batch, Dataset
from ..drawing.densities import guide_density
from ..drawing.summed import Summed, log_likelihood
from ..errors import Unsuitable
from ..estimators import name_of
from ..pair.explained import explained
from ..pair.gaps import check_gaps
from ..pair.missing import GIVEN
from ..pair.pair import Pair
from ..pair.paired import Trained
from ..pair.sites import Layout, Term, base, is_point_mass, kind, latents, observed, recorded, sites, summed_out
from ..pair.subsample import refuse, subsample
from ..staging.many import many
from ..validation import validation
from . import arviz as export
from .names import PROBABILITY, Names
from .observed import observed_alone
from .weights import resampled, statistics

if TYPE_CHECKING:
    from arviz import InferenceData  # on 1.x it is `xarray.DataTree`, and ArviZ has no types there

Arrays = dict[str, np.ndarray]
RESAMPLING = 1  # purpose of a seed derived from that of the draws
COORDS, DIMS = Optional(Mapped(Anything())), Optional(Mapped(Several(TEXT, 0)))


@runtime_checkable
class Predicted(Protocol):
    """Result of `predict`: `xarray.Dataset`s of draws, and of the arguments of the model."""

    @property
    def draws(self) -> Any: ...
    @property
    def constant(self) -> Any: ...


@runtime_checkable
class Fitted(Trained, Protocol):
    """A trained pair with its estimator: a `Fit`."""

    @property
    def estimator(self) -> ELBO: ...


def sample(pair: Pair, batch: Batch, draws: int, *, seed: int | None = None, prior: bool = True) -> dict[str, Arrays]:
    """Draws from the guide, the model given those, and the prior.

    Args:
        pair: Model and guide.
        batch: Their arguments. Its `total` is not used, as nothing is scaled here.
        draws: Number of draws, S.
        seed: Seed for the draws.
        prior: Whether to draw from the prior too, if that is possible (unlike for Pyro's `ImproperUniform`).

    Returns:
        ArviZ's group → variable → (1, S, *shape) array; `observed_data` without the first two axes.
        `sample_stats` has log_p = log p(x, z) and log_q = log q(z), summed over all sites; and log_weight and pareto_k, of each datum where each has latents of its own. What `pyro.deterministic` computes
        stands beside the draws that it was computed from. A site that the model draws and the guide does not, as one without its
        data (`model(x, y=None)`), is predicted: it stands in the predictive groups, and is in neither density.
    """
    batch = Batch(batch.args)
    pair = pair.copy()  # drawing changes the running statistics of some modules
    device = batch.args[0].device if batch.args else torch.device("cpu")
    with pair.scope(), rng.seeded(seed), torch.no_grad(), validation(False):
        rows = many(functools.partial(_one, pair, batch, prior), draws, device)
        _, p = pair.run(batch)
    groups: dict[str, Arrays] = {}
    log_w = rows.pop(("", "log_w"), None)
    for (group, name), values in rows.items():
        groups.setdefault(group, {})[name] = values[None].cpu().numpy()
    if log_w is not None:
        groups["sample_stats"] |= {name: values[None] for name, values in statistics(log_w.cpu().numpy()).items()}
    groups["observed_data"] = {
        s["name"]: s["infer"].get(GIVEN, s["value"]).cpu().numpy() for s in observed(p)
    }  # gaps too
    return groups


def _one(pair: Pair, batch: Batch, prior: bool) -> dict[tuple[str, str], Tensor]:
    """(group, variable) → its value in one draw."""
    found: dict[tuple[str, str], Tensor] = {}

    def keep(group: str, name: str, value: Any) -> None:
        found[group, name] = torch.as_tensor(value)

    q, p = pair.run(batch)
    if part := subsample(q, p):
        raise refuse(pair, part, "draws do not refer to the same rows")
    summed = Summed(pair.model, batch.args, {}, q, p) if summed_out(q, p) else None
    apart = set(summed_out(q, p))
    predicted = {s["name"] for s in latents(p) if s["name"] not in q and s["name"] not in apart}
    given = functools.partial(_is_given, predicted)
    keep("sample_stats", "log_p", p.log_prob_sum(given) if summed is None else summed.log_p())
    keep("sample_stats", "log_q", q.log_prob_sum())
    if not all(is_point_mass(site["fn"]) for site in latents(q)):
        shared = Layout(q, p)
        known = [Term.of(site, shared) for site in sites(p)] if summed is None else summed.terms(shared)
        terms = [term for term in known if term.name not in predicted]
        keep("", "log_w", shared.total(terms).double() - guide_density(q, shared).double())
    if summed is not None:
        q, p = summed.together(q)
        for name, values in summed.probabilities().items():
            keep("posterior", name + PROBABILITY, values)
    data = {s["name"] for s in observed(p)}
    for site in recorded(p):
        if site["name"] in data:
            each = summed.log_likelihood(site) if summed else log_likelihood(site)
            keep("log_likelihood", site["name"], each)
        elif kind(site) != "factor" and site["name"] not in predicted:
            keep("posterior", site["name"], site["value"])
    made = pair.generate(batch, q)
    for name in (s["name"] for s in sites(p) if s["name"] in data | predicted):
        keep("posterior_predictive", name, made.nodes[name]["value"])
    for site in recorded(pair.generate(batch)) if prior and not _improper(p) else ():
        if kind(site) != "factor":
            group = "prior_predictive" if site["name"] in data | predicted else "prior"
            keep(group, site["name"], site["value"])
    return found


def _is_given(predicted: set[str], name: str, _: Any) -> bool:
    return name not in predicted


def _improper(p: Any) -> bool:
    """Whether some latent of the model has an improper density."""
    return any(isinstance(base(site["fn"]), ImproperUniform) for site in sites(p))


PREDICTED = Instance(Predicted, "a vb.Prediction", "fit.predict(new_rows)")


@takes(draws=Whole(1, drawn=True), predictions=Optional(PREDICTED), coords=COORDS, dims=DIMS)
def to_arviz(
    fit: Fitted | Sequence[Fitted],
    data: Any = None,
    *,
    draws: int = 1000,
    seed: int | None = None,
    prior: bool = True,
    resample: bool = False,
    predictions: Predicted | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
) -> InferenceData:
    """Converts a fit to ArviZ's data object: `InferenceData` on ArviZ 0.23, `xarray.DataTree` on 1.x.

    Groups: posterior, posterior_predictive, log_likelihood, observed_data, constant_data (the columns that the model is called with and does not observe), prior, prior_predictive,
    and sample_stats with
    log_p and log_q, which PSIS and LOO for draws from q need; log_weight, the logarithm of Pareto-smoothed weights that add up to one over the draws; and pareto_k, their k̂ (for a guide
    with a density). Dimensions have the names of the plates, and the labels of the data: a plate of groups has the labels of the column that indexes it in the model, as
    in `a[county]`, or else of the column with its name; the plate of the data has the labels of a column that the model does not take, if they are unique.
    All other dimensions are numbered, unless `coords` gives their labels. Values left out by a mask have no log_likelihood, and LOO does not count them as data.

    A site k that the model sums out is drawn from its conditional given the other draws and the data, and the probabilities of its
    values are added as `k_probability`; in log_p and log_likelihood it is summed out, in the latter as far as each row has its own.

    Args:
        fit: A fit from `vb.fit`, or several fits of one pair, which become chains.
        data: The rows; those of the fit if None. Draws × rows × features numbers are kept in memory.
        draws: S, the number of draws, in one chain per fit, as draws from q are independent.
        seed: Seed for the draws.
        prior: Whether to draw from the prior too, if it can be drawn from (unlike Pyro's `ImproperUniform`).
        resample: Whether to resample the S draws by those weights, with replacement, so that they can be used like equally weighted draws; use it where `vb.diagnose` says "reweight". Draws
            of each datum that has its own latents are resampled separately, and variables shared by all data are then left out; so are always log_p, log_q and log_weight.
        predictions: Predictions from `fit.predict(new_rows)`, for the groups predictions and predictions_constant_data.
        coords: Dimension → its labels, instead of those of the data.
        dims: Variable → names of all its dimensions, or of those not named by a plate.

    Raises:
        BadInput: `draws` is 0, or the data do not match the pair.
        Unsuitable: `resample` was requested for a guide that is a point.

    Examples:
        >>> idata = vb.to_arviz(fit)
        >>> az.summary(idata)
        >>> vb.to_arviz(fit, predictions=fit.predict(new_rows), coords={"county": names})
    """
    fits = [fit] if isinstance(fit, Fitted) else list(fit) if isinstance(fit, Sequence) else []
    if not fits or not all(isinstance(one, Fitted) for one in fits):
        arguments.refuse(
            "fit", fit, wanted="a vb.Fit, or a list of several fits of one pair", mend="vb.to_arviz(vb.fit(pair, data))"
        )
    fit, seed = fits[0], rng.or_default(seed)
    dataset = (fit.data if data is None else Dataset.of(data, like=fit.data)).to(fit.data.first.device)
    if data is not None:
        check_gaps(fit.pair, dataset, None)
    batch = dataset.batch(fit.pair.model)
    with explained(fit.pair, batch):
        names = Names(fit.pair, batch, dataset)
    named = names.dims(dims or {})
    groups: dict[str, Arrays] = {}
    for number, one in enumerate(fits):
        own = seed if number == 0 else rng.child(seed, number)
        with explained(one.pair, batch):
            made = sample(one.pair, batch, draws, seed=own, prior=prior)
        if resample:
            made = _resampled(one.pair, made, named, rng.child(own, RESAMPLING))
        for group, variables in made.items():
            into = groups.setdefault(group, {})
            for name, values in variables.items():
                chained = name in into and group != "observed_data"
                into[name] = np.concatenate([into[name], values]) if chained else values
    attributes = {
        "pair": fit.pair.name,
        "estimator": name_of(fit.estimator),
        "inference_library": "vbayes",
        "seed": seed,
    }
    if resample:
        attributes["resampled"] = "by Pareto-smoothed weights"
    if (diagnosis := getattr(fit, "diagnosis", None)) is not None:
        attributes["trust"] = diagnosis.short()
    labels = names.labels(coords or {}, named)
    ready = {"constant_data": names.constant(labels)}
    if predictions is not None:
        ready["predictions"] = predictions.draws.expand_dims("chain").assign_coords(chain=[0])
        ready["predictions_constant_data"] = predictions.constant
    if (counted := names.counted()) and "log_likelihood" in groups:
        observed_ones = observed_alone(groups.pop("log_likelihood"), counted, named, labels)
        ready["log_likelihood"] = export.dataset("log_likelihood", *observed_ones)
    ready = {group: made for group, made in ready.items() if made.data_vars}
    return export.from_arrays(groups, dims=named, coords=labels, attrs=attributes, ready=ready)


def _resampled(pair: Pair, groups: dict[str, Arrays], dims: Mapping[str, list[str]], seed: int) -> dict[str, Arrays]:
    if "log_weight" not in groups["sample_stats"]:
        raise Unsuitable(
            f"The guide of pair {pair.name!r} is a point: its draws have no weights to resample them by. Wanted: a guide with a density, or resample=False."
        )
    return resampled(groups, dims, dims["log_weight"], np.random.default_rng(seed))
