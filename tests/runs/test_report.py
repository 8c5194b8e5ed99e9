"""The page: complete, self-contained, safe, and readable on a phone."""

from __future__ import annotations

import html
import json
import re
import shutil

import pytest
from matplotlib import pyplot

import vbayes as vb
from tests.browser import found_in
from tests.comparison_table import made
from vbayes.runs.index import index
from vbayes.runs.picture import save_figure, told
from vbayes.runs.report import pictures as pictures_of


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison of a pair with an unfriendly name, and its figure."""
    folder, result = tmp_path_factory.mktemp("comparison"), made(pair="<b>bold</b>")
    result.save(folder / "comparison.json")
    figure = result.plot()
    figure.savefig(folder / "comparison.png", dpi=60)
    pyplot.close(figure)
    return result, folder


@pytest.fixture
def run(tmp_path, comparison):
    """A run folder of `vbayes compare`."""
    result, folder = comparison
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "history.csv").write_text("step,epoch,elbo,elbo_per_datum,seconds\n1,1,-80,-40,0.5\n2,1,-60,-30,1.0\n")
    config = {"command": "compare", "pair": result.pair, "data": "digits", "estimators": list(result.estimators)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "environment.json").write_text(json.dumps({"python": "3.11", "a_long_value": "x" * 300}))
    return tmp_path


def test_it_holds_everything(run):
    page = vb.report(run)
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert page == run / "report.html" and made().verdict() in text
    for word in ("At the middle: step 100", "guide location", "analytic_kl", "9.00×10⁶", "+0.7", "history.csv", "3.11"):
        assert word in text, word
    assert not list(run.glob("*.part"))


def test_it_is_self_contained_and_safe(run):
    text = vb.report(run).read_text(encoding="utf-8")
    assert "<b>bold</b>" not in text and "&lt;b&gt;bold" in text
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sources and all(s.startswith("data:image/png;base64,") or "/" not in s for s in sources)
    assert "<link" not in text and "@import" not in text and "url(" not in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert text.count("<script") == 1 and not re.search("fetch|XMLHttp|import|WebSocket|https?:", script)


def test_the_best_row_is_marked(run):
    text = vb.report(run).read_text(encoding="utf-8")
    best = re.findall(r'<tr class="best"><td data-key="">(\w+)</td>', text)
    assert best == ["analytic_kl"] * 4 + ["stl"] * 8  # four groups at each of three points
    assert (
        text.count("<details open>") == 3 and text.count("<details>") == 9
    )  # of each point the whole gradient is open


def test_missing_numbers_are_dashes(run):
    made(bias_z=float("nan"), snr=float("-inf")).save(run / "comparison.json")
    text = vb.report(run).read_text(encoding="utf-8")
    assert '<td class="n" data-key="">–</td>' in text and '<td class="n" data-key="-Infinity">−∞</td>' in text


def test_a_training_run(run):
    (run / "comparison.json").unlink()
    (run / "config.json").write_text(
        json.dumps({"command": "train", "pair": "vae", "data": "digits", "estimator": "STL()"})
    )
    text = vb.report(run).read_text(encoding="utf-8")
    assert "A fit by STL()" in text and "2 steps in 1.0 s" in text and "−30.0000 nats" in text


def test_what_was_changed_and_what_went_wrong(run):
    (run / "comparison.json").unlink()
    config = {
        "command": "train",
        "pair": "vae",
        "data": "digits",
        "estimator": "iwae(64)",
        "failed": "not finite at step 3",
    }
    config |= {
        "settings": {"latent": 10, "seed": None},
        "changed": {"latent": [5, 10], "estimator": ["analytic_kl", "iwae(64)"]},
    }
    (run / "config.json").write_text(json.dumps(config))
    text = vb.report(run).read_text(encoding="utf-8")
    assert "<tr><td>latent</td><td>5</td><td>10</td></tr>" in text and "latent = 10, seed = –" in text
    assert "This fit is ruined" in text and "not finite at step 3" in text


def test_tables_of_experiments_have_numbers_to_the_right_and_no_lists(run):
    (run / "comparison.json").unlink()
    results = {
        "question": "Q?",
        "claim": "C.",
        "verdict": "V.",
        "notes": "",
        "columns": ["pair", "elbo_se", "curve", "few", "ok"],
    }
    results["rows"] = [["vae", 2, [0.1] * 200, [1, 2], True], ["pca", -1234567.0, [0.1], [3], False]]
    (run / "results.json").write_text(json.dumps(results))
    text = vb.report(run).read_text(encoding="utf-8")
    assert "0.1, 0.1" not in text and "Lists, which table.csv has: curve." in text
    assert (
        '<th class="n">SE of ELBO (nats)</th>' in text and '<td class="n" data-key="-1234567.0">−1.23×10⁶</td>' in text
    )
    assert "<th>pair</th>" in text and '<td data-key="">1, 2</td>' in text and '<td data-key="">yes</td>' in text


def test_the_index_has_a_thumbnail_beside_each_verdict(run, tmp_path):
    folder = tmp_path / "runs" / "a run"
    shutil.copytree(run, folder, ignore=lambda *_: ["runs"])
    vb.report(folder)
    bare = tmp_path / "runs" / "bare"
    shutil.copytree(folder, bare, ignore=lambda *_: ["comparison.png"])
    text = index(tmp_path / "runs").read_text("utf-8")
    assert 'class="chart" src="a%20run/comparison.png"' in text and text.count("<img") == 1
    assert '<section class="bare">' in text and html.unescape(text).count(made().verdict()) == 2


def test_a_figure_says_of_itself_what_it_shows(tmp_path):
    """Axes are its caption; one with pictures keeps its colours on a dark page."""
    for name, pictures in (("figure.png", False), ("figure-002-seed=1.png", True)):
        figure, ax = pyplot.subplots(figsize=(2, 2))
        ax.set(xlabel="particles K", ylabel="variance (nats²)")
        if pictures:
            ax.imshow([[0, 1]])
        save_figure(figure, tmp_path / name)
    sweep, plain = pictures_of(tmp_path)
    assert plain["caption"] == "Variance (nats²) against particles K" and plain["chart"]
    assert sweep["caption"] == "seed=1: Variance (nats²) against particles K" and not sweep["chart"]
    content = (tmp_path / "figure.png").read_bytes()
    for damaged in (b"", content[:20], content[:40], b"\x89PNG", content[:8] + b"\xff" * 60):
        assert told(damaged) in ({}, told(content))


def test_bad_folders(run, tmp_path):
    with pytest.raises(vb.errors.BadInput, match="There is no file or folder .*nowhere"):
        vb.report(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(vb.errors.BadInput, match="is not a run folder"):
        vb.report(tmp_path / "other")
    (run / "comparison.json").write_text("{ broken")
    with pytest.raises(vb.errors.BadInput, match="comparison.json can't be read"):
        vb.report(run)
    assert not (run / "report.html").exists()


def test_a_page_that_cannot_be_written(run, monkeypatch):
    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(vb.errors.OutputUnwritable, match="disk full"):
        vb.report(run)


def test_on_a_phone(run, tmp_path):
    """Headless Chromium lays the page out 390 pixels wide: nothing sticks out, pictures load, and a click on a heading sorts."""
    page = vb.report(run).read_text(encoding="utf-8")
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(
        f'<iframe id="phone" style="width:390px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        """<pre id="found"></pre><script>
        const frame = document.getElementById("phone");
        frame.onload = () => {
          const page = frame.contentDocument, root = page.documentElement;
          const pictures = [...page.images].map((i) => i.naturalWidth);
          const table = page.querySelector("table.sortable");
          const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
          const sorted = [order()];
          for (const column of [1, 1, 0]) { table.tHead.rows[0].cells[column].querySelector("button").click(); sorted.push(order()); }
          document.getElementById("found").textContent = JSON.stringify(
            {scroll: root.scrollWidth, client: root.clientWidth, title: page.querySelector("h1").innerText, pictures, sorted});
        };
        </script>""",
        encoding="utf-8",
    )
    found = found_in(wrapper, milliseconds=5000)
    assert found["title"] == "<b>bold</b> on digits"
    assert found["scroll"] <= found["client"] <= 390
    assert len(found["pictures"]) == 1 and found["pictures"][0] > 100
    rising = ["analytic_kl", "stl", "pathwise", "score"]
    assert found["sorted"] == [list(made().estimators), rising, rising[::-1], sorted(rising)]
