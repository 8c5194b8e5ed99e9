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
        (Stream(), "a stream of unknown length"),
        (DataLoader(Stream()), "a stream"),
        (Words(), "rows with tuple for 'x'"),
    ],
)
def test_what_has_no_rows(data, said):
    with pytest.raises(vb.errors.BadData, match=said):
        vb.Dataset.of(data)


def test_without_a_batch_size():
    with pytest.raises(vb.errors.BadInput, match="read during training, in minibatches"):
        vb.fit(vb.Pair(model, AutoDelta(model)), Pictures(), steps=2, progress=False)


def rows_of(data) -> list[int]:
    found = vb.Dataset.of(data)
    return (found.first[:] if found.stored else found.first).reshape(len(found), -1)[:, 0].long().tolist()


@pytest.mark.parametrize("items", [Pictures(), TensorDataset(torch.arange(float(N)))], ids=["rows", "tensors"])
def test_the_rows_that_a_loader_takes(items):
    some = [4, 2, 11]
    subset = torch.utils.data.SubsetRandomSampler(some)
    for how in (
        {"sampler": subset},
        {"sampler": some},
        {"batch_sampler": torch.utils.data.BatchSampler(subset, 2, drop_last=True)},
    ):
        assert rows_of(DataLoader(items, **how)) == some
    for how in ({}, {"batch_size": 5, "shuffle": True, "drop_last": True}):
        assert rows_of(DataLoader(items, **how)) == list(range(N))
    assert rows_of(DataLoader(items, batch_size=5, drop_last=True)) == list(range(20)), "the last are in no epoch"

    class Own(torch.utils.data.Sampler):
        def __iter__(self):
            return iter([0, 1])

        def __len__(self):
            return 2

    for how, said in (
        ({"sampler": torch.utils.data.WeightedRandomSampler([1.0] * N, N)}, "WeightedRandomSampler.*poutine.scale"),
        ({"sampler": torch.utils.data.RandomSampler(items, replacement=True)}, "sampler=RandomSampler"),
        ({"sampler": torch.utils.data.RandomSampler(items, num_samples=3)}, "sampler=RandomSampler"),
        ({"sampler": Own()}, "sampler=Own"),
        ({"batch_sampler": Own()}, "batch_sampler=Own"),
    ):
        with pytest.raises(vb.errors.BadData, match=f"a DataLoader with .*{said}"):
            vb.Dataset.of(DataLoader(items, **how))


def test_a_loaders_own_way_to_put_rows_together():
    doubled = DataLoader(
        TensorDataset(torch.arange(4.0)),
        batch_size=2,
        collate_fn=lambda rows: 2 * torch.cat([x[None] for (x,) in rows]),
    )
    assert rows_of(doubled) == [0, 2, 4, 6]
    assert rows_of(DataLoader(doubled.dataset, batch_sampler=doubled.batch_sampler, collate_fn=doubled.collate_fn)) == [
        0,
        2,
        4,
        6,
    ]


class Rows(TorchDataset):
    """Whatever rows there are."""

    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def test_numbers_of_several_kinds():
    """A column that begins with a whole number is of real numbers where others are, and nothing is cut off unseen."""
    assert vb.Dataset.of(Rows(0, 0.5, 1, 0.75)).first[:].tolist() == [0.0, 0.5, 1.0, 0.75]
    assert vb.Dataset.of(Rows(True, False, 3)).first[:].tolist() == [1, 0, 3]
    for rows, said in (
        ((1, 0.5, 2, 3), "integers for 'x' at first, and real numbers later"),
        ((True, 3, True, False), "booleans for 'x' at first, and integers later"),
    ):
        data = vb.Dataset.of(Rows(*rows))
        with pytest.raises(vb.errors.BadData, match=said):
            data.first[:]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((torch.zeros(2), torch.zeros(3)), "whose 'x' differ: \\(2,\\) in row 0, \\(3,\\) in row 1"),
        (({"a": 1}, {"b": 1}), "whose 'a' differ: \\(\\) in row 0, none in row 1"),
        ((None, 1.0), "can't be collated \\(default_collate"),
    ],
)
def test_rows_that_are_not_alike(rows, said):
    with pytest.raises(vb.errors.BadData, match=said):
        vb.Dataset.of(Rows(*rows))


def test_rows_further_on_that_are_not_alike():
    for rows, said in (
        ([torch.zeros(2), torch.zeros(3), torch.zeros(2), torch.zeros(2)], "can't be collated"),
        ([{"a": 1}, {"b": 1}, {"a": 1}, {"a": 1}], "can't be collated"),
    ):
        data = vb.Dataset.of(Rows(*rows))
        with pytest.raises(vb.errors.BadData, match=said):
            data.first[:]
