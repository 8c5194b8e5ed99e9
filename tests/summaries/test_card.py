"""What results say of themselves: a few lines, the numbers that they hold, and text whatever a name looks like."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import vbayes as vb
from tests.comparison_table import made
from vbayes.pair.check import Site
from vbayes.summaries.card import WIDTH, Card, Displayable, counted, first_few, rounded, with_error
from vbayes.summaries.history import End
from vbayes.summaries.ranking import Entry
from vbayes.training.result import Progress

HOSTILE = "<script>alert('x')</script>\n& so on"
NAN = math.nan


def pair(name: str = "pear") -> vb.Pair:
    normal = vb.pairs.normal_normal()
    return vb.Pair(normal.model, normal.guide, name=name, exact=normal.exact)


def data(name: str = "fruit", rows: int = 40) -> vb.Dataset:
    return vb.Dataset({"x": torch.zeros(rows)}, name=name)


def fit(elbos: list[float], name: str = "pear", rows: int = 40, **options: Any) -> vb.Fit:
    history = tuple((i, 1 + i // 4, rows * elbo, elbo, 0.5 * i) for i, elbo in enumerate(elbos, start=1))
    start = Progress({})
    return vb.Fit(pair(name), data(name, rows), vb.STL(), 10, torch.optim.Adam, 1e-3, 0, start, history, **options)


def posterior(name: str, effective: Any) -> vb.Posterior:
    draws = {"z": torch.zeros(200, 40, 2), "scale": torch.zeros(200)}
    return vb.Posterior(draws, "guide", name, "fruit", effective=effective)


def race(name: str = "pear", **options: Any) -> vb.Race:
    rows = [
        {"estimator": e, "seed": s, "step": n, "seconds": 0.5 * n, "elbo_per_datum": -3.0 + n * gain}
        for e, gain in (("stl", 0.25), ("score", 0.125))
        for s in (0, 1)
        for n in range(5)
    ]
    entries = (Entry("stl", "ELBO", "Pyro", 0.1), Entry("score", "ELBO", "Pyro", 0.1, ("seed 0: ELBO at step 5",)))
    return vb.Race(name, "fruit", 10, (0, 1), "exact ELBO", entries, options.get("rows", tuple(rows)))


def recommendation(name: str, variance: float) -> vb.Recommendation:
    row = {"round": 3, "estimator": "stl", "variance": variance, "variance_se": 0.5, "ms_per_gradient": 0.25}
    return vb.Recommendation(vb.STL(), name, "fruit", 10, 7.5, 0.25, (row,), 12.0)


def noise_split(name: str, total: float) -> vb.NoiseSplit:
    row = {"batch_size": 10, "particles": 4, "minibatch": 3.0, "total": total}
    return vb.NoiseSplit(name, "stl", 40, (row,), 1.0, 2.0, 3.0)


def learnt(name: str, rows: tuple[Any, ...]) -> vb.MonteCarloEM:
    return vb.MonteCarloEM(
        pair(name), data(name), torch.zeros(3, 40, 1), None, 1, 5, torch.optim.Adam, None, 0, 0.25, rows
    )


def check(name: str) -> vb.Check:
    z, d, x = (
        Site(n, (40,), (("data", 40),), 1.0, path, "", kind)
        for n, path, kind in (("z", "yes", "yes"), ("d", "no", "yes"), ("x", "", "observed"))
    )
    return vb.Check(name, (z, d, x))


def evidence(name: str, value: float = -80.0, se: float = 0.5, direction: Any = "lower", **options: Any) -> vb.Evidence:
    return vb.Evidence(value, se, direction, value, math.inf, "bound of 5 particles", name, "fruit", 40, **options)


def impute(acceptance: float) -> vb.Imputation:
    return vb.Imputation(
        torch.zeros(4, 3), torch.eye(4)[:, :3], torch.zeros(7, 4, 3), torch.tensor([acceptance, 1.0, 1.0, 1.0])
    )


CASES: dict[str, tuple[Callable[[str], Displayable], list[str]]] = {
    "Fit": (lambda n: fit([-5.0] * 10 + [-4.0, -2.0], n), ["stl", "12 steps", "4 epochs", "of 10", "6 s", "-2 nats"]),
    "Restarts": (
        lambda n: vb.Restarts((fit([-5.0] * 20, n), fit([-4.0] * 20, n)), 20),
        ["2, of which 2 finished", "20 steps each", "restart 1: -4 ± 0 nats", "0.707 nats"],
    ),
    "Posterior": (
        lambda n: posterior(n, torch.tensor([80.0, 12.5])),
        ["200, by method 'guide'", "z (40, 2), scale ()", "12.5 independent draws for the worst datum"],
    ),
    "Comparison": (
        lambda n: made(n, bias_z=0.5),
        ["score, pathwise", "1,000 of each, of 100 rows", "start, middle, end", "stl"],
    ),
    "ComparisonOver": (lambda n: vb.ComparisonOver("width", {3: made(n), 5: made(n)}), ["width 3", "width 5", "stl"]),
    "Evidence": (
        lambda n: evidence(n, effective=np.array([3.5, 5.0])),
        ["-80 ± 0.5 nats, a lower bound", "-2 nats per datum, over 40 rows", "3.5 draws", "bound of 5 particles"],
    ),
    "Race": (
        race,
        ["stl, score", "stl: -2 ± 0 nats per datum after 2 s each", "exact ELBO", "became NaN or infinite  score"],
    ),
    "Recommendation": (lambda n: recommendation(n, 2.5), ["stl", "2.5 ± 0.5", "0.25 ms", "7.5 ± 0.25", "1 in 12 s"]),
    "NoiseSplit": (lambda n: noise_split(n, 6.0), ["M = 10, L = 4", "50 % of 6 nats²", "1 (1/M − 1/40) + 2 / (M L)"]),
    "MonteCarloEM": (
        lambda n: learnt(n, ((1, 1, -80.0, 0.75, 0.25, 3.0),)),
        ["1 step, 1 epoch of 40 rows, 3 s", "(3, 40, 1), accepted 0.75, step size 0.25", "-2 nats per datum"],
    ),
    "Check": (check, ["z (40,), d (40,)", "x (40,)", "data[40]", "score alone  d"]),
    "ModelComparison": (
        lambda n: vb.ModelComparison({n: evidence("p"), "b": evidence("p", -83.0, 0.0, "exact")}, {n: 0.5, "b": 0.5}),
        ["2 models on fruit", "-80 ± 0.5 nats (lower)", "-83 nats (exact), 3 ± 0.5 behind"],
    ),
    "Imputation": (lambda n: impute(0.2), ["(4, 3), 3 of 12 numbers uncertain", "7", "0.8 of the proposals, 0.2"]),
    "Reconstruction": (
        lambda n: vb.Reconstruction(torch.zeros(4, 3), torch.zeros(4, 2), torch.eye(4)[:, :3]),
        ["(4, 3)", "(4, 2)", "0.75 squared per datum, 1 at worst"],
    ),
    "Dataset": (lambda n: data(n), ["40 rows", "(40,) float32, real"]),
    "Pair": (lambda n: pair(n).initialise(vb.Batch((torch.zeros(2),))), ["3 numbers in loc, scale", "elbo, log evid"]),
}
NAMELESS = {"Imputation", "Reconstruction"}  # results that have no names


@pytest.mark.parametrize("kind", CASES)
def test_a_few_lines_with_the_numbers_of_the_object(kind):
    build, wanted = CASES[kind]
    shown = build("pear")
    assert type(shown).__name__ == kind
    lines = repr(shown).splitlines()
    assert lines[0].startswith(kind) and (kind in NAMELESS or "pear" in repr(shown))
    assert 2 <= len(lines) <= (6 if kind == "Fit" else 7) and max(map(len, lines)) <= WIDTH
    words = re.sub(r" {3,}", "  ", repr(shown))
    assert not [word for word in wanted if word not in words]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", shown._repr_html_())
    assert len(cells) == 2 * (len(lines) - 1)


@pytest.mark.parametrize("kind", sorted(set(CASES) - NAMELESS))
def test_a_name_is_text_whatever_it_looks_like(kind):
    shown = CASES[kind][0](HOSTILE)
    assert "<script" not in shown._repr_html_() and "&lt;script&gt;" in shown._repr_html_()
    assert len(repr(shown).splitlines()) <= 7 and max(map(len, repr(shown).splitlines())) <= WIDTH


AT_THE_EDGE: dict[str, Callable[[], Displayable]] = {
    "no steps": lambda: fit([]),
    "one step": lambda: fit([-3.0]),
    "a NaN": lambda: fit([-3.0] * 19 + [NAN]),
    "one row": lambda: fit([-3.0], rows=1),
    "stopped": lambda: fit([-3.0], interrupted=True, switches=((0, "stl"),)),
    "restarts without steps": lambda: vb.Restarts((fit([]), fit([])), 0),
    "a restart that ended early": lambda: vb.Restarts((fit([-3.0]), fit([])), 9),
    "exact draws": lambda: posterior("pear", None),
    "one weight": lambda: posterior("pear", torch.tensor(NAN)),
    "no draws": lambda: vb.Posterior({}, "guide", "pear", "fruit"),
    "nothing compared": lambda: dataclasses.replace(made(), rows=(), points=()),
    "NaN compared": lambda: made(variance=NAN, variance_time=NAN),
    "over nothing": lambda: vb.ComparisonOver("width", {}),
    "a value that is NaN": lambda: vb.ComparisonOver("width", {1: made(variance_time=NAN)}),
    "no evidence": lambda: evidence("pear", NAN, NAN, "between"),
    "exact evidence": lambda: evidence("pear", se=0.0, direction="exact"),
    "a race of nobody": lambda: dataclasses.replace(race(), entries=(), rows=()),
    "a race that nobody ended": lambda: race(rows=({**race().rows[0], "elbo_per_datum": NAN},)),
    "an unknown variance": lambda: recommendation("pear", NAN),
    "no rounds": lambda: dataclasses.replace(recommendation("pear", 1.0), rows=()),
    "no noise": lambda: noise_split("pear", 0.0),
    "no chains moved": lambda: learnt("pear", ()),
    "no sites": lambda: vb.Check("pear", ()),
    "a chain that stood": lambda: impute(NAN),
    "many models": lambda: vb.ModelComparison({str(i): evidence("p", NAN) for i in range(9)}, {}),
    "an untouched pair": pair,
    "many columns": lambda: vb.Dataset({f"x{i}": torch.zeros(2) for i in range(9)}),
}


@pytest.mark.parametrize("case", AT_THE_EDGE)
def test_it_never_fails(case):
    shown = AT_THE_EDGE[case]()
    lines = repr(shown).splitlines()
    assert len(lines) <= 7 and max(map(len, lines)) <= WIDTH and shown._repr_html_().count("<tr>") == len(lines) - 1
    assert "nan" not in repr(shown).lower()


def test_long_lines_end_in_an_ellipsis():
    card = Card("T" * 200, (("name", "v " * 200), ("longer name", "1")))
    title, first, second = card.text().splitlines()
    assert title.endswith("T…") and len(title) == len(first) == WIDTH and second == "  longer name  1"
    assert "…" not in card.html()


def test_a_history_is_told_by_its_end():
    rising = End.of([float(i) for i in range(100)])
    assert (rising.steps, rising.mean, rising.change) == (10, 94.5, 10.0)
    assert rising.se == pytest.approx(np.std(range(10), ddof=1) / 10**0.5)
    assert rising.change_se == pytest.approx(2**0.5 * rising.se)
    assert math.isnan(End.of([3.0]).change) and math.isnan(End.of([]).mean)


def test_numbers_in_words():
    assert [rounded(v) for v in (NAN, math.inf, 0.0, -1234.5678, 123456.7, 1e9)] == [
        "–", "inf", "0", "-1,234.6", "123,457", "1e+09"
    ]  # fmt: skip
    assert rounded(999.96, 3) == "1,000" == rounded(1000.4, 3) and rounded(0.99996, 3) == "1"
    assert rounded(150.4, 2) == "150" and with_error(-1.0, NAN) == "-1" and with_error(-1.0, 0.25) == "-1 ± 0.25"
    assert (counted(1, "step"), counted(2000, "step")) == ("1 step", "2,000 steps")
    assert first_few("abcdef", 4) == "a, b, c, d and 2 more" and first_few([]) == "–"
