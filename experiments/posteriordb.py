"""Does a fit without settings give the right posterior, or say that it does not?"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import vbayes as vb
from vbayes.errors import BadInput, VBayesError
from vbayes.plots.palette import GRID
from vbayes.progress import bar

OURS, NUTS, SVI, OLD = "no settings", "NumPyro NUTS", "NumPyro SVI", "old default"  # the first and the last are vbayes
FLOOR = 1e-3  # smaller values are shown as this on the logarithmic scale
SHOWN = ("posterior", "method", "mean_error", "sd_ratio", "k_hat", "outcome", "seconds", "effective_per_second")
LOOKS = {OURS: ("#0072B2", "D"), NUTS: ("#D55E00", "s"), SVI: ("#E69F00", "^"), OLD: ("#7F7F7F", "o")}


def measure(
    posteriors: list[str], methods: list[str], dtype: str, draws: int, warmup: int, samples: int, chain_method: str
) -> pd.DataFrame:
    """A row for each posterior and method."""
    # NumPyro runs chains in parallel on the number of devices that this names, which must be set before jax starts.
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    from references.found import FAILED, Errors, Found, row
    from references.posteriors import POSTERIORS

    if unknown := {*posteriors} - {*POSTERIORS} | {*methods} - {*LOOKS}:
        raise BadInput(f"{', '.join(sorted(unknown))}: unknown. Wanted: of {', '.join([*POSTERIORS, *LOOKS])}.")
    chosen = posteriors or list(POSTERIORS)
    run = _methods(methods, dtype, draws, warmup, samples, chain_method)
    rows: list[dict[str, Any]] = []
    with bar("posteriordb", len(chosen) * len(run), show=True) as advance:
        for name in chosen:
            posterior = POSTERIORS[name]
            reference = posterior.reference
            for method, task in run.items():
                advance(len(rows), functools.partial("{} by {}".format, name, method))
                with _cold():
                    try:
                        found = task(posterior)
                    except Exception as error:  # a failure does not end the other methods
                        # An error of the library's own says that there is no answer, so it counts as flagged.
                        trust = "bad" if isinstance(error, VBayesError) else FAILED
                        found = Found({}, trust, float("nan"), says=f"{type(error).__name__}: {error}")
                        rows.append(row(name, method, found, Errors()))
                        continue
                errors = Errors.of(posterior.parameters(found.draws, reference), reference)
                rows.append(row(name, method, found, errors))
        advance(len(rows), str)
    return pd.DataFrame(rows)


def _methods(
    names: list[str], dtype: str, draws: int, warmup: int, samples: int, chain_method: str
) -> dict[str, Callable[[Any], Any]]:
    from references import by_vbayes

    seed = vb.default_seed()
    ours = {"seed": seed, "draws": draws, "dtype": dtype}
    tasks: dict[str, Callable[[Any], Any]] = {
        OURS: functools.partial(by_vbayes.no_settings, **ours),
        OLD: functools.partial(by_vbayes.old_default, **ours),
    }
    if {NUTS, SVI} & {*names}:
        try:
            from references import by_numpyro
        except ImportError as error:
            raise BadInput(
                "This compares with NumPyro. Install it: pip install -c constraints.txt '.[bench]'"
            ) from error
        chains = {"warmup": warmup, "samples": samples, "chain_method": chain_method}
        tasks[NUTS] = functools.partial(by_numpyro.nuts, seed=seed, **chains)
        tasks[SVI] = functools.partial(by_numpyro.svi, seed=seed, draws=draws)
    return {name: tasks[name] for name in names}


@contextmanager
def _cold():
    """Empties the cache, so that nothing is compiled beforehand."""
    before = os.environ.get("VBAYES_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VBAYES_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("VBAYES_CACHE")
            if before is not None:
                os.environ["VBAYES_CACHE"] = before


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Number of posteriors by method and outcome."""
    from references.found import OUTCOMES

    return pd.crosstab(table.method, table.outcome).reindex(columns=list(OUTCOMES), fill_value=0)


def verdict(table: pd.DataFrame) -> str:
    """For each method, how many posteriors it got right or flagged, and how long it took."""
    from references.found import FAILED

    found, seconds = counts(table), table.set_index(["posterior", "method"]).seconds.unstack()
    said = []
    for method in dict.fromkeys(table.method):
        parts = [f"{number} {what}" for what, number in found.loc[method].items() if number or what != FAILED]
        said.append(f"{method}: {', '.join(parts)}; {seconds[method].median():.1f} s in the median")
    text = "; ".join(said) + "."
    if OURS not in found.index:
        return text
    silent = table[(table.method == OURS) & (table.outcome == "silently bad")]
    failed = table[(table.method == OURS) & (table.outcome == "failed")]
    said = [
        f"{what} {', '.join(rows.posterior)}"
        for what, rows in (("silently bad:", silent), ("failed:", failed))
        if len(rows)
    ]
    head = f"Fails here: {'; '.join(said)}" if said else "Holds"
    if NUTS in seconds:
        ratio = (seconds[OURS] / seconds[NUTS]).median()
        text += f" Without settings it takes {ratio:.2g} × the time of NUTS in the median."
    return f"{head}. {text}"


def figure(table: pd.DataFrame) -> plt.Figure:
    """Errors of means, ratios of standard deviations and seconds, a row for each posterior; hollow markers where the method says not to use its draws."""
    names = list(dict.fromkeys(table.posterior))[::-1]
    size = (11, 1.6 + 0.36 * len(names))
    drawing, axes = plt.subplots(1, 3, figsize=size, layout="constrained", sharey=True, width_ratios=(3, 2, 2))
    panels = {
        "mean_error": "largest error of a mean (reference sds)",
        "sd_ratio": "worst ratio of sds",
        "seconds": "seconds to the verdict",
    }
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        for shift, (method, own) in enumerate(table.groupby("method", sort=False)):
            colour, marker = LOOKS[method]
            height = [names.index(name) + 0.18 * (1.5 - shift) for name in own.posterior]
            flagged = own.trust == "bad"
            ax.scatter(
                own[column].clip(FLOOR),
                height,
                marker=marker,
                s=30,
                edgecolors=colour,
                facecolors=np.where(flagged, "none", colour),
                label=method,
                zorder=3,
            )
        ax.set(xscale="log", xlabel=label)
        shown = table[column].clip(FLOOR)
        low, high = shown.min(), shown.max()
        ax.set_xlim(10 ** np.floor(np.log10(low) - 0.05), 10 ** np.ceil(np.log10(high) + 0.05))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        ax.grid(axis="x", **GRID)
        for line in np.arange(len(names) - 1) + 0.5:
            ax.axhline(line, color="#888888", lw=0.4, alpha=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].axvspan(axes[0].get_xlim()[0], 0.1, color="#009E73", alpha=0.12, lw=0)
    axes[1].axvspan(0.9, 1.1, color="#009E73", alpha=0.12, lw=0)
    axes[0].set_yticks(range(len(names)), ["\n".join(dict.fromkeys(name.split("-"))) for name in names], fontsize=8)
    axes[0].set_ylim(-0.5, len(names) - 0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return drawing


experiment = vb.Experiment(
    question="Does a fit without settings give the right posterior, or say that it does not?",
    claim="Yes, on every posterior with reference draws, and in less time than NUTS takes.",
    measure=measure,
    full={
        "posteriors": [],
        "methods": [OURS, NUTS, SVI, OLD],
        "dtype": "float32",
        "draws": 10_000,
        "warmup": 1000,
        "samples": 1000,
        "chain_method": "parallel",
    },
    quick={
        "posteriors": ["kidiq_with_mom_work-kidscore_interaction_c", "gp_pois_regr-gp_regr"],
        "methods": [OURS, OLD],
        "draws": 2000,
    },
    figure=figure,
    verdict=verdict,
    summary=lambda table: table[[*SHOWN]],
    sections=("posterior",),
    slow="it needs reference draws, NumPyro and an otherwise idle machine; run it by naming its file",
    notes="Posteriors of posteriordb, each with ten chains of a thousand reference draws. Right: every mean within 0.1 reference standard deviations and every standard deviation "
    "within 10 %, for the draws that the verdict recommends (plain or weighted). Flagged: the method says that its draws should not be used; NUTS by R̂ > 1.01. The methods run one after the other in one process, with nothing compiled "
    "beforehand; imports are not counted. Effective draws: for NUTS the minimum over the parameters, for the others from the weights of their draws. NumPyro's SVI takes "
    "2000 steps at 0.0005, as in its documentation.",
)  # fmt: skip
