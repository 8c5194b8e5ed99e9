"""Bad calls that somebody made: each is one error of ours, with what, got, wanted and mend."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.faults.fuzzing import missing_parts
from tests.faults.surface import X, guide, model
from vbayes.errors import BadCall, BadData, BadInput, BadPair, UnknownKeyword, VBayesError

NAN = float("nan")
PAIR = vb.Pair(model, guide, name="one")


def fit(data=X, **options):
    return vb.fit(PAIR, data, "stl", **{"steps": 1, "progress": False} | options)


CASES = {
    # integers
    "text for a batch size": (lambda: fit(batch_size="3"), BadInput, "batch_size='3' is a str.*batch_size=3, without quotes"),
    "a batch and a half": (lambda: fit(batch_size=1.5), BadInput, "batch_size=1.5 is not an integer.*Fix: batch_size=2"),
    "draws as text": (lambda: vb.posterior(PAIR, X, draws="3"), BadInput, "draws='3' is a str"),
    "draws of to_arviz as text": (lambda: vb.to_arviz(PAIR, draws="3"), BadInput, "draws='3' is a str"),
    "draws of diagnose as text": (lambda: vb.diagnose(PAIR, X, draws="300"), BadInput, "draws='300' is a str.*at least 100"),
    "particles as text": (lambda: vb.log_evidence(PAIR, X, num_particles="3"), BadInput, "num_particles='3'"),
    "steps that are true": (lambda: fit(steps=True), BadInput, "steps=True is a bool"),
    "a thousand steps as text": (lambda: fit(steps="1e3"), BadInput, "steps='1e3'.*Fix: steps=1000, without quotes"),
    "more draws than memory holds": (lambda: vb.posterior(PAIR, X, draws=10**9), BadInput, "more than fits in memory.*GB"),
    "more particles than memory holds": (lambda: vb.TVO(num_particles=10**9), BadInput, r"TVO\(num_particles=1000000000\).*1,024 GB"),
    "more steps than memory holds": (lambda: fit(steps=10**12), BadInput, "steps=1000000000000 is too large: it needs 80,000 GB of memory"),
    "weights that no memory holds": (lambda: vb.pairs.vae(features=10**7, hidden=10**7), BadInput, "features=10000000, hidden=10000000 is too large: it needs"),
    "an integer of 400 digits": (lambda: fit(steps=10**400), BadInput, "steps=10{20}"),
    # seeds
    **{f"seed={seed!r}": (lambda seed=seed: fit(seed=seed), BadInput, "seed.*Wanted: an integer of at least 0") for seed in ("", NAN, {}, -1, 1.5)},
    "seeded by text": (lambda: vb.seeded(""), BadInput, "seed='' is a str"),
    # floats
    "Renyi of NaN": (lambda: vb.Renyi(alpha=NAN), BadInput, r"Renyi\(alpha=nan\) is not finite"),
    "REBAR's strength": (lambda: vb.REBAR(strength=-1e20), BadInput, r"REBAR\(strength=-1e\+20\) is out of range"),
    "a learning rate as text": (lambda: fit(learning_rate="0.1"), BadInput, "learning_rate='0.1' is a str.*0.1, without quotes"),
    "a learning rate of NaN": (lambda: fit(learning_rate=NAN), BadInput, "learning_rate=nan is not finite"),
    "a decay of a dict": (lambda: vb.Baselined(decay={}), BadInput, r"Baselined\(decay=\{\}\) is a dict"),
    "betas that are none": (lambda: vb.TVO(betas={1: 2}), BadInput, r"TVO\(betas=\{1: 2\}\)"),
    # names, flags
    "noise misspelt": (lambda: vb.STL(noise="sobl"), BadInput, "Fix: noise='sobol'"),
    "an array for a name": (lambda: vb.posterior(PAIR, X, method=np.zeros(3)), BadInput, "not a way to a posterior"),
    "progress=3": (lambda: fit(progress=3), BadInput, "progress=3 is an int. Wanted: True or False"),
    "compile=1": (lambda: fit(compile=1), BadInput, "compile=1"),
    "a device of no letters": (lambda: fit(device=""), BadInput, "device=''"),
    "a device that stores no numbers": (lambda: fit(device="meta"), BadInput, "stores no numbers"),
    # pairs and models
    "no pair": (lambda: vb.fit(None, X), BadInput, "pair=None is nothing, not a pair"),
    "a number to check": (lambda: vb.check(3, X), BadInput, "pair=3 is an int, not a pair. Wanted: a vb.Pair, a vb.Fit"),
    "a pair of len": (lambda: vb.Pair(len, len), BadInput, "Python's own len, which draws nothing"),
    "a pair of nothing": (lambda: vb.Pair(None, None), BadInput, "model=None is nothing"),
    "a guide of nothing": (lambda: vb.Pair(model, None), BadInput, "guide=None is nothing"),
    "a class for a guide": (lambda: vb.Pair(model, pyro.infer.autoguide.AutoNormal), BadInput, r"an instance, AutoNormal\(\.\.\.\)"),
    "laplace of len": (lambda: vb.laplace(len, X), BadInput, "model is Python's own len"),
    "a tensor of another shape for a word": (lambda: vb.pathfinder(model, torch.zeros(2, 1, 1, 3)), BadPair, "does not run on this batch"),
    # data
    "a tensor for a data set": (lambda: vb.Dataset(X), BadData, r"tensors is a tensor.*vb.Dataset.of\(x\)"),
    "a masked array": (lambda: fit(np.ma.masked_array([1.0, 2.0], mask=[0, 1])), BadData, r"whose mask \(of 1 numbers\) would be lost.*vb.impute"),
    "complex numbers": (lambda: fit(X + 0j), BadData, "of complex numbers.*x.real and x.imag"),
    "a sparse tensor": (lambda: fit(torch.eye(3).to_sparse()), BadData, r"that is sparse.*x.to_dense\(\)"),
    "a tensor of no dimension": (lambda: fit(torch.tensor(1.0)), BadData, r"a single number, 1.*x.reshape\(1\)"),
    "numbers on no device": (lambda: fit(torch.zeros(3, device="meta")), BadData, "without numbers"),
    "text for data": (lambda: fit("mnist.csv"), BadData, "is a str. Wanted: a vb.Dataset"),
    "objects for data": (lambda: fit(np.array([1.0, None], dtype=object)), BadData, "NaN or infinite values in 1 of 2 rows"),
    "dates for data": (lambda: fit(np.array(["2020-01-01"], dtype="datetime64[D]")), BadData, "a column of times"),
    "a column of nothing": (lambda: fit({"x": None}), BadData, "column 'x' is nothing"),
    "a column by a number": (lambda: vb.Dataset({1: X}), BadInput, "a column's name=1 is an int"),
    "dims=5": (lambda: vb.Dataset({"x": X}, dims=5), BadInput, "dims=5 is an int"),
    "true and false under a Normal": (lambda: fit(X > 0), BadPair, r"pass x.float\(\)"),
    "rows beyond the last": (lambda: vb.Dataset.of(X).rows([9]), BadData, "does not select rows"),
    "a single row": (lambda: vb.Dataset.of(X).rows(0), BadData, r"slice\(0, 1\) for a single row"),
    "known by text": (lambda: vb.impute(PAIR, X, "all"), BadInput, "."),
    # fits, paths, others
    "to_arviz of a number": (lambda: vb.to_arviz(3), BadInput, "fit=3 is an int"),
    "a fit in a folder without a name": (lambda: fit().save(""), BadInput, "path='' is not a valid file name"),
    "a report of bytes": (lambda: vb.report(b"runs"), BadInput, "folder=b'runs' is a bytes"),
    "parameters that are none": (lambda: fit().pair.at(3), BadInput, "parameters=3 is an int"),
    "an estimator that is none": (lambda: vb.compare(PAIR, X, torch.device("cpu")), BadInput, "estimators is a device"),
    "no such keyword": (lambda: vb.STL(particles=3), UnknownKeyword, "STL.. has no keyword 'particles'.*num_particles"),
    "nothing at all": (lambda: vb.fit(), BadCall, r"Wanted: fit\(pair, data"),
    "one too many": (lambda: vb.STL(1, 2), BadCall, "too many positional arguments"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_bad_call_is_one_error_of_ours(case):
    run, kind, words = CASES[case]
    with pytest.raises(kind, match=f"(?s){words}") as caught:
        run()
    assert isinstance(caught.value, VBayesError)
    assert not missing_parts(caught.value), str(caught.value)
    assert len(str(caught.value)) < 1200


def test_numbers_of_numpy_and_of_torch_are_numbers():
    found = fit(steps=np.int64(2), seed=torch.tensor(3), learning_rate=np.float64(0.1))
    assert (found.steps, found.seed, type(found.seed)) == (2, 3, int)
    assert vb.STL(num_particles=np.int32(2)) == vb.STL(2) and type(vb.STL(np.int32(2)).num_particles) is int


def test_data_are_cut_off_from_what_they_were_computed_by():
    x = torch.ones(3, requires_grad=True) * 2
    made = vb.Dataset({"x": x})
    assert not made.first.requires_grad and x.requires_grad
    assert fit(x).data.first.equal(x.detach())


def test_true_and_false_stay_masks():
    """A model that selects by a column needs it as it is; numbers they become by hand."""

    def masked(x, seen):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=seen):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    found = vb.fit(vb.Pair(masked), {"x": X, "seen": X > 0}, steps=1, progress=False)
    assert found.data.tensors["seen"].dtype == torch.bool


def test_a_table_of_pandas_is_data_and_a_mask_without_gaps_is_none():
    import pandas as pd

    assert vb.Dataset.of(pd.DataFrame({"x": [1.0, 2.0], "y": [3, 4]}, index=[7, 8])).tensors["y"].tolist() == [3, 4]
    assert vb.Dataset.of(np.ma.masked_array([1.0, 2.0])).first.tolist() == [1.0, 2.0]
