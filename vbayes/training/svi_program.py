"""The steps of an `SVI` as a program over the tensors in Pyro's store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyro
import torch
from pyro.infer.util import zero_grads
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import CaptureFailed
from ..estimators.remembering import Remembering
from ..pair.pair import Pair
from ..pair.places import Place
from ..pair.watch import Watch
from ..staging import Compiled, FreshNoise, Noise, Program, draw_noise, faithful, stage
from ..staging.loop import Loop, Part, run_loops
from ..staging.optimizers import Updates
from ..staging.step import LoopState
from .block_noise import BLOCK, NUMBERS
from .call import Call
from .engine_words import engine_of
from .failure import lost
from .fed import Fed
from .looks import Looks
from .non_finite_step import NonFiniteStep
from .optimizer import name_of_pyros, torch_optimizers


class SVIProgram:
    """The steps of an `SVI` on arguments of one kind, as a program over the tensors in Pyro's store.

    Args:
        svi: The `SVI`.
        call: The arguments.
        names: Names of the parameters.
        pure: Whether the optimiser's step should be part of the program.
        moving: Options of the optimiser that change from step to step; see `Update`.
        fed: Places read by model and guide whose values become inputs of the program, each with an earlier value.

    Attributes:
        watch: Watches everything else that model, guide and loss read, which the program has built in.
        failing: The noise of the step in `steps` that could not be taken.
    """

    def __init__(
        self,
        svi: Any,
        call: Call,
        names: Iterable[str],
        *,
        pure: bool,
        moving: Sequence[str] = (),
        fed: Sequence[tuple[Place, Any]] = (),
    ) -> None:
        self._svi = svi
        self._made_of = svi.model, svi.guide, svi.optim
        self.watch = Watch(svi.model, svi.guide, settings=svi._elbo, without=[place for place, _ in fed])
        types = {t.dtype for t in [*call.tensors, *pyro.get_param_store()._params.values()]}
        self._fed = Fed([place for place, _ in fed], wide=torch.float64 in types)
        self._given = self._fed.now() or ()
        if any(tensor.requires_grad for tensor in call.tensors):
            raise CaptureFailed(
                "An argument of model and guide requires a gradient, which a compiled program would not propagate."
            )
        model, guide = self._fed.into(call.bound(svi.model)), self._fed.into(call.bound(svi.guide))
        self._pair = Pair(model, guide, name=name_of_model(svi.model)).adopt(names)
        if isinstance(svi._elbo, Remembering):
            self._pair.hold(svi._elbo.memory)
        self._leaves = self._pair.leaves
        for leaf in self._leaves.values():
            leaf.data = leaf.data.contiguous()
        self._like = next(iter(self._leaves.values()))
        self._program = stage(self._pair, self._elbo, self._batch(call), self._rows)
        earlier = Batch((*self._fed.as_tensors([before for _, before in fed]), *call.tensors))
        if fed and not faithful(self._pair, self._elbo, self._program, earlier, 3):
            raise CaptureFailed(
                "A number that changes can't become an input: given its earlier value, the program and Pyro disagree."
            )
        self._fresh = FreshNoise(self._program.draws, self._like)
        self._modes = self._read_modes()
        # An optimiser whose options change all the time takes its steps itself.
        optimizers = torch_optimizers(svi.optim, self._leaves) if pure else {}
        self._updates = Updates.of(optimizers, self._leaves, self._untouched(), moving) if pure else None
        self._state: LoopState | None = None
        if self._updates:
            steps, states = self._updates.read()
            parameters = {name: leaf.data for name, leaf in self._leaves.items()}
            self._state = LoopState(steps, parameters, states, self._pair.buffers)
            self._updates.write(int(steps), states)
            rules, backend = self._updates.rules, svi._backend
            self._loop = Loop(
                self._program.unguarded, rules, self._state, self._inputs(call), backend=backend, seeded=True
            )
        self._gradient: Compiled | None = None
        self._value: Compiled | None = None
        self.taken, self._looks = 0, Looks()
        self._ahead: Noise | None = None  # noise drawn for steps of a run that are still to come
        self.failing: Noise | None = None
        self.watch.reset()  # a model that counts its calls has counted these checks

    def _batch(self, call: Call) -> Batch:
        return Batch(self._inputs(call))

    def _inputs(self, call: Call) -> tuple[Tensor, ...]:
        """The inputs of the program: the values of fed places, and the arguments."""
        return (*self._given, *call.tensors)

    @property
    def _elbo(self) -> Any:
        return self._svi._elbo

    def stale(self) -> bool:
        """Whether Pyro's store or the optimiser now holds other tensors than those of this program, or a part of the SVI was replaced."""
        model, guide, optim = self._made_of
        if self._svi.model is not model or self._svi.guide is not guide or self._svi.optim is not optim:
            return True
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

    def other(self, call: Call) -> tuple[bytes, ...] | None:
        """The values that model and guide read of some arguments, if they differ from those built into the program; None if it is valid."""
        guards, given = self._program.guards, self._fed.now()
        if guards is None or given is None:
            return None
        self._given = given
        rows = self._rows(self._program) if guards.of_rows else self._like.new_empty(0)
        values = guards.values(rows, self._inputs(call))
        return None if values == guards.own else values

    def _rows(self, program: Program) -> Tensor:
        """(u,) the uniforms of the next step, without consuming them."""
        before = rng.get_state()
        uniforms = FreshNoise(program.draws, self._like)()[1]
        rng.set_state(before)
        return uniforms

    @property
    def line(self) -> str:
        """The line where the first of such values is read."""
        return self._program.guards.line if self._program.guards else ""

    def changed(self) -> bool:
        """Whether something that model, guide and loss read has changed, apart from fed places, whose values are read for the next step."""
        given = self._fed.now()
        if given is None:
            return True
        self._given = given
        return self.watch.changed()

    def _read_modes(self) -> list[bool]:
        """Flags of modules and parameters: training mode, which parameters require gradients, and which have never had one."""
        parts = [part.training for module in self._pair.modules for part in module.modules()]
        parts += [p.requires_grad for module in self._pair.modules for p in module.parameters()]
        parts += [leaf.requires_grad for leaf in self._leaves.values()]
        return parts + [self._leaves[name].grad is None for name in sorted(self._program.still)]

    def _untouched(self) -> set[str]:
        """Parameters whose `.grad` stays None, which torch distinguishes from zeros left by earlier steps."""
        return {name for name in self._program.still if self._leaves[name].grad is None}

    def step(self, call: Call, *, guarded: bool = False) -> float:
        """Takes one step, whether it is finite or not, like Pyro.

        Args:
            guarded: Whether to raise `NonFiniteStep` before the optimiser's own step if the loss is not finite.
        """
        noise = self._fresh()
        self.taken += 1
        if self._state and self._updates:
            self._updates.refresh(self._state.steps, self._state.optimizer)
            value = self._loop.step(self._state, noise, self._inputs(call))
            self._updates.count(int(self._state.steps), self._state.optimizer)
            return -value.item()
        parameters = {name: leaf.data for name, leaf in self._leaves.items()}
        inputs = parameters, self._pair.buffers, noise, self._inputs(call)
        if self._gradient is None:
            self._gradient = Compiled(
                self._program.graph, *inputs, backend=self._svi._backend, static=self._program.static
            )
        gradients, value, buffers = self._gradient(*inputs)
        if guarded and not torch.isfinite(value):
            raise NonFiniteStep("loss")
        for name, leaf in self._leaves.items():
            if name not in self._program.still:
                leaf.grad = -gradients[name]
        self._svi.optim(set(self._leaves.values()))
        zero_grads(self._leaves.values())
        self._pair.set_buffers(buffers)
        return -value.item()

    @property
    def how(self) -> str:
        """As `SVI.engine`."""
        if self._state is not None:
            return engine_of([self._loop])
        quick = engine_of([self._gradient] if self._gradient is not None else [])
        own = f"{quick}, but for the optimiser's own step: {name_of_pyros(self._svi.optim)}"
        return quick if quick.startswith("interpreted") else own

    @property
    def whole(self) -> bool:
        """Whether the optimiser's step is part of the program."""
        return self._state is not None

    def steps(self, call: Call, count: int, left: int) -> list[float]:
        """Takes up to `count` steps of a `whole` program, stopping at the first that is not finite.

        Args:
            left: Number of steps left in the run, which alone determines how noise is drawn in blocks, independently of the current speed.
        """
        assert self._state and self._updates
        self._updates.refresh(self._state.steps, self._state.optimizer)
        if self._program.guards and self._program.guards.of_rows:  # so each step is checked for its rows
            normals, uniforms = self._fresh()
            self._ahead = normals[None].clone(), uniforms[None].clone()
        if self._ahead is None or not len(self._ahead[0]):
            together = min(left, BLOCK, max(1, NUMBERS // max(1, sum(self._program.sizes))))
            self._ahead = draw_noise(self._program.sizes, together, self._like)
        noise = self._ahead[0][:count], self._ahead[1][:count]
        self._ahead = self._ahead[0][count:], self._ahead[1][count:]
        seed = 0 if self._program.static else int(torch.randint(2**31, (), device="cpu"))
        reached, values = run_loops(self._state, [Part(self._loop, noise, None, self._inputs(call), seed)])
        for held, new in zip(self._state.flat(), reached.flat(), strict=True):
            held.copy_(new)
        self.taken += len(values)
        self._updates.count(int(self._state.steps), self._state.optimizer)
        if (taken := len(values)) < len(noise[0]):
            self.failing = noise[0][taken], noise[1][taken]
        return (-values).tolist()

    def lost(self, call: Call, noise: Noise) -> tuple[str, ...]:
        """The parameters that the step of a `whole` program would make NaN or infinite."""
        assert self._state and self._updates
        gradients, _, _ = self._program.graph(self._state.parameters, self._pair.buffers, noise, self._inputs(call))
        return lost(self._updates.rules, self._state, gradients)

    def begin(self) -> None:
        """Begins a run: drops noise left over from an earlier one."""
        self._ahead = self.failing = None

    def evaluate(self, call: Call) -> float:
        parameters = {name: leaf.data for name, leaf in self._leaves.items()}
        inputs = parameters, self._pair.buffers, self._fresh(), self._inputs(call)
        if self._value is None:
            backend = self._svi._backend
            self._value = Compiled(self._value_of, *inputs, backend=backend, static=self._program.static)
        value, buffers = self._value(*inputs)
        self._pair.set_buffers(buffers)
        return -value.item()

    def _value_of(self, *given: Any) -> Any:
        """The value of the program, and the buffers after it."""
        return self._program.graph(*given)[1:]

    def due(self) -> bool:
        """Whether it is time to compare the program with Pyro again."""
        return self._looks.due(self.taken)

    def faithful(self, call: Call) -> bool:
        with self._looks.look(self.taken):
            same = faithful(self._pair, self._elbo, self._program, self._batch(call), self.taken)
        self.watch.reset()
        return same


def name_of_model(model: Callable[..., Any]) -> str:
    return str(getattr(model, "__name__", type(model).__name__))
