"""Where a warning says that it comes from."""

from __future__ import annotations

import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb


def grey(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Bernoulli(logits=z.expand(len(x)), validate_args=False), obs=x)


def branching(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    if z > 0:
        z = z + 1
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "compile", "words"), [(grey, False, "under a Bernoulli"), (branching, True, "takes the steps one by one")]
)
def test_it_comes_from_the_users_own_line(model, compile, words):
    """However deep in vbayes, Pyro or torch it was found."""
    x = torch.tensor([0.2, 0.7])
    with pytest.warns(UserWarning, match=words) as caught:
        here = inspect.currentframe().f_lineno + 1
        vb.fit(model, x, guide="diagonal", steps=2, compile=compile, progress=False)
    assert {(each.filename, each.lineno) for each in caught if words in str(each.message)} == {(__file__, here)}
