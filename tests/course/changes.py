"""What stands in place of parts of the library in the course's tests, and what spares them time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.course.sabotage import Change, Instead, always, makes
from vbayes.pairs import TRACTABLE, normal_normal
from vbayes.pairs.tractable import Tractable

ANALYTIC_KL, STL = "vbayes.estimators.analytic_kl:AnalyticKL.estimate", "vbayes.estimators.stl:STL.estimate"
BOUND = "vbayes.inference.importance:Weights.bound"
CHAINS, SPACE = "vbayes.exact.hidden_markov", "vbayes.inference.latent_space:LatentSpace"
UNTAUGHT: Change = ("vbayes:fit", lambda fit: lambda *args, epochs=0, steps=0, **more: fit(*args, steps=0, **more))
LAPLACE: Change = ("vbayes.pairs.autoencoder:dist", lambda dist: Instead(dist, Normal=dist.Laplace))
MANY_ROWS = Tractable(lambda: normal_normal(30), tuple(n / 5 - 3 for n in range(30)))
"""What bounds leave of the evidence adds up over rows, faster than its noise."""


def only(*names: str) -> Change:
    """Of the tractable pairs."""
    return ":TRACTABLE", always({name: TRACTABLE[name] for name in names})


def of_first_rows(estimator: Any, p: Any) -> Tensor:
    """The ELBO of a tenth of the data."""
    rows = p.log_w.shape[-1]
    return (p.log_w * (torch.arange(rows) < rows // 10)).mean(0)


def normal_prior(dist: Any) -> Instead:
    return Instead(dist, Laplace=lambda loc, scale: dist.Normal(loc, 2**0.5 * scale))


def no_threshold(pyro: Any) -> Instead:
    return Instead(pyro, param=lambda name, *args, **more: pyro.param(name, *args, **more) * (name != "threshold"))


def as_with_one(again: Callable[[], Any]) -> Callable[..., Any]:
    """The second fit, of β = 1, for all."""
    again()
    one = again()
    return lambda *args, **settings: one


def in_sums(history: property) -> property:
    return property(lambda fit: history.fget(fit).assign(elbo_per_datum=lambda table: 100 * table.elbo_per_datum))


def other_way(between: Callable[..., Any]) -> Callable[..., Any]:
    """What was found there for what was found back."""

    def exchanged(*args: Any) -> Any:
        found = between(*args)
        return replace(found, low=found.high, high=found.low)

    return exchanged


def few_starts(baum_welch: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, restarts=1, **more: baum_welch(*args, restarts=min(restarts, 3), **more)


def entropy_taken_off(elbo: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, loc, scale: elbo(x, loc, scale) - 2 * scale.log().expand(x.shape).sum()


def not_shrunk(mean_field: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The marginal variances in place of the conditional ones."""
    return lambda precision: (torch.linalg.inv(precision).diagonal(), mean_field(precision)[1])


def crossing(by_chains: Any) -> Callable[..., Tensor]:
    """Chains that pass from maximum to maximum as they like."""
    centres = by_chains.__globals__["centres"]
    return lambda maxima, length, chains, scale: (
        centres(maxima)[torch.randint(maxima, (chains, length))] + scale * torch.randn(chains, length)
    )


def in_one_maximum(torch: Any) -> Instead:
    """All draws of an average are of the same maximum."""
    return Instead(
        torch, randint=lambda high, size: torch.randint(high, (size[0], *[1] * (len(size) - 1))).expand(size)
    )


def alike(bases: dict[str, Any]) -> dict[str, Any]:
    """All draws of an average are one draw."""
    return {name: lambda *size, f=f: f(*size[:-2], 1, size[-1]).expand(size) for name, f in bases.items()}


def narrow(bases: dict[str, Any]) -> dict[str, Any]:
    return {name: lambda *size, f=f: f(*size) / 2 for name, f in bases.items()}


def signs(bases: dict[str, Any]) -> dict[str, Any]:
    """Draws whose squares do not vary."""
    return {name: lambda *size, f=f: f(*size).sign() for name, f in bases.items()}


def shuffled(pictures: Tensor) -> Tensor:
    """Each pixel from another picture."""
    return torch.stack([pixel[torch.randperm(len(pixel))] for pixel in pictures.T], 1)


def of_the_noise(fields: dict[str, Any]) -> dict[str, Any]:
    """log q(z) is taken for log p(ε), where z = g(ε) is a chain of transforms."""

    def log_q(run: Any) -> Tensor:
        fn, z = (run.traces[0].nodes["z"][name] for name in ("fn", "value"))
        volume = torch.zeros(())
        for transform in reversed(getattr(fn, "transforms", ())):
            noise = transform.inv(z)
            volume, z = volume + transform.log_abs_det_jacobian(noise, z).sum(), noise
        return fields["log_q"](run) + volume

    return {**fields, "log_q": log_q}


def by_weights(log_evidence: Callable[..., Any]) -> Callable[..., Any]:
    """Of three latents, draws from the prior say as much as annealing."""
    return lambda pair, data, method, **more: log_evidence(pair, data, "iw", num_particles=200, progress=False)


def hastening(time: Any) -> SimpleNamespace:
    """A clock that runs faster and faster: what is measured later has taken longer."""
    looks = iter(range(10**6))
    return SimpleNamespace(perf_counter=lambda: float(next(looks) ** 2))


def with_(verb: str, **settings: Any) -> Change:
    """Whatever it is called with."""
    return f"vbayes:{verb}", lambda right: lambda *args, **more: right(*args, **{**more, **settings})


QUICKER = with_("fit", learning_rate=0.01)


def first(rows: int) -> Change:
    """Of the digits."""
    return "vbayes.data:digits", makes(lambda digits: digits.rows(slice(0, rows)))


def parts(train: int, held: int) -> Change:
    """Rows of the two."""
    return ":split", makes(
        lambda found: tuple(part.rows(slice(0, rows)) for part, rows in zip(found, (train, held), strict=True))
    )
