"""What a fit says of rows: draws with names and labels, and their summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..arguments.kind import Optional
from ..arguments.real import Real
from ..arguments.takes import takes
from ..errors import BadInput
from ..summaries.card import Card, Displayable, counted, first_few

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

PART = Real(above=0.0, below=1.0, given="0.9")
NOT_TO_BE_USED = "The draws of this fit are not to be used (fit.verdict() says why), and neither are predictions that are made of them."


@dataclass(frozen=True, repr=False)
class Prediction(Displayable):
    """Draws from the posterior predictive distribution.

    Attributes:
        draws: An `xarray.Dataset`: each site that the model observes, and what `pyro.deterministic` computes; (draw, *shape), with the names of plates and the labels of groups.
        constant: An `xarray.Dataset` of what the model was called with.
        sites: The observed ones.
        pair: Name of the pair.
        rows: M, of the data.
        interval: The part of the draws in the intervals of `to_dataframe` and `plot`.
        method: Where the known latents are from: "guide", "psis" (draws of the guide resampled by their weights), or "none" where there are none.
        new_groups: Column → names of the groups that the fit has not met: they are drawn from their population.
        latents: Latents of rows → how they were drawn.
        labels: Column → labels of its codes.
        classes: Site → the names that its values stand for, of one that is observed at a column of names.
        trust: What a diagnosis says of the draws of the fit, in a few words; empty where nobody has asked.
    """

    draws: xr.Dataset
    constant: xr.Dataset
    sites: tuple[str, ...]
    pair: str
    rows: int
    interval: float = 0.9
    method: str = "guide"
    new_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    latents: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trust: str = ""

    def __post_init__(self) -> None:
        if self.trust:
            object.__setattr__(self, "draws", self.draws.assign_attrs(trust=self.trust))

    def __len__(self) -> int:
        return int(self.draws.sizes["draw"])

    def __getitem__(self, site: str) -> xr.DataArray:
        """The draws of a site, an `xarray.DataArray`."""
        if site not in self.draws:
            raise BadInput(
                f"There is no prediction of {site!r}. Wanted one of: {first_few(map(str, self.draws.data_vars), 20)}."
            )
        return self.draws[site]

    def card(self) -> Card:
        """What was predicted, for how many rows, and what was drawn anew."""
        shapes = [f"{name} {tuple(value.shape[1:])}" for name, value in self.draws.data_vars.items()]
        rows = [("draws", f"{len(self):,}, {self._how()}"), ("sites", first_few(shapes)), ("rows", f"{self.rows:,}")]
        rows += [("new groups", f"{len(own):,} of {name}: {first_few(own)}") for name, own in self.new_groups.items()]
        rows += [("latents of rows", f"{name}: {how}") for name, how in self.latents.items()]
        rows += [("trust", self.trust)] if self.trust else []
        return Card(f"Prediction: {self.pair}", tuple(rows))

    def mean(self) -> xr.Dataset:
        """`xarray.Dataset` of means."""
        return self.draws.mean("draw")

    def std(self) -> xr.Dataset:
        """`xarray.Dataset` of standard deviations."""
        return self.draws.std("draw", ddof=1)

    @takes(q=PART)
    def quantile(self, q: float) -> xr.Dataset:
        """`xarray.Dataset` of the values below which a part q of the draws lies."""
        return self.draws.quantile(q, "draw").drop_vars("quantile")

    @takes(probability=Optional(PART))
    def bounds(self, probability: float | None = None) -> xr.Dataset:
        """`xarray.Dataset` of the ends of central intervals, along the dimension `bound` ("lower", "upper").

        Args:
            probability: Of the interval; `interval` if None.
        """
        tail = (1 - (self.interval if probability is None else probability)) / 2
        ends = self.draws.quantile([tail, 1 - tail], "draw").rename(quantile="bound")
        return ends.assign_coords(bound=["lower", "upper"])

    @takes()
    def to_dataframe(self, site: str | None = None) -> pd.DataFrame:
        """One row for each predicted number: its labels, the columns that the model was called with, mean, sd, and the ends of its interval; of names, the likeliest, and
        the probability of each.

        Args:
            site: Of which; of all that the model observes if None, with a column `site` where these are several.
        """
        names = [site] if site is not None else list(self.sites)
        tables = [self._table(name) for name in names]
        if self.trust:
            for table in tables:
                table.attrs["trust"] = self.trust
        if len(tables) == 1:
            return tables[0]
        return pd.concat(
            [table.assign(site=name) for name, table in zip(names, tables, strict=True)], ignore_index=True
        )

    def _table(self, name: str) -> pd.DataFrame:
        values = self[name]
        columns = self._numbers(values) if name not in self.classes else self._names(values, self.classes[name])
        import xarray as xr

        if values.ndim == 1:
            return pd.DataFrame({key: [value.item()] for key, value in columns.items()})
        table = xr.Dataset(columns).to_dataframe().reset_index()
        for column, own in self.constant.data_vars.items():
            if own.ndim == 1 and own.dims[0] in values.dims and column not in table:
                each = own.to_series().reindex(table[own.dims[0]]).to_numpy()
                labels = self.labels.get(str(column))
                table.insert(
                    table.columns.get_loc(next(iter(columns))),
                    column,
                    each if labels is None else [labels[int(code)] for code in each],
                )
        return table

    def _numbers(self, values: Any) -> dict[str, Any]:
        tail = (1 - self.interval) / 2
        ends = {f"{100 * q:.4g}%": values.quantile(q, "draw").drop_vars("quantile") for q in (tail, 1 - tail)}
        return {"mean": values.mean("draw"), "sd": values.std("draw", ddof=1), **ends}

    def _names(self, values: Any, names: tuple[str, ...]) -> dict[str, Any]:
        shares = [(values == code).mean("draw") for code in range(len(names))]
        likeliest = shares[0].copy(data=np.array(names)[np.argmax(np.stack([s.values for s in shares]), 0)])
        return {"likeliest": likeliest, **{f"P({name})": share for name, share in zip(names, shares, strict=True)}}

    @takes()
    def plot(self, ax: Axes | None = None, site: str | None = None) -> Axes:
        """Means and intervals, row by row, or along the only real column that the model was called with.

        Args:
            ax: Axes to draw on; a new figure if None.
            site: Of which; the first observed one if None.
        """
        from matplotlib import pyplot

        from ..plots import prediction

        name = site or self.sites[0]
        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        table = replace(self, classes={}).to_dataframe(name)  # of codes, where these stand for names
        return prediction(table, ax, name=name)

    def verdict(self) -> str:
        """Where the draws are from, and what was drawn from the population because the fit has not met it."""
        text = f"{len(self)} draws of {first_few(self.sites)} for {counted(self.rows, 'row')}, {self._how()}."
        for name, own in self.new_groups.items():
            text += f" {counted(len(own), 'new group')} of {name}, drawn from the population: {first_few(own, 10)}."
        for name, how in self.latents.items():
            text += f" {name} of each row: {how}."
        if self.trust.startswith("bad"):
            text += f" {NOT_TO_BE_USED}"
        return text

    def _how(self) -> str:
        return {
            "guide": "latents drawn by the guide",
            "psis": "latents drawn by the guide and resampled by their weights",
            "none": "no latents that all rows share",
        }[self.method]
