"""NaN and infinity, wherever they come from: whichever engine takes the steps, the error names the step and the place, and what was reached is kept."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.faults.broken import NEVER, PLACES, broken, broken_at
from vbayes import rng
from vbayes.data.dataset import Dataset
from vbayes.estimators import resolve
from vbayes.staging import loop
from vbayes.staging.cuda_graph import Replay
from vbayes.training.block_noise import BLOCK
from vbayes.training.fit_run import Progress
from vbayes.training.several import fit_each

STEPS = 8
SITES = {"observed": ("x",), "latent": ("z",), "guide": ("z", "x"), "loss": ("scare",), "sum": ("heap",)}
PARAMETERS = {"gradient": ("u",), "overflow": ("v",)}
VALIDATED = ("observed", "latent", "guide")  # at the first step an error of validation, before anything has begun


class OwnSGD(torch.optim.SGD):
    """One that no program knows."""


def interpreted(patch):
    patch.setattr(loop, "made_by", lambda *args, **options: (None, None, "for the sake of a test"))


def recorded(patch):
    """As on a card, but that each step's kernels are launched one by one."""

    def replay(self, state, part):
        rows = [stack[0] for stack in part.stacks]
        capacity = len(part.noise[0])
        return Replay(
            self._launched,
            state.flat(),
            rows,
            self._columns,
            together=self._together,
            capacity=capacity,
            recorded=False,
        )

    interpreted(patch)
    patch.setattr(loop.Loop, "_replay", replay)


ENGINES = {
    "eager": {"compile": False},
    "machine code": {"compile": True},
    "interpreted": {"compile": True},
    "recorded": {"compile": True},
    "optimiser of one's own": {"compile": True, "optimizer": OwnSGD},
}
PATCHES = {"interpreted": interpreted, "recorded": recorded}
OPTIONS = {"optimizer": torch.optim.SGD, "learning_rate": 1.0, "progress": False, "seed": 0}


def train(engine, place, step, monkeypatch, **options):
    if engine in PATCHES:
        PATCHES[engine](monkeypatch)
    return vb.fit(broken(), broken_at(place, step), "trace", **(OPTIONS | ENGINES[engine] | {"steps": STEPS} | options))


def require_told(error, place, step):
    """The step, the place, and all that was reached before."""
    assert error.step == step and f"at step {step}" in str(error)
    assert error.sites == SITES.get(place, ()) and error.parameters == PARAMETERS.get(place, ())
    assert all(repr(name) in str(error) for name in (*error.sites, *error.parameters))
    require_kept(error.fit, step - 1)


def require_kept(fit, steps):
    assert fit.steps == steps and fit.history.elbo.map(lambda elbo: abs(elbo) < torch.inf).all()
    values = fit.pair.parameters
    assert float(values["w"]) == steps and all(torch.isfinite(value).all() for value in values.values())


BOUNDARY = BLOCK  # the last step of those whose noise is drawn together; the next one is the first of others

CASES = [
    *(("eager", place, 4) for place in PLACES),
    *(("eager", place, step) for place in ("gradient", "overflow", "sum") for step in (1, STEPS)),
    *(("eager", place, 1) for place in VALIDATED),
    ("machine code", "overflow", 4),
    ("machine code", "observed", BOUNDARY),
    ("interpreted", "overflow", 4),
    ("recorded", "latent", STEPS),
    ("optimiser of one's own", "overflow", STEPS),
]
SLOW = [
    (engine, place, step)
    for engine in ENGINES
    for place in PLACES
    for step in (1, 4, STEPS, BOUNDARY, BOUNDARY + 1)
    if (engine, place, step) not in CASES and (step <= STEPS or engine == "machine code")
]


@pytest.mark.parametrize(
    ("engine", "place", "step"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_a_fit_names_step_and_place(engine, place, step, monkeypatch):
    steps = max(STEPS, step)
    if step == 1 and place in VALIDATED:
        with pytest.raises(vb.errors.BadPair, match="does not run on this batch"):
            train(engine, place, step, monkeypatch)
        return
    with pytest.raises(vb.errors.NonFinite) as caught:
        train(engine, place, step, monkeypatch, steps=steps)
    require_told(caught.value, place, step)


@pytest.mark.parametrize(
    ("compile", "place"),
    [(True, "overflow"), pytest.param(True, "observed", marks=pytest.mark.slow), (False, "gradient")],
)
def test_one_of_several_fits_side_by_side(compile, place):
    """The others go on, and what ended it is told as of a single fit."""
    pair, data = broken(), [Dataset.of(broken_at(place, step)) for step in (4, NEVER, STEPS)]
    pair.initialise(data[0].batch(pair.model))
    fits = [
        vb.Fit(
            pair.copy(), each, resolve("trace"), None, torch.optim.SGD, 1.0, seed, Progress.start(seed), compile=compile
        )
        for seed, each in enumerate(data)
    ]
    result = fit_each(fits, STEPS, show=False)
    for error, step in zip(result.failures, (4, None, STEPS), strict=True):
        if step:
            require_told(error, place, step)
        else:
            assert error is None
    for fit, steps in zip(result.fits, (3, STEPS, STEPS - 1), strict=True):
        require_kept(fit, steps)
    assert "restart 0" in str(result) and "became NaN or infinite at step 4" in str(result)


def test_none_of_several_fits_names_the_place():
    with pytest.raises(vb.errors.NonFinite, match=r"None of 2 fits .* at step 4") as caught:
        vb.fit(broken(), broken_at("sum", 4), "trace", restarts=2, compile=True, steps=STEPS, **OPTIONS)
    require_told(caught.value, "sum", 4)


@pytest.mark.parametrize(
    ("compile", "optimizer", "place"),
    [
        (False, torch.optim.SGD, "gradient"),
        (True, torch.optim.SGD, "overflow"),
        (True, OwnSGD, "gradient"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product((True, False), (torch.optim.SGD, OwnSGD), PLACES)
        ),
    ],
)
def test_the_steps_of_an_svi(compile, optimizer, place):
    pair = broken()
    with pyro.get_param_store().scope(), rng.seeded(0):
        svi = vb.SVI(
            pair.model,
            pair.guide,
            pyro.optim.PyroOptim(optimizer, {"lr": 1.0}),
            pyro.infer.Trace_ELBO(),
            compile=compile,
        )
        with pytest.raises(vb.errors.NonFinite) as caught:
            svi.run(*broken_at(place, 4), num_steps=STEPS, progress=False)
        assert caught.value.step == 4 and "at step 4 of this run" in str(caught.value)
        assert caught.value.sites == SITES.get(place, ()) and caught.value.parameters == PARAMETERS.get(place, ())
        assert pyro.param("w") == 3 and all(torch.isfinite(v).all() for v in pyro.get_param_store().values())


@pytest.mark.parametrize("compile", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_second_particle_is_looked_at_too(compile):
    """The site is that of the particle that is not finite, be it not the first."""

    def model(x):
        w = pyro.param("w", lambda: torch.tensor(0.0))
        pyro.factor("count", w)
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, torch.where(z.detach() < -1.8, torch.nan, 1.0)), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    pair = vb.Pair(model, guide, name="tail")
    with pytest.raises(vb.errors.NonFinite, match="site 'x'"):
        vb.fit(
            pair, torch.zeros(2), vb.Pathwise(num_particles=8), steps=20, **(OPTIONS | {"compile": compile, "seed": 2})
        )


@pytest.mark.parametrize("compile", [False, True])
def test_an_infinite_mean_of_squares_is_no_convergence(compile):
    """Adam divides by its root, and would never move that parameter again."""

    def model(x):
        v = pyro.param("v", lambda: torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(v, 1.0), obs=x)
        pyro.factor("steep", 1e25 * v)

    pair = vb.Pair(model, lambda x: None, name="steep")
    options = OPTIONS | {"optimizer": torch.optim.Adam, "learning_rate": 0.1, "compile": compile}
    with pytest.raises(vb.errors.NonFinite, match="its optimiser state") as caught:
        vb.fit(pair, torch.zeros(2), "trace", steps=5, **options)
    assert caught.value.step == 1 and caught.value.parameters == ("v",)
    state = caught.value.fit.progress.optimizer["state"].values()
    assert all(torch.isfinite(torch.as_tensor(held)).all() for each in state for held in each.values())


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_masked_is_not_to_blame_and_memories_are_kept(compile):
    """A moving baseline that has met NaN would never get over it; a masked NaN is nobody's."""

    def model(x, steps):
        w = pyro.param("w", lambda: torch.tensor(0.0))
        pyro.factor("count", w)
        late = w.detach() > steps[0] - 1.5
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.poutine.mask(mask=x.new_zeros(()).bool()):
            pyro.sample("unseen", dist.Normal(0.0, torch.where(late, torch.nan, 1.0)), obs=x[0])
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, torch.where(late, torch.nan, 1.0)), obs=x)

    def guide(x, steps):
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.1)), 1.0))

    data = torch.zeros(2), torch.full((2,), 4.0)
    with pytest.raises(vb.errors.NonFinite) as caught:
        vb.fit(
            vb.Pair(model, guide),
            data,
            vb.AdaptiveSTL(),
            steps=6,
            **(OPTIONS | {"learning_rate": 1.0, "compile": compile}),
        )
    assert caught.value.sites == ("x",)
    memory = caught.value.fit.pair.state()
    assert len(memory) > 2 and all(torch.isfinite(value).all() for value in memory.values())


@pytest.mark.parametrize(
    ("compile", "restarts"),
    [(False, None), (True, None), *(pytest.param(c, 2, marks=pytest.mark.slow) for c in (False, True))],
)
def test_a_matrix_without_a_factor(compile, restarts):
    """What torch refuses to compute ends a fit as a value that is not finite does."""

    def model(x):
        w = pyro.param("w", lambda: torch.tensor(0.0))
        pyro.factor("count", w)
        kernel = torch.eye(2) * (3.5 - w.detach())
        pyro.sample("f", dist.MultivariateNormal(torch.zeros(2), kernel), obs=x[0])
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w.detach() * 0, 1.0).expand([2]).to_event(1), obs=x)

    pair = vb.Pair(model, lambda x: None, name="gp")
    with pytest.raises(
        vb.errors.NonFinite, match=r"at step 5: linalg.cholesky.* Common fixes: adding a small multiple of the identity"
    ) as caught:
        vb.fit(pair, torch.zeros(3, 2), "trace", steps=STEPS, restarts=restarts, **(OPTIONS | {"compile": compile}))
    assert caught.value.step == 5 and caught.value.fit.steps == 4


def test_one_goes_on_from_what_was_kept(monkeypatch):
    """The gradients that were not finite are gone, and another rate or other data lead on."""
    with pytest.raises(vb.errors.NonFinite) as caught:
        train("eager", "gradient", 4, monkeypatch)
    again = vb.fit(caught.value.fit.pair, broken_at("gradient", NEVER), "trace", steps=3, compile=False, **OPTIONS)
    assert float(again.pair.parameters["w"]) == 6


def exposed(count, exposure):
    rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.Poisson(rate * exposure), obs=count)


EXPOSED = {"count": torch.tensor([2.0, 3.0, 1.0, 4.0, 2.0]), "exposure": torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0])}


@pytest.mark.parametrize(
    "how",
    [{"compile": False, "steps": 3}, {"compile": True, "steps": 3}, {"batch_size": 2, "compile": False, "epochs": 2}, {"max_steps": 50}],
    ids=["Pyro", "a program", "minibatches", "until convergence"],
)  # fmt: skip
def test_a_row_that_is_impossible_is_named_whatever_the_guide(how):
    """By its number among all rows, with the numbers in it; other initial values would not help."""
    pair = vb.Pair(exposed, pyro.infer.autoguide.AutoNormal(exposed))
    with pytest.raises(
        vb.errors.NonFinite, match="'count' is -inf at row 3 at each of 10 draws.*where count = 4, exposure = 0"
    ) as caught:
        vb.fit(pair, EXPOSED, progress=False, device="cpu", **how)
    assert caught.value.sites == ("count",) and "Common fixes" not in str(caught.value)
    assert "Fix: drop those rows, or correct them." in str(caught.value)


def test_an_svi_names_the_row_too():
    with pyro.get_param_store().scope(), rng.seeded(0):
        guide = pyro.infer.autoguide.AutoNormal(exposed)
        svi = vb.SVI(exposed, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        with pytest.raises(
            vb.errors.NonFinite, match="not finite there: 'count' is -inf at row 3 of the 5 in this step. Common"
        ):
            svi.run(*EXPOSED.values(), num_steps=3, progress=False)
