"""Expectation maximisation: against hmmlearn from the same start, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hmmlearn.hmm import CategoricalHMM, GaussianHMM

import vbayes as vb
from tests.exact.chains import MODELS
from vbayes import rng
from vbayes.exact import hidden_markov as hm

pytestmark = pytest.mark.usefixtures("double")


def some(name: str, rows: int = 6, steps: int = 80):
    x, _ = MODELS[name]().sample(rows, steps, seed=8)
    lengths = torch.tensor([steps, 3, 1, steps // 2, steps, 17][:rows])
    return x, lengths, hm.random_start(x, 3, lengths=lengths, seed=1)


def theirs(start: vb.HiddenMarkov, iterations: int):
    """hmmlearn from this start, without its priors."""
    given = {"init_params": "", "n_iter": iterations, "tol": -np.inf}
    if isinstance(start.emission, vb.GaussianEmission):
        other = GaussianHMM(start.states, covars_prior=0.0, min_covar=0.0, **given)
        shape = (start.states, -1)
        other.means_ = start.emission.mean.reshape(shape).numpy()
        other.covars_ = start.emission.scale.reshape(shape).numpy() ** 2
    else:
        other = CategoricalHMM(start.states, n_features=start.emission.symbols, **given)
        other.emissionprob_ = start.emission.probability.numpy()
    other.startprob_, other.transmat_ = start.initial.numpy(), start.transition.numpy()
    return other


def flat(x: torch.Tensor, lengths: torch.Tensor) -> np.ndarray:
    return np.concatenate([x[i, :n].reshape(int(n), -1).numpy() for i, n in enumerate(lengths)])


@pytest.mark.filterwarnings(
    "ignore:Setting the shape on a NumPy array:DeprecationWarning:hmmlearn"
)  # 0.3.3 does so itself
@pytest.mark.parametrize("name", MODELS)
def test_hmmlearn_climbs_the_same_way(name):
    """The evidence after each iteration, several sequences of unequal lengths."""
    x, lengths, start = some(name)
    mine = vb.baum_welch(x, start, lengths=lengths, iterations=25, tolerance=-1.0)
    other = theirs(start, 25).fit(flat(x, lengths), lengths.tolist())
    # Theirs is the evidence before each of its M-steps.
    history = list(other.monitor_.history)
    assert history
    np.testing.assert_allclose(mine.bound[25 - len(history) : 25], history, rtol=1e-9)
    assert len(mine.bound) == 26 and not mine.converged
    assert mine.log_evidence == pytest.approx(other.score(flat(x, lengths), lengths.tolist()), rel=1e-9)
    torch.testing.assert_close(mine.model.transition, torch.tensor(other.transmat_), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("expectation", [hm.by_posterior, hm.by_factored])
def test_it_never_falls_and_stops(name, expectation):
    x, lengths, start = some(name)
    observed = torch.ones(x.shape[:2], dtype=torch.bool)
    observed[0, 5:20] = False
    given = {"lengths": lengths, "observed": observed, "expectation": expectation}
    learnt = vb.baum_welch(x, start, tolerance=1e-3, **given)
    gains = torch.tensor(learnt.bound).diff()
    assert (gains > -1e-7).all() and learnt.converged and gains[-1] < 1e-3 and (gains[:-1] >= 1e-3).all()
    evidence = float(learnt.model.log_evidence(x, lengths, observed=observed).sum())
    if expectation is hm.by_posterior:
        assert evidence == pytest.approx(learnt.log_evidence, rel=1e-12)
    else:
        assert evidence > learnt.log_evidence + 0.1  # an ELBO: log p − KL
        exact = vb.baum_welch(x, start, tolerance=1e-3, lengths=lengths, observed=observed)
        assert exact.log_evidence > evidence


def test_what_is_reached_is_stationary():
    x, lengths, start = some("gaussian")
    model = vb.baum_welch(x, start, lengths=lengths, tolerance=1e-11, iterations=20_000).model
    emission = [v.clone().requires_grad_() for v in vars(model.emission).values()]
    logits = [model.transition.log().requires_grad_()]
    at = vb.GaussianEmission(*emission).log_prob(x)
    value = hm.log_evidence(model.initial.log(), logits[0].log_softmax(-1), at, lengths).sum()
    for gradient in torch.autograd.grad(value, emission + logits):
        assert gradient.abs().max() < 1e-2  # nats, of a thousand


def test_restarts_take_the_best():
    x, lengths, _ = some("gaussian")
    several = vb.baum_welch(x, 3, lengths=lengths, restarts=4, seed=2, tolerance=1e-3)
    assert len(several.restarts) == 4 and several.log_evidence == max(several.restarts)
    singles = [vb.baum_welch(x, hm.random_start(x, 3, lengths=lengths, seed=s), lengths=lengths, tolerance=1e-3) for s in rng.children(2, 4)]  # fmt: skip
    assert several.restarts == tuple(one.log_evidence for one in singles)
    assert max(several.restarts) - min(several.restarts) > 1e-3  # they did differ


def test_learning_finds_what_made_the_data():
    model = MODELS["vectors"]()
    x, _ = model.sample(100, 60, seed=3)
    learnt = vb.baum_welch(x, model, tolerance=1e-2)
    gained = learnt.log_evidence - float(model.log_evidence(x).sum())
    assert 0 < gained < 25  # half a χ² of the 20 free parameters: 10 ± 3.2
    torch.testing.assert_close(learnt.model.emission.mean, model.emission.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(learnt.model.transition, model.transition, rtol=0, atol=0.06)


def test_a_state_can_not_shrink_onto_a_datum():
    x = torch.tensor([[0.0, 0.1, -0.1, 50.0, 0.05, 0.0, -0.2, 0.1]])
    learnt = vb.baum_welch(x, 2, restarts=4)
    assert (learnt.model.emission.scale >= 0.999 * hm.emissions.LEAST_SPREAD * x.std(correction=0)).all()
    with pytest.raises(vb.errors.BadInput, match="never change"):
        vb.baum_welch(torch.full((2, 5), 0.1), 1)  # whose mean need not be 0.1


def test_what_is_refused():
    x, _, start = some("categorical")
    with pytest.raises(vb.errors.BadInput, match="1 observed steps for 2 states"):
        vb.baum_welch(torch.zeros(1, 1), 2)
    with pytest.raises(vb.errors.BadInput, match="start=0"):
        vb.baum_welch(x, 0)
    with pytest.raises(vb.errors.BadInput, match="iterations=0"):
        vb.baum_welch(x, start, iterations=0)
    never = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(3, 4)
    with pytest.raises(vb.errors.BadInput, match="impossible under the start"):
        vb.baum_welch(x, vb.HiddenMarkov(start.initial, start.transition, vb.CategoricalEmission(never)))
