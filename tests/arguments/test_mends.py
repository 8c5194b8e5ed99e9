"""What an error says to type is made of what was typed."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

import vbayes as vb
from vbayes.arguments.choice import FLAG, TEXT, Choice
from vbayes.arguments.kind import Mapped, Several
from vbayes.arguments.real import Real
from vbayes.arguments.tensor import TENSOR
from vbayes.arguments.whole import Whole
from vbayes.errors import BadInput

NAME = Choice(("auto", "guide", "psis"), "way to a posterior")
SHARE = Real(above=0.0, below=1.0, given="0.9")


def call():
    """A function of the user's own."""


CASES = {
    "a number for a tuple": (Several(Whole()), 4, "a=(4,)"),
    "of NumPy": (Several(Whole()), np.int64(4), "a=(4,)"),
    "a name for a tuple": (Several(TEXT), "iwae", "a=('iwae',)"),
    "a choice for a tuple": (Several(NAME), "psis", "a=('psis',)"),
    "no such choice for a tuple": (Several(NAME), "nuts", "a=('auto',)"),
    "a number that is none for a tuple": (Several(Whole()), 4.5, "a=(1,)"),
    "a tuple for a number": (Whole(), (4,), "a=4"),
    "an array for a number": (Whole(), np.array([4]), "a=4"),
    "a list for a number": (Real(), [0.25], "a=0.25"),
    "two for a number": (Whole(), (4, 5), "a=1"),
    "many steps as text": (Whole(0), "1e9", "a=1000000000, without quotes"),
    "a per cent": (SHARE, 90, "a=0.9"),
    "a per cent as text": (SHARE, "95", "0.95, without quotes"),
    "neither a share nor a per cent": (SHARE, 1.5, "a=0.9"),
    "below 0": (Real(above=0.0, given="0.001"), -0.01, "a=0.01"),
    "above the largest": (Real(least=0.0, most=0.5, given="0.1"), 0.7, "a=0.5"),
    "no": (FLAG, "no", "a=False"),
    "yes": (FLAG, "yes", "a=True"),
    "nothing for a flag": (FLAG, None, "a=False"),
    "1 for True": (Choice(("auto", True, False)), 1, "a=True"),
    "no choice": (NAME, "zzz", "choose one of these, such as a='auto'"),
    "misspelt": (NAME, "pssi", "a='psis'"),
    "a number for a text": (TEXT, 3, "a='3'"),
    "a path for a text": (TEXT, pathlib.PurePosixPath("x/y"), "a='x/y'"),
    "numbers for a tensor": (TENSOR, [1, 2], "a=torch.tensor([1, 2])"),
    "many numbers for a tensor": (TENSOR, list(range(100)), "a=torch.tensor(a)"),
    "a number for a tensor": (TENSOR, 0.5, "a=torch.tensor(0.5)"),
    "an array for a tensor": (TENSOR, np.zeros(3), "a=torch.as_tensor(a)"),
    "a text for a tensor": (TENSOR, "x", "a=torch.tensor([0.5, 1.0])"),
    "a number for a name": (Mapped(TEXT), {3: "x"}, "a string as name, '3'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_mend_is_made_of_what_was_typed(case):
    kind, value, mend = CASES[case]
    with pytest.raises(BadInput) as caught:
        kind("a", value)
    assert caught.value.parts["mend"] == mend


def test_functions_and_settings_of_classes():
    from vbayes.arguments.function import FUNCTION

    with pytest.raises(BadInput, match=r"Fix: callbacks=\(call,\)\.$"):
        Several(FUNCTION, 0)("callbacks", call)
    with pytest.raises(BadInput, match=r"TVO\(betas=0.5\) is a float.*Fix: betas=\(0.5,\)\.$"):
        Several(Real())("TVO(betas", 0.5)


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"optimizer": "sgd"}, "optimizer=torch.optim.SGD"),
        ({"optimizer": "lbfgs"}, "optimizer=torch.optim.Adam"),
        ({"optimizer": 3}, "optimizer=torch.optim.Adam"),
        ({"update": "batch_and_match"}, r"update=vb.BatchAndMatch\(\)"),
        ({"update": vb.ScoreMatching}, r"update=vb.ScoreMatching\(\)"),
    ],
)
def test_optimisers_and_updates_by_their_names(given, mend):
    with pytest.raises(BadInput, match=f"Fix: {mend}"):
        vb.fit(vb.pairs.normal_normal(), torch.zeros(2), steps=1, progress=False, **given)
