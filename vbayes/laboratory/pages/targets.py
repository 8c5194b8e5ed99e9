"""The posteriors of two latents in "Watch the bound", and their normal guides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...data.eight_schools import eight_schools
from ...pair.pair import Pair

CORRELATIONS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
MODE, BETWEEN = (1.6, 1.1), 0.5  # the datum of the posterior with two modes, and its noise
FAR = 10.0  # sd of the normal from which the funnel's latents are formally drawn; a factor cancels its density


@dataclass(frozen=True)
class Target:
    """A model of two latents z and one datum.

    Attributes:
        name: Name in the page.
        prior: sd of both latents, which are independent normals with mean 0.
        settings: Constants for the page's formula of log p(x, z), besides the prior.
        log_likelihood: (2,) z → () log p(x|z), in nats.
        closed: Whether the prior is normal, so that KL(q ‖ p(z)) has a closed form.
    """

    name: str
    prior: float
    settings: dict[str, Any]
    log_likelihood: Callable[[Tensor], Tensor]
    closed: bool = True

    def pair(self, loc: list[float], log_scale: list[float], slope: float | None) -> Pair:
        """The model with a normal guide: z = loc + C ε, where C = [[e^log_scale₁, 0], [slope, e^log_scale₂]]; without a slope the two are independent."""

        def model(x: Tensor) -> None:
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), self.prior).to_event(1))
            pyro.factor("x", self.log_likelihood(z))

        def guide(x: Tensor) -> None:
            m = pyro.param("loc", lambda: x.new_tensor(loc))
            s = pyro.param("log_scale", lambda: x.new_tensor(log_scale)).exp()
            if slope is None:
                pyro.sample("z", dist.Normal(m, s).to_event(1))
                return
            below = pyro.param("slope", lambda: x.new_tensor(slope))
            zero = torch.zeros_like(below)
            root = torch.stack([torch.stack([s[0], zero]), torch.stack([below, s[1]])])
            pyro.sample("z", dist.MultivariateNormal(m, scale_tril=root))

        return Pair(model, guide, name=self.name)


def targets() -> list[Target]:
    """The targets in the page's order; the correlated one once for each correlation."""
    return [
        *map(correlated, CORRELATIONS),
        Target("arms", 1.0, {"x": 1.0, "noise": 0.3}, lambda z: _normal(1.0, z[..., 0] * z[..., 1], 0.3)),
        Target("banana", 1.0, {"x": 1.0, "noise": 0.3}, lambda z: _normal(1.0, z[..., 1] + z[..., 0] ** 2, 0.3)),
        Target("modes", 2.0, {"x": list(MODE), "noise": BETWEEN}, _two_modes),
        funnel(),
    ]


def correlated(correlation: float) -> Target:
    """x = 1 = z₁ − z₂ + noise: only the difference of two effects is observed, so their posterior is correlated."""
    noise = math.sqrt((1 - correlation) / correlation)
    settings = {"x": 1.0, "noise": noise, "correlation": correlation}
    return Target("correlated", 1.0, settings, lambda z: _normal(1.0, z[..., 0] - z[..., 1], noise))


def _two_modes(z: Tensor) -> Tensor:
    """x = ± z + noise, with both signs equally likely."""
    x = z.new_tensor(MODE)
    return torch.logaddexp(_normal(x, z, BETWEEN).sum(-1), _normal(x, -z, BETWEEN).sum(-1)) - math.log(2)


def funnel() -> Target:
    """Eight schools (Rubin 1981), with all but two latents integrated out: z₁ is a tenth of the first school's effect, z₂ = log τ ~ N(1, 1).

    With w_j = 1 / (σ_j² + τ²) of the other seven, S = Σ w_j + 1/25 and B = Σ w_j y_j: θ₁ | τ ~ N(B/S, 1/S + τ²), and these seven have
    log p(y | τ) = ½ Σ log w_j − ½ Σ w_j y_j² + ½ B²/S − ½ log 25 S − 7/2 log 2π.
    """
    data = eight_schools()
    y, sigma = (data.tensors[name].double() for name in ("y", "sigma"))

    def log_likelihood(z: Tensor) -> Tensor:
        others, noise = y[1:].to(z), sigma[1:].to(z)
        theta, tau2 = 10 * z[..., 0], (2 * z[..., 1]).exp()
        w = 1 / (noise**2 + tau2[..., None])
        total, weighted = w.sum(-1) + 1 / 25, (w * others).sum(-1)
        seven = 0.5 * (w.log().sum(-1) - (w * others**2).sum(-1) + weighted**2 / total - (25 * total).log())
        seven = seven - 3.5 * math.log(2 * math.pi)
        first = _normal(theta, weighted / total, (1 / total + tau2).sqrt()) + _normal(
            float(y[0]), theta, float(sigma[0])
        )
        declared = _normal(z, 0.0, FAR).sum(-1)
        return seven + first + _normal(z[..., 1], 1.0, 1.0) + math.log(10) - declared

    settings = {"y": y.tolist(), "sigma": sigma.tolist()}
    return Target("funnel", FAR, settings, log_likelihood, closed=False)


def _normal(x: Any, loc: Any, scale: Any) -> Tensor:
    """log N(x; loc, scale²); any of the three may be a tensor."""
    scaled = (x - loc) / scale
    spread = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return torch.as_tensor(-0.5 * scaled**2 - spread - 0.5 * math.log(2 * math.pi))
