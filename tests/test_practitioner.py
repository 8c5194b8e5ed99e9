"""A day of somebody with a file and a hierarchical model: from the CSV to a prediction of groups that nobody has seen, and the page about it.

The same at a terminal is `tests/cli/test_tables.py`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest

COUNTIES = ["Aitkin", "Anoka", "Becker", "Benton", "Brown", "Carlton", "Carver", "Cass"]
A_DAY = """
import arviz as az
import pandas as pd
import vbayes as vb
frame = pd.read_csv("radon.csv")
vb.check(vb.Pair(model), frame)
fit = vb.fit(model, frame, progress=False)
said = fit.verdict()
found = fit.predict(pd.DataFrame({"county": ["Aitkin", "Dakota"], "floor": [1.0, 1.0]}), interval=0.8)
idata = fit.to_arviz(predictions=found, draws=500)
summary, table = az.summary(idata, kind="stats"), found.to_dataframe()
page = fit.report("report", predictions=found)
"""


def model(county, floor, log_radon=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("county", len(COUNTIES)):
        a = pyro.sample("a", dist.Normal(mu, tau))
    with pyro.plate("data", len(floor)):
        pyro.sample("log_radon", dist.Normal(a[county] + slope * floor, sigma), obs=log_radon)


def radon(path) -> dict[str, float]:
    """A file of 160 houses, and what it was made from."""
    rng = np.random.default_rng(7)
    level = dict(zip(COUNTIES, rng.normal(1.4, 0.6, len(COUNTIES)), strict=True))
    county, floor = rng.choice(COUNTIES, 160), rng.integers(0, 2, 160)
    y = np.array([level[name] for name in county]) - 0.7 * floor + rng.normal(0, 0.4, 160)
    pd.DataFrame({"county": county, "floor": floor.astype(float), "log_radon": y}).to_csv(path, index=False)
    return level


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # ArviZ 0.23 says at its import that 1.x will come
def test_from_a_csv_to_a_prediction(tmp_path, monkeypatch, capsys):
    level = radon(tmp_path / "radon.csv")
    monkeypatch.chdir(tmp_path)
    scope = {"model": model}
    exec(compile(A_DAY, "a day", "exec"), scope)
    fit, found, table, summary = (scope[name] for name in ("fit", "found", "table", "summary"))
    assert "county" in capsys.readouterr().out and "onverged" in scope["said"]
    for name, truth in level.items():  # some twenty houses each
        row = summary.loc[f"a[{name}]"]
        assert abs(row["mean"] - truth) < 5 * 0.4 / 10**0.5
    assert abs(summary.loc["slope", "mean"] + 0.7) < 0.35
    assert found.new_groups == {"county": ("Dakota",)} and "drawn from the population: Dakota" in found.verdict()
    known, new = table.set_index("county").loc[["Aitkin", "Dakota"]].itertuples()
    assert abs(known.mean - (level["Aitkin"] - 0.7)) < 0.5 and known.sd < new.sd
    assert scope["idata"]["predictions"]["log_radon"].shape == (1, 1000, 2)
    assert "log_radon" in scope["idata"]["observed_data"] and "predictions" not in scope["idata"]["posterior"]
    assert list(scope["idata"]["predictions_constant_data"]["floor"].values) == [1.0, 1.0]
    assert list(pd.read_csv("report/predictions.csv").county) == ["Aitkin", "Dakota"]
    text = scope["page"].read_text(encoding="utf-8")
    assert "drawn from the population: Dakota" in text and scope["said"][:20] in text
    assert text.count("<img") >= 2
