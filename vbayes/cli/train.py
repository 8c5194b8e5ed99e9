"""`vbayes train`: a fit that is saved while it runs, and that the same command continues."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from ..errors import BadInput, NonFinite, absent
from ..estimators import name_of, resolve
from ..laboratory.comparison import Comparison
from ..pair.device import choose_device
from ..progress import stops
from ..runs import regular_file
from ..runs.folder import default_folder
from ..runs.json_files import read_json_or_nothing, write_json
from ..runs.report import report as page
from ..runs.run_folder import hidden_of, left_behind, run_folder
from ..training import checkpoint
from ..training import fit as training
from ..training.ranks import Ranks, ranks_of
from ..training.result import Fit
from ..training.settled import search_of
from .asked import LENGTH, OPTIONS, plain
from .code import file_of
from .commands import find
from .job import Job, is_file
from .keep import DRAWS, FIT, UNFINISHED, configuration, publish, rest, says_how

USUAL = "analytic_kl"  # estimator


def train(
    asked: dict[str, Any],
    *,
    given: Collection[str],
    device: str,
    out: Path | None,
    resume: Path | None,
    console: Console,
) -> tuple[Fit, Path]:
    """Trains a fit; returns it and its run folder.

    Args:
        asked: pair, data, estimator, seed, and the options of `OPTIONS` and `LENGTH`.
        given: Names of the options that were given explicitly.
        device: Device to train on.
        out: The run folder; None for one in `runs`.
        resume: Run folder of an interrupted or killed run, to continue it.
        console: Console to print messages to.
    """
    ranks = ranks_of(None)
    if ranks is not None:
        device = ranks.device(device)
        if not ranks.first:
            _beside(ranks, device)
    final = None if resume is None else _final(resume)
    if final is not None:
        if out is not None:
            raise BadInput(
                f"--resume {resume} and --out {out}. Wanted: one of them; a run continues in its own folder."
            )
        asked = _asked_then(final, asked, given)
    job = _job(asked)
    asked = {**asked, "source": _source(asked["pair"], asked["data"])}
    final = final or out or _killed(asked) or default_folder("train", job.pair.name)
    where = str(choose_device(device))
    config = configuration("train", asked["pair"], job, asked, seed=asked["seed"], device=where, console=console)
    method, how = _how(asked, job)
    config |= {"estimator": _name(method), "epochs": how["epochs"], "learning_rate": how["learning_rate"]}
    config["changed"] |= _changed(asked, method)
    ended = _told(final)  # of a run that was moved to its final place on Ctrl-C or a full disk
    interrupted = ended.get("arguments") == asked
    trained = interrupted and ended.get("left") == "rest"
    if ranks is not None:
        ranks.by_first(lambda: None if trained else asked)
    if trained and final is not None:
        _rest_of(final, asked)
        return Fit.load(final / FIT, job.pair, job.data), final
    failure: NonFinite | None = None
    with run_folder(final, replaces=interrupted, keeps=FIT) as place:
        unfinished = {"arguments": asked, "left": "fit"}
        if _told(place.path).get("arguments") != asked:
            place.clear()
            if interrupted and regular_file.is_regular(final / FIT):
                shutil.copyfile(final / FIT, place.path / FIT)
        write_json(place.path / UNFINISHED, unfinished)
        kept = place.path / FIT
        if method == "auto":  # it has no file to continue from
            kept.unlink(missing_ok=True)
        else:
            how["checkpoint"] = kept
        if kept.exists():
            console.print(f"Continuing from {kept}.", soft_wrap=True, markup=False)
        before = len(stops())
        try:
            fit = training.fit(
                job.pair, job.data, asked["estimator"] and method, seed=asked["seed"], device=device, **how
            )
        except NonFinite as error:
            assert error.fit is not None
            failure, fit = error, error.fit
        place.path.mkdir(parents=True, exist_ok=True)  # it may have been removed
        goes_on = fit.interrupted and not failure and method != "auto"
        if not kept.exists() or not (goes_on or failure or (checkpoint.going(kept) or {}).get("finished")):
            fit.save(kept)  # it could not be written during training
        if goes_on and signal.SIGTERM in stops()[before:]:
            Console(stderr=True).print(
                f"Stopped by SIGTERM after {fit.steps} steps, which are saved. To continue, repeat the command or run `vbayes train --resume {place.final}`.",
                soft_wrap=True, markup=False, highlight=False,
            )  # fmt: skip
            raise SystemExit(128 + signal.SIGTERM)
        if asked["estimator"] is None:  # chosen by `fit`, depending on the guide
            config["estimator"] = name_of(fit.estimator)
        config |= {"bound": fit.bound} | ({"guide": fit.guide} if fit.pair.word else {})
        config |= {"steps": fit.steps, "interrupted": fit.interrupted, "learning_rate": fit.learning_rate}
        if failure:
            config["failed"] = str(failure)
        if fit.convergence:
            config |= {"converged": fit.convergence.converged, "convergence": fit.convergence.reason}
            console.print(f"Convergence: {fit.convergence.reason}", markup=False)
        if fit.guide:
            console.print(f"Guide: {fit.guide}", markup=False)
        if search := search_of(fit):
            config |= {"found": search.words()} | ({search.name: search.value} if math.isfinite(search.value) else {})
            console.print(f"Found {search.words()}", markup=False)
        publish(place, fit, config, unfinished if goes_on else {"arguments": asked, "left": "rest"})
        with says_how(final, asked["pair"]):
            draws = 0 if failure else DRAWS
            rest(fit, job, final, asked["seed"], draws=draws, diagnosed=not failure, finished=not goes_on)
    if failure:
        failure.args = (f"{failure.args[0]}\nSaved in {final}.",)
        raise failure
    if goes_on:
        console.print(f"To continue: `vbayes train --resume {final}`.", soft_wrap=True, markup=False)
    return fit, final


def _beside(ranks: Ranks, device: str) -> NoReturn:
    """The work of all processes started by torchrun except the first: they only train, while the first also writes and prints."""
    if asked := ranks.by_first(dict[str, Any]):
        job = _job(asked)
        method, how = _how(asked, job)
        training.fit(job.pair, job.data, method, seed=asked["seed"], device=device, progress=False, **how)
    raise SystemExit(0)


def report(folder: Path) -> Path:
    """`vbayes report`: writes the page of a run folder, and whatever else is missing in it.

    A pair that is not built in is code, which is not run just because a run folder names it; in that case only the page is made.
    """
    told = _told(folder)
    if told.get("left") != "rest" or not regular_file.is_regular(folder / FIT):
        return page(folder)
    asked = plain(told.get("arguments"), folder)
    if ":" in asked["pair"]:
        raise BadInput(
            f"{folder} lacks figures and draws, and its pair, {asked['pair']!r}, is Python code, which is not run just because a run folder names it. Fix: `vbayes train {asked['pair']} --resume {folder}`."
        )
    return _rest_of(folder, asked)


def _rest_of(folder: Path, asked: dict[str, Any]) -> Path:
    """Makes what is missing for a finished fit."""
    job = _job(asked)
    if regular_file.is_regular(folder / "comparison.json"):
        result = Comparison.load(folder / "comparison.json")
        fit = Fit.load(folder / FIT, job.pair, job.data, estimator=_trained_by(folder / FIT))
        with says_how(folder, asked["pair"]):
            rest(fit, job, folder, asked["seed"], comparison=result)
        return folder / "report.html"
    method, how = _how(asked, job)
    told = checkpoint.going(folder / FIT)
    if told is None or not told["finished"]:
        fit = Fit.load(folder / FIT, job.pair, job.data, estimator=_trained_by(folder / FIT))
    else:  # finished, so it is returned unchanged
        fit = training.fit(
            job.pair, job.data, asked["estimator"] and method, seed=asked["seed"], **how, checkpoint=folder / FIT
        )
    with says_how(folder, asked["pair"]):
        rest(fit, job, folder, asked["seed"], diagnosed=True)
    return folder / "report.html"


def _job(asked: dict[str, Any]) -> Job:
    return find(asked["pair"], asked["data"], **{name: asked.get(name) for name in OPTIONS})


def _how(asked: dict[str, Any], job: Job) -> tuple[Any, dict[str, Any]]:
    """The estimator, and the options of `vb.fit`."""
    estimator, length = asked["estimator"], {name: asked[name] for name in LENGTH}
    how = job.training | length
    if length["steps"] is None and length["epochs"] is None:
        if estimator == "auto":
            how["epochs"] = job.training["epochs"]
        else:
            how["learning_rate"] = asked["learning_rate"]  # the pair's default belongs to its default number of epochs
    return estimator if estimator == "auto" else resolve(estimator or USUAL), how


def _name(method: Any) -> str:
    return method if method == "auto" else name_of(method)


def _changed(asked: dict[str, Any], method: Any) -> dict[str, list[Any]]:
    """Setting → [default, value], for settings that differ from the pair's."""
    found: dict[str, list[Any]] = {}
    if _name(method) != USUAL:
        found["estimator"] = [USUAL, _name(method)]
    length = {name: asked[name] for name in LENGTH if asked[name] is not None}
    found |= {name: ["until it has converged", value] for name, value in length.items()}
    if asked["learning_rate"] is not None:
        found["learning_rate"] = ["found", asked["learning_rate"]]
    return found


def _final(resume: Path) -> Path:
    """The final folder of a run, given that folder or the hidden one of the unfinished run."""
    name = resume.name
    final = resume.with_name(name[1:].removesuffix(".unfinished")) if name.endswith(".unfinished") else resume
    if not (final / UNFINISHED).exists() and not (hidden_of(final) / UNFINISHED).exists():
        hint = absent(final)
        raise BadInput(
            f"--resume {resume}: there is no run to continue.{hint and f' {hint}'} Wanted: the folder of a run that was interrupted or killed. Fix: start one with `vbayes train`."
        )
    return final


def _asked_then(final: Path, asked: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The arguments of a run, if they do not contradict those given now."""
    hidden = hidden_of(final)
    folder = hidden if (hidden / UNFINISHED).exists() else final
    then = plain(_told(folder).get("arguments"), folder)
    if differs := [f"{name} {then[name]!r}, not {asked[name]!r}" for name in given if then.get(name) != asked[name]]:
        raise BadInput(
            f"--resume {final} with different settings: the run has {'; '.join(differs)}. Wanted: the same settings, or none. Fix: leave them out."
        )
    if ":" in then["pair"] and "pair" not in given:
        raise BadInput(
            f"--resume {final}: its pair is {then['pair']!r}, which is Python code, and code is not run just because a run folder names it. Fix: `vbayes train {then['pair']} --resume {final}`."
        )
    return then


def _killed(asked: dict[str, Any]) -> Path | None:
    """The final folder of a killed run of the same command in `runs`; leftovers of other runs without a fit are removed."""
    for hidden in left_behind(Path("runs"), keeps=FIT):
        if _told(hidden).get("arguments") == asked:
            return _final(hidden)
    return None


def _told(folder: Path) -> dict[str, Any]:
    return read_json_or_nothing(folder / UNFINISHED)


def _source(pair: str, data: str | None) -> str:
    """Identifies the file of a pair that is not built in, and of a table: another file means another command."""
    if data is not None and is_file(data):
        found = os.stat(data)
        return f"{_source(pair, None)} {found.st_size} {found.st_mtime_ns}"
    file = file_of(pair)
    return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def _trained_by(path: Path) -> str:
    """The name of the estimator of a fit, as far as one can be made by its name."""
    return str(checkpoint.told(path, "estimator"))
