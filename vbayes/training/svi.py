"""`pyro.infer.SVI`, with its steps compiled."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.util import zero_grads
from pyro.poutine import trace
from pyro.poutine.runtime import _PYRO_STACK
from pyro.util import warn_if_nan
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..data.dataset import Batch
from ..errors import BadInput, CaptureFailed, NonFinite
from ..estimators.memory import Remembering
from ..pair.pair import Pair
from ..progress import bar, between_steps
from ..staging import Compiled, FreshNoise, draw_noise, faithful, stage
from ..staging.loop import Loop, LoopState
from ..staging.optimizers import Updates
from .optimizer import as_pyro, torch_optimizers
from .steps import BLOCK, CHANGED, FIRST_LOOK, LATER, NUMBERS

WARM = (
    100  # calls with arguments of one kind after which it compiles for them: by then it has cost as much as that will
)
CHANGES = 2  # of learning rates and the like, after which the optimiser takes its steps itself
KINDS = 20  # of arguments, after which somebody is told that they always differ


@dataclass(frozen=True)
class Call:
    """The arguments of a step: their tensors, and all else.

    Attributes:
        tensors: In the order in which they are met.
        key: What a program is made for: shapes, types and devices of the tensors, and everything that is no tensor.
    """

    tensors: tuple[Tensor, ...]
    key: Hashable
    _constants: tuple[Any, ...]
    _structure: Any

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        leaves, structure = tree_flatten((args, kwargs))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = tuple(TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        kinds = tuple((t.shape, t.dtype, t.device, t.requires_grad) for t in tensors)
        return cls(tensors, (structure, kinds, tuple(map(_name, constants))), constants, structure)

    def bound(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` as a function of the tensors alone."""

        def called(*tensors: Tensor) -> Any:
            left = iter(tensors)
            args, kwargs = tree_unflatten([next(left) if c is TENSOR else c for c in self._constants], self._structure)
            return fn(*args, **kwargs)

        return called


TENSOR = object()


def _name(constant: Any) -> Hashable:
    return (type(constant), constant) if isinstance(constant, (int, float, str, bool, type(None))) else id(constant)


class SVI(pyro.infer.SVI):
    """In place of `pyro.infer.SVI`: the same constructor, `step` and `evaluate_loss`, the same parameters in Pyro's store, the
    same draws after the same seed wherever they are made of normals and uniforms; many times the speed.

    The first steps are Pyro's own: they create the parameters, and validate. Then model, guide, loss and optimiser become one
    program, which reads and overwrites the tensors in Pyro's store and in the optimiser. It is held against Pyro when it is
    made, and now and then after. What can't become a program goes on as before, after a warning that says why.

    Args:
        model, guide: Any Pyro callables.
        optim: A `pyro.optim` optimiser, a `torch.optim` optimiser over the parameters, or its class.
        loss: Any `pyro.infer.ELBO`. Another function is called as Pyro calls it.
        loss_and_grads, num_samples, num_steps: As in Pyro.
        compile: "auto" after 100 steps on arguments of one kind, for by then Pyro has taken as long as compiling does; True
            after the first; False never.

    Examples:
        >>> svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=pyro.infer.Trace_ELBO())
        >>> for _ in range(10_000): svi.step(x)
        >>> losses = svi.run(x, num_steps=10_000)
    """

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
        compile: Literal["auto"] | bool = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(model, guide, as_pyro(optim), loss, loss_and_grads, num_samples, num_steps, **kwargs)
        self._elbo = loss if isinstance(loss, ELBO) else None
        self._wait = {"auto": WARM, True: 1, False: None}[compile] if self._elbo else None
        self._names: dict[
            Hashable, tuple[str, ...]
        ] = {}  # of the parameters that model and guide ask for, by kind of call
        self._seen: dict[Hashable, int] = {}
        self._stale: dict[Hashable, int] = {}
        self._staged: dict[Hashable, _Staged | None] = {}

    def step(self, *args: Any, **kwargs: Any) -> float:
        """One gradient step. Arguments go to model and guide.

        Returns:
            The loss before it: minus the bound, in nats.
        """
        staged = self._program(call := Call.of(args, kwargs))
        if staged is None:
            return self._by_pyro(call, args, kwargs)
        loss = staged.step(call)
        warn_if_nan(loss, "loss")  # type: ignore[call-overload]
        return loss

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss at another draw, without a step."""
        staged = self._program(call := Call.of(args, kwargs))
        return super().evaluate_loss(*args, **kwargs) if staged is None else staged.evaluate(call)

    def run(self, *args: Any, num_steps: int | None = None, progress: bool = True, **kwargs: Any) -> Any:
        """`num_steps` steps on the same arguments, many in one call; they draw other random numbers than `step` does.

        Ctrl-C ends it at the last finished interval.

        Args:
            args, kwargs: For model and guide.
            num_steps: None is Pyro's own, deprecated `run`.
            progress: Show a bar.

        Returns:
            (num_steps,) the loss before each step.

        Raises:
            BadInput: A number of steps that is none.
            NonFinite: A loss left the real numbers; the parameters are those before that step.
        """
        if num_steps is None:
            return super().run(*args, **kwargs)
        if not isinstance(num_steps, int) or num_steps < 0:
            raise BadInput(f"num_steps={num_steps!r}. Wanted: an integer of at least 0.")
        losses: list[float] = []
        with bar("SVI", num_steps, show=progress) as advance, between_steps() as asked_to_stop:
            while len(losses) < num_steps and not asked_to_stop():
                left = num_steps - len(losses)
                call = Call.of(args, kwargs)
                staged = self._program(call, left)
                taken = [self._by_pyro(call, args, kwargs)] if staged is None else staged.steps(call, left)
                losses += taken
                if not taken:
                    raise NonFinite(
                        f"The loss is not finite at step {len(losses) + 1} of this run, or its gradient is not. The parameters are "
                        "those before that step. Common mends: a smaller learning rate, a scale bounded away from 0.",
                        step=len(losses) + 1, sites=(), fit=None,
                    )  # fmt: skip
                advance(len(losses), functools.partial("loss {:.5g}".format, losses[-1]))
        return torch.tensor(losses, dtype=torch.float64)

    def _by_pyro(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        with trace(param_only=True) as seen:
            loss = super().step(*args, **kwargs)
        self._names[call.key] = tuple(seen.trace.nodes)
        return loss

    def _program(self, call: Call, ahead: int = 1) -> _Staged | None:
        """The program for arguments of this kind; None where Pyro is to run them.

        Args:
            ahead: Calls that are sure to come.
        """
        if self._wait is None or _PYRO_STACK:  # a handler around the call wants to see its sites
            return None
        held = self._staged.get(call.key)
        if held is not None and held.stale():
            # Pyro takes a step, by which one sees what model and guide ask for now; then another program is made.
            del self._staged[call.key], self._names[call.key]
            self._stale[call.key] = self._stale.get(call.key, 0) + 1
            return None
        if call.key in self._staged:
            return held if held is None or self._still(held, call) else None
        seen = self._seen[call.key] = self._seen.get(call.key, 0) + 1
        if seen == 1 and len(self._seen) == KINDS and max(self._seen.values()) < self._wait:
            warnings.warn(
                f"SVI was called with {KINDS} kinds of arguments, and so runs at Pyro's speed: it compiles for one kind at a time. "
                "Hand in numbers that change as tensors, and keep shapes fixed.",
                stacklevel=3,
            )
        names = self._names.get(call.key)
        if not names or not pyro.get_param_store()._params.keys() >= set(names) or seen - 2 + ahead < self._wait:
            return None
        try:
            often = self._stale.get(call.key, 0) >= CHANGES
            self._staged[call.key] = _Staged(self, call, names, pure=not often)
        except CaptureFailed as error:
            self._give_up(call, error)
        return self._staged[call.key]

    def _still(self, held: _Staged, call: Call) -> bool:
        """Whether a program still does what model and guide do."""
        if held.due() and not held.faithful(call):
            self._give_up(call, CaptureFailed(CHANGED.format(pair=_called(self.model), steps=held.taken)))
            return False
        return True

    def _give_up(self, call: Call, error: CaptureFailed) -> None:
        warnings.warn(f"{error}\nSVI goes on step by step in Pyro, which is slower.", stacklevel=5)
        self._staged[call.key] = None


class _Staged:
    """The steps of an `SVI` on arguments of one kind, as a program over the tensors in Pyro's store."""

    def __init__(self, svi: SVI, call: Call, names: Iterable[str], *, pure: bool) -> None:
        self._svi = svi
        if any(tensor.requires_grad for tensor in call.tensors):
            raise CaptureFailed("An argument of model and guide requires a gradient: a program would not pass it on.")
        self._pair = Pair(call.bound(svi.model), call.bound(svi.guide), name=_called(svi.model)).adopt(names)
        if isinstance(svi._elbo, Remembering):
            self._pair.hold(svi._elbo.memory)
        self._leaves = self._pair.leaves
        for leaf in self._leaves.values():
            leaf.data = leaf.data.contiguous()
        self._program = stage(self._pair, self._elbo, Batch(call.tensors))
        self._like = next(iter(self._leaves.values()))
        self._fresh = FreshNoise(self._program.draws, self._like)
        self._modes = self._read_modes()
        # An optimiser whose options change all the time takes its steps itself.
        self._updates = Updates.of(torch_optimizers(svi.optim, self._leaves), self._leaves) if pure else None
        self._state: LoopState | None = None
        if self._updates:
            steps, states = self._updates.read()
            parameters = {name: leaf.data for name, leaf in self._leaves.items()}
            self._state = LoopState(steps, parameters, states, self._pair.buffers)
            self._updates.write(int(steps), states)
            self._loop = Loop(self._program, self._updates.rules, self._state, call.tensors)
        self._gradient: Compiled | None = None
        self._value: Compiled | None = None
        self.taken, self._next_look = 0, FIRST_LOOK

    @property
    def _elbo(self) -> Any:
        return self._svi._elbo

    def stale(self) -> bool:
        """Whether Pyro's store, or the optimiser, has other tensors now than those that this works on."""
        held = pyro.get_param_store()._params
        if any(held.get(name) is not leaf for name, leaf in self._leaves.items()) or self._read_modes() != self._modes:
            return True
        if not self._state or not self._updates:
            return False
        values = self._state.parameters
        if not self._updates.hold(self._state.optimizer) or any(
            leaf.data_ptr() != values[name].data_ptr() for name, leaf in self._leaves.items()
        ):
            return True
        buffers = self._pair.buffers
        return any(buffers[name] is not buffer for name, buffer in self._state.buffers.items())

    def _read_modes(self) -> list[bool]:
        """What modules are told beside their tensors: whether they train, and which of their parameters are to move."""
        parts = [part.training for module in self._pair.modules for part in module.modules()]
        return parts + [p.requires_grad for module in self._pair.modules for p in module.parameters()]

    def step(self, call: Call) -> float:
        noise = self._fresh()
        self.taken += 1
        if self._state and self._updates:
            self._updates.refresh(self._state.steps, self._state.optimizer)
            value = self._loop.step(self._state, noise, call.tensors)
            self._updates.count(int(self._state.steps), self._state.optimizer)
            return -value.item()
        parameters = {name: leaf.data for name, leaf in self._leaves.items()}
        inputs = parameters, self._pair.buffers, noise, call.tensors
        if self._gradient is None:
            self._gradient = Compiled(self._program.graph, *inputs)
        gradients, value, buffers = self._gradient(*inputs)
        for name, leaf in self._leaves.items():
            leaf.grad = -gradients[name]
        self._svi.optim(set(self._leaves.values()))
        zero_grads(self._leaves.values())
        self._pair.set_buffers(buffers)
        return -value.item()

    def steps(self, call: Call, count: int) -> list[float]:
        """Up to `count` steps; none if the first is not finite."""
        count = min(count, BLOCK, max(1, NUMBERS // max(1, sum(self._program.sizes))))
        if not (self._state and self._updates):
            return [self.step(call) for _ in range(min(count, 64))]
        self._updates.refresh(self._state.steps, self._state.optimizer)
        noise = draw_noise(self._program.sizes, count, self._like)
        reached, values = self._loop.run(self._state, noise, columns=call.tensors)
        for held, new in zip(self._state.flat(), reached.flat(), strict=True):
            held.copy_(new)
        self.taken += len(values)
        self._updates.count(int(self._state.steps), self._state.optimizer)
        return (-values).tolist()

    def evaluate(self, call: Call) -> float:
        parameters = {name: leaf.data for name, leaf in self._leaves.items()}
        inputs = parameters, self._pair.buffers, self._fresh(), call.tensors
        if self._value is None:
            self._value = Compiled(lambda *given: self._program.graph(*given)[1:], *inputs)
        value, buffers = self._value(*inputs)
        self._pair.set_buffers(buffers)
        return -value.item()

    def due(self) -> bool:
        """Whether it is time to hold it against Pyro again: more and more rarely."""
        return self.taken >= self._next_look

    def faithful(self, call: Call) -> bool:
        self._next_look = LATER * self.taken
        return faithful(self._pair, self._elbo, self._program, Batch(call.tensors), self.taken)


def _called(model: Callable[..., Any]) -> str:
    return str(getattr(model, "__name__", type(model).__name__))
