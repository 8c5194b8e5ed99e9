"""The two parts of a gradient's noise, where both are known on paper."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot

import vbayes as vb
from vbayes.laboratory.variance_parts import fitted_law, variance_parts

N = 40
DATA = torch.linspace(-1.0, 2.0, N)


def pair(*, shared: bool) -> vb.Pair:
    """x ~ N(z, 1) with a z for each row, or one for all; q(z) = N(θ, 1)."""

    def draw(loc, x):
        return pyro.sample("z", dist.Normal(loc * x.new_ones(()), 1.0))

    def model(x):
        z = draw(0.0, x) if shared else None
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z if shared else draw(0.0, x), 1.0), obs=x)

    def guide(x):
        theta = pyro.param("theta", lambda: torch.tensor(0.2))
        if shared:
            draw(theta, x)
        else:
            with pyro.plate("data", len(x)):
                draw(theta, x)

    return vb.Pair(model, guide, name="shared" if shared else "local")


@pytest.mark.parametrize("shared", [False, True])
def test_both_parts_are_those_on_paper(shared):
    """Local: a row's gradient is x − 2 z; shared: −z + (N/M) Σ (x − z)."""
    split = vb.noise_split(
        pair(shared=shared),
        DATA,
        "pathwise",
        batch_sizes=(5, 20),
        particles=(1, 3),
        minibatches=400,
        draws=30,
        progress=False,
    )
    between = N**2 * float(DATA.var())
    inner = {"local": 0.0 if shared else 4.0 * N**2, "shared": (1.0 + N) ** 2 if shared else 0.0}
    table = split.to_dataframe()
    assert len(table) == 4
    for row in table.itertuples():
        minibatch = between * (1 / row.batch_size - 1 / N)
        particle = (inner["local"] / row.batch_size + inner["shared"]) / row.particles
        assert abs(row.minibatch - minibatch) < 4 * row.minibatch_se and row.minibatch_se < 0.15 * (
            minibatch + particle
        )
        assert abs(row.particle - particle) < 4 * row.particle_se + 1e-6 * particle and row.particle_se < 0.1 * particle
        assert row.predicted == pytest.approx(minibatch + particle, rel=0.2)
    best = split.splits(20)
    assert best.variance.is_monotonic_increasing and set(best.batch_size * best.particles) == {20}
    paper = [between * (1 / m - 1 / N) + (inner["local"] / m + inner["shared"]) * m / 20 for m in (1, 2, 4, 5, 10, 20)]
    assert best.batch_size.iloc[0] == (1, 2, 4, 5, 10, 20)[paper.index(min(paper))]
    if not shared:
        assert best.particles.iloc[0] == 1 and "20 rows with 1 draw each" in split.verdict(20)
    figure = split.plot()
    assert len(figure.axes[0].patches) == 8
    pyplot.close(figure)


def test_without_taking_off_what_draws_add_the_minibatch_would_look_noisier():
    """The mutant of the analysis of variance: means of few draws vary by themselves."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(2000, 4, 3, generator=generator, dtype=torch.float64) * 2  # no minibatch noise at all
    parts = variance_parts(g.mean(1), g.var(1).sum(1), 4)
    assert abs(parts["minibatch"]) < 4 * parts["minibatch_se"]
    assert float(g.mean(1).var(0).sum()) > 10 * parts["minibatch_se"]
    assert parts["particle"] == pytest.approx(12.0, abs=4 * parts["particle_se"])


def test_no_part_is_below_zero():
    rows = [
        {
            "batch_size": m,
            "particles": n,
            "minibatch": -1.0,
            "minibatch_se": 1.0,
            "particle": 8.0 / m / n - 0.01,
            "particle_se": 0.1,
        }
        for m in (2, 4)
        for n in (1, 2)
    ]
    between, local, shared = fitted_law(rows, 10)
    assert between == 0 and shared == 0 and local == pytest.approx(7.95, abs=0.1)
    split = vb.NoiseSplit("p", "e", 10, (), 1.0, 2.0, 3.0)
    assert split.predict(2, 4) == pytest.approx((1 / 2 - 1 / 10) + (2 / 2 + 3) / 4)


@pytest.mark.parametrize("size", [3, 7, 1000])
def test_batches_of_one_size_do_not_tell_local_noise_from_shared(size):
    """Their columns are proportional but for rounding: the shortest of the solutions, not the difference of two huge numbers."""
    rows = [
        {"batch_size": size, "particles": n, "minibatch": 1.0, "minibatch_se": 1.0, "particle": part, "particle_se": 0.1}
        for n, part in ((1, 6.01), (3, 1.99), (7, 0.86))
    ]  # fmt: skip
    _, local, shared = fitted_law(rows, 10_000)
    slope = (6.01 + 1.99 / 3 + 0.86 / 7) / (1 + 1 / 9 + 1 / 49)
    assert (local, shared) == pytest.approx((slope / size / (1 + size**-2), slope / (1 + size**-2)), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": (N,)}, "sizes from 1 to 39"),
        ({"batch_sizes": ()}, "batch_sizes=.. is empty"),
        ({"minibatches": 2}, "minibatches=2 is below 10"),
        ({"estimator": "rloo", "particles": (1,), "batch_sizes": (4,)}, "at least 2"),
        ({"estimator": pyro.infer.Trace_ELBO(), "batch_sizes": (4,)}, "no number of particles to vary"),
        ({"minibatch": 2}, "has no keyword 'minibatch'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        vb.noise_split(pair(shared=False), DATA, progress=False, **options)
