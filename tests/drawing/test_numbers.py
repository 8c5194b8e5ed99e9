"""z and its scores: one space, one pair of densities, and their slopes, for every guide with a path."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.infer import autoguide
from torch.autograd.functional import jacobian

import vbayes as vb
from tests import tractable
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import Replicated, draw_noise, replicate, stage

pytestmark = pytest.mark.usefixtures("double")
EVERY = {"log_p", "log_q", "z", "score_p", "score_q", "densities"}
Y = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)


def model(y):
    tau = pyro.sample("tau", dist.HalfCauchy(2.0))
    share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("group", 3):
        theta = pyro.sample("theta", dist.Normal(0.0, tau))
        pyro.sample("y", dist.Normal(theta, share), obs=y)


def by_hand(y):
    """Children follow parents, on supports of three kinds."""
    loc = pyro.param("loc", torch.tensor(0.4))
    tau = pyro.sample("tau", dist.Gamma(loc.exp(), 1.5))
    pyro.sample("share", dist.Dirichlet(1.0 + torch.stack([loc.exp(), tau, tau**2])))
    with pyro.plate("group", 3):
        pyro.sample("theta", dist.Normal(loc * y, tau))


FLOWS = {
    "iaf": partial(transforms.iterated, 2, partial(transforms.affine_autoregressive, hidden_dims=[8])),
    "stable iaf": partial(transforms.affine_autoregressive, hidden_dims=[8], stable=True),
    "coupling": partial(transforms.iterated, 2, partial(transforms.affine_coupling, hidden_dims=[8])),
    "planar": partial(transforms.iterated, 2, transforms.planar),
    "block": partial(transforms.block_autoregressive),
}
NORMALS = {
    "normal": autoguide.AutoNormal, "diagonal": autoguide.AutoDiagonalNormal, "full": autoguide.AutoMultivariateNormal, "low_rank": autoguide.AutoLowRankMultivariateNormal,
}  # fmt: skip


def pair_of(kind: str) -> vb.Pair:
    pyro.set_rng_seed(0)
    if kind == "by hand":
        guide = by_hand
    elif kind in NORMALS:
        guide = NORMALS[kind](model)
    else:
        guide = autoguide.AutoNormalizingFlow(model, FLOWS[kind])
    pair = vb.Pair(model, guide).initialise(vb.Batch((Y,)))
    with vb.seeded(5):
        return pair.load({name: value + 0.1 * torch.randn_like(value) for name, value in pair.parameters.items()})


def drawn(pair: vb.Pair, batch: vb.Batch, needs=frozenset(EVERY), count: int = 2) -> vb.Particles:
    with vb.seeded(1):
        return vb.draw(pair, batch, count, needs)


def test_scores_by_hand():
    """q = N(m, s) at two data, p = N(z; 0, 1) N(x; z, 1): −z + (x − z), and (m − z) / s²."""
    pair, batch = tractable.pair_of("normal_normal"), tractable.batch_of("normal_normal")
    with pair.scope():
        found = drawn(pair, batch)
        loc, scale = pyro.param("loc"), pyro.param("scale")
        (x,) = batch.args
        assert found.z.shape == found.score_p.shape == found.score_q.shape == (2, 2, 1)
        z = found.z[..., 0]
        torch.testing.assert_close(found.score_p[..., 0], x - 2 * z)
        torch.testing.assert_close(found.score_q[..., 0], (loc - z) / scale**2)
        # Live: in the parameters, and through the path. Here (m − z)/s² = −ε/s.
        (slope,) = torch.autograd.grad(found.score_q.sum(), pair.leaves["loc"], retain_graph=True)
        assert slope.abs().max() < 1e-12
        (slope,) = torch.autograd.grad(found.score_p.sum(), pair.leaves["loc"])
        torch.testing.assert_close(slope, torch.full((2,), -4.0))


def test_an_autoguides_numbers_are_unconstrained_with_the_jacobian_in_log_p():
    def positive():
        pyro.sample("r", dist.Exponential(2.0))

    guide = autoguide.AutoNormal(positive)
    pair, batch = vb.Pair(positive, guide).initialise(vb.Batch(())), vb.Batch(())
    with pair.scope():
        found = drawn(pair, batch)
        z = found.z[..., 0]
        log_p, log_q = found.densities(found.z + 1.0)
    torch.testing.assert_close(found.score_p[..., 0], 1 - 2 * z.exp())
    torch.testing.assert_close(log_p, torch.tensor(2.0).log() - 2 * (z + 1).exp() + z + 1)
    loc, scale = guide.locs.r, guide.scales.r
    torch.testing.assert_close(log_q, dist.Normal(loc, scale).log_prob(z + 1))


@pytest.mark.parametrize("kind", ["by hand", *NORMALS, "iaf", "stable iaf", "coupling"])
def test_scores_are_the_slopes_of_densities_whose_ratio_is_the_weight(kind):
    pair, batch = pair_of(kind), vb.Batch((Y,))
    with pair.scope():
        found = drawn(pair, batch)
        z = found.z.detach().requires_grad_()
        log_p, log_q = found.densities(z)
        torch.testing.assert_close(log_p - log_q, found.log_w)
        assert z.shape == (2, 6)
        for score, density in ((found.score_p, log_p), (found.score_q, log_q)):
            torch.testing.assert_close(score, torch.autograd.grad(density.sum(), z, retain_graph=True)[0])


@pytest.mark.parametrize("kind", FLOWS)
def test_the_score_of_a_flow_solves_for_its_jacobian(kind):
    """∇_z log q = J⁻ᵀ ∇_ε [log q(ε) − log |J|], with J of all layers at once."""
    pair, batch = pair_of(kind), vb.Batch((Y,))
    with pair.scope():
        found = drawn(pair, batch, {"z", "score_q"}, 1)
        flow = pair.guide.get_posterior()
        with vb.seeded(1):
            noise = torch.randn(6)

        def forward(noise):
            for layer in flow.transforms:
                noise = layer(noise)
            return noise

        def density(noise):
            return -0.5 * noise.square().sum() - torch.linalg.slogdet(jacobian(forward, noise, create_graph=True))[1]

        torch.testing.assert_close(forward(noise), found.z[0])
        right = torch.linalg.solve(jacobian(forward, noise).mT, jacobian(density, noise))
    torch.testing.assert_close(found.score_q[0], right)


def test_without_gradients_scores_are_numbers():
    pair, batch = pair_of("iaf"), vb.Batch((Y,))
    with pair.scope():
        live = drawn(pair, batch)
        with torch.no_grad():
            plain = drawn(pair, batch)
    for name in ("z", "score_p", "score_q"):
        assert not getattr(plain, name).requires_grad
        torch.testing.assert_close(getattr(plain, name), getattr(live, name).detach())


def test_rows_of_a_shared_plate_have_numbers_of_their_own():
    def rows(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(z.prod(-1), 1.0), obs=x)

    pair, batch = vb.Pair(rows, autoguide.AutoNormal(rows)).initialise(vb.Batch((Y,))), vb.Batch((Y,))
    with pair.scope():
        found = drawn(pair, batch)
    assert found.z.shape == found.score_p.shape == (2, 3, 2) and found.log_p.shape == (2, 3)
    product = found.z.sum(-1, keepdim=True).exp()
    torch.testing.assert_close(found.score_p, -found.z + (Y[:, None] - product) * product)


def test_measure_valued_derivatives_look_through_an_autoguide():
    """To the normal that it draws; the latents that it makes of that follow."""

    def rate(x):
        pyro.sample("x", dist.Poisson(pyro.sample("r", dist.Gamma(2.0, 1.0))), obs=x)

    pair, x = vb.Pair(rate, autoguide.AutoNormal(rate)), torch.tensor([3.0])
    pair.initialise(vb.Batch((x,)))
    replicas = Replicas(pair, vb.MeasureValued(), vb.Batch((x,)))
    with vb.seeded(0):
        found = torch.cat(list(replicas.gradients(pair, draw_noise(replicas.sizes, 5000, x), 0)))
    with pair.scope():
        right = torch.autograd.grad(vb.tabulate(pair, x).elbo().sum(), list(pair.leaves.values()))
    z = (found.mean(0) - torch.stack(right).reshape(-1)) / (found.std(0) / 5000**0.5)
    assert z.abs().max() < 4 and replicas.why_slow is None
    assert (found.mean(0).abs() > 10 * found.std(0) / 5000**0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["iaf", "coupling", "planar"])
def test_path_gradients_of_flows_are_programs(kind):
    """Where sticking the landing is none, for the slow inverse of a flow reads its own order out of a tensor."""
    pair, batch = pair_of(kind), vb.Batch((Y,))
    program = stage(pair, vb.PathGradient(2), batch)  # which holds it against Pyro
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 2, Y)
    replicated = Replicated(program, pair.parameters, batch.args, compiled=True)
    assert program.static and (replicated.native is not None or kind == "planar")
    drawn = torch.cat(list(replicated(pair.parameters, noise, batch.args)))
    gradients, _ = replicate(program, pair.parameters, noise, batch.args)
    torch.testing.assert_close(drawn, torch.cat([g.flatten(1) for g in gradients.values()], 1))
    if kind == "iaf":
        with pytest.raises(vb.errors.CaptureFailed):
            stage(pair, vb.STL(2), batch)


def test_who_has_no_numbers_is_told():
    coin, batch = tractable.pair_of("three_bernoulli"), tractable.batch_of("three_bernoulli")
    with coin.scope(), pytest.raises(vb.errors.Unsuitable, match="no reparameterised path"):
        drawn(coin, batch, {"z"})
    for fields in ({"z"}, {"score_q"}, {"densities"}):
        point = vb.Pair(model, autoguide.AutoDelta(model)).initialise(vb.Batch((Y,)))
        with point.scope(), pytest.raises(vb.errors.Unsuitable, match="point mass with parameters at 'tau'"):
            drawn(point, vb.Batch((Y,)), fields)

    def moving(y):
        pyro.sample("z", dist.Uniform(0.0, pyro.param("end", torch.tensor(1.0))))

    uniform = vb.Pair(lambda y: pyro.sample("z", dist.Uniform(0.0, 1.0)), moving).initialise(vb.Batch((Y,)))
    with uniform.scope(), pytest.raises(vb.errors.Unsuitable, match="support of site 'z' of the guide depends on"):
        drawn(uniform, vb.Batch((Y,)), {"z"})

    def fixed(y):
        pyro.sample("z", dist.Delta(torch.tensor(1.0)))

    still = vb.Pair(lambda y: pyro.sample("z", dist.Normal(0.0, 1.0)), fixed).initialise(vb.Batch((Y,)))
    with still.scope(), pytest.raises(vb.errors.Unsuitable, match="draws nothing"):
        drawn(still, vb.Batch((Y,)), {"z"})
