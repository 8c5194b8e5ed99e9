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
LONGEST = 100  # characters of a folder's name; a file system takes 255 bytes


@dataclass(frozen=True)
class Asked:
    """The options of a run, besides the experiment.

    Args:
        quick: The quick settings.
        given: Name → text of settings set by hand.
        sweep: Name → texts with commas of settings to run with each of several values.
        seeds: Of everything random; a run with each.
        jobs: How many measurements at a time.
        backend: Where they are made: "loky" (processes of this machine), "dask:ADDRESS" or "ray".
        force: Whether to measure anew what is unchanged.
    """

    quick: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    sweep: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    jobs: int = 1
    backend: str = "loky"
    force: bool = False

    def folder_name(self, name: str) -> str:
        """The experiment's, and whatever is not as usual: `qmc-quick-particles=2,8-steps=100+200-seed=1`."""
        parts = [name, *["quick"] * self.quick]
        parts += [f"{setting}={text}" for setting, text in sorted(self.given.items())]
        parts += [f"{setting}={'+'.join(texts.split(','))}" for setting, texts in sorted(self.sweep.items())]
        parts += [f"seed={'+'.join(map(str, self.seeds))}"] * (self.seeds != (0,))
        return _file_name("-".join(parts))


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        name: Of its file.
        state: "run", "unchanged", "left out" or "failed".
        verdict: In words; why, where it was left out or failed.
        seconds: What the measurement took, now or when it was run; NaN for none.
        folder: Of the run.
        table: What was measured; None for nothing.
        sections: The experiment's.
    """

    name: str
    state: str
    verdict: str
    seconds: float = float("nan")
    folder: Path | None = None
    table: pd.DataFrame | None = None
    sections: tuple[str, ...] = ()


def files(given: Sequence[Path], *, every: bool) -> dict[Path, bool]:
    """Experiment → whether it was named itself, rather than found in a folder.

    Args:
        given: Files and folders.
        every: Those of ./experiments too.

    Raises:
        BadInput: Nothing to run, or two of one name.
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
    """An experiment's table, figure, verdict and page in a run folder; the kept ones where they would be the same.

    Args:
        path: The experiment.
        asked: How to run it.
        named: Whether to run it although it is slow.
        out: The run folder; None for one in `runs` that has its name.
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
            else:  # with all the threads of this machine
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
                config["fingerprint"] = ""  # no kept run is like it
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
    """Each experiment in its folder, whatever becomes of the others, and a page that leads to all of them.

    Args:
        paths: Experiment → whether it was named itself.
        asked: How to run them.
        out: The folder for the run folders; None for `runs`.
        console: Console to print messages to.
        errors: Where to say what goes wrong.
    """
    outcomes = []
    for number, (path, named) in enumerate(paths.items(), start=1):
        console.rule(f"{number}/{len(paths)} {escape(path.stem)}", align="left")
        folder = None if out is None else out / asked.folder_name(path.stem)
        try:
            outcomes.append(run(path, asked, named=named, out=folder, console=console))
        except VBayesError as error:
            outcomes.append(Outcome(path.stem, "failed", f"{type(error).__name__}: {error}"))
        except Exception as error:  # whatever it is, the next experiment has nothing to do with it
            errors.print(traceback.format_exc(), markup=False, highlight=False)
            outcomes.append(Outcome(path.stem, "failed", f"{type(error).__name__}: {error}"))
        console.print(outcomes[-1].verdict, markup=False)
    if (out or RUNS).is_dir():
        index(out or RUNS)
    return outcomes


def _write(
    folder: Path, experiment: Experiment, wanted: Sequence[sweep.Combination], tables: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, str]:
    """Table, figures and words of the measurements, a figure and a verdict for each; returns the table and all verdicts."""
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
    """What of a text can stand in the name of a file, with its hash in place of what is too long."""
    whole = re.sub(r"[^\w.,=+-]", "", text)
    return (
        whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    )


def _kept(name: str, folder: Path, experiment: Experiment) -> Outcome | None:
    """What an earlier run left; None where some of it is gone."""
    verdict = read_json_or_nothing(folder / "results.json").get("verdict")
    seconds = read_json_or_nothing(folder / "environment.json").get("seconds", float("nan"))
    if not isinstance(verdict, str) or type(seconds) not in (int, float) or not (folder / "report.html").exists():
        return None
    try:
        table = pd.read_csv(io.BytesIO(regular_file.read(folder / "table.csv")))
        shown = experiment.shown(table)
    except Exception:  # of a damaged table; an error of the experiment's own comes again once it is measured
        return None
    return Outcome(name, "unchanged", verdict, seconds, folder, shown, experiment.sections)
