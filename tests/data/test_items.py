"""torch's data sets and loaders: rows that are made while a fit trains."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import vbayes as vb
from vbayes.training import windows
from vbayes.training.minibatches import Minibatches

N = 23


class Pictures(TorchDataset):
    """Row i is i everywhere but for the noise of a transform, and its class is i % 3."""

    def __init__(self, noise=0.0, row=tuple):
        self.noise, self.row = noise, row

    def __len__(self):
        return N

    def __getitem__(self, i):
        x = torch.full((2, 2), float(i)) + self.noise * torch.rand(2, 2)
        return {"image": x, "label": i % 3} if self.row is dict else (x, i % 3)


def model(image, label):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(image)):
        pyro.sample("x", dist.Normal(loc, 1.0).expand([2, 2]).to_event(2), obs=image)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(windows, "BYTES", 10 * (16 + 8))


@pytest.mark.parametrize(
    "data", [Pictures(), Pictures(row=dict), DataLoader(Pictures(), batch_size=4)], ids=["rows", "by name", "a loader"]
)
def test_each_row_once_in_an_epoch(data):
    minibatches = Minibatches(vb.Dataset.of(data), 5, 0)
    taken = []
    for step in range(1, 6):
        batch = minibatches.data(step).batch(model, minibatches.index(step))
        image, label = batch.args
        assert torch.equal(image[:, 0, 0].long() % 3, label) and label.dtype == torch.int64 and batch.total == N
        taken.append(image[:, 0, 0].long().tolist())
    assert sorted(itertools.chain(*taken)) == list(range(N))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_transforms_draw_by_the_seed_and_leave_no_trace(workers, monkeypatch):
    monkeypatch.setattr("vbayes.data.items.TOGETHER", 4)
    pair = vb.Pair(model, AutoDelta(model))
    before = torch.get_rng_state()
    fits = [
        vb.fit(
            pair,
            DataLoader(Pictures(0.5), batch_size=5, num_workers=workers),
            seed=seed,
            steps=7,
            compile=False,
            progress=False,
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (list(fit.rows.elbo) for fit in fits)
    assert first == again != other and fits[0].batch_size == 5


def test_tensors_are_taken_as_they_are():
    data = vb.Dataset.of(DataLoader(TensorDataset(torch.arange(6.0), torch.arange(6))))
    assert not data.stored and [a.tolist() for a in data.batch(lambda u, v: None).args] == [list(range(6))] * 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(2)])


class Words(Pictures):
    def __getitem__(self, i):
        return "a word", i


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Stream(), "a stream, of which nobody knows how many rows"),
        (DataLoader(Stream()), "a stream"),
        (Words(), "rows with tuple for 'x'"),
    ],
)
def test_what_has_no_rows(data, said):
    with pytest.raises(vb.errors.BadData, match=said):
        vb.Dataset.of(data)


def test_without_a_batch_size():
    with pytest.raises(vb.errors.BadInput, match="read while a fit trains, so many rows at a time"):
        vb.fit(vb.Pair(model, AutoDelta(model)), Pictures(), steps=2, progress=False)
