"""Steps by Pyro, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from pyro.infer import SVI

from .. import rng
from ..data.dataset import Batch
from .engine import Setup, Stepper
from .failure import Failure, why
from .minibatches import EpochLoss, Minibatches
from .non_finite_step import NonFiniteStep, finite_loss


class Eager:
    """Steps by `pyro.infer.SVI`. It draws from the global generators.

    Args:
        setup: The fit; everything runs in the scope of its pair.
        minibatches: Minibatches of its data.
        stepper: Optimiser of the pair's leaves.
        taken: Steps so far.

    Attributes:
        failure: Set when there is no next step.
    """

    several = False
    failure: Failure | None = None

    def __init__(self, setup: Setup, minibatches: Minibatches, stepper: Stepper, taken: int) -> None:
        self._pair, self._minibatches, self._stepper, self._taken = setup.pair, minibatches, stepper, taken
        self._epoch = EpochLoss(minibatches, taken, setup.rows.elbo)
        model, guide = setup.pair.scaled(len(setup.data))
        method: Any = setup.estimator
        self._estimator = method
        # With a plain function as the loss, we can check the loss before Pyro takes the step.
        self._svi = SVI(model, guide, stepper, loss=method.loss, loss_and_grads=finite_loss(method.loss_and_grads))

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        for step in range(self._taken + 1, self._taken + count + 1):
            batch = self._minibatches.data(step).batch(self._pair.model, self._minibatches.index(step))
            here = rng.get_state()
            buffers = {name: value.clone() for name, value in self._pair.buffers.items()}
            try:
                loss = self._svi.step(*batch.args)
            except (NonFiniteStep, torch.linalg.LinAlgError) as error:
                self._pair.set_buffers(buffers)
                rng.set_state(here)
                self.failure = self._why(error, batch)
                rng.set_state(here)
                break
            self._taken = step
            elbos.append(elbo := -float(loss[0] if isinstance(loss, tuple) else loss))
            if (mean := self._epoch.after(step, elbo)) is not None:
                self._stepper.end_epoch(mean)
        return elbos

    def _why(self, error: Exception, batch: Batch) -> Failure:
        if not isinstance(error, NonFiniteStep):
            return why("ELBO", self._pair, self._estimator, batch, torchs=str(error).split("\n")[0])
        lost = [name for name, leaf in self._pair.leaves.items() if any(leaf is each for each in error.parameters)]
        return why(str(error), self._pair, self._estimator, batch, parameters=lost)

    def look_again(self) -> None:
        """Nothing to check, as Pyro runs the model itself in each step."""

    def finish(self) -> None:
        """Nothing to do, as pair and optimiser are always up to date."""
