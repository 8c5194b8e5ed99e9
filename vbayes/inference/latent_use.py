"""Which dimensions of a latent a guide uses."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch.distributions import Independent, kl_divergence

from .. import rng
from ..arguments.takes import takes
from ..drawing.summed import Summed
from ..errors import Unsuitable
from ..pair.pair import DATA_PLATE
from ..pair.paired import Model, require_guide_of_rows
from ..pair.problem import Problem
from ..pair.sites import is_point_mass, latents, plates, sites, summed_out
from ..validation import validation

COLLAPSED = 0.01  # nats per datum, below which a dimension says nothing of x
ACTIVE = 0.01  # variance of the mean over the data, above which a dimension is active (Burda et al. 2016, section 5.2)


@takes()
def latent_use(pair: Model, data: Any = None, *, seed: int | None = None) -> pd.DataFrame:
    """Measures how much each dimension of a latent is used, by its KL and its activity.

    Args:
        pair: A pair with latents for each row, in the plate "data", whose KL has a closed form; a fit brings its data.
        data: As for `fit`.
        seed: Seed for the draws that downstream sites depend on.

    Returns:
        One row for each site and dimension: `kl`, from q(z|x) to the prior, in nats per datum; `variance_of_mean`, the variance of E[z|x] over the data; `active`, whether that is above 0.01
        (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519); `collapsed`, whether the KL is below 0.01.

    Raises:
        BadInput: There are no data.
        Unsuitable: The pair has no such latent.

    Examples:
        >>> use = vb.latent_use(vb.fit(vb.pairs.vae(latent=20), vb.data.digits(), epochs=50, batch_size=100))
        >>> int(use.active.sum()), use.dimension[use.collapsed].tolist()
    """
    problem = Problem.of(pair, data)
    pair = problem.pair
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        q, p = pair.run(problem.whole)
        summed = Summed(pair.model, problem.whole.args, {}, q, p).touched if summed_out(q, p) else ()
    if mixed := [site["name"] for site in sites(q) if site["name"] in summed]:
        raise Unsuitable(
            f"The prior of {', '.join(map(repr, mixed))} depends on latents that the model of pair {pair.name!r} sums out: it is a mixture, and the KL to a mixture has no closed form. Wanted: "
            "latents whose prior is one distribution."
        )
    tables = [
        table
        for site in latents(q)
        if site["name"] in p and (table := _of_site(site, p.nodes[site["name"]])) is not None
    ]
    if not tables:
        require_guide_of_rows(pair, "vb.latent_use")
        raise Unsuitable(
            f'Pair {pair.name!r} has no latent in the plate "{DATA_PLATE}" whose KL has a closed form. Wanted: one such as that of vb.pairs.vae().'
        )
    return pd.concat(tables, ignore_index=True)


def _of_site(site: Any, prior: Any) -> pd.DataFrame | None:
    if [frame.name for frame in plates(site)] != [DATA_PLATE] or is_point_mass(site["fn"]):
        return None
    ours, theirs = (_elementwise(s["fn"]) for s in (site, prior))
    try:
        kl, mean = kl_divergence(ours, theirs), ours.mean
    except NotImplementedError:
        return None
    rows = len(site["value"])
    kl, mean = (part.expand(site["value"].shape).reshape(rows, -1).double() for part in (kl, mean))
    variance = mean.var(0, correction=0)
    return pd.DataFrame(
        {
            "site": site["name"],
            "dimension": range(kl.shape[1]),
            "kl": kl.mean(0).tolist(),
            "variance_of_mean": variance.tolist(),
            "active": (variance > ACTIVE).tolist(),
            "collapsed": (kl.mean(0) < COLLAPSED).tolist(),
        }
    )


def _elementwise(fn: Any) -> Any:
    """The distribution without the event dimensions declared by `to_event`."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn
