"""A pair that leaves the real numbers at a step and a place of one's choice: which, is in its data, so that one program serves for all."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch

import vbayes as vb

PLACES = ("observed", "latent", "guide", "gradient", "loss", "sum", "overflow")
NEVER = 1e9
HUGE = 3e38  # twice that is more than single precision has


def broken_at(place: str, step: int, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Data with which a step, counted from 1, is the first that is not finite."""
    steps = torch.full((rows, len(PLACES)), NEVER)
    steps[:, PLACES.index(place)] = step
    return torch.linspace(-1.0, 1.0, rows), steps


def _late(steps, place, w):
    return w.detach() > steps[0, PLACES.index(place)] - 1.5


def _model(x, steps):
    w = pyro.param("w", lambda: torch.tensor(0.0))  # its gradient is 1 throughout: it counts the steps
    u, v = pyro.param("u", lambda: torch.tensor(0.0)), pyro.param("v", lambda: torch.tensor(2e38))
    pyro.factor("count", w)
    bent = torch.where(_late(steps, "gradient", w), u * u, 1.0)
    pyro.factor("bend", bent.sqrt() - bent.detach().sqrt())
    pyro.factor("scare", torch.where(_late(steps, "loss", w), torch.inf, 0.0))
    pyro.factor("push", torch.where(_late(steps, "overflow", w), HUGE, 0.0) * (v - 2e38))
    z = pyro.sample("z", dist.Normal(0.0, torch.where(_late(steps, "latent", w), torch.nan, 1.0)))
    with pyro.plate("data", len(x)):
        pyro.factor("heap", torch.where(_late(steps, "sum", w), HUGE, 0.0).expand(len(x)))
        pyro.sample("x", dist.Normal(z, torch.where(_late(steps, "observed", w), torch.nan, 1.0)), obs=x)


def _guide(x, steps):
    w, m = pyro.param("w", lambda: torch.tensor(0.0)), pyro.param("m", lambda: torch.tensor(0.1))
    pyro.sample("z", dist.Normal(0.1 * m, torch.where(_late(steps, "guide", w), torch.nan, 1.0)))


def broken() -> vb.Pair:
    """The pair; its optimiser is to be SGD at rate 1."""
    return vb.Pair(_model, _guide, name="broken")
