"""The evidence from draws of the guide: the ELBO and the importance-weighted bound, accumulated one weight at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..drawing.draw import draw, draw_one
from ..drawing.fields import PointMass
from ..drawing.request import Request
from ..errors import Unsuitable
from ..pair.pair import Pair
from ..progress import bar
from ..staging.many import in_chunks
from ..validation import validation

FEW = 10.0  # effective draws, of twice as many at least: below it an importance-weighted value depends on single draws
WEIGHTS = Request(frozenset({"log_p", "log_q"}))


@dataclass
class Weights:
    """Running sums of K log-weights: four numbers for each datum, however many weights there are.

    Attributes:
        count: Number of draws, K.
        mean, squares: Of log w: the mean and the sum of squared deviations (Welford 1962, doi:10.1080/00401706.1962.10490022).
        log_sum, log_sum_of_squares: log Σ w and log Σ w².
    """

    count: int
    mean: Tensor
    squares: Tensor
    log_sum: Tensor
    log_sum_of_squares: Tensor

    @classmethod
    def of(cls, weights: Iterable[Tensor]) -> Weights:
        """From log-weights, each (*local)."""
        return functools.reduce(cls.joined, (cls(1, w, torch.zeros_like(w), w, 2 * w) for w in weights))

    @classmethod
    def of_chunk(cls, log_w: Tensor) -> Weights:
        """From log-weights (k, *local)."""
        mean = log_w.mean(0)
        return cls(
            len(log_w), mean, (log_w - mean).square().sum(0), log_w.logsumexp(0), (2 * log_w).logsumexp(0)
        )  # fmt: skip

    def joined(self, other: Weights) -> Weights:
        """The sums over the weights of both (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115)."""
        count, away = self.count + other.count, other.mean - self.mean
        return Weights(
            count,
            self.mean + away * other.count / count,
            self.squares + other.squares + away.square() * self.count * other.count / count,
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_sum_of_squares, other.log_sum_of_squares),
        )

    def elbo(self) -> tuple[Tensor, Tensor]:
        """(*local) E log w, and its standard error."""
        return self.mean, (self.squares / max(self.count - 1, 1) / self.count).sqrt()

    def bound(self) -> tuple[Tensor, Tensor]:
        """(*local) log of the mean of w, and its standard error by the delta method: √(1/ESS − 1/K)."""
        spread = (self.log_sum_of_squares - 2 * self.log_sum).exp() - 1 / self.count
        return self.log_sum - math.log(self.count), spread.clamp(min=0.0).sqrt()

    def evidence(self) -> tuple[Tensor, Tensor]:
        """(*local) `bound`, with a standard error that is valid even if a few draws carry most of the weight.

        The delta method knows no error above 1, however far off the weights are. Where one of K carries all, the bound is their largest, whose spread is that of the largest of K
        normals, σ π / √(12 log K) (Gumbel's limit); by its share of the weights it counts where few do. Of one draw the error is infinite.
        """
        value, se = self.bound()
        if self.count == 1:
            return value, torch.full_like(value, math.inf)
        sd = (self.squares / (self.count - 1)).sqrt()
        largest = sd * math.pi / math.sqrt(12 * math.log(self.count)) / self.effective()
        few = self.effective() < min(FEW, self.count / 2)
        return value, torch.where(few, torch.hypot(se, largest), se)

    def effective(self) -> Tensor:
        """(*local) the effective number of draws, (Σ w)² / Σ w² (Kong 1992)."""
        return (2 * self.log_sum - self.log_sum_of_squares).exp()


def weights(
    pair: Pair,
    batch: Batch,
    count: int,
    seed: int,
    drawn: Callable[[int], None] = lambda _: None,
    *,
    together: bool = False,
) -> Weights:
    """Computes K log-weights log p(x, z) − log q(z|x) with z drawn from the guide.

    Args:
        pair: An initialised pair.
        batch: The rows, not rescaled to the size of a larger data set. A factor that all sites share, such as a loss per datum, is left out of the weights.
        count: Number of draws, K.
        seed: Seed for the draws.
        drawn: Called with the number of new draws, for a progress bar.
        together: Whether to compute one weight for all rows together, as their terms are not independent, scaled up from the rows that the model draws.
    """

    def one() -> dict[str, Tensor]:
        made = draw_one(pair.model, pair.guide, batch.args, {}, WEIGHTS)
        log_w = (made.log_p - made.log_q).double()
        return {"log_w": log_w.sum() * made.scale if together else log_w}

    def each() -> Iterator[Weights]:
        for chunk in in_chunks(one, count, batch.args[0].device if batch.args else torch.device("cpu")):
            yield Weights.of_chunk(chunk["log_w"])
            drawn(len(chunk["log_w"]))

    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        return functools.reduce(Weights.joined, each())


def weights_of_parts(
    pair: Pair, parts: Sequence[Batch], count: int, seeds: Sequence[int], *, progress: bool
) -> list[Weights]:
    """`weights` for several parts of the rows, with a progress bar."""
    found: list[Weights] = []
    done = 0
    with bar("evidence", len(parts) * count, show=progress, unit="draw") as advance:

        def drawn(more: int) -> None:
            nonlocal done
            done += more
            advance(done, lambda: f"{len(found)} of {len(parts)} parts" if len(parts) > 1 else "")

        for batch, seed in zip(parts, seeds, strict=True):
            found.append(weights(pair, batch, count, seed, drawn))
    return found


def require_densities(pair: Pair, batch: Batch) -> None:
    """Raises `Unsuitable` for a guide with a point mass: its weights say nothing about the evidence."""
    try:
        with pair.scope(), rng.seeded(0), validation(False):
            draw(pair, batch, 1, {"score"})
    except PointMass as error:
        raise Unsuitable(
            f"Pair {pair.name!r} has no weights that estimate its evidence: {str(error).split(': ')[0].replace('The guide', 'its guide')}. "
            "Wanted: a guide with a density, such as a Normal around that point."
        ) from error
    except Unsuitable:
        return  # a flow without an inverse has no score, but it has densities at its own draws, which is all that weights need
