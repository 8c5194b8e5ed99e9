"""Every answer of a hidden Markov model, against all its paths counted out, the plain recursion, and another's code."""

from __future__ import annotations

import itertools

import pytest
import torch
from hmmlearn.hmm import CategoricalHMM, GaussianHMM

import vbayes as vb
from tests.exact.chains import MODELS, STATES, counted_out, gaussian
from vbayes.exact import hidden_markov as hm

pytestmark = pytest.mark.usefixtures("double")
LENGTHS = (5, 1, 4, 2)


def sequences(name: str):
    model = MODELS[name]()
    x, _ = model.sample(len(LENGTHS), 5, seed=3)
    return model, x, torch.tensor(LENGTHS)


def theirs(model: vb.HiddenMarkov):
    """The same model in hmmlearn."""
    if isinstance(model.emission, vb.GaussianEmission):
        other = GaussianHMM(model.states, covariance_type="diag")
        mean = model.emission.mean.reshape(model.states, -1)
        other.means_, other.covars_ = mean.numpy(), model.emission.scale.reshape(mean.shape).numpy() ** 2
    else:
        other = CategoricalHMM(model.states, n_features=model.emission.symbols)
        other.emissionprob_ = model.emission.probability.numpy()
    other.startprob_, other.transmat_ = model.initial.numpy(), model.transition.numpy()
    return other


@pytest.mark.parametrize("name", MODELS)
def test_all_paths_counted_out(name):
    model, x, lengths = sequences(name)
    evidence, posterior = model.log_evidence(x, lengths), model.posterior(x, lengths)
    filtered, best = model.filtered(x, lengths), model.viterbi(x, lengths)
    given = model.log_densities(x, lengths)
    pairs, (again, value) = hm.pairwise(*given, lengths), hm.viterbi(*given, lengths)
    for row, length in enumerate(LENGTHS):
        paths, joint = counted_out(model, x[row, :length])
        torch.testing.assert_close(evidence[row], joint.logsumexp(0))
        probability = joint.softmax(0)
        one_hot = torch.nn.functional.one_hot(paths, STATES).double()
        torch.testing.assert_close(posterior[row, :length], torch.einsum("p,pts->ts", probability, one_hot))
        moves = torch.einsum("p,pti,ptj->tij", probability, one_hot[:, :-1], one_hot[:, 1:])
        torch.testing.assert_close(pairs[row, : length - 1], moves)
        assert torch.equal(best[row, :length], paths[joint.argmax()]) and torch.equal(best, again)
        torch.testing.assert_close(value[row], joint.max())
        for t in range(length):
            some, joint = counted_out(model, x[row, : t + 1])
            now = torch.stack([joint[some[:, -1] == s].logsumexp(0) for s in range(STATES)])
            torch.testing.assert_close(filtered[row, t], now.softmax(0))
        for past in (posterior, filtered, pairs[:, length - 1 :]):
            assert (past[row, length:] == 0).all()
        assert (best[row, length:] == -1).all()


@pytest.mark.parametrize("name", MODELS)
def test_hmmlearn_agrees(name):
    model = MODELS[name]()
    x, _ = model.sample(3, 60, seed=1)
    lengths, other = torch.tensor([60, 7, 31]), theirs(model)
    for row, length in enumerate(lengths.tolist()):
        mine = x[row : row + 1, :length]
        flat = mine.reshape(length, -1).numpy()
        assert float(model.log_evidence(x, lengths)[row]) == pytest.approx(other.score(flat), abs=1e-9)
        torch.testing.assert_close(model.posterior(x, lengths)[row, :length], torch.tensor(other.predict_proba(flat)))
        score, path = other.decode(flat)
        assert model.viterbi(x, lengths)[row, :length].tolist() == path.tolist()
        given = model.log_densities(mine)
        assert float(hm.viterbi(*given)[1]) == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 17, 300])
def test_the_scan_is_the_recursion(name, steps):
    model = MODELS[name]()
    x, _ = model.sample(4, steps, seed=steps)
    lengths = torch.tensor([steps, 1, max(1, steps // 2), max(1, steps - 1)])
    given = model.log_densities(x, lengths)
    for these in (None, lengths):
        right = hm.log_evidence_by_recursion(*given, these)
        torch.testing.assert_close(hm.log_evidence(*given, these), right, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(hm.forward(*given, these)[:, -1].logsumexp(-1), right, rtol=1e-12, atol=1e-11)
        first = given[0] + given[2][:, 0] + hm.backward(*given, these)[:, 0]
        torch.testing.assert_close(first.logsumexp(-1), right, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_among_others_is_that_row_alone(name):
    model, x, lengths = sequences(name)
    x = x.clone()
    for row, length in enumerate(LENGTHS):  # whatever stands behind the end
        x[row, length:] = torch.nan if x.is_floating_point() else -7
    for ask in (model.log_evidence, model.posterior, model.filtered, model.viterbi):
        together = ask(x, lengths)
        for row, length in enumerate(LENGTHS):
            alone = ask(x[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, :length] if alone.dim() else together[row], alone)


def test_the_gradient_of_the_evidence_is_the_posterior():
    """∂ log p(x) / ∂ log p(x_t | s) = p(z_t = s | x), through the scan and past the rows' ends."""
    model, x, lengths = sequences("gaussian")
    initial, transition, emission = model.log_densities(x, lengths)
    free = [part.clone().requires_grad_() for part in (initial, transition, emission)]
    found = torch.autograd.grad(hm.log_evidence(*free, lengths).sum(), free)
    torch.testing.assert_close(found[0], model.posterior(x, lengths)[:, 0].sum(0))
    torch.testing.assert_close(found[1], hm.pairwise(initial, transition, emission, lengths).sum((0, 1)))
    torch.testing.assert_close(found[2], model.posterior(x, lengths))


def left_to_right() -> vb.HiddenMarkov:
    """A chain that never goes back: half of its transitions are impossible."""
    moves = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 1.0]])
    return vb.HiddenMarkov(torch.tensor([1.0, 0.0, 0.0]), moves, gaussian().emission)


def test_impossible_moves():
    model = left_to_right()
    x, states = model.sample(6, 40, seed=0)
    assert (states.diff() >= 0).all() and (states[:, 0] == 0).all()
    given = model.log_densities(x)
    torch.testing.assert_close(model.log_evidence(x), hm.log_evidence_by_recursion(*given))
    assert (model.viterbi(x).diff() >= 0).all() and (model.sample_states(x, seed=1).diff() >= 0).all()
    emission = given[2].clone().requires_grad_()
    hm.log_evidence(*given[:2], emission).sum().backward()
    torch.testing.assert_close(emission.grad, model.posterior(x))  # no NaN where log 0 meets log 0
    table = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    never = vb.HiddenMarkov(model.initial, model.transition, vb.CategoricalEmission(table))
    assert float(never.log_evidence(torch.tensor([[1, 0]]))) == -torch.inf


def test_far_tails_are_not_lost():
    """Stretches that speak for one state by thousands of nats: a product of probabilities would be zero."""
    emission = torch.zeros(1, 400, 2)
    emission[0, :200, 1] = emission[0, 200:, 0] = -50.0
    initial, stay = torch.tensor([0.5, 0.5]).log(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log()
    both = torch.tensor([[-10_000.0]]) + torch.tensor(0.5).log() + torch.tensor(2.0).log()
    torch.testing.assert_close(hm.log_evidence(initial, stay, emission), both[0])


def test_paths_from_the_posterior_have_its_frequencies():
    model, x, lengths = sequences("gaussian")
    n = 40_000
    drawn = model.sample_states(x[:1].expand(n, -1), seed=5)
    paths, joint = counted_out(model, x[0])
    probability = joint.softmax(0)
    number = (drawn * STATES ** torch.arange(4, -1, -1)).sum(-1).bincount(minlength=len(paths)) / n
    z = (number - probability) / (probability * (1 - probability) / n).sqrt()
    expected = n * probability  # |z| is not normal where a path is expected less than once
    assert (
        z[expected > 5].abs().max() < 4.5
        and (number[expected <= 5].sum() - probability[expected <= 5].sum()).abs() < 5e-3
    )
    assert torch.equal(drawn, model.sample_states(x[:1].expand(n, -1), seed=5))
    assert (model.sample_states(x, lengths)[1, 1:] == -1).all()


@pytest.mark.parametrize("name", MODELS)
def test_samples_have_the_models_moments(name):
    model, n = MODELS[name](), 20_000
    x, states = model.sample(n, 3, seed=2)
    probability = model.initial
    for t in range(3):
        share = states[:, t].bincount(minlength=STATES) / n
        assert ((share - probability) / (probability * (1 - probability) / n).sqrt()).abs().max() < 4.5
        shown = model.emission.mixture(probability)
        if name == "categorical":
            frequency = x[:, t].bincount(minlength=4) / n
            assert ((frequency - shown.probs) / (shown.probs * (1 - shown.probs) / n).sqrt()).abs().max() < 4.5
        else:
            assert ((x[:, t].mean(0) - shown.mean) / (shown.variance / n).sqrt()).abs().max() < 4.5
        probability = probability @ model.transition


@pytest.mark.parametrize("name", MODELS)
def test_what_was_not_observed_is_summed_out(name):
    model, x, lengths = sequences(name)
    observed = torch.ones(x.shape[:2], dtype=torch.bool)
    observed[0, [1, 4]], observed[2, 0] = False, False
    hidden = x.clone()
    hidden[~observed] = torch.nan if x.is_floating_point() else 99
    found = model.log_evidence(hidden, lengths, observed=observed)
    for row in (0, 2):
        paths, joint = counted_out(model, x[row, : LENGTHS[row]], observed[row, : LENGTHS[row]])
        torch.testing.assert_close(found[row], joint.logsumexp(0))
        one_hot = torch.nn.functional.one_hot(paths, STATES).double()
        states = torch.einsum("p,pts->ts", joint.softmax(0), one_hot)
        shown = model.predictive(hidden, lengths, observed=observed)
        if name == "categorical":
            torch.testing.assert_close(shown.probs[row, 1], states[1] @ model.emission.probability)
        else:
            torch.testing.assert_close(shown.mean[row, 1], states[1] @ model.emission.mean)


def test_completing_is_bayes_rule():
    """p(x_2 | the others) = p(x) / ∫ p(x) dx_2, and draws of it have its mean."""
    model, x, _ = sequences("categorical")
    observed = torch.ones_like(x[:1], dtype=torch.bool)
    observed[0, 1] = False
    tried = x[:1].repeat(4, 1)
    tried[:, 1] = torch.arange(4)
    right = model.log_evidence(tried).softmax(0)
    torch.testing.assert_close(model.predictive(x[:1], observed=observed).probs[0, 1], right)
    n = 20_000
    drawn = model.complete(x[:1].expand(n, -1), observed.expand(n, -1), seed=4)
    assert (drawn[:, [0, 2, 3, 4]] == x[0, [0, 2, 3, 4]]).all()
    share = drawn[:, 1].bincount(minlength=4) / n
    assert ((share - right) / (right * (1 - right) / n).sqrt()).abs().max() < 4.5


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_the_factored_guide(name):
    model, x, lengths = sequences(name)
    given = [part.clamp(min=-60.0) for part in model.log_densities(x, lengths)]
    evidence = hm.log_evidence(*given, lengths)
    with vb.seeded(1):
        log_q = torch.randn(*x.shape[:2], STATES).log_softmax(-1)
    found = hm.elbo(*given, log_q, lengths)
    for row, length in enumerate(LENGTHS):  # E_q over all paths
        paths = torch.tensor(list(itertools.product(range(STATES), repeat=length)))
        q = log_q[row, torch.arange(length), paths].sum(-1)
        p = given[0][paths[:, 0]] + given[1][paths[:, :-1], paths[:, 1:]].sum(-1)
        p = p + given[2][row, torch.arange(length), paths].sum(-1)
        torch.testing.assert_close(found[row], (q.exp() * (p - q)).sum())
    best = hm.best_factored(*given, lengths)
    free = best.clone().requires_grad_()
    top = hm.elbo(*given, free.log_softmax(-1), lengths)
    (gradient,) = torch.autograd.grad(top.sum(), free)
    assert gradient.abs().max() < 1e-4  # nothing to gain in any direction
    assert (top >= found).all() and (evidence - top > -1e-12).all()
    torch.testing.assert_close(top[1], evidence[1])  # one step alone is factored
    apart = given[0], given[0].expand(STATES, STATES), given[2]  # and so are steps that know nothing of each other
    free = hm.best_factored(*apart, lengths)
    torch.testing.assert_close(hm.elbo(*apart, free, lengths), hm.log_evidence(*apart, lengths))
