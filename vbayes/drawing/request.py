"""What an estimator requests of its draws: fields, requirements, and families of latents."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, fields

from ..arguments.choice import TEXT
from ..errors import BadInput, UnknownName
from .base_noise import NoiseKind
from .latents import FAMILIES
from .particles import ALWAYS, Particles

FIELDS = tuple(f.name for f in fields(Particles))
REQUIREMENTS = {
    "path": "Every site of the guide has a reparameterised path.",
    "closed_form_kl": "Every site of the guide has its KL in closed form.",
    "downstream_costs": "The costs in `scored` are of the terms that depend on the draw, no others.",
    "all_drawn": "The guide has every latent of the model: none is marked to be summed out.",
    "same_rows": "All particles are of the same rows, which no scale inside their weights stands for.",
    "antithetic_pairs": "Particles 1 and 2, 3 and 4, … come from antithetic base noise.",
}
"""Requirement → its meaning."""
ALONE = {
    "enumerated": "If discrete sites are summed out, nothing else is drawn",
    "steps": "Resampled particles are not draws of the guide",
}
"""Fields that can't be combined with others, and why."""
OF_NUMBERS = frozenset({"z", "score_p", "score_q", "densities"})
"""Fields of the draws as unconstrained numbers, for which every site of the guide must have a reparameterised path."""


@dataclass(frozen=True)
class Request:
    """A request for draws, which is checked when it is made.

    Args:
        needs: Fields of `Particles`.
        requires: Requirements on every site or on the draws, from `REQUIREMENTS`.
        families: Allowed families of latents, from `FAMILIES`, if `needs` has "latents" or "weigh".

    Raises:
        UnknownName: A name that isn't among these.
        BadInput: Names that don't go together.
    """

    needs: frozenset[str]
    requires: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        known: dict[str, Iterable[str]] = {"needs": FIELDS, "requires": REQUIREMENTS, "families": FAMILIES}
        for what, kind in (
            ("needs", "field of Particles"),
            ("requires", "requirement"),
            ("families", "family of latents"),
        ):
            for name in sorted(TEXT(what, name) for name in getattr(self, what)):
                if name not in known[what]:
                    if place := next((place for place, names in known.items() if name in names), None):
                        raise BadInput(
                            f"{name!r} is not a {kind} and does not belong in `{what}`. Put it in `{place}`."
                        )
                    raise UnknownName(kind, name, known[what])
        for alone, why in ALONE.items():
            if alone in self.needs and (others := sorted(self.needs - {alone, *ALWAYS})):
                raise BadInput(
                    f"needs has {alone!r} and {', '.join(map(repr, others))}. {why}, so it can't be combined with other fields."
                )
        of_latents = self.needs & {"latents", "weigh"}
        if bool(of_latents) != bool(self.families):
            raise BadInput(
                f"needs has {', '.join(map(repr, sorted(of_latents)))}, but `families` is empty. Wanted: the supported families of latents, out of {_said(FAMILIES)}."
                if of_latents
                else f"families={_said(self.families)} was given, but needs has neither 'latents' nor 'weigh'. Add one, or leave families out."
            )
        if "downstream_costs" in self.requires and "scored" not in self.needs:
            raise BadInput("requires has 'downstream_costs', which belongs to `scored`. Add 'scored' to needs.")

    @classmethod
    def of(cls, needs: Iterable[str], requires: Iterable[str] = (), families: Iterable[str] = ()) -> Request:
        """Makes a request from any collections of names."""
        sets = []
        for what, names in (("needs", needs), ("requires", requires), ("families", families)):
            try:
                if isinstance(names, str):
                    raise TypeError("a name, and no set of them")
                sets.append(frozenset(names))
            except TypeError as error:  # not iterable, or with items that are not names
                example = {"needs": "log_p", "requires": "path", "families": "bernoulli"}[what]
                raise BadInput(
                    f"{what}={names!r}. Wanted: a set of names, such as frozenset({{'{example}'}})."
                ) from error
        return _made(*sets)

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """The fields of `Particles` to compute."""
        if "enumerated" in self.needs:
            return frozenset({"enumerated"})
        return self.needs | {*ALWAYS} | ({"closed_form"} if "kl" in self.needs else set())

    def noise(self, kind: NoiseKind) -> NoiseKind:
        """The kind of base noise of the particles: `kind`, unless another one is required."""
        return "antithetic" if "antithetic_pairs" in self.requires else kind


@functools.lru_cache(maxsize=256)
def _made(needs: frozenset[str], requires: frozenset[str], families: frozenset[str]) -> Request:
    """Made and checked only once, as this is called at every step."""
    return Request(needs, requires, families)


def _said(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
