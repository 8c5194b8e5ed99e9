"""From data to codes and back, for a pair whose answers are known."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import vbayes as vb


def linear() -> tuple[vb.Pair, torch.Tensor]:
    with vb.seeded(0):
        x = torch.randn(40, 6)
    pair = vb.pairs.probabilistic_pca(6, 2)
    return pair.initialise(vb.Batch((x,))), x


def test_codes_and_what_they_generate_are_linear():
    pair, x = linear()
    space, p = vb.LatentSpace(pair, x), vb.fit(pair, x, steps=0).parameters
    mean, sd = space.encode()
    torch.testing.assert_close(mean, (x - p["offset"]) @ p["gain"])
    assert sd.shape == mean.shape == (40, 2) and (sd > 0).all()
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(space.decode(z), z @ p["weight"].T + p["offset"])
    drawn, pictures = space.generate(500, seed=2)
    assert drawn.shape == (500, 2) and abs(float(drawn.var()) - 1) < 0.2
    torch.testing.assert_close(pictures, space.decode(drawn))
    walk = space.walk(z[0], z[1], steps=5)
    torch.testing.assert_close(walk[[0, 2, 4]], space.decode(torch.stack([z[0], (z[0] + z[1]) / 2, z[1]])))
    noise = space.sample(z.repeat(2000, 1)) - space.decode(z).repeat(2000, 1)
    assert float(noise.std()) == pytest.approx(float(p["scale"]), rel=0.02)


def test_the_chart_is_at_the_quantiles_of_the_prior():
    pair, x = linear()
    space = vb.LatentSpace(pair, x)
    chart = space.chart(side=3)
    edge = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(0.97)))
    corners = torch.tensor([[-edge, edge], [edge, edge], [0.0, 0.0], [-edge, -edge], [edge, -edge]])
    torch.testing.assert_close(chart[[0, 2, 4, 6, 8]], space.decode(corners), rtol=1e-4, atol=1e-5)
    with pytest.raises(vb.errors.BadInput, match="two different ones of 0 to 1"):
        space.chart(dimensions=(0, 2))


def test_a_deterministic_code_has_no_spread_and_a_fit_brings_its_data():
    _, x = linear()
    fit = vb.fit(vb.pairs.bottleneck_autoencoder(6, 2), x, steps=3, progress=False)
    mean, sd = vb.LatentSpace(fit).encode()
    assert torch.equal(mean, vb.reconstruct(fit).code) and not sd.any()
    torch.testing.assert_close(vb.LatentSpace(fit).decode(mean), vb.reconstruct(fit).mean)


def test_pictures():
    data = vb.data.digits().rows(slice(0, 60))
    for latent in (1, 2, 4):
        space = vb.LatentSpace(vb.fit(vb.pairs.vae(latent=latent), data, steps=5, progress=False))
        figure = space.plot()
        figure.draw_without_rendering()
        covered = sum(ax.get_position().width * ax.get_position().height for ax in figure.axes)
        assert covered > 0.75 and all(ax.axison or ax.images for ax in figure.axes), "a hole"
        titles = {ax.get_title(loc="left") for ax in figure.axes}
        assert len(titles - {""}) == (4 if latent == 1 else 5)
        assert np.array_equal(space.as_images(data.first)[3], data.first[3].reshape(8, 8).numpy())
        plt.close("all")
    ax = space.plot_codes()
    assert len(ax.get_legend().get_texts()) == 10
    plt.close("all")


def test_what_it_can_not_show():
    pair, x = linear()
    space = vb.LatentSpace(pair, x)
    with pytest.raises(vb.errors.BadInput, match="no column 'label' for the classes; it has 'x'"):
        space.plot_codes()
    with pytest.raises(vb.errors.BadInput, match="is not declared to consist of images"):
        space.plot()
    with pytest.raises(vb.errors.BadInput, match=r"Wanted: \(S, 2\)"):
        space.decode(torch.zeros(3, 5))
    data = vb.data.digits().rows(slice(0, 20))
    digits = vb.LatentSpace(vb.fit(vb.pairs.vae(), data, steps=1, progress=False))
    with pytest.raises(vb.errors.BadInput, match="Images have 6 pixels instead of 8 × 8 = 64"):
        digits.as_images(x)
    with pytest.raises(vb.errors.BadPair, match="x has shape .*made for features=64"):
        vb.fit(vb.pairs.vae(), torch.zeros(4, 784), steps=1, progress=False)
    with pytest.raises(vb.errors.BadInput, match="one of each"):
        vb.LatentSpace(vb.pairs.eight_schools(), vb.data.eight_schools())
    with pytest.raises(vb.errors.BadInput, match="not a pair"):
        vb.LatentSpace("vae", x)
