"""A fit in one safetensors file, which can't contain code and which other tools can open."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..data.dataset import Dataset
from ..data.labels import relabelled
from ..errors import BadData, BadInput, OutputUnwritable, VBayesError, absent, beside, warn
from ..estimators import AnalyticKL, name_of, resolve
from ..estimators.remembering import with_memory
from ..pair.groups import twins
from ..pair.pair import Pair
from ..summaries.card import first_few
from ..updates.kept import to_json as update_to_json
from . import checkpoint_guide, checksum
from .checkpoint_fields import fields, rows
from .checkpoint_fields import going as fields_of_going
from .identity import named, rows_of
from .optimizer_state import require_state


def save(fit: Any, path: Path, going: Any = None) -> Path:
    """Writes a fit; see `Fit.save`.

    Args:
        going: Further state needed to continue interrupted training: nested plain values, tensors and arrays.

    Raises:
        OutputUnwritable: The file can't be written; an older one is left as it was.
    """
    parameters = {f"parameter.{k}": v.detach().cpu().contiguous() for k, v in fit.pair.state().items()}
    history = torch.tensor(fit.rows.table, device="cpu")
    tensors: dict[str, Tensor] = {**parameters, "history": history}
    asked = fit.data.asked(fit.pair.model)
    described = {
        "pair": fit.pair.name,
        "estimator": name_of(fit.estimator),
        "data": fit.data.name,
        "batch_size": fit.batch_size,
        "learning_rate": fit.learning_rate,
        "seed": fit.seed,
        "interrupted": fit.interrupted,
        "compile": fit.compile,
        "switches": fit.switches,
        "average": fit.average,
        "update": update_to_json(fit.optimizer),
        "optimizer": named(fit.optimizer),
        "rows": rows_of(fit.data, asked),
        "labels": {name: fit.data.labels[name] for name in asked if name in fit.data.labels},
        "convergence": fit.convergence and fit.convergence.to_json(),
        "guide": checkpoint_guide.described(fit.pair, tensors),
        "progress": _pack(vars(fit.progress), tensors),
        "going": _pack(going, tensors),
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        checksum.write(tensors, unfinished, json.dumps(described))
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, (OSError, SafetensorError)):
            raise OutputUnwritable(
                f"Can't write {path}: {error}. Choose an existing, writable folder with enough space."
            ) from error
        raise
    return path


def going(path: Path) -> dict[str, Any] | None:
    """The state in a file for continuing the training during which it was written; None for a file written by `Fit.save`.

    Raises:
        BadInput: The file does not exist, is not from vbayes, or is damaged.
    """
    described, tensors = _read(path)
    if not isinstance(described, dict) or described.get("going") is None:
        return None
    try:
        return fields_of_going(described["going"], tensors)
    except BadInput as error:
        raise damaged(path, str(error)) from error


def load(path: Path, pair: Pair, data: Dataset, estimator: ELBO | None, optimizer: Any) -> dict[str, Any]:
    """Reads the fields of a `Fit` from a file; see `Fit.load`.

    Raises:
        BadInput: The file does not exist, is not from vbayes, is damaged, or belongs to another pair or estimator.
    """
    described, tensors = _read(path)
    try:
        told = fields(described, tensors)
        history = rows(tensors["history"]) if "history" in tensors else None
    except BadInput as error:
        raise damaged(path, str(error)) from error
    if history is None:
        raise damaged(path, "it has no history")
    if estimator is None:
        estimator = _named(told["estimator"])
    for what, ours in {"pair": pair.name, "estimator": name_of(estimator)}.items():
        if (theirs := told.pop(what)) != ours:
            raise BadInput(f"{path} holds a fit with {what} {theirs!r}, not {ours!r}. Pass that {what}.")
    try:
        trained = checkpoint_guide.guided(pair, described.get("guide"), tensors).copy()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise damaged(path, f"its field 'guide' is not valid: {error}") from error
    data = _coded(path, data, told.pop("labels"))
    _warn_of_others(path, described, data, pair, optimizer if told["update"] is None else None)
    size = told["batch_size"]
    first = None if size is None else torch.arange(min(size, len(data)), device=data.first.device)
    trained.initialise(trained.beside(data.batch(pair.model, first if data.stored else None)))
    if not trained.holds(getattr(estimator, "memory", None)):  # already done for a fit that continues from another
        estimator = with_memory(estimator, trained, trained.beside(data.batch(pair.model, first)))
    state = {k.removeprefix("parameter."): v for k, v in tensors.items() if k.startswith("parameter.")}
    expected = {k: tuple(v.shape) for k, v in trained.state().items()}
    if (got := {k: tuple(v.shape) for k, v in state.items()}) != expected:
        raise BadInput(
            f"{path} has parameters {got}; pair {pair.name!r} has {expected}. Make the pair with the same sizes."
        )
    for name, value in trained.state().items():
        if value.is_floating_point() != state[name].is_floating_point():
            raise damaged(path, f"its tensor 'parameter.{name}' is of {state[name].dtype}, not {value.dtype}")
    try:
        require_state(told["progress"].optimizer, {name: value.shape for name, value in trained.parameters.items()})
    except BadInput as error:
        raise damaged(path, f"its field 'progress' is not valid: {error}") from error
    update = told.pop("update")
    return {
        "pair": trained.load(state),
        "data": data,
        "estimator": estimator,
        "optimizer": optimizer if update is None else update,
        "rows": history,
        **told,
    }


def _coded(path: Path, data: Dataset, labels: dict[str, tuple[str, ...]]) -> Dataset:
    """The data with the codes that names had in the fit.

    Raises:
        BadData: The data have names that were not in the fit, which have no parameters.
    """
    if not labels:
        return data
    found = relabelled(data.tensors, data.labels, labels, table=data.unusable is not None)
    for name, own in found["labels"].items():
        if others := own[len(labels.get(name, own)) :]:
            meant = [f"{other!r} for {one!r}" for one, other in twins(others, labels[name]).items()]
            hint = f" Did you mean {first_few(meant)}?" if meant else ""
            raise BadData(
                f"Column {name!r} of {data.name!r} has names that the fit in {path} was not trained on: {first_few(others)}.{hint} Wanted: the data that it was fitted to; for predictions about others, "
                "fit.predict(new_rows) does."
            )
    codes = {name: own for name, own in labels.items() if name in data.tensors}
    return dataclasses.replace(data, tensors=found["tensors"], labels={**found["labels"], **codes})


def _warn_of_others(path: Path, described: dict[str, Any], data: Dataset, pair: Pair, optimizer: Any) -> None:
    """Warns if the data or the optimiser are not those of the fit; older files don't record them."""
    then, now = described.get("rows"), rows_of(data, data.asked(pair.model))
    if isinstance(then, str) and then and now and then != now:
        count, ours = then.partition(" ")[0], now.partition(" ")[0]
        what = f"{ours} rows, and it had {count}" if count != ours else "others, or in another order"
        warn(
            f"The data are not those that the fit in {path} was trained on: {what}. Its history is of the former; the ELBO, the verdict and draws from here on are of the data passed. "
            "Fix: pass the data of the fit; for new rows, fit.predict(new_rows)."
        )
    trained = described.get("optimizer")
    if (
        optimizer is not None
        and isinstance(trained, str)
        and trained.partition("(")[0] != named(optimizer).partition("(")[0]
    ):
        warn(
            f"The fit in {path} was trained by {trained}, so it can't be resumed with {named(optimizer)}. Fix: Fit.load(..., optimizer={trained.partition('(')[0]})."
        )


def _named(name: str) -> ELBO:
    """The estimator named in a file; the default if its name does not describe it fully."""
    try:
        return resolve(name)
    except VBayesError:
        return AnalyticKL()


def told(path: Path, name: str) -> Any:
    """Reads a field of a file.

    Raises:
        BadInput: As for `going`.
    """
    described, tensors = _read(path)
    try:
        return fields(described, tensors)[name]
    except BadInput as error:
        raise damaged(path, str(error)) from error


def _read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Description and tensors of a file that is whole."""
    _require_file(path)
    try:
        if damage := checksum.damage(path):
            raise damaged(path, damage)
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            metadata = file.metadata()
            described, tensors = json.loads(metadata["vbayes"]), {key: file.get_tensor(key) for key in file.keys()}
    except BadInput:
        raise
    except (OSError, SafetensorError, LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is not a fit that vbayes saved, or it is damaged: {error}. Nothing was changed. Wanted: a file that `fit.save` wrote."
        ) from error
    if (version := metadata.get("version", checksum.VERSION)) != checksum.VERSION:
        raise BadInput(
            f"{path} has format version {version!r}, but this vbayes reads {checksum.VERSION!r}. Wanted: the vbayes that saved it, or a later one."
        )
    return described, tensors


def _require_file(path: Path) -> None:
    """Raises `BadInput` where there is no file, or a folder in its place."""
    wanted = "Wanted: a file that `fit.save` or checkpoint= wrote."
    if path.is_dir():
        inside = path / "fit.safetensors"
        mend = f"Fix: {str(inside)!r}, which is in it." if inside.is_file() else beside(path / "*.safetensors")
        raise BadInput(f"{path} is a folder. {wanted}{mend and f' {mend}'}")
    if missing := absent(path):
        raise BadInput(f"{missing} {wanted}")


def damaged(path: Path, what: str) -> BadInput:
    """The error for a damaged file."""
    return BadInput(
        f"{path} is damaged: {what}. Nothing was changed. Wanted: the file as `fit.save` wrote it. Fix: take another copy of it, or train again."
    )


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Encodes nested Python values as JSON; tensors and arrays are put into `tensors`."""
    if isinstance(value, Tensor):
        tensors[key := f"progress.{len(tensors)}"] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, np.ndarray):
        tensors[key := f"progress.{len(tensors)}"] = torch.from_numpy(value.astype(np.int64))
        return {"array": key, "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(v, tensors) for v in value]}
    return value
