"""Fitting: seeds, resuming, optimisers, Ctrl-C, values that leave the reals, files."""

from __future__ import annotations

import functools
import signal
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.training.identity import rows_of


@pytest.fixture
def data() -> vb.Dataset:
    return vb.Dataset({"x": binary(50)}, name="coins")


quick = functools.partial(vb.fit, progress=False)


def same(a: vb.Fit, b: vb.Fit) -> bool:
    states = a.pair.state(), b.pair.state()
    return a.history.elbo.tolist() == b.history.elbo.tolist() and all(
        torch.equal(v, states[1][k]) for k, v in states[0].items()
    )


OPTIMISERS = {
    "default": {},
    "SGD": {"optimizer": torch.optim.SGD, "learning_rate": 1e-4},
    "partial": {"optimizer": functools.partial(torch.optim.Adam, betas=(0.8, 0.99)), "learning_rate": 0.01},
    "pyro ClippedAdam": {"optimizer": pyro.optim.ClippedAdam({"lr": 0.01})},
    "pyro Adagrad": {"optimizer": pyro.optim.Adagrad({"lr": 0.01})},
    "pyro schedule": {
        "optimizer": pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.5})
    },
}


@pytest.mark.parametrize("options", OPTIMISERS.values(), ids=OPTIMISERS)
def test_resuming_equals_never_having_stopped(options, data):
    whole = quick(small_vae(), data, epochs=4, batch_size=20, **options)
    part = quick(small_vae(), data, epochs=1, batch_size=20, **options)
    assert part.steps == 3
    resumed = part.resume(steps=4, progress=False).resume(steps=5, progress=False)
    assert resumed.steps == whole.steps == 12 and same(resumed, whole)
    assert part.steps == 3 and same(part.resume(steps=9, progress=False), whole)  # the first fit stays good
    assert not torch.equal(whole.pair.parameters["decoder$$$mean.bias"], part.pair.parameters["decoder$$$mean.bias"])


def test_a_schedule_steps_once_an_epoch(data):
    schedule = functools.partial(pyro.optim.ExponentialLR)
    options = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1e-4}, "gamma": 0.0}
    fit = quick(small_vae(), data, epochs=1, batch_size=25, optimizer=schedule(options))
    stopped = fit.resume(epochs=2, progress=False)  # a rate of zero from the second epoch on
    assert all(torch.equal(v, stopped.pair.parameters[k]) for k, v in fit.pair.parameters.items())
    assert stopped.steps == 6


def test_history(data):
    fit = quick(small_vae(), data, epochs=3, batch_size=20)
    history = fit.history
    assert list(history.columns) == ["step", "epoch", "elbo", "elbo_per_datum", "seconds"]
    assert history.step.tolist() == list(range(1, 10)) and history.epoch.tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert history.elbo_per_datum.tolist() == pytest.approx((history.elbo / 50).tolist())
    assert history.seconds.is_monotonic_increasing and history.seconds.iloc[0] > 0
    assert -6 * 0.7 * 2 < history.elbo_per_datum.iloc[0] < 0  # six fair coins are −4.2 nats


def test_it_learns():
    """Two patterns, one nat of entropy at most each: far above six fair coins at −4.2 nats."""
    x = torch.tensor([[0.0, 0, 0, 1, 1, 1], [1.0, 1, 1, 0, 0, 0]]).repeat(25, 1)
    fit = quick(small_vae(), x, steps=400, learning_rate=0.03)
    assert fit.history.elbo_per_datum.tail(20).mean() > -1.5


def test_it_finds_the_posterior():
    """Conjugate: q reaches N(x/2, 1/2), and the ELBO the evidence."""
    data = vb.data.normal_normal()
    fit = quick(vb.pairs.normal_normal(), data, "stl", steps=800, learning_rate=0.03)
    x = data.first
    torch.testing.assert_close(fit.parameters["loc"], x / 2, atol=5e-3, rtol=0)
    assert float(fit.parameters["scale"]) == pytest.approx(0.5**0.5, abs=5e-3)
    assert fit.history.elbo.iloc[-1] == pytest.approx(float(fit.pair.exact.log_evidence(x)), abs=1e-3)


@pytest.mark.parametrize(
    ("column", "make"),
    {
        "x": lambda: small_vae(),
        "both": lambda: vb.pairs.mean_field(6, 5, 2, rows=50),
        "mc": lambda: vb.pairs.monte_carlo(6, 5, 2),
    }.items(),
)
def test_built_in_pairs_learn_in_minibatches(column, make, data):
    fit = quick(make(), data, epochs=30, batch_size=25, learning_rate=0.02)
    assert fit.history.elbo_per_datum.tail(10).mean() > fit.history.elbo_per_datum.head(10).mean()


def test_mean_field_learns_only_the_rows_of_the_batch(data):
    fit = quick(vb.pairs.mean_field(6, 5, 2, rows=50), data, steps=1, batch_size=10, learning_rate=0.02)
    moved = fit.pair.parameters["location"].abs().sum(1) > 0
    assert moved.sum() == 10


def test_any_pyro_elbo(data):
    ours = quick(small_vae(), data, "trace", steps=5)
    pyros = quick(small_vae(), data, pyro.infer.Trace_ELBO(), steps=5)
    assert pyros.history.elbo.tolist() == pytest.approx(ours.history.elbo.tolist(), rel=1e-5)
    quick(small_vae(), data, pyro.infer.RenyiELBO(alpha=0.5, num_particles=2), steps=2)


def test_ctrl_c_returns_what_there_is(data):
    class Interrupting(vb.Trace):
        calls = 0

        def estimate(self, particles):
            Interrupting.calls += 1
            if Interrupting.calls == 11:  # two of them are the look at its value before the first step
                raise KeyboardInterrupt
            return super().estimate(particles)

    fit = quick(small_vae(), data, Interrupting(), steps=100)
    assert fit.interrupted and fit.steps == 8
    assert same(fit, quick(small_vae(), data, "trace", steps=8))


def test_ctrl_c_waits_for_the_end_of_a_step(data):
    """However far into the step it comes: what is returned can be resumed to the last bit."""

    class Pressing(vb.Trace):
        calls = 0

        def estimate(self, particles):
            Pressing.calls += 1
            if Pressing.calls == 11:  # two of them are the look at its value before the first step
                signal.raise_signal(signal.SIGINT)
            return super().estimate(particles)

    before = signal.getsignal(signal.SIGINT)
    fit = quick(small_vae(), data, Pressing(), steps=100)
    assert fit.interrupted and fit.steps == 9 and signal.getsignal(signal.SIGINT) is before
    assert same(fit.resume(steps=6, progress=False), quick(small_vae(), data, "trace", steps=15))


def test_a_site_that_is_summed_out_needs_no_guide():
    """A mixture under TraceEnum_ELBO, in the way of Pyro's tutorials."""

    @pyro.infer.config_enumerate
    def model(x):
        loc = pyro.param("loc", torch.tensor([-1.0, 2.0]))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)

    x = torch.tensor([-2.0, -1.5, 3.0, 2.5])
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    fit = quick(vb.Pair(model, lambda x: None), x, elbo, steps=20, learning_rate=0.1)
    log_p = torch.tensor([0.4, 0.6]).log() + dist.Normal(torch.tensor([-1.0, 2.0]), 1.0).log_prob(x[:, None])
    assert fit.history.elbo[0] == pytest.approx(float(log_p.logsumexp(-1).sum()), rel=1e-5)
    assert fit.history.elbo.iloc[-1] > fit.history.elbo[0] + 0.3
    row = next(site for site in vb.check(vb.Pair(model, lambda x: None), x, show=False).sites if site.name == "k")
    assert row.in_guide == "summed out"


def exploding():
    """A pair whose scale is driven through zero by a huge step."""

    def model(x):
        w = pyro.param("w", lambda: torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, torch.sqrt(w)), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    return vb.Pair(model, guide, name="exploding")


def test_not_finite_names_step_and_site_and_keeps_the_rest():
    x = torch.full((4,), 0.01)
    with pytest.raises(vb.errors.NonFinite, match=r"step \d+; site 'x' has a log-density") as caught:
        quick(exploding(), x, steps=5000, optimizer=torch.optim.SGD, learning_rate=5.0)
    error = caught.value
    assert error.sites == ("x",) and error.step == error.fit.steps + 1 > 1
    assert all(torch.isfinite(v).all() for v in error.fit.pair.parameters.values())
    assert error.fit.history.elbo.notna().all() and len(error.fit.history) == error.step - 1
    assert torch.distributions.Distribution._validate_args


def test_save_and_load(tmp_path, data):
    fit = quick(small_vae(), data, epochs=2, batch_size=20)
    path = fit.save(tmp_path / "fit.safetensors")
    again = vb.Fit.load(path, small_vae(), data)
    assert same(fit, again) and again.batch_size == 20
    assert same(fit.resume(steps=5, progress=False), again.resume(steps=5, progress=False))
    assert [p.name for p in tmp_path.iterdir()] == ["fit.safetensors"]


def test_load_refuses_what_does_not_fit(tmp_path, data):
    path = quick(small_vae(), data, steps=1).save(tmp_path / "fit.safetensors")
    with pytest.raises(vb.errors.BadInput, match="pair 'vae', not 'coins'"):
        vb.Fit.load(path, vb.Pair(small_vae().model, small_vae().guide, name="coins"), data)
    with pytest.raises(vb.errors.BadInput, match="estimator 'analytic_kl', not 'stl'"):
        vb.Fit.load(path, small_vae(), data, estimator="stl")
    with pytest.raises(vb.errors.BadInput, match="Make the pair with the same sizes"):
        vb.Fit.load(path, vb.pairs.vae(6, 7, 2), data)
    (tmp_path / "other").write_bytes(b"no tensors")
    with pytest.raises(vb.errors.BadInput, match="is not a fit that vbayes saved"):
        vb.Fit.load(tmp_path / "other", small_vae(), data)
    with pytest.raises(vb.errors.OutputUnwritable, match="Choose an existing"):
        quick(small_vae(), data, steps=1).save(tmp_path / "nowhere" / "fit.safetensors")


def test_progress_shows_elbo_and_trend(data, capsys, monkeypatch):
    monkeypatch.setattr("vbayes.progress.lines.Lines.first", 0.0)
    vb.fit(small_vae(), data, steps=40)
    shown = capsys.readouterr().err
    assert "40/40" in shown and "ELBO per datum" in shown and ("↑" in shown or "↓" in shown)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda(data):
    fit = quick(small_vae(), data, steps=5, device="auto")
    assert all(v.is_cuda for v in fit.pair.parameters.values())
    assert same(fit, quick(small_vae(), data, steps=5, device="cuda"))


def test_loaded_with_other_data(tmp_path, data):
    """Said, not refused: who serves predictions may have only a part of the rows."""
    path, pair = quick(small_vae(), data, steps=2).save(tmp_path / "fit.safetensors"), small_vae()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vb.Fit.load(path, pair, data)
    rows = data.first
    with pytest.warns(UserWarning, match=f"10 rows, and it had {len(rows)}"):
        vb.Fit.load(path, pair, rows[:10])
    with pytest.warns(UserWarning, match="others, or in another order"):
        vb.Fit.load(path, pair, rows.flip(0))
    with pytest.warns(UserWarning, match=r"trained by Adam, so it can't be resumed with SGD.*optimizer=Adam"):
        vb.Fit.load(path, pair, data, optimizer=torch.optim.SGD)


@pytest.mark.parametrize("count", [1, 2, 1000, 1001, 2**24 + 4])
def test_rows_that_tell_data_apart(count):
    """The first and the last are among them, however many there are: as float32 the last of 2²⁴ + 4 was one too far."""
    x = torch.zeros(1).expand(count)
    assert rows_of(vb.Dataset.of({"x": x}), ["x"]).startswith(f"{count} rows ")
    if count < 2000:
        first, last = x.clone(), x.clone()
        first[0], last[-1] = 1.0, 1.0
        found = {rows_of(vb.Dataset.of({"x": each}), ["x"]) for each in (x, first, last)}
        assert len(found) == min(count, 2) + 1


OPTIMIZERS = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.01}),
    "SGD": lambda: pyro.optim.SGD({"lr": 0.01}),
    "clipped": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 1.0}),
    "clipped more": lambda: pyro.optim.Adam({"lr": 0.01}, {"clip_norm": 0.1}),
    "slow decay": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.9}
    ),
    "fast decay": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.5}
    ),
}


def test_a_checkpoint_tells_pyros_optimisers_apart(tmp_path):
    """Each used to be "PyroOptim(lr=0.01)", so the finished fit of another one was returned."""
    pair, y = vb.pairs.normal_normal(), vb.data.normal_normal()
    for name, make in OPTIMIZERS.items():
        vb.fit(pair, y, steps=2, optimizer=make(), checkpoint=tmp_path / name, progress=False)
        for other, make_other in OPTIMIZERS.items():
            if other == name:
                again = vb.fit(pair, y, steps=3, optimizer=make(), checkpoint=tmp_path / name, progress=False)
                assert again.steps == 3
                continue
            with pytest.raises(vb.errors.BadInput, match="holds a different fit: it has optimizer"):
                vb.fit(pair, y, steps=3, optimizer=make_other(), checkpoint=tmp_path / name, progress=False)
