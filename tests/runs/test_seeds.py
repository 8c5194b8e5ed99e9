"""The seed of a run reaches whatever it measures; seeds that change nothing are found out."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from vbayes import rng
from vbayes.errors import BadInput
from vbayes.runs.experiment import load
from vbayes.runs.sweep import check_seeds, combinations, measure

FILE = """
import pandas as pd
from matplotlib import pyplot
import torch
import vbayes as vb

def measure(rows):
    pair, data = vb.pairs.normal_normal(), vb.data.normal_normal()
    fit = vb.fit(pair, data, "score", steps=3, learning_rate=0.1, compile=False, progress=False)
    return pd.DataFrame({"elbo": fit.history.elbo, "fit_seed": fit.seed, "seconds": torch.rand(()).item()})

experiment = vb.Experiment(
    question="?", claim="!", measure=measure, full={"rows": 3}, quick={},
    figure=lambda table: pyplot.figure(), verdict=lambda table: "",
)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "seeds.py"
    path.write_text(FILE)
    return path


def tables(path, *, seeds=(0, 7), jobs=1):
    with load(path) as experiment:
        wanted = combinations(experiment, quick=False, given={}, seeds=seeds, sweep={})
        found = measure(path, experiment, wanted, jobs=jobs, backend="loky", force=True)
        check_seeds(experiment, wanted, found)
        return found


def test_a_fit_without_a_seed_has_the_runs(file):
    """Of seed 0 it is what it is outside of a run."""
    none, seven = tables(file)
    fit = vb.fit(
        vb.pairs.normal_normal(), vb.data.normal_normal(), "score", steps=3, learning_rate=0.1, compile=False, progress=False
    )  # fmt: skip
    assert none.elbo.tolist() == fit.history.elbo.tolist() != seven.elbo.tolist()
    assert (none.fit_seed.unique().tolist(), seven.fit_seed.unique().tolist()) == ([0], [7])


@pytest.mark.parametrize("fixed", ["compile=False, seed=0", "compile=True, seed=3"])
def test_equal_tables_are_refused(file, fixed):
    """Clocks aside."""
    file.write_text(FILE.replace("compile=False", fixed))
    with pytest.raises(BadInput, match=r"Seeds 0 and 7 have equal tables(.|\n)*deterministic=True(.|\n)*Fix: remove"):
        tables(file)


def test_an_experiment_that_says_it_is_deterministic(file):
    said = FILE.replace("quick={}", "quick={}, deterministic=True")
    file.write_text(said.replace("compile=False", "compile=False, seed=0"))
    one, other = tables(file)
    assert one.elbo.equals(other.elbo)
    file.write_text(said)
    with pytest.raises(BadInput, match="tables of seeds 0 and 7 differ, but the experiment says deterministic=True"):
        tables(file)


VERBS = {
    "fit": lambda pair, data: vb.fit(pair, data, steps=2, compile=False, progress=False).pair.parameters["weight"].tolist(),
    "binarized": lambda pair, data: vb.Dataset.of(data.first.sigmoid()).binarized("static").first,
    "compare": lambda pair, data: vb.compare(pair, data, ["pathwise"], at={"here": pair}, replicas=100, progress=False).to_dataframe().variance.tolist(),
    "posterior": lambda pair, data: vb.posterior(pair, data, draws=3, method="guide").draws["z"],
    "log_evidence": lambda pair, data: vb.log_evidence(pair, data, method="iw", num_particles=2, progress=False).value,
    "noise_split": lambda pair, data: [
        *vb.noise_split(
            pair, data, "pathwise", batch_sizes=(2,), particles=(1,), minibatches=10, draws=2, progress=False
        ).table[0].values()
    ],
    "race": lambda pair, data: vb.race(
        pair, data, ["pathwise"], steps=2, seeds=1, evaluations=1, compile=False, progress=False
    ).seeds,
    "reconstruct": lambda pair, data: vb.reconstruct(pair, data).mean,
    "the pair": lambda pair, data: vb.pairs.vae(4, 3, 2).initialise(data.batch(pair.model)).parameters,
    "baum_welch": lambda pair, data: vb.baum_welch(data.first, 2, restarts=1, iterations=1).bound,
    "initial parameters": lambda pair, data: _autoguide(data),
}  # fmt: skip


def _autoguide(data):
    import pyro
    import pyro.distributions as dist
    from pyro.infer.autoguide import AutoNormal, init_to_sample

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(2), obs=x)

    own = vb.Pair(model, AutoNormal(model, init_loc_fn=init_to_sample), name="own")
    return own.initialise(data.batch(model)).parameters


@pytest.mark.parametrize("verb", VERBS)
def test_the_seed_of_the_run_reaches(verb):
    """Of a verb without a seed the numbers are those of seed 0 outside, other ones inside, and those of one seed again the same."""
    data = vb.Dataset.of(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    pair = vb.pairs.probabilistic_pca(4, 2).initialise(data.batch(vb.pairs.probabilistic_pca(4, 2).model))

    def numbers(seed):
        with rng.by_default(seed):
            return repr(VERBS[verb](pair, data))

    outside = numbers(0)
    assert numbers(5) != outside and numbers(5) == numbers(5) and numbers(0) == outside


def test_the_default_seed_is_put_back():
    assert vb.default_seed() == 0
    with pytest.raises(ZeroDivisionError), rng.by_default(4):
        assert vb.default_seed() == 4 and rng.or_default(None) == 4 and rng.or_default(2) == 2
        with rng.seeded(None):
            inside = torch.rand(())
        with rng.seeded(4):
            assert torch.rand(()) == inside
        raise ZeroDivisionError
    assert vb.default_seed() == 0
