"""What a site is: nothing that is merely computed, or weighs, passes for data."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import vbayes as vb
from tests.models import binary
from vbayes.data.dataset import Batch
from vbayes.pair.sites import kind, recorded, sites

X = binary(8, 4)


def coder(extra: bool, weighs: bool = False, few: bool = False) -> vb.Pair:
    """A small autoencoder, with or without sites that have no data."""
    net = torch.nn.Linear(2, 4)
    code = torch.nn.Linear(4, 2)

    def model(x):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            logits = net(z)
            if extra:
                logits = pyro.deterministic("logits", logits, event_dim=1)
            if weighs:
                pyro.factor("pull", -z.square().sum(-1))
            if few:
                pyro.factor("few", -x.sum(-1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)
        if extra:
            pyro.deterministic("twice", 2 * z.detach())

    def guide(x):
        pyro.module("code", code)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(code(x), 0.5).to_event(1))

    return vb.Pair(model, guide, name="coder")


@pytest.fixture(autouse=True)
def seed():
    with vb.seeded(0):
        yield


def pairs() -> tuple[vb.Pair, vb.Pair]:
    with vb.seeded(3):
        plain = coder(False)
    with vb.seeded(3):
        return plain, coder(True)


def test_what_a_site_is():
    def model():
        with pyro.plate("rows", 10, subsample_size=3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("point", dist.Delta(z).mask(False))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(3))
            pyro.deterministic("twice", 2 * z)
            pyro.factor("pull", -z)

    trace = poutine.trace(model).get_trace()
    found = {name: kind(site) for name, site in trace.nodes.items() if site["type"] == "sample"}
    assert found == {
        "rows": "subsample", "z": "latent", "point": "latent", "x": "data", "twice": "deterministic", "pull": "factor",
    }  # fmt: skip
    assert [s["name"] for s in recorded(trace)] == ["z", "point", "x", "twice", "pull"]
    assert [s["name"] for s in sites(trace)] == ["z", "point", "x", "pull"]


def test_the_table_of_sites_tells_them_apart():
    found = {site.name: site.in_guide for site in vb.check(coder(True, True), X, show=False).sites}
    assert found == {"z": "yes", "logits": "deterministic", "pull": "factor", "x": "observed", "twice": "deterministic"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda pair: vb.impute(pair, X, torch.arange(4) < 2, draws=3, burn_in=1, progress=False).draws,
        lambda pair: vb.log_evidence(pair, X, "sandwich", num_particles=2, temperatures=5, progress=False).per_datum,
        lambda pair: vb.log_evidence(pair, X, "iw", num_particles=3, progress=False).per_datum,
        lambda pair: vb.reconstruct(pair, X).mean,
        lambda pair: vb.LatentSpace(pair, X).generate(3)[1],
        lambda pair: vb.posterior(pair, X, 5).effective,
        lambda pair: vb.fit(pair, X, vb.SleepPhase(), steps=3, progress=False).history["elbo"].to_numpy(copy=True),
        lambda pair: (
            vb.fit(pair, X, vb.IWAE(num_particles=3), steps=3, progress=False).history["elbo"].to_numpy(copy=True)
        ),
        lambda pair: (
            vb.fit(pair, X, vb.IWAE(num_particles=3), steps=3, batch_size=4, progress=False)
            .history["elbo"]
            .to_numpy(copy=True)
        ),
    ],
    ids=["impute", "sandwich", "iw", "reconstruct", "space", "posterior", "sleep", "iwae", "minibatches"],
)
def test_what_is_only_recorded_changes_nothing(ask):
    """A deterministic site outside the plate made one weight for all rows of a weight for each."""
    plain, more = (torch.as_tensor(ask(pair)) for pair in pairs())
    assert plain.dim() and torch.equal(plain, more)


def test_a_factor_is_refused_for_what_it_is():
    pair = coder(False, weighs=True)
    for ask in (
        lambda: vb.log_evidence(pair, X, "sandwich", num_particles=2, temperatures=5, progress=False),
        lambda: vb.fit(pair, X, vb.SleepPhase(), steps=2, progress=False),
    ):
        with pytest.raises(vb.errors.Unsuitable, match=r"'pull' of the model is a pyro\.factor"):
            ask()


def test_what_is_missing_beside_a_factor():
    """One that weighs latents is part of the weights; one that weighs the data can't be drawn from."""
    known = torch.arange(4) < 2
    assert vb.impute(coder(False, weighs=True), X, known, draws=3, burn_in=1, progress=False).draws.shape == (3, 8, 4)
    with pytest.raises(vb.errors.Unsuitable, match=r"pyro\.factor 'few' of pair 'coder' depends on the data"):
        vb.impute(coder(False, few=True), X, known, draws=3, burn_in=1, progress=False)


def test_generation_draws_data_alone():
    pair = coder(True)
    with pair.look(), torch.no_grad():
        made = pair.generate(Batch((X,)))
    logits = made.nodes["logits"]
    assert logits["is_observed"] and torch.equal(made.nodes["x"]["fn"].base_dist.logits, logits["value"])
    assert not made.nodes["x"]["is_observed"] and made.nodes["x"]["value"].shape == X.shape
