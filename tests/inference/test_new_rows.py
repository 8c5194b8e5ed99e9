"""The rows of a table that is to be predicted: which columns are needed, and whether its rows keep their names."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.inference.trained import trained

X = torch.linspace(-1.0, 1.0, 4)
DATA = {"x": X, "z": X + 2, "y": 2 * X}


def model(x, z, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(w * x + z, 0.5), obs=y)


def guide(x, z, y=None):
    pyro.sample("w", dist.Normal(2.0, 0.1))


def test_what_is_missing_and_not_needed_is_not_asked_for():
    with pytest.raises(vb.errors.BadData, match="lacks 'z', and"):  # and 'y', which is to be predicted
        vb.predict(trained(model, guide, DATA), {"x": X})
