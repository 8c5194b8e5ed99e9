"""The public surface, each callable with arguments that it takes, small enough for a few milliseconds."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from matplotlib import pyplot

import vbayes as vb

X = torch.tensor([0.1, 0.5, -0.3, 0.9])

RESULTS = {
    "CAVI", "Calibration", "Check", "Comparison", "ComparisonOver", "Diagnosis", "EstimatorCheck", "Evidence", "Fit", "Imputation", "LinearResponse", "ModelComparison", "MonteCarloEM", "NoiseSplit",
    "Particles", "Posterior", "Prediction", "Race", "Recommendation", "Reconstruction", "Restarts", "Table", "TrainingState", "Estimate", "Estimator", "Latent", "Remembering", "Averaging", "Learned",
}  # fmt: skip
"""What verbs return, or estimators are handed: nobody makes one, so their constructors take what they are given. Their methods are looked at."""
LEFT_OUT = {"mnist", "binarized_mnist", "frey_face", "fetch"}  # files from elsewhere
RANDOM = {"SVI.step", "SVI.run", "SVI.evaluate_loss", "Dataset.epoch", "draw"}
"""Those that draw from the generators around them on purpose, or train what is in Pyro's store."""


def model(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def guide(x: Any) -> None:
    pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def local_model(x: Any) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def local_guide(x: Any) -> None:
    with pyro.plate("data", len(x)):
        a = pyro.param("a", torch.tensor(0.5))
        pyro.sample("z", dist.Normal(a * x, 1.0))


def vector_model(x: Any) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def vector_guide(x: Any) -> None:
    a = pyro.param("a", torch.zeros(2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(a * x[:, None], 1.0).to_event(1))


def learnt_model(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(pyro.param("prior", torch.tensor(0.0)), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


@dataclass(frozen=True)
class Target:
    """One public callable.

    Attributes:
        name: After `vb.`.
        call: Itself.
        good: Arguments with which it works.
        annotations: Of each of its parameters, in words.
    """

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    annotations: dict[str, str] = field(repr=False)


class _Made:
    """Good arguments by name: a thing of each kind, made once."""

    def __init__(self) -> None:
        matplotlib.use("Agg")
        self.folder = Path(tempfile.mkdtemp())
        self.pair = vb.Pair(model, guide, name="one")
        self.local = vb.Pair(local_model, local_guide, name="local")
        self.fit = vb.fit(self.pair, X, "stl", steps=2, progress=False)
        self.local_fit = vb.fit(self.local, X, steps=2, progress=False)
        self.saved = self.fit.save(self.folder / "fit.safetensors")
        self.data = vb.Dataset({"x": X.abs()})
        self.table = self.folder / "table.csv"
        self.table.write_text("x\n1.5\n", encoding="utf-8")
        self.vae = vb.Pair(vector_model, vector_guide, name="vector")
        self.hmm = vb.HiddenMarkov(
            torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]),
            vb.GaussianEmission(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])),
        )  # fmt: skip
        self.comparison = vb.compare(self.pair, X, ["stl"], steps=0, replicas=100, progress=False).to_dataframe()
        self.ax = pyplot.subplots()[1]

    @functools.cached_property
    def only(self) -> dict[str, dict[str, Any]]:
        """Where a good argument is another than its name says."""
        table = {"table": self.comparison, "ax": self.ax}
        local = {"pair": self.local_fit}
        mixture = vb.conjugate.NormalGamma(X.double())
        return {
            "compare": {"steps": 0, "estimators": ["stl"]}, "recommend": {"candidates": ["pathwise"], "particles": (1,), "noise": ("iid",)}, "race": {"estimators": ["stl"]},
            "Dataset": {"name": "data"}, "Pair": {"name": None}, "fit": {"restarts": None}, "diagnose": {"draws": 100}, "monte_carlo_em": {"pair": vb.Pair(learnt_model, guide)},
            "pairs.hmm": {"emission": "gaussian"}, "pairs.hmm_summed": {"emission": "gaussian"}, "pairs.hidden_markov_of": {"pair": vb.pairs.hmm_summed(2)},
            "conjugate.GaussianMixture": {"x": X.double()[:, None]}, "conjugate.FactoredGaussian": {"mean": torch.zeros(2).double()}, "conjugate.NormalGamma": {"x": X.double()},
            "cavi": {"model": mixture}, "LatentSpace": {"pair": self.vae}, "impute": local, "latent_use": local, "parameter_groups": {"pair": self.fit.pair}, "Fit.load": {"estimator": "stl"},
            "plots.history": {"table": self.fit.history, "ax": self.ax}, "plots.codes": {"table": pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0], "label": [0, 1]}), "ax": self.ax},
            "plots.restarts": {"tables": [self.fit.history], "best": 0, "ax": self.ax}, "plots.images": {"array": np.zeros((2, 3, 3)), "ax": self.ax},
            "plots.race": {}, "plots.objectives": {}, "plots.recommendation": {}, "plots.over": {}, "plots.noise_split": {}, "plots.calibration": {}, "plots.latent_figure": {},
            **{f"plots.{name}": table for name in ("against_particles", "bias_variance_cost", "gradient_variance", "variance_bars", "variance_near_optimum", "variance_time")},
            "plots.comparison_figure": {"table": self.comparison}, "data.DataFile": {"path": "a", "sha256": "b"},
            **{f"data.{name}": {"path": self.table} for name in ("read", "read_table")}, "pairs.Tractable": {"build": len},
        }  # fmt: skip

    @functools.cached_property
    def by_name(self) -> dict[str, Any]:
        table = pd.DataFrame({"x": [1.0], "y": [2.0]})
        return {
            "pair": self.pair, "data": X, "model": model, "guide": guide, "estimator": "stl", "steps": 2, "progress": False,
            "draws": 4, "seed": 0, "show": False, "fit": self.fit, "models": {"a": self.pair, "b": self.fit}, "known": torch.tensor([True] * 4),
            "data_like": X, "simulations": 2, "replicas": 100, "optim": pyro.optim.Adam({"lr": 0.01}), "loss": pyro.infer.Trace_ELBO(),
            "batch": vb.Batch((X,)), "folder": self.folder, "path": self.saved, "states": 2, "rows": 4, "table": table, "tensors": {"x": X},
            "args": (X,), "question": "?", "claim": "!", "measure": len, "full": {}, "quick": {}, "figure": len, "verdict": len,
            "num_particles": 2, "needs": {"log_p", "log_q"}, "nodes": 2000, "x": X[None], "start": 2, "restarts": 1, "sweeps": 5, "iterations": 5,
            "minibatches": 10, "batch_sizes": (2,), "particles": (1,), "name": "values", "values": [1.0], "comparison": lambda value: None,
            "paths": 1, "budget": 0.01, "evaluations": 1, "seeds": 1, "components": 2, "temperatures": 2, "probability": torch.tensor([[0.5, 0.5]] * 2),
            "mean": torch.tensor([0.0, 1.0]), "scale": torch.tensor([1.0, 1.0]), "initial": torch.tensor([0.5, 0.5]),
            "transition": torch.tensor([[0.9, 0.1], [0.2, 0.8]]), "emission": self.hmm.emission, "elbo": len, "log_evidence": len, "posterior": len,
            "precision": torch.eye(2).double(), "how": "threshold", "index": slice(0, 2), "device": "cpu", "parameters": {}, "state": self.pair.state(),
            "callback": len, "burn_in": 1, "proposals": 8, "at": None, "max_steps": None, "q": 0.5, "size": 2, "epoch": 1,
        }  # fmt: skip


METHODS: dict[str, tuple[str, ...]] = {
    "fit": ("resume", "to", "save", "diagnose", "posterior", "predict", "to_arviz", "plot"),
    "data": ("rows", "binarized", "to", "batch", "epoch", "check_batch_size", "in_epoch"),
    "pair": ("to", "at", "load", "copy"),
}


@functools.cache
def made() -> _Made:
    return _Made()


def targets() -> list[Target]:
    """All of them, in order."""
    return [target for target in _all() if target.annotations]


def _all() -> Iterator[Target]:
    for name in sorted(vb.__all__):
        thing = getattr(vb, name)
        if inspect.ismodule(thing):
            if name in ("data", "pairs", "plots", "conjugate"):
                for inner in sorted(vars(thing)):
                    it = getattr(thing, inner)
                    ours = getattr(it, "__module__", "").startswith(f"vbayes.{'exact.' * (name == 'conjugate')}{name}.")
                    if inner[0] != "_" and callable(it) and ours and inner not in LEFT_OUT:
                        yield _target(f"{name}.{inner}", it)
        elif callable(thing) and name not in RESULTS and name != "check":
            yield _target(name, thing)
    ours = made()
    svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    for thing, names in ((ours.fit, METHODS["fit"]), (ours.data, METHODS["data"])):
        for name in names:
            yield _target(f"{type(thing).__name__}.{name}", getattr(thing, name))
    for name in METHODS["pair"]:
        yield _target(f"Pair.{name}", _on_a_copy(name))
    yield _target("Fit.load", vb.Fit.load)
    yield _target("Dataset.of", vb.Dataset.of)
    check = {"pair": ours.pair, "x": X, "show": False}
    yield Target(
        "check", lambda pair, x, show: vb.check(pair, x, show=show), check, {"pair": "Pair", "x": "Any", "show": "bool"}
    )
    yield Target("SVI.run", functools.partial(svi.run, X), {"num_steps": 2, "progress": False}, {"num_steps": "int"})


def _on_a_copy(name: str) -> Callable[..., Any]:
    """A method of a pair that changes it."""
    method = getattr(vb.Pair, name)

    @functools.wraps(method)
    def call(**arguments: Any) -> Any:
        return method(made().pair.copy(), **arguments)

    parameters = inspect.signature(method).parameters
    call.__signature__ = inspect.Signature([p for p in parameters.values() if p.name != "self"])  # type: ignore[attr-defined]
    return call


def _target(name: str, call: Callable[..., Any]) -> Target:
    parameters = inspect.signature(call).parameters
    kinds = {p.name: str(p.annotation) for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    kinds.pop("comparison", None)  # what goes wrong in somebody's own function is theirs to see
    only = made().only.get(name, {})
    by_name = made().by_name | only
    wanted = {"progress", "show", "steps", "replicas", "draws", "seed", "estimators", "candidates", "restarts", "batch_sizes",
              "minibatches", "particles", "nodes", "budget", "evaluations", "seeds", "simulations", "burn_in", "paths", "sweeps",
              "temperatures", "iterations"}  # fmt: skip
    good = {
        p.name: by_name[p.name]
        for p in parameters.values()
        if p.name in kinds
        and p.name in by_name
        and (p.default is p.empty or p.name in wanted or p.name in only or p.name in ("data", "data_like"))
    }
    return Target(name, call, good, kinds)
