"""Determines the kind of an argument from its name, which has the same meaning everywhere, or else from its type."""

from __future__ import annotations

from .choice import COMPILE, FLAG, TEXT
from .device import DEVICE
from .function import FUNCTION
from .kind import Kind, Optional
from .path import PATH
from .real import POSITIVE, Real
from .tensor import AXES, TABLE, TENSOR
from .whole import MOST, ROW, SEED, Whole

SOME, TWO = Whole(drawn=True), Whole(2, drawn=True)
SIZE = Whole(1, MOST)
STEPS = Whole(0, each=ROW)

BY_NAME: dict[str, Kind] = {
    "seed": SEED,
    "steps": STEPS, "epochs": STEPS, "max_steps": Whole(1, each=ROW), "num_steps": STEPS, "max_seconds": Real(above=0.0, finite=False), "seconds": POSITIVE, "budget": POSITIVE,
    "batch_size": Whole(1), "learning_rate": Real(above=0.0, given="0.001"), "device": DEVICE, "devices": Whole(1), "compile": COMPILE, "progress": FLAG,
    "draws": TWO, "proposals": SOME, "num_particles": SOME, "replicas": TWO, "chains": SOME, "simulations": TWO, "minibatches": TWO, "burn_in": Whole(0, drawn=True),
    "restarts": SOME, "paths": SOME, "evaluations": SOME, "temperatures": SOME, "moves": SOME, "updates": SOME, "iterations": SOME, "sweeps": SOME,
    "nodes": Whole(1), "memory": Whole(1), "tolerance": Real(given="1e-6"),
}  # fmt: skip
"""Functions in which an argument has a different meaning declare its kind themselves."""

BY_TYPE: dict[str, Kind] = {
    "int": Whole(None), "float": Real(), "bool": FLAG, "str": TEXT, "str | Path": PATH, "Path": PATH,
    "Tensor": TENSOR, "pd.DataFrame": TABLE, "Axes": AXES,
    "Callable[..., Any]": FUNCTION,
}  # fmt: skip


def kind_of(name: str, annotation: str) -> Kind | None:
    """The kind of an argument, from its name or else its type; None if neither determines it."""
    bare = annotation.removesuffix(" | None")
    found = BY_NAME.get(name) or BY_TYPE.get(bare)
    return Optional(found) if found is not None and bare != annotation else found
