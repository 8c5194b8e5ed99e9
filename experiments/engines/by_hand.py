"""The same problems in plain PyTorch: formulas written out by hand, trained with Adam."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vbayes.staging.cuda_capture import recorded

from .problems import HIDDEN, Problem

LOG_2PI = math.log(2 * math.pi)


def _log_normal(x: Tensor, loc: Tensor | float, scale: Tensor) -> Tensor:
    return -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * LOG_2PI


class MeanField(nn.Module):
    """A fully factored Gaussian over d real numbers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.full((size,), math.log(0.1)))

    def draw(self) -> tuple[Tensor, Tensor]:
        """A draw z and log q(z)."""
        noise = torch.randn_like(self.loc)
        log_q = (-0.5 * noise**2 - self.log_scale - 0.5 * LOG_2PI).sum()
        return self.loc + self.log_scale.exp() * noise, log_q


class Schools(MeanField):
    def __init__(self) -> None:
        super().__init__(10)

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        z, log_q = self.draw()
        mu, log_tau, theta = z[0], z[1], z[2:]
        tau = log_tau.exp()
        log_p = _log_normal(mu, 0.0, mu.new_tensor(5.0)) + log_tau
        log_p = log_p + math.log(2 / (5 * math.pi)) - torch.log1p((tau / 5) ** 2)
        return log_q - log_p - _log_normal(theta, mu, tau).sum() - _log_normal(y, theta, sigma).sum()


class Logistic(MeanField):
    def __init__(self) -> None:
        super().__init__(31)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z, log_q = self.draw()
        w, b = z[:30], z[30]
        log_prior = _log_normal(w, 0.0, torch.ones_like(w)).sum() + _log_normal(b, 0.0, b.new_tensor(3.0))
        fit = F.binary_cross_entropy_with_logits(x @ w + b, y, reduction="sum")
        return log_q - log_prior + fit * (569 / len(x))


class Network(MeanField):
    def __init__(self) -> None:
        super().__init__(10 * HIDDEN + 2 * HIDDEN + 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z, log_q = self.draw()
        w1, b1, w2, log_sigma = z.split([10 * HIDDEN, HIDDEN, HIDDEN, 1])
        sigma = log_sigma.exp()[0]
        log_prior = -0.5 * (w1.square().sum() + b1.square().sum() + HIDDEN * w2.square().sum())
        log_prior = log_prior - 0.5 * sigma**2 + log_sigma[0]
        mean = torch.tanh(x @ w1.view(10, HIDDEN) + b1) @ w2
        return log_q - log_prior - _log_normal(y, mean, sigma).sum()


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.location, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decode = nn.Sequential(nn.Linear(20, 400), nn.Tanh(), nn.Linear(400, 784))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.hidden(x))
        location, log_variance = self.location(h), self.log_variance(h)
        noise = torch.randn_like(location)
        z = location + torch.exp(0.5 * log_variance) * noise
        log_q_over_p = 0.5 * (z.square() - noise.square() - log_variance).sum()
        fit = F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="sum")
        return (log_q_over_p + fit) * (60_000 / len(x))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "eight_schools": Schools,
    "logistic": Logistic,
    "logistic_minibatch": Logistic,
    "bnn": Network,
    "vae": VAE,
}


def by_hand(name: str, problem: Problem, *, compiled: bool) -> Callable[[int], object]:
    """A function that trains a module for a number of steps with fused Adam.

    Args:
        compiled: Whether to compile the loss with `torch.compile`.
    """
    module = MODULES[name]().to(problem.data[0].device)
    optimizer = torch.optim.Adam(module.parameters(), lr=problem.learning_rate, fused=True)
    validated = Distribution._validate_args
    loss_of = torch.compile(module) if compiled else module
    Distribution._validate_args = validated  # torch.compile turns validation off for the whole process
    return lambda count: [_step(loss_of, optimizer, problem) for _ in range(count)]


def by_cuda_graph(name: str, problem: Problem) -> Callable[[int], object]:
    """A function that launches a recorded CUDA graph of a training step, once per step."""
    device = problem.data[0].device
    module, loss = MODULES[name]().to(device), torch.zeros((), device=device)
    optimizer = torch.optim.Adam(module.parameters(), lr=problem.learning_rate, fused=True, capturable=True)
    (launch,) = recorded(lambda: loss.copy_(_step(module, optimizer, problem)), device=device)

    def run(count: int) -> object:
        losses = []
        for _ in range(count):
            launch()
            losses.append(loss.clone())
        return losses

    return run


def _step(loss_of: Callable[..., Tensor], optimizer: torch.optim.Optimizer, problem: Problem) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(*problem.batch())
    loss.backward()
    optimizer.step()
    return loss.detach()


def products(problem: Problem) -> Callable[[int], object]:
    """Only the matrix products of one training step of the VAE."""
    x, (m, n, h, j) = problem.data[0][:100], (100, 784, 400, 20)
    with problem.here():
        w1, w2, wz, wd = (torch.randn(size) for size in ((h, n), (n, h), (j, h), (h, j)))
        a, z, d = torch.randn(m, h), torch.randn(m, j), torch.randn(m, n)

    def run(count: int) -> object:
        for _ in range(count):
            x @ w1.T, a @ wz.T, a @ wz.T, z @ wd.T, a @ w2.T  # forward
            d @ w2, d.T @ a, a @ wd, a.T @ z, z @ wz, z @ wz, z.T @ a, z.T @ a, a.T @ x  # backward
        return None

    return run
