"""What can be asked of draws: names that exist, in combinations that mean something, and nothing unasked."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from vbayes.drawing.request import Request

BATCH = vb.Batch((torch.tensor([-0.5, 2.0]),))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"needs": {"log_q", "log_qfixed"}},
            r"There is no field of Particles named 'log_qfixed'\. Did you mean 'log_q_fixed'",
        ),
        (
            {"needs": {"log_q"}, "requires": {"pathh"}},
            r"There is no requirement named 'pathh'\. Did you mean 'path'\?\nKnown: all_drawn, antithetic_pairs, closed_form_kl",
        ),
        (
            {"needs": {"latents"}, "families": {"bernouli"}},
            r"There is no family of latents named 'bernouli'\. Did you mean 'bernoulli'",
        ),
        (
            {"needs": {"log_p", "path"}},
            "'path' is not a field of Particles and does not belong in `needs`. Put it in `requires`",
        ),
        ({"needs": {"log_p", "normal"}}, "Put it in `families`"),
        ({"needs": "log_p"}, r"needs='log_p'\. Wanted: a set of names, such as frozenset\({'log_p'}\)"),
        ({"needs": {"log_p"}, "requires": 3}, r"requires=3\. Wanted: a set of names, such as frozenset\({'path'}\)"),
        ({"needs": {"latents"}}, "needs has 'latents', but `families` is empty. Wanted: .* 'bernoulli', 'categorical', 'full_normal', 'normal', 'normal_mixture', 'one_hot'"),
        ({"needs": {"log_p"}, "families": {"normal"}}, "needs has neither 'latents' nor 'weigh'"),
        ({"needs": {"log_p"}, "requires": {"downstream_costs"}}, "Add 'scored' to needs"),
        ({"needs": {"enumerated", "log_p"}}, "'enumerated' and 'log_p'.*it can't be combined"),
    ],
)  # fmt: skip
def test_what_can_not_be_asked(asked, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        Request.of(**asked)
    with pytest.raises(vb.errors.BadInput, match=message):
        vb.draw(vb.pairs.normal_normal(), BATCH, 1, **asked)


def test_a_field_that_was_not_asked_for():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, BATCH, 2, ["log_p"])
    assert particles.log_p.shape == (2, 2) and particles.local == (2,) and particles.scale == 1.0
    for name in ("log_q", "scored", "latents", "weigh", "closed_form", "enumerated"):
        with pytest.raises(
            vb.errors.BadEstimator, match=f"`particles.{name}` was read.*'log_p'.*add '{name}' to its `needs`"
        ):
            getattr(particles, name)
    with pytest.raises(vb.errors.BadEstimator, match="add 'log_q' to its `needs`"):
        _ = particles.log_w
    with pytest.raises(AttributeError, match="no field 'log_r'"):
        _ = particles.log_r
    assert repr(particles).startswith("Particles(log_p=tensor(") and "log_q" not in repr(particles)


def test_what_is_required_is_refused_where_it_does_not_hold():
    coin = vb.pairs.three_bernoulli()
    batch = vb.pairs.TRACTABLE["three_bernoulli"].batch()
    with coin.initialise(batch).scope(), vb.seeded(0):
        with pytest.raises(vb.errors.Unsuitable, match="no reparameterised path"):
            vb.draw(coin, batch, 1, {"log_p"}, requires={"path"})
        with pytest.raises(vb.errors.Unsuitable, match="This estimator needs every site to be Normal"):
            vb.draw(coin, batch, 1, {"latents"}, families={"normal"})


def test_pairs_are_antithetic_where_they_must_be():
    """Whatever `noise` says: the second draw is the mirror image of the first."""
    pair = vb.pairs.normal_normal().initialise(BATCH)
    with pair.scope(), vb.seeded(0):
        latents = vb.draw(
            pair, BATCH, 4, {"latents"}, requires={"antithetic_pairs"}, families={"normal"}
        ).latents[0]  # fmt: skip
    away = (latents.value - latents.parameters["loc"]).detach()
    torch.testing.assert_close(away[0::2], -away[1::2])
    assert (away[0] - away[2]).abs().min() > 1e-3


def test_a_request_is_made_once():
    """It is asked for in every step."""
    assert vb.STL().request is vb.STL(4).request
