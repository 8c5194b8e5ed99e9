"""Adam that keeps the mean of its iterates, and has its learning rate in its state: the rate can change without compiling another program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


class AveragedAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2014, arXiv:1412.6980), with the mean of the parameters since the last call of `begin` (Polyak & Juditsky 1992).

    The step is that of `torch.optim.Adam`. Where the rate is constant, the iterates end up wandering around an optimum, and their mean is nearer to it than
    any of them.

    Args:
        params: As for any `torch.optim.Optimizer`.
        lr: The rate of its first steps. In the state of a compiled loop it is a tensor; see `begin` for changing it.
        betas, eps: As for Adam.

    References:
        Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging, doi:10.1137/0330046.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the parameters' `.grad`."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for leaf in group["params"]:
                if leaf.grad is None:
                    continue
                held = self.state[leaf]
                if "mean" not in held:
                    held |= start(leaf, group) | {"step": torch.tensor(0.0, dtype=torch.float64, device="cpu")}
                    del held["lr"]
                held["step"] += 1
                moved, after = averaged_adam(
                    leaf, leaf.grad, held | {"lr": _number(group["lr"], leaf)}, held["step"], group
                )
                leaf.copy_(moved)
                held |= {name: value for name, value in after.items() if name != "lr"}
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        """Like torch's, which converts the state to the parameters' type; but the count of iterates stays float64."""
        super().load_state_dict(state_dict)
        for held in self.state.values():
            held["counted"] = held["counted"].double()

    def begin_mean(self) -> None:
        """Resets the mean: the parameters after the next step are the first in a new one."""
        for held in self.state.values():
            held["counted"] = torch.zeros_like(held["counted"])

    def begin(self, rate: float) -> None:
        """Resets the whole state, and continues at another rate.

        This includes the mean of squared gradients: after a huge gradient, as is common far from an optimum, Adam would hardly move for tens of thousands of steps, which
        looks like convergence.
        """
        self.state.clear()
        for group in self.param_groups:
            group["lr"] = rate


def start(parameter: Tensor, options: Mapping[str, Any]) -> State:
    """The state before the first step."""
    zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq", "mean")}
    return zeros | {"counted": _number(0.0, parameter), "lr": _number(options["lr"], parameter)}


def averaged_adam(p: Tensor, g: Tensor, state: State, t: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, State]:
    """The update rule: (parameter, gradient, state, number of the step from 1, options) → the new parameter and state."""
    b1, b2 = options["betas"]
    m = state["exp_avg"] + (1 - b1) * (g - state["exp_avg"])
    v = b2 * state["exp_avg_sq"] + (1 - b2) * g * g
    size, second = (state["lr"] / (1 - b1**t)).to(p.dtype), (1 - b2**t).sqrt().to(p.dtype)
    moved = p - size * (m / (v.sqrt() / second + options["eps"]))
    counted = state["counted"] + 1
    mean = state["mean"] + (moved - state["mean"]) / counted.to(p.dtype)
    return moved, {"exp_avg": m, "exp_avg_sq": v, "mean": mean, "counted": counted, "lr": state["lr"]}


def _number(value: float, like: Tensor) -> Tensor:
    return torch.full((), float(value), dtype=torch.float64, device=like.device)
