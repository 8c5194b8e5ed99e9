"""The search for the start of a guide chosen by name, on densities that torch computes in awkward ways."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import vbayes as vb
from vbayes.guides.curvature import path, starts_of
from vbayes.guides.whitened import density_of

quiet = {"progress": False, "device": "cpu"}
PROFILES = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])


def blend(c):
    """Counts of a mixture of two known profiles: the density of a multinomial writes by a mask of its logits."""
    share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    pyro.sample("c", dist.Multinomial(total_count=20, probs=share @ PROFILES), obs=c)


def share_of(c: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the first share, on a grid."""
    grid = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    weight = ((grid[:, None] * PROFILES[0] + (1 - grid[:, None]) * PROFILES[1]).log() @ c.double()).softmax(0)
    mean = weight @ grid
    return mean, (weight @ (grid - mean).square()).sqrt()


@pytest.mark.parametrize("counts", [[8.0, 5.0, 4.0, 3.0], [8.0, 5.0, 7.0, 0.0]])
def test_counts_of_a_multinomial_and_a_wide_posterior_of_shares(counts):
    c = torch.tensor(counts)
    assert density_of(blend, (c,), {}).captured
    fit = vb.fit(blend, {"c": c}, **quiet)
    assert not fit.pair.guide.places.endless and fit.diagnose().trust == "reweight"
    mean, sd = share_of(c)
    drawn = fit.posterior(draws=4000).draws["share"][:, 0]
    assert abs(drawn.mean() - mean) < 0.1 * sd and abs(drawn.std() - sd) < 0.1 * sd


def test_a_density_that_cannot_be_mapped_is_computed_point_by_point():
    def model(y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.factor("above", -w[w > 0].square().sum())
        pyro.sample("y", dist.Normal(w.sum(), 1.0), obs=y[0])

    y = torch.tensor([-3.0])
    assert not density_of(model, (y,), {}).captured
    fit = vb.find_map(model, {"y": y}, device="cpu")
    torch.testing.assert_close(fit.pair.guide.found["w"], torch.full((3,), -0.75), rtol=0.0, atol=1e-3)


def test_rounding_far_out_is_no_mode():
    """For κ above 10¹⁵ the density of a beta-binomial has no digits left, and seems thousands of nats higher than at its mode."""
    n = torch.tensor([29.0, 38, 8, 37, 11, 9, 19, 24, 33, 14, 35, 21, 6, 17, 27])
    y = torch.tensor([9.0, 5, 4, 17, 1, 4, 2, 11, 6, 7, 10, 3, 0, 8, 6])

    def model(n, y):
        mu = pyro.sample("mu", dist.Beta(1.0, 1.0))
        kappa = pyro.sample("kappa", dist.HalfCauchy(20.0))
        with pyro.plate("data", len(n)):
            pyro.sample("y", dist.BetaBinomial(mu * kappa, (1 - mu) * kappa, n), obs=y)

    density = density_of(model, (n, y), {})
    ends = torch.stack([way[-1] for way in path(density, starts_of(density, 4, 0))])
    axis = torch.linspace(-6.0, 12.0, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    best = grid[density.many(grid).argmax()]
    assert (ends - best).abs().max() < 0.1


def test_cutpoints_are_fitted_on_many_points_at_once():
    """The transform to ordered numbers writes in place, into a tensor that all points would share."""

    def model(x, y):
        slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        free = dist.Normal(torch.zeros(2), 3.0).to_event(1)
        cuts = pyro.sample("cuts", dist.TransformedDistribution(free, [dist.transforms.OrderedTransform()]))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OrderedLogistic(slope * x, cuts), obs=y)

    x = torch.linspace(-2.0, 2.0, 30)
    y = (x + 1.5 * torch.sin(9 * torch.arange(30.0)) > 0).long() + (x > 1).long()
    density = density_of(model, (x, y), {})
    assert density.captured and density.dtype == torch.float64
    points = torch.tensor([[0.5, -1.0, 0.3], [2.0, 0.1, -0.5]], dtype=torch.float64)
    with density._inside():
        one_by_one = torch.stack([density._by_model(point) for point in points])
    torch.testing.assert_close(density.many(points), one_by_one)


def test_obs_mask_is_refused_with_what_to_do_instead():
    """The part that was not observed has elements without a density, on which no guide settles: such a fit ended in NaN."""
    x = torch.linspace(-1.0, 1.0, 8)
    seen = torch.arange(8) % 4 != 0

    def masked(x, y, seen):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y, obs_mask=seen)

    with pytest.raises(vb.errors.Unsuitable, match=r"Site 'y' has an obs_mask.*missing='mask'"):
        vb.fit(masked, {"x": x, "y": 2 * x, "seen": seen}, **quiet)
    assert (
        density_of(masked, (x, 2 * x, torch.zeros(8, dtype=torch.bool)), {}).size == 9
    )  # nothing is observed: all have a density

    def model(x, y):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    gaps = torch.where(seen, 2 * x, torch.nan)
    drawn = vb.fit(model, {"x": x, "y": gaps}, missing="mask", **quiet).posterior(draws=4000).draws["w"]
    precision = 1 + float(x[seen].square().sum())
    assert abs(drawn.mean() - 2 * (precision - 1) / precision) < 0.1 and abs(drawn.std() - precision**-0.5) < 0.05


def sized(g, y):
    """Has as many groups as the data say."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", int(g.max()) + 1):
        a = pyro.sample("a", dist.Normal(mu, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)


def branching(g, y):
    """Does other things at other points."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(2 * mu if mu.item() > 0 else mu, 1.0), obs=y)


def drawing(g, y):
    """Depends on a number that is drawn anew."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu + torch.rand(()).item(), 1.0), obs=y)


@pytest.mark.parametrize(("model", "captured"), [(sized, True), (branching, False), (drawing, False)])
def test_values_of_the_data_may_be_read_while_a_density_is_captured(model, captured):
    """Without a captured density, second derivatives take one run of the model each."""
    g, y = torch.tensor([0, 1, 2, 2, 1]), torch.tensor([0.5, -1.0, 2.0, 1.0, 0.0])
    with vb.seeded(0):
        assert density_of(model, (g, y), {}).captured == captured
