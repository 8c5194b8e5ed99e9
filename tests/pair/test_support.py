"""Where a guide can draw, against where the model's latents may lie: what it leaves out no weight can show, so it is said."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch.distributions import biject_to, constraints

import vbayes as vb
from vbayes.pair.support import coverage
from vbayes.pairs import TRACTABLE

ONE = torch.tensor([0.0])
TRUTH = float(dist.Normal(0.0, 2**0.5).log_prob(ONE))
quiet = {"progress": False, "device": "cpu"}
warned = pytest.mark.filterwarnings("ignore:Site 'z' of pair")


def pair_of(prior, guide) -> vb.Pair:
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", prior()), 1.0), obs=x)

    def drawn(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", guide(pyro.param("loc", torch.tensor(0.0))))

    return vb.Pair(model, drawn, name="one")


def standard() -> dist.Normal:
    return dist.Normal(0.0, 1.0)


def pushed(support: constraints.Constraint) -> dist.TransformedDistribution:
    """A normal on another support, as guides are often written."""
    return dist.TransformedDistribution(dist.Normal(0.0, 1.0), [biject_to(support)])


NARROW = {
    "uniform": lambda loc: dist.Uniform(loc - 1, loc + 1),
    "log-normal": lambda loc: dist.LogNormal(loc, 1.0),
}


@pytest.mark.parametrize(
    ("guide", "model", "found"),
    [
        (dist.Normal(0.0, 1.0), dist.StudentT(3.0), "same"),
        (dist.LogNormal(0.0, 1.0), dist.HalfCauchy(1.0), "same"),  # the end itself has no mass
        (dist.Uniform(0.0, 1.0), dist.Beta(2.0, 2.0), "same"),
        (pushed(constraints.nonnegative), dist.HalfNormal(1.0), "same"),  # torch says of both: real numbers
        (pushed(constraints.interval(0.0, 2.0)), dist.Uniform(0.0, 2.0), "same"),
        (pushed(constraints.interval(0.0, 1.0)), dist.Uniform(0.0, 2.0), "smaller"),
        (pushed(constraints.interval(-1.0, 2.0)).expand([3]).to_event(1), dist.Uniform(torch.zeros(3), 2.0).to_event(1), "larger"),
        (dist.Uniform(-1.0, 1.0), dist.Normal(0.0, 1.0), "smaller"),
        (dist.LogNormal(0.0, 1.0), dist.Normal(0.0, 1.0), "smaller"),
        (dist.LogNormal(torch.zeros(3), 1.0).to_event(1), dist.Normal(torch.zeros(3), 1.0).to_event(1), "smaller"),
        (dist.Uniform(torch.zeros(2), torch.tensor([1.0, 0.5])), dist.Uniform(torch.zeros(2), 1.0), "smaller"),
        (dist.Normal(0.0, 1.0), dist.Gamma(1.0, 1.0), "larger"),
        (dist.Pareto(torch.tensor(1.0), torch.tensor(3.0)), dist.Gamma(1.0, 1.0), "smaller"),  # an affine transform, but its own support
        (dist.Uniform(-1.0, 1.0), dist.Uniform(0.0, 2.0), "overlapping"),
        (dist.Bernoulli(0.5), dist.Poisson(2.0), "smaller"),
        (dist.Categorical(torch.ones(3)), dist.Categorical(torch.ones(4)), "smaller"),
        (dist.Bernoulli(0.5), dist.Normal(0.0, 1.0), "of another kind"),
        (dist.Dirichlet(torch.ones(3)), dist.Dirichlet(torch.ones(3)), "same"),
        (dist.Dirichlet(torch.ones(3)), dist.Normal(torch.zeros(3), 1.0).to_event(1), "smaller"),
        (dist.TransformedDistribution(dist.Normal(0.0, 1.0), [dist.transforms.SigmoidTransform()]), dist.Beta(1.0, 1.0), "same"),
    ],
)  # fmt: skip
def test_supports_are_compared_both_ways(guide, model, found):
    with vb.seeded(0):
        assert coverage(guide, model) == found


@pytest.mark.parametrize("name", NARROW)
def test_check_says_what_a_guide_cannot_cover(name):
    with pytest.warns(UserWarning, match="'z' of pair 'one'.*is smaller, compared with that of the model's Normal"):
        found = vb.check(pair_of(standard, NARROW[name]), ONE, show=False)
    row = next(row for row in found.sites if row.name == "z")
    assert row.support == "smaller" and "z: smaller" in repr(found)


def test_a_guide_that_draws_too_much_is_warned_of_even_where_its_draw_was_inside():
    with pytest.warns(UserWarning, match="is larger.*Use a guide over the model's support"):
        vb.check(pair_of(lambda: dist.Gamma(2.0, 1.0), lambda loc: dist.Normal(loc + 4.0, 0.1)), ONE, show=False)


@pytest.mark.parametrize("guide", [AutoNormal, AutoDelta])
def test_autoguides_and_point_masses_are_not_warned_of(guide):
    model = pair_of(lambda: dist.Gamma(2.0, 1.0), standard).model
    found = vb.check(vb.Pair(model, guide(model)), ONE, show=False)
    assert {row.support for row in found.sites} == {""}


@warned
@pytest.mark.parametrize("name", NARROW)
def test_weights_that_look_well_are_not_believed(name):
    """They are worth most of the draws, and rest on a part of the posterior alone: the truth is named beside them."""
    pair = pair_of(standard, NARROW[name])
    found = vb.posterior(pair, ONE, draws=200)
    assert "can't draw all values that site 'z' may have" in found.verdict() and "not covered" in repr(found)
    bound = vb.log_evidence(pair, ONE, num_particles=2000, **quiet)
    assert bound.uncovered == ("z",) and "use a guide over the model's support" in bound.verdict()
    # log p(x) and the part of it where the guide can draw: z | x=0 ~ N(0, ½).
    inside = {"uniform": torch.erf(torch.tensor(1.0)), "log-normal": torch.tensor(0.5)}[name]
    assert abs(bound.value - TRUTH - float(inside.log())) < 5 * bound.se


@warned
def test_what_no_draw_of_the_guide_can_tell_is_refused():
    pair = pair_of(standard, lambda loc: dist.LogNormal(loc, 1.0))
    with pytest.raises(vb.errors.Unsuitable, match="neither the evidence nor the posterior"):
        vb.log_evidence(pair, ONE, method="exact", **quiet)
    with pytest.raises(vb.errors.Unsuitable, match="no upper bound"):
        vb.log_evidence(pair, ONE, method="sandwich", num_particles=2, temperatures=3, **quiet)
    table = vb.tabulate(pair, vb.Batch((ONE,)))
    with vb.seeded(0):
        z = dist.LogNormal(0.0, 1.0).sample((100_000,))
    w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(ONE) - dist.LogNormal(0.0, 1.0).log_prob(z)
    assert abs(float(table.elbo()) - float(w.mean())) < 5 * float(w.std()) / len(z) ** 0.5
    with pytest.raises(vb.errors.Unsuitable, match="'z'"):
        table.kl()


def test_a_guide_that_covers_has_its_evidence():
    pair = pair_of(standard, lambda loc: dist.Normal(loc, 1.0))
    assert vb.log_evidence(pair, ONE, method="exact", **quiet).value == pytest.approx(TRUTH, rel=1e-5)
    assert "draw all values" not in vb.posterior(pair, ONE, draws=50).verdict()


def test_exact_draws_do_not_hide_a_guide_that_is_worth_nothing():
    """log p(x) is that of the model, whatever became of q: of the draws nothing shows, so the verdict has to."""
    pair, batch = TRACTABLE["normal_normal"].pair(), TRACTABLE["normal_normal"].batch()
    good = vb.posterior(pair, *batch.args, draws=100)
    ruined = vb.posterior(pair.load({"loc": torch.full((2,), 60.0)}), *batch.args, draws=100)
    assert ruined.method == good.method == "exact" and all(
        torch.equal(ruined.draws[n], good.draws[n]) for n in good.draws
    )
    assert float(ruined.guide_effective.max()) < 5 and "q is far from it" in ruined.verdict()
    assert "q is worth" in repr(ruined)
    fitted = vb.posterior(
        vb.fit(TRACTABLE["normal_normal"].pair(), *batch.args, steps=600, learning_rate=0.05, **quiet)
    )
    assert float(fitted.guide_effective.min()) > 190 and "far" not in fitted.verdict()


def test_a_guide_without_a_density_has_no_worth():
    known = vb.Exact(lambda x: x.sum(), lambda x: x.sum(), lambda x: {"z": dist.Normal(x / 2, 0.5**0.5)})
    pair = pair_of(standard, lambda loc: dist.Delta(loc))
    found = vb.posterior(vb.Pair(pair.model, pair.guide, exact=known), ONE)
    assert found.guide_effective is None and found.verdict().endswith("of each latent separately.")


def test_a_parameter_of_the_support_counts_at_its_value():
    def wide(loc):
        return dist.Uniform(-pyro.param("end", torch.tensor(2.0), constraint=constraints.positive), 3.0)

    with pytest.warns(UserWarning, match="overlapping"):
        vb.check(pair_of(lambda: dist.Uniform(-1.0, 4.0), wide), ONE, show=False)
