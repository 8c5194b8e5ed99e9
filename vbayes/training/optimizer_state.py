"""Checks the optimiser state in a file against the parameters saved with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import BadInput

LIKE_THE_PARAMETER = frozenset(
    ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "sum", "ax", "prev", "step_size", "mean")
)  # fmt: skip
"""Entries of the states of torch's, Pyro's and our own optimisers that have the shape of the parameter."""
NUMBERS = ("step", "counted")


def require_state(state: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks that a state belongs to these parameters: otherwise an error would only occur at the first step, or never if shapes broadcast.

    Args:
        state: State from an optimiser's `get_state`, of torch (by number) or Pyro (by name); None if there is none.
        shapes: Name → shape of the parameter; in the optimiser's order, if its state has no names, as in older files.

    Raises:
        BadInput: It does not.
    """
    for name, held in _each(state, list(shapes)):
        if not isinstance(held, dict):
            raise BadInput(f"the optimiser has {type(held).__name__} for the state of {name!r}")
        for key, value in held.items():
            if (
                key in NUMBERS
                and not isinstance(value, (int, float))
                and not (isinstance(value, Tensor) and value.dim() == 0)
            ):
                raise BadInput(f"the optimiser's {key!r} of {name!r} is not a number")
            if key not in LIKE_THE_PARAMETER or value is None:
                continue
            shape = tuple(value.shape) if isinstance(value, Tensor) else None
            if shape != tuple(shapes[name]) or not value.is_floating_point():
                got = f"shape {shape}" if shape is not None else type(value).__name__
                raise BadInput(
                    f"the optimiser's {key!r} of {name!r} has {got}, but the parameter has shape {tuple(shapes[name])}"
                )


def in_order(state: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Reorders a torch state, which is indexed by number, for the same parameters in another order: an autoguide that is used again has another order.

    Args:
        state: State with the `names` of its parameters in order; one without names, from an older file, is unchanged.
        wanted: The names in the current order.

    Returns:
        The state, without names.

    Raises:
        LookupError, ValueError: It belongs to other parameters.
    """
    plain = {key: value for key, value in state.items() if key != "names"}
    if "names" not in state:
        return plain
    (group,) = state["param_groups"]
    named = {name: state["state"].get(number) for name, number in zip(state["names"], group["params"], strict=True)}
    held = {number: named[name] for number, name in enumerate(wanted) if named[name] is not None}
    return plain | {"state": held, "param_groups": [group | {"params": list(range(len(wanted)))}]}


def _each(state: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields the name and state of each parameter."""
    if not isinstance(state, dict):
        return
    if "param_groups" not in state:  # Pyro's has an optimiser for each parameter
        for name, own in state.items():
            if name in names and isinstance(own, dict) and isinstance(own.get("state"), dict):
                yield from ((name, held) for held in own["state"].values())
        return
    if "names" in state:
        if not isinstance(state["names"], list) or set(names) != set(map(str, state["names"])):
            raise BadInput(f"the optimiser is of {state['names']!r:.80}, and not of {', '.join(names)}")
        names = list(state["names"])
    groups, held = state["param_groups"], state.get("state", {})
    if (
        not isinstance(held, dict)
        or not isinstance(groups, list)
        or not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups)
        or not all(type(number) is int for group in groups for number in group["params"])
    ):
        raise BadInput("the optimiser's state has no groups of parameters")
    numbers = [number for group in groups for number in group["params"]]
    if len(numbers) != len(names):
        raise BadInput(f"the optimiser is of {len(numbers)} parameters, and not of {len(names)}")
    if unknown := held.keys() - set(numbers):
        raise BadInput(f"the optimiser has a state of {unknown!r:.80}, which is not a parameter")
    yield from ((names[numbers.index(number)], own) for number, own in held.items())
