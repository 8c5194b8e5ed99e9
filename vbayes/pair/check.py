"""A look at a pair before it is fitted: what each site is, and whether it can work at all."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import astuple, dataclass
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from rich.console import Console
from rich.table import Table

from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..errors import BadPair
from ..guides import in_words
from ..progress import Terminal
from ..summaries.card import Card, Displayable, first_few
from ..summaries.tables import plain_table
from ..validation import validation
from .agreement import match, quoted, weigh
from .explained import FAILURES, explained
from .gaps import check_gaps, require_masked
from .pair import DATA_PLATE, Pair
from .paired import Model, is_trained, pair_of
from .sites import base, closed_form_kls, has_path, kind, plates, recorded, sites
from .support import coverages

UNLIKE = "Site {site!r} of pair {pair!r}: the support of the guide's {ours} is {found}, compared with that of the model's {theirs}. {so}"
SO = {
    "smaller": "The ELBO stays a bound, but what the guide leaves out no weight of its draws can show. Use a guide over the model's support.",
    "larger": "Where it draws what the model excludes, the ELBO is -inf or none. Use a guide over the model's support.",
    "of another kind": "A probability and a density can't be compared, so their ELBO is none. Use a guide of the model's kind.",
}
SO["overlapping"] = (
    f"{SO['larger'].split('. ')[0]}; and what it leaves out no weight of its draws can show. Use a guide over the model's support."
)
HEADINGS = ("site", "shape", "plates", "scale", "reparameterised?", "analytic KL?", "in the guide?", "guide's support")


@dataclass(frozen=True)
class Site:
    """One row of the table that `check` prints.

    Attributes:
        name: The site.
        shape: Of its value.
        plates: Name and size of each plate around it.
        scale: Factor on its log-density (N/M in a minibatch).
        reparameterised: Whether its draw has a pathwise gradient; empty for observed sites.
        analytic_kl: "yes" where `AnalyticKL` uses a closed form, else "sampled"; empty for observed sites.
        in_guide: "yes", "observed" (data alone), "deterministic", "factor", "auxiliary" for sites of the guide alone, "summed out" for enumerated sites of the
            model alone.
        support: Of the guide beside the model's: "same", "smaller" (what the guide leaves out no weight of its draws can show), "larger", "overlapping",
            or "of another kind"; empty where there is nothing to compare, as for a point mass.
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
    """Result of `vb.check`: the pair's sites, those of the guide first; and the guide in words, empty for one of a user's own."""

    pair: str
    sites: tuple[Site, ...]
    guide: str = ""

    @property
    def data_plate(self) -> bool:
        """Whether any site is in the plate `"data"`, which minibatches need."""
        return any(name == DATA_PLATE for site in self.sites for name, _ in site.plates)

    def card(self) -> Card:
        """The sites with their shapes, and what an estimator may have to do without."""
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
        """As a rich table; with a column for supports where the guide has another one than the model."""
        columns = len(HEADINGS) - all(site.support in ("", "same") for site in self.sites)
        table = plain_table(*HEADINGS[:columns], title=f"pair {self.pair!r}, guide: {self.guide or 'its own'}")
        for site in self.sites:
            name, shape, frames, scale, *rest = astuple(site)[:columns]
            where = ", ".join(f"{plate}[{size}]" for plate, size in frames) or "–"
            table.add_row(name, str(shape), where, f"{scale:g}", *rest)
        return table


@takes()
def check(pair: Model, *batch: Any, show: bool = True) -> Check:
    """Draws once from guide and model and reports on each site.

    Supports are compared both ways. A guide that can't draw all that the model allows (a `Uniform` or `LogNormal` for a `Normal` latent) is warned of: its
    weights look well, for they can't see what they miss.

    Args:
        pair: Model and guide; a model alone, whose guide comes by itself; or a fit, which brings its data.
        batch: Data, as for `vb.fit`; or the arguments that model and guide are called with.
        show: Print the table.

    Raises:
        BadPair: A site that only one of the two has, shapes that differ, a value outside its site's support, or a model that takes no data.

    Examples:
        >>> vb.check(pair, x)
        >>> vb.check(pair, table)
    """
    trained = pair.data if is_trained(pair) else None
    batch = batch or (() if trained is None else (trained,))
    pair = pair_of(pair)
    if batch:
        require_arguments(pair)
    if len(batch) == 1 and not isinstance(batch[0], (int, float)) and getattr(batch[0], "ndim", None) != 0:
        data = Dataset.of(batch[0], like=pair.trained_on if trained is None else trained)
        check_gaps(pair, data if pair.device is None else data.to(pair.device), None)
        batch = data.batch(pair.model).args
        if show:
            say_left_out(pair, data)
    found = examine(pair, Batch(batch))
    if show:
        Console().print(found.table())
    return found


def examine(pair: Pair, batch: Batch) -> Check:
    """`check` for a batch that knows how many rows the whole data set has; prints nothing."""
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
            warnings.warn(
                UNLIKE.format(
                    pair=pair.name,
                    site=name,
                    ours=type(fns[0]).__name__,
                    theirs=type(fns[1]).__name__,
                    found=found,
                    so=SO[found],
                ),
                stacklevel=2,
            )
    own = [s for s in recorded(q) if s["name"] not in p]
    return Check(pair.name, tuple(_row(s, q, closed, supports) for s in own + recorded(p)), in_words(pair.guide))


def say_left_out(pair: Pair, data: Dataset) -> None:
    """A line on the columns of a table that the model does not ask for, if there are any."""
    if names := data.left_out(pair.model):
        Terminal().print(
            f"Left out, as {pair.name!r} has no arguments of these names: {', '.join(names)}.", markup=False
        )


def initialised(pair: Pair, batch: Batch) -> Pair:
    """The pair, with the parameters that it makes of this batch.

    Raises:
        BadPair: It does not run on it.
    """
    with explained(pair, batch):
        pair.initialise(batch)
    return pair


def examine_minibatches(pair: Pair, data: Dataset, size: int | None) -> Check:
    """`examine` for a pair that is to see `size` rows of a data set at a time; None stands for all.

    Raises:
        BadPair: As `examine`, or minibatches would not do what the whole data set does.
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
    if isinstance(pair.guide, AutoGuide) and local and not _looks_rows_up(pair, data, size):
        raise BadPair(
            f"{whole} {type(pair.guide).__name__} has parameters for the rows of one minibatch only: all others would share "
            f"their {quoted(local)}. Leave batch_size out, hand {type(pair.guide).__name__} create_plates=lambda ..., rows: pyro.plate('data', {len(data)}, subsample=rows), with the "
            "same plate in the model, or write a guide that computes them from a row (as "
            "vb.pairs.vae) or looks them up by its number (an argument `rows`, as vb.pairs.mean_field)."
        )
    if size > 1 and (moved := _sized_by_the_batch(pair, data, size - 1)):
        raise BadPair(
            f"{whole} the parameters {quoted(moved)} of pair {pair.name!r} are as large as the minibatch, so different "
            "rows would share them. Leave batch_size out, or look them up by the row's number (an argument `rows`, as "
            "vb.pairs.mean_field)."
        )
    return found


def require_arguments(pair: Pair) -> None:
    """Raises `BadPair` where the model takes nothing that data could be handed in by."""
    try:
        parameters = inspect.signature(getattr(pair.model, "forward", pair.model)).parameters
    except (TypeError, ValueError):
        return
    if not parameters:
        raise BadPair(
            f"Model {pair.name!r} takes no arguments, so no data can be handed to it. Write it as `def {pair.name}(x): ... obs=x`, the guide too, and hand the data in: "
            "vb.fit(pair, x). vb.SVI takes model and guide as they are, and vb.check(pair) looks at them."
        )


def require_parameters(pair: Pair) -> None:
    """Raises `BadPair` where there is nothing to learn."""
    if not pair.parameters:
        raise BadPair(
            f"Pair {pair.name!r} has no parameters: there is nothing to learn. Give the guide (or the model) some, by "
            "pyro.param, pyro.module, a PyroModule or an autoguide."
        )


def _looks_rows_up(pair: Pair, data: Dataset, size: int) -> bool:
    """Whether an autoguide's plate is told which rows of all it sees (`create_plates`): it has parameters for all, and takes those."""
    batch = data.batch(pair.model, torch.arange(size, device=data.first.device))
    with pair.look(), torch.no_grad(), validation(False):
        q = pyro.poutine.trace(pair.guide).get_trace(*batch.args)
    frames = [frame for site in sites(q) for frame in plates(site) if frame.name == DATA_PLATE]
    if DATA_PLATE not in q or any(frame.full_size != len(data) for frame in frames):
        return False
    rows: Any = q.nodes[DATA_PLATE]
    # A plate that is told its rows has no size to draw.
    told = rows["fn"].subsample_size is None
    return told and any(isinstance(a, torch.Tensor) and torch.equal(a, rows["value"]) for a in batch.args)


def _sized_by_the_batch(pair: Pair, data: Dataset, size: int) -> list[str]:
    """Parameters that have another shape where a pair first meets a batch of another size."""
    fresh = Pair(pair.model, pair.guide)
    try:
        fresh.initialise(data.batch(pair.model, torch.arange(size, device=data.first.device)))
    except FAILURES:
        return []  # it can't take such a batch, and training will say so
    shapes = {name: value.shape for name, value in pair.parameters.items()}
    return [name for name, value in fresh.parameters.items() if shapes.get(name, value.shape) != value.shape]


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
