"""The steps of `SVI.run`, taken by Pyro until there is a program."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pyro
from torch.linalg import LinAlgError

from .. import rng
from ..staging import Recorder
from ..validation import no_warnings_of_nan, validation
from .failure import Failure, look_on
from .non_finite_step import NonFiniteStep, finite_loss
from .optimizer import guarded


class SVISteps:
    """An engine for `SVI.run`.

    Args:
        svi: The `SVI`.
        args, kwargs: Arguments of model and guide.
        total: Number of steps to take.
    """

    several = True
    failure: Failure | None = None

    def __init__(self, svi: Any, args: tuple[Any, ...], kwargs: dict[str, Any], total: int) -> None:
        self._svi, self._args, self._kwargs, self._left = svi, args, kwargs, total
        for program in filter(None, svi._staged.values()):
            program.begin()

    def take(self, count: int) -> list[float]:
        """Takes up to `count` more steps; returns their losses."""
        call = self._svi._call(self._args, self._kwargs)
        program = self._svi._program(call, self._left)
        if program is None:
            losses = self._guarded(lambda: self._svi._by_pyro(call, self._args, self._kwargs))
        elif program.whole:
            losses = program.steps(call, count, self._left)
            if program.failing is not None:
                self.failure = self._why("loss", program.failing)
                if self.failure.what == "step":
                    self.failure = Failure("step", (), program.lost(call, program.failing))
        else:
            losses = self._guarded(lambda: program.step(call, guarded=True))
        self._left -= len(losses)
        return losses

    def _guarded(self, step: Callable[[], float]) -> list[float]:
        """Takes a step, which changes no parameter if it is not finite."""
        svi, here = self._svi, rng.get_state()
        optim, loss = svi.optim, svi.loss_and_grads
        svi.optim, svi.loss_and_grads = guarded(optim), finite_loss(loss)
        try:
            with no_warnings_of_nan():  # the error is more informative
                return [step()]
        except (NonFiniteStep, LinAlgError) as error:
            svi.optim, svi.loss_and_grads = optim, loss
            rng.set_state(here)
            self.failure = self._why_not(error)
            return []
        except ValueError:  # an error of validation, if that is on
            svi.optim, svi.loss_and_grads = optim, loss
            rng.set_state(here)
            failure = self._why("loss")
            if not failure.sites:
                raise
            self.failure = failure
            return []
        finally:
            svi.optim, svi.loss_and_grads = optim, loss

    def _why_not(self, error: Exception) -> Failure:
        if not isinstance(error, NonFiniteStep):
            return self._why("loss", torchs=str(error).split("\n")[0])
        lost = {id(parameter) for parameter in error.parameters}
        names = [name for name, leaf in pyro.get_param_store()._params.items() if id(leaf) in lost]
        return self._why("loss" if str(error) == "ELBO" else str(error), parameters=tuple(names))

    def _why(self, what: str, noise: Any = None, *, parameters: tuple[str, ...] = (), torchs: str = "") -> Failure:
        """Finds the reason by Pyro, with the draws of the step that could not be taken."""
        svi, leaves = self._svi, dict(pyro.get_param_store()._params)
        with (
            validation(False),
            no_warnings_of_nan(),
            nullcontext() if noise is None else Recorder(noise, in_place=True),
        ):
            sites, wrong, places = look_on(leaves, svi._elbo, svi.model, svi.guide, *self._args, **self._kwargs)
        if what == "loss" and noise is not None and not sites and not torchs:
            what = "gradient" if wrong else "step"
        return Failure(what, sites, parameters or (wrong if what == "gradient" else ()), torchs, places)

    def look_again(self) -> None:
        """Nothing to check, as an `SVI` checks before each call."""

    def finish(self) -> None:
        """Nothing to do, as the store is always up to date."""
