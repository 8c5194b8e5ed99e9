"""Steps from scores at draws: the guide is a normal, and its update has a closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor

from .. import rng
from ..errors import Unsuitable
from ..guides import Auto, Full
from ..guides.whitened import density_of
from ..staging import Compiled
from ..staging.backends import backend_of
from ..updates.normals_of import normals_of
from .engine_words import engine_of
from .failure import Failure

NOISE = 7  # purpose of the child seed, distinct from those of other engines


class Matching:
    """An engine for updates by scores.

    Args:
        setup: A `Fit` whose update has `draws` and `match`; everything runs in the scope of its pair.
        taken: Steps so far.
        compiled: Whether to compile the scores to machine code, if possible.

    Attributes:
        scores: That machine code; None if there is none.

    Raises:
        Unsuitable: The guide is not a normal over all latents with a full covariance, or there are other parameters.
    """

    several = True
    failure: Failure | None = None

    def __init__(self, setup: Any, taken: int, *, compiled: bool) -> None:
        self._update, self._pair, self._taken = setup.optimizer, setup.pair, taken
        self._noise = rng.child(setup.seed, NOISE)
        guide, batch = setup.pair.guide, setup.data.batch(setup.pair.model)
        (self._normal,) = whole_normal(setup.pair, batch)
        with rng.seeded(0):
            self._density = density_of(setup.pair.model, setup.pair.beside(batch).args, {})
        assert list(self._density.sites) == list(guide._unconstrained_shapes)
        like = self._density.start
        self._centre, self._root = torch.zeros_like(like), torch.eye(len(like), dtype=like.dtype, device=like.device)
        if isinstance(guide, Full | Auto):
            root = guide.root.to(like)
            self._centre, self._root = guide.centre.to(like), root if root.dim() == 2 else root.diag()

        self.scores: Compiled | None = None
        if compiled and self._density.captured:
            example = like.expand(self._update.draws, -1).contiguous()
            self.scores = Compiled(self._density.with_gradients, example, backend=backend_of(setup.compile))
        self._volume = torch.linalg.slogdet(self._root)[1]

    @property
    def how(self) -> str:
        """What takes the steps; see `engine_of`."""
        if self.scores:
            return engine_of([self.scores])
        return "interpreted: not asked for" if self._density.captured else "Pyro: the model's density can't be captured"

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: an estimate of the ELBO before each, in nats."""
        elbos: list[float] = []
        while len(elbos) < count and (elbo := self._step(self._taken + 1)) is not None:
            elbos.append(elbo)
            self._taken += 1
        return elbos

    @torch.no_grad()
    def _step(self, step: int) -> float | None:
        leaves = [self._pair.leaves[name] for name in self._normal.names]
        mean, root = self._normal.read(*(leaf.detach().double() for leaf in leaves))
        noise = torch.randn(
            self._update.draws, len(mean), generator=rng.stream(self._noise, step), dtype=torch.float64, device="cpu"
        ).to(mean)
        draws = mean + noise @ root.mT
        numbers = self._centre + draws @ self._root.mT
        log_p, slopes = (self.scores or self._density.with_gradients)(numbers)
        scores, elbo = slopes @ self._root, float((log_p - self._log_q(noise, root)).mean())
        values = self._next(mean, root, draws, scores, step)
        if not (torch.isfinite(scores).all() and abs(elbo) < float("inf")):
            self.failure = Failure("gradient" if abs(elbo) < float("inf") else "ELBO")
        elif not all(torch.isfinite(value).all() for value in values):
            self.failure = Failure("step", parameters=self._normal.names)
        if self.failure:
            return None
        for leaf, value in zip(leaves, values, strict=True):
            leaf.data = value.to(leaf)
        return elbo

    def _next(self, mean: Tensor, root: Tensor, draws: Tensor, scores: Tensor, step: int) -> tuple[Tensor, ...]:
        try:
            return self._normal.write(*self._update.match(mean, root, draws, scores, step))
        except torch.linalg.LinAlgError:  # raised for NaN
            return (mean + torch.nan,)

    def _log_q(self, noise: Tensor, root: Tensor) -> Tensor:
        """(B,) log-densities of the guide's draws, in the model's unconstrained space."""
        wide = self._volume + root.diagonal().log().sum()
        return -(noise.square() + math.log(2 * math.pi)).sum(1) / 2 - wide

    def look_again(self) -> None:
        """Nothing to check: the density is assumed unchanged since its capture, as with guides chosen by name."""

    def finish(self) -> None:
        """Nothing to do, as the pair is always up to date."""


def whole_normal(pair: Any, batch: Any) -> tuple[Any]:
    """The single normal of a guide over all latents.

    Raises:
        Unsuitable: There is none, or there are other parameters to learn.
    """
    guide = pair.guide
    full = isinstance(guide, Full | AutoMultivariateNormal) or (isinstance(guide, Auto) and guide.kind is Full)
    normals = normals_of(pair, batch) if full else ()
    if not full or len(normals) != 1:
        raise Unsuitable(
            f"The guide of pair {pair.name!r} is not a normal over all latents with a full covariance, which this update needs. Wanted: guide='full', or "
            "Pyro's AutoMultivariateNormal. Fix: guide='full', or update=vb.NaturalGradient()."
        )
    if others := [name for name in pair.leaves if name not in normals[0].names]:
        raise Unsuitable(
            f"Pair {pair.name!r} has parameters besides those of its guide's normal, such as {others[0]!r}, which this update can't learn. Wanted: a model "
            "without parameters. Fix: give them a prior, or use update=vb.NaturalGradient(), which updates them by Adam."
        )
    return (normals[0],)
