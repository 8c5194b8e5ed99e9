"""The steps of an `SVI` as a program over the tensors in Pyro's store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyro
from pyro.infer.util import zero_grads

from ..data.dataset import Batch
from ..errors import CaptureFailed
from ..estimators.memory import Remembering
from ..pair.pair import Pair
from ..staging import Compiled, FreshNoise, Noise, draw_noise, faithful, stage
from ..staging.loop import Loop
from ..staging.optimizers import Updates
from ..staging.step import LoopState
from .call import Call
from .optimizer import torch_optimizers
from .staged import BLOCK, FIRST_LOOK, LATER, NUMBERS


class SVIProgram:
    """The steps of an `SVI` on arguments of one kind, as a program over the tensors in Pyro's store."""

    def __init__(self, svi: Any, call: Call, names: Iterable[str], *, pure: bool) -> None:
        self._svi = svi
        if any(tensor.requires_grad for tensor in call.tensors):
            raise CaptureFailed("An argument of model and guide requires a gradient: a program would not pass it on.")
        self._pair = Pair(call.bound(svi.model), call.bound(svi.guide), name=name_of_model(svi.model)).adopt(names)
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
        optimizers = torch_optimizers(svi.optim, self._leaves) if pure else {}
        self._updates = Updates.of(optimizers, self._leaves, self._untouched()) if pure else None
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
        self._ahead: Noise | None = None  # drawn for steps of a run that are not taken yet

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
        """What modules and parameters are told beside their numbers: whether they train, which are to move, which never have."""
        parts = [part.training for module in self._pair.modules for part in module.modules()]
        parts += [p.requires_grad for module in self._pair.modules for p in module.parameters()]
        parts += [leaf.requires_grad for leaf in self._leaves.values()]
        return parts + [self._leaves[name].grad is None for name in sorted(self._program.still)]

    def _untouched(self) -> set[str]:
        """Parameters whose `.grad` is None, and stays so: for torch that is not the same as zeros, which earlier steps may have left."""
        return {name for name in self._program.still if self._leaves[name].grad is None}

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
            if name not in self._program.still:
                leaf.grad = -gradients[name]
        self._svi.optim(set(self._leaves.values()))
        zero_grads(self._leaves.values())
        self._pair.set_buffers(buffers)
        return -value.item()

    def steps(self, call: Call, count: int, left: int) -> list[float]:
        """Up to `count` steps; none if the first is not finite.

        Args:
            left: Of a run, steps that are still to be taken: by them, and not by the pace of the moment, noise is drawn together.
        """
        if not (self._state and self._updates):
            return [self.step(call) for _ in range(count)]
        self._updates.refresh(self._state.steps, self._state.optimizer)
        if self._ahead is None or not len(self._ahead[0]):
            together = min(left, BLOCK, max(1, NUMBERS // max(1, sum(self._program.sizes))))
            self._ahead = draw_noise(self._program.sizes, together, self._like)
        noise = self._ahead[0][:count], self._ahead[1][:count]
        self._ahead = self._ahead[0][count:], self._ahead[1][count:]
        reached, values = self._loop.run(self._state, noise, columns=call.tensors)
        for held, new in zip(self._state.flat(), reached.flat(), strict=True):
            held.copy_(new)
        self.taken += len(values)
        self._updates.count(int(self._state.steps), self._state.optimizer)
        return (-values).tolist()

    def begin(self) -> None:
        """A run begins: noise that an earlier one has left is dropped."""
        self._ahead = None

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


def name_of_model(model: Callable[..., Any]) -> str:
    return str(getattr(model, "__name__", type(model).__name__))
