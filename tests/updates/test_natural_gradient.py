"""Natural gradients as an optimiser, and as the pure function that a compiled step has."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.staging.optimizers import Updates
from vbayes.staging.update import moved_by
from vbayes.updates.natural_gradient import NaturalAdam
from vbayes.updates.normal_parameters import NormalParameters

NORMAL = NormalParameters(("m", "c"), (constraints.lower_cholesky,), True)


def made(decay: float) -> tuple[dict[str, torch.Tensor], NaturalAdam]:
    leaves = {
        name: torch.full(shape, 0.3, dtype=torch.float64, requires_grad=True)
        for name, shape in {"c": (2, 2), "other": (3,), "m": (2,)}.items()
    }
    options = {"rate": 0.2, "max_kl": 0.1, "decay": decay, "lr": 0.05}
    return leaves, NaturalAdam(list(leaves.values()), normals=[(NORMAL, [2, 0])], **options)


def gradients(step: int) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(step)
    shapes = {"c": (2, 2), "other": (3,), "m": (2,)}
    return {name: torch.randn(shape, generator=stream, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_pure_function_does_what_the_optimiser_does(decay):
    (leaves, optimizer), (others, reference) = made(decay), made(decay)
    adam = torch.optim.Adam([others["other"]], lr=0.05)
    updates = Updates.of(dict.fromkeys(leaves, optimizer), leaves)
    count, states = updates.read()
    values = {name: leaf.detach().clone() for name, leaf in leaves.items()}
    for step in range(1, 6):
        drawn = gradients(step)
        moved = moved_by(updates.rules, values, drawn, states, count + step)
        values, states = ({name: each[part] for name, each in moved.items()} for part in (0, 1))
        for name, leaf in leaves.items():
            leaf.grad = drawn[name].clone()
        optimizer.step()
        others["other"].grad = drawn["other"].clone()
        adam.step()
    for name, leaf in leaves.items():
        torch.testing.assert_close(values[name], leaf.detach(), rtol=1e-12, atol=0)
    assert torch.equal(leaves["other"], others["other"]), "all else is Adam's"
    assert {float(optimizer.state[leaf]["step"]) for leaf in leaves.values()} == {5.0}
    updates.write(5, states)
    reference.load_state_dict(optimizer.state_dict())
    assert Updates.of(dict.fromkeys(others, reference), others).read()[0] == 5.0


def test_a_rate_that_decays_is_that_of_its_step():
    """ρ / (1 + δ (t − 1)): the third step by hand."""
    values, gradients_ = [torch.zeros(2), torch.zeros(2, 2)], [torch.ones(2), torch.eye(2)]
    _, optimizer = made(0.5)
    right = NORMAL.step(values, gradients_, 0.2 / 2.0, 0.1)
    for mine, wanted in zip(optimizer.moved(NORMAL, values, gradients_, torch.tensor(3.0)), right, strict=True):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.slow
def test_a_rate_that_decays_ends_the_noise(double):
    """Of an estimator whose noise does not end by itself."""
    known, options = vb.pairs.TRACTABLE["normal_normal"], {"steps": 2000, "compile": True, "progress": False}
    model, (x,) = known.pair().model, known.batch().args

    def kl(**how):
        pair = vb.Pair(model, AutoNormal(model))
        fit = vb.fit(pair, x, "pathwise", update=vb.NaturalGradient(0.3, **how), **options)
        return float(vb.tabulate(fit).kl().sum())

    assert kl(decay=0.05) < 0.05 * kl()
