"""Runs side by side: what differs, and what came of it."""

from __future__ import annotations

import html
import json
import re

import pytest

import vbayes as vb
from tests.comparison_table import made
from vbayes.runs.against import against
from vbayes.runs.curves import curves, ticks


def run_of(folder, *, latent, elbo, verdict="Fine.", **more):
    """As `vbayes train` leaves it."""
    folder.mkdir()
    config = {
        "command": "train",
        "pair": "vae",
        "data": "digits",
        "estimator": "stl",
        "settings": {"latent": latent, "hidden": 8},
    }
    (folder / "config.json").write_text(json.dumps(config | more))
    (folder / "diagnosis.json").write_text(json.dumps({"verdict": verdict, "k_hat": 0.25, "effective": "inf"}))
    lines = [f"{step},{elbo - 100 / step}" for step in range(1, 201)]
    (folder / "history.csv").write_text("\n".join(["step,elbo_per_datum", *lines]))
    return folder


def test_what_differs_and_what_came_of_it(tmp_path):
    few = run_of(tmp_path / "few", latent=5, elbo=-20.0, verdict="Use `the` draws.", changed={"latent": [5, 5]})
    many = run_of(tmp_path / "many", latent=50, elbo=-30.0, estimator="iwae(64)")
    text = against([few, many], tmp_path / "page.html").read_text("utf-8")
    rows = [re.findall(r">([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
    assert ["latent", "5", "50"] in rows and ["estimator", "stl", "iwae(64)"] in rows
    assert not [row for row in rows if row and row[0] in ("hidden", "pair", "changed")]
    assert ["steps", "200", "200"] in rows and ["k̂", "0.250", "0.250"] in rows
    ends = next(row for row in rows if row and row[0].startswith("ELBO per datum"))
    assert ends[1:] == ["−20.5", "−30.5"]  # the mean of 100 / step over the last twenty is .52
    assert "Use <code>the</code> draws." in text and text.count("<polyline") == 2
    assert "The lines are not the same bound (few: stl; many: iwae(64))" in html.unescape(text)
    assert "The data differ" not in text


def test_what_a_line_and_a_sum_are_of(tmp_path):
    """An estimator of another objective is shown by its ELBO; a sum names its rows."""
    one = run_of(tmp_path / "one", latent=5, elbo=-20.0, bound="ELBO")
    other = run_of(tmp_path / "other", latent=5, elbo=-20.0, bound="ELBO", estimator="beta(4)")
    for folder in (one, other):
        (folder / "diagnosis.json").write_text(json.dumps({"verdict": "Fine.", "rows": 1000, "elbo": -2e4}))
    text = html.unescape(against([one, other], tmp_path / "page.html").read_text("utf-8"))
    assert "Each line is the ELBO, also where the estimator maximises something else." in text
    rows = [re.findall(r">([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
    assert ["rows diagnosed", "1000", "1000"] in rows and [
        "ELBO of the rows diagnosed (nats)",
        "−20,000",
        "−20,000",
    ] in rows


def test_what_can_not_be_compared_is_said(tmp_path):
    one, other = (run_of(tmp_path / name, latent=5, elbo=-20.0, data=name) for name in ("digits", "mnist"))
    text = html.unescape(against([one, other], tmp_path / "page.html").read_text("utf-8"))
    assert "The data differ, so the ELBOs of these runs can't be compared." in text


def test_two_comparisons(tmp_path):
    folders = []
    for name in ("a", "b"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        made().save(folders[-1] / "comparison.json")
        (folders[-1] / "config.json").write_text(json.dumps({"command": "compare", "pair": "vae", "data": "digits"}))
    text = against(folders, tmp_path / "page.html").read_text("utf-8")
    assert (
        "The settings are the same." in text and '<th class="n">variance, a</th><th class="n">variance, b</th>' in text
    )
    assert text.count("analytic_kl</td>") == 1


def test_damaged_and_unfriendly_folders(tmp_path):
    """What is missing or broken in one takes nothing from the other; names are text."""
    whole = run_of(tmp_path / "whole", latent=5, elbo=-20.0)
    broken = run_of(tmp_path / "<script>alert(1)", latent="<b>", elbo=-20.0)
    for name, content in {
        "history.csv": "step\n1,2,x",
        "diagnosis.json": "{",
        "comparison.json": '{"points": [3], "rows": 1}',
    }.items():
        (broken / name).write_text(content)
    text = against([whole, broken], tmp_path / "page.html").read_text("utf-8")
    assert text.count("<script") == 1 and "&lt;b&gt;" in text and text.count("<polyline") == 1
    with pytest.raises(vb.errors.BadInput, match="There is no file or folder .*nowhere"):
        against([whole, tmp_path / "nowhere"], tmp_path / "page.html")


@pytest.mark.parametrize(("low", "high"), [(0, 270), (-42.3, -20.1), (0, 1), (1e-9, 3e-9), (0, 1e7)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8 and low <= found[0] and found[-1] <= high
    step = found[1] - found[0]
    assert f"{step:.0e}"[0] in "125"


def test_lines_leave_their_frame_where_they_lie_below():
    drawn = curves(
        {"a": [(step, -1e6 if step < 9 else -step) for step in range(1, 1001)], "nothing": [(1, float("nan"))]}
    )
    left, top, right, bottom = drawn["frame"]
    points = [tuple(map(float, point.split(","))) for point in drawn["lines"]["a"].split()]
    assert list(drawn["lines"]) == ["a"] and 100 < len(points) <= 300
    assert all(left <= x <= right and top <= y for x, y in points)
    assert all(y > 2 * bottom for x, y in points[:2]) and sum(y > bottom for _, y in points) < 0.06 * len(points)
    assert len({y for _, y in points[2:]}) > 0.9 * len(points)  # no plateau
    assert curves({"a": [(1, 2.0)]}) is None
