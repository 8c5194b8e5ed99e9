"""A fit as a folder with a page, or as the page alone."""

from __future__ import annotations

import re

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb


@pytest.fixture(scope="module")
def fit():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    made = vb.fit(model, torch.tensor([0.5, 1.5]), vb.IWAE(8), steps=30, compile=False, progress=False)
    made.diagnose(draws=200)
    return made


def test_a_name_of_a_page_gets_the_page_alone(fit, tmp_path):
    """It used to become a folder called x.html."""
    page = fit.report(tmp_path / "x.html")
    assert page == tmp_path / "x.html" and page.is_file() and list(tmp_path.iterdir()) == [page]
    text = page.read_text(encoding="utf-8")
    assert fit.verdict().split(".")[0] in text and text.count("data:image/png") == 2
    assert "Files" not in text and not re.search(r'href="(?!#|https?:)', text), "nothing lies beside it"
    assert "IWAE(8) per datum at the last step" in text and "ELBO per datum" not in text
    assert "guide: full-rank normal" in text and "Guide: full-rank normal." in text
    mean, sd = (float(found["mu"]) for found in (fit.posterior(draws=4000).mean(), fit.posterior(draws=4000).std()))
    row = re.search(r">mu</td>.*?>([\d.−-]+)</td>.*?>([\d.]+)</td>", text, re.S)
    assert "<h2>Estimates</h2>" in text and row
    assert float(row[1].replace("−", "-")) == pytest.approx(mean, abs=0.1) and float(row[2]) == pytest.approx(
        sd, rel=0.1
    )
    assert fit.report(page) == page, "in place of the older one"


def test_a_folder_of_that_name_is_not_written_over(fit, tmp_path):
    (tmp_path / "x.html").mkdir()
    with pytest.raises(
        vb.errors.OutputUnwritable, match=r"x\.html is an existing folder, .* Fix: remove it, or fit\.report\('"
    ):
        fit.report(tmp_path / "x.html")


def test_the_table_of_predictions_keeps_the_labels_of_the_rows(tmp_path):
    def model(x, y=None):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    made = vb.fit(model, {"x": torch.tensor([0.5, 1.5]), "y": torch.tensor([0.4, 1.2])}, steps=2, progress=False)
    for index in (["b", "a"], None):
        new = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(index, name="who") if index else None)
        page = made.report(tmp_path / str(index), predictions=made.predict(new, draws=5, method="guide"), draws=2)
        table = pd.read_csv(page.parent / "predictions.csv")
        assert list(table.columns[:2]) == (["who", "data"] if index else ["data", "x"])
        assert not index or list(table.who) == index
