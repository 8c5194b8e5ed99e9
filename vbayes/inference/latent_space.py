"""The latent space of a trained pair: from data to codes, and from codes to data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyro
import torch
from torch import Tensor
from torch.distributions import Normal

from .. import rng
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..errors import BadInput
from ..pair.gaps import check_gaps
from ..pair.paired import Model, require_guide_of_rows
from ..pair.problem import Problem
from ..pair.sites import is_point_mass
from ..validation import validation
from .reconstruct import one_of_each

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE = 0.03  # probability that a chart leaves out at each end of an axis
CHARTED = 15  # pictures along an axis of it
SHOWN, WALKS = 12, 6  # in a row of a figure; rows of walks


class LatentSpace:
    """The latent space of an autoencoder: the codes of data, and the data that each code generates; on the CPU.

    Args:
        pair: A pair with one latent vector for each row and one observed site, such as an autoencoder; a fit brings its data.
        data: As for `fit`; its first row supplies the arguments that the model is called with when it generates.

    Raises:
        BadInput: There are no data, or the pair has a different number of sites.

    Examples:
        >>> space = vb.LatentSpace(vb.fit(vb.pairs.vae(latent=2), vb.data.digits(), epochs=50, batch_size=100))
        >>> mean, sd = space.encode()
        >>> space.decode(mean[:5])
        >>> space.plot()
    """

    @takes()
    def __init__(self, pair: Model, data: Any = None) -> None:
        problem = Problem.of(pair, data)
        self.pair, self.data, self._device = problem.pair, problem.data, problem.device
        require_guide_of_rows(self.pair, "vb.LatentSpace", "; or vb.reconstruct(model, data), for these rows alone")
        with self.pair.look(), torch.no_grad(), validation(False):
            latent, observed = one_of_each(self.pair, *self.pair.run(problem.whole))
        self.latent, self.observed = str(latent["name"]), str(observed["name"])
        shape = latent["value"].shape
        if len(shape) != 2 or shape[0] != len(self.data):
            raise BadInput(
                f"Latent {self.latent!r} of pair {self.pair.name!r} has shape {tuple(shape)} for {len(self.data)} rows. Wanted: one vector for each row."
            )
        self.size = int(shape[1])

    def __repr__(self) -> str:
        return f"LatentSpace({self.pair.name}; {self.latent}: {self.size} dimensions; {self.data.name})"

    def encode(self, data: Any = None, *, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Encodes data: the mean and standard deviation of q(z|x).

        Args:
            data: The rows; the data of this object if None.
            seed: Seed for a draw, used if the mean of the guide is not known.

        Returns:
            Means and standard deviations, each (N, J); the latter are 0 for a deterministic code.
        """
        dataset = self.data if data is None else Dataset.of(data, like=self.data)
        check_gaps(self.pair, dataset.to(self._device), None)
        batch = Batch(dataset.batch(self.pair.model).args).to(self._device)
        with self.pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
            q, _ = self.pair.run(batch)
        site: Any = q.nodes[self.latent]
        if is_point_mass(site["fn"]):
            code = site["value"].detach().cpu()
            return code, torch.zeros_like(code)
        return tuple(part.expand(site["value"].shape).cpu() for part in (site["fn"].mean, site["fn"].stddev))  # type: ignore[return-value]

    def decode(self, z: Tensor) -> Tensor:
        """(S, *features) mean of p(x|z) for z (S, J)."""
        return self._model_at(z).mean.detach().cpu()  # type: ignore[no-any-return]

    def sample(self, z: Tensor, *, seed: int | None = None) -> Tensor:
        """(S, *features) draws from p(x|z) for z (S, J), with the observation noise of the likelihood."""
        with rng.seeded(seed):
            return self._model_at(z).sample().cpu()  # type: ignore[no-any-return]

    def generate(self, count: int, *, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Latents (S, J) from the prior p(z), and the mean (S, *features) of p(x|z) at each."""
        index = torch.zeros(count, dtype=torch.long, device=self.data.first.device)
        batch = Batch(self.data.batch(self.pair.model, index).args).to(self._device)
        with self.pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
            z: Any = self.pair.generate(batch).nodes[self.latent]["value"]
        return z.detach().cpu(), self.decode(z.detach())

    def walk(self, start: Tensor, end: Tensor, *, steps: int = 9) -> Tensor:
        """(steps, *features) mean of p(x|z) along the straight line between two latents (J,), including both ends."""
        start, end = start.to(self._device), end.to(self._device)
        along = torch.linspace(0, 1, steps, device=self._device)[:, None]
        return self.decode((1 - along) * start + along * end)

    def chart(self, *, side: int = CHARTED, dimensions: tuple[int, int] = (0, 1)) -> Tensor:
        """(side², *features) mean of p(x|z) on a grid of quantiles of a standard normal prior, row by row from the upper left: a grid of equal probability
        in two dimensions, with the others at 0 (Kingma & Welling 2013, arXiv:1312.6114, appendix A).
        """
        across, up = dimensions
        if not all(0 <= d < self.size for d in dimensions) or across == up:
            raise BadInput(
                f"dimensions={dimensions}, but z has {self.size}. Wanted: two different ones of 0 to {self.size - 1}."
            )
        line = Normal(0.0, 1.0).icdf(torch.linspace(EDGE, 1 - EDGE, side, device="cpu"))
        z = line.new_zeros(side * side, self.size)
        z[:, across], z[:, up] = line.repeat(side), line.flip(0).repeat_interleave(side)
        return self.decode(z)

    def codes(self, label: str | None = None) -> pd.DataFrame:
        """One row for each datum: the mean of q(z|x) as `z0`, `z1`, …, and its label.

        Args:
            label: Column of the data with the labels; no labels if None.

        Raises:
            BadInput: The data have no such column.
        """
        if label is not None and label not in self.data.tensors:
            raise BadInput(
                f"Data set {self.data.name!r} has no column {label!r} for the classes; it has {', '.join(map(repr, self.data.tensors))}. Wanted: data with labels, as "
                "vb.Dataset({'x': x, 'label': y}), or label=None for codes without colours."
            )
        table = pd.DataFrame({f"z{i}": column.tolist() for i, column in enumerate(self.encode()[0].T)})
        return table if label is None else table.assign(label=self.data.tensors[label].tolist())

    def as_images(self, pictures: Tensor) -> np.ndarray:
        """(n, height, width) images from rows of the first column, as `plots.images` draws them: 1 is black, so photographs become negatives.

        Raises:
            BadInput: The data are not images, or `pictures` has a different size.
        """
        if self.data.image is None:
            raise BadInput(
                f"Data set {self.data.name!r} is not declared to consist of images. Wanted: vb.Dataset({{'x': x}}, image=(height, width))."
            )
        height, width = self.data.image
        if pictures[0].numel() != height * width:
            raise BadInput(
                f"Images have {pictures[0].numel()} pixels instead of {height} × {width} = {height * width}. Wanted: rows of data set {self.data.name!r}."
            )
        ink = 1 - pictures if self.data.photograph else pictures
        return ink.reshape(-1, height, width).cpu().numpy()

    def plot(self, label: str | None = None, *, seed: int | None = None) -> Figure:
        """Plots reconstructions, images drawn from the prior, interpolations between data, a grid of the latent space, and the codes by class.

        Args:
            label: Column of the data that colours the codes; if None, "label" where the data have such a column.
            seed: Seed for the data shown and the draws.
        """
        from ..plots import latent_figure
        from ..plots.codes import widest

        generator = torch.Generator("cpu").manual_seed(rng.or_default(seed))
        order = torch.randperm(len(self.data), generator=generator, device="cpu")
        some = self.data.rows(order[: 2 * max(SHOWN, WALKS)])
        mean, _ = self.encode(some)
        walks = [self.walk(mean[i], mean[i + 1], steps=SHOWN) for i in range(0, min(2 * WALKS, len(mean) - 1), 2)]
        table = self.codes(label or ("label" if "label" in self.data.tensors else None))
        across, up = widest(table)
        given = some.first[:SHOWN].cpu()
        panels = {
            "rebuilt": (torch.cat([given, self.decode(mean[:SHOWN])]), len(given)),
            "drawn": (self.generate(SHOWN * SHOWN, seed=seed)[1], SHOWN),
            "walks": (torch.cat(walks), SHOWN),
        }
        if across != up:
            panels["chart"] = self.chart(dimensions=(int(across[1:]), int(up[1:]))), CHARTED
        shown = {name: (self.as_images(pictures), columns) for name, (pictures, columns) in panels.items()}
        return latent_figure(shown, table, (across, up))

    def plot_codes(self, label: str | None = "label", ax: Axes | None = None) -> Axes:
        """Plots the two dimensions of z that vary most over the data, coloured by class."""
        from matplotlib import pyplot

        from ..plots import codes

        if ax is None:
            _, ax = pyplot.subplots(figsize=(5.5, 5), layout="constrained")
        return codes(self.codes(label), ax)

    def _model_at(self, z: Tensor) -> Any:
        if z.dim() != 2 or z.shape[1] != self.size:
            raise BadInput(
                f"z has shape {tuple(z.shape)}. Wanted: (S, {self.size}), latents of pair {self.pair.name!r}."
            )
        index = torch.zeros(len(z), dtype=torch.long, device=self.data.first.device)
        batch = Batch(self.data.batch(self.pair.model, index).args).to(self._device)
        model = pyro.poutine.condition(self.pair.model, data={self.latent: z.to(self._device)})
        with self.pair.scope(), torch.no_grad(), rng.seeded(0), validation(False):
            trace = pyro.poutine.trace(model).get_trace(*batch.args)
        return trace.nodes[self.observed]["fn"]
