"""`vbayes run`: runs experiments into run folders, unless their results would be unchanged."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from ..errors import BadInput, VBayesError
from . import regular_file, sweep
from .experiment import Experiment, find, load
from .fingerprint import fingerprint
from .folder import environment, unfinished
from .index import index
from .json_files import read_json_or_nothing, write_json
from .page import page
from .picture import save_figure
from .report import report
from .task import UNFORESEEN, measure

RUNS = Path("runs")
LONGEST = 100  # maximum length of a folder's name in characters; file systems allow 255 bytes


@dataclass(frozen=True)
class Asked:
    """The options of a run, besides the experiment.

    Args:
        quick: Whether to use the quick settings.
        given: Name → text of explicitly given settings.
        sweep: Name → comma-separated values, for settings to run with each of several values.
        seeds: Seeds; there is a run with each.
        jobs: Number of measurements at a time.
        backend: Where they run: "loky" (local processes), "dask:ADDRESS" or "ray".
        force: Whether to repeat unchanged measurements.
    """

    quick: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    sweep: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    jobs: int = 1
    backend: str = "loky"
    force: bool = False

    def folder_name(self, name: str) -> str:
        """The name of the experiment, with everything that differs from the defaults: `qmc-quick-particles=2,8-steps=100+200-seed=1`."""
        parts = [name, *["quick"] * self.quick]
        parts += [f"{setting}={text}" for setting, text in sorted(self.given.items())]
        parts += [f"{setting}={'+'.join(texts.split(','))}" for setting, texts in sorted(self.sweep.items())]
        parts += [f"seed={'+'.join(map(str, self.seeds))}"] * (self.seeds != (0,))
        return _file_name("-".join(parts))


@dataclass(frozen=True)
class Outcome:
    """The outcome of running an experiment.

    Attributes:
        name: Name of its file.
        state: "run", "unchanged", "left out" or "failed".
        verdict: The verdict; or why it was left out or failed.
        seconds: Duration of the measurement, now or when it was run; NaN if there was none.
        folder: The run folder.
        table: The measured table; None if there is none.
        sections: Sections of the experiment.
    """

    name: str
    state: str
    verdict: str
    seconds: float = float("nan")
    folder: Path | None = None
    table: pd.DataFrame | None = None
    sections: tuple[str, ...] = ()


def files(given: Sequence[Path], *, every: bool) -> dict[Path, bool]:
    """Path of an experiment → whether it was named explicitly, rather than found in a folder.

    Args:
        given: Files and folders.
        every: Whether to include those of ./experiments.

    Raises:
        BadInput: There is nothing to run, or two experiments have the same name.
    """
    found: dict[Path, bool] = {}
    for path in [*given, *[Path("experiments")] * every]:
        for file in find(path) if path.is_dir() or path == Path("experiments") else [path]:
            found[file] = found.get(file, False) or file == path
    if not found:
        raise BadInput("There is nothing to run. Wanted: a file with an experiment, a folder of them, or --all.")
    for file in found:
        if (same := [str(other) for other in found if other.stem == file.stem])[1:]:
            raise BadInput(
                f"{' and '.join(same)} would use the same run folder. Run them separately, one of them with --out."
            )
    return found


def run(path: Path, asked: Asked, *, named: bool, out: Path | None, console: Console) -> Outcome:
    """Runs an experiment: writes its table, figure, verdict and page to a run folder, or reuses them if they are unchanged.

    Args:
        path: The experiment's file.
        asked: The options.
        named: Whether it was named explicitly, so that it is run even if it is slow.
        out: The run folder; if None, one in `runs` with its name.
        console: Console to print messages to.
    """
    with load(path) as experiment:
        if experiment.slow and not named:
            return Outcome(path.stem, "left out", f"Left out: {experiment.slow}")
        console.print(f"[b]{escape(experiment.question)}[/b]")
        wanted = sweep.combinations(
            experiment, quick=asked.quick, given=asked.given, seeds=asked.seeds, sweep=asked.sweep
        )
        final = out or RUNS / asked.folder_name(path.stem)
        mark = fingerprint(path, files=experiment.files, wanted=[(c.label, c.settings, c.seed) for c in wanted])
        kept = read_json_or_nothing(final / "config.json")
        if kept.get("fingerprint") == mark and not asked.force and (outcome := _kept(path.stem, final, experiment)):
            return outcome
        with unfinished(final, replaces="fingerprint" in kept and (out is None or asked.force)) as folder:
            start = time.perf_counter()
            if len(wanted) > 1 or experiment.tasks:
                tables = sweep.measure(
                    path, experiment, wanted, jobs=asked.jobs, backend=asked.backend, force=asked.force
                )
            else:  # with all threads of this machine
                if asked.jobs > 1 or asked.backend != "loky":
                    console.print("There is only one measurement, which runs in this process.")
                tables = [measure(experiment, path, wanted[0].settings, wanted[0].seed)]
            sweep.check_seeds(experiment, wanted, tables)
            seconds = round(time.perf_counter() - start, 3)
            table, verdict = _write(folder, experiment, wanted, tables)
            config: dict[str, Any] = {"command": "run", "experiment": path.stem, "quick": asked.quick}
            config |= {name: sweep.one_or_all([c.settings[name] for c in wanted]) for name in experiment.full}
            config |= {"seed": sweep.one_or_all([c.seed for c in wanted]), "fingerprint": mark}
            if unforeseen := sorted({file for table in tables for file in table.attrs.get(UNFORESEEN, ())}):
                config["fingerprint"] = ""  # so that it never equals that of a saved run
                console.print(
                    f"{', '.join(unforeseen)} was imported only during the measurement, so changes in it can't be detected, and the experiment is run again each "
                    "time. Fix: import it at the top of the file."
                )
            write_json(folder / "config.json", config)
            where = environment(device="auto", seed=wanted[0].seed) | {"seed": config["seed"], "seconds": seconds}
            write_json(folder / "environment.json", where)
            report(folder)
    return Outcome(path.stem, "run", verdict, seconds, final, experiment.shown(table), experiment.sections)


def course(folder: Path, asked: Asked, outcomes: Sequence[Outcome], *, out: Path | None) -> Path:
    """The runs of a folder of experiments on one page, in the order of its files; returns the page's path."""
    target = (out or RUNS) / f"{_file_name(asked.folder_name(folder.resolve().name))}.html"
    return page(target, [o.folder for o in outcomes if o.folder is not None], title=folder.resolve().name)


def run_each(
    paths: Mapping[Path, bool], asked: Asked, *, out: Path | None, console: Console, errors: Console
) -> list[Outcome]:
    """Runs each experiment in its own folder, whether or not others fail, and writes a page with links to all of them.

    Args:
        paths: Path of an experiment → whether it was named explicitly.
        asked: The options.
        out: The folder for the run folders; `runs` if None.
        console: Console to print messages to.
        errors: Console to print errors to.
    """
    outcomes = []
    for number, (path, named) in enumerate(paths.items(), start=1):
        console.rule(f"{number}/{len(paths)} {escape(path.stem)}", align="left")
        folder = None if out is None else out / asked.folder_name(path.stem)
        try:
            outcomes.append(run(path, asked, named=named, out=folder, console=console))
        except VBayesError as error:
            outcomes.append(Outcome(path.stem, "failed", f"{type(error).__name__}: {error}"))
        except Exception as error:  # any error: the next experiment is not affected
            errors.print(traceback.format_exc(), markup=False, highlight=False)
            outcomes.append(Outcome(path.stem, "failed", f"{type(error).__name__}: {error}"))
        console.print(outcomes[-1].verdict, markup=False)
    if (out or RUNS).is_dir():
        index(out or RUNS)
    return outcomes


def _write(
    folder: Path, experiment: Experiment, wanted: Sequence[sweep.Combination], tables: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, str]:
    """Writes the table, and a figure and a verdict for each combination; returns the table and all verdicts."""
    verdicts = []
    for number, (combination, own) in enumerate(zip(wanted, tables, strict=True), start=1):
        words, name = experiment.verdict(own), combination.name
        verdicts.append(f"{name}: {words}" if name else words)
        save_figure(
            experiment.figure(own), folder / (_file_name(f"figure-{number:03}-{name}" if name else "figure") + ".png")
        )
    table, verdict = sweep.stacked(wanted, tables), "\n".join(verdicts)
    table.to_csv(folder / "table.csv", index=False)
    described: dict[str, Any] = {"question": experiment.question, "claim": experiment.claim, "notes": experiment.notes}
    described |= {"verdict": verdict, "columns": list(table.columns)}
    write_json(folder / "results.json", described | {"rows": json.loads(table.to_json(orient="values"))})
    return table, verdict


def _file_name(text: str) -> str:
    """A text as part of a file name; the end of a long one is replaced by a hash."""
    whole = re.sub(r"[^\w.,=+-]", "", text)
    return (
        whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    )


def _kept(name: str, folder: Path, experiment: Experiment) -> Outcome | None:
    """The results of an earlier run; None if some are missing."""
    verdict = read_json_or_nothing(folder / "results.json").get("verdict")
    seconds = read_json_or_nothing(folder / "environment.json").get("seconds", float("nan"))
    if not isinstance(verdict, str) or type(seconds) not in (int, float) or not (folder / "report.html").exists():
        return None
    try:
        table = pd.read_csv(io.BytesIO(regular_file.read(folder / "table.csv")))
        shown = experiment.shown(table)
    except Exception:  # the table is damaged; an error of the experiment itself will occur again when it is measured
        return None
    return Outcome(name, "unchanged", verdict, seconds, folder, shown, experiment.sections)
