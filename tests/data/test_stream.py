"""torch's streams: so many rows in each pass, and each minibatch speaks for all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import vbayes as vb
from vbayes.data import stream
from vbayes.training import windows
from vbayes.training.minibatches import Minibatches

N, M = 23, 5


class Readings(IterableDataset):
    """Row i is i but for noise that the stream draws, and its class is i % 3; a stream of several workers has each of them read its own part."""

    def __init__(self, noise=0.0, count=N, row=tuple):
        self.noise, self.count, self.row, self.passes = noise, count, row, 0

    def __iter__(self):
        self.passes += 1
        worker = get_worker_info()
        for i in itertools.islice(itertools.count(), worker and worker.id, self.count, worker and worker.num_workers):
            x = float(i) + self.noise * torch.rand(())
            yield {"x": x, "label": i % 3} if self.row is dict else (x, i % 3)


def model(x, label):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Windows of 10 rows, of which 4 are read in one go."""
    monkeypatch.setattr(windows, "BYTES", 10 * (4 + 8))
    monkeypatch.setattr(stream, "TOGETHER", 4)


@pytest.mark.parametrize(
    "data",
    [
        Readings(), Readings(row=dict), DataLoader(Readings(), batch_size=4),
        pytest.param(DataLoader(Readings(), num_workers=2), marks=pytest.mark.slow),
    ],
    ids=["rows", "by name", "a loader", "processes"],
)  # fmt: skip
def test_each_row_once_in_a_pass(data):
    minibatches, passes = Minibatches(vb.Dataset.of(data, rows=N), M, 0), []
    for first in (1, 6):
        taken = []
        for step in range(first, first + 5):
            x, label = minibatches.data(step).batch(model, minibatches.index(step)).args
            assert torch.equal(x.long() % 3, label) and minibatches.data(step).batch(model).total == N
            taken.append(x.long().tolist())
        assert sorted(itertools.chain(*taken)) == list(range(N)) and list(map(len, taken)) == [M] * 4 + [3]
        assert set(taken[0] + taken[1]) == set(range(10)) or isinstance(data, DataLoader), (
            "in their order, mixed in a window"
        )
        passes.append(taken)
    assert passes[0] != passes[1]


def test_a_minibatch_stands_for_all_rows():
    """At one place: each step's plate is scaled by N/M, and the mean of an epoch is the log-density of all rows."""
    pair, readings = vb.Pair(model, AutoDelta(model)), Readings()
    data = vb.Dataset.of(readings, rows=N)
    fit = vb.fit(pair, data, epochs=2, batch_size=M, learning_rate=1e-12, compile=False, progress=False)
    rows, sizes = torch.arange(float(N)), np.array([M] * 4 + [N % M])
    loc = fit.parameters["AutoDelta.loc"]
    exact = float(dist.Normal(loc, 1.0).log_prob(rows).sum() + dist.Normal(0.0, 1.0).log_prob(loc))
    prior = float(dist.Normal(0.0, 1.0).log_prob(loc))
    per_pass = (np.array(fit.rows.elbo).reshape(2, 5) - prior) @ (sizes / N) + prior
    assert per_pass == pytest.approx([exact, exact], rel=1e-5)
    batch = data.batch(model, torch.arange(M))
    with fit.pair.look():
        assert float(fit.pair.run(batch)[1].nodes["x"]["scale"]) == N / M


def test_it_goes_on_to_the_last_bit():
    pair, options = (
        vb.Pair(model, AutoDelta(model)),
        {"batch_size": M, "compile": False, "progress": False, "learning_rate": 0.1},
    )
    before = torch.get_rng_state()
    long = vb.fit(pair, vb.Dataset.of(Readings(0.5), rows=N), steps=18, **options)
    short = vb.fit(pair, vb.Dataset.of(Readings(0.5), rows=N), steps=8, **options)
    assert list(short.resume(steps=10, progress=False).rows.elbo) == list(long.rows.elbo)
    assert torch.equal(before, torch.get_rng_state())
    passes = np.array([long.rows.elbo[:5], long.rows.elbo[5:10]])
    assert not np.allclose(*passes), "its noise is another in each pass"


def test_any_rows_can_be_asked_for():
    data = vb.Dataset.of(Readings(), rows=N)
    assert data.tensors["x"][torch.tensor([21, 3, 4, 0])].tolist() == [21, 3, 4, 0] and data.tensors["x"][
        :
    ].tolist() == list(range(N))


def test_one_that_says_how_long_it_is():
    class Counted(Readings):
        def __len__(self):
            return N

    assert len(vb.Dataset.of(Counted())) == N


WRONG = {
    "fewer": (Readings(), {"rows": N + 3}, vb.errors.BadData, f"ends after {N} rows in place of rows={N + 3}"),
    "more": (Readings(), {"rows": N - 3}, vb.errors.BadData, f"with more than rows={N - 3} in a pass"),
    "a block fewer": (Readings(), {"rows": 24}, vb.errors.BadData, f"ends after {N} rows in place of rows=24"),
    "a block more": (Readings(), {"rows": 20}, vb.errors.BadData, "with more than rows=20 in a pass"),
    "nobody says": (Readings(), {}, vb.errors.BadData, r"a stream of unknown length.*vb.Dataset.of\(stream, rows=N\)"),
    "none": (Readings(), {"rows": 0}, vb.errors.BadInput, "rows=0"),
    "no stream": (torch.zeros(3), {"rows": 3}, vb.errors.BadInput, "rows=3 is given for data whose number of rows is known"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_another_number_of_rows(case):
    data, given, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        made = vb.Dataset.of(data, **given)
        made.tensors["x"][:]
    if case in ("fewer", "more"):  # who tries again is told again
        with pytest.raises(error, match=said):
            made.tensors["x"][:]


def test_one_that_can_be_read_once():
    class Once(IterableDataset):
        def __init__(self):
            self.rows = iter(torch.zeros(N))

        def __iter__(self):
            return self.rows

    with pytest.raises(vb.errors.BadData, match="a stream that ends after 1"):
        vb.Dataset.of(Once(), rows=N).tensors["x"][:]
