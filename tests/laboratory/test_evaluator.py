"""The ELBO by which a race is judged, where there is no machine code for it, and gradients by the back end that is asked for."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.staging.programs import PROGRAMS
from tests.staging.xla.test_fits import convolutional, order
from tests.tractable import batch_of, pair_of
from vbayes.laboratory import evaluator
from vbayes.laboratory.evaluator import Evaluator
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings
pytestmark = pytest.mark.on_cpu


def begun(made):
    pair, data = made()
    pair.initialise(data.batch(pair.model))
    return pair, data


@pytest.mark.parametrize("made", [order, pytest.param(convolutional, marks=pytest.mark.slow)], ids=lambda f: f.__name__)
def test_xla_evaluates_what_torch_does(made, double):
    """On the same draws, at other parameters than it was made at too; by "auto" where an evaluation is large."""
    pair, data = begun(made)
    by_torch, by_xla = (Evaluator(pair, data, subset=False, seed=3, backend=backend) for backend in ("torch", "xla"))
    assert by_xla.why_not is None and by_torch.why_not == "torch was asked for"
    moved = pair.copy().load({name: value + 0.1 for name, value in pair.parameters.items()})
    for each in (pair, moved):
        assert by_xla(each) == pytest.approx(by_torch(each), rel=1e-10) and by_xla(each) == by_xla(each)
    assert by_xla(moved) != by_xla(pair)


@pytest.mark.slow
def test_only_a_large_evaluation_is_compiled_by_xla_unasked(monkeypatch):
    pair, data = begun(order)
    assert "no machine code" in Evaluator(pair, data, subset=False, seed=3).why_not
    monkeypatch.setattr(evaluator, "MUCH", 1)
    assert Evaluator(pair, data, subset=False, seed=3).why_not is None


@pytest.mark.slow
def test_draws_that_are_no_noise():
    """Other draws of the same distribution: the two means within five standard errors."""
    model, guide, _, (x,) = PROGRAMS["counts_drawn"]()
    pair, data = begun(lambda: (vb.Pair(model, guide), vb.Dataset.of(x)))
    with vb.seeded(4), torch.no_grad():
        found = [Evaluator(pair, data, subset=False, seed=3, backend=b)._values(pair) for b in ("torch", "xla")]
    assert all(len(values.unique()) > 100 for values in found)  # of counts, some of which come again
    error = sum(values.var() / 1000 for values in found) ** 0.5
    assert (found[0].mean() - found[1].mean()).abs() < 5 * error


def test_gradients_by_the_back_end_asked_for(double):
    pair, batch = pair_of("normal_normal"), batch_of("normal_normal")
    pair.initialise(batch)
    with vb.seeded(1):
        noise = draw_noise(Replicas(pair, vb.Pathwise(), batch).sizes, 5, batch.args[0])
    found = {}
    for backend in ("native", "xla", "torch"):
        replicas = Replicas(pair, vb.Pathwise(), batch, compiled=True, backend=backend)
        assert (replicas._many.native is not None, replicas._many.xla is not None) == (backend == "native", backend == "xla")  # fmt: skip
        found[backend] = torch.cat(list(replicas.gradients(pair, noise, 0)))
    torch.testing.assert_close(found["xla"], found["torch"], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found["native"], found["torch"], rtol=1e-10, atol=1e-10)
