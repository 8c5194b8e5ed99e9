"""Training by the estimator that the laboratory recommends, which is chosen again during training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from .. import rng
from ..errors import Unsuitable
from ..estimators import STL, name_of
from ..estimators.remembering import with_memory
from ..estimators.suits import suits
from ..training.callbacks import Callback
from ..training.engine import WORTH, settled
from ..training.result import Fit
from .recommend import recommend

REVISITED = (
    0.0,
    0.1,
    0.5,
)  # fractions of the steps at which it is chosen: the noise of estimators changes most in the beginning
BUDGET = 5.0  # seconds for each choice
PATH = (
    "analytic_kl",
    "stl",
    "adaptive_stl",
    "pathwise",
)  # candidates if there is a reparameterised path: others are seldom close to them


def fit_automatically(start: Fit, steps: int, *, callbacks: Sequence[Callback], progress: bool) -> Fit:
    """Trains a fit for `steps` steps, with estimators of the ELBO that minimise variance × time at the current parameters.

    In a fit too short to be compiled, the estimator is chosen only at the start. Choices depend on timings; `Fit.switches` records them.

    References:
        Geffner & Domke 2020, A rule for gradient estimator selection, arXiv:1911.01894.
    """
    start = replace(start, compile=settled(start.compile, steps))
    where = next(iter(start.pair.parameters.values())).device
    first = start.data.batch(
        start.pair.model, None if start.batch_size is None else torch.arange(start.batch_size, device=where)
    )
    candidates = PATH if suits(start.pair, first, STL()) else None
    marks = [int(share * steps) for share in REVISITED] if steps >= WORTH else [0]
    reached = start
    for mark, until in pairwise([*marks, steps]):
        try:
            found = recommend(
                reached, candidates=candidates, particles=(1, 4), budget=BUDGET, seed=rng.child(start.seed, mark), compile=bool(start.compile), progress=progress,
                device=str(where),
            )  # fmt: skip
        except KeyboardInterrupt:
            return replace(reached, interrupted=True)
        except Unsuitable:
            if mark == 0:
                raise
        else:
            pair = reached.pair.copy()
            method = copy.copy(with_memory(found.estimator, pair, first))
            switches = (*reached.switches, (mark, name_of(method)))
            reached = replace(reached, pair=pair, estimator=method, switches=switches)
        reached = reached.resume(steps=until - mark, callbacks=callbacks, progress=progress)
        if reached.interrupted:
            break
    return reached
