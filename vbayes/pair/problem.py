"""A pair and its data, checked together: the starting point of every public function.

Devices are handled here: data and draws follow the pair's parameters, whatever device they are passed on. Results for users, such as
tables, figures and draws, are moved to the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .. import rng
from ..arguments import kind as arguments
from ..data.dataset import Batch, Dataset
from ..errors import BadInput
from ..validation import validation
from .check import examine, examine_minibatches, initialised
from .device import choose_device, stays_behind
from .gaps import check_gaps
from .indexing import require_one_coding
from .observations import require_arguments, require_observations
from .pair import DATA_PLATE, Pair
from .paired import Model, is_trained, pair_of
from .subsample import Subsample, refuse, seen_of
from .support import uncovered


@dataclass(frozen=True)
class Problem:
    """A pair and data that fit together, on one device.

    Attributes:
        pair: An initialised copy of the given pair; the checks have not changed its modules' running statistics.
        data: The data, on the pair's device.
        batch_size: M, rows in a minibatch; None for all.
        home: The data on the device of the check: parameters are made where the caller's modules are, and moved afterwards.
    """

    pair: Pair
    data: Dataset
    batch_size: int | None
    home: Dataset = field(repr=False)

    @classmethod
    def of(cls, pair: Model, data: Any = None, *, batch_size: int | None = None, device: str | None = None) -> Problem:
        """Checks a pair and data, and moves them to one device.

        Args:
            pair: A pair, which is copied; a fit brings its data, and a guide is made for a model alone.
            data: A `Dataset`, a tensor or array of shape (N, ...), or a tuple or mapping of those.
            batch_size: M, if the pair will see minibatches.
            device: As for `fit`, except that with "auto" a trained object stays on its device; the pair's device if None.

        Raises:
            BadInput: No pair, no data, or no such device.
            BadData: Data that can't be used (NaN that no mask keeps out), or `batch_size` below 1 or above N.
            BadPair: Model and guide do not fit together, or not with the data.
        """
        known = pair.data if is_trained(pair) else None
        if known is not None and isinstance(device, str) and device == "auto":
            device = None
        pair, data = pair_and_data(pair, data)
        dataset = Dataset.of(data)
        dataset.check_batch_size(batch_size)
        where = None if device is None else choose_device(device)
        pair = pair.copy()
        home = dataset if pair.device is None else dataset.to(pair.device)
        require_observations(pair, home, batch_size)
        check_gaps(pair, home, batch_size)
        if pair.word is not None:
            settle(pair, home, batch_size)
        examine_minibatches(pair, home, batch_size)
        require_one_coding(pair, home, known)
        where = where or pair.device or home.first.device
        found = cls(pair.to(where), home.to(where), batch_size, home)
        if where != home.first.device:  # tensors that were not moved along raise an error now, which names the line
            with found.pair.look(), torch.no_grad(), validation(False):
                for trace in found.pair.run(found.first):
                    stays_behind(found.pair.name, trace, where)
        return found

    @property
    def device(self) -> torch.device:
        """The device of pair and data."""
        return self.data.first.device

    @property
    def rows(self) -> Batch:
        """All rows, without scaling to a larger data set. The model may still subsample them; see `seen`."""
        return Batch(self.data.batch(self.pair.model).args)

    @property
    def whole(self) -> Batch:
        """The same as `rows`, if the model uses all of them: only then are importance weights, their ratios and the logarithm of their mean correct.

        Raises:
            Unsuitable: The model subsamples its rows, or scales some of its sites up from a part of them.
        """
        if (part := self.seen) and (part.anew or not part.alike):
            raise refuse(self.pair, part, "the weights of its draws are not those of all rows")
        return self.rows

    @cached_property
    def uncovered(self) -> tuple[str, ...]:
        """The latents for which the guide can't draw all values."""
        with self.pair.look(), torch.no_grad(), validation(False):
            return uncovered(*self.pair.run(self.rows))

    @cached_property
    def seen(self) -> Subsample | None:
        """The plates of which the model shows only a part when called with all rows; None if it shows everything."""
        return seen_of(self.pair, self.rows)

    @property
    def first(self) -> Batch:
        """The first minibatch, in the order of the data, for checks."""
        return self.data.batch(self.pair.model, self._first(self.device))

    def draw(self, seed: int) -> Batch:
        """A minibatch."""
        with rng.seeded(seed):
            return next(iter(self.data.minibatches(self.pair.model, self.batch_size)))

    def alike(self, pair: Pair, name: str) -> Pair:
        """A copy of another pair, checked on the same data and moved to the same device.

        Raises:
            BadInput: It has other parameters than this problem's pair.
        """
        other = pair.copy()
        examine(other, self.home.batch(other.model, self._first(self.home.first.device)))
        got, wanted = ({k: tuple(v.shape) for k, v in p.parameters.items()} for p in (other, self.pair))
        if got != wanted:
            raise BadInput(f"{name} has parameters {got}. Wanted: those of pair {self.pair.name!r}, {wanted}.")
        other._own.in_order_of(
            self.pair.parameters
        )  # another pair may have met the parameters of a shared guide in another order
        return other.to(self.device)

    def _first(self, device: torch.device) -> torch.Tensor | None:
        return None if self.batch_size is None else torch.arange(self.batch_size, device=device)


def settle(pair: Pair, data: Dataset, batch_size: int | None) -> None:
    """Lets a guide chosen by name search for its start, using all rows.

    Raises:
        BadInput: It has parameters for each row, and minibatches were requested.
    """
    initialised(pair, data.batch(pair.model))
    frames = {frame.name for stack in getattr(pair.guide, "_cond_indep_stacks", {}).values() for frame in stack}
    if batch_size is not None and batch_size < len(data) and DATA_PLATE in frames:
        raise BadInput(
            f"batch_size={batch_size}, but the model of pair {pair.name!r} has latents for each row, for which guide={pair.word!r} has separate parameters, one set for "
            f"each of {len(data)} rows. Wanted: all rows at once (leave batch_size out), or a guide of your own that computes q from a row."
        )


def pair_and_data(pair: Model, data: Any) -> tuple[Pair, Any]:
    """The pair and data to work with: a trained object has both, and a pair is made of a model alone.

    Raises:
        BadInput: A pair without data, or no pair.
        BadPair: The model takes no data.
    """
    made = pair_of(pair)
    if is_trained(pair):
        if data is None or isinstance(data, Batch):
            return made, pair.data if data is None else data
        return made, Dataset.of(data, like=pair.data)  # names get the codes of the fit
    if not isinstance(data, Batch):
        require_arguments(made)
    if data is None:
        arguments.refuse("data", data, wanted="data, or a vb.Fit, which brings its own", mend="pass the observed data")
    if made.trained_on is not None and not isinstance(data, Batch):
        return made, Dataset.of(data, like=made.trained_on)
    return made, data
