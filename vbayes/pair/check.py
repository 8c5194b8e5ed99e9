"""Checks a pair before it is fitted: describes each site, and finds errors."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from rich.console import Console
from rich.table import Table

from ..arguments.takes import takes
from ..data.dataset import MISSING, Batch, Dataset, Missing
from ..errors import BadPair, warn
from ..guides import in_words
from ..progress import Terminal
from ..summaries.card import Card, Displayable, first_few
from ..summaries.tables import plain_table
from ..validation import validation
from .agreement import match, quoted, weigh
from .explained import explained
from .gaps import check_gaps, require_masked
from .groups import warn_of_groups
from .growth import looks_rows_up, rows_outside_the_plate, sized_by_the_batch
from .observations import require_arguments, require_observations
from .pair import DATA_PLATE, Pair
from .paired import Model, is_trained, pair_of
from .sites import base, closed_form_kls, has_path, kind, plates, recorded
from .support import coverages

UNLIKE = "Site {site!r} of pair {pair!r}: the support of the guide's {ours} is {found}, compared with that of the model's {theirs}. {so}"
SO = {
    "smaller": "The ELBO is still a bound, but the weights of the guide's draws can't reveal what it leaves out. Use a guide over the model's support.",
    "larger": "If it draws a value that the model excludes, the ELBO is -inf or undefined. Use a guide over the model's support.",
    "of another kind": "A probability and a density can't be compared, so there is no ELBO. Use a guide of the same kind as the model.",
}
SO["overlapping"] = (
    f"{SO['larger'].split('. ')[0]}; and the weights of its draws can't reveal what it leaves out. Use a guide over the model's support."
)
HEADINGS = ("site", "shape", "plates", "scale", "reparameterised?", "analytic KL?", "in the guide?", "guide's support")


@dataclass(frozen=True)
class Site:
    """One row of the table that `check` prints.

    Attributes:
        name: Name of the site.
        shape: Shape of its value.
        plates: Name and size of each plate around it.
        scale: Factor on its log-density (N/M in a minibatch).
        reparameterised: Whether its draw has a pathwise gradient; empty for observed sites.
        analytic_kl: "yes" where `AnalyticKL` uses a closed form, else "sampled"; empty for observed sites.
        in_guide: "yes", "observed" (only data), "deterministic", "factor", "auxiliary" for sites only in the guide, "summed out" for enumerated sites only in the
            model.
        support: The guide's support compared with the model's: "same", "smaller" (weights of the guide's draws can't reveal what it leaves out), "larger", "overlapping",
            or "of another kind"; empty if there is nothing to compare, as for a point mass.
    """

    name: str
    shape: tuple[int, ...]
    plates: tuple[tuple[str, int], ...]
    scale: float
    reparameterised: str
    analytic_kl: str
    in_guide: str
    support: str = ""


@dataclass(frozen=True, repr=False)
class Check(Displayable):
    """Result of `vb.check`: the pair's sites, those of the guide first; and a description of the guide, empty for a user-defined one."""

    pair: str
    sites: tuple[Site, ...]
    guide: str = ""

    @property
    def data_plate(self) -> bool:
        """Whether any site is in the plate `"data"`, which minibatches need."""
        return any(name == DATA_PLATE for site in self.sites for name, _ in site.plates)

    def card(self) -> Card:
        """The sites with their shapes, and properties that limit the choice of estimators."""
        kinds: dict[str, list[Site]] = {}
        for site in self.sites:
            kinds.setdefault("latent" if site.in_guide == "yes" else site.in_guide, []).append(site)
        rows = [(kind, first_few(f"{site.name} {site.shape}" for site in own)) for kind, own in kinds.items()]
        frames = dict.fromkeys(frame for site in self.sites for frame in site.plates)
        rows.append(("plates", first_few(f"{name}[{size}]" for name, size in frames)))
        if rough := [site.name for site in self.sites if site.reparameterised == "no"]:
            rows.append(("score alone", first_few(rough)))
        if odd := [f"{site.name}: {site.support}" for site in self.sites if site.support not in ("", "same")]:
            rows.append(("guide's support", first_few(odd)))
        if self.guide:
            rows.append(("guide", self.guide))
        return Card(f"Check: {self.pair}", tuple(rows))

    def table(self) -> Table:
        """The sites as a rich table, with a column for supports if those of guide and model differ."""
        columns = len(HEADINGS) - all(site.support in ("", "same") for site in self.sites)
        table = plain_table(*HEADINGS[:columns], title=f"pair {self.pair!r}, guide: {self.guide or 'its own'}")
        for site in self.sites:
            name, shape, frames, scale, *rest = astuple(site)[:columns]
            where = ", ".join(f"{plate}[{size}]" for plate, size in frames) or "–"
            table.add_row(name, str(shape), where, f"{scale:g}", *rest)
        return table


@takes(missing=MISSING)
def check(pair: Model, *batch: Any, show: bool = True, missing: Missing = "error") -> Check:
    """Checks a pair by drawing once from guide and model, and reports on each site.

    Supports are compared in both directions. Warns if the guide can't draw all values that the model allows (such as a `Uniform` or `LogNormal` for a `Normal` latent): its
    importance weights may look good, as they can't reveal what is missing.

    Args:
        pair: Model and guide; a model alone, for which a guide is made; or a fit, which brings its data.
        batch: Data, as for `vb.fit`; or the arguments that model and guide are called with.
        show: Whether to print the table.
        missing: How to treat NaN, as for `vb.fit`: "error", or "mask", which leaves missing observations out of the likelihood.

    Raises:
        BadPair: A site is in only one of the two, shapes differ, a value is outside the support of its site, or the model takes no data.

    Examples:
        >>> vb.check(pair, x)
        >>> vb.check(pair, table)
    """
    trained = pair.data if is_trained(pair) else None
    batch, data = batch or (() if trained is None else (trained,)), None
    pair = pair_of(pair).masked() if missing == "mask" else pair_of(pair)
    if batch:
        require_arguments(pair)
    if len(batch) == 1 and not isinstance(batch[0], (int, float)) and getattr(batch[0], "ndim", None) != 0:
        data = Dataset.of(batch[0], like=pair.trained_on if trained is None else trained)
        require_observations(pair, data, None)
        check_gaps(pair, data if pair.device is None else data.to(pair.device), None)
        batch = data.batch(pair.model).args
        if show:
            say_left_out(pair, data)
    found = examine(pair, Batch(batch))
    if data is not None:
        warn_of_groups(pair, data if pair.device is None else data.to(pair.device))
    if show:
        Console().print(found.table())
    return found


def examine(pair: Pair, batch: Batch) -> Check:
    """`check` for a batch that knows the number of rows of the whole data set; prints nothing."""
    batch = pair.beside(batch)
    with explained(pair, batch):
        floats = [a for a in batch.args if isinstance(a, torch.Tensor) and a.is_floating_point()]
        if not all(torch.isfinite(a).all() for a in floats):
            require_masked(pair, batch, "The data have NaN or infinite values")
        pair.initialise(batch)
        with pair.look(), torch.no_grad(), validation(True):
            q, p = pair.run(batch)
    with explained(pair, batch), pair.look(), torch.no_grad(), validation(True):
        latents = match(pair, q, p)
        for site in recorded(q) + recorded(p):
            weigh(site, latent=site["name"] in latents)
        closed = closed_form_kls(q, p)
    supports = coverages(q, p)
    for name, found in supports.items():
        if found != "same":
            fns = [base(trace.nodes[name]["fn"]) for trace in (q, p)]
            warn(
                UNLIKE.format(
                    pair=pair.name,
                    site=name,
                    ours=type(fns[0]).__name__,
                    theirs=type(fns[1]).__name__,
                    found=found,
                    so=SO[found],
                )
            )
    own = [s for s in recorded(q) if s["name"] not in p]
    return Check(pair.name, tuple(_row(s, q, closed, supports) for s in own + recorded(p)), in_words(pair.guide))


def say_left_out(pair: Pair, data: Dataset) -> None:
    """Prints the columns of a table that are not arguments of the model, if there are any."""
    if names := data.left_out(pair.model):
        Terminal().print(
            f"Columns left out, as {pair.name!r} has no arguments with these names: {', '.join(names)}.", markup=False
        )


def initialised(pair: Pair, batch: Batch) -> Pair:
    """The pair, initialised with this batch.

    Raises:
        BadPair: The pair does not run on the batch.
    """
    with explained(pair, batch):
        pair.initialise(batch)
    return pair


def examine_minibatches(pair: Pair, data: Dataset, size: int | None) -> Check:
    """`examine` for a pair that gets minibatches of `size` rows of a data set; None for all rows.

    Raises:
        BadPair: As for `examine`, or minibatches would not be equivalent to the whole data set.
    """
    device = data.first.device
    found = examine(pair, data.batch(pair.model, None if size is None else torch.arange(size, device=device)))
    if size is None or size == len(data):
        return found
    whole = f"batch_size={size} of {len(data)} rows, but"
    if not found.data_plate:
        raise BadPair(
            f"{whole} no site of pair {pair.name!r} is in a plate named 'data', so a minibatch can't be scaled to the "
            'whole. Put the observations in pyro.plate("data", ...), or leave batch_size out.'
        )
    local = [site.name for site in found.sites if site.in_guide == "yes" and DATA_PLATE in dict(site.plates)]
    if isinstance(pair.guide, AutoGuide) and local and not looks_rows_up(pair, data, size):
        raise BadPair(
            f"{whole} {type(pair.guide).__name__} has parameters for the rows of one minibatch only, so all other rows would share "
            f"their {quoted(local)}. Leave batch_size out, pass {type(pair.guide).__name__} create_plates=lambda ..., rows: pyro.plate('data', {len(data)}, subsample=rows), with the "
            "same plate in the model, or write a guide that computes them from a row (as "
            "vb.pairs.vae) or looks them up by its number (an argument `rows`, as vb.pairs.mean_field)."
        )
    if size > 1 and (moved := sized_by_the_batch(pair, data, size - 1)):
        raise BadPair(
            f"{whole} the parameters {quoted(moved)} of pair {pair.name!r} are as large as the minibatch, so different "
            "rows would share them. Leave batch_size out, or look them up by the row's number (an argument `rows`, as "
            "vb.pairs.mean_field)."
        )
    if size > 1 and (outside := rows_outside_the_plate(pair, data, size)):
        raise BadPair(
            f"{whole} {quoted(outside)} of pair {pair.name!r} would grow with the minibatch outside of the plate 'data', without being scaled to the whole. "
            "Wanted: all that belongs to a row in one plate. Fix: rows = pyro.plate('data', ...), and `with rows:` wherever it is needed; or leave batch_size out."
        )
    return found


def require_parameters(pair: Pair) -> None:
    """Raises `BadPair` if there are no parameters to learn."""
    if not pair.parameters:
        raise BadPair(
            f"Pair {pair.name!r} has no parameters, so there is nothing to learn. Add some to the guide (or the model), with "
            "pyro.param, pyro.module, a PyroModule or an autoguide."
        )


def _row(site: Any, q: Any, closed: Any, supports: Any) -> Site:
    name, what = site["name"], kind(site)
    given = what != "latent"
    scale = site["scale"]
    latent = "" if given or name not in q else "yes" if name in closed else "sampled"
    return Site(
        name,
        tuple(site["value"].shape),
        tuple((f.name, f.size) for f in plates(site)),
        float(scale if isinstance(scale, (int, float)) else scale.max()),
        "" if given or name not in q else "yes" if has_path(q.nodes[name]) else "no",
        latent,
        ("observed" if what == "data" else what)
        if given
        else "summed out"
        if name not in q
        else "auxiliary"
        if q.nodes[name]["infer"].get("is_auxiliary")
        else "yes",
        supports.get(name, ""),
    )
