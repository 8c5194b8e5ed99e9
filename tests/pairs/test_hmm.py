"""The two pairs of a hidden Markov model: exact answers, gradients, training, and what they refuse."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.exact.chains import MODELS, gaussian
from vbayes.exact import hidden_markov as hm

DATA = Path(os.environ.get("VBAYES_DATA", "missing"))


def small(name: str, steps: int = 3):
    """A pair, and data of three unequal rows."""
    model = MODELS[name]()
    x, _ = model.sample(3, steps, seed=4)
    lengths = torch.tensor([steps, 1, steps - 1])
    return vb.pairs.hmm(model, rows=3, steps=steps), x, lengths


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
def test_tabulation_agrees(name):
    """Evidence, ELBO and the ELBO's gradient from the pair's own densities at every path."""
    pair, x, lengths = small(name)
    for args in ((x,), (x, lengths)):
        batch = vb.Batch(args)
        pair.initialise(batch)
        with pair.scope():
            leaves = list(pair.leaves.values())
            table = vb.tabulate(pair, batch)
            exact = pair.exact.elbo(*args)
            torch.testing.assert_close(table.elbo().sum(), exact)
            evidence = pair.exact.log_evidence(*args)
            torch.testing.assert_close(table.log_evidence().sum(), evidence)
            assert (table.kl().detach() > -1e-12).all()
            torch.testing.assert_close(table.kl().sum(), evidence - exact)
            ours, theirs = (torch.autograd.grad(v, leaves, materialize_grads=True) for v in (table.elbo().sum(), exact))
        for mine, known in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, known, rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
def test_the_pair_starts_at_the_model(name):
    model = MODELS[name]()
    pair, x, lengths = small(name, steps=6)
    summed = vb.pairs.hmm_summed(model)
    for one in (pair, summed):
        one.initialise(vb.Batch((x, lengths)))
        with one.scope():
            torch.testing.assert_close(one.exact.log_evidence(x, lengths), model.log_evidence(x, lengths).sum())
        back = vb.pairs.hidden_markov_of(one)
        torch.testing.assert_close(back.transition, model.transition)
        torch.testing.assert_close(back.log_evidence(x, lengths), model.log_evidence(x, lengths))
    with pair.scope():
        found = pair.exact.posterior(x, lengths)["z"].base_dist.probs
        torch.testing.assert_close(found[1, :1], model.posterior(x, lengths)[1, :1])
    with summed.scope():  # the site's own density, and the estimators' ELBO, are the evidence
        for estimator in (vb.Trace(), vb.AnalyticKL(), pyro.infer.Trace_ELBO()):
            value = -estimator.loss(summed.model, summed.guide, x, lengths)
            assert value == pytest.approx(float(model.log_evidence(x, lengths).sum()))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_the_kl_of_states_is_closed(name):
    """Σ_z q(z) (log q(z) − log p(z)), over the paths; and the estimators use it."""
    pair, x, lengths = small(name)
    batch = vb.Batch((x, lengths))
    assert vb.check(pair.initialise(batch), x, lengths).sites[0].analytic_kl == "yes"
    with pair.scope(), torch.no_grad(), vb.seeded(0):
        q, p = pair.run(batch)
        kl = torch.distributions.kl_divergence(q.nodes["z"]["fn"], p.nodes["z"]["fn"])
        paths = torch.cartesian_prod(*[torch.arange(3)] * 3)[:, None, :].expand(-1, 3, -1)
        log_q, log_p = q.nodes["z"]["fn"].log_prob(paths), p.nodes["z"]["fn"].log_prob(paths)
        torch.testing.assert_close(kl, (log_q.exp() * (log_q - log_p)).sum(0))
        torch.testing.assert_close(log_p.exp().sum(0), torch.ones(3))
        other = dist.Categorical(logits=torch.randn(3, 3, 3)).to_event(1)  # uneven past the rows' ends too
        kl, log_q = torch.distributions.kl_divergence(other, p.nodes["z"]["fn"]), other.log_prob(paths)
        torch.testing.assert_close(kl, (log_q.exp() * (log_q - log_p)).sum(0))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_unbiased(name):
    pair, x, lengths = small(name)
    data = vb.Dataset({"x": x, "lengths": lengths})
    result = vb.compare(pair, data, [vb.RLOO(4), vb.AnalyticKL(), vb.Trace()], at={"start": pair}, replicas=4000)
    table = result.to_dataframe()
    assert table.estimator.nunique() == 3 and table.bias_z.notna().any() and table.bias_z.abs().max() < 5


@pytest.mark.parametrize("name", ["gaussian", pytest.param("categorical", marks=pytest.mark.slow)])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_summed_out_it_reaches_what_em_reaches(name, compiled):
    """Gradient ascent and EM, from one start, on unequal rows: the same evidence to 0.03 nats of some hundreds: probabilities near 0 are
    far off in logits."""
    x, _ = MODELS[name]().sample(4, 100, seed=6)
    lengths = torch.tensor([100, 100, 61, 8])
    start = hm.random_start(x, 2, lengths=lengths, seed=3)
    learnt = vb.baum_welch(x, start, lengths=lengths)
    data = vb.Dataset({"x": x, "lengths": lengths})
    fit = vb.fit(vb.pairs.hmm_summed(start), data, steps=500, learning_rate=0.1, compile=compiled, progress=False)
    reached = vb.pairs.hidden_markov_of(fit.pair)
    assert float(reached.log_evidence(x, lengths).sum()) == pytest.approx(learnt.log_evidence, abs=0.03)
    assert fit.history.elbo.iloc[-1] == pytest.approx(learnt.log_evidence, abs=0.03)


@pytest.mark.slow
def test_in_double_precision_it_compiles():
    """An evidence of thousands of nats, in doubles while torch's default is single: the program's check is as fine as they are."""
    x, _ = gaussian().sample(60, 50, seed=2)
    model = vb.HiddenMarkov(
        gaussian().initial.double(),
        gaussian().transition.double(),
        vb.GaussianEmission(*(v.double() for v in vars(gaussian().emission).values())),
    )
    one, other = (vb.fit(vb.pairs.hmm_summed(model), x.double(), steps=70, learning_rate=0.03, progress=False, compile=c) for c in (True, False))  # fmt: skip
    for name, value in one.parameters.items():
        torch.testing.assert_close(value, other.parameters[name], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_the_factored_guide_learns_and_loses():
    x, _ = gaussian().sample(4, 12, seed=6)
    pair = vb.pairs.hmm(gaussian(), rows=4, steps=12)
    fit = vb.fit(pair, x, vb.RLOO(8), steps=300, learning_rate=0.1, progress=False, compile=False)
    with fit.pair.scope(), torch.no_grad():
        evidence, elbo = float(fit.pair.exact.log_evidence(x)), float(fit.pair.exact.elbo(x))
        given = vb.pairs.hidden_markov_of(fit.pair).log_densities(x)
        best = float(hm.elbo(*given, hm.best_factored(*given)).sum())
    with pair.initialise(vb.Batch((x,))).scope():
        before = float(pair.exact.elbo(x).detach())
    assert before + 5 < elbo < evidence - 0.1  # it has learnt, and can't be the posterior
    assert best - 1.0 < elbo < best + 0.01  # and is near the best that such a q can be


def test_long_rows_and_minibatches_train():
    """Rows of 400 steps: no loop over time; and some rows at a time, scaled."""
    x, _ = gaussian().sample(12, 400, seed=1)
    summed = vb.fit(vb.pairs.hmm_summed(3, seed=1), x, epochs=2, batch_size=4, progress=False)
    assert summed.steps == 6 and summed.history.elbo.iloc[0] < -2000  # of all rows, not of a third
    assert vb.fit(vb.pairs.hmm(3, rows=12, steps=400), x, vb.RLOO(2), steps=5, progress=False).steps == 5


def test_it_generates():
    pair, x, _ = small("categorical")
    n = 4000
    for other, rows in ((pair, 3), (vb.pairs.hmm_summed(MODELS["categorical"]()), n)):
        batch = vb.Batch((torch.zeros(rows, 3, dtype=torch.long),))
        with other.initialise(batch).scope(), vb.seeded(1), torch.no_grad():
            made = other.generate(batch).nodes["x"]["value"]
        assert made.shape == (rows, 3) and made.dtype == torch.long
    model = MODELS["categorical"]()
    right = model.initial @ model.transition @ model.transition @ model.emission.probability
    share = made[:, 2].bincount(minlength=4) / n
    assert ((share - right) / (right * (1 - right) / n).sqrt()).abs().max() < 4.5


def test_what_is_refused():
    pair, x, lengths = small("categorical")
    for args, message in [
        ((x, torch.tensor([3, 0, 1])), "lengths has 0 in row 1"),
        ((x + 3,), "Wanted: 0 to 3"),
        ((x[:, :, None],), r"x has shape \(3, 3, 1\)"),
        ((x[:2],), "2 sequences of 3 steps.*hmm_summed"),
        ((x.float(),), r"x.long\(\)"),
    ]:
        with pytest.raises(vb.errors.BadInput, match=message):
            vb.check(pair, *args)
    with pytest.raises(vb.errors.BadInput, match="batch_size=None"):
        vb.fit(pair, x, "rloo", batch_size=2, steps=1, progress=False)
    with pytest.raises(vb.errors.BadInput, match="'gaussian' or 'categorical'"):
        vb.pairs.hmm(2, rows=1, steps=1, emission="poisson")
    with pytest.raises(vb.errors.BadInput, match="states=0"):
        vb.pairs.hmm_summed(0)
    with pytest.raises(vb.errors.BadInput, match="no hidden Markov model"):
        vb.pairs.hidden_markov_of(vb.pairs.normal_normal())


def mean_score(draws: dict[str, torch.Tensor], y: torch.Tensor) -> torch.Tensor:
    """(4,) |z| of the mean over reference draws of ∇ log p(unconstrained parameters | y), which is zero (Stein)."""
    logit = [torch.logit(draws[f"theta{k}[{k}]"]) for k in (1, 2)]
    free = torch.stack([*logit, draws["mu[1]"], draws["mu[2]"]], -1).requires_grad_()
    stay, mean = free[:, :2].sigmoid(), free[:, 2:]
    total = torch.zeros(())
    for row in range(len(free)):
        a, b = stay[row]
        moves = torch.stack([torch.stack([a, 1 - a]), torch.stack([1 - b, b])]).log()
        emission = torch.distributions.Normal(mean[row], 1.0).log_prob(y[None, :, None])
        total = total + hm.log_evidence(torch.full((2,), 0.5).log(), moves, emission).sum()
    prior = torch.distributions.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mean).sum()
    total = total + prior + (stay.log() + (1 - stay).log()).sum()  # flat in θ; the Jacobian of the logit
    (score,) = torch.autograd.grad(total, free)
    return score.mean(0) / (score.std(0) / len(score) ** 0.5)


@pytest.mark.skipif(not (DATA / "posteriordb").exists(), reason="posteriordb's files are not in VBAYES_DATA")
@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_posteriordbs_draws_come_from_our_density():
    """Magnusson et al. 2025, posteriordb, hmm_example: reference draws of Stan, 10 chains, from which some are taken."""

    def read(name: str):
        with zipfile.ZipFile(DATA / "posteriordb" / name) as archive:
            return json.loads(archive.read(archive.namelist()[0]))

    y = torch.tensor(read("data/hmm_example.json.zip")["y"])
    chains = read("draws/hmm_example-hmm_example.json.zip")
    draws = {key: torch.tensor([v for chain in chains for v in chain[key][::20]]) for key in chains[0]}
    assert mean_score(draws, y).abs().max() < 4
    wrong = draws | {"mu[1]": draws["mu[1]"] + 0.1}  # a posterior sd is 0.16
    assert mean_score(wrong, y).abs().max() > 8


@pytest.mark.skipif(not (DATA / "hierarchical").exists(), reason="LynxHare.txt is not in VBAYES_DATA")
def test_hares_and_lynxes_have_phases():
    """Pelts a year, 1845 to 1935: what two numbers a year tell together, states that last explain better than a mixture."""
    rows = [line.split() for line in (DATA / "hierarchical" / "LynxHare.txt").read_text().splitlines() if line.strip()]
    x = torch.tensor([[float(v) for v in row[1:3]] for row in rows], dtype=torch.float64).log()[None]
    chain = vb.baum_welch(x, 3, restarts=5, tolerance=1e-4)
    one = vb.baum_welch(x, 1)
    right = torch.distributions.Normal(x[0].mean(0), x[0].std(0, correction=0)).log_prob(x[0]).sum()
    assert one.log_evidence == pytest.approx(float(right))
    assert x.shape == (1, 91, 2) and chain.log_evidence > one.log_evidence + 30
    assert (chain.model.transition.diagonal() > 0.5).all()  # the phases of the cycle last


def test_missing_steps_are_filled_in_as_the_exact_completion_has_them():
    """Under a factored q, whose refusals make the chain right; for a model that the states of hang together."""
    model = vb.HiddenMarkov(
        torch.tensor([0.6, 0.4]),
        torch.tensor([[0.8, 0.2], [0.3, 0.7]]),
        vb.GaussianEmission(torch.tensor([-1.0, 1.5]), torch.tensor([0.7, 0.7])),
    )
    x, _ = model.sample(6, 5, seed=1)
    known = torch.tensor([True, True, False, True, False])
    many = x.repeat(400, 1)  # independent chains of each sequence
    pair = vb.pairs.hmm(model, rows=len(many), steps=5).initialise(vb.Batch((many,)))
    near = model.posterior(many, observed=known.expand(many.shape))
    pair.load({"states": near.log()})  # the factored q nearest to what is known
    found = vb.impute(pair, many, known, draws=2, burn_in=150, progress=False)
    exact = model.predictive(x, observed=known.expand(6, 5)).mean[:, ~known]
    last = found.draws[-1].reshape(400, 6, 5)[..., ~known]
    assert ((last.mean(0) - exact).abs() < 4 * last.std(0) / 20).all()
    assert (exact - exact.mean()).abs().max() > 0.5  # what is known tells something
    wrong = model.predictive(x, observed=torch.zeros(6, 5, dtype=torch.bool)).mean[:, ~known]
    assert not ((last.mean(0) - wrong).abs() < 4 * last.std(0) / 20).all()
