"""What grows with the minibatch has to be scaled to the whole: in the plate "data", in a plate that scales itself, or under a handler."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb

X = torch.linspace(-1.0, 1.0, 12)


def guide(x):
    pyro.sample("w", dist.Normal(pyro.param("w.loc", torch.tensor(0.1)), 1.0))


def second_plate(x, w, rows):
    with pyro.plate("other", len(x)):
        pyro.sample("y", dist.Normal(w, 1.0), obs=x)


def event(x, w, rows):
    pyro.sample("y", dist.Normal(w, 1.0).expand([len(x)]).to_event(1), obs=x)


def loop(x, w, rows):
    for i in range(len(x)):
        pyro.sample("y" if i == 3 else f"y{i}", dist.Normal(w, 1.0), obs=x[i])


def same_plate(x, w, rows):
    with rows:
        pyro.sample("y", dist.Normal(w, 1.0), obs=x)


def handler(x, w, rows):
    with pyro.poutine.scale(scale=12 / len(x)), pyro.plate("other", len(x)):
        pyro.sample("y", dist.Normal(w, 1.0), obs=x)


def not_of_the_rows(x, w, rows):
    with pyro.plate("other", 4):
        pyro.sample("y", dist.Normal(w, 1.0), obs=torch.ones(4))


def computed(x, w, rows):
    pyro.sample("y", dist.Delta(x * w).to_event(1), obs=x * w)


def masked_out(x, w, rows):
    with pyro.poutine.mask(mask=False):
        pyro.sample("y", dist.Normal(w, 1.0).expand([len(x)]).to_event(1), obs=x)


def pair(more) -> vb.Pair:
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        rows = pyro.plate("data", len(x))
        with rows:
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)
        more(x, w, rows)

    return vb.Pair(model, guide, name="more")


@pytest.mark.parametrize("more", [second_plate, event, loop])
def test_rows_outside_the_plate_are_an_error(more):
    """Half of the likelihood used to count 12/4 times, the other half once."""
    with pytest.raises(
        vb.errors.BadPair, match="'y' of pair 'more' would grow with the minibatch outside of the plate"
    ):
        vb.fit(pair(more), X, batch_size=4, steps=1, progress=False)
    assert vb.fit(pair(more), X, steps=1, progress=False).steps == 1  # all rows need no scale


@pytest.mark.parametrize("more", [same_plate, handler, not_of_the_rows, computed, masked_out])
def test_what_is_scaled_or_does_not_grow_is_not(more):
    assert vb.fit(pair(more), X, batch_size=4, steps=1, progress=False).steps == 1
