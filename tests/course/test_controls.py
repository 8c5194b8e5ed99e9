"""Controls of the course: with the library's part broken the check of its name decides, and what has no error is not judged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import vbayes as vb
from vbayes.estimators.estimate import Estimate
from vbayes.exact.hidden_markov import em, messages, paths
from vbayes.guides import point
from vbayes.runs.experiment import load

COURSE = Path(__file__).parents[2] / "experiments" / "course"
CHAINS = {"lengths": [100, 1000], "states": [2], "rounds": 2, "seconds": 0.1, "recursion_up_to": 100, "learnt_from": 1000}  # fmt: skip
RIGHT = [f"{what} is right" for what in ("recognition", "segmentation", "learning", "best path")]


@contextmanager
def measured(name: str, **settings: Any) -> Iterator[tuple[vb.Experiment, pd.DataFrame]]:
    with load(COURSE / f"{name}.py") as experiment, vb.seeded(0):
        yield experiment, experiment.measure(**{**experiment.full, **experiment.quick, **settings})


def decided(verdict: str) -> str:
    return verdict.split(": ")[0]


def plain_evidence(initial, transition, emission, lengths=None) -> torch.Tensor:
    """A product of probabilities, as they are."""
    message = (initial + emission[:, 0]).exp()
    for t in range(1, emission.shape[1]):
        message = message @ transition.exp() * emission[:, t].exp()
    return message.sum(-1).log()


BROKEN = {
    "recognition is right": (messages, "log_evidence", plain_evidence),
    "segmentation is right": (messages, "backward", lambda i, t, emission, lengths=None: torch.zeros_like(emission)),
    "best path is right": (paths, "viterbi", lambda i, t, emission, lengths=None: (emission.argmax(-1), None)),
    "learning is right": (em, "shares", lambda counts, otherwise: otherwise),
}


@pytest.mark.parametrize("check", BROKEN)
def test_answers_on_long_chains_that_are_wrong(check, monkeypatch):
    monkeypatch.setattr(*BROKEN[check])
    with measured("06_long_chains", **CHAINS) as (experiment, table):
        assert check in decided(experiment.verdict(table))


def test_times_that_grow_with_the_square_and_times_that_nobody_knows():
    with measured("06_long_chains", **CHAINS) as (experiment, table):
        said = decided(experiment.verdict(table))
        assert said.startswith("Fails here (the chain is long") and not any(check in said for check in RIGHT)
        known = table.assign(steps=1000 * table.steps, ms=table.steps.where(table.engine == "scan", 9e9) / 1000, ms_se=0.0)  # fmt: skip
        assert experiment.verdict(known).startswith("Holds: ")
        assert "the time of learning grows linearly" in decided(experiment.verdict(known.assign(ms=known.ms**2)))
        assert experiment.verdict(known.assign(ms_se=9 * known.ms)).startswith("Can't tell (")
        away = known.assign(above_truth=-known.above_truth)
        assert experiment.verdict(away).startswith("Fails here (EM ends in a maximum)")
        drawing = experiment.figure(table)
        drawing.canvas.draw()
        plt.close(drawing)


@pytest.mark.slow
def test_a_search_in_other_coordinates_and_a_q_that_is_a_point(monkeypatch):
    """Without log q in it, the ELBO has its maximum at a point."""
    right = point.density_of
    monkeypatch.setattr(point, "density_of", lambda *a, volume, **k: right(*a, volume=True, **k))
    monkeypatch.setattr(vb.STL, "estimate", lambda self, p: Estimate.of(p.log_p.mean(0)))
    with measured("06_point_or_posterior", sizes=[1], repeats=500, steps=800) as (experiment, table):
        said = decided(experiment.verdict(table))
        assert "find_map finds the mode on paper" in said and "loses less than a quarter as much" in said
        ahead = experiment.verdict(table.assign(loss=table.loss.where(table.learnt != "q(θ)", -1.0)))
        assert "no q(θ) predicts better than the exact posterior" in decided(ahead)
        drawing = experiment.figure(table)
        drawing.canvas.draw()
        plt.close(drawing)


def test_a_chain_that_is_not_stuck_and_one_that_always_is():
    with measured("10_sampling_fails_on_multimodal_q", maxima=[1, 2], draws=[10, 300], repeats=300, chains=100) as (
        experiment,
        table,
    ):
        assert experiment.verdict(table).startswith("Holds within bounds (not: independent draws err too)")
        chain = table.draws == "chain"
        free = table.assign(error=table.error.where(~chain, table.law))
        assert experiment.verdict(free).startswith("Fails here (a chain is stuck behind 32 nats)")
        stuck = table.assign(error=table.error.where(~chain, 1.0))
        assert experiment.verdict(stuck).startswith("Fails here (and not behind 0.5; with one maximum it is not)")
        one = table.assign(error_se=table.error_se.where(~chain))
        assert experiment.verdict(one).startswith("Can't tell (") and "nan" not in experiment.verdict(one)


def trainings(gain: dict[int, float], seeds: int) -> pd.DataFrame:
    """Of minibatches → what four draws gain on one."""
    rows = []
    for size, more in gain.items():
        for seed in range(seeds):
            for count, equal in ((1, "steps"), (4, "steps"), (4, "evaluations")):
                value = -20 + 0.01 * seed * count + more * (count > 1)
                rows.append({"batch_size": size, "L": count, "equal": equal, "seed": seed, "elbo_per_datum": value})
    return pd.DataFrame(rows)


def test_minibatches_on_which_one_draw_is_not_enough():
    with load(COURSE / "13_one_sample_per_token_is_enough.py") as experiment:
        say = experiment.verdict
        assert say(trainings({3: -1.0, 100: -1.0}, 3)).startswith("Holds: ")
        small = say(trainings({3: 1.0, 100: -1.0}, 3))
        assert small.startswith("Holds within bounds (not: nor with minibatches of 3)")
        assert small.endswith("At the same cost more draws pay with minibatches of 3.")
        assert say(trainings({3: -1.0, 100: 1.0}, 3)).startswith("Fails here (more draws gain nothing at the same cost)")  # fmt: skip
        one = say(trainings({3: 1.0, 100: 1.0}, 1))
        assert one.startswith("Can't tell (") and "nan" not in one
