"""Every public verb finds a pair on a CUDA device and data on the CPU, and the other way round; what it hands back for people is on the CPU.

Without a card, on tensors that pass for ones on it (`stand_in`); with `--device cuda`, on the card.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

import vbayes as vb
from tests.devices.stand_in import on_cuda
from tests.models import small_vae
from vbayes.pairs.hmm import hidden_markov_of
from vbayes.pairs.tractable import TRACTABLE

quick = {"progress": False}
X = torch.rand(12, 6, generator=torch.Generator().manual_seed(0)).round()


@pytest.fixture(autouse=True)
def card(request):
    with on_cuda(request.config.getoption("--device")):
        yield


def fitted(**options):
    return vb.fit(small_vae(), X, steps=2, device="cuda", **quick, **options)


def asked():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbayes.laboratory.auto.BUDGET", 0.01)  # seconds: one variant is enough
        return fitted(estimator="auto").parameters


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v)]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in tensors_in(v)]
    return []


def space(fit):
    return vb.LatentSpace(fit, X)


VERBS = {
    "parameters": lambda fit: fit.parameters,
    "history": lambda fit: fit.history,
    "check": lambda fit: vb.check(fit.pair, X, show=False),
    "posterior": lambda fit: vars(vb.posterior(fit, X, draws=3)),
    "posterior by importance": lambda fit: vars(vb.posterior(fit, X, draws=3, method="importance")),
    "log_evidence": lambda fit: vars(vb.log_evidence(fit.pair, X, method="iw", num_particles=2, **quick)),
    "log_evidence, elbo": lambda fit: vars(vb.log_evidence(fit, X, method="elbo", num_particles=2, **quick)),
    "log_evidence, ais": lambda fit: vars(vb.log_evidence(fit, X[:3], method="ais", num_particles=2, temperatures=2, **quick)),
    "log_evidence, sandwich": lambda fit: vars(vb.log_evidence(fit, X[:3], method="sandwich", num_particles=2, temperatures=2, **quick)),
    "compare_models": lambda fit: vb.compare_models({"a": fit, "b": small_vae()}, X, method="iw", num_particles=2, **quick).to_dataframe(),
    "reconstruct": lambda fit: vars(vb.reconstruct(fit, X)),
    "predict": lambda fit: vb.predict(fit, X[:3], draws=3) and None,
    "impute": lambda fit: vars(vb.impute(fit, X, known=torch.arange(6) < 3, draws=2, burn_in=1, **quick)),
    "latent_use": lambda fit: vb.latent_use(fit, X),
    "encode": lambda fit: space(fit).encode(X),
    "decode": lambda fit: space(fit).decode(torch.zeros(2, 2)),
    "sample": lambda fit: space(fit).sample(torch.zeros(2, 2)),
    "generate": lambda fit: space(fit).generate(3),
    "walk": lambda fit: space(fit).walk(torch.zeros(2), torch.ones(2), steps=3),
    "chart": lambda fit: space(fit).chart(side=3),
    "codes": lambda fit: space(fit).codes(),
    "to_arviz": lambda fit: vb.to_arviz(fit, X, draws=2),
    "compare": lambda fit: vb.compare(fit, X, ["pathwise"], replicas=100, at="start", device="cuda", **quick).to_dataframe(),
    "noise_split": lambda fit: vb.noise_split(fit.pair, X, batch_sizes=(2, 4), particles=(1,), minibatches=10, draws=2, **quick).to_dataframe(),
    "recommend": lambda fit: vb.recommend(fit, X, budget=0.01, **quick).to_dataframe(),
    "race": lambda fit: vb.race(small_vae(), X, ["pathwise"], steps=2, seeds=1, evaluations=1, device="cuda", **quick).to_dataframe(),
    "restarts": lambda fit: [one.parameters for one in fitted(restarts=2, batch_size=4).fits],
    "restarts, together": lambda fit: [one.parameters for one in fitted(restarts=2, compile=True).fits],
    "compiled": lambda fit: fitted(compile=True, batch_size=5).parameters,
    "auto": lambda fit: asked(),
    "resume": lambda fit: fit.resume(steps=1, **quick).parameters,
    "monte_carlo_em": lambda fit: (found := vb.monte_carlo_em(fit.pair, X, steps=1, **quick)) and [found.parameters, found.latents()],
    "rows by an index on the card": lambda fit: fit.data.rows(torch.arange(3, device="cuda")) and None,
    "dynamic binarisation": lambda fit: fitted(binarize="dynamic", batch_size=4).parameters,
}  # fmt: skip

SLOW = {"compare", "log_evidence, sandwich", "recommend", "auto"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in VERBS]
)
def test_a_verb_of_a_fit_on_the_card_takes_data_on_the_cpu(name):
    fit = fitted()
    assert fit.pair.device == fit.data.first.device == torch.device("cuda", 0)
    found = VERBS[name](fit)
    assert all(t.device.type == "cpu" for t in tensors_in(found))


def test_draws_for_an_estimator_stay_where_the_pair_is():
    fit = fitted()
    with fit.pair.scope(), vb.seeded(0):
        drawn = vb.draw(fit.pair, X, 2, {"log_p", "log_q"})
    assert drawn.log_p.device.type == "cuda"


def test_data_on_the_card_are_brought_to_a_pair_on_the_cpu():
    pair = vb.fit(small_vae(), X, steps=1, device="cpu", **quick).pair
    there = X.to("cuda")
    vb.check(pair, there, show=False)
    assert vb.reconstruct(pair, there).x.device.type == "cpu"
    assert np.isfinite(vb.log_evidence(pair, there, method="iw", num_particles=2, device="cpu", **quick).value)


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("gaussian_chain", "discrete_chain")]


@pytest.mark.parametrize(
    "name", [*(name for name in TRACTABLE if name not in ("gaussian_chain", "discrete_chain")), *LONG]
)
def test_a_pair_with_exact_answers_has_them_on_the_card(name):
    known = TRACTABLE[name]
    (x,) = known.batch().args
    fit = vb.fit(known.build(), x, steps=2, device="cuda", **quick)
    if fit.pair.exact is not None:
        assert all(v.device.type == "cpu" for v in vb.posterior(fit, x, draws=2).draws.values())
    there = known.build().initialise(vb.Batch((x.to("cuda"),)))
    assert {v.device for v in there.parameters.values()} == {there.device}
    assert there.device.type == ("cpu" if there.modules else "cuda")  # where its modules are


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal_normal", "gaussian_chain", "linear_gaussian", "beta_bernoulli", "gamma_poisson", "bernoulli_toy", "gaussian_mixture", "discrete_chain"])  # fmt: skip
def test_tables_are_right_on_the_card(name):
    known = TRACTABLE[name]
    fit = vb.fit(known.build(), *known.batch().args, steps=2, device="cuda", **quick)
    table = vb.tabulate(fit)
    with fit.pair.scope(), torch.no_grad():
        right = float(fit.pair.exact.log_evidence(*known.batch().args))
    assert table.log_p.device.type == "cpu"
    assert float(table.log_evidence().sum()) == pytest.approx(right, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("build", ["probabilistic_pca", "factor_analysis", "sparse_autoencoder", "linear_autoencoder", "bottleneck_autoencoder", "monte_carlo"])  # fmt: skip
def test_a_built_in_pair_learns_on_the_card(build):
    sizes = {"latent": 2} if build in ("probabilistic_pca", "factor_analysis") else {"hidden": 3}
    fit = vb.fit(getattr(vb.pairs, build)(6, **sizes), X, steps=2, device="cuda", **quick)
    assert torch.isfinite(torch.tensor(fit.history.elbo.to_numpy())).all()


@pytest.mark.parametrize("emission", ["gaussian", "categorical"])
def test_hidden_markov_models_learn_on_the_card(emission):
    x = X if emission == "gaussian" else X.long()
    lengths = torch.tensor([6, 4] * 6)
    for pair in (
        vb.pairs.hmm(2, rows=12, steps=6, emission=emission),
        vb.pairs.hmm_summed(2, emission=emission),
    ):
        fit = vb.fit(pair, {"x": x, "lengths": lengths}, steps=2, device="cuda", **quick)
        assert hidden_markov_of(fit.pair).initial.device.type == "cpu"
    found = vb.exact.hidden_markov.random_start(x.to("cuda"), 2)
    assert found.initial.device.type == "cuda" and found.sample(2, 3, seed=0)[0].device.type == "cuda"


@pytest.mark.parametrize(
    "update", [vb.NaturalGradient(), vb.BatchAndMatch(4), vb.ScoreMatching(4)], ids=lambda update: type(update).__name__
)
def test_updates(update):
    """Which read what a guide's parameters mean, and draw noise of their own."""

    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    fit = vb.fit(
        vb.Pair(model, AutoMultivariateNormal(model)),
        X[:, :2],
        steps=2,
        device="cuda",
        update=update,
        compile=False,
        **quick,
    )
    assert fit.steps == 2 and fit.pair.device.type == "cuda"
    assert all(value.device.type == "cpu" for value in fit.parameters.values())
