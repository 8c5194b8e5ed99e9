"""Whether two checkouts give the same numbers, to the last bit, on this machine.

    python tests/same_numbers.py ../other-checkout        # this one against that one
    python tests/same_numbers.py ../other-checkout vae    # only the cases whose name has "vae" in it

For work that must not change numbers: a move, a rewrite. Numbers differ between processors, so none are kept. It uses the public names
alone, and of a table nothing that the clock has written.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLOCK = ("seconds", "ms", "time", "cost")  # what a column of a table has in its name that the clock has written


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]), sys.argv[3])
        return
    other, pattern = Path(sys.argv[1]).resolve(), (sys.argv[2] if len(sys.argv) > 2 else "")
    mine, theirs = (numbers(root, pattern) for root in (Path(__file__).resolve().parents[1], other))
    differing = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
    for name in differing:
        print(f"DIFFERS {name}\n  here:  {str(mine.get(name))[:300]}\n  there: {str(theirs.get(name))[:300]}")
    print(f"{len(mine) - len(differing)} of {len(mine | theirs)} numbers are the same")
    sys.exit(bool(differing))


def numbers(root: Path, pattern: str) -> dict[str, Any]:
    """What the cases give with the package of a checkout, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "numbers.json"
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--measure", str(target), pattern],
            env=environment,
            cwd=folder,
            check=True,
        )
        return dict(json.loads(target.read_text()))


def measure(target: Path, pattern: str) -> None:
    """Runs the cases and writes what they give."""
    import vbayes as vb

    print(f"# {Path(vb.__file__).parent}", file=sys.stderr)
    found: dict[str, Any] = {}
    for name, case in cases().items():
        if pattern in name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    made = case()
                except Exception as error:  # an error is an answer too: it must be the same
                    made = {"error": f"{type(error).__name__}: {error}"}
            found |= {f"{name}.{key}": said(value) for key, value in made.items()}
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    target.write_text(json.dumps(found))


def said(value: Any) -> Any:
    """A value so that two are equal if all their bits are."""
    import numpy as np
    import pandas as pd
    import torch

    if isinstance(value, pd.DataFrame):
        kept = value[[c for c in value if not any(word in str(c) for word in CLOCK)]]
        return [said(v) for v in kept.to_dict("list").items()]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return [str(value.dtype), list(value.shape), digest, [float(v).hex() for v in value.reshape(-1)[:3]]]
    if isinstance(value, dict):
        return {str(k): said(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [said(v) for v in value]
    return value.hex() if isinstance(value, float) else value if isinstance(value, (int, str)) else repr(value)


def cases() -> dict[str, Callable[[], dict[str, Any]]]:
    import functools

    import pyro
    import torch
    from pyro.infer import Trace_ELBO, TraceGraph_ELBO

    import vbayes as vb

    x = torch.tensor([-0.5, 2.0])

    def digits() -> Any:
        return vb.data.digits().rows(slice(0, 530))

    def vae(**options: Any) -> Any:
        return vb.pairs.vae(features=64, latent=3, hidden=16, **options)

    def fitted(pair: Any, data: Any, estimator: Any, **options: Any) -> dict[str, Any]:
        return of(vb.fit(pair(), data(), estimator, progress=False, device="cpu", **options))

    def of(fit: Any) -> dict[str, Any]:
        return {"elbo": fit.history.elbo.to_numpy(), "parameters": fit.parameters, "state": fit.pair.state()}

    def several(pair: Any, data: Any, **options: Any) -> dict[str, Any]:
        found = vb.fit(pair(), data(), "stl", progress=False, device="cpu", **options)
        return {str(n): of(fit) for n, fit in enumerate(found.fits)}

    def resumed(**options: Any) -> dict[str, Any]:
        first = vb.fit(vae(), digits(), "rloo", steps=410, batch_size=100, progress=False, device="cpu", **options)
        return of(first.resume(steps=20, progress=False))

    def trained() -> Any:
        return vb.fit(
            vae(), digits(), epochs=20, batch_size=100, learning_rate=1e-2, progress=False, device="cpu", compile=False
        )

    def schools() -> Any:
        return vb.fit(vb.pairs.eight_schools(), vb.data.eight_schools(), "stl", steps=400, learning_rate=0.02, progress=False, device="cpu")  # fmt: skip

    def compared(pair: Any, data: Any, estimators: Any, **options: Any) -> dict[str, Any]:
        result = vb.compare(pair(), data, estimators, progress=False, device="cpu", **options)
        return {"table": result.to_dataframe(), "best": list(result.estimators), "oracle": result.oracle}

    def evidence(fit: Any, **options: Any) -> dict[str, Any]:
        found = vb.log_evidence(fit(), progress=False, device="cpu", **options)
        return {"value": found.value, "se": found.se, "low": found.low, "high": found.high, "each": found.per_datum}

    def posterior(fit: Any, **options: Any) -> dict[str, Any]:
        found = vb.posterior(fit(), device="cpu", **options)
        return {"draws": dict(found.draws), "effective": found.effective, "verdict": found.verdict()}

    def raced() -> dict[str, Any]:
        found = vb.race(vae(), digits(), ["stl", "score"], steps=420, seeds=2, evaluations=4, batch_size=100, progress=False, device="cpu")  # fmt: skip
        return {"rows": found.to_dataframe(), "fits": {str(k): of(fit) for k, fit in found.fits.items()}}

    def svi(loss: Any, **options: Any) -> dict[str, Any]:
        pair, data = vb.pairs.eight_schools(), vb.data.eight_schools()
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        made = vb.SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.02}), loss=loss, **options)
        losses = [made.step(*data.tensors.values()) for _ in range(130)]
        run = made.run(*data.tensors.values(), num_steps=50, progress=False)
        found = {"losses": losses, "run": run, "parameters": {k: v.clone() for k, v in pyro.get_param_store().items()}}
        pyro.clear_param_store()
        return found

    def learnt() -> dict[str, Any]:
        found = vb.monte_carlo_em(vae(), digits(), steps=12, batch_size=100, chains=2, progress=False, device="cpu")
        found = found.resume(steps=3, progress=False)
        return {"rows": found.history.drop(columns="seconds").to_numpy(), "chains": found.chains, **found.parameters}

    def filled() -> dict[str, Any]:
        fit = trained()
        found = vb.impute(fit, digits().rows(slice(0, 20)), torch.arange(64) < 32, draws=5, burn_in=3, progress=False)
        return {"x": found.x, "draws": found.draws, "acceptance": found.acceptance}

    def space() -> dict[str, Any]:
        fit = trained()
        made = vb.LatentSpace(fit)
        return {
            "encode": made.encode(), "generate": made.generate(5), "chart": made.chart(side=4), "use": vb.latent_use(fit),
            "rebuilt": vb.reconstruct(fit).mean,
        }  # fmt: skip

    def exported() -> dict[str, Any]:
        made = vb.to_arviz([schools(), schools()], draws=20)
        groups = ("posterior", "posterior_predictive", "log_likelihood", "sample_stats", "prior", "prior_predictive")
        return {group: {name: made[group][name].values for name in made[group].data_vars} for group in groups}

    def table(pair: Any, batch: Any) -> dict[str, Any]:
        pair = pair()
        found = vb.tabulate(pair, batch)
        return {"evidence": found.log_evidence(), "elbo": found.elbo(), "kl": found.kl()}

    def split() -> dict[str, Any]:
        found = vb.noise_split(vae(), digits(), batch_sizes=(10, 100), minibatches=12, draws=5, progress=False)
        return {"table": found.to_dataframe()}

    def factored() -> dict[str, Any]:
        found = vb.cavi(vb.conjugate.GaussianMixture(vb.data.digits().first[:100, 18:21].double(), components=3), restarts=3, progress=False)  # fmt: skip
        return {"elbo": found.elbo, "restarts": list(found.restarts)}

    pairs, fit = vb.pairs, functools.partial
    small = {"steps": 310, "learning_rate": 0.02}
    toy = {"steps": 40, "learning_rate": 0.05}
    normal, eight = pairs.normal_normal, pairs.eight_schools
    discrete: Any = {
        name: fit(
            fitted, pairs.three_bernoulli, lambda: vb.pairs.TRACTABLE["three_bernoulli"].batch().args, name, **toy
        )
        for name in ("score", "rloo", "disarm", "rebar", "rao_blackwell", "vimco", "enumerated", "measure_valued")
    }
    return {
        "fit eager": fit(fitted, normal, lambda: x, "pathwise", compile=False, **toy),
        "fit eager vae, minibatches": fit(fitted, vae, digits, "analytic_kl", epochs=2, batch_size=100, compile=False),
        "fit compiled schools": fit(fitted, eight, vb.data.eight_schools, "stl", compile=True, **small),
        "fit compiled vae, minibatches": fit(fitted, vae, digits, "analytic_kl", epochs=60, batch_size=100),
        "fit scheduled": fit(
            fitted, eight, vb.data.eight_schools, "trace", steps=410,
            optimizer=pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.99}),
        ),  # fmt: skip
        "fit clipped": fit(
            fitted, eight, vb.data.eight_schools, "pathwise", steps=410, optimizer=pyro.optim.ClippedAdam({"lr": 0.02})
        ),
        "fit adagrad": fit(fitted, vae, digits, "pathwise", steps=410, batch_size=64, optimizer=torch.optim.Adagrad),
        "fit baselined": fit(fitted, vae, digits, "baselined", steps=410, batch_size=100),
        "fit beta": fit(fitted, vae, digits, vb.Beta(beta=2.0, warm_up=100), steps=410, batch_size=100),
        "fit adaptive": fit(fitted, eight, vb.data.eight_schools, vb.AdaptiveSTL(4), **small),
        "fit sobol": fit(fitted, eight, vb.data.eight_schools, vb.Pathwise(4, noise="sobol"), **small),
        "fit antithetic": fit(fitted, eight, vb.data.eight_schools, vb.STL(3, noise="antithetic"), **small),
        "fit dreg": fit(fitted, vae, digits, vb.DReG(5), steps=410, batch_size=100),
        "fit wake-sleep": fit(fitted, vae, digits, vb.WakeSleep(3), steps=20, batch_size=100, compile=False),
        "fit sleep phase": fit(fitted, vae, digits, vb.SleepPhase(), steps=410, batch_size=100),
        "fit dynamic": fit(fitted, vae, digits, "stl", epochs=60, batch_size=100, binarize="dynamic"),
        "fit gamma": fit(fitted, pairs.gamma_poisson, lambda: pairs.TRACTABLE["gamma_poisson"].batch().args, "trace", **small),
        "fit pyro's": fit(fitted, eight, vb.data.eight_schools, Trace_ELBO(num_particles=2), **small),
        "fit pyro's graph": fit(fitted, eight, vb.data.eight_schools, TraceGraph_ELBO(), compile=False, **toy),
        "fit mean field": fit(fitted, lambda: pairs.mean_field(rows=530), digits, "stl", steps=410, batch_size=100),
        "restarts compiled": fit(several, eight, vb.data.eight_schools, restarts=3, **small),
        "restarts vae": fit(several, vae, digits, restarts=2, epochs=60, batch_size=100),
        "restarts eager": fit(several, eight, vb.data.eight_schools, restarts=2, compile=False, **toy),
        "resume compiled": fit(resumed, compile=True),
        "resume eager": lambda: of(trained().resume(steps=7, progress=False)),
        **{f"discrete {name}": case for name, case in discrete.items()},
        "compare tabulated": fit(
            compared, normal, x, ["score", "pathwise", vb.IWAE(2), vb.DReG(2)], at={"start": normal()}, oracle="tabulated", replicas=500
        ),
        "compare vae": fit(
            compared, vae, digits(), ["score", "rloo", "stl", "analytic_kl", "baselined"], epochs=8, batch_size=100, replicas=100
        ),
        "compare trajectory": fit(compared, eight, vb.data.eight_schools(), None, steps=30, at="trajectory", replicas=100),
        "noise split vae": split,
        "race vae": raced,
        "evidence vae iw": fit(evidence, trained, method="iw", num_particles=20, batch_size=200),
        "evidence vae ais": fit(evidence, lambda: vb.fit(vae(), digits().rows(slice(0, 20)), steps=5, progress=False), method="ais", num_particles=2, temperatures=5),
        "evidence schools sandwich": fit(evidence, schools, method="sandwich", num_particles=2, temperatures=5),
        "evidence exact": fit(evidence, lambda: vb.fit(normal(), x, steps=3, progress=False), method="exact"),
        "posterior guide": fit(posterior, schools, draws=50),
        "posterior importance": fit(posterior, schools, draws=50, method="importance"),
        "posterior exact": fit(posterior, lambda: vb.fit(normal(), x, steps=3, progress=False), draws=50),
        "impute vae": filled,
        "latent space vae": space,
        "monte carlo em vae": learnt,
        "svi": fit(svi, vb.STL()),
        "svi pyro's": fit(svi, Trace_ELBO()),
        "svi eager": fit(svi, vb.Trace(), compile=False),
        "arviz": exported,
        "tabulate": fit(table, normal, vb.Batch((x,))),
        "cavi": factored,
    }  # fmt: skip


if __name__ == "__main__":
    main()
