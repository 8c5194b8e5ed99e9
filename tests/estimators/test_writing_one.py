"""Whoever writes an estimator and slips gets one error, at first use, that says what and how to mend it: eagerly and captured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

import vbayes as vb
from vbayes.drawing.particles import Particles
from vbayes.staging import stage

X = torch.tensor([-0.5, 2.0])
BATCH = vb.Batch((X,))


def test_no_needs():
    @dataclass(frozen=True)
    class Mine(vb.Estimator):
        def estimate(self, particles):
            return vb.Estimate.of(particles.log_w.mean(0))

    with pytest.raises(
        vb.errors.BadEstimator,
        match=r"Mine has no `needs`.*\n +needs = frozenset\({\"log_p\", \"log_q\"}\)\nFields: log_p, ",
    ):
        Mine()


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"needs": {"log_p", "log_qq"}}, r"Mine: There is no field of Particles named 'log_qq'\. Did you mean 'log_q'"),
        ({"requires": {"paths"}}, r"Mine: There is no requirement named 'paths'\. Did you mean 'path'"),
        ({"needs": {"latents"}, "families": {"one-hot"}}, r"Mine: There is no family of latents named 'one-hot'\. Did you mean 'one_hot'"),
        ({"needs": {"log_p", "path"}}, r"Mine: 'path' is not a field of Particles.*Put it in `requires`"),
        ({"needs": "log_p"}, r"Mine: needs='log_p'\. Wanted: a set"),
        ({"unbiased_in": {"gide"}}, r"Mine: There is no part of a pair named 'gide'\. Did you mean 'guide'"),
        ({"unbiased_in": frozenset({"phi"})}, r"Mine: There is no part of a pair named 'phi'(?s:.*)Known: guide, model\."),
        ({"unbiased_in": "guide"}, r"Mine: unbiased_in='guide'\. Wanted: a set"),
        ({"bound": "Rényi"}, r"Mine: bound='Rényi' is not the ELBO, but bound_of is the base class's.*Wanted: `bound_of\(self, log_w\)`"),
    ],
)  # fmt: skip
def test_a_claim_that_there_is_not(claims, message):
    kind = dataclass(frozen=True)(type("Mine", (vb.Pathwise,), claims))
    with pytest.raises(vb.errors.BadEstimator, match=message):
        kind()


def test_settings_without_a_dataclass():
    class Plain(vb.Pathwise):
        beta: float = 1.0

    class More(vb.Pathwise):
        num_particles = 8

    for kind, name in ((Plain, "beta"), (More, "num_particles")):
        with pytest.raises(
            vb.errors.BadEstimator,
            match=rf"{kind.__name__} sets {name} but is not itself a dataclass.*@dataclass\(frozen=True\) above",
        ):
            kind()


def test_a_setting_without_its_type():
    """A dataclass would keep the inherited default, and say nothing."""

    @dataclass(frozen=True)
    class More(vb.Pathwise):
        num_particles = 8

    with pytest.raises(
        vb.errors.BadEstimator, match=r"More sets num_particles without a type.*`num_particles: int = 8`"
    ):
        More()


def test_a_subclass_that_sets_nothing_need_not_be_a_dataclass():
    class Tenfold(vb.Pathwise):
        calls = 0

        def estimate(self, particles):
            found = super().estimate(particles)
            return replace(found, surrogate=10 * found.surrogate)

    assert repr(Tenfold(3)).endswith("Tenfold(num_particles=3, noise='iid')") and Tenfold(3) != vb.Pathwise(3)


SLIPS = {
    "a tensor": (lambda p: p.log_w.mean(0), r"returned a tensor of shape \(2,\)\. Wanted: vb\.Estimate\(value, surrogate\)"),
    "nothing": (lambda p: None, "returned NoneType None. Wanted: vb.Estimate"),
    "a number": (lambda p: vb.Estimate(0.5, p.log_w.mean(0)), "returned float 0.5 for its value. Wanted: a tensor"),
    "particles kept": (
        lambda p: vb.Estimate.of(p.log_w),
        r"returned a value of shape \(3, 2\)\. Wanted: \(2,\).*The first dimension is that of the particles.*`\.mean\(0\)`",
    ),
    "summed over data": (
        lambda p: vb.Estimate(p.log_w.detach().mean(0), p.log_w.mean()),
        r"returned a surrogate of shape \(\)\. Wanted: \(2,\).*Sum over particles only",
    ),
    "reduced along the data": (lambda p: vb.Estimate.of(p.log_w.mean(1)), r"returned a value of shape \(3,\)\. Wanted: \(2,\).*only the first dimension"),
    "a control of another shape": (lambda p: vb.Estimate(p.log_w.detach().mean(0), p.log_w.mean(0), p.log_w), r"returned a control of shape \(3, 2\)"),
    "an auxiliary of another shape": (
        lambda p: vb.Estimate(p.log_w.detach().mean(0), p.log_w.mean(0), auxiliary=p.log_w.mean()),
        r"returned a auxiliary of shape \(\)",
    ),
    "a value with a gradient": (lambda p: vb.Estimate(p.log_w.mean(0), p.log_w.mean(0)), r"value that carries a gradient.*value\.detach\(\)"),
    "a field that is not declared": (
        lambda p: vb.Estimate.of((p.log_p - p.log_q_fixed).mean(0)),
        "`particles.log_q_fixed` was read.*Requested: 'log_p', 'log_q'.*add 'log_q_fixed' to its `needs`",
    ),
    "sites that are not declared": (lambda p: vb.Estimate.of(p.log_w.mean(0) + len(p.scored)), "add 'scored' to its `needs`"),
}  # fmt: skip


@dataclass(frozen=True)
class Slipping(vb.Pathwise):
    slip: str = ""

    def estimate(self, particles):
        return SLIPS[self.slip][0](particles)


@pytest.mark.parametrize("slip", SLIPS)
def test_what_estimate_may_not_do(slip):
    """The same error from Pyro's SVI, from a fit in either engine, from a capture and from the laboratory; no capture hides it."""
    pair, method, message = vb.pairs.normal_normal(), Slipping(3, slip=slip), SLIPS[slip][1]
    ready = pair.initialise(BATCH)
    with pytest.raises(vb.errors.BadEstimator, match=message), ready.scope(), vb.seeded(0):
        method.loss_and_grads(pair.model, pair.guide, X)
    with pytest.raises(vb.errors.BadEstimator, match=message):
        stage(ready, method, BATCH)
    with pytest.raises(vb.errors.BadEstimator, match=message):
        vb.compare(pair, X, [method], at={"here": pair}, replicas=100, progress=False)
    for compile in (False, True):
        with pytest.raises(vb.errors.BadEstimator, match=message):
            vb.fit(pair, X, method, steps=3, compile=compile, progress=False)


def test_a_single_particle_is_captured_no_differently():
    with pytest.raises(vb.errors.BadEstimator, match="returned a tensor"):
        stage(vb.pairs.normal_normal().initialise(BATCH), Slipping(1, slip="a tensor"), BATCH)


def test_an_estimate_can_be_tried_on_particles_made_by_hand():
    """Tensors in, tensors out: no Pyro is needed to see what a formula gives."""
    log_p, log_q = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]), torch.tensor([[-1.0, -1.0], [-1.0, -1.0]])
    found = vb.Pathwise(2).estimate(Particles(log_p=log_p, log_q=log_q))
    torch.testing.assert_close(found.value, torch.tensor([-1.0, 0.0]))
