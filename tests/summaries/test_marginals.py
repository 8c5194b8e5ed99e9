"""Draws as a table."""

from __future__ import annotations

import numpy as np
import pytest

from vbayes.summaries.marginals import marginals


def test_elements_with_their_labels():
    draws = {"mu": np.arange(101.0), "a": np.stack([np.zeros(101), np.arange(101.0)], 1), "w": np.ones((101, 1, 2))}
    table = marginals(draws, {"a": ("county",), "w": ("county",)}, {"county": ("Aitkin", "Anoka")})
    assert list(table.element) == ["mu", "a[Aitkin]", "a[Anoka]", "w[0, 0]", "w[0, 1]"]
    assert list(table.site) == ["mu", "a", "a", "w", "w"]
    mu = table.iloc[0]
    assert (mu["mean"], mu["5%"], mu["95%"]) == (50.0, 5.0, 95.0) and mu.sd == pytest.approx(np.arange(101).std(ddof=1))
    assert table.iloc[2].drop(["site", "element"]).equals(mu.drop(["site", "element"]))
