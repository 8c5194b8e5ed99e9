"""Which gradient estimator trains fastest from the same start, by steps and by time?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from course.answers import above, every, head

import vbayes as vb
from vbayes import plots
from vbayes.summaries import ranking
from vbayes.summaries.ties import chance

BY_PATH = ("pathwise", "analytic_kl", "stl")
PROBLEMS = {
    "digits": (vb.pairs.vae, vb.data.digits, {"batch_size": 100, "learning_rate": 1e-3}),
    "eight_schools": (vb.pairs.eight_schools, vb.data.eight_schools, {"learning_rate": 0.02}),
}


def measure(*, problem: str, steps: int, seeds: int, evaluations: int) -> pd.DataFrame:
    """The learning curve of each run: the ELBO at each evaluation, with the same draws for all estimators."""
    if problem not in PROBLEMS:
        raise vb.errors.UnknownName("problem", problem, PROBLEMS)
    pair, data, options = PROBLEMS[problem]
    methods = ["score", "rloo", *BY_PATH]
    before = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # on a busy machine several threads wait for each other, a thousand times as long as a step takes
    try:
        race = vb.race(
            pair(), data(), methods, steps=steps, seeds=seeds, evaluations=evaluations, compile=True, **options
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    return race.to_dataframe()


def entries(table: pd.DataFrame) -> list[ranking.Entry]:
    """The estimators, with the seeds of their runs that became NaN or infinite."""
    left = table[table.elbo_per_datum.isna()]
    return [
        ranking.Entry(name, "ELBO", "machine code", math.nan, tuple(f"seed {s}" for s in left[left.estimator == name].seed))
        for name in dict.fromkeys(table.estimator)
    ]  # fmt: skip


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each estimator: ELBO per datum after equal steps and after equal seconds, and milliseconds per step."""
    shown = ["estimator", "elbo_at_steps", "elbo_at_steps_se", "elbo_at_seconds", "elbo_at_seconds_se", "ms_per_step"]
    return ranking.summary(table, entries(table))[shown]


def verdict(table: pd.DataFrame) -> str:
    checks = {
        f"the score is behind by {axis}": _behind(ranking.at_equal(table, axis)[1]) for axis in ("step", "seconds")
    }
    return f"{head(checks)}: {ranking.verdict(table, entries(table))}"


def _behind(values: pd.DataFrame) -> bool | None:
    """Whether the score function is behind each estimator with a path, by more than chance, paired by seed: all must be clear, so that each is a test by itself."""
    gaps = [values[name] - values["score"] for name in BY_PATH]
    return every(above(gap.mean(), gap.sem(), sure=chance(len(gap), 2)) for gap in gaps)


def figure(table: pd.DataFrame) -> plt.Figure:
    return plots.race(table)


experiment = vb.Experiment(
    question="Which gradient estimator trains fastest from the same start, by steps and by time?",
    claim="Pathwise estimators are ahead of the score function without a baseline, after equal steps and after equal time.",
    measure=measure,
    full={"problem": "digits", "steps": 10_000, "seeds": 5, "evaluations": 25},
    quick={"steps": 1000, "seeds": 3, "evaluations": 12},
    figure=figure,
    verdict=verdict,
    notes="Adam, with minibatches of 100 and learning rate 0.001 on the digits, all rows and 0.02 on eight schools. Seconds are those of training on one thread: neither "
    "compilation nor the evaluations of the ELBO count.",
    summary=summary,
)
