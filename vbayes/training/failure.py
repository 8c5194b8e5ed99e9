"""Why a step failed: which quantity is not finite, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..data.dataset import Batch
from ..pair.pair import Pair
from ..pair.sites import kind
from ..staging import Noise, Program, Recorder
from ..staging.capture import knowing_plates
from ..staging.step import LoopState, sound
from ..staging.update import Update, moved_by

SMALLER = "a smaller learning_rate, a scale bounded away from 0, other initial values"
JITTER = "adding a small multiple of the identity to the matrix that is factorised, a smaller learning_rate"


@dataclass(frozen=True)
class Failure:
    """Why training can't take another step.

    Attributes:
        what: "ELBO", "gradient", "loss", or "step": which of them is not finite.
        sites: Sites whose log-density is not finite.
        parameters: Parameters whose gradient or next value is not finite.
        torchs: The error message of torch, if it raised one.
        places: Where among the rows it was called with a site's log-density is not finite, in words; empty if it has no rows, or in all of them.
    """

    what: str
    sites: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    torchs: str = ""
    places: str = ""

    @property
    def where(self) -> str:
        """The sites responsible, or else the parameters; empty if neither is known."""
        if self.sites:
            return f"site{'s' * (len(self.sites) > 1)} {_listed(self.sites)}"
        return f"parameter{'s' * (len(self.parameters) > 1)} {_listed(self.parameters)}" if self.parameters else ""

    def told(self, whose: str, step: str, instead: str = "") -> str:
        """The explanation in sentences.

        Args:
            whose: For example "pair 'x' under trace".
            step: For example "step 3".
            instead: What is known to be wrong, with its fix, in place of common fixes.
        """
        if self.torchs:
            said = f"The {self.what} of {whose} can't be computed at {step}: {self.torchs}"
        elif self.what == "step":
            said = (
                f"The optimiser's step of {whose} is not finite at {step}, although the gradient is: it would make {self.where}, or its optimiser "
                "state, infinite or NaN."
            )
        elif self.sites:
            have = "have" if len(self.sites) > 1 else "has"
            said = f"The {self.what} of {whose} is not finite at {step}; {self.where} {have} a log-density that is not finite there{'' if instead else self.places}."
        else:
            of = f", in {self.where}" if self.parameters else ""
            said = f"The {self.what} of {whose} is not finite at {step}{of}; no single site has a log-density that is not finite there."
        if instead:
            return f"{said} {instead}"
        return f"{said} Common fixes: {JITTER if self.torchs else SMALLER}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def why(
    what: str,
    pair: Pair,
    estimator: Any,
    batch: Batch,
    *,
    parameters: Sequence[str] = (),
    noise: AbstractContextManager[Any] | None = None,
    torchs: str = "",
) -> Failure:
    """Repeats the failed draw and estimate in Pyro, and finds out what is not finite, inside the pair's scope. Buffers are not changed.

    Args:
        what, torchs: See `Failure`.
        estimator: An estimator that knows the plates of model and guide.
        batch: The batch of the step.
        parameters: The parameters responsible, if known.
        noise: A context that gives the draws of the step; torch's own generator if None.
    """
    buffers = {name: value.clone() for name, value in pair.buffers.items()}
    model, guide = pair.scaled(batch.total)
    try:
        with noise or nullcontext():
            sites, wrong, places = look_on(pair.leaves, estimator, model, guide, *batch.args)
    finally:
        pair.set_buffers(buffers)
    return Failure(what, sites, tuple(parameters) or (wrong if what == "gradient" else ()), torchs, places)


def why_not(
    program: Program,
    pair: Pair,
    estimator: Any,
    batch: Batch,
    noise: Noise,
    lost: Callable[[Mapping[str, Tensor]], Sequence[str]],
) -> Failure:
    """Finds out why a step of a program could not be taken, inside the pair's scope.

    Args:
        noise: The noise of the step.
        lost: The gradients → the parameters that the step would make NaN or infinite although their gradient is finite.
    """
    parameters, torchs = {name: leaf.detach() for name, leaf in pair.leaves.items()}, ""
    what, names = "ELBO", list[str]()
    try:
        gradients, value, _ = program.graph(parameters, pair.buffers, noise, batch.args)
    except torch.linalg.LinAlgError as error:
        torchs = str(error).split("\n")[0]
    else:
        if torch.isfinite(value):
            names = list(not_finite(gradients))
            what = "gradient" if names else "step"
            names = names or list(lost(gradients))
    knowing = knowing_plates(pair, estimator, batch)
    recorded = Recorder(noise, in_place=True)
    return why(what, pair, knowing, batch, parameters=names, noise=recorded, torchs=torchs)


def look_on(
    leaves: Mapping[str, Tensor],
    estimator: Any,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Finds what is not finite at the next draws of an estimator.

    Returns:
        The sites whose log-density is not finite for any of its particles; the leaves whose gradient is not finite; and `Failure.places`.
    """
    for leaf in leaves.values():
        leaf.grad = None
    with _Suspects() as seen:
        try:
            estimator.loss_and_grads(model, guide, *args, **kwargs)
        except Exception:  # report what was found so far
            pass
    wrong = not_finite({name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None})
    for leaf in leaves.values():
        leaf.grad = None
    return tuple(seen.found), wrong, next(filter(None, seen.found.values()), "")


def lost(rules: Mapping[str, Update], state: LoopState, gradients: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The parameters that a step would make NaN or infinite.

    Args:
        rules: Update rules of the optimiser.
        state: State before the step.
        gradients: Gradients of the bound.
    """
    downhill = {name: -gradients[name] for name in rules}
    after = moved_by(rules, state.parameters, downhill, state.optimizer, state.steps + 1)
    return tuple(name for name, each in after.items() if not sound(*each))


def not_finite(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of tensors with NaN or infinite values."""
    return tuple(name for name, value in tensors.items() if not torch.isfinite(value).all())


class _Suspects(Messenger):
    """Records the sites whose log-density, or the sum of it, is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}  # site → where, in words

    def _pyro_post_sample(self, msg: Any) -> None:
        if kind(msg) in ("deterministic", "subsample"):
            return
        with torch.no_grad():
            each = msg["fn"].log_prob(msg["value"], *msg["args"], **msg["kwargs"])
            density = torch.as_tensor(scale_and_mask(each, msg["scale"], msg["mask"]))
            if msg["infer"].get(
                "enumerate"
            ):  # impossible values of a marginalised site are part of the sum like the others
                density = density.where(density != -torch.inf, 0.0)
            if not torch.isfinite(density.sum()):
                self.found.setdefault(msg["name"], _rows(msg["name"], density))


def _rows(name: str, density: Tensor) -> str:
    """Which rows have a log-density that is not finite, in words; empty if it has no rows, or all are like that."""
    bad = ~torch.isfinite(density)
    if density.dim() != 1 or bad.all() or not bad.any():
        return ""
    first, others = int(bad.nonzero()[0]), int(bad.sum()) - 1
    return f": {name!r} is {float(density[first]):g} at row {first} of the {len(density)} in this step" + (
        f", and at {others} more" if others else ""
    )
