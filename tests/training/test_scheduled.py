"""Schedules of learning rates, in programs that take them as inputs."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes import rng

X = torch.tensor([0.3, -1.2, 0.8, 2.0, 0.1])


def model(x):
    w = pyro.param("w", lambda: torch.tensor(0.0))
    b = pyro.param("b", lambda: torch.ones(2))
    pyro.factor("prior", -(b**2).sum())
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(w + b.sum(), 1.0), obs=x)


def pair():
    """Without draws: by Pyro and compiled, a fit gives the same numbers up to rounding."""
    return vb.Pair(model, lambda x: None, name="drawless")


def scheduler(name, optimizer=torch.optim.Adam, options=(), **arguments):
    return getattr(pyro.optim, name)({"optimizer": optimizer, "optim_args": {"lr": 0.05, **dict(options)}, **arguments})


QUICK = "cyclic, which moves a β as well"
SCHEDULERS = {
    QUICK: lambda: scheduler("OneCycleLR", max_lr=0.1, total_steps=40),
    "exponential": lambda: scheduler("ExponentialLR", torch.optim.AdamW, gamma=0.8),
    "steps": lambda: scheduler("MultiStepLR", torch.optim.RMSprop, milestones=[2, 5], gamma=0.1),
    "cyclic, which moves the momentum": lambda: scheduler(
        "OneCycleLR", torch.optim.SGD, {"momentum": 0.9}.items(), max_lr=0.02, total_steps=40
    ),
    "a function": lambda: scheduler("LambdaLR", torch.optim.Adagrad, lr_lambda=lambda epoch: 1 / (1 + epoch)),
    "restarts": lambda: scheduler("CosineAnnealingWarmRestarts", T_0=3),
    "a plateau": lambda: scheduler("ReduceLROnPlateau", factor=0.5, patience=0, threshold=0.2),
}


def fit(optimizer, steps=20, rows=5, **options):
    return vb.fit(pair(), X[:rows], "trace", steps=steps, optimizer=optimizer, seed=1, progress=False, **options)


@pytest.mark.parametrize(
    ("name", "batch_size", "rows"),
    [
        (QUICK, 2, 4),
        *(pytest.param(name, size, 5, marks=pytest.mark.slow) for name in SCHEDULERS for size in (None, 2)),
    ],
)
def test_a_compiled_step_is_handed_its_rates(name, batch_size, rows):
    """Step by step as by Pyro, minibatches of two sizes and resuming included; the program takes the optimiser's steps too."""
    make = functools.partial(fit, batch_size=batch_size, rows=rows)
    eager, whole = make(SCHEDULERS[name](), compile=False), make(SCHEDULERS[name](), compile=True)
    part = make(SCHEDULERS[name](), steps=7, compile=True)
    resumed = part.resume(steps=13, progress=False)
    torch.testing.assert_close(torch.tensor(whole.history.elbo), torch.tensor(eager.history.elbo), rtol=1e-5, atol=1e-5)
    assert resumed.history.elbo.tolist() == whole.history.elbo.tolist()
    for key, state in eager.progress.optimizer.items():
        for other in (whole, resumed):
            mine = other.progress.optimizer[key]
            assert mine["optimizer"]["param_groups"][0]["lr"] == pytest.approx(
                state["optimizer"]["param_groups"][0]["lr"]
            )
            assert mine["scheduler"]["last_epoch"] == state["scheduler"]["last_epoch"]
    assert whole.engine == "native"


@pytest.mark.slow
def test_restarts_follow_a_schedule():
    optimizer = SCHEDULERS["exponential"]
    several = vb.fit(
        pair(), X, "trace", steps=20, optimizer=optimizer(), restarts=2, compile=True, seed=1, progress=False
    )
    alone = fit(optimizer(), compile=True)
    torch.testing.assert_close(several.fits[0].parameters, alone.parameters)
    assert several.fits[0].resume(steps=3, progress=False).steps == 23


def test_a_rate_that_two_change_is_torchs_business():
    """`ClippedAdam` lets its rate decay in each step, which its scheduler knows nothing of."""
    make = functools.partial(
        scheduler, "ExponentialLR", pyro.optim.clipped_adam.ClippedAdam, {"lrd": 0.9}.items(), gamma=0.5
    )
    eager, compiled = (fit(make(), steps=6, compile=compile) for compile in (False, True))
    torch.testing.assert_close(compiled.parameters, eager.parameters)


@pytest.mark.parametrize("kind", ["torch's", pytest.param("Pyro's", marks=pytest.mark.slow)])
def test_the_steps_of_an_svi_stay_compiled(kind):
    """A scheduler that is stepped after each of its steps, by hand as Pyro has it."""

    def run(svi_of):
        with pyro.get_param_store().scope(), rng.seeded(0):
            pyro.poutine.trace(model)(X)
            if kind == "torch's":
                parameters = [pyro.param(name).unconstrained() for name in ("w", "b")]
                optimizer = torch.optim.Adam(parameters, lr=0.05)
                steps = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            else:
                optimizer = steps = SCHEDULERS["exponential"]()
            svi = svi_of(model, lambda x: None, optimizer, pyro.infer.Trace_ELBO())
            losses = []
            for _ in range(8):
                losses.append(svi.step(X))
                steps.step()
            return svi, losses

    svi, mine = run(functools.partial(vb.SVI, compile=True))
    with pyro.get_param_store().scope():
        _, theirs = run(functools.partial(vb.SVI, compile=False))
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs))
    (program,) = svi._staged.values()
    assert program.whole
