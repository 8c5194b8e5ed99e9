"""What `pyro.infer.Trace_ELBO` refuses, estimators in plain `pyro.infer.SVI` refuse; what it computes, they compute."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate

import vbayes as vb

Y = torch.tensor([0.3, -0.2, 0.9, 1.4, 0.1])


@pytest.fixture(autouse=True)
def scratch(double):
    """A param store of the test's own, and Pyro's default: validation on."""
    with pyro.get_param_store().scope(), pyro.validation_enabled(True), vb.seeded(0):
        yield


def loc(*shape):
    return pyro.param("loc", lambda: torch.full(shape, 0.2, dtype=torch.float64))


def no_event():
    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=Y.double())

    return model, lambda: pyro.sample("z", dist.Normal(loc(5), 1.0))


def a_column_in_a_plate():
    def model():
        with pyro.plate("data", 5):
            z = pyro.sample("z", dist.Normal(torch.zeros(5, 1), 1.0))
            pyro.sample("y", dist.Normal(z[:, 0], 1.0), obs=Y.double())

    def guide():
        with pyro.plate("data", 5):
            pyro.sample("z", dist.Normal(loc(5, 1), 1.0))

    return model, guide


def a_square_of_terms():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([5, 1]).to_event(2))
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.double())

    return model, lambda: pyro.sample("z", dist.Normal(loc(5, 1), 1.0).to_event(2))


def plates_in_one_dim():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("a", 5, dim=-1), pyro.plate("b", 5, dim=-1):
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.double())

    return model, lambda: pyro.sample("z", dist.Normal(loc(), 1.0))


def an_observation_that_is_no_tensor():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=0.5)

    return model, lambda: pyro.sample("z", dist.Normal(loc(), 1.0))


def only_such_an_observation():
    return lambda: pyro.sample("y", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 1.0), obs=0.5), lambda: None


def other_shapes_in_the_guide():
    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.5))

    return model, lambda: pyro.sample("z", dist.Normal(loc(2), 1.0).to_event(1))


REFUSED = [
    no_event, a_column_in_a_plate, a_square_of_terms, plates_in_one_dim, an_observation_that_is_no_tensor, only_such_an_observation,
    other_shapes_in_the_guide,
]  # fmt: skip
ESTIMATORS = [vb.Trace(), vb.Pathwise(), vb.AnalyticKL(), vb.STL(), vb.Score(), vb.RLOO(num_particles=2), vb.IWAE(num_particles=3), vb.VarGrad(num_particles=2)]  # fmt: skip


def one_step(pair, loss, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found plate statements|Found vars in model|.* shape mismatch")
        return SVI(*pair(), pyro.optim.Adam({"lr": 0.01}), loss=loss, **options).step()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, estimator):
    with pytest.raises(ValueError) as theirs:
        one_step(case, Trace_ELBO())
    with pytest.raises(ValueError) as mine:
        one_step(case, estimator)
    first = str(theirs.value).splitlines()[0]
    assert first in str(mine.value) or "Site 'y' is observed at 0.5, a float. Wanted: a tensor" in str(mine.value)


def a_plate_without_a_size():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data"):
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.double())

    return model, lambda: pyro.sample("z", dist.Normal(loc(), 1.0))


def nothing_but_a_plate_without_a_size():
    def model():
        with pyro.plate("data"):
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.double())

    def guide():
        with pyro.plate("data"):
            pyro.sample("z", dist.Normal(loc(5), 1.0))

    return model, guide


def empty():
    return lambda: None, lambda: None


def no_parameters():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.5))

    return model, lambda: pyro.sample("z", dist.Normal(0.2, 1.0))


def a_masked_site():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 5), pyro.poutine.mask(mask=Y > 0), pyro.poutine.scale(scale=2.0):
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y.double())

    return model, lambda: pyro.sample("z", dist.Normal(loc(), 1.0))


@pytest.mark.parametrize("estimator", [vb.Trace(), vb.Pathwise(), vb.STL()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "case", [a_plate_without_a_size, nothing_but_a_plate_without_a_size, empty, no_parameters, a_masked_site]
)
def test_what_is_computed(case, estimator):
    assert one_step(case, estimator) == pytest.approx(one_step(case, Trace_ELBO()), rel=1e-12)


def test_with_validation_off_both_compute():
    with pyro.validation_enabled(False):
        assert one_step(no_event, vb.Trace()) == pytest.approx(one_step(no_event, Trace_ELBO()), rel=1e-12)


def coin(marked=True):
    def model():
        k = pyro.sample("k", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(k, 1.0), obs=torch.tensor(0.5))

    def guide():
        pyro.sample("k", dist.Bernoulli(0.4), infer={"enumerate": "parallel"} if marked else {})

    return model, guide


def test_summed_out_without_parameters():
    model, guide = (config_enumerate(fn) for fn in coin())
    right = TraceEnum_ELBO(max_plate_nesting=0).loss(model, guide)
    assert right == pytest.approx(1.066521, abs=1e-6)  # KL of .4 from .3, and (1/2)²/2 + log √(2π)
    assert vb.Enumerated().loss_and_grads(*coin()) == pytest.approx(right, rel=1e-12)
    assert vb.Enumerated().loss(*coin()) == pytest.approx(right, rel=1e-12)
    assert one_step(coin, vb.Enumerated()) == pytest.approx(right, rel=1e-12)


def test_the_whole_reason_why_it_cannot_be_summed_out():
    def model():
        k = pyro.sample("k", dist.Bernoulli(0.3).expand([5]))
        pyro.sample("y", dist.Normal(k, 1.0).to_event(1), obs=Y.double())

    def guide():
        pyro.sample("k", dist.Bernoulli(loc(5).sigmoid()))

    with pytest.raises(vb.errors.Unsuitable, match="at site 'k': Value is not broadcastable with batch_shape"):
        vb.Enumerated().loss_and_grads(model, guide)


@pytest.mark.parametrize(
    "estimator", [vb.Trace(), vb.RaoBlackwell(), vb.RLOO(num_particles=2)], ids=lambda e: type(e).__name__
)
def test_a_mark_for_enumeration_is_warned_of_where_nobody_heeds_it(estimator):
    with pytest.warns(UserWarning, match="TraceEnum_ELBO instead"):
        Trace_ELBO().loss(*coin())
    with pytest.warns(UserWarning, match=r"The guide marks 'k' for enumeration, but this estimator does not enumerate"):
        estimator.loss(*coin())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.loss(*coin(marked=False))
        vb.Enumerated().loss(*coin())


def test_why_enumeration_fails_is_said_without_pyros_table_of_shapes():
    """The table used to be there twice, run together in one line, before the advice."""

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(torch.cat([k[:, None], x[:, None]], -1).sum(-1), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(pyro.param("weights", torch.ones(2))))

    with pytest.raises(vb.errors.Unsuitable, match="can't be enumerated: .*Use vb.RaoBlackwell") as raised:
        vb.fit(vb.Pair(model, guide), torch.zeros(3), vb.Enumerated(), steps=1, progress=False)
    assert "Shapes" not in str(raised.value)
    assert len(str(raised.value)) < 400
