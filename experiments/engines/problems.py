"""The problems to train: Pyro programs with their data and learning rates, and a regression of any size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor

import vbayes as vb

HIDDEN = 20  # hidden units of the Bayesian neural network


@dataclass(frozen=True)
class Problem:
    """A model and guide, and the data and settings they are trained with.

    Attributes:
        pair: Function that makes a new pair of model and guide.
        data: Columns of data that model and guide are called with.
        batch_size: Size of a minibatch, M; None uses all rows.
        learning_rate: Learning rate of Adam.
    """

    pair: Callable[[], vb.Pair]
    data: tuple[Tensor, ...]
    batch_size: int | None
    learning_rate: float

    def on(self, device: str) -> Problem:
        """The same problem, with data, parameters and constants on a device."""

        if device == "cpu":
            return self
        moved = replace(self, data=tuple(column.to(device) for column in self.data))

        def pair() -> vb.Pair:
            made, data = self.pair().to(device), vb.Dataset.of(moved.data)
            with moved.here():
                made.initialise(data.batch(made.model, torch.arange(self.batch_size or len(data))))
            return made

        return replace(moved, pair=pair)

    def batch(self) -> tuple[Tensor, ...]:
        """The rows of a step: a random minibatch, or all."""
        if self.batch_size is None:
            return self.data
        index = torch.randint(len(self.data[0]), (self.batch_size,), device=self.data[0].device)
        return tuple(column[index] for column in self.data)

    def here(self) -> AbstractContextManager[object]:
        """Context in which tensors without an explicit device, such as those of `Normal(0.0, 1.0)`, are made where the data are."""
        return self.data[0].device if self.data[0].is_cuda else nullcontext()


def schools(y: Tensor, sigma: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def logistic(x: Tensor, y: Tensor) -> None:
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), 1.0).to_event(1))
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def network(x: Tensor, y: Tensor) -> None:
    inputs = x.shape[1]
    w1 = pyro.sample("w1", dist.Normal(x.new_zeros(inputs, HIDDEN), 1.0).to_event(2))
    b1 = pyro.sample("b1", dist.Normal(x.new_zeros(HIDDEN), 1.0).to_event(1))
    w2 = pyro.sample("w2", dist.Normal(x.new_zeros(HIDDEN), HIDDEN**-0.5).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(torch.tanh(x @ w1 + b1) @ w2, sigma), obs=y)


def _schools() -> Problem:
    data = vb.data.eight_schools().tensors
    return Problem(lambda: vb.Pair(schools, AutoNormal(schools)), (data["y"], data["sigma"]), None, 0.02)


def _logistic(batch_size: int | None = None) -> Problem:
    x, y = load_breast_cancer(return_X_y=True)
    columns = torch.tensor((x - x.mean(0)) / x.std(0)).float(), torch.tensor(y).float()
    return Problem(lambda: vb.Pair(logistic, AutoNormal(logistic)), columns, batch_size, 0.01)


def _network() -> Problem:
    x, y = load_diabetes(return_X_y=True)
    columns = torch.tensor(x / x.std(0)).float(), torch.tensor((y - y.mean()) / y.std()).float()
    return Problem(lambda: vb.Pair(network, AutoNormal(network)), columns, None, 0.01)


def _vae() -> Problem:
    try:
        x = vb.data.mnist().first.reshape(-1, 784).round()
    except vb.errors.DataUnavailable:  # the values do not affect the time
        with vb.seeded(0):
            x = torch.rand(60_000, 784).round()
    return Problem(lambda: vb.pairs.vae(784, 400, 20), (x,), 100, 1e-3)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "eight_schools": _schools,
    "logistic": _logistic,
    "logistic_minibatch": lambda: _logistic(64),
    "bnn": _network,
    "vae": _vae,
}


def regression(rows: int, columns: int, *, full_rank: bool) -> Problem:
    """Logistic regression on random data of the given size, as the values do not affect the time.

    The learning rate is tiny, so that the parameters hardly move in the many steps that are timed.
    """
    with vb.seeded(0):
        x, y = torch.randn(rows, columns) / columns**0.5, (torch.rand(rows) < 0.5).float()
    guide = AutoMultivariateNormal if full_rank else AutoNormal
    return Problem(lambda: vb.Pair(logistic, guide(logistic)), (x, y), None, 1e-6)
