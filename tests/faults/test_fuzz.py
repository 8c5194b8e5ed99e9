"""Two thousand bad calls of the whole public surface: each works, or is an error of ours that says what, got, wanted and mend, and none leaves a trace."""

from __future__ import annotations

import collections

import pyro
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults import fuzzing, poisons, surface
from vbayes.arguments import memory

CALLS = 2000


@st.composite
def bad_calls(draw, targets):
    """A callable, and what is wrong with one to three of its arguments."""
    target = draw(st.sampled_from(targets))
    names = draw(st.lists(st.sampled_from(sorted(target.annotations)), min_size=1, max_size=3, unique=True))
    wrong = {}
    for name in names:
        table = poisons.ALL if draw(st.booleans()) else poisons.poisons_for(target.annotations[name])
        wrong[name] = draw(st.sampled_from(sorted(table)))
    return target, wrong


@pytest.mark.slow
def test_no_call_of_the_public_surface_ends_in_somebody_elses_error(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * 10**9)  # on a machine with more, more would be tried
    before = torch.get_rng_state()
    found, wrong = collections.Counter(), []

    @settings(
        max_examples=CALLS, derandomize=True, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )  # fmt: skip
    @given(bad_calls(surface.targets()))
    def call(bad):
        target, said = bad
        arguments = target.good | {name: poisons.ALL[label]() for name, label in said.items()}
        outcome = fuzzing.attempt(target.call, arguments, draws=target.name in surface.RANDOM)
        found[outcome.kind] += 1
        if outcome.bad:
            wrong.append(f"{target.name}({said}): {outcome.kind}, {outcome.detail[:300]}")

    try:
        call()
    finally:
        pyro.clear_param_store()  # `SVI` trains there, and `draw` looks there, and both draw as Pyro does
        torch.set_rng_state(before)
    print(dict(found))
    assert not wrong, "\n".join(wrong)
    assert sum(found.values()) >= CALLS and found["worked"] > CALLS / 50
