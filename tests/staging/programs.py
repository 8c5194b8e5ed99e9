"""Pyro programs in the styles that users write, none of them with staging in mind."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.contrib import gp
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, config_enumerate
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from torch import nn
from torch.distributions import constraints

import vbayes as vb


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
        torch.get_default_dtype()
    )


def hierarchical_regression():
    """Varying intercepts and slopes, in the way of the radon example."""
    x, county, y = numbers(24), torch.arange(24) % 4, numbers(24)

    def model(x, county, y):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        sd = pyro.sample("sd", dist.HalfNormal(torch.ones(2)).to_event(1))
        with pyro.plate("counties", 4):
            alpha = pyro.sample("alpha", dist.Normal(a, sd[0]))
            beta = pyro.sample("beta", dist.Normal(0.0, sd[1]))
        sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(alpha[county] + beta[county] * x, sigma), obs=y)

    return model, AutoNormal(model), Trace_ELBO(), (x, county, y)


def bayesian_network():
    """PyroSample weights, and a plate that the model subsamples by itself."""

    class Network(PyroModule):
        def __init__(self):
            super().__init__()
            self.hidden = PyroModule[nn.Linear](3, 5)
            self.hidden.weight = PyroSample(dist.Normal(0.0, 1.0).expand([5, 3]).to_event(2))
            self.hidden.bias = PyroSample(dist.Normal(0.0, 1.0).expand([5]).to_event(1))
            self.out = PyroModule[nn.Linear](5, 1)
            self.out.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 5]).to_event(2))

        def forward(self, x, y):
            mean = self.out(torch.tanh(self.hidden(x))).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Bernoulli(logits=mean), obs=y)

    model = Network()
    return (
        model,
        AutoDiagonalNormal(model),
        TraceMeanField_ELBO(),
        (numbers(12, 3), (numbers(12) > 0).to(torch.get_default_dtype())),
    )


def subsampling():
    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x), subsample_size=5) as rows:
            pyro.sample("x", dist.StudentT(4.0, m, 1.0), obs=x[rows])

    return model, AutoNormal(model), Trace_ELBO(), (numbers(20),)


def mixture_enumerated():
    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], scale), obs=x)

    guide = AutoDelta(pyro.poutine.block(model, expose=["weights", "locs", "scale"]))
    return model, guide, TraceEnum_ELBO(max_plate_nesting=1), (numbers(9),)


def mixture_sampled():
    """The assignment drawn from its guide: score function with TraceGraph's baselines."""

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
            pyro.sample("x", dist.Normal(pyro.param("locs", torch.tensor([-1.0, 1.0]))[k], 1.0), obs=x)

    def guide(x):
        logits = pyro.param("logits", lambda: 0.1 * numbers(9, 2))
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(logits=logits))

    return model, guide, TraceGraph_ELBO(), (numbers(9),)


def bernoulli_switch():
    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.4))
            z = pyro.sample("z", dist.Normal(b, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x):
        p = pyro.param("p", lambda: torch.full((6,), 0.3), constraint=constraints.unit_interval)
        loc = pyro.param("loc", lambda: numbers(6))
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(p))
            pyro.sample("z", dist.Normal(loc + b, 0.7))

    return model, guide, Trace_ELBO(num_particles=3), (numbers(6),)


def gaussian_mixture_marginal():
    """The mixture as a distribution of its own."""

    def model(x):
        locs = pyro.sample("locs", dist.Normal(torch.tensor([-1.0, 0.0, 1.0]), 2.0).to_event(1))
        weights = pyro.param("weights", torch.ones(3) / 3, constraint=constraints.simplex)
        parts = dist.Normal(locs, 1.0)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), parts), obs=x)

    return model, AutoMultivariateNormal(model), Trace_ELBO(), (numbers(10),)


def gaussian_process():
    x, y = torch.linspace(0, 1, 8), numbers(8)
    kernel = gp.kernels.RBF(input_dim=1, variance=torch.tensor(2.0), lengthscale=torch.tensor(0.5))
    regression = gp.models.GPRegression(x, y, kernel, noise=torch.tensor(0.3))
    return regression.model, regression.guide, Trace_ELBO(), ()


def hidden_markov_model():
    def model(y):
        start = pyro.param("start", torch.zeros(3))
        moves = pyro.param("moves", lambda: numbers(3, 3))
        locs = pyro.sample("locs", dist.Normal(torch.zeros(3), 3.0).to_event(1))
        hmm = dist.DiscreteHMM(start, moves, dist.Normal(locs, 1.0), duration=len(y))
        pyro.sample("y", hmm, obs=y)

    return model, AutoNormal(model), Trace_ELBO(), (numbers(7),)


def semi_supervised_vae():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.classify, self.encode, self.decode = nn.Linear(6, 3), nn.Linear(9, 4), nn.Linear(5, 6)

        def model(self, x):
            pyro.module("net", self)
            with pyro.plate("data", len(x)):
                y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3))
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decode(torch.cat([y, z], -1))).to_event(1), obs=x)

        def guide(self, x):
            pyro.module("net", self)
            with pyro.plate("data", len(x)):
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classify(x)))
                loc, log_scale = self.encode(torch.cat([x, y], -1)).chunk(2, -1)
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    net = Net()
    return (
        net.model,
        net.guide,
        TraceEnum_ELBO(max_plate_nesting=1),
        ((numbers(5, 6) > 0).to(torch.get_default_dtype()),),
    )


def flow_guide():
    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.prod(), 1.0), obs=x)

    return model, AutoIAFNormal(model, hidden_dim=[8]), Trace_ELBO(), (numbers(6),)


def topic_model():
    def model(words):
        with pyro.plate("topics", 3):
            topics = pyro.sample("topic", dist.Dirichlet(torch.ones(7)))
        with pyro.plate("data", len(words)):
            share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
            pyro.sample("words", dist.Multinomial(total_count=20, probs=share @ topics, validate_args=False), obs=words)

    def guide(words):
        a = pyro.param("a", lambda: torch.full((3, 7), 2.0), constraint=constraints.positive)
        b = pyro.param("b", lambda: torch.full((len(words), 3), 2.0), constraint=constraints.positive)
        with pyro.plate("topics", 3):
            pyro.sample("topic", dist.Dirichlet(a))
        with pyro.plate("data", len(words)):
            pyro.sample("share", dist.Dirichlet(b))

    counts = torch.zeros(4, 7).scatter_add(1, torch.arange(80).view(4, 20) % 7, torch.ones(4, 20))
    return model, guide, Trace_ELBO(), (counts,)


def handlers():
    """mask, scale, reparam, a nested plate, a site observed by condition."""
    seen = torch.tensor([[True, False, True, True], [True, True, False, True]])

    @pyro.poutine.reparam(config={"m": LocScaleReparam(0.0)})
    def model(x):
        m = pyro.sample("m", dist.Normal(0.0, 2.0))
        with pyro.plate("groups", 2, dim=-2):
            g = pyro.sample("g", dist.Normal(m, 1.0))
            with pyro.plate("data", 4, dim=-1), pyro.poutine.mask(mask=seen), pyro.poutine.scale(scale=0.5):
                pyro.sample("x", dist.Laplace(g, 1.0), obs=x)

    return model, AutoLowRankMultivariateNormal(model, rank=1), Trace_ELBO(), (numbers(2, 4),)


def renyi():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.3)) * x, 0.8))

    return model, guide, RenyiELBO(alpha=0.5, num_particles=4), (numbers(5),)


def gamma_poisson():
    def model(counts):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0), 1.0))
        with pyro.plate("data", len(counts)):
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    def guide(counts):
        a = pyro.param("a", torch.tensor(3.0), constraint=constraints.positive)
        pyro.sample("rate", dist.Gamma(a, pyro.param("b", torch.tensor(1.5), constraint=constraints.positive)))

    return model, guide, TraceMeanField_ELBO(), (torch.tensor([1.0, 0.0, 3.0]),)


def counts_drawn():
    """Draws that are not made of normals and uniforms, and have no path."""

    def model(x):
        with pyro.plate("data", len(x)):
            n = pyro.sample("n", dist.Poisson(3.0))
            pyro.sample("x", dist.Normal(n, 1.0), obs=x)

    def guide(x):
        rate = pyro.param("rate", torch.ones(len(x)), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("n", dist.Poisson(rate))

    return model, guide, TraceGraph_ELBO(), (numbers(4),)


def sticks():
    """A Dirichlet process by stick breaking, as Pyro's tutorial has it: betas in the guide, and assignments drawn."""
    parts = 4

    def model(x):
        with pyro.plate("sticks", parts - 1):
            beta = pyro.sample("beta", dist.Beta(1.0, 1.5))
        with pyro.plate("components", parts):
            rate = pyro.sample("rate", dist.Gamma(3.0, 0.5))
        left = nn.functional.pad((1 - beta).cumprod(-1), (1, 0), value=1.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(nn.functional.pad(beta, (0, 1), value=1.0) * left))
            pyro.sample("x", dist.Poisson(rate[z]), obs=x)

    def guide(x):
        def positive(name, value, *shape):
            return pyro.param(name, lambda: torch.full(shape, value), constraint=constraints.positive)

        with pyro.plate("sticks", parts - 1):
            pyro.sample("beta", dist.Beta(torch.ones(parts - 1), positive("kappa", 0.7, parts - 1)))
        with pyro.plate("components", parts):
            pyro.sample("rate", dist.Gamma(positive("shape", 2.5, parts), positive("inverse", 0.6, parts)))
        phi = pyro.param("phi", lambda: numbers(len(x), parts).softmax(-1), constraint=constraints.simplex)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(phi))

    return model, guide, Trace_ELBO(), (torch.tensor([1.0, 0.0, 3.0, 7.0, 5.0]),)


def normalised_network():
    """BatchNorm and dropout, in training mode."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))

        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([len(x), 3]).to_event(1), obs=x)

        def guide(self, x):
            pyro.module("layers", self.layers)
            loc, log_scale = self.layers(x).unbind(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    net = Net()
    return net.model, net.guide, Trace_ELBO(), (numbers(10, 3),)


def markov_chain():
    """`pyro.markov`, one step after another."""

    def model(y):
        z = torch.tensor(0.0)
        for t in pyro.markov(range(len(y))):
            z = pyro.sample(f"z{t}", dist.Normal(0.9 * z, 1.0))
            pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[t])

    return model, AutoNormal(model), Trace_ELBO(), (numbers(5),)


PROGRAMS = {
    f.__name__: f
    for f in (
        hierarchical_regression, bayesian_network, subsampling, mixture_enumerated, mixture_sampled, bernoulli_switch,
        gaussian_mixture_marginal, gaussian_process, hidden_markov_model, semi_supervised_vae, flow_guide, topic_model,
        handlers, renyi, gamma_poisson, normalised_network, markov_chain, counts_drawn, sticks,
    )
}  # fmt: skip


def made(name: str) -> tuple[vb.Pair, object, vb.Batch]:
    with vb.seeded(0):
        model, guide, elbo, args = PROGRAMS[name]()
        batch = vb.Batch(args)
        return vb.Pair(model, guide, name=name).initialise(batch), elbo, batch
