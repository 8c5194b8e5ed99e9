"""What holds an estimator to its claims finds those that lie, and lets those be that don't."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.laboratory.mean_value import of_value

PAIRS = ["normal_normal", "three_bernoulli"]


@dataclass(frozen=True)
class Halved(vb.Pathwise):
    """Half of the gradient is no gradient of the bound."""

    def estimate(self, particles):
        found = super().estimate(particles)
        return replace(found, surrogate=0.5 * found.surrogate)


@dataclass(frozen=True)
class OfTheModel(vb.Score):
    """Right for the model, and wrong for the guide, as it says."""

    unbiased_for, unbiased_in = "ELBO (model)", frozenset({"model"})
    needs = frozenset({"log_p", "log_q"})

    def estimate(self, particles):
        return vb.Estimate.of(particles.log_w.mean(0))


@dataclass(frozen=True)
class Looking(vb.Pathwise):
    """It looks at its values, so that nothing captures it."""

    def estimate(self, particles):
        return super().estimate(particles) if float(particles.log_p.detach().sum()) < 1e9 else None


def checked(method, *pairs, **options):
    return vb.check_estimator(method, list(pairs or PAIRS), progress=False, **{"replicas": 4000, **options})


def test_an_honest_one():
    found = checked(vb.Pathwise())
    assert (
        found.ok
        and list(found.unsuitable) == ["three_bernoulli"]
        and "no reparameterised path" in found.unsuitable["three_bernoulli"]
    )
    assert found.verdict() == "No bias on normal_normal. Its mean value is right there."
    table = found.to_dataframe()
    assert table.part.tolist() == ["guide", "value"] and table.resolution.max() < 0.2
    assert "unbiased     normal_normal" in repr(found) and repr(found).startswith("Check of pathwise: ok")


def test_one_that_lies():
    found = checked(Halved())
    assert not found.ok and found.rows[0].biased
    assert found.verdict().startswith("Biased in guide, where it claims not to be, on normal_normal: |z| up to")


def test_only_what_is_claimed_is_judged():
    found = checked(OfTheModel(), "normal_normal", "three_bernoulli")
    assert [row.part for row in found.rows] == ["model", "value"] * 2 and found.ok
    alone, _, judged, _ = found.rows
    assert "no parameters that its claims are about" in alone.judged and judged.judged == "yes"
    assert replace(found, rows=found.rows[:2]).ok is None  # the value is right, but that is not what it claims
    everything = dataclass(frozen=True)(
        type("Everything", (OfTheModel,), {"unbiased_in": frozenset({"model", "guide"})})
    )
    lies = checked(everything(), "three_bernoulli")
    assert lies.ok is False and "Biased in guide, where" in lies.verdict()
    assert "No bias in model on three_bernoulli." in lies.verdict()
    assert lies.to_dataframe().set_index("part").worst.to_dict() == {"guide": "logits", "model": "", "value": ""}


@dataclass(frozen=True)
class WrongValue(vb.Pathwise):
    """Its gradient is right, so a fit goes well, and reports another bound than it says."""

    factor: float = 3.0

    def estimate(self, particles):
        found = super().estimate(particles)
        return replace(found, value=self.factor * found.value + 7)


def test_the_value_is_judged_too():
    found = checked(WrongValue(), "normal_normal")
    assert found.ok is False and [row.biased for row in found.rows] == [False, True]
    assert "Its value is wrong on normal_normal: on normal_normal it is on average -" in found.verdict()
    assert "instead of -" in found.verdict() and "the exact ELBO. No bias on normal_normal." in found.verdict()
    none = checked(WrongValue(factor=math.inf), "normal_normal", replicas=200)
    assert none.ok is False and "on normal_normal it is -inf." in none.verdict()


def test_what_the_value_should_be_is_what_the_bound_says():
    assert of_value(vb.TailAdaptive()).name == "ELBO" and of_value(vb.Fisher()) == vb.Fisher().objective
    assert of_value(vb.WakeSleep(2)) == vb.IWAE(2).objective
    assert of_value(vb.DAIS()).truth is of_value(vb.IWAE(2, noise="antithetic")).truth is None


@dataclass(frozen=True)
class Unmoved(vb.LearnedDAIS):
    """A mutant: the value is that of the draws where the steps have led, the gradient the ELBO's."""

    def estimate(self, particles):
        log_p, log_q = particles.densities(particles.z)
        return replace(super().estimate(particles), surrogate=(log_p - log_q).mean(0))


@dataclass(frozen=True)
class Boastful(vb.FIVO):
    """A mutant: it leaves out the score of who was chosen, and says nothing of it."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "unbiased_in", frozenset({"model", "guide"}))


def test_where_no_table_knows_the_objective_it_is_held_against_its_own_values():
    """Gradient and value are of the same draws, so the smallest bias shows."""
    nameless = {"objective": vb.Objective("nameless")}
    honest, lying = (dataclass(frozen=True)(type("Nameless", (kind,), nameless))() for kind in (vb.Pathwise, Halved))
    found = checked(honest, "normal_normal", replicas=400)
    row, _ = found.rows
    assert found.ok and row.judged == "its own values" and row.part == "guide" and row.resolution < 0.05
    assert found.verdict().startswith("On normal_normal its gradient agrees with differences of its own mean values")
    lies = checked(lying, "normal_normal", replicas=400)
    assert not lies.ok and lies.verdict().startswith("Biased in guide, where it claims not to be")
    assert lies.rows[0].worst in ("loc", "scale") and row.worst == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("honest", "mutant", "pair", "replicas"),
    [
        (vb.LearnedDAIS(steps=2, step_size=0.3), Unmoved(steps=2, step_size=0.3), "normal_normal", 1000),
        (vb.FIVO(2, choice_term=True), Boastful(2), "state_space", 20_000),
    ],
)
def test_bounds_without_a_table(honest, mutant, pair, replicas):
    """As they are once step sizes are learned, and where particles are chosen on the way."""
    found, lies = (checked(method, pair, replicas=replicas) for method in (honest, mutant))
    assert found.ok and found.rows[0].judged == "its own values" and found.rows[0].resolution < 0.5, found.verdict()
    assert not lies.ok, lies.to_dataframe()


def test_one_that_is_not_captured():
    found = checked(Looking(), "normal_normal", replicas=200)
    assert not found.ok and "Not captured on normal_normal: " in found.verdict()


def test_several_particles_are_judged_by_their_own_bound_as_far_as_there_is_a_table():
    assert checked(vb.IWAE(2), "normal_normal").verdict() == "No bias on normal_normal. Its mean value is right there."
    many = checked(vb.VIMCO(20), "three_bernoulli")
    assert "too many to sum over" in many.rows[0].judged and many.ok is None
    assert many.verdict().startswith("Gradient and value not judged on three_bernoulli") and "not judged" in repr(many)


@dataclass(frozen=True)
class Halves(vb.PIWAE):
    """Groups for the model, groups for the guide, and the guide's sign; PIWAE has one group for the model."""

    def halves(self, particles, of_model, of_guide, sign=1.0):
        log_w = particles.log_w.detach()
        path = particles.log_p - particles.log_p_fixed - particles.log_q
        model, guide = (
            (torch.softmax(log_w.unflatten(0, (many, -1)), 1) * part.unflatten(0, (many, -1))).sum(1).mean(0)
            for many, part in ((of_model, particles.log_p_fixed), (of_guide, path))
        )
        return vb.Estimate(self.bound_of(log_w), model + sign * guide)


class Turned(Halves):
    """A mutant: the guide goes down."""

    def estimate(self, particles):
        return self.halves(particles, 1, self.groups, sign=-1.0)


class Swapped(Halves):
    """A mutant: the model has the groups, and the guide all particles."""

    def estimate(self, particles):
        return self.halves(particles, self.groups, 1)


def test_two_bounds_in_one_are_judged_half_by_half():
    """Model and guide are held against the derivative of the bound that each raises, and not by the estimator itself."""

    def model(x):
        z = pyro.sample("z", dist.Normal(pyro.param("mean", torch.tensor(0.5)), 1.0))
        pyro.sample("x", dist.Normal(z, 0.3), obs=x[0])

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.8), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), scale))

    pair, groups = vb.Pair(model, guide), {"model": ["mean"], "guide": ["loc", "scale"]}
    methods = {kind.__name__: kind(4, groups=2) for kind in (vb.PIWAE, Turned, Swapped)}
    options = {"at": {"start": pair}, "replicas": 4000, "groups": groups, "seed": 0, "progress": False}
    table = vb.compare(pair, torch.tensor([1.5]), methods, **options).to_dataframe()
    z = table.pivot(index="estimator", columns="group", values="bias_z").abs()
    assert set(table.oracle) == {"Derivative(4), 40000 replicas"}
    assert z.loc["PIWAE"].max() < 4 < 6 < z.loc["Swapped", ["model", "guide"]].min()
    assert z.loc["Turned", "guide"] > 6 and z.loc["Turned", "model"] < 4


@pytest.mark.slow
def test_particles_that_hang_together_are_judged_by_their_own_bound():
    """The value of the model's half is no judge of the guide's."""
    honest, mutant = (checked(kind(4, noise="antithetic"), "normal_normal") for kind in (vb.PIWAE, Turned))
    assert honest.ok and honest.rows[0].judged == "its bound along the path" and honest.rows[0].resolution < 0.5
    assert honest.verdict().startswith(
        "On normal_normal its gradient agrees with that of its bound, differentiated along"
    )
    assert not mutant.ok


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("pathwise", ["nowhere"]), "'nowhere' is not a tractable pair.*normal_normal"),
        ((object(),), "is not an estimator"),
    ],
)
def test_what_is_no_question(arguments, match):
    with pytest.raises(vb.errors.BadInput, match=match):
        vb.check_estimator(*arguments, progress=False)


def test_pyros_own_claim_nothing():
    with pytest.raises(vb.errors.BadInput, match="makes no claims"):
        vb.check_estimator(pyro.infer.Trace_ELBO(), progress=False)


def test_the_callers_generator_stays():
    before = torch.get_rng_state()
    checked(vb.Pathwise(), "normal_normal", replicas=200)
    assert torch.equal(torch.get_rng_state(), before)
