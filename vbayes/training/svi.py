"""`pyro.infer.SVI` with compiled steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.poutine import trace
from pyro.poutine.runtime import _PYRO_STACK
from pyro.util import warn_if_nan

from ..arguments.function import Function
from ..arguments.kind import refuse
from ..arguments.names import STEPS
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..errors import CaptureFailed, NonFinite, warn
from ..pair.places import Place
from ..pair.watch import Watch
from ..progress import bar, between_steps
from ..rng import takes_turns
from ..staging.backends import Compile, backend_of, require_backend
from ..staging.update import MOVING
from .call import Call
from .engine import CHANGED, CHANGES, KEEPS_CHANGING, KEEPS_READING, VALUES
from .fed import can_be_fed
from .optimizer import as_pyro
from .run import Run
from .scheduled import is_schedule
from .svi_program import SVIProgram, name_of_model
from .svi_steps import SVISteps

WARM = 100  # number of calls with arguments of one kind after which it compiles for them; by then Pyro has taken as long as compiling takes
RATES = 2  # changes of the optimiser's options: after the first number its rates are inputs, after the second it takes its steps itself
KINDS = 20  # number of kinds of arguments after which a warning says that they keep changing


class SVI(pyro.infer.SVI):
    """Drop-in replacement for `pyro.infer.SVI` with compiled steps: the same constructor, `step` and `evaluate_loss`, the same parameters in Pyro's store, and from the same seed the same draws, wherever torch makes them from normals and uniforms.

    The first steps are Pyro's own: they create the parameters and validate. Then model, guide, loss and optimiser are compiled into one
    program, which reads and overwrites the tensors in Pyro's store and in the optimiser. It is checked against Pyro when it is
    compiled, and occasionally afterwards. What can't be compiled runs in Pyro as before, after a warning that says why.

    Values that model, guide and loss read besides their arguments may change between steps. A float or tensor in a closure, a global or an
    attribute (such as the weight of an annealed KL) becomes an input of the program; if any other value that their code names changes, a new program
    is compiled. A change of something that no code names, such as a file, is only noticed at a later check.

    Args:
        model, guide: Any Pyro callables.
        optim: A `pyro.optim` optimiser, a `torch.optim` optimiser over the parameters, or its class.
        loss: Any `pyro.infer.ELBO`. Any other function is called as Pyro calls it.
        loss_and_grads, num_samples, num_steps: As in Pyro.
        compile: When to compile: "auto", after 100 steps on arguments of one kind, by when Pyro has taken as long as compiling takes; True,
            after the first step; False, never; "native", "xla" or "torch", after the first step with that back end (see `vb.fit`).

    Examples:
        >>> svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=pyro.infer.Trace_ELBO())
        >>> for _ in range(10_000): svi.step(x)
        >>> losses = svi.run(x, num_steps=10_000)
    """

    @takes(
        model=Function(),
        guide=Function(),
        loss=Function(what="a pyro.infer.ELBO or a function", example="pyro.infer.Trace_ELBO()"),
        num_samples=Whole(0),
    )
    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Any,
        loss: Any,
        loss_and_grads: Callable[..., Any] | None = None,
        num_samples: int = 0,
        num_steps: int = 0,
        *,
        compile: Compile = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(model, guide, as_pyro(optim), loss, loss_and_grads, num_samples, num_steps, **kwargs)
        self._elbo = loss if isinstance(loss, ELBO) else None
        require_backend(compile)
        self._wait = None if compile is False or self._elbo is None else WARM if compile == "auto" else 1
        self._backend = backend_of(compile)
        self._names: dict[
            Hashable, tuple[str, ...]
        ] = {}  # names of the parameters that model and guide use, by kind of call
        self._seen: dict[Hashable, int] = {}
        self._stale: dict[Hashable, int] = {}
        self._staged: dict[Hashable, SVIProgram | None] = {}
        # What model, guide and loss read besides their arguments, before there is a program; and what has changed.
        self._watches: dict[Hashable, Watch] = {}
        self._fed: dict[Hashable, dict[Place, Any]] = {}
        self._built_in: set[Hashable] = set()  # changes that can't become inputs
        self._changes: dict[Hashable, int] = {}
        self._values: dict[
            Hashable, set[tuple[bytes, ...]]
        ] = {}  # values that programs read of their arguments, but were not made for
        self._own_loss = self.loss_and_grads
        self._last: Hashable = None  # the kind of the last call
        self._refused: dict[Hashable, str] = {}

    @property
    def engine(self) -> str:
        """What takes the steps for arguments like the last ones, and if that is not the fastest, why: "native", "interpreted: ..." or "Pyro: ..."."""
        if self._wait is None:
            return "Pyro: compile=False" if self._elbo else "Pyro: the loss is not a pyro.infer.ELBO"
        if (program := self._staged.get(self._last)) is not None:
            return program.how
        waits = f"it compiles after {self._wait} steps on arguments of one kind"
        return f"Pyro: {self._refused.get(self._last, waits)}"

    @takes_turns
    def step(self, *args: Any, **kwargs: Any) -> float:
        """Takes one gradient step. Arguments are passed to model and guide.

        Returns:
            The loss before the step: minus the bound, in nats.
        """
        staged = self._program(call := self._call(args, kwargs))
        if staged is None:
            return self._by_pyro(call, args, kwargs)
        loss = staged.step(call)
        warn_if_nan(loss, "loss")  # type: ignore[call-overload]
        return loss

    @takes_turns
    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """Evaluates the loss with new draws, without taking a step."""
        staged = self._program(call := self._call(args, kwargs))
        return super().evaluate_loss(*args, **kwargs) if staged is None else staged.evaluate(call)

    @takes_turns
    def run(self, *args: Any, num_steps: int | None = None, progress: bool = True, **kwargs: Any) -> Any:
        """Takes `num_steps` steps on the same arguments, many in one call. Its random numbers differ from those of `step`.

        Ctrl-C stops after the last finished block of steps.

        Args:
            args, kwargs: Arguments of model and guide.
            num_steps: Number of steps; None calls Pyro's own, deprecated `run`.
            progress: Whether to show a progress bar.

        Returns:
            (num_steps,) the loss before each step.

        Raises:
            BadInput: `num_steps` is not a valid number.
            NonFinite: A loss became NaN or infinite; the parameters are those before that step.
        """
        if num_steps is None:
            if self.num_samples < 1:
                refuse(
                    "num_steps",
                    num_steps,
                    wanted="a number of steps, or SVI(..., num_samples=) for Pyro's own run",
                    mend="num_steps=1000",
                )
            return super().run(*args, **kwargs)
        num_steps = STEPS("num_steps", num_steps)
        steps = SVISteps(self, args, kwargs, num_steps)
        run, losses = Run(steps), list[float]()
        with bar("SVI", num_steps, show=progress, unit="step") as advance, between_steps() as asked_to_stop:

            def report(taken: Sequence[float], began: float, ended: float) -> None:
                losses.extend(taken)
                advance(len(losses), functools.partial("loss {:.5g}".format, losses[-1]))

            run.go(num_steps, report=report, asked_to_stop=asked_to_stop)
        if failure := steps.failure:
            step = len(losses) + 1
            told = failure.told(f"model {name_of_model(self.model)!r}", f"step {step} of this run")
            raise NonFinite(
                f"{told} The parameters are those before that step.",
                step=step, sites=failure.sites, parameters=failure.parameters, fit=None,
            )  # fmt: skip
        return torch.tensor(losses, dtype=torch.float64, device="cpu")

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The arguments of a step. The values that programs read of them are part of their kind."""
        call = Call.of(args, kwargs)
        while (held := self._staged.get(call.key)) and (values := held.other(call)) is not None:
            met = self._values.setdefault(call.key, set())
            if len(met) < VALUES:
                met.add(values)
            call = replace(call, key=(call.key, values if values in met else None))
            if values not in met and call.key not in self._staged:
                told = KEEPS_READING.format(pair=name_of_model(self.model), line=held.line, count=VALUES)
                self._give_up(call, CaptureFailed(told))
        return call

    def _by_pyro(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        with trace(param_only=True) as seen:
            loss = super().step(*args, **kwargs)
        self._names[call.key] = tuple(seen.trace.nodes)
        return loss

    def _program(self, call: Call, ahead: int = 1) -> SVIProgram | None:
        """The program for arguments of this kind; None if Pyro takes the steps.

        Args:
            ahead: Number of calls that are certain to follow.
        """
        self._last = call.key
        if self._wait is None or _PYRO_STACK:  # a Pyro handler around the call needs to see its sites
            return None
        if self.loss_and_grads != self._own_loss:  # `loss_and_grads` was set by the user
            return None
        held = self._staged.get(call.key)
        if held is not None and held.changed():
            self._note(call, held)
            return None
        if held is not None and held.stale():
            # Pyro takes a step, which shows what model and guide use now; then another program is made.
            del self._staged[call.key], self._names[call.key]
            self._stale[call.key] = self._stale.get(call.key, 0) + 1
            return None
        if call.key in self._staged:
            return held if held is None or self._still(held, call) else None
        seen = self._seen[call.key] = self._seen.get(call.key, 0) + 1
        if seen == 1:
            self._watches[call.key] = Watch(self.model, self.guide, settings=self._elbo)
        if seen == 1 and len(self._seen) == KINDS and max(self._seen.values()) < self._wait:
            warn(
                f"SVI was called with {KINDS} kinds of arguments, so it runs at Pyro's speed: it compiles for one kind at a time. "
                "Pass numbers that change as tensors, and keep shapes fixed."
            )
        names = self._names.get(call.key)
        if not names or not pyro.get_param_store()._params.keys() >= set(names) or seen - 2 + ahead < self._wait:
            return None
        try:
            changes = self._stale.get(call.key, 0)
            moving = MOVING if changes or is_schedule(self.optim) else ()
            self._staged[call.key] = self._capture(call, names, pure=changes < RATES, moving=moving)
        except CaptureFailed as error:
            self._give_up(call, error)
        return self._staged[call.key]

    def _capture(self, call: Call, names: tuple[str, ...], **how: Any) -> SVIProgram:
        """Makes a program, with the numbers that have changed so far as its inputs, if possible."""
        fed = self._fed.setdefault(call.key, {})
        if watch := self._watches.pop(call.key, None):
            fed |= _to_feed(watch)
        if fed:
            try:
                return SVIProgram(self, call, names, fed=list(fed.items()), **how)
            except CaptureFailed:  # for example, if it branches on one of them
                fed.clear()
                self._built_in.add(call.key)
        return SVIProgram(self, call, names, **how)

    def _note(self, call: Call, held: SVIProgram) -> None:
        """Handles a change of something that model, guide or loss read: Pyro takes a step, then another program is made, if that is worthwhile."""
        changed = [place.name for place, _ in held.watch.what_changed()]
        self._changes[call.key] = self._changes.get(call.key, 0) + 1
        if self._changes[call.key] > CHANGES:
            places = ", ".join(f"`{name}`" for name in changed) or "a list"
            self._give_up(call, CaptureFailed(KEEPS_CHANGING.format(places=places, pair=name_of_model(self.model))))
            return
        if call.key not in self._built_in:
            self._fed.setdefault(call.key, {}).update(_to_feed(held.watch))
        del self._staged[call.key], self._names[call.key]

    def _still(self, held: SVIProgram, call: Call) -> bool:
        """Whether a program still agrees with model and guide."""
        if held.due() and not held.faithful(call):
            self._give_up(call, CaptureFailed(CHANGED.format(pair=name_of_model(self.model), steps=held.taken)))
            return False
        return True

    def _give_up(self, call: Call, error: CaptureFailed) -> None:
        warn(f"{error}\nSVI continues step by step in Pyro, which is slower.")
        self._staged[call.key] = None
        self._refused[call.key] = str(error)


def _to_feed(watch: Watch) -> dict[Place, Any]:
    """The changed places that can become inputs of a program, each with its earlier value."""
    return {place: before for place, before in watch.what_changed() if can_be_fed(place, before)}
