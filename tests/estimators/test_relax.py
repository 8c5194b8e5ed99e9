"""A control variate that learns: unbiased whatever it is, less variance once it has learned, and its own gradient the right one."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.estimators import rebar
from vbayes.estimators.base import gradient
from vbayes.estimators.remembering import with_memory
from vbayes.pairs import TRACTABLE
from vbayes.staging import draw_noise, eager, stage
from vbayes.validation import validation

X = torch.tensor([-0.5, 2.0])


def classes() -> vb.Pair:
    """One of three classes and a coin for each datum, independent in the guide."""
    means = torch.tensor([-1.0, 0.5, 2.0])

    def model(x):
        shift = pyro.param("shift", lambda: torch.tensor(0.7))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.OneHotCategorical(x.new_tensor([0.2, 0.5, 0.3])))
            b = pyro.sample("b", dist.Bernoulli(x.new_tensor(0.3)))
            pyro.sample("x", dist.Normal(k @ means.to(x) + shift * b, 0.7), obs=x)

    def guide(x):
        logits = pyro.param("logits", lambda: torch.linspace(-0.6, 0.8, 6).reshape(2, 3))
        chance = pyro.param("chance", lambda: torch.tensor([0.3, -0.4]))
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.OneHotCategorical(logits=logits))
            pyro.sample("b", dist.Bernoulli(logits=chance))

    return vb.Pair(model, guide, name="classes")


@dataclass(frozen=True)
class Wild(vb.RELAX):
    """With a network as no training would leave it."""

    def module(self, particles):
        made = super().module(particles)
        for value in made.parameters():
            torch.nn.init.normal_(value, 0.3, 1.0)
        return made


def test_between_one_hot_values_a_density_is_linear(double):
    """As between zeros and ones; torch's jumps, and a control variate that jumps would be biased."""
    pair, batch = classes().initialise(vb.Batch((X.double(),))), vb.Batch((X.double(),))
    with pair.scope(), vb.seeded(0):
        needs = {"latents", "weigh", "log_p_fixed", "log_q_fixed"}
        particles = vb.draw(pair, batch, 1, needs, families={"bernoulli", "one_hot"})
        drawn = [site.value for site in particles.latents]
        other = [drawn[0].roll(1, -1), drawn[1]]
        (_, here), (_, there) = particles.weigh(drawn), particles.weigh(other)
        _, between = particles.weigh([0.3 * a + 0.7 * b for a, b in zip(drawn, other, strict=True)])
    torch.testing.assert_close(here, particles.log_q_fixed)
    torch.testing.assert_close(between, 0.3 * here + 0.7 * there)


def judged(pair: vb.Pair, x: torch.Tensor, methods: dict, replicas: int):
    table = vb.compare(
        pair, x, methods, at={"here": pair}, oracle="tabulated", replicas=replicas, progress=False
    ).to_dataframe()
    return table[table.group == "all"].set_index("estimator")


@pytest.mark.slow
@pytest.mark.parametrize("make", [TRACTABLE["three_bernoulli"].pair, classes])
def test_no_bias_whatever_the_network_is(make, monkeypatch):
    """Against the exact gradient; the mutants, each half of what puts the control variate's gradient back, are seen."""
    exact = {"rebar": vb.REBAR(temperature=0.3, strength=0.7), "wild": Wild(rate=0.0)}
    found = judged(make(), X, exact, 20_000)
    assert found.bias_z.abs().max() < 5
    behind = rebar.behind
    for mutant in (lambda site: (behind(site)[0],) * 2, lambda site: behind(site)[::-1]):
        monkeypatch.setattr(rebar, "behind", mutant)
        assert judged(make(), X, {"rebar": exact["rebar"]}, 20_000).bias_z.abs().min() > 6


@pytest.mark.parametrize("make", [TRACTABLE["three_bernoulli"].pair, classes])
def test_its_loss_is_the_squared_length_of_the_gradient(make, double):
    """Adam's first moving average holds a tenth of the derivative; differences of the squared length on the same draw are the same, in every number of the module."""
    pair, batch = make(), vb.Batch((X.double(),))
    method = with_memory(Wild(), pair.initialise(batch), batch)
    memory = method.memory
    with pair.scope():
        start = {name: value.clone() for name, value in memory.named_buffers()}

    def length(**moved: torch.Tensor) -> torch.Tensor:
        for name, value in {**start, **moved}.items():
            owner, _, last = name.rpartition(".")
            memory.get_submodule(owner)._buffers[last] = value.clone()
        with vb.seeded(3):
            found = gradient(method, pair.model, pair.guide, *batch.args)
        return sum(part.square().sum() for part in found.values())

    with pair.scope(), validation(False):
        length()
        derivative = {name: memory.get_buffer(f"mean.{name}") / 0.1 for name in memory.learned}
        for name, value in derivative.items():
            whole = start[f"network.{name}"]
            direction = torch.linspace(1.0, 2.0, whole.numel()).reshape(whole.shape)
            up, down = (length(**{f"network.{name}": whole + step * direction}) for step in (1e-5, -1e-5))
            torch.testing.assert_close((value * direction).sum(), (up - down) / 2e-5, rtol=1e-6, atol=1e-7)
            assert value.abs().max() > 1e-3, name


def test_a_program_learns_what_pyro_learns(double):
    batch = vb.Batch((X.double(),))
    pair = classes().initialise(batch)
    method = with_memory(vb.RELAX(), pair, batch)
    program = stage(pair, method, batch)
    with vb.seeded(0):
        noise = tuple(numbers[0] for numbers in draw_noise(program.sizes, 1, X.double()))
    assert program.static
    _, _, learned = program.graph(pair.parameters, program.buffers, noise, batch.args)
    with pair.scope(), validation(False):
        _, _, right = eager(pair, method, None)(pair.parameters, program.buffers, noise, batch.args)
    for name, value in right.items():
        torch.testing.assert_close(learned[name], value)
        assert not torch.equal(value, program.buffers[name]) or ".inside." in name, name


@pytest.mark.slow
def test_what_it_has_learned_is_measured(tmp_path):
    """Trained where model and guide all but stand still; a fit that is saved and loaded is as good."""
    pair, x = TRACTABLE["three_bernoulli"].pair(), TRACTABLE["three_bernoulli"].batch().args[0]
    options = {"learning_rate": 1e-9, "compile": True, "progress": False}
    method = vb.RELAX(rate=0.003)
    before = vb.fit(pair, x, method, steps=0, **options)
    after = before.resume(steps=800, progress=False)
    loaded = vb.Fit.load(after.save(tmp_path / "fit.safetensors"), pair, x, estimator=method)
    points = {"before": before, "after": after, "loaded": loaded}
    table = vb.compare(pair, x, [method], at=points, replicas=4000, progress=False).to_dataframe()
    found = table[table.group.str.startswith("guide")].set_index("at")
    assert found.variance["before"] - found.variance["after"] > 5 * found.variance_se["before"]
    assert abs(found.variance["loaded"] - found.variance["after"]) < 5 * found.variance_se["before"]
    assert found.bias_z.abs().max() < 5
