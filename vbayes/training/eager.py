"""Steps by Pyro, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pyro.infer import SVI

from .. import rng
from .engine import Failure, Setup, Stepper, culprits
from .minibatches import EpochLoss, Minibatches
from .optimizer import NonFiniteStep


class Eager:
    """Steps by `pyro.infer.SVI`. It draws from the global generators.

    Args:
        setup: All of this runs in the scope of its pair.
        minibatches: Of its data.
        stepper: Of the pair's leaves.
        taken: Steps so far.

    Attributes:
        failure: Set when there is no next step.
    """

    several = False
    failure: Failure | None = None

    def __init__(self, setup: Setup, minibatches: Minibatches, stepper: Stepper, taken: int) -> None:
        self._pair, self._minibatches, self._stepper, self._taken = setup.pair, minibatches, stepper, taken
        self._epoch = EpochLoss(minibatches, taken, [row[2] for row in setup.rows])
        model, guide = setup.pair.scaled(len(setup.data))
        method: Any = setup.estimator
        # As a bare function Pyro lets us look at the loss before it steps.
        self._svi = SVI(model, guide, stepper, loss=method.loss, loss_and_grads=_finite(method.loss_and_grads))

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        for step in range(self._taken + 1, self._taken + count + 1):
            batch = self._minibatches.data(step).batch(self._pair.model, self._minibatches.index(step))
            here = rng.get_state()
            try:
                loss = self._svi.step(*batch.args)
            except NonFiniteStep as error:
                rng.set_state(here)
                self.failure = Failure(str(error), culprits(self._pair, batch))
                break
            self._taken = step
            elbos.append(elbo := -float(loss[0] if isinstance(loss, tuple) else loss))
            if (mean := self._epoch.after(step, elbo)) is not None:
                self._stepper.end_epoch(mean)
        return elbos

    def look_again(self) -> None:
        """Pyro runs the model itself: what changes, changes."""

    def finish(self) -> None:
        """Nothing is held back."""


def _finite(loss_and_grads: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        loss = loss_and_grads(*args, **kwargs)
        if not all(math.isfinite(part) for part in (loss if isinstance(loss, tuple) else (loss,))):
            raise NonFiniteStep("ELBO")
        return loss

    return checked
