"""Every estimator on every pair with a known answer: the mean of its gradient and of its value, and its claims."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle

import pyro
import pytest
import torch
from pyro.infer import ELBO

import vbayes as vb
from tests.models import X, binary, coin, mixed, schools_by_hand, small_vae
from vbayes import moments
from vbayes.bench import BLOCKS
from vbayes.estimators import resolve
from vbayes.latents import FAMILIES
from vbayes.memory import with_memory
from vbayes.replicas import Replicas
from vbayes.staging import Recorder, Replicated, draw_noise, eager, replicate, stage
from vbayes.validation import validation

pytestmark = pytest.mark.usefixtures("double")

BATCH = vb.Batch((X,))


def exact_normal(pair: vb.Pair) -> torch.Tensor:
    return pair.exact.elbo(X)


def enumerated_coin(pair: vb.Pair) -> torch.Tensor:
    """Σ_b q(b) [ln p(x, b) − ln q(b)], each datum by itself."""
    logit = pyro.param("logit")
    total = torch.zeros(())
    for x, q in zip(X, torch.sigmoid(logit), strict=True):
        for b, weight in ((0.0, 1 - q), (1.0, q)):
            log_prior = torch.distributions.Bernoulli(0.3 * torch.ones(())).log_prob(torch.tensor(b))
            log_likelihood = torch.distributions.Normal(b, 0.8).log_prob(x)
            total = total + weight * (log_prior + log_likelihood - weight.log())
    return total


TRUTH = {"normal_normal": (vb.pairs.normal_normal, exact_normal), "coin": (coin, enumerated_coin)}


def suits(name: str, pair: vb.Pair, batch: vb.Batch) -> bool:
    """Whether an estimator can work on a pair; it says so when it draws."""
    estimator = resolve(name)
    try:
        with pair.initialise(batch).scope(), vb.seeded(0):
            vb.draw(pair, batch, estimator.num_particles, estimator.needs)
    except vb.errors.Unsuitable:
        return False
    return True


ELBOS = [name for name, kind in vb.ESTIMATORS.items() if kind.bound == "ELBO" and kind.unbiased_in]
CASES = [(n, p) for n, p in itertools.product(ELBOS, TRUTH) if suits(n, TRUTH[p][0](), vb.Batch((X.float(),)))]


def moved(pair: vb.Pair) -> vb.Pair:
    """The pair at parameters without symmetry."""
    pair.initialise(BATCH)
    with vb.seeded(5):
        return pair.load({k: v + 0.3 * torch.randn_like(v) for k, v in pair.parameters.items()})


def truth_of(pair: vb.Pair, elbo) -> tuple[torch.Tensor, torch.Tensor]:
    with pair.scope():
        value = elbo(pair)
        gradients = torch.autograd.grad(value, list(pair.leaves.values()))
    return value.detach(), torch.cat([g.reshape(-1) for g in gradients])


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_gradient_is_unbiased(name, pair_name):
    make, elbo = TRUTH[pair_name]
    pair = moved(make())
    _, right = truth_of(pair, elbo)
    replicas = Replicas(pair, resolve(name), BATCH)

    def blocks(size=1000):
        for block in range(BLOCKS):
            with vb.seeded(block):
                noise = draw_noise(replicas.sizes, size, X)
            yield replicas.gradients(pair, noise, block)

    drawn = moments.collect(blocks(), right, 1000)
    for i in range(len(right)):
        one = drawn.select(torch.tensor([i]))
        assert abs(moments.bias_z(one, right[[i]], rounding=1e-12)) < 5
        # The mutant: were the gradient off by a tenth of its length, it would show.
        assert abs(moments.bias_z(one, right[[i]] + 0.1 * right.norm())) > 5


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_value_estimates_the_elbo(name, pair_name):
    make, elbo = TRUTH[pair_name]
    pair = moved(make())
    right, _ = truth_of(pair, elbo)
    program = stage(pair, with_memory(resolve(name), pair), BATCH)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 20_000, X)
        _, values = replicate(program, pair.parameters, noise, BATCH.args)
    se = values.std() / len(values) ** 0.5
    assert abs(values.mean() - right) < 5 * se + 1e-12
    assert se < 0.02


PAIRS = {
    "normal_normal": (vb.pairs.normal_normal, lambda: X),
    "coin": (coin, lambda: X),
    "mixed": (mixed, lambda: X),
    "schools": (schools_by_hand, None),
    "vae": (small_vae, lambda: binary(4).to(torch.get_default_dtype())),
}


def batch_of(pair: str) -> vb.Batch:
    data = PAIRS[pair][1]
    if data:
        return vb.Batch((data().to(torch.get_default_dtype()),))
    y, sigma = vb.data.eight_schools().tensors.values()
    return vb.Batch((y.to(torch.get_default_dtype()), sigma.to(torch.get_default_dtype())))


STAGED = [
    case for case in itertools.product(vb.ESTIMATORS, PAIRS) if suits(case[0], PAIRS[case[1]][0](), batch_of(case[1]))
]


@pytest.mark.parametrize(("name", "pair_name"), STAGED)
def test_staged_is_eager(name, pair_name):
    staged_is_eager(name, pair_name, 1e-10)


@pytest.mark.parametrize("name", [name for name, pair in STAGED if pair == "vae"])
def test_staged_is_eager_in_single_precision(name):
    torch.set_default_dtype(torch.float32)
    staged_is_eager(name, "vae", 1e-4)


def staged_is_eager(name: str, pair_name: str, digits: float) -> None:
    """The captured program, the compiled one and Pyro give the same numbers on the same noise."""
    batch = batch_of(pair_name)
    pair = PAIRS[pair_name][0]().initialise(batch)
    estimator = with_memory(resolve(name), pair)
    with vb.seeded(5):
        pair.load({k: v + 0.1 * torch.randn_like(v) for k, v in pair.parameters.items()})
    program = stage(pair, estimator, batch)
    assert program.static
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 8, next(iter(pair.parameters.values())))
    compiled = Replicated(program, pair.parameters, batch.args, compiled=True)
    assert compiled.native is not None
    (in_machine_code,) = compiled(pair.parameters, noise, batch.args)
    gradients, values = replicate(program, pair.parameters, noise, batch.args)
    with pair.scope(), validation(False):
        for r in range(8):
            expected, value, _ = eager(pair, estimator, None)(
                pair.parameters, program.buffers, tuple(n[r] for n in noise), batch.args
            )
            torch.testing.assert_close(values[r], value, rtol=digits, atol=digits)
            whole = torch.cat([gradient.reshape(-1) for gradient in expected.values()])
            # Relative to the gradient's length: a coordinate that cancels to nothing has no digits of its own.
            near = {"rtol": digits, "atol": digits * float(whole.abs().max())}
            torch.testing.assert_close(torch.cat([gradients[k][r].reshape(-1) for k in expected]), whole, **near)
            torch.testing.assert_close(in_machine_code[r], whole, **near)
    assert values.std() > 0 or name == "enumerated"


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_claims(name):
    kind = vb.ESTIMATORS[name]
    estimator = kind()
    assert isinstance(estimator, ELBO) and dataclasses.is_dataclass(kind)
    assert estimator == kind() and hash(estimator) == hash(kind())
    assert kind.reference and kind.bound and kind.unbiased_for
    assert kind.__doc__ and "References" in kind.__doc__ and "surrogate" in kind.__doc__
    assert (
        kind.needs
        <= {f.name for f in dataclasses.fields(vb.Particles)} | {"path", "downstream", "antithetic"} | FAMILIES
    )
    assert kind.unbiased_in <= {"model", "guide"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.num_particles = 7
    with pytest.raises(vb.errors.BadInput, match="wanted an integer of at least"):
        kind(num_particles=kind.min_particles - 1)
    assert pickle.loads(pickle.dumps(estimator)) == copy.deepcopy(estimator) == estimator


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_only_what_it_needs_is_computed(name):
    make = next(make for make, _ in TRUTH.values() if suits(name, make(), vb.Batch((X.float(),))))
    pair, estimator = moved(make()), resolve(name)
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, estimator.num_particles, estimator.needs)
        estimate = estimator.estimate(particles)
    given = {k for k, v in vars(particles).items() if v is not None and v != ()} - {"scale", "weigh", "closed_form"}
    derived = {"path", "downstream", "antithetic", "scored", "weigh"} | FAMILIES
    assert given - {"scored"} == estimator.needs - derived
    assert estimate.value.shape == estimate.surrogate.shape == (() if name == "enumerated" else (2,))
    assert not estimate.value.requires_grad and estimate.surrogate.requires_grad


def test_stl_has_no_noise_at_the_exact_posterior():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    pair.load({"loc": X / 2, "scale": torch.tensor(0.5).sqrt().log()})
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, 1, vb.STL.needs)
        surrogate = vb.STL().estimate(particles).surrogate.sum()
        gradients = torch.autograd.grad(surrogate, list(pair.leaves.values()))
        assert all(g.abs().max() < 1e-12 for g in gradients)
        pathwise = vb.draw(pair, BATCH, 1, vb.Pathwise.needs).log_w.sum()
        assert max(g.abs().max() for g in torch.autograd.grad(pathwise, list(pair.leaves.values()))) > 0.1


def test_evidence_is_elbo_plus_kl():
    from vbayes.exact import normal_normal as truth

    loc, scale = torch.tensor([0.3, 0.9]), torch.tensor(0.8)
    assert truth.elbo(X, loc, scale) + truth.kl(X, loc, scale) == pytest.approx(float(truth.log_evidence(X)), rel=1e-12)


def test_held_constant_means_the_whole_guide():
    """In a hierarchical guide a child's density at constants must not reach the parameters through its parent's draw."""
    pair = mixed().initialise(BATCH)
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, 1, {"log_q_fixed", "log_q"})
        (fixed,) = torch.autograd.grad(particles.log_q_fixed.sum(), pair.leaves["shared"], retain_graph=True)
        (live,) = torch.autograd.grad(particles.log_q.sum(), pair.leaves["shared"])
    with pair.scope(), vb.seeded(0), Recorder() as calls:
        q, _ = pair.run(BATCH)
    # d/d shared of ln N(g; shared + 0.1, 0.8) at the drawn g, and nothing else.
    g = q.nodes["g"]["value"].detach()
    assert calls.sizes[0] > 0
    torch.testing.assert_close(fixed, (g - 0.5) / 0.8**2)
    assert abs(live - fixed) > 1e-3
