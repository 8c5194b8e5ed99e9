"""The table of operations that XLA has rules for: a row here for each row there, and torch's numbers."""

from __future__ import annotations

import pytest
import torch

from tests.staging.xla.rows import FAMILIES
from vbayes.staging.machine_code import simplified

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings

from vbayes.staging.xla.program import XLA
from vbayes.staging.xla.rules import DRAWS, RULES
from vbayes.staging.xla.translate import supported

DEAR = ("pointwise", "convolutions", "implicit")  # seconds of XLA's compiler
CPU = torch.device("cpu")
DIGITS = {"polygamma": 1e-7}
"""torch's own trigamma has no more."""


def inputs():
    x = torch.linspace(-0.95, 0.95, 24, dtype=torch.float64)  # without the poles, and without zero
    m = torch.sin(torch.arange(27, dtype=torch.float64) ** 2).view(3, 3, 3)
    return [x, torch.arange(-12, 12), torch.arange(24) % 3 == 0, m]


def test_every_rule_has_a_row():
    rows = {name for family in FAMILIES.values() for name in family}
    assert set(RULES) == rows - {"unfold"} and not set(DRAWS) & rows  # any view of torch's needs none


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated:UserWarning")
@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.slow) if f in DEAR else f for f in FAMILIES])
def test_torchs_numbers(family):
    functions = [(name, fn) for name, row in FAMILIES[family].items() for fn in row]
    given = inputs()
    graph = simplified(lambda *inputs: [fn(*inputs) for _, fn in functions], given, supported)
    found = {str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function" and "." in str(n.target)}
    assert set(FAMILIES[family]) <= found  # a row has its operation
    program = XLA(graph, 0, CPU)
    made = program(*given)
    if family in ("pointwise", "made", "reductions"):
        assert program._once.one_kernel
    for (name, fn), mine in zip(functions, made, strict=True):
        theirs = fn(*given)
        assert mine.dtype == theirs.dtype, name
        digits = 1e-5 if theirs.dtype == torch.float32 else DIGITS.get(name, 1e-10)
        torch.testing.assert_close(
            mine, theirs, rtol=digits, atol=digits, equal_nan=True, msg=lambda m, at=name: f"{at}: {m}"
        )
