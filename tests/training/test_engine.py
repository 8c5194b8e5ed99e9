"""What takes the steps, in one line: of a fit and of an `SVI`."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes import rng
from vbayes.staging import backends
from vbayes.training import engine

X = torch.tensor([1.0, 2.0])


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x):
    pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.1)), 1.0))


def peeking(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)), pyro.poutine.mask(mask=bool(z > -9)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def eigen(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    m = torch.linalg.eigvalsh(torch.eye(2) * (1 + z**2)).sum()
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


def fit(model, **options):
    return vb.fit(vb.Pair(model, guide), X, "trace", steps=5, progress=False, **options)


def test_a_fit_says_it():
    assert fit(model, compile=True).engine == "native" and "engine" not in str(fit(model, compile=True))
    assert fit(model, compile=False).engine == "Pyro: compile=False"
    assert fit(model).engine == "Pyro: too few steps to repay compiling"
    own = fit(model, compile=True, optimizer=torch.optim.NAdam)
    assert own.engine == "native, but for the optimiser's own step: NAdam" and own.engine in " ".join(str(own).split())


def test_what_has_no_machine_code_is_interpreted():
    found = fit(eigen, compile="native").engine
    wanted = "interpreted: there is no machine code for linalg_eigh (line "
    assert found.startswith(wanted) and "of test_engine.py: `m = torch.linalg.eigvalsh(" in found


def test_what_reads_values_says_where_in_our_words():
    with pytest.warns(UserWarning) as caught:
        found = fit(peeking, compile=True)
    text = str(caught[0].message)
    assert "test_engine.py: `with pyro.plate(" in text and "a value is read out of a tensor" in text
    assert not any(word in text for word in ("aten", "make_fx", "report", "contextlib"))
    assert found.engine.startswith("Pyro: Pair 'peeking' can't be captured (line ") and "\n" not in found.engine


def test_an_svi_says_it():
    with pyro.get_param_store().scope(), rng.seeded(0):
        svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO(), compile=True)
        assert svi.engine == "Pyro: it compiles after 1 steps on arguments of one kind"
        for _ in range(3):
            svi.step(X)
        assert svi.engine == "native"
        svi = vb.SVI(peeking, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO(), compile=True)
        with pytest.warns(UserWarning, match="a value is read out of a tensor"):
            for _ in range(3):
                svi.step(X)
        assert svi.engine.startswith("Pyro: Pair 'peeking' can't be captured (line ")
        assert (
            vb.SVI(model, guide, pyro.optim.Adam({}), lambda *args: 0.0).engine
            == "Pyro: the loss is not a pyro.infer.ELBO"
        )


@pytest.mark.parametrize("take", ["fit", "average", "restarts", "race", "compare"])
def test_no_slow_compiler_is_asked_where_the_steps_would_not_repay_it(take, monkeypatch):
    """Whichever verb takes them: XLA's takes what thousands of Pyro's steps do."""
    asked = []
    monkeypatch.setattr(backends, "xla_or_why", lambda *given, **options: asked.append(1) or (None, "none here"))
    monkeypatch.setattr(backends, "compiled_or_why", lambda *given, **options: (None, "no compiler here"))
    monkeypatch.setattr(engine, "WORTH", 6)
    pair, options = vb.pairs.normal_normal(), {"steps": 8, "progress": False, "device": "cpu"}

    def run():
        asked.clear()
        if take == "race":
            vb.race(pair, X, ["stl"], seeds=1, evaluations=1, **options)
        elif take == "compare":
            vb.compare(pair, X, ["stl"], at="end", replicas=100, **options)
        else:
            own = {"fit": {}, "average": {"average": True}, "restarts": {"restarts": 2}}[take]
            vb.fit(pair, X, "stl", **own, **options)
        return len(asked)

    few = run()
    monkeypatch.setattr(engine, "XLA_WORTH", 8)
    assert run() > few and (few == 0 or take in ("race", "compare"))  # which look at ELBOs and gradients besides


def test_what_auto_comes_to_for_steps_in_several_parts():
    """As those of `estimator="auto"`, which are of one kind all the way."""
    short, long = engine.WORTH, engine.XLA_WORTH
    assert [engine.settled("auto", n) for n in (short - 1, short, long - 1, long)] == [False, "native", "native", True]
    assert [engine.settled(each, 1) for each in (True, False, "torch")] == [True, False, "torch"]
