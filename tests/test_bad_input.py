"""Each thing that can be wrong gets one screen: what, got, wanted, mend."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer.autoguide import AutoDelta, AutoNormal

import vbayes as vb
from tests.models import binary, small_vae, subsampled
from vbayes.cli.commands import find


def plain_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def plain_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def guide_with(name="z", event=0, fn=dist.Normal, extra=None):
    def guide(x):
        with pyro.plate("data", len(x)):
            if event:
                pyro.sample(name, fn(torch.zeros(2), 1.0).to_event(event))
            elif name:
                pyro.sample(name, fn(torch.tensor(0.0), 1.0))
            if extra:
                pyro.sample(extra, fn(torch.tensor(0.0), 1.0))

    return guide


def no_plate_model(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, torch.ones(len(x))).to_event(1), obs=x)


def gamma_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Gamma(torch.tensor(2.0), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


X = torch.tensor([0.1, 0.5, -0.3])
PAIR = vb.Pair(plain_model, plain_guide, name="plain")


def fit(pair=PAIR, data=X, *args, **options):
    return vb.fit(pair, data, *args, steps=2, progress=False, **options)


def pair_of(model=plain_model, **guide):
    return vb.Pair(model, guide_with(**guide), name="plain")


E = vb.errors
CASES = {
    "unknown estimator": (
        lambda: fit(PAIR, X, "analytic-kl"),
        E.UnknownName,
        ["'analytic-kl'", "Did you mean 'analytic_kl'"],
    ),
    "unknown pair": (lambda: find("vea", None), E.UnknownName, ["pair named 'vea'", "'vae'", "Known:"]),
    "unknown data set": (lambda: find("vae", "minst"), E.UnknownName, ["data set named 'minst'", "'mnist'"]),
    "site missing in the guide": (
        lambda: fit(pair_of(name=None)),
        E.BadPair,
        ["does not sample 'z'", "Add pyro.sample('z'"],
    ),
    "guide site unknown to the model": (
        lambda: fit(pair_of(extra="y")),
        E.BadPair,
        ["samples 'y'", "does not have", "is_auxiliary"],
    ),
    "guide site observed in the model": (lambda: fit(pair_of(extra="x")), E.BadPair, ["samples 'x'", "observes"]),
    "wrong event dims": (lambda: fit(pair_of(event=1)), E.BadPair, ["'z'", "0 event dims", "guide 1", "to_event"]),
    "draws outside the support": (
        lambda: vb.check(pair_of(gamma_model), torch.ones(50)),
        E.BadPair,
        ["'z'", "the guide draws", "Gamma"],
    ),
    "data outside the support": (
        lambda: fit(small_vae(), torch.full((3, 6), 2.5)),
        E.BadPair,
        ["'x'", "a value (2.5)", "Bernoulli", "run from 2.5 to 2.5"],
    ),
    "wrong number of features": (
        lambda: fit(small_vae(), torch.zeros(3, 7)),
        E.BadPair,
        ["x has shape (3, 7)", "made for features=6", "Wanted: x of shape (N, 6)"],
    ),
    "empty data set": (lambda: fit(PAIR, torch.zeros(0)), E.BadData, ["is empty", "at least one"]),
    "no columns": (lambda: vb.Dataset({}), E.BadData, ["no columns"]),
    "columns of unequal length": (
        lambda: vb.Dataset.of((X, X[:2])),
        E.BadData,
        ["differ in length", "the same N rows"],
    ),
    "NaN in the data": (
        lambda: fit(PAIR, torch.tensor([0.0, float("nan")])),
        E.BadData,
        ["NaN", "1 of 2 rows", "row 1", "Drop"],
    ),
    "not data at all": (lambda: fit(PAIR, "mnist.csv"), E.BadData, ["str", "Wanted: a vb.Dataset"]),
    "batch larger than the data": (lambda: fit(batch_size=4), E.BadData, ["batch_size=4", "3 rows", "1 to 3"]),
    "no data plate": (
        lambda: fit(vb.Pair(no_plate_model, guide_with_no_plate()), batch_size=2),
        E.BadPair,
        ["plate named 'data'", "batch_size"],
    ),
    "autoguide over local latents in minibatches": (
        lambda: fit(vb.Pair(plain_model, AutoNormal(plain_model)), batch_size=2),
        E.BadPair,
        ["batch_size=2 of 3", "AutoNormal", "'z'", "vb.pairs.mean_field"],
    ),
    "parameters as large as the minibatch": (
        lambda: vb.compare(vb.Pair(plain_model, guide_by_rows), X, batch_size=2),
        E.BadPair,
        ["batch_size=2 of 3", "'locs'", "rows"],
    ),
    "no parameters": (lambda: fit(pair_of()), E.BadPair, ["'plain' has no parameters", "pyro.param"]),
    "another type than the model's": (
        lambda: fit(small_vae(), binary().bool()),
        E.BadPair,
        ["(12, 6) bool", "expected shapes and types"],
    ),
    "score function of a point mass": (
        lambda: fit(vb.Pair(plain_model, AutoDelta(plain_model)), X, "score"),
        E.Unsuitable,
        ["point mass", "'z'", "vb.Trace()"],
    ),
    "training options without training": (
        lambda: vb.compare(PAIR, X, at={"here": PAIR}, steps=5, learning_rate=0.1),
        E.BadInput,
        ["nothing is trained", "steps, learning_rate", "Leave it out"],
    ),
    "no checkpoints": (lambda: vb.compare(PAIR, X, at={}), E.BadInput, ["at={}", "a non-empty mapping"]),
    "a checkpoint that is none": (lambda: vb.compare(PAIR, X, at={"end": 3}), E.BadInput, ["'end': 'int'", "vb.Fit"]),
    "a checkpoint of another pair": (
        lambda: vb.compare(PAIR, X, at={"here": vb.Pair(plain_model, guide_by_rows)}),
        E.BadInput,
        ["at['here']", "'locs': (3,)", "'plain'"],
    ),
    "LBFGS": (lambda: fit(optimizer=torch.optim.LBFGS), E.BadInput, ["LBFGS", "torch.optim.Adam"]),
    "rows that the model draws itself, as draws": (
        lambda: vb.to_arviz(
            vb.fit(subsampled(), torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), steps=1, progress=False)
        ),
        E.BadInput,
        ["'data'", "2 of 4 rows", "vb.fit(batch_size=...)"],
    ),
    "no path under Pathwise": (
        lambda: fit(pair_of(fn=NonreparameterizedNormal), X, "pathwise"),
        E.Unsuitable,
        ["'z'", "has_rsample", "vb.RLOO()"],
    ),
    "no path under STL": (
        lambda: vb.compare(pair_of(fn=NonreparameterizedNormal), X, ["stl"], steps=1),
        E.Unsuitable,
        ["'z'", "vb.RLOO()"],
    ),
    "unknown keyword of fit": (
        lambda: fit(leraning_rate=1),
        E.UnknownKeyword,
        ["fit()", "'leraning_rate'", "'learning_rate'"],
    ),
    "unknown keyword of compare": (
        lambda: vb.compare(PAIR, X, replica=5),
        E.UnknownKeyword,
        ["'replica'", "'replicas'"],
    ),
    "steps and epochs": (lambda: vb.fit(PAIR, X, steps=1, epochs=1), E.BadInput, ["Both", "one of them"]),
    "negative steps": (lambda: vb.fit(PAIR, X, steps=-1), E.BadInput, ["steps=-1", "at least 0"]),
    "unknown device": (lambda: fit(device="gpu"), E.BadInput, ["device='gpu'", "'auto', 'cpu' or 'cuda'"]),
    "optimiser that is none": (lambda: fit(optimizer="adam"), E.BadInput, ["'adam'", "torch.optim.Adam"]),
    "optimiser with parameters": (
        lambda: fit(optimizer=torch.optim.Adam([torch.zeros(1)])),
        E.BadInput,
        ["already holds parameters", "Pass the class"],
    ),
    "learning rate for a pyro optimiser": (
        lambda: fit(optimizer=pyro.optim.Adam({"lr": 0.1}), learning_rate=1.0),
        E.BadInput,
        ["no effect", "Set it there"],
    ),
    "negative learning rate": (lambda: fit(learning_rate=-1.0), E.BadInput, ["learning_rate=-1.0"]),
    "estimator that is none": (lambda: fit(PAIR, X, 3), E.BadInput, ["3 is not an estimator", "vb.STL()"]),
    "no estimators": (lambda: vb.compare(PAIR, X, []), E.BadInput, ["at least one"]),
    "estimator given twice": (lambda: vb.compare(PAIR, X, ["stl", vb.STL()], steps=1), E.BadInput, ["twice"]),
    "too few replicas": (lambda: vb.compare(PAIR, X, replicas=10), E.BadInput, ["replicas=10", "at least 100"]),
    "unknown groups": (lambda: vb.compare(PAIR, X, groups="kind", steps=1), E.BadInput, ["'role' or 'parameter'"]),
    "unknown output": (lambda: vb.pairs.vae(output="poisson"), E.BadInput, ["'poisson'", "'gaussian'"]),
    "no draws": (lambda: vb.to_arviz(fit(), draws=0), E.BadInput, ["draws=0"]),
    "pair that can't be imported": (
        lambda: find("nowhere.models:make", None),
        E.BadInput,
        ["nowhere.models", "package.module:name"],
    ),
    "function that makes no pair": (lambda: find("math:sqrt", None), E.BadInput, ["math:sqrt"]),
}


def guide_by_rows(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("locs", lambda: torch.zeros(len(x))), 1.0))


def guide_with_no_plate():
    return lambda x: pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


@pytest.mark.parametrize("case", CASES)
def test_one_screen(case):
    run, kind, words = CASES[case]
    with pytest.raises(kind) as caught:
        run()
    message = str(caught.value)
    assert isinstance(caught.value, E.VBayesError)
    for word in words:
        assert word in message, message
    assert len(message) < 1200 and message.count("\n") < 20
    assert torch.distributions.Distribution._validate_args


def test_the_names_of_errors_are_pythons_too():
    assert issubclass(E.BadInput, ValueError) and issubclass(E.UnknownKeyword, TypeError)
    assert issubclass(E.DataUnavailable, OSError) and issubclass(E.NonFinite, ArithmeticError)


def test_check_prints_the_table(capsys):
    found = vb.check(small_vae(), binary(4))
    shown = capsys.readouterr().out
    for word in (
        "site",
        "shape",
        "plates",
        "scale",
        "reparameterised?",
        "analytic KL?",
        "in the guide?",
        "data[4]",
        "observed",
    ):
        assert word in shown
    z, x = found.sites
    assert (z.name, z.shape, z.plates, z.reparameterised, z.analytic_kl, z.in_guide) == (
        "z",
        (4, 2),
        (("data", 4),),
        "yes",
        "yes",
        "yes",
    )
    assert (x.name, x.in_guide, x.analytic_kl) == ("x", "observed", "")


def test_check_knows_autoguides_and_scores():
    data = vb.data.eight_schools()
    sites = {s.name: s for s in vb.check(vb.pairs.eight_schools(), *data.tensors.values(), show=False).sites}
    assert sites["tau"].analytic_kl == "sampled" and sites["mu_unconstrained"].in_guide == "auxiliary"
    (z, _) = vb.check(pair_of(fn=NonreparameterizedNormal), X, show=False).sites
    assert z.reparameterised == "no"
