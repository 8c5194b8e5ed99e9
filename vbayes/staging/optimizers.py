"""The steps of `torch.optim` and Pyro's ClippedAdam as pure functions of tensors, so that they can be part of a compiled program."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor

from ..updates.natural_gradient import NaturalAdam
from .averaged_adam import AveragedAdam, averaged_adam
from .averaged_adam import start as _averaged_start
from .update import MOVING, Rule, State, Update, moving_options


def _zeros(*names: str) -> Callable[[Tensor, Mapping[str, Any]], State]:
    return lambda parameter, options: {name: torch.zeros_like(parameter) for name in names}


def _decayed(parameter: Tensor, gradient: Tensor, options: Mapping[str, Any]) -> Tensor:
    return gradient + options["weight_decay"] * parameter if options["weight_decay"] else gradient


def _adam(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    (b1, b2), lr = options["betas"], options["lr"]
    if isinstance(lr, Tensor):
        return _adam_at(p, g, state, t, options)
    if options.get("decoupled_weight_decay"):
        p = p * (1 - lr * options["weight_decay"])
    else:
        g = _decayed(p, g, options)
    m = state["exp_avg"] + (1 - b1) * (g - state["exp_avg"])
    v = b2 * state["exp_avg_sq"] + (1 - b2) * g * g
    first, second = (1 - b1**t).to(p.dtype), (1 - b2**t).sqrt().to(p.dtype)
    return p - (lr / first) * (m / (v.sqrt() / second + options["eps"])), {"exp_avg": m, "exp_avg_sq": v}


def _adam_at(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    """A step with a given rate and first β."""
    b1, b2, lr = options.get("beta1", options["betas"][0]), options["betas"][1], options["lr"]
    if options.get("decoupled_weight_decay"):
        p = p * _like(1 - lr * options["weight_decay"], p)
    else:
        g = _decayed(p, g, options)
    m = state["exp_avg"] + _like(1 - b1, p) * (g - state["exp_avg"])
    v = b2 * state["exp_avg_sq"] + (1 - b2) * g * g
    size, second = _like(lr / (1 - b1**t), p), (1 - b2**t).sqrt().to(p.dtype)
    return p - size * (m / (v.sqrt() / second + options["eps"])), {"exp_avg": m, "exp_avg_sq": v}


def _like(number: Any, tensor: Tensor) -> Any:
    """A number given as a tensor, converted to the type of another tensor, which a wider type would promote."""
    return number.to(tensor.dtype) if isinstance(number, Tensor) else number


def _sgd_start(parameter: Tensor, options: Mapping[str, Any]) -> State:
    return {"momentum_buffer": torch.zeros_like(parameter)} if options["momentum"] else {}


def _sgd(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    g = _decayed(p, g, options)
    if "momentum_buffer" in state:
        # The first gradient is not averaged.
        momentum = _like(options["momentum"], p)
        buffer = torch.where(t == 1, g, momentum * state["momentum_buffer"] + (1 - options["dampening"]) * g)
        g, state = g + momentum * buffer if options["nesterov"] else buffer, {"momentum_buffer": buffer}
    return p - _like(options["lr"], p) * g, state


def _adagrad_start(parameter: Tensor, options: Mapping[str, Any]) -> State:
    return {"sum": torch.full_like(parameter, options["initial_accumulator_value"])}


def _adagrad(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    g = _decayed(p, g, options)
    total = state["sum"] + g * g
    rate = (options["lr"] / (1 + (t - 1) * options["lr_decay"])).to(p.dtype)
    return p - rate * (g / (total.sqrt() + options["eps"])), {"sum": total}


def _rmsprop_start(parameter: Tensor, options: Mapping[str, Any]) -> State:
    names = ["square_avg"]
    names += ["momentum_buffer"] * (options["momentum"] > 0) + ["grad_avg"] * bool(options["centered"])
    return {name: torch.zeros_like(parameter) for name in names}


def _rmsprop(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    g = _decayed(p, g, options)
    alpha = options["alpha"]
    square = alpha * state["square_avg"] + (1 - alpha) * g * g
    made, spread = {"square_avg": square}, square
    if options["centered"]:
        made["grad_avg"] = state["grad_avg"] + (1 - alpha) * (g - state["grad_avg"])
        spread = square - made["grad_avg"] ** 2
    g = g / (spread.sqrt() + options["eps"])
    if "momentum_buffer" in state:
        g = made["momentum_buffer"] = _like(options["momentum"], p) * state["momentum_buffer"] + g
    return p - _like(options["lr"], p) * g, made


def _clipped_start(parameter: Tensor, options: Mapping[str, Any]) -> State:
    rate = torch.full((), options["lr"], dtype=torch.float64, device=parameter.device)
    return {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")} | {"lr": rate}


def _clipped_adam(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    b1, b2 = options["betas"]
    g = _decayed(p, g.clamp(-options["clip_norm"], options["clip_norm"]), options)
    m = b1 * state["exp_avg"] + (1 - b1) * g
    spread = g - m if options["centered_variance"] else g
    v = b2 * state["exp_avg_sq"] + (1 - b2) * spread * spread
    rate = state["lr"] * options["lrd"]
    size = (rate * (1 - b2**t).sqrt() / (1 - b1**t)).to(p.dtype)
    return p - size * (m / (v.sqrt() + options["eps"])), {"exp_avg": m, "exp_avg_sq": v, "lr": rate}


def _clipped_start_still(parameter: Tensor, options: Mapping[str, Any]) -> State:
    return {"lr": _clipped_start(parameter, options)["lr"]}


def _clipped_adam_still(
    p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]
) -> tuple[Tensor, State]:
    return p, {"lr": state["lr"] * options["lrd"]}  # its rate decays with or without a gradient


RULES: dict[type, tuple[Callable[[Tensor, Mapping[str, Any]], State], Rule]] = {
    torch.optim.Adam: (_zeros("exp_avg", "exp_avg_sq"), _adam),
    torch.optim.AdamW: (_zeros("exp_avg", "exp_avg_sq"), _adam),
    torch.optim.SGD: (_sgd_start, _sgd),
    torch.optim.Adagrad: (_adagrad_start, _adagrad),
    torch.optim.RMSprop: (_rmsprop_start, _rmsprop),
    ClippedAdam: (_clipped_start, _clipped_adam),
    AveragedAdam: (_averaged_start, averaged_adam),
    NaturalAdam: (_zeros("exp_avg", "exp_avg_sq"), _adam),
}
UNUSED = ("amsgrad", "maximize")  # options that the rules do not support


def update_for(optimizer: torch.optim.Optimizer, moving: Collection[str] = ()) -> Update | None:
    """The pure function equivalent to an optimiser's step; None if there is none.

    Args:
        moving: Options in `MOVING` that become inputs of it, if the optimiser has them.
    """
    if type(optimizer) not in RULES or len(optimizer.param_groups) != 1:
        return None
    options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    if any(options.get(name) for name in UNUSED) or isinstance(options["lr"], Tensor):
        return None
    start, rule = RULES[type(optimizer)]
    # Others have the rate in their state anyway.
    inputs = () if rule in (_clipped_adam, averaged_adam) else tuple(n for n in moving_options(options) if n in moving)
    return Update(start, rule, options, inputs)


@dataclass(frozen=True)
class Updates:
    """The pure form of the optimisers of some parameters, and conversions between their state and that of a program.

    Attributes:
        optimizers: Name of a parameter → the torch optimiser that steps it.
        leaves: Name → the optimiser's parameter, for those that have a gradient.
        rules: Name → its update rule. As in torch, a parameter without a gradient has none, and no state; but a
            `ClippedAdam` lets its rate decay anyway.
    """

    optimizers: Mapping[str, torch.optim.Optimizer]
    leaves: Mapping[str, Tensor]
    rules: Mapping[str, Update]
    _fixed: dict[str, tuple[list[str], list[Any]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        optimizers: Mapping[str, torch.optim.Optimizer],
        leaves: Mapping[str, Tensor],
        still: Collection[str] = frozenset(),
        moving: Collection[str] = (),
    ) -> Updates | None:
        """Makes the pure form; None if one of the optimisers has none, or they have taken different numbers of steps.

        Args:
            still: Names of the parameters whose `.grad` is None.
            moving: See `update_for`.
        """
        each = {id(optimizer): update_for(optimizer, moving) for optimizer in optimizers.values()}
        known = {name: update for name, optimizer in optimizers.items() if (update := each[id(optimizer)])}
        joint, rules = _joint(optimizers, leaves), {}
        for name, update in known.items():
            if name not in still:
                rules[name] = update if name not in joint else joint[name]
            elif isinstance(optimizers[name], ClippedAdam):
                rules[name] = Update(_clipped_start_still, _clipped_adam_still, update.options)
        made = cls(optimizers, {name: leaf for name, leaf in leaves.items() if name not in still}, rules)
        return made if len(known) == len(leaves) and len(set(made._counts())) == 1 else None

    def _counts(self, parameters: int | None = None) -> list[int]:
        some = itertools.islice(self.leaves.items(), parameters)
        states = [self.optimizers[name].state.get(leaf, {}) for name, leaf in some]
        # SGD does not count steps; only the existence of momentum matters.
        return [int(s.get("step", s.get("momentum_buffer") is not None)) for s in states]

    def read(self) -> tuple[Tensor, dict[str, State]]:
        """The number of steps taken, and the state of each parameter: the optimisers' own tensors, if they exist already."""
        like = next(iter(self.leaves.values())).detach()
        device = like.device
        states = {}
        for name, rule in self.rules.items():
            leaf = self.leaves.get(name, like)
            held = self.optimizers[name].state.get(leaf, {})
            fresh = rule.init(leaf.detach())
            states[name] = {k: v if held.get(k) is None else held[k] for k, v in fresh.items()}
        return torch.tensor(float(self._counts()[0]), dtype=torch.float64, device=device), states

    def refresh(self, steps: Tensor, states: Mapping[str, State]) -> None:
        """Copies to a state what the optimisers hold besides tensors: the number of steps, and rates that change."""
        steps.fill_(self._counts(1)[0])
        for name, state in states.items():
            if names := [each for each in MOVING if each in state]:
                now = moving_options(self.optimizers[name].param_groups[0])
                for each in names:
                    state[each].fill_(now[each])

    def hold(self, states: Mapping[str, State]) -> bool:
        """Whether the optimisers still hold these very tensors, have all taken the same number of steps, and have the same options as before."""
        for name, rule in self.rules.items():
            optimizer, state = self.optimizers[name], states[name]
            leaf, group = self.leaves.get(name), optimizer.param_groups[0]
            held = {} if leaf is None else optimizer.state.get(leaf, {})
            if any(held.get(key) is not tensor for key, tensor in state.items() if key not in MOVING):
                return False
            fixed, built_in = self._built_in(name, state)
            if [group[key] for key in fixed] != built_in:
                return False
            if "beta1" in state and group["betas"][1] != rule.options["betas"][1]:
                return False
        return len(set(self._counts())) == 1

    def _built_in(self, name: str, state: State) -> tuple[list[str], list[Any]]:
        """The options built into a program, with their values: all that are not part of a state."""
        if name not in self._fixed:
            part = {*state, "betas"} if "beta1" in state else set(state)
            kept = {key: value for key, value in self.rules[name].options.items() if key not in part}
            self._fixed[name] = list(kept), list(kept.values())
        return self._fixed[name]

    def write(self, steps: int, states: Mapping[str, State]) -> None:
        """Loads a state into the optimisers."""
        if not steps:
            return
        for name, leaf in self.leaves.items():
            mine = {key: value for key, value in states[name].items() if key not in MOVING}
            self.optimizers[name].state[leaf] = self.optimizers[name].state.get(leaf, {}) | mine
        self.count(steps, states)

    def count(self, steps: int, states: Mapping[str, State]) -> None:
        """Sets the optimisers' number of steps, after their tensors have been overwritten."""
        for name in self.rules:
            optimizer = self.optimizers[name]
            if "lr" in states[name] and "lr" not in self.rules[name].moving:  # the step has changed them
                optimizer.param_groups[0]["lr"] = float(states[name]["lr"])
            if (leaf := self.leaves.get(name)) is None:
                continue
            if isinstance(optimizer, ClippedAdam):
                optimizer.state[leaf]["step"] = steps
            elif isinstance(held := optimizer.state[leaf].get("step"), Tensor):
                held.fill_(steps)
            elif not isinstance(optimizer, torch.optim.SGD):
                wide = torch.get_default_dtype() == torch.float64
                held = torch.tensor(
                    float(steps), dtype=torch.float64 if wide else torch.float32, device="cpu"
                )  # where torch stores it
                optimizer.state[leaf]["step"] = held


def _joint(optimizers: Mapping[str, torch.optim.Optimizer], leaves: Mapping[str, Tensor]) -> dict[str, Update]:
    """Name → the joint rule, for the parameters that a `NaturalAdam` updates by natural gradients."""
    names, found = {id(leaf): name for name, leaf in leaves.items()}, {}
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, NaturalAdam) and (held := optimizer.together(leaves[name])):
            normal, together = held
            rule = functools.partial(optimizer.moved, normal)
            found[name] = Update(lambda *_: {}, rule, {}, together=tuple(names[id(leaf)] for leaf in together))
    return found
