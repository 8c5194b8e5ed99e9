"""Each pair of arguments that don't go together is refused, in words that name both; all others pass."""

import itertools

import pytest

from vbayes.errors import BadInput
from vbayes.training.combinations import require_combination

NONE = dict.fromkeys(("steps", "epochs", "restarts", "average", "checkpoint", "max_steps", "max_seconds", "validation"))
GIVEN = {
    "steps": 3, "epochs": 3, "automatic": True, "restarts": 2, "average": True, "checkpoint": "a.safetensors", "max_steps": 9,
    "max_seconds": 9.0, "validation": "held out",
}  # fmt: skip
TOLD = ("steps", "epochs", "automatic")
REFUSED = {
    **{(told, other): f"{other} were given with steps, epochs or" for told in TOLD for other in ("max_steps", "max_seconds", "validation")},
    ("automatic", "restarts"): r"estimator='auto' chooses for one fit, but restarts=2",
    ("automatic", "average"): "average=True with restarts or estimator='auto'",
    ("automatic", "checkpoint"): r"checkpoint='a.safetensors' with estimator='auto'",
    ("restarts", "checkpoint"): r"checkpoint='a.safetensors' with restarts=2",
}  # fmt: skip
OF_THREE = {
    ("steps", "restarts", "average"): "average=True with restarts",
    ("epochs", "average", "checkpoint"): "checkpoint='a.safetensors' with average=True",
}


def required(*names):
    return require_combination(**{**NONE, "automatic": False, **{name: GIVEN[name] for name in names}})


@pytest.mark.parametrize("names", list(itertools.combinations(GIVEN, 2)), ids=" and ".join)
def test_pairs(names):
    if names in REFUSED:
        with pytest.raises(BadInput, match=REFUSED[names]):
            required(*names)
    else:
        assert required(*names) == bool({*names} & {*TOLD})


@pytest.mark.parametrize("names", list(OF_THREE), ids=" and ".join)
def test_average_is_another_thing_for_so_many_steps(names):
    with pytest.raises(BadInput, match=OF_THREE[names]):
        required(*names)
    assert not required(*(name for name in names if name not in TOLD and name != "checkpoint"))
