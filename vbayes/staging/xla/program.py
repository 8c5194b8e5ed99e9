"""A graph handed to XLA, called with tensors."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import Tensor
from torch.fx import GraphModule, Node

from .crossing import Crossing, lent, name_of, to_jax
from .jitted import SMALL, Jitted
from .load import device_of
from .rules.linear_algebra import coarse
from .translate import Translation, key_of

STEPS, NUMBERS = 1024, 2**22  # in one call at most; and numbers in what has a row for each step
BETWEEN_LOOKS = {"cpu": 1}  # steps between two looks whether to go on; on a card a look waits for it
MANY = {"cpu": 256}  # runs side by side in one call
ROOM = 2**32  # bytes that these make in all, as if none were freed


class XLA:
    """A program by XLA.

    Args:
        graph: Without mutation; each node notes what it makes (`meta["val"]`).
        states: The first so many inputs become the first as many outputs, for the next run.
        device: Of its tensors.

    Attributes:
        drawn: The operations that draw random numbers other than the given noise.
        draws: Whether there are any.

    Raises:
        Unsupported: There is no rule for an operation.
    """

    def __init__(self, graph: GraphModule, states: int, device: torch.device) -> None:
        self._translation, self._states, self._device = Translation(graph), states, device
        nodes = list(graph.graph.nodes)
        self._takes = [n.meta["val"] for n in nodes if n.op == "placeholder"]
        self._makes = [n.meta["val"] for n in next(n for n in nodes if n.op == "output").args[0]]
        self._in, self._out = Crossing.of(self._takes), Crossing.of(self._makes)
        self._where = device_of(device)
        self._bytes = sum(getattr(n.meta.get("val"), "nbytes", 0) for n in nodes if n.op == "call_function")
        self.small = device.type == "cpu" and self._bytes <= SMALL
        same = device.type == "cuda" and torch.are_deterministic_algorithms_enabled()
        self._options = {"xla_gpu_deterministic_ops": True} if same else None
        self.drawn = self._translation.draws
        self.draws = bool(self.drawn)
        with self._inside():
            self._constants = [to_jax(tensor.to(device)) for tensor in self._translation.constants]
        self._once = Jitted(self._run, small=self.small and not self.draws, options=self._options)
        self._side_by_side: dict[Any, Any] = {}
        self._steps: dict[Any, Any] = {}

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Types are torch's, as is the precision of products, a program for each; arrays that are made from nothing are on the device. Outside nothing has changed."""
        products = jax.default_matmul_precision("default" if coarse() else "highest")
        with jax.enable_x64(True), jax.default_device(self._where), products, lent(self._device):
            yield

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """One run. States are overwritten; what is returned are the other outputs."""
        made = self._crossed(inputs, self._key())
        with torch.no_grad():
            for held, new in zip(inputs[: self._states], made, strict=False):
                held.copy_(new)
        return made[self._states :]

    def with_draws(self, inputs: Sequence[Tensor], drawn: dict[Node, Tensor]) -> list[Tensor]:
        """All outputs of a run in which the draws are these."""
        return self._crossed(inputs, None, [drawn[node] for node in self.drawn])

    def _crossed(self, inputs: Sequence[Tensor], seed: Any, drawn: Sequence[Tensor] | None = None) -> list[Tensor]:
        with self._inside():
            given = None if drawn is None else [to_jax(tensor) for tensor in drawn]
            made = self._once(self._constants, self._in.over(inputs), seed, given)
            return self._out.back(made, self._device)

    def _key(self) -> Any:
        """Drawn from torch's own generator; none where nothing is drawn by it."""
        return int(torch.randint(2**31, (), device="cpu")) if self.draws else None

    def _run(self, constants: Any, crossed: Any, seed: Any, drawn: Any = None) -> Any:
        key = None if seed is None else key_of(seed)
        given = None if drawn is None else dict(zip(self._translation.draws, drawn, strict=True))
        return self._out.closed(self._translation(self._in.opened(crossed), constants, key, given))

    def steps(
        self, states: Sequence[Tensor], stacks: Sequence[Tensor], columns: Sequence[Tensor], seed: int = 0, *, between_looks: int | None = None,
    ) -> tuple[list[Tensor], Tensor]:  # fmt: skip
        """Many runs, each on the states that the one before left. The program returns states, a value, and whether it is finite; one that is not is not taken,
        and is the end.

        Args:
            states: They stay as they are. The first counts the steps: a step's random numbers are a function of that and the seed.
            stacks: Inputs after the states, with a row for each step.
            columns: The other inputs, the same in all steps.
            between_looks: Steps after which to look whether to go on.

        Returns:
            The states after the last step that was taken, and the value of each of those.
        """
        every, done, count = [*states], 0, len(stacks[0])
        values = []
        between = between_looks or BETWEEN_LOOKS.get(self._device.type, 16)
        capacity = _capacity(stacks)
        program = self._steps_of(capacity, between, [s.shape[1:] for s in stacks], [s.dtype for s in stacks])
        while done < count:
            some = [stack[done : done + capacity] for stack in stacks]
            every, made = program(every, some, columns, seed)
            values.append(made)
            done += len(made)
            if len(made) < len(some[0]):
                break
        return every, torch.cat(values) if values else stacks[0].new_empty(0)

    def _steps_of(self, capacity: int, between: int, shapes: Any, dtypes: Any) -> Any:
        key = (capacity, between)
        if key not in self._steps:
            self._steps[key] = _Steps(self, capacity, between, shapes, dtypes)
        return self._steps[key]

    def side_by_side(
        self, rows: Sequence[Tensor], others: Sequence[Tensor], together: int | None = None
    ) -> list[Tensor]:
        """Many runs of a program without states.

        Args:
            rows: The first inputs, with a row for each run.
            others: The other inputs, the same in all.
            together: Runs in a call, where they are fewer than usual; each number is a program of its own.

        Returns:
            Each output, with a row for each run.
        """
        most, count = MANY.get(self._device.type, 1024), len(rows[0])
        size = max(1, min(most, together or most, ROOM // max(1, self._bytes)))
        inputs, parts = Crossing.of(others), []
        with self._inside():
            crossed = inputs.over(others)
        if (kind := (len(rows), size)) not in self._side_by_side:
            run = functools.partial(self._run_many, inputs, size)
            self._side_by_side[kind] = Jitted(run, small=False, options=self._options)
        for start in range(0, count, size):
            some = [_filled_up(tensor[start : start + size], size) for tensor in rows]
            with self._inside():
                given = [to_jax(tensor) if tensor.numel() else None for tensor in some]
                made = self._side_by_side[kind](self._constants, given, crossed, self._key())
                parts.append([torch.from_dlpack(array)[: count - start].clone() for array in made])
        return [torch.cat(same) for same in zip(*parts, strict=True)]

    def _run_many(self, inputs: Crossing, size: int, constants: Any, rows: Any, others: Any, seed: Any) -> Any:
        shared = inputs.opened(others)
        keys = None if seed is None else jax.random.split(key_of(seed), size)
        empty = [None if row is not None else jnp.zeros(t.shape, name_of(t.dtype)) for row, t in zip(rows, self._takes, strict=False)]  # fmt: skip

        def one(own: Any, key: Any, _: Any) -> Any:
            mine: list[Any] = [e if o is None else o for o, e in zip(own, empty, strict=True)]
            return self._translation([*mine, *shared], constants, key)

        return jax.vmap(one)(rows, keys, jnp.arange(size))  # there may be neither noise nor keys


class _Steps:
    """Up to so many steps in one call of one compiled loop."""

    def __init__(self, of: XLA, capacity: int, between: int, shapes: Any, dtypes: Any) -> None:
        self._of, self._capacity, self._between = of, capacity, between
        first, last = of._states, of._states + len(shapes)
        self._state, self._columns = Crossing.of(of._takes[:first]), Crossing.of(of._takes[last:])
        value = of._makes[first]
        self._value = tuple(value.shape), name_of(value.dtype)
        self._buffers = [
            torch.zeros(capacity, *shape, dtype=dtype, device=of._device)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        self._empty = [(tuple(b.shape), name_of(b.dtype)) if not b.numel() else None for b in self._buffers]
        self._jitted = Jitted(self._loop, small=of.small, options=of._options)
        self._crossed: tuple[Any, Any] = ((), ())

    def __call__(
        self, states: Sequence[Tensor], stacks: Sequence[Tensor], columns: Sequence[Tensor], seed: int
    ) -> tuple[list[Tensor], Tensor]:
        count = len(stacks[0])
        for buffer, stack in zip(self._buffers, stacks, strict=True):
            buffer[:count].copy_(stack)
        of = self._of
        with of._inside():
            rows = [None if empty else to_jax(b) for b, empty in zip(self._buffers, self._empty, strict=True)]
            made = self._jitted(
                of._constants, self._state.over(states), rows, self._columns.over(columns), count, seed % 2**32
            )
            *after, values, taken = made
            reached = self._state.back(after, of._device)
            return reached, torch.from_dlpack(values)[: int(taken)].clone()

    def _loop(self, constants: Any, crossed: Any, stacks: Any, columns: Any, count: Any, seed: Any) -> Any:
        of = self._of
        shared, first = self._columns.opened(columns), of._states
        stacks = [jnp.zeros(*e) if e else s for s, e in zip(stacks, self._empty, strict=True)]

        def step(_: Any, carry: Any) -> Any:
            number, going, crossed, values = carry
            states = self._state.opened(crossed)
            rows = [lax.dynamic_index_in_dim(stack, number, 0, keepdims=False) for stack in stacks]
            key = jax.random.fold_in(key_of(seed), states[0].astype("uint32")) if of.draws else None
            made = of._translation([*states, *rows, *shared], constants, key)
            takes = going & made[first + 1] & (number < count)
            after = self._state.closed(made[:first])
            crossed = [jnp.where(takes, new, old) for new, old in zip(after, crossed, strict=True)]
            values = lax.dynamic_update_index_in_dim(values, made[first], number, 0)
            # A step after the last one is undone with those that are not finite; only these are the end.
            return number + takes, going & (made[first + 1] | (number >= count)), crossed, values

        carry = (
            jnp.asarray(0, "int64"),
            jnp.asarray(True),
            crossed,  # small states as the one vector that they come in: one each would be a kernel each
            jnp.zeros((self._capacity + 1, *self._value[0]), self._value[1]),  # one more for steps after the last
        )
        some = step if self._between == 1 else lambda _, c: lax.fori_loop(0, self._between, step, c)
        number, _, crossed, values = lax.while_loop(lambda c: (c[0] < count) & c[1], lambda c: some(None, c), carry)
        return *crossed, values, number


def _capacity(stacks: Sequence[Tensor]) -> int:
    """Steps in a call: not a function of how many are asked for, so that one program serves for all."""
    numbers = sum(stack[0].numel() for stack in stacks)
    return max(1, min(STEPS, NUMBERS // max(1, numbers)))


def _filled_up(tensor: Tensor, size: int) -> Tensor:
    """So many rows, the last of them over and over."""
    if len(tensor) == size:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(size - len(tensor), *tensor.shape[1:])])
