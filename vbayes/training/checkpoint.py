"""A fit in one safetensors file: nothing in it can run code, and other tools open it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.dataset import Dataset
from ..errors import BadInput, OutputUnwritable
from ..estimators import name_of
from ..estimators.memory import with_memory
from ..pair.pair import Pair
from .convergence import Convergence
from .fit_run import Progress


def save(fit: Any, path: Path) -> Path:
    """Writes a fit; see `Fit.save`.

    Raises:
        OutputUnwritable: The file can't be written; an older one is still there.
    """
    parameters = {f"parameter.{k}": v.detach().cpu().contiguous() for k, v in fit.pair.state().items()}
    rows = torch.tensor(fit.rows, dtype=torch.float64, device="cpu").reshape(-1, 5)
    tensors: dict[str, Tensor] = {**parameters, "history": rows}
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
        "convergence": fit.convergence and fit.convergence.to_json(),
        "progress": _pack(vars(fit.progress), tensors),
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        save_file(tensors, unfinished, metadata={"vbayes": json.dumps(described)})
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise OutputUnwritable(f"Can't write {path}: {error}. Choose a folder that exists and is yours.") from error
    return path


def load(path: Path, pair: Pair, data: Dataset, estimator: ELBO, optimizer: Any) -> dict[str, Any]:
    """What a `Fit` is made of, from a file; see `Fit.load`.

    Raises:
        BadInput: No such file, not one of ours, or one of another pair or estimator.
    """
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            described = json.loads(file.metadata()["vbayes"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} is not a fit that vbayes saved: {error}. Wanted: a file that `fit.save` wrote."
        ) from error
    for what, ours in {"pair": pair.name, "estimator": name_of(estimator)}.items():
        if described[what] != ours:
            raise BadInput(f"{path} holds a fit with {what} {described[what]!r}, not {ours!r}. Hand in that {what}.")
    trained = pair.copy()
    trained.initialise(trained.beside(data.batch(pair.model)))
    estimator = with_memory(estimator, trained)
    state = {k.removeprefix("parameter."): v for k, v in tensors.items() if k.startswith("parameter.")}
    expected = {k: tuple(v.shape) for k, v in trained.state().items()}
    if (got := {k: tuple(v.shape) for k, v in state.items()}) != expected:
        raise BadInput(
            f"{path} has parameters {got}; pair {pair.name!r} has {expected}. Build the pair with the same sizes."
        )
    return {
        "pair": trained.load(state),
        "data": data,
        "estimator": estimator,
        "optimizer": optimizer,
        **{name: described[name] for name in ("batch_size", "learning_rate", "seed", "interrupted")},
        "compile": described.get("compile", "auto"),
        "progress": Progress(**_unpack(described["progress"], tensors)),
        "rows": tuple((int(r[0]), int(r[1]), *r[2:]) for r in tensors["history"].tolist()),
        "switches": tuple((step, name) for step, name in described.get("switches", ())),
        "convergence": Convergence.of_json(described.get("convergence")),
    }


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON that stands for a nest of Python values; its tensors and arrays go to `tensors`."""
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


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy().astype(value["dtype"])
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](_unpack(v, tensors) for v in content)
