"""Workers of a sweep on a machine with several cards."""

from __future__ import annotations

import multiprocessing
from contextlib import nullcontext
from types import SimpleNamespace

import joblib
import pytest
import torch

from vbayes.runs.card import own_card


def chosen(monkeypatch, name: str, cards: int) -> int | None:
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name=name))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "device", lambda number: number)
    found = own_card()
    return None if isinstance(found, nullcontext) else found


def test_workers_have_the_cards_in_turn(monkeypatch):
    found = [chosen(monkeypatch, f"LokyProcess-{number}", 2) for number in (1, 2, 3, 4)]
    assert found == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "cards"),
    [("LokyProcess-2", 1), ("LokyProcess-2", 0), ("MainProcess", 2), ("Dask Worker process (from Nanny)-1", 2)],
)
def test_who_has_no_choice(monkeypatch, name, cards):
    assert chosen(monkeypatch, name, cards) is None


def its_name(_: int) -> str:
    import multiprocessing
    import time

    time.sleep(0.2)
    return multiprocessing.current_process().name


@pytest.mark.slow
def test_joblib_counts_its_workers():
    names = set(joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(its_name)(number) for number in range(6)))
    numbers = sorted(int(name.removeprefix("LokyProcess-")) for name in names)
    assert len(numbers) == 2 and numbers[1] - numbers[0] == 1
