"""Pages to play with, opened in a browser: their numbers are those of vbayes, and they answer to a reader's hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import vbayes as vb
from tests.browser import found_in
from vbayes.laboratory.pages import latent, watch_the_bound
from vbayes.laboratory.pages.page import FILES, filled
from vbayes.laboratory.pages.targets import correlated
from vbayes.summaries.joint import joint_limit

LARGEST = 2**20  # bytes


@pytest.fixture(scope="module")
def bound() -> str:
    return filled("bound", watch_the_bound.figures(replicas=4000))


@pytest.fixture(scope="module")
def space():
    x, label = torch.rand(40, 6).round(), torch.arange(40) % 3
    data = vb.Dataset({"x": x, "label": label}, image=(2, 3), support="binary", name="tiny")
    pair = vb.pairs.vae(features=6, hidden=4, latent=2, seed=0)
    return vb.fit(pair, data, steps=20, learning_rate=0.01, seed=0, device="cpu", progress=False)


def ask(page: str, script: str, folder: Path, *, width: int = 1280, hash: str = "") -> dict:
    """What a script that runs behind the page's own finds: it calls `answer(value)`."""
    tail = (
        '<pre id="found"></pre><script>const answer = (value) => {document.getElementById("found").textContent = JSON.stringify(value); parent.postMessage(JSON.stringify(value), "*");};'
        f"try {{ {script} }} catch (error) {{ answer({{error: String(error.stack)}}); }}</script>"
    )
    file = folder / "page.html"
    file.write_text(page.replace("</body>", f"{tail}</body>"), encoding="utf-8")
    if width < 500:  # than which no window is narrower
        frame = f'<pre id="found"></pre><script>onmessage = (event) => {{ document.getElementById("found").textContent = event.data; }};</script><iframe style="width: {width}px; height: 900px" src="page.html{hash}"></iframe>'
        file, hash = folder / "frame.html", ""
        file.write_text(frame, encoding="utf-8")
    found = found_in(file, f"--window-size={width},900", hash=hash)
    assert "error" not in found, found
    return found


CHECK = """
const off = [];
for (const about of FIGURES.targets) for (const point of about.points) {
  const t = target_of(about), q = {loc: point.loc, log_scale: point.log_scale, slope: point.slope}, {elbo, kl, gradient} = exact(t, q);
  const names = NAMES.filter((name) => about.closed || name !== "analytic_kl");
  const truth = [...point.gradient, 0].slice(0, 5);
  const right = measure(t, q, names, 1, {replicas: 2000, truth}), wrong = measure(t, q, names, 1, {replicas: 2000, truth, broken: "sign"});
  off.push({
    name: about.name, elbo: elbo - point.elbo, kl: kl - point.kl, gradient: Math.max(...truth.map((v, i) => Math.abs(v - gradient[i]))), size: Math.max(...truth.map(Math.abs)),
    right: Math.max(...names.map((n) => right[n].z)), wrong: Math.max(...["pathwise", "stl"].map((n) => wrong[n].z)),
  });
}
const ratios = FIGURES.variances.map((row) => {
  const about = FIGURES.targets.find((t) => t.name === row.target && (t.settings.correlation ?? 0.9) === 0.9), q = {...about.start, slope: null};
  const ours = measure(target_of(about), q, [row.estimator], 1, {replicas: 4000, seed: 7})[row.estimator].variance;
  return {...row, ours};
});
answer({off, ratios});
"""


@pytest.mark.slow
def test_the_page_computes_what_vbayes_computes(bound, tmp_path):
    """ELBO, KL and gradient at each q to the quadrature's error, means of draws within 5 SE of the exact gradient, variances those of the laboratory; a turned sign is seen."""
    found = ask(bound, CHECK, tmp_path)
    assert len(found["off"]) == 12 * 4
    for point in found["off"]:
        assert abs(point["elbo"]) < 1e-4 and abs(point["kl"]) < 1e-4, point
        assert point["gradient"] < 1e-3 * max(1, point["size"]), point
        assert point["right"] < 5, point
    for name in {point["name"] for point in found["off"]}:
        assert max(point["wrong"] for point in found["off"] if point["name"] == name) > 8, name
    assert len(found["ratios"]) == 24
    calm = [row for row in found["ratios"] if row["heaviest_block"] < 0.1]
    assert len(calm) > 15
    for row in calm:  # the page's own error is about as large
        assert abs(row["ours"] - row["variance"]) < 5 * 2**0.5 * row["variance_se"], row


def test_it_answers_to_a_hand(tmp_path):
    """Questions, drag, slider, keys; the address holds it all; nothing leaves the page; 1280 and 390 pixels wide."""
    figures = {"targets": [watch_the_bound.described(correlated(c)) for c in (0.1, 0.9)], "variances": []}
    bound = filled("bound", figures | {"chance": joint_limit(watch_the_bound.COMPONENTS)})
    script = """
    const out = {};
    const canvas = $("plane"), fire = (kind, [a, b]) => {
      const box = canvas.getBoundingClientRect(), at = place(VIEWS[state.target], box.width);
      canvas.dispatchEvent(new PointerEvent(kind, {clientX: box.left + at.x(a), clientY: box.top + at.y(b), pointerId: 1}));
    };
    out.hidden = [...hidden]; out.before = $("estimators").textContent.includes("?");
    $("choices").children[0].click();
    out.said = $("answer").textContent; out.shown = !$("estimators").textContent.includes("?");
    fire("pointerdown", here().loc); fire("pointermove", [0.5, 1.5]); fire("pointerup", [0.5, 1.5]);
    out.moved = here().loc;
    const [wide] = handles(here());
    fire("pointerdown", wide); fire("pointermove", [here().loc[0] + 0.25, wide[1]]); fire("pointerup", wide);
    out.stretched = Math.exp(here().log_scale[0]);
    $("correlation").value = 0; $("correlation").dispatchEvent(new Event("input"));
    out.correlation = state.correlation; out.split = $("split").textContent;
    canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"})); out.keyed = here().loc[0];
    for (let i = 0; i < 5; i++) canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "s"}));
    out.steps = ways.stl.elbos.length; out.address = location.hash;
    out.fits = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
    out.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
    answer(out);
    """
    found = ask(bound, f"ask(1); {script}", tmp_path)
    assert found["hidden"] == ["clouds"] and found["before"] and found["shown"]
    assert found["said"].startswith("No: sticking the landing. The variance ")
    assert found["moved"] == pytest.approx([0.5, 1.5], abs=1e-6) and found["stretched"] == pytest.approx(0.25, abs=1e-6)
    assert found["correlation"] == 0.1 and re.match(r"log p\(x\) -\d.* = ELBO -\d.* \+ KL \d", found["split"])
    assert found["keyed"] == pytest.approx(0.55) and found["steps"] == 5 and found["requests"] == [] and found["fits"]
    again = ask(
        bound,
        "answer({loc: here().loc, correlation: state.correlation, width: innerWidth, fits: document.documentElement.scrollWidth <= document.documentElement.clientWidth})",
        tmp_path,
        width=390,
        hash=found["address"],
    )
    assert again["correlation"] == 0.1 and abs(again["loc"][0] - 0.5) < 1 and again["fits"] and again["width"] <= 390
    at_posterior = """
    ask(2); $("choices").children[2].click(); const out = {split: $("split").textContent, rows: [...$("estimators").rows].map((row) => row.textContent)};
    ask(6); $("choices").children[0].click(); out.said = $("answer").textContent; out.table = document.querySelector("[data-verdict=pathwise]").textContent;
    out.verdicts = [[1, 2.5], [1, 3.2], [1, 6], [0, 0], [0, 6]].map(([variance, z]) => verdict({variance, z})); answer(out);
    """.replace("ask(6);", 'QUESTIONS[6].set.target = "correlated"; ask(6);')  # this page has no banana
    told = ask(bound, at_posterior, tmp_path)
    assert told["split"].endswith("+ KL 0.000 nats") and [row.endswith("0–right: no noise here") for row in told["rows"]] == [False, True, False, True, False]  # fmt: skip
    assert told["rows"][1].startswith("RLOO (2 draws)") and not any(
        "∞" in row or "biased" in row for row in told["rows"]
    )
    off = re.search(r"gradients is (\S+) standard errors off", told["said"])[1]
    assert told["table"] == f"biased: {off} SE off"
    assert told["verdicts"] == ["right: 2.5 SE off", "can't tell: 3.2 SE off", "biased: 6 SE off", "right: no noise here", "biased: no noise here"]  # fmt: skip
    assert len(bound.encode()) < LARGEST and "http" not in bound.replace("http-equiv", "")


@pytest.mark.slow
def test_each_answer_is_true(bound, tmp_path):
    """What a question calls right is what the page then shows."""
    script = """
    const sds = (q) => q.log_scale.map(Math.exp), out = {};
    QUESTIONS.forEach((question, i) => { ask(i); $("choices").children[question.right].click(); if ($("choices").children[question.right].className !== "right") throw new Error(i); out[i] = $("answer").textContent; });
    ask(0); $("choices").children[2].click(); out.narrow = sds(here())[0] / target.sds[0];
    ask(1); const seen = measure(target, here(), NAMES, 1, {replicas: 2000}); out.least = NAMES.reduce((a, b) => seen[a].variance < seen[b].variance ? a : b);
    ask(2); $("choices").children[2].click(); out.nothing = measure(target, here(), ["stl", "pathwise"], 1); out.nothing = [out.nothing.stl.variance, out.nothing.pathwise.variance];
    ask(3); $("choices").children[1].click(); out.mode = here().loc; out.kl = exact(target, here()).kl;
    ask(5); const level = (name) => measure({...target, log_p: (a, b) => target.log_p(a, b) - target.evidence}, here(), [name], 2).[name].variance / measure(target, here(), [name], 2)[name].variance;
    answer(out);
    """.replace(".[name]", "[name]").replace(
        "answer(out);",
        "out.level = ['score', 'rloo', 'pathwise'].map(level); ask(6); $('choices').children[0].click(); out.shrunk = Math.max(...sds(ways.pathwise.q)); answer(out);",
    )
    found = ask(bound, script, tmp_path)
    assert found["narrow"] == pytest.approx(0.19**0.5, rel=0.02)
    assert found["least"] == "stl" and found["nothing"][0] < 1e-20 and found["nothing"][1] > 0.1
    assert abs(found["mode"][0]) > 1.3 and found["kl"] == pytest.approx(0.6931, abs=0.01)
    score, rloo, path = found["level"]
    assert score < 0.5 and rloo == pytest.approx(1, abs=1e-6) and path == pytest.approx(1, abs=1e-9)
    assert found["shrunk"] < 0.15
    assert all(found[str(i)].startswith("Yes: ") and "NaN" not in found[str(i)] for i in range(7))


def test_the_latent_space(space, tmp_path):
    page = vb.page("latent", tmp_path / "space.html", fit=space)
    script = """
    const canvas = $("chart"), box = canvas.getBoundingClientRect();
    const drag = (kind) => canvas.dispatchEvent(new PointerEvent(kind, {clientX: box.left + box.width * 0.75, clientY: box.top + box.height / 4, pointerId: 1}));
    drag("pointerdown"); drag("pointermove"); drag("pointerup");
    answer({reach: REACH, z, ink: decode(z), label: FIGURES.labels[nearest(FIGURES.codes[4])], requests: performance.getEntriesByType("resource").length});
    """
    found = ask(page.read_text(encoding="utf-8"), script, tmp_path)
    assert found["z"] == pytest.approx([found["reach"] / 2, found["reach"] / 2]) and found["requests"] == 0
    decoded = vb.LatentSpace(space).decode(torch.tensor([found["z"]]))
    assert torch.tensor(found["ink"]) == pytest.approx(decoded.flatten(), abs=2e-3) and found["label"] == 1


def test_what_a_page_cannot_show(space, tmp_path):
    wide = vb.fit(vb.pairs.vae(features=6, latent=3), space.data, steps=1, device="cpu", progress=False)
    with pytest.raises(vb.errors.Unsuitable, match="3 latents and bernoulli outputs.*Wanted: a fit such as"):
        latent.figures(wide)
    with pytest.raises(vb.errors.BadInput, match="takes no fit"):
        vb.page("bound", fit=space)
    with pytest.raises(vb.errors.OutputUnwritable, match="in an existing folder"):
        vb.page("latent", tmp_path / "none" / "x.html", fit=space)
    with pytest.raises(vb.errors.BadInput, match="is not a page. Wanted: .bound. or .latent."):
        vb.page("elbo")


@pytest.mark.parametrize("which", FILES)
def test_the_documentation_has_the_pages_as_they_are_written_now(which):
    """But for their numbers, which `vbayes page bound --out docs/watch_the_bound.html` and `vbayes page latent --out docs/latent_space.html` make anew."""
    kept = (Path(__file__).parents[3] / "docs" / f"{FILES[which][0]}.html").read_text(encoding="utf-8")
    (figures,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', kept, re.S)
    assert kept == filled(which, json.loads(figures))
