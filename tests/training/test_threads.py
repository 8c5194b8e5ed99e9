"""Fits in several threads take turns: each has the numbers that it has alone."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import vbayes as vb
from tests.models import X, binary, small_vae
from tests.training.test_accepted import normal, pair
from vbayes import rng

fitted = functools.partial(vb.fit, progress=False)
TASKS = {
    "normal": lambda: fitted(pair(), torch.tensor([0.5, 1.5]), "stl", steps=30),
    "shared": lambda: fitted(SHARED, X.float(), "score", steps=30, seed=3),
    "again": lambda: fitted(SHARED, X.float(), "score", steps=30, seed=4),
    "compiled": lambda: fitted(pair(), torch.tensor([0.5, 1.5]), "stl", steps=10, compile=True),
    "vae": lambda: fitted(small_vae(), binary(20), steps=10, batch_size=5),
}
SHARED = vb.pairs.normal_normal()


def test_fits_in_threads_are_those_one_after_the_other():
    alone = {name: task().history.elbo.tolist() for name, task in TASKS.items()}
    with vb.seeded(5):
        outside = torch.randn(3)
    with ThreadPoolExecutor(4) as pool:
        pending = {(name, n): pool.submit(task) for n in range(2) for name, task in TASKS.items()}
        found = {name: one.result().history.elbo.tolist() for name, one in pending.items()}
    assert found == {(name, n): alone[name] for n in range(2) for name in TASKS}
    with vb.seeded(5):
        assert torch.equal(torch.randn(3), outside)
    assert not dict(pyro.get_param_store().items())


@pytest.mark.parametrize("compile", [False, True])
def test_an_svi_beside_a_fit(compile):
    """The parameters in Pyro's store are not swapped away under its steps."""

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.1))
        pyro.sample("z", pyro.distributions.Normal(loc, 1.0))

    x = torch.tensor([0.5, 1.5])
    svi = vb.SVI(normal, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), compile=compile)

    def steps() -> None:
        for _ in range(30):
            svi.step(x)

    right, before = TASKS["normal"]().history.elbo.tolist(), rng.get_state()
    with ThreadPoolExecutor(2) as pool:
        trained, stepped = pool.submit(TASKS["normal"]), pool.submit(steps)
        stepped.result()
        assert trained.result().history.elbo.tolist() == right
    assert set(pyro.get_param_store().keys()) == {"loc"} and float(pyro.param("loc").detach()) != 0.1
    pyro.clear_param_store()
    rng.set_state(before)  # an SVI draws from the global generators, as Pyro's does


@pytest.mark.slow
def test_who_waits_for_threads_inside_a_block_is_told():
    with ThreadPoolExecutor(1) as pool, vb.seeded(0):
        with pytest.raises(vb.errors.VBayesError, match="Wanted: threads that are started outside of such a block"):
            pool.submit(TASKS["normal"]).result()
