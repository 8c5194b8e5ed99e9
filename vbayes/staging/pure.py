"""Contexts in which one of Pyro's ELBOs runs as a function of tensors: no values are read out, and nothing branches on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class Substitute(TorchFunctionMode):
    """Substitutes other tensors wherever some tensors are used."""

    def __init__(self, replacements: Iterable[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._new = {id(old): new for old, new in replacements}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.new and len(args) == 2 and isinstance(args[1], torch.Size):
            func = (
                torch.Tensor.new_empty
            )  # otherwise a `torch.Size` would become a tuple, which `new` takes for data: () for no data at all
        args, kwargs = tree_map(lambda a: self._new.get(id(a), a), (args, kwargs or {}))
        return func(*args, **kwargs)


class Deferred(TorchFunctionMode):
    """Lets an ELBO's `loss_and_grads` run as a function of tensors: `item` returns a tensor, `backward` is deferred."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.item:
            return args[0].detach()
        if func is torch.Tensor.backward:
            self.losses.append(args[0])
            return None
        if (
            func is torch.Tensor.masked_select
        ):  # a selection of terms to sum: the others are set to zero, so that shapes stay static
            return torch.where(args[1], args[0], 0.0)
        if func is torch.Tensor.__setitem__ and _fills_a_mask(*args):
            return args[0].masked_fill_(args[1], args[2])
        if func is torch._is_all_true:  # a distribution that was made with validation on
            return True
        if func is torch.nn.functional.one_hot and len(args) == 2:
            return (args[0].unsqueeze(-1) == torch.arange(args[1], device=args[0].device)).long()
        return func(*args, **(kwargs or {}))


def _fills_a_mask(target: Tensor, key: Any, value: Any) -> bool:
    """Whether an assignment sets masked places to a single number, which `vmap` supports only as `masked_fill`."""
    mask = isinstance(key, Tensor) and key.dtype == torch.bool and key.shape == target.shape
    return mask and (isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0))


@contextmanager
def no_branch_on_values() -> Iterator[None]:
    """Avoids branches on data: Pyro's ELBOs warn of a NaN loss, and leave out terms that are zero.

    For `torch.jit.trace` they have a mode without the second, which is switched on for them alone.
    """
    changed = [
        m
        for name, m in list(sys.modules.items())
        if name.startswith(("pyro.infer", "vbayes")) and hasattr(m, "warn_if_nan")
    ]
    try:
        pyro.infer.util.torch = _Tracing()  # type: ignore[assignment]
        for module in changed:
            module.warn_if_nan = lambda *_: None  # type: ignore[attr-defined]
        yield
    finally:
        pyro.infer.util.torch = torch
        for module in changed:
            module.warn_if_nan = pyro.util.warn_if_nan  # type: ignore[attr-defined]


class _Tracing:
    """Stand-in for torch, which claims to be tracing."""

    class _C:
        @staticmethod
        def _get_tracing_state() -> bool:
            return True

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def moving(parameters: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leaves of a new graph, which require gradients if the pair's own tensors do."""
    return {name: value.detach().requires_grad_(leaves[name].requires_grad) for name, value in parameters.items()}
