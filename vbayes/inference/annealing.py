"""Annealed importance sampling between a guide and the posterior, in both directions."""

from __future__ import annotations

import functools

import pyro
import torch

from .. import rng
from ..data.dataset import Batch
from ..pair.pair import Pair
from ..progress import bar
from ..validation import no_warnings_of_nan, validation
from .hmc import move
from .importance import Weights
from .unconstrained import Unconstrained

TARGET_ACCEPTANCE = (
    0.65  # of the proposals are accepted: best for a leapfrog in many dimensions (Beskos et al. 2013, arXiv:1001.4460)
)
STEP = 0.2  # the first; both it and its changes are those of Wu et al. 2017, arXiv:1611.04273
CHANGE = 1.02
SHARPEST = 4.0  # temperatures are even on the logit scale between −4 and 4: dense at both ends (Grosse et al. 2015)


def annealed(
    pair: Pair,
    batch: Batch,
    chains: int,
    temperatures: int,
    seed: int,
    *,
    origin: pyro.poutine.Trace | None,
    progress: bool,
    part: str = "",
) -> Weights:
    """Computes the weights of chains that run from the guide to the posterior, or back.

    A pilot run tunes the step size for each temperature and datum; it is fixed in the main run, so that each
    move leaves its density invariant.

    Args:
        pair: An initialised pair, with continuous latents.
        batch: The rows.
        chains: C for each datum.
        temperatures: T.
        seed: Seed for the draws.
        origin: None; or the run of the model that simulated the data, whose latents are a draw from the posterior: the chains then start there and end at the
            guide, so that E[w] = 1/p(x).
        progress: Whether to show a progress bar.
        part: Label of the part, if there are several, for the progress bar.
    """
    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False), no_warnings_of_nan():
        space, back = Unconstrained(pair, batch), origin is not None
        target = space.target(chains)
        ladder = torch.linspace(
            -SHARPEST, SHARPEST, temperatures + 1, device="cpu"
        ).sigmoid()  # values are read one by one
        ladder = (ladder - ladder[0]) / (ladder[-1] - ladder[0])
        what = ("annealing back" if back else "annealing") + part
        with bar(what, 2 * temperatures, show=progress, unit="temperature") as advance:
            for pilot in (True, False):
                start = space.draws(chains) if origin is None else torch.stack([space.origin(origin)] * chains)
                if pilot:
                    steps = torch.full((temperatures, *space.local), STEP, device=start.device)
                log_w = start.new_zeros(chains, *space.local, dtype=torch.float64)
                state, before = start, target(start)
                for number in range(temperatures):
                    t = temperatures - 1 - number if back else number
                    cold, hot = (
                        float(ladder[t + 1]),
                        float(ladder[t]),
                    )  # β of this move and of the one nearer to the guide
                    if not back:  # there: weigh, then move; back: the same two the other way round
                        log_w += (cold - hot) * (before[0] - before[1]).double()
                    state, before, taken = move(target, state, before, cold, steps[t])
                    if back:
                        log_w -= (cold - hot) * (before[0] - before[1]).double()
                    taken = taken.mean(0)
                    if pilot:
                        grown = (taken > TARGET_ACCEPTANCE).to(steps.dtype) * 2 - 1
                        steps[t] *= CHANGE**grown
                        steps[t - 1 if back else (t + 1) % temperatures] = steps[t]
                    advance(number + 1 + (not pilot) * temperatures, functools.partial("β = {:.3f}".format, cold))
    return Weights.of(iter(log_w))
