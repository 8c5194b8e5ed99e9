"""A normal with as many covariances as is practical for the number of latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .curvature import Place
from .full import Full
from .low_rank import LowRank
from .starts import BENT


class Auto(LowRank):
    """`Full` for up to 300 numbers, otherwise `LowRank`. `vb.fit` without `steps` replaces it by a `Flow` if it is not good enough."""

    scale_tril: Any

    @property
    def kind(self) -> type[Full] | type[LowRank]:
        """Which of the two it is, known after the first call."""
        return Full if len(self.centre) <= BENT else LowRank

    @property
    def words(self) -> str:  # type: ignore[override]
        """Its description."""
        return self.kind.words if self.places else "normal"

    def _start(self, like: Tensor) -> None:
        self.kind._start(self, like)  # type: ignore[arg-type]

    def away(self, place: Place) -> Tensor:
        return self.kind.away(self, place)  # type: ignore[arg-type]

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        return self.kind.get_posterior(self, *args, **kwargs)  # type: ignore[arg-type]
