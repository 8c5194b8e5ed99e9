"""Every estimator: its claims, that it computes what it needs and no more, and that captured it is what it was.

The means of its gradient and value stand in `test_exact_expectation.py`.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from pyro.infer import ELBO

import vbayes as vb
from tests.models import X, binary, coin, mixed, schools_by_hand, small_vae
from vbayes.estimators import resolve
from vbayes.staging import Recorder, Replicated, draw_noise, eager, replicate, stage
from vbayes.validation import validation

pytestmark = pytest.mark.usefixtures("double")

BATCH = vb.Batch((X,))


def suits(name: str, pair: str) -> bool:
    return pair != "coin" or "path" not in vb.ESTIMATORS[name].needs


def moved(pair: vb.Pair) -> vb.Pair:
    """The pair at parameters without symmetry."""
    pair.initialise(BATCH)
    with vb.seeded(5):
        return pair.load({k: v + 0.3 * torch.randn_like(v) for k, v in pair.parameters.items()})


PAIRS = {
    "normal_normal": (vb.pairs.normal_normal, lambda: X),
    "coin": (coin, lambda: X),
    "mixed": (mixed, lambda: X),
    "schools": (schools_by_hand, None),
    "vae": (small_vae, lambda: binary(4).to(torch.get_default_dtype())),
}
STAGED = [
    case
    for case in itertools.product(vb.ESTIMATORS, PAIRS)
    if suits(*case) and (case[1] != "mixed" or suits(case[0], "coin"))
]


@pytest.mark.parametrize(("name", "pair_name"), STAGED)
def test_staged_is_eager(name, pair_name):
    staged_is_eager(name, pair_name, 1e-10)


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_staged_is_eager_in_single_precision(name):
    torch.set_default_dtype(torch.float32)
    staged_is_eager(name, "vae", 1e-4)


def staged_is_eager(name: str, pair_name: str, digits: float) -> None:
    """The captured program, the compiled one and Pyro give the same numbers on the same noise."""
    make, data = PAIRS[pair_name]
    batch = (
        vb.Batch((data(),))
        if data
        else vb.Batch((torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]), torch.full((8,), 12.0)))
    )
    pair, estimator = make().initialise(batch), resolve(name)
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
                pair.parameters, {}, tuple(n[r] for n in noise), batch.args
            )
            torch.testing.assert_close(values[r], value, rtol=digits, atol=digits)
            whole = torch.cat([gradient.reshape(-1) for gradient in expected.values()])
            # Relative to the gradient's length: a coordinate that cancels to nothing has no digits of its own.
            near = {"rtol": digits, "atol": digits * float(whole.abs().max())}
            torch.testing.assert_close(torch.cat([gradients[k][r].reshape(-1) for k in expected]), whole, **near)
            torch.testing.assert_close(in_machine_code[r], whole, **near)
    assert values.std() > 0


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_claims(name):
    kind = vb.ESTIMATORS[name]
    estimator = kind()
    assert isinstance(estimator, ELBO) and dataclasses.is_dataclass(kind)
    assert estimator == kind() and hash(estimator) == hash(kind())
    assert kind.reference and kind.bound and kind.unbiased_for
    assert kind.__doc__ and "References" in kind.__doc__ and "surrogate" in kind.__doc__
    assert kind.needs <= {f.name for f in dataclasses.fields(vb.Particles)} | {"path"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.num_particles = 7
    with pytest.raises(vb.errors.BadInput, match="wanted an integer of at least"):
        kind(num_particles=kind.min_particles - 1)


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_only_what_it_needs_is_computed(name):
    pair = moved(vb.pairs.normal_normal())
    kind = vb.ESTIMATORS[name]
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, 2, kind.needs)
    computed = {k for k, v in vars(particles).items() if v is not None} - {"scale", "closed_form", "scored"}
    assert computed == kind.needs - {"path", "scored"}
    estimate = kind(2).estimate(particles)
    assert estimate.value.shape == estimate.surrogate.shape == (2,)
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
