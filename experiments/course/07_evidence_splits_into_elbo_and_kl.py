"""Does log p(x) = ELBO + KL(q ‖ posterior) hold throughout training, and is the gap zero only if q is the posterior?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import torch
from answers import head

import vbayes as vb
from vbayes.pairs import TRACTABLE

ROUNDING, OF_GRIDS = 1e-8, 1e-6  # tolerances for closed forms and for quadrature
LATENTS = ("b1", "b2", "b3", "z")  # latents of the pairs without a closed form
GRID_STEP = 0.02


@contextmanager
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def measure(*, marks: list[int]) -> pd.DataFrame:
    """Evidence, ELBO and KL of each tractable pair at several steps of training, computed independently of each other where possible."""
    with double():
        return pd.DataFrame([row for name in TRACTABLE for row in along(name, marks)] + [at_the_posterior()])


def along(name: str, marks: list[int]) -> Iterator[dict[str, object]]:
    known = TRACTABLE[name]
    data, pair = known.batch().args, known.pair()
    options = {"steps": 0, "learning_rate": 0.05, "compile": False, "progress": False}
    fit = vb.fit(pair, data if len(data) > 1 else data[0], vb.RLOO(4), **options)
    for mark in marks:
        if mark > fit.steps:
            fit = fit.resume(steps=mark - fit.steps, progress=False)
        yield split(name, fit.pair, vb.Batch(data)) | {"step": mark}


def split(name: str, pair: vb.Pair, batch: vb.Batch) -> dict[str, object]:
    """With a closed form: evidence and ELBO from it, and the KL from a table of all latent values. Without: evidence and ELBO from the table, and the KL from Pyro's densities, value by value."""
    table = vb.tabulate(pair, batch)
    evidence, elbo, source = float(table.log_evidence().sum()), float(table.elbo().sum()), "table"
    kl = float(table.kl().sum()) if pair.exact is not None else case_by_case(pair, batch)
    if pair.exact is not None:
        with pair.scope(), torch.no_grad():
            evidence, elbo, source = (
                float(pair.exact.log_evidence(*batch.args)),
                float(pair.exact.elbo(*batch.args)),
                "closed form",
            )
    return {
        "pair": name,
        "log_evidence": evidence,
        "elbo": elbo,
        "kl": kl,
        "remainder": evidence - elbo - kl,
        "source": source,
    }


def case_by_case(pair: vb.Pair, batch: vb.Batch) -> float:
    """KL(q ‖ posterior) for local latents: q and p of every latent value from Pyro's traces, and the posterior by normalising p. A real latent is evaluated on a fine grid."""
    with pair.scope(), torch.no_grad():
        nodes = pyro.poutine.trace(pair.guide).get_trace(*batch.args).nodes
        sites = [name for name in nodes if name in LATENTS]
        values, width = ((0.0, 1.0), 1.0) if sites != ["z"] else (np.arange(-10, 10, GRID_STEP), GRID_STEP)
        log_q, log_p = [], []
        for case in itertools.product(values, repeat=len(sites)):
            rows = batch.args[0]
            given = {name: rows.new_full((len(rows),), float(value)) for name, value in zip(sites, case, strict=True)}
            for program, into in ((pair.guide, log_q), (pair.model, log_p)):
                trace = pyro.poutine.trace(pyro.poutine.condition(program, given)).get_trace(*batch.args)
                trace.compute_log_prob()
                into.append(sum(site["log_prob"] for site in trace.nodes.values() if "log_prob" in site))
        q, p = torch.stack(log_q), torch.stack(log_p) + math.log(width)
        return float((q.exp() * width * (q + math.log(width) - (p - p.logsumexp(0)))).sum())


def at_the_posterior() -> dict[str, object]:
    """The normal model with q set to the posterior, N(x/2, ½)."""
    known = TRACTABLE["normal_normal"]
    x = known.batch().args[0]
    pair = known.pair().load({"loc": x / 2, "scale": torch.full_like(x, 0.5).sqrt().log()})
    return split("normal_normal at q = p", pair, known.batch()) | {"step": 0}


def verdict(table: pd.DataFrame) -> str:
    exact = table[table["pair"] == "normal_normal at q = p"].iloc[0]
    others = table.drop(exact.name)
    off, gap = float(table.remainder.abs().max()), float(others.kl.min())
    equal = abs(exact.log_evidence - exact.elbo)
    known = others.source == "closed form"
    checks = {
        "log p(x) = ELBO + KL": bool((others.remainder[known].abs() < ROUNDING).all() and (table.remainder.abs() < OF_GRIDS).all()), "the ELBO is below": bool((others.kl > 1e-6).all()), "equal at q = p": equal < ROUNDING,
    }  # fmt: skip
    return (
        f"{head(checks)}: on {others['pair'].nunique()} pairs at {others.step.nunique()} points of their trainings log p(x) = ELBO + KL to {off:.0e} nats, with evidence "
        f"and ELBO in closed form on {others[others.source == 'closed form']['pair'].nunique()} of them and the KL from all values of the latents, and on the others evidence and ELBO from these and the KL case by case from Pyro's densities. The ELBO is below everywhere, by {gap:.2g} "
        f"nats or more, and with q put on the posterior it is the evidence to {equal:.0e}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    names = [name for name in dict.fromkeys(table["pair"]) if "at q" not in name]
    drawing, axes = plt.subplots(3, -(-len(names) // 3), figsize=(12, 8), layout="constrained")
    for ax, name in zip(axes.flat, names, strict=False):
        own = table[table["pair"] == name]
        place = range(len(own))
        base = min(own.elbo.min(), own.log_evidence.min()) - 0.3
        ax.bar(place, own.elbo - base, bottom=base, color="#0072B2", label="ELBO")
        ax.bar(place, own.kl, bottom=own.elbo, color="#E69F00", label="KL(q ‖ posterior)")
        ax.plot(place, own.log_evidence, "k_", ms=22, mew=2, label="log p(x)")
        ax.set_xticks(list(place), [str(step) for step in own.step])
        ax.set_title(name.replace("_", " "), loc="left", fontsize=11)
        ax.set_xlabel("training steps")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("nats")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False)
    return drawing


experiment = vb.Experiment(
    question="Does log p(x) = ELBO + KL(q ‖ posterior) hold throughout training, and is the gap zero only if q is the posterior?",
    claim="ln p(x) = KL + ELBO with KL ≥ 0, zero if and only if q is the posterior; so the ELBO is a lower bound (course, claims 7 and 8).",
    measure=measure,
    full={"marks": [0, 3, 10, 30, 100, 300, 1000]},
    quick={"marks": [0, 10, 100]},
    figure=figure,
    verdict=verdict,
    notes="In nats, in double precision. `remainder`: log p(x) − ELBO − KL.",
    summary=lambda table: table.drop(columns=["source"]),
    sections=("pair",),
)
