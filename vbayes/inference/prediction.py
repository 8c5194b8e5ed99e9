"""Predictions: draws with names and labels, and their summaries."""

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

PLACE = "_place"  # of a row in the new data, on the way to its index
PART = Real(above=0.0, below=1.0, given="0.9")
NOT_TO_BE_USED = (
    "The draws of this fit should not be used (fit.verdict() says why), and neither should predictions made from them."
)


@dataclass(frozen=True, repr=False)
class Prediction(Displayable):
    """Draws from the posterior predictive distribution.

    Attributes:
        draws: An `xarray.Dataset` of every observed and `pyro.deterministic` site, each (draw, *shape), with the names of plates and the labels of groups; for a binary site also of the
            probability of a 1 in each draw of the latents, `y_probability`.
        constant: An `xarray.Dataset` of the columns that the model was called with.
        sites: Names of the observed sites.
        pair: Name of the pair.
        rows: M, the number of rows.
        interval: Probability of the central intervals in `to_dataframe` and `plot`.
        method: How the latents of the fit were drawn: "guide", "psis" (draws of the guide, resampled by their weights), or "none" if there are none.
        new_groups: Column → names of groups that were not in the fit; they are drawn from their population.
        latents: Latent of each row → how it was drawn.
        labels: Column → labels of its codes.
        classes: Site → the names that its values stand for, if it is observed at a column of names; of another categorical site, the codes.
        trust: What the fit's diagnosis says about its draws, in a few words; empty if there is no diagnosis.
        index: (M,) index of the pandas table with the new rows, which `to_dataframe` keeps; None if there is none, or if it counts the rows.
        probabilities: Binary site → the name of its probability in `draws`.
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
    index: pd.Index | None = None
    probabilities: Mapping[str, str] = field(default_factory=dict)

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
        """What was predicted, for how many rows, and how new groups and row latents were drawn."""
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
        """`xarray.Dataset` of the q-quantiles of the draws."""
        return self.draws.quantile(q, "draw").drop_vars("quantile")

    @takes(probability=Optional(PART))
    def bounds(self, probability: float | None = None) -> xr.Dataset:
        """`xarray.Dataset` of the ends of central intervals, along the dimension `bound` ("lower", "upper").

        Args:
            probability: Probability of the intervals; `interval` if None.
        """
        tail = (1 - (self.interval if probability is None else probability)) / 2
        ends = self.draws.quantile([tail, 1 - tail], "draw").rename(quantile="bound")
        return ends.assign_coords(bound=["lower", "upper"])

    @takes()
    def to_dataframe(self, site: str | None = None) -> pd.DataFrame:
        """One row for each predicted number: its labels, the columns that the model was called with, mean, sd, and the ends of its interval; for a binary outcome the probability of a 1,
        with the sd and interval of that; for names, the likeliest one and the probability of each. The index is that of the new data, if they are a pandas table.

        Args:
            site: Site to tabulate; all observed sites if None, with a column `site` if there are several.
        """
        names = [site] if site is not None else list(self.sites)
        tables = [self._table(name) for name in names]
        if self.trust:
            for table in tables:
                table.attrs["trust"] = self.trust
        if len(tables) == 1:
            return tables[0]
        named = [table.assign(site=name) for name, table in zip(names, tables, strict=True)]
        return pd.concat(named, ignore_index=self.index is None)

    def _table(self, name: str) -> pd.DataFrame:
        values = self[name]
        if name in self.classes:
            columns = self._names(values, self.classes[name])
        elif name in self.probabilities:  # the outcomes themselves are between 0 and 1, whatever is known of them
            chance = self._numbers(self.draws[self.probabilities[name]])
            columns = {"probability": chance.pop("mean"), **chance}
        else:
            columns = self._numbers(values)
        import xarray as xr

        if values.ndim == 1:
            return pd.DataFrame({key: [value.item()] for key, value in columns.items()})
        row, kept = next(iter(self.constant.coords)), dict[str, Any]()
        if self.index is not None and row in values.dims:
            kept[PLACE] = row, np.arange(self.rows)
        table = xr.Dataset(columns | kept).to_dataframe().reset_index()
        if self.index is not None and kept:
            table.index = self.index.take(table.pop(PLACE).to_numpy())
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
        """Plots means and intervals, row by row, or against the model's only real-valued column.

        Args:
            ax: Axes to draw on; a new figure if None.
            site: Site to plot; the first observed one if None.
        """
        from matplotlib import pyplot

        from ..plots import prediction

        name = site or self.sites[0]
        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        table = replace(self, classes={}).to_dataframe(name)  # of codes, where these stand for names
        if name in self.probabilities:
            name, table = f"the probability of {name}", table.rename(columns={"probability": "mean"})
        return prediction(table, ax, name=name)

    def verdict(self) -> str:
        """How the draws were made, what the table shows of binary outcomes, and which new groups were drawn from their population."""
        text = f"{len(self)} draws of {first_few(self.sites)} for {counted(self.rows, 'row')}, {self._how()}."
        if binary := [name for name in self.sites if name in self.probabilities and name not in self.classes]:
            text += f" Of {first_few(binary)}, which {'is' if len(binary) == 1 else 'are'} 0 or 1, the table has the probability of a 1, with the interval of that."
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
