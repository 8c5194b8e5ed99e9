"""What a hidden Markov model refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.exact.chains import MODELS

pytestmark = pytest.mark.usefixtures("double")


def sequences(name: str):
    model = MODELS[name]()
    return model, model.sample(4, 5, seed=3)[0], torch.tensor([5, 1, 4, 2])


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("a row without steps", {"lengths": torch.tensor([5, 0, 4, 2])}, r"lengths has 0 in row 1. Wanted: 1 to 5"),
        ("beyond the end", {"lengths": torch.tensor([5, 1, 4, 6])}, r"lengths has 6 in row 3"),
        ("lengths of others", {"lengths": torch.tensor([5, 1])}, r"lengths has shape \(2,\)"),
        ("real lengths", {"lengths": torch.tensor([5.0, 1, 4, 2])}, "integers"),
        ("a single sequence", {"x": torch.tensor([0, 1, 2, 1]), "lengths": None}, r"A single sequence is x\[None\]"),
        ("no steps", {"x": torch.zeros(4, 0, dtype=torch.long), "lengths": None}, "without any step"),
        ("a symbol too many", {"x": torch.full((4, 5), 4)}, "symbols from 4 to 4. Wanted: 0 to 3"),
        ("a negative symbol", {"x": torch.full((4, 5), -1)}, "mark missing steps"),
        ("reals for symbols", {"x": torch.zeros(4, 5)}, "x.long()"),
    ],
)  # fmt: skip
def test_what_is_refused(what, change, message):
    model, x, lengths = sequences("categorical")
    with pytest.raises(vb.errors.BadInput, match=message):
        model.log_evidence(**{"x": x, "lengths": lengths} | change)


def test_what_else_is_refused():
    model, x, _ = sequences("gaussian")
    with pytest.raises(vb.errors.BadInput, match=r"x.double\(\)"):
        model.log_evidence(x.long())
    with pytest.raises(vb.errors.BadInput, match="observed=~x.isnan"):
        model.log_evidence(x * torch.nan)
    with pytest.raises(vb.errors.BadInput, match=r"Wanted: \(4, 5\) booleans"):
        model.log_evidence(x, observed=torch.ones(4))
    with pytest.raises(vb.errors.BadInput, match="rows sum to"):
        vb.HiddenMarkov(torch.tensor([0.5, 0.6, 0.2]), model.transition, model.emission)
    with pytest.raises(vb.errors.BadInput, match=r"Wanted: \(3,\) and \(3, 3\)"):
        vb.HiddenMarkov(model.initial[:2], model.transition, model.emission)
    with pytest.raises(vb.errors.BadInput, match="positive scales"):
        vb.HiddenMarkov(model.initial, model.transition, vb.GaussianEmission(torch.zeros(3), torch.tensor([1.0, 0, 1])))
    with pytest.raises(vb.errors.BadInput, match="both the same"):
        vb.GaussianEmission(torch.zeros(3), torch.ones(2))
    with pytest.raises(vb.errors.BadInput, match=r"Wanted: \(S, K\)"):
        vb.CategoricalEmission(torch.ones(3))
    with pytest.raises(vb.errors.BadInput, match="rows=0"):
        model.sample(0, 3)
