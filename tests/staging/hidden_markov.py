"""Hidden Markov models over sequences of unequal lengths, in the styles of Pyro's tutorial on enumeration: how far they go is read from their argument."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.ops.indexing import Vindex
from torch import nn
from torch.distributions import constraints

S, D = 2, 3  # hidden states, tones
SUM = {"enumerate": "parallel"}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """(4, 4, D) sequences of tones and (4,) their lengths."""
    tones = torch.rand(4, 4, D, generator=torch.Generator().manual_seed(0)) < 0.4
    return tones.to(torch.get_default_dtype()), torch.tensor([1, 2, 2, 1])


def rows(name, *shape):
    """Transition probabilities, each row with a prior."""
    prior = (0.9 * torch.eye(S) + 0.1).expand(*shape, S, S)
    return pyro.sample(f"probs_{name}", dist.Dirichlet(prior).to_event(len(shape) + 1))


def tones(*shape):
    return pyro.sample("probs_y", dist.Beta(0.5, 0.9).expand([*shape, D]).to_event(len(shape) + 1))


class Emission(nn.Module):
    def __init__(self):
        super().__init__()
        self.state, self.tones, self.out = nn.Linear(S, 4), nn.Conv1d(1, 2, 3, padding=1), nn.Linear(4 + 2 * D, D)

    def forward(self, x, y):
        one_hot = y.new_zeros((*x.shape[:-1], S)).scatter_(-1, x, 1)
        before = self.tones(y.reshape(-1, 1, D)).relu().reshape(*y.shape[:-1], -1)
        state = self.state(one_hot)
        shape = torch.broadcast_shapes(state.shape[:-1], before.shape[:-1])
        return self.out(torch.cat([state.expand(*shape, -1), before.expand(*shape, -1)], -1).tanh())


def one_by_one():
    def model(sequences, lengths, size=None):
        probs_x, probs_y = rows("x"), tones(S)
        keys = pyro.plate("tones", D, dim=-1)
        for i in pyro.plate("sequences", len(sequences), size):
            x = 0
            for t in pyro.markov(range(lengths[i])):
                x = pyro.sample(f"x_{i}_{t}", dist.Categorical(probs_x[x]), infer=SUM)
                with keys:
                    pyro.sample(f"y_{i}_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[i, t])

    return model


def together(begin, step, history=1):
    """All sequences at once, those that have ended masked."""

    def model(sequences, lengths, size=None):
        assert lengths.max() <= sequences.shape[1]
        made = begin()
        keys = pyro.plate("tones", D, dim=-1)
        with pyro.plate("sequences", len(sequences), size, dim=-2) as batch:
            lengths, before = lengths[batch], None
            for t in pyro.markov(range(lengths.max()), history=history):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    before = step(t, made, before, keys, sequences[batch, t])

    return model


def hidden(t, probs, name="x"):
    return pyro.sample(f"{name}_{t}", dist.Categorical(probs), infer=SUM)


def plain():
    def step(t, made, x, keys, y):
        x = hidden(t, made[0][0 if x is None else x])
        with keys:
            pyro.sample(f"y_{t}", dist.Bernoulli(made[1][x.squeeze(-1)]), obs=y)
        return x

    return together(lambda: (rows("x"), tones(S)), step)


def autoregressive():
    def step(t, made, before, keys, y):
        x, last = before or (0, 0)
        x = hidden(t, made[0][x])
        with keys as key:
            return x, pyro.sample(f"y_{t}", dist.Bernoulli(made[1][x, last, key]), obs=y).long()

    return together(lambda: (rows("x"), tones(S, 2)), step)


def factorial():
    def step(t, made, before, keys, y):
        w, x = before or (0, 0)
        w, x = hidden(t, made[0][w], "w"), hidden(t, made[1][x])
        with keys as key:
            pyro.sample(f"y_{t}", dist.Bernoulli(made[2][w, x, key]), obs=y)
        return w, x

    return together(lambda: (rows("w"), rows("x"), tones(S, S)), step)


def network():
    def step(t, made, before, keys, y):
        w, x = before or [torch.tensor(0)] * 2
        w = hidden(t, made[0][w], "w")
        x = hidden(t, Vindex(made[1])[w, x])
        with keys as key:
            pyro.sample(f"y_{t}", dist.Bernoulli(made[2][w, x, key]), obs=y)
        return w, x

    return together(lambda: (rows("w"), rows("x", S), tones(S, S)), step)


def neural():
    emission = Emission()

    def begin():
        pyro.module("emission", emission)
        return rows("x")

    def step(t, made, before, keys, y):
        x, last = before or (0, y.new_zeros(D))
        x = hidden(t, made[x])
        with pyro.plate(f"tones_{t}", D, dim=-1):
            return x, pyro.sample(f"y_{t}", dist.Bernoulli(logits=emission(x, last)), obs=y)

    return together(begin, step)


def second_order():
    def begin():
        cube = pyro.param("probs_x", lambda: torch.arange(8.0).reshape(S, S, S) + 1, constraint=constraints.simplex)
        return cube, pyro.param(
            "probs_y", lambda: torch.linspace(0.2, 0.7, S * D).view(S, D), constraint=constraints.unit_interval
        )

    def step(t, made, before, keys, y):
        old, x = before or [torch.tensor(0)] * 2
        old, x = x, hidden(t, Vindex(made[0])[old, x])
        with keys:
            pyro.sample(f"y_{t}", dist.Bernoulli(made[1][x.squeeze(-1)]), obs=y)
        return old, x

    return together(begin, step, history=2)


def fused():
    """By `DiscreteHMM`, whose sequences are cut at the longest one."""
    emission = Emission()

    def model(sequences, lengths, size=None):
        pyro.module("emission", emission)
        probs_x = rows("x")
        with pyro.plate("sequences", len(sequences), size, dim=-1) as batch:
            lengths = lengths[batch]
            y = sequences[batch, : lengths.max()]
            start = torch.tensor([0.0, -torch.inf])
            emitted = dist.Bernoulli(
                logits=emission(torch.eye(S).argmax(0).view(S, 1).expand(S, 1), y.unsqueeze(-2))
            ).to_event(1)
            mask = (torch.arange(y.size(1)) < lengths.unsqueeze(-1)).unsqueeze(-1)
            pyro.sample("y", dist.DiscreteHMM(start, probs_x.log(), emitted.mask(mask)), obs=y)

    return model


MODELS = {
    f.__name__: f
    for f in (one_by_one, plain, autoregressive, factorial, network, neural, second_order, fused)
}  # fmt: skip


def made(name, kind, **options):
    """An SVI of that kind over a fresh model."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    model = MODELS[name]()
    guide = AutoDelta(poutine.block(model, expose_fn=lambda site: site["name"].startswith("probs_")))
    elbo = TraceEnum_ELBO(
        max_plate_nesting=1 if name in ("one_by_one", "fused") else 2, strict_enumeration_warning=name != "fused"
    )
    return kind(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo, **options)
