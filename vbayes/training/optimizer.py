"""Adapters that turn any optimiser of a user into the `PyroOptim` that `pyro.infer.SVI` needs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from pyro.optim.optim import _load_state_dict
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..arguments.kind import refuse
from ..errors import BadInput
from ..pair.device import on_the_cpu
from .non_finite_step import NonFiniteStep, require_finite
from .optimizer_state import in_order
from .scheduled import Scheduled, is_schedule, known_ahead
from .undo import Undo


@contextmanager
def _guarded(params: Sequence[Tensor], undo: Undo) -> Iterator[None]:
    """Takes a step with finite gradients, and undoes it if the result is not finite."""
    with on_the_cpu(params):  # torch keeps step counters on the CPU
        yield
    if lost := undo.left_the_reals():
        undo.back()
        raise NonFiniteStep("step", lost)


def guarded(optimizer: PyroOptim) -> Callable[..., None]:
    """The same optimiser, except that a step that is not finite raises `NonFiniteStep`, and changes nothing."""

    def step(params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        params = list(params)
        require_finite(params)
        with _guarded(params, Undo.of(optimizer, params)):
            optimizer(params, *args, **kwargs)

    return step


class OneOptimizer(PyroOptim):
    """A single torch optimiser over all parameters, whereas `PyroOptim` makes one for each.

    Args:
        leaves: Name → parameter, in a fixed order.
        constructor: A `torch.optim.Optimizer` class.
        arguments: Its keyword arguments.
    """

    def __init__(
        self, leaves: Mapping[str, Tensor], constructor: Callable[..., torch.optim.Optimizer], arguments: dict[str, Any]
    ) -> None:
        super().__init__(constructor, arguments)
        self._optimizer, self._names = constructor(list(leaves.values()), **arguments), list(leaves)

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        params = list(params)
        require_finite(params)
        (group,) = self._optimizer.param_groups
        known = set(map(id, group["params"]))
        if new := [p for p in params if id(p) not in known]:  # a model may create parameters later
            group["params"] += new
            self._names += [str(pyro.get_param_store().param_name(p)) for p in new]
        with _guarded(params, Undo(params, [self._optimizer])):
            self._optimizer.step()

    def get_state(self) -> dict[str, Any]:
        """A copy of the torch optimiser's state, which is indexed by the positions of the parameters, with their `names` in that order."""
        return copy.deepcopy(self._optimizer.state_dict()) | {"names": list(self._names)}

    def set_state(self, state_dict: dict[str, Any]) -> None:
        """Loads a state of the same parameters in any order, or in the same order if it has no names."""
        self._optimizer.load_state_dict(in_order(copy.deepcopy(state_dict), self._names))

    def each(self, leaves: Mapping[str, Tensor]) -> dict[str, torch.optim.Optimizer]:
        """Name → the torch optimiser that steps this parameter."""
        return dict.fromkeys(leaves, self._optimizer)

    @property
    def name(self) -> str:
        """Its class."""
        return type(self._optimizer).__name__

    def scheduled(self, leaves: Mapping[str, Tensor], per_epoch: int, taken: int) -> None:
        """It has no scheduler."""

    def end_epoch(self, loss: float) -> None:
        """Nothing to do: no schedule."""


class GuardedOptimizer(PyroOptim):
    """A copy of a user's `PyroOptim` that takes no step that is not finite. The user's own object is never stepped."""

    def __init__(self, optimizer: PyroOptim) -> None:
        fresh = copy.copy(optimizer)
        fresh.optim_objs, fresh.grad_clip, fresh._state_waiting_to_be_consumed = {}, {}, {}
        super().__init__(optimizer.pt_optim_constructor, optimizer.pt_optim_args)
        self._inner = fresh

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        guarded(self._inner)(params, *args, **kwargs)

    def get_state(self) -> dict[str, Any]:
        # A state given to `set_state` is kept until a parameter's first step.
        return copy.deepcopy(self._inner._state_waiting_to_be_consumed | self._inner.get_state())

    def set_state(self, state_dict: dict[str, Any]) -> None:
        self._inner.set_state(copy.deepcopy(state_dict))

    def each(self, leaves: Mapping[str, Tensor]) -> dict[str, torch.optim.Optimizer]:
        """Name → the torch optimiser that steps this parameter; empty if a step does more than that."""
        return (
            {} if is_schedule(self._inner) and not known_ahead(self._inner) else torch_optimizers(self._inner, leaves)
        )

    @property
    def name(self) -> str:
        """Its class, and what it does besides."""
        return name_of_pyros(self._inner)

    def scheduled(self, leaves: Mapping[str, Tensor], per_epoch: int, taken: int) -> Scheduled | None:
        """Its future rates, if it has a scheduler that determines them in advance; to be called after `each`."""
        return Scheduled.of(self._inner, leaves, per_epoch, taken)

    def end_epoch(self, loss: float) -> None:
        """Steps a scheduler: one that waits for a plateau by the epoch's mean loss."""
        if isinstance(self._inner, PyroLRScheduler):
            for scheduler in self._inner.optim_objs.values():
                scheduler.step(*[loss] * isinstance(scheduler, ReduceLROnPlateau))


def name_of_pyros(optimizer: PyroOptim) -> str:
    """The class of the torch optimisers that a `PyroOptim` makes, and what it does besides their steps."""
    if isinstance(optimizer, GivenOptimizer):
        return type(optimizer.optimizer).__name__
    name = getattr(optimizer.pt_optim_constructor, "__name__", type(optimizer).__name__)
    extras = ["gradients clipped"] * bool(optimizer.pt_clip_args)
    if isinstance(optimizer, PyroLRScheduler):
        extras.append(getattr(optimizer.pt_scheduler_constructor, "__name__", "a schedule"))
    return f"{name} ({', '.join(extras)})" if extras else str(name)


class GivenOptimizer(PyroOptim):
    """Adapts a torch optimiser that already holds its parameters to `pyro.infer.SVI`, which needs a `PyroOptim`."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        unknown = [pyro.get_param_store().param_name(p) or "?" for p in params if id(p) not in known]
        if unknown:
            raise BadInput(
                f"{type(self.optimizer).__name__} was not given the parameters {', '.join(map(repr, sorted(unknown)))} of model "
                "and guide. Pass the class, or a pyro.optim optimiser, which optimise all parameters."
            )
        self.optimizer.step(*args, **kwargs)

    def get_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_state(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)


def as_pyro(optimizer: Any) -> PyroOptim:
    """Makes a `PyroOptim` of a `PyroOptim`, a torch optimiser, a class of those, or a `functools.partial` of one.

    Raises:
        BadInput: Anything else.
    """
    if isinstance(optimizer, PyroOptim):
        return optimizer
    if isinstance(optimizer, torch.optim.Optimizer):
        return GivenOptimizer(optimizer)
    constructor = getattr(optimizer, "func", optimizer)
    if isinstance(constructor, type) and issubclass(constructor, torch.optim.Optimizer):
        return PyroOptim(constructor, dict(getattr(optimizer, "keywords", {})))
    wanted = "one of pyro.optim, such as pyro.optim.Adam({'lr': 1e-3}), a torch.optim optimiser, or its class"
    refuse("optim", optimizer, got="not an optimiser", wanted=wanted, mend="optim=pyro.optim.Adam({'lr': 1e-3})")


def torch_optimizers(optimizer: PyroOptim, leaves: Mapping[str, Tensor]) -> dict[str, torch.optim.Optimizer]:
    """Name → the torch optimiser that a `PyroOptim` has for this parameter, made now if necessary.

    Empty if it clips gradients, or is a subclass of Pyro's class.
    """
    if isinstance(optimizer, GivenOptimizer):
        return dict.fromkeys(leaves, optimizer.optimizer)
    if not (is_schedule(optimizer) or (type(optimizer) is PyroOptim and not optimizer.pt_clip_args)):
        return {}
    for name, leaf in leaves.items():
        if leaf not in optimizer.optim_objs:
            made = optimizer.optim_objs[leaf] = optimizer._get_optim(leaf)
            optimizer.grad_clip[leaf] = None
            if (state := optimizer._state_waiting_to_be_consumed.pop(name, None)) is not None:
                _load_state_dict(made, state)
    found = {name: optimizer.optim_objs[leaf] for name, leaf in leaves.items()}
    return {name: getattr(each, "optimizer", each) for name, each in found.items()}  # a scheduler has one inside


def require_adam(optimizer: Any) -> None:
    """Checks the optimiser for training until convergence, which finds its learning rates itself.

    Raises:
        BadInput: The optimiser is not Adam, or has settings of its own.
    """
    if optimizer is not torch.optim.Adam:
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise BadInput(
            f"optimizer={name} without steps or epochs: training until convergence uses its own Adam and finds the learning rates. Wanted: a length, "
            "steps= or epochs=, for this optimizer; or no optimizer."
        )


def optimizer_for(
    leaves: Mapping[str, Tensor], optimizer: Any, learning_rate: float | None, state: dict[str, Any] | None = None
) -> OneOptimizer | GuardedOptimizer:
    """The optimiser for the steps of SVI.

    Args:
        leaves: Name → parameter.
        optimizer: A `torch.optim.Optimizer` class, a `functools.partial` of one, or a `PyroOptim` object.
        learning_rate: For a class; None leaves its own default.
        state: From `get_state` of an earlier one.

    Raises:
        BadInput: Anything else, or a learning rate or state that the optimiser rejects.
    """
    stepper: OneOptimizer | GuardedOptimizer
    if isinstance(optimizer, PyroOptim):
        if learning_rate is not None:
            raise BadInput(
                f"learning_rate={learning_rate} has no effect on a {type(optimizer).__name__} object, which has its own. "
                "Set it there, or pass a torch.optim class."
            )
        stepper = GuardedOptimizer(optimizer)
    elif isinstance(optimizer, torch.optim.Optimizer):
        raise BadInput(
            f"optimizer is a {type(optimizer).__name__} that already holds parameters. Pass the class "
            f"(torch.optim.{type(optimizer).__name__}) or functools.partial of it with its arguments."
        )
    elif getattr(optimizer, "func", optimizer) is torch.optim.LBFGS:
        raise BadInput(
            "LBFGS evaluates the loss several times in a step, which a stochastic ELBO does not allow. Wanted: a first-order "
            "optimiser, such as torch.optim.Adam."
        )
    elif callable(optimizer) and not inspect.isfunction(optimizer):
        try:
            stepper = OneOptimizer(leaves, optimizer, {} if learning_rate is None else {"lr": learning_rate})
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{getattr(optimizer, '__name__', optimizer)} rejects learning_rate={learning_rate!r}: {error}."
            ) from error
    else:
        wanted = (
            "a torch.optim class such as torch.optim.Adam, or an object such as pyro.optim.ClippedAdam({'lr': 1e-3})"
        )
        refuse("optimizer", optimizer, got="not an optimiser", wanted=wanted, mend=f"optimizer={_meant(optimizer)}")
    if state is not None:
        try:
            stepper.set_state(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise BadInput(
                f"{getattr(optimizer, '__name__', type(optimizer).__name__)} can't load the optimiser state saved with the fit: {error!r}. "
                "Wanted: the optimiser that the fit was trained with, and an undamaged file."
            ) from error
    return stepper


def _meant(optimizer: Any) -> str:
    """The class of torch that a text names; Adam if it names none, or one that can't be used."""
    kinds = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    names = {name.lower(): name for name in kinds if name not in ("Optimizer", "LBFGS", "SparseAdam")}
    return f"torch.optim.{names.get(str(optimizer).lower(), 'Adam')}"
