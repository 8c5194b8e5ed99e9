"""Parameter and buffer values that belong to one pair, although the tensors that hold them are shared.

Model and guide refer to tensors in Pyro's store and in modules, and every copy of a pair refers to the same ones. A pair owns only
the values. Inside `scope` the tensors hold the pair's values, outside whatever they held before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints, transform_to

from ..errors import BadInput
from ..rng import TURN
from .modules import reachable_modules

BUFFER = "buffer."  # prefix of the names of module buffers in a snapshot: `buffer.0.running_mean`


class Ownership:
    """The values of one pair.

    Args:
        callables: Model and guide, whose modules' buffers also belong to the pair.

    Attributes:
        modules: Those modules, and the ones added by `hold`.
        held: The modules added by `hold`.
        home: The device where the callables made their parameters; None before that.
        where: The device to which the pair was moved, even if it has no parameters yet.
    """

    def __init__(self, *callables: Callable[..., Any]) -> None:
        # The tensors that model and guide refer to (shared by every copy of the pair) ...
        self._leaves: dict[str, Tensor] = {}
        self._constraints: dict[str, Any] = {}
        # ... and the numbers that this pair puts into them.
        self._values: dict[str, Tensor] = {}
        self.home: torch.device | None = None
        self.where: torch.device | None = None
        self.modules: list[torch.nn.Module] = reachable_modules(*callables)
        self.held: list[torch.nn.Module] = []
        self._buffers = self._read_buffers()

    @property
    def values(self) -> dict[str, Tensor]:
        """Name → unconstrained value, in the order in which Pyro met them; tied weights appear once, under the alphabetically first name."""
        return dict(self._values)

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Name → the tensor that gradients are taken with respect to."""
        return {name: self._leaves[name] for name in self._values}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """`buffer.i.name` → the current buffers of the modules."""
        return {f"{BUFFER}{i}.{name}": self.modules[i].get_buffer(name) for i, name in self._buffers}

    def constraint(self, name: str) -> Any:
        """The constraint of a parameter."""
        return self._constraints.get(name, constraints.real)

    def constrained(self) -> dict[str, Tensor]:
        """Name → value in the constrained space."""
        with self.scope():
            return {name: value.detach().clone() for name, value in pyro.get_param_store().items()}

    def unconstrained(self, owner: str, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Converts constrained values to unconstrained ones, for `load`.

        Raises:
            BadInput: An unknown name, another shape, or a value that breaks the constraint.
        """
        state: dict[str, Tensor] = {}
        for name, value in parameters.items():
            if name not in self._values:
                raise BadInput(
                    f"Pair {owner!r} has no parameter {name!r}. Wanted: one of {', '.join(self._values) or 'none, as it has no parameters yet'}."
                )
            constraint, old = self.constraint(name), self._values[name]
            if not constraint.check(value).all():
                raise BadInput(
                    f"Parameter {name!r} = {value.tolist()} of pair {owner!r} is not in {constraint}. Wanted: a value in constrained space, as in Fit.parameters."
                )
            state[name] = transform_to(constraint).inv(value).to(old)
            if state[name].shape != old.shape:
                raise BadInput(
                    f"Parameter {name!r} of pair {owner!r} has shape {tuple(value.shape)}, {tuple(state[name].shape)} unconstrained. "
                    f"Wanted: {tuple(old.shape)} unconstrained."
                )
        return state

    def state(self) -> dict[str, Tensor]:
        """A snapshot of every parameter (unconstrained) and buffer."""
        return {k: v.detach().clone() for k, v in self._values.items()} | self._snapshot_of_buffers()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Loads the values of a snapshot, or of a part of one."""
        for key, value in state.items():
            if key.startswith(BUFFER):
                self._buffers[_place(key)] = value.detach().clone()
            else:
                self._values[key] = value.detach().clone()

    def in_order_of(self, names: Iterable[str]) -> None:
        """Reorders the parameters; `names` are all of them."""
        wanted = tuple(names)
        self._values = {name: self._values[name] for name in wanted}
        self._leaves = {name: self._leaves[name] for name in (*wanted, *self._leaves)}

    def share(self, other: Ownership, names: Iterable[str] | None = None) -> None:
        """Shares the tensors of another pair's parameters.

        Args:
            names: The parameters to share; all if None.
        """
        self.home, self.where = other.home, other.where
        mine = set(other._leaves if names is None else names)
        self._leaves = {name: leaf for name, leaf in other._leaves.items() if name in mine}
        self._constraints = {name: other._constraints[name] for name in other._constraints if name in mine}
        if names is None:
            for module in other.held:
                self.hold(module)

    def adopt(self, names: Iterable[str]) -> None:
        """Takes over parameters, with their values, from Pyro's store."""
        store = pyro.get_param_store().get_state()
        self._leaves = {name: store["params"][name] for name in names}
        self._constraints = {name: store["constraints"][name] for name in names}
        self._values = self._numbers_in(self._leaves)
        self.home = next((value.device for value in self._values.values()), None)

    def hold(self, module: torch.nn.Module) -> None:
        """Adds a module to those whose buffers belong to the pair."""
        if all(module is not other for other in self.modules):
            self.modules.append(module)
            self.held.append(module)
            self.look_for_buffers()

    def release(self) -> None:
        """Removes all modules added by `hold`."""
        own = len(self.modules) - len(self.held)
        self.modules, self.held = self.modules[:own], []
        self._buffers = {place: buffer for place, buffer in self._buffers.items() if place[0] < own}

    def look_for_buffers(self) -> None:
        """Adds buffers that modules have made since the last call, with their current values."""
        self._buffers = self._read_buffers() | self._buffers

    def forget(self) -> None:
        """Removes all parameters, as in a new pair."""
        self._values, self._leaves, self._constraints, self.home = {}, {}, {}, None

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Sets the buffers of the modules, inside `scope`."""
        self._set_buffers({_place(key): buffer for key, buffer in buffers.items()})

    @contextmanager
    def scope(self, *, keep_buffers: bool = False) -> Iterator[None]:
        """Context in which Pyro's param store and the modules hold this pair's values; their earlier values are restored afterwards. Other threads wait.

        Args:
            keep_buffers: Whether the pair's buffers stay as they were, even if they are updated in the scope.
        """
        with TURN:
            with self._inside(keep_buffers):
                yield

    @contextmanager
    def _inside(self, keep_buffers: bool) -> Iterator[None]:
        store, mine = pyro.get_param_store(), self.leaves
        here = next((value.device for value in self._values.values()), None)
        met = {id(leaf) for leaf in mine.values()}
        unmet = [p for module in self.modules for p in module.parameters() if id(p) not in met]
        kept = dict(self._buffers) if keep_buffers else {}  # other pairs may hold these tensors, so copies are moved
        with (
            pyro.settings.context(module_local_params=False),
            store.scope(
                {
                    "params": {name: leaf for name, leaf in self._leaves.items() if id(leaf) in met},
                    "constraints": dict(self._constraints),
                }
            ),
        ):
            outside = {id(leaf): (leaf.data, leaf.grad) for leaf in (*mine.values(), *unmet)}
            buffers = {key: self.modules[key[0]].get_buffer(key[1]) for key in self._buffers}
            for name, leaf in mine.items():
                leaf.grad, leaf.data = None, self._values[name]
            for leaf in unmet:  # a model may use them later
                leaf.grad, leaf.data = None, leaf.data.to(here or leaf.device, copy=True)
            self._set_buffers(self._buffers | {key: buffer.clone() for key, buffer in kept.items()})
            try:
                yield
            finally:
                self._buffers = {(i, k): self.modules[i].get_buffer(k) for i, k in self._buffers} | kept
                self._set_buffers(buffers)
                state = store.get_state()
                self._constraints |= state["constraints"]
                self._leaves |= state["params"]
                met_now = self._numbers_in(state["params"])
                if not self._values:
                    self.home = next((value.device for value in met_now.values()), None)
                self._values = {k: v for k, v in self._values.items() if k not in state["params"]} | met_now
                for leaf in (*state["params"].values(), *unmet):
                    value, gradient = outside.get(id(leaf), (leaf.data.clone(), None))
                    leaf.grad = None
                    leaf.data = value
                    leaf.grad = gradient

    def _numbers_in(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values of some leaves, each under its first name."""
        names: dict[int, list[str]] = {}
        for name, leaf in leaves.items():
            names.setdefault(id(leaf), []).append(name)
        return {min(same): self._leaves[same[0]].data for same in names.values()}

    def _snapshot_of_buffers(self) -> dict[str, Tensor]:
        return {f"{BUFFER}{i}.{name}": buffer.clone() for (i, name), buffer in self._buffers.items()}

    def _read_buffers(self) -> dict[tuple[int, str], Tensor]:
        return {
            (i, name): buffer.clone()
            for i, module in enumerate(self.modules)
            for name, buffer in module.named_buffers()
        }

    def _set_buffers(self, buffers: Mapping[tuple[int, str], Tensor]) -> None:
        for (i, name), value in buffers.items():
            owner, _, last = name.rpartition(".")
            self.modules[i].get_submodule(owner)._buffers[last] = value


def _place(key: str) -> tuple[int, str]:
    """The number of the module, and the name of the buffer in it."""
    _, i, name = key.split(".", 2)
    return int(i), name
