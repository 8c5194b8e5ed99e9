"""Encodes data with the guide and reconstructs them with the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from .. import rng
from ..arguments.takes import takes
from ..errors import BadInput, Unsuitable
from ..pair.missing import GIVEN
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..pair.sites import latents, observed, summed_out
from ..summaries.card import Card, Displayable, rounded


@dataclass(frozen=True, repr=False)
class Reconstruction(Displayable):
    """Result of `vb.reconstruct`: data, their codes, and the data reconstructed from them; on the CPU.

    Attributes:
        x: (N, *features) the data; NaN where a missing value is masked.
        code: (N, *latent) a draw from the guide; for a point mass, the code itself.
        mean: (N, *features) mean of the model's x given that code.
    """

    x: Tensor
    code: Tensor
    mean: Tensor

    @property
    def squared_error(self) -> Tensor:
        """(N,) |x − mean|² of each datum, over its known features, in squared units of the data."""
        error = torch.where(self.x.isnan(), 0.0, (self.x - self.mean).square())
        return error.reshape(len(error), -1).sum(1)

    def card(self) -> Card:
        """Shapes, and how far the reconstructions are from the data."""
        error = self.squared_error
        rows = (
            ("x", str(tuple(self.x.shape))),
            ("code", str(tuple(self.code.shape))),
            (
                "error",
                f"{rounded(float(error.mean()), 4)} squared per datum, {rounded(float(error.max()), 4)} at worst",
            ),
        )
        return Card("Reconstruction", rows)


@takes()
def reconstruct(pair: Model, data: Any = None, *, seed: int | None = None) -> Reconstruction:
    """Encodes data with the guide, and reconstructs them with the model.

    Args:
        pair: A pair with one latent and one observed site, such as an autoencoder or a variational autoencoder; a fit brings its data.
        data: Any rows, including new ones: a `Dataset`, or a tensor or array of shape (N, ...).
        seed: Seed for the draw, if the guide is random.

    Raises:
        BadInput: The pair has more sites, or the distribution of x has no mean.

    Examples:
        >>> vb.reconstruct(fit, held_out).squared_error.mean()
    """
    problem = Problem.of(pair, data)
    pair = problem.pair
    with pair.scope(), rng.seeded(seed), torch.no_grad():
        q, p = pair.run(problem.whole)
    latent, data = one_of_each(pair, q, p)
    try:
        mean = data["fn"].mean
    except NotImplementedError as error:
        raise BadInput(
            f"The distribution of {data['name']!r} in pair {pair.name!r} has no mean. Wanted: a distribution with a mean, such as Normal or Bernoulli."
        ) from error
    x = data["infer"].get(GIVEN, data["value"])  # gaps as gaps
    return Reconstruction(x.cpu(), latent["value"].detach().cpu(), mean.detach().cpu())


def one_of_each(pair: Pair, q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> tuple[Any, Any]:
    """The single latent site of the guide and the single observed site of the model.

    Raises:
        BadInput: There is not exactly one of each.
    """
    if names := summed_out(q, p):
        raise Unsuitable(
            f"The model of pair {pair.name!r} sums out {', '.join(map(repr, names))}, so a code alone does not determine the reconstruction. Wanted: a model whose latents are all "
            "in the guide; vb.posterior and vb.to_arviz draw the latents that are summed out."
        )
    latent, data = [site for site in latents(q) if site["name"] in p], observed(p)
    if len(latent) != 1 or len(data) != 1:
        names = [", ".join(s["name"] for s in some) or "none" for some in (latent, data)]
        raise BadInput(
            f"Pair {pair.name!r} has the latent sites {names[0]} and the observed sites {names[1]}. Wanted: one of each, so that there is one code and "
            "one reconstruction."
        )
    return latent[0], data[0]
