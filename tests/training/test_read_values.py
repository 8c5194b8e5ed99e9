"""Values that a model reads out of its arguments: built into a program, which serves for those alone."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO

import vbayes as vb
from tests.staging import hidden_markov
from vbayes.validation import validation

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LENGTHS = torch.tensor([1, 2, 3, 4, 1, 1, 2, 2, 1, 1, 3, 1])


@pytest.fixture(autouse=True)
def scratch(double):
    with pyro.get_param_store().scope(), vb.seeded(0):
        yield


def model(x, lengths):
    assert (lengths >= 1).all()
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    rows = pyro.plate("data", len(x))
    for t in range(lengths.max()):
        with rows, pyro.poutine.mask(mask=t < lengths):
            pyro.sample(f"x_{t}", dist.Normal((t + 1) * z, 1.0), obs=x[:, t])


def guide(x, lengths):
    loc = pyro.param("loc", lambda: torch.tensor(0.3))
    pyro.sample(
        "z", dist.Normal(loc, pyro.param("scale", lambda: torch.tensor(0.5), constraint=dist.constraints.positive))
    )


def losses(kind, calls, model=model, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = kind(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(), **options)
    return [svi.step(X, lengths) for lengths in calls], svi


def test_an_svi_has_a_program_for_each_value():
    calls = [LENGTHS.clamp(max=m) for m in (4, 4, 4, 2, 2, 2, 4, 2, 1, 1, 4, 1)] + [LENGTHS.flip(0)]
    right, _ = losses(SVI, calls)
    mine, svi = losses(vb.SVI, calls, compile="torch")
    assert mine == pytest.approx(right, rel=1e-9)
    assert sum(program is not None for program in svi._staged.values()) == 3


def test_what_keeps_changing_goes_by_pyro_and_says_so():
    def reads(x, lengths):
        z = pyro.sample("z", dist.Normal(0.0, float(lengths.sum())))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    calls = [LENGTHS + (i % 10) for i in range(21)]
    right, _ = losses(SVI, calls, reads)
    with pytest.warns(
        UserWarning,
        match=r"Pair 'reads' reads values of its arguments \(line \d+ of test_read_values.py: `z = .*more than 8",
    ) as caught:
        mine, svi = losses(vb.SVI, calls, reads, compile="torch")
    assert len(caught) == 1 and mine == pytest.approx(right, rel=1e-9)
    assert "reads values of its arguments" in svi.engine


@pytest.mark.parametrize("batch_size", [None, 5])
def test_a_fit_takes_each_minibatch_by_its_own_program(batch_size):
    """The ELBO of each step is Pyro's, at the parameters that a fit of so many steps less one has."""
    pair, data = vb.Pair(model, guide), vb.Dataset({"x": X, "lengths": LENGTHS})
    options = {"batch_size": batch_size, "learning_rate": 0.05, "seed": 0, "progress": False, "compile": "torch"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = vb.fit(pair, data, vb.Trace(), steps=9, **options)
        before = vb.fit(pair, data, vb.Trace(), steps=8, **options)
    step = [row[2] for row in fit.rows]
    assert step[:8] == [row[2] for row in before.rows]
    from vbayes.staging import Recorder
    from vbayes.training.fit_run import FitRun

    run = FitRun(before, staged=True)
    with run.inside():
        ((block,), _) = run.stands[0].upcoming(1)
        batch = data.batch(pair.model, None if block.index is None else block.index[0])
        scaled = before.pair.scaled(12)
        with Recorder((block.noise[0][0], block.noise[1][0]), in_place=True), validation(False):
            assert step[8] == pytest.approx(-Trace_ELBO().loss(*scaled, *batch.args), rel=1e-9)
    rows = [run.stands[2].index(number) for number in range(1, 10)]
    assert batch_size is None or len({int(LENGTHS[index].max()) for index in rows}) > 1


def test_a_fit_whose_minibatches_all_differ_goes_on_by_pyro():
    def reads(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, abs(float(x[0, 0])) + 1.0), obs=x[:, 0])

    pair = vb.Pair(reads, lambda x: guide(x, None))
    with pytest.warns(UserWarning, match="reads values of its arguments"):
        fit = vb.fit(pair, X, vb.Trace(), steps=12, batch_size=1, compile="torch", seed=0, progress=False)
    assert fit.engine.startswith("Pyro: Pair 'reads' reads values") and fit.steps == 12


def test_fits_with_data_of_their_own_are_not_side_by_side():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = vb.fit(
            vb.Pair(model, guide), vb.Dataset({"x": X, "lengths": LENGTHS}), vb.Trace(),
            steps=4, batch_size=3, restarts=2, compile="torch", seed=0, progress=False,
        )  # fmt: skip
    assert all(fit.engine.startswith("interpreted") and fit.steps == 4 for fit in fits.fits)


def in_part(x, lengths):
    """Its plate draws five of the rows."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=5) as rows:
        lengths = lengths[rows]
        for t in range(lengths.max()):
            with pyro.poutine.mask(mask=t < lengths):
                pyro.sample(f"x_{t}", dist.Normal((t + 1) * z, 1.0), obs=x[rows, t])


FEW = LENGTHS.clamp(max=2).where(torch.arange(12) < 2, torch.tensor(1))  # of five rows: one or two


def test_rows_that_a_plate_draws_are_those_of_pyro():
    right, _ = losses(SVI, [FEW] * 24, in_part)
    mine, svi = losses(vb.SVI, [FEW] * 24, in_part, compile="torch")
    assert mine == pytest.approx(right, rel=1e-9)
    assert sum(program is not None for program in svi._staged.values()) == 2
    assert svi.run(X, FEW, num_steps=9, progress=False).isfinite().all()


@pytest.mark.slow
def test_a_fit_whose_plate_draws_rows_is_of_its_seed_alone():
    """Whichever program a step goes by: the rows are those of the step."""
    pair, data = vb.Pair(in_part, guide), vb.Dataset({"x": X, "lengths": FEW})
    options = {"steps": 20, "learning_rate": 0.02, "progress": False, "compile": "torch"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit, again = (vb.fit(pair, data, vb.Trace(), seed=seed, **options) for seed in (0, 0))
        half = vb.fit(pair, data, vb.Trace(), seed=0, **{**options, "steps": 7}).resume(steps=13, progress=False)
    assert [row[2] for row in fit.rows] == [row[2] for row in again.rows] == [row[2] for row in half.rows]
    assert fit.engine.startswith("interpreted")


def both(name, calls, size=None):
    found = []
    for kind, options in ((SVI, {}), (vb.SVI, {"compile": True})):
        svi = hidden_markov.made(name, kind, **options)
        found.append([svi.step(*each, size) for each in calls])
    return *found, svi.engine


def test_a_hidden_markov_model_that_draws_its_sequences():
    right, mine, engine = both("plain", [hidden_markov.data()] * 3, 3)
    assert mine == pytest.approx(right, rel=1e-8) and engine == "native"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "plain" else pytest.mark.slow) for name in hidden_markov.MODELS]
)
def test_hidden_markov_models(name):
    tones, lengths = hidden_markov.data()
    right, mine, engine = both(name, [(tones, lengths)] * 3)
    assert mine == pytest.approx(right, rel=1e-8)
    # A convolution has no machine code of ours; jax is an extra.
    assert engine == "native" or engine == "xla" or (name in ("neural", "fused") and "convolution" in engine)


@pytest.mark.slow
def test_topics_whose_guide_draws_documents():
    """As Pyro's latent Dirichlet allocation: Gamma and Dirichlet draws, word by word summed out, documents drawn in the guide."""
    topics, words, documents = 3, 8, 10
    counts = torch.randint(words, (5, documents), generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(
        torch.nn.Linear(words, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, topics), torch.nn.Softmax(-1)
    )

    def model(counts, size):
        with pyro.plate("topics", topics):
            weights = pyro.sample("weights", dist.Gamma(1.0 / topics, 1.0))
            shares = pyro.sample("shares", dist.Dirichlet(torch.ones(words) / words))
        with pyro.plate("documents", documents) as rows:
            theta = pyro.sample("theta", dist.Dirichlet(weights))
            with pyro.plate("words", 5):
                topic = pyro.sample("topic", dist.Categorical(theta), infer={"enumerate": "parallel"})
                pyro.sample("w", dist.Categorical(shares[topic]), obs=counts[:, rows])

    def guide(counts, size):
        positive = dist.constraints.positive
        with pyro.plate("topics", topics):
            pyro.sample(
                "weights", dist.Gamma(pyro.param("weights_q", lambda: torch.ones(topics), constraint=positive), 1.0)
            )
            concentration = pyro.param(
                "shares_q", lambda: torch.ones(topics, words), constraint=dist.constraints.greater_than(0.5)
            )
            pyro.sample("shares", dist.Dirichlet(concentration))
        pyro.module("network", network)
        with pyro.plate("documents", documents, size) as rows:
            histogram = torch.zeros(words, len(rows)).scatter_add(0, counts[:, rows], torch.ones(5, len(rows)))
            pyro.sample("theta", dist.Delta(network(histogram.T), event_dim=1))

    def run(kind, steps, **options):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi = kind(model, guide, pyro.optim.ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=2), **options)
        return torch.tensor([svi.step(counts, 4) for _ in range(steps)]), svi

    right, _ = run(SVI, 300)
    mine, svi = run(vb.SVI, 300, compile=True)
    # Gammas are made of other random numbers than torch's, so losses are equal in distribution only.
    assert svi.engine == "native"
    error = ((right.var() + mine.var()) / 300).sqrt()
    assert abs(right.mean() - mine.mean()) < 5 * error < 0.2 * right.mean()


def drawn(x, lengths):
    """How long it is depends on the rows that its plate draws."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x), subsample_size=3) as rows:
        total = sum(z * (t + 1.0) for t in range(int(lengths[rows].max())))
        pyro.sample("x", dist.Normal(total, 1.0), obs=x[rows, 0])


def test_fits_whose_plates_draw_other_rows_are_not_side_by_side():
    options = {"steps": 4, "learning_rate": 0.05, "compile": "torch", "progress": False}
    pair = vb.Pair(drawn, guide, name="drawn")
    for fit in vb.fit(pair, (X, LENGTHS), restarts=3, seed=3, **options).fits[1:]:
        first = vb.fit(pair, (X, LENGTHS), steps=0, progress=False).pair.parameters
        alone = vb.fit(pair, (X, LENGTHS), seed=fit.seed, **options)
        assert {name: len(value.shape) for name, value in first.items()} == {"loc": 0, "scale": 0}
        assert all(torch.equal(value, fit.pair.parameters[name]) for name, value in alone.pair.parameters.items())


def test_minibatches_are_split_from_draws_one_by_one():
    pair = vb.Pair(model, guide, name="reads")
    with pytest.warns(UserWarning, match="reads values of its arguments"):
        split = vb.noise_split(
            pair, (X, LENGTHS), batch_sizes=(3,), particles=(1,), minibatches=10, draws=8, progress=False
        )
    assert split.to_dataframe().total.notna().all()


def test_what_is_read_may_not_be_written_to():
    """A graph that asks for many steps at once could not do that."""

    def counts(x, lengths):
        total = torch.tensor(0)
        total += lengths.max()
        return model(x, lengths.clamp(max=int(total)))

    with pytest.warns(UserWarning, match="can't be captured"):
        fit = vb.fit(
            vb.Pair(counts, guide, name="counts"), (X, LENGTHS), batch_size=4, steps=3, compile="torch", progress=False
        )
    assert fit.steps == 3


@pytest.mark.slow
def test_held_out_data_that_no_program_serves_are_evaluated_by_pyro():
    def local(x, lengths):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z * int(lengths.max()) / 9, 1.0), obs=x[:, 0])

    def amortised(x, lengths):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("loc", lambda: torch.tensor(0.3)) * x[:, 0], 1.0))

    held_out = (
        torch.randn(60, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
        torch.arange(1, 61),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fit = vb.fit(
            vb.Pair(local, amortised, name="local"), (X, LENGTHS.clamp(max=2)), batch_size=4, validation=held_out, max_steps=600, compile="torch", progress=False
        )  # fmt: skip
    assert all(phase.elbo > -1e6 for phase in fit.convergence.phases)
