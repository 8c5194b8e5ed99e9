"""Published estimators, each written in an afternoon from the public contract alone, as somebody outside of the package would.

Many more are members: see `vbayes/estimators`. Reweighted wake-sleep for the guide and NVIL stand in docs/estimators.md, whose code is run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.quick import some_quick

FIXED = {"log_p_fixed", "log_q_fixed"}
LIVE = {"log_p", "log_q"}


@dataclass(frozen=True)
class MuProp(vb.Estimator):
    """The score function less log w's own tangent at the means. Gu, Levine, Sutskever & Mnih 2016, arXiv:1511.05176."""

    needs = frozenset({*FIXED, "score", "latents", "weigh"})
    families = frozenset({"bernoulli"})

    def estimate(self, particles):
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        means = [site.parameters["logits"].sigmoid() for site in particles.latents]
        with torch.enable_grad():
            middle = [mean.detach().requires_grad_() for mean in means]
            log_p, log_q = particles.weigh(middle)
            slopes = torch.autograd.grad((log_p - log_q).sum(), middle)
        tangent, path = (log_p - log_q).detach(), 0.0
        for site, mean, slope in zip(particles.latents, means, slopes, strict=True):
            tangent = tangent + (slope * (site.value - mean.detach())).sum(-1)
            path = path + (slope * mean).sum(-1)
        surrogate = particles.log_p_fixed + (value - tangent) * particles.score + path
        return vb.Estimate(value.mean(0), surrogate.mean(0))


@dataclass(frozen=True)
class StraightThrough(vb.Estimator):
    """As if a draw were its mean. Bengio, Léonard & Courville 2013, arXiv:1308.3432."""

    unbiased_for, unbiased_in = "nothing", frozenset()
    needs, families = frozenset({"latents", "weigh"}), frozenset({"bernoulli"})

    def estimate(self, particles):
        means = [site.parameters["logits"].sigmoid() for site in particles.latents]
        values = [site.value + mean - mean.detach() for site, mean in zip(particles.latents, means, strict=True)]
        log_p, log_q = particles.weigh(values)
        return vb.Estimate.of((log_p - log_q).mean(0))


@dataclass(frozen=True)
class TopCategory(vb.Estimator):
    """The likeliest category summed, another one drawn. Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019, arXiv:1810.04777."""

    needs, families = frozenset({"latents", "weigh"}), frozenset({"categorical"})

    def estimate(self, particles):
        (site,) = particles.latents
        q = site.parameters["logits"].softmax(-1)
        top = q.argmax(-1)
        rest = q.detach().scatter(-1, top.unsqueeze(-1), 0.0)
        spot = torch.rand_like(rest[..., :1]) * rest.sum(-1, keepdim=True)
        other = (rest.cumsum(-1) <= spot).sum(-1).clamp(max=rest.shape[-1] - 1)
        chance, drawn = (q.gather(-1, c.unsqueeze(-1)).squeeze(-1)[..., 0] for c in (top, other))
        f, g = (log_p - log_q for log_p, log_q in (particles.weigh([top]), particles.weigh([other])))
        value, score = chance * f + (1 - chance) * g, drawn.log() - (1 - chance).log()
        surrogate = value + ((1 - chance) * g).detach() * score
        return vb.Estimate(value.detach().mean(0), surrogate.mean(0))


@dataclass(frozen=True)
class EntropyInClosedForm(vb.Estimator):
    """log p by draws, the normal's entropy on paper. Kucukelbir, Tran, Ranganath, Gelman & Blei 2017, arXiv:1603.00788."""

    needs, families = frozenset({"log_p", "latents"}), frozenset({"normal"})
    requires = frozenset({"path"})

    def estimate(self, particles):
        scales = torch.cat([site.parameters["scale"] for site in particles.latents], -1)
        entropy = (scales.log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
        return vb.Estimate.of((particles.log_p + entropy).mean(0))


@dataclass(frozen=True)
class OfABound(vb.Estimator):
    """One whose surrogate is a function of the log-weights, along the path."""

    num_particles: int = 2
    needs, requires = frozenset(LIVE), frozenset({"path"})

    def estimate(self, particles):
        return vb.Estimate.of(self.bound_of(particles.log_w))


@dataclass(frozen=True)
class VRMax(OfABound):
    """The largest weight alone. Li & Turner 2016, arXiv:1602.02311."""

    bound = unbiased_for = "VR-max"

    def bound_of(self, log_w):
        return log_w.amax(0)


@dataclass(frozen=True)
class Jackknife(OfABound):
    """The bound of K, less its bias to first order. Nowozin 2018, Debiasing evidence approximations."""

    bound = unbiased_for = "JVI"
    min_particles = 2

    def bound_of(self, log_w):
        k = len(log_w)
        fewer = torch.stack([torch.cat([log_w[:j], log_w[j + 1 :]]).logsumexp(0) - math.log(k - 1) for j in range(k)])
        return k * (log_w.logsumexp(0) - math.log(k)) - (k - 1) * fewer.mean(0)


@dataclass(frozen=True)
class Roulette(OfABound):
    """The bound of K as a sum of which few terms are taken, by chance. Luo et al. 2020, SUMO, arXiv:2004.00353, cut off at K."""

    bound = unbiased_for = "IWAE"
    survival: float = 0.6

    def bound_of(self, log_w):
        return log_w.logsumexp(0) - math.log(len(log_w))

    def estimate(self, particles):
        bounds = [self.bound_of(particles.log_w[: k + 1]) for k in range(self.num_particles)]
        fate, total = torch.rand_like(bounds[0]), bounds[0]
        for k in range(1, self.num_particles):
            chance = self.survival**k
            total = total + (fate < chance) / chance * (bounds[k] - bounds[k - 1])
        return vb.Estimate.of(total)


@dataclass(frozen=True)
class WakeDReG(vb.Estimator):
    """Wake-sleep whose guide learns along the path. Tucker, Lawson, Gu & Maddison 2019, arXiv:1810.04152, eq. 12."""

    num_particles: int = 2
    bound, unbiased_for, unbiased_in = "IWAE", "IWAE (model)", frozenset({"model"})
    needs, requires = frozenset(LIVE | FIXED), frozenset({"path"})

    @property
    def objective(self):
        return vb.WakeSleep(self.num_particles).objective

    def bound_of(self, log_w):
        return log_w.logsumexp(0) - math.log(len(log_w))

    def estimate(self, particles):
        log_w = particles.log_w.detach()
        v = log_w.softmax(0)
        path = (particles.log_p - particles.log_p_fixed) - (particles.log_q - particles.log_q_fixed)
        return vb.Estimate(self.bound_of(log_w), (v * particles.log_p_fixed + (v - v.square()) * path).sum(0))


@dataclass(frozen=True)
class MarkovianScoreClimbing(vb.Remembering):
    """KL(p ‖ q) by a chain over the posterior that starts each draw where the last one ended. Naesseth, Lindsten & Blei 2020, arXiv:2003.10374."""

    num_particles: int = 8
    unbiased_for, unbiased_in = "nothing; in the long run KL(p ‖ q)", frozenset()
    needs, requires = frozenset({"z", "densities"}), frozenset({"path"})
    remembers = ("kept",)
    objective = vb.Objective("KL(p ‖ q)", vb.Table.forward_kl, ascend=False)

    def init(self, particles):
        return {"kept": particles.z[0]}

    def estimate(self, particles):
        z = torch.cat([self.memory.kept.unsqueeze(0), particles.z[1:].detach()])
        log_p, log_q = particles.densities(z)
        v = (log_p - log_q).detach().softmax(0)
        above, spot = v.cumsum(0), torch.rand_like(v[0])
        chosen = (above - v <= spot) & (spot < above)
        if torch.is_grad_enabled():
            self.memory.kept = (chosen.unsqueeze(-1) * z).sum(0)
        return vb.Estimate((v * log_q.detach()).sum(0), -(v * log_q).sum(0))


CASES = {
    "MuProp": (MuProp(), "three_bernoulli"),
    "TopCategory": (TopCategory(), "gaussian_mixture"),
    "EntropyInClosedForm": (EntropyInClosedForm(), "normal_normal"),
    "VRMax": (VRMax(), "normal_normal"),
    "Jackknife": (Jackknife(), "normal_normal"),
    "Roulette": (Roulette(), "normal_normal"),
    "WakeDReG": (WakeDReG(), "gamma_poisson"),
}


@pytest.mark.parametrize("name", some_quick(CASES, {"MuProp"}))
def test_it_keeps_what_it_claims(name):
    """Captured, and without bias where it claims to have none; a tenth more of its gradient is seen to be too much."""
    method, pair = CASES[name]
    found = vb.check_estimator(method, [pair], replicas=20_000, progress=False)
    assert found.ok and found.verdict() == f"No bias on {pair}. Its mean value is right there.", found.verdict()


@pytest.mark.slow
def test_straight_through_is_honest():
    @dataclass(frozen=True)
    class Boastful(StraightThrough):
        unbiased_in = frozenset({"guide"})

    modest = vb.check_estimator(StraightThrough(), ["three_bernoulli"], replicas=4000, progress=False)
    assert modest.ok and "it claims nothing" in modest.verdict()
    assert "Biased in guide" in vb.check_estimator(Boastful(), ["three_bernoulli"], progress=False).verdict()


@pytest.mark.slow
def test_the_guides_half_of_wake_dreg_comes_near_with_many_draws():
    known = vb.pairs.TRACTABLE["gamma_poisson"]
    pair, batch = known.pair(), known.batch()
    with pair.scope(), vb.seeded(0):
        leaves = pair.leaves

        def slope(value):
            return torch.cat(
                [g.reshape(-1) for g in torch.autograd.grad(value.sum(), list(leaves.values()), materialize_grads=True)]
            )

        method = WakeDReG(20_000)
        right = slope(replace(method, num_particles=2).objective.truth(vb.tabulate(pair, batch)))
        drawn = slope(method.estimate(method.draw(pair, batch)).surrogate)
    assert list(leaves)[-1] == "prior_rate"  # the model's, which follows the bound of 2
    assert (drawn - right)[:-1].norm() < 0.05 * right[:-1].norm()


@pytest.mark.slow
def test_a_chain_covers_where_the_elbo_shrinks():
    """Factored normals at correlation .8: the ELBO's variance is 1 − .8², that of KL(p ‖ q) the marginal one, which is 1; its memory is the fit's."""

    def model(x):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])))
        pyro.sample("x", dist.Normal(z[..., :1], 1e3).to_event(1), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.ones(2), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(torch.zeros(2), scale).to_event(1))

    options = {"steps": 2000, "learning_rate": 0.01, "compile": True, "progress": False}
    wide, narrow = (
        vb.fit(vb.Pair(model, guide), torch.zeros(1), method, **options)
        for method in (MarkovianScoreClimbing(), vb.STL(8))
    )
    assert abs(float(wide.parameters["scale"].square().mean()) - 1) < 0.15
    assert float(narrow.parameters["scale"].square().mean()) < 0.5
