"""Observed values without a density: the error names site, row and argument, not the guide that found no start."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.data.dataset import Batch
from vbayes.pair.density import require_density

TABLE = pd.DataFrame({"exposure": [1.0, 2.0, 0.5, 1.5], "claims": [1, 0, 2, 3], "claimed": [1, 0, 1, 1]})


def counts(exposure, claims):
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    with pyro.plate("data", len(exposure)):
        pyro.sample("claims", dist.Poisson(rate * exposure), obs=claims)


def whether(exposure, claimed):
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(exposure)):
        pyro.sample("y", dist.Bernoulli(logits=shift + exposure), obs=claimed)


@pytest.mark.parametrize(
    ("model", "table", "said"),
    [
        (counts, TABLE.assign(claims=[1, 0, -1, 3]), r"Site 'claims': the data have a value \(-1\) outside the support.*from -1 to 3. Choose"),
        (counts, TABLE.assign(exposure=[1.0, 2.0, 0.5, 0.0]), r"Site 'claims' is -inf at row 3 at each of 10 draws from the prior: its Poisson .* exposure = 0, claims = 3\. "),
        (whether, TABLE, r"Site 'y': Bernoulli has no density for values \(4,\) int64.*those of 'claimed': table\['claimed'\]\.astype\(float\), or obs=claimed\.float"),
    ],
    ids=["outside the support", "impossible", "integers"],
)  # fmt: skip
def test_what_has_no_density_is_named(model, table, said):
    with pytest.raises(vb.errors.BadPair, match=said):
        vb.fit(model, table, progress=False, device="cpu")


def test_what_is_possible_passes():
    """Also a row that is masked out, and one that only some draws exclude."""

    def ends(x, known):
        top = pyro.sample("top", dist.Uniform(0.0, 2.0))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=known):
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([len(x)]), obs=x)
            pyro.sample("y", dist.Bernoulli((top > 1).float().expand(len(x))), obs=x.round())

    x = torch.tensor([0.0, 1.0, float("inf")])
    require_density(vb.Pair(ends), Batch((x, torch.isfinite(x))))
