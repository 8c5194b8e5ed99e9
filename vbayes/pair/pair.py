"""A pair: a generative model p_θ(x, z) and a guide q_φ(z|x), and the parameters of both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import config_enumerate
from torch import Tensor
from torch.distributions import constraints

from .. import rng
from ..arguments.function import GUIDE, MODEL
from ..arguments.kind import Mapped
from ..arguments.takes import takes
from ..arguments.tensor import TENSOR
from ..arguments.tensor import Tensor as ATensor
from ..data.dataset import Batch, Dataset
from ..guides import AUTO, guide_of, in_words, word_of
from ..summaries.card import Card, Displayable, counted, first_few
from .device import one_device
from .exact import EXACT, Exact
from .generation import drawn_from, forgetful
from .minibatch_scale import DATA_PLATE as DATA_PLATE
from .minibatch_scale import MinibatchScale
from .missing import looking_at, without_gaps
from .ownership import Ownership


class Pair(Displayable):
    """A Pyro model and guide with parameters of their own.

    `model` and `guide` are any Pyro callables with the same arguments: functions that call `pyro.param`, methods of an
    `nn.Module` that calls `pyro.module`, `PyroModule`s, autoguides. The pair keeps the values of their parameters, so
    neither the caller's param store nor another pair over the same modules ever sees them change; inside
    `with pair.scope():` the store and the modules hold this pair's values.

    Initial values belong to the pair, not to a fit: they are made at the first call, from a fixed seed.

    Args:
        model: p_θ(x, z). Its plate over observations is named `"data"`.
        guide: q_φ(z|x); or a word for one over all continuous latents: "point", "diagonal", "low_rank", "full", "flow" (see `vbayes.guides`, whose objects are
            welcome too), or "auto", which starts as "full", and which `vb.fit` exchanges for a richer one where that is not enough. The model's discrete latents are then summed out.
        name: For tables and files; the model's own name if not given.
        exact: Closed-form truth, where there is one.

    Examples:
        >>> pair = vb.Pair(model)  # the guide comes by itself
        >>> pair = vb.Pair(model, AutoNormal(model))
        >>> fit = vb.fit(pair, data, steps=1000)
    """

    @takes(model=MODEL, guide=GUIDE, exact=EXACT)
    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any] | str = AUTO,
        *,
        name: str | None = None,
        exact: Exact | None = None,
    ) -> None:
        self.name = name or str(getattr(model, "__name__", type(model).__name__))
        self.guide: Callable[..., Any] = guide_of(guide, model) if isinstance(guide, str) else guide
        self.word = guide if isinstance(guide, str) else word_of(guide)
        self.model = model if self.word is None else config_enumerate(model)
        self._exact = exact
        self._own = Ownership(self.model, self.guide)
        self.trained_on: Dataset | None = None  # by a fit, in whose codes names in other data are

    def card(self) -> Card:
        """Its parameters, and what is known of it in closed form."""
        numbers = sum(value.numel() for value in self._own.values.values())
        rows = [("guide", f"{in_words(self.guide)}, guide={self.word!r}")] if self.word else []
        made = f"{counted(numbers, 'number')} in {first_few(self._own.values, 2)}" if self._own.values else "none yet"
        rows.append(("parameters", made))
        if self.exact is not None:
            known = [name.replace("_", " ") for name, value in vars(self.exact).items() if value is not None]
            rows.append(("exact", ", ".join(known)))
        return Card(f"Pair: {self.name}", tuple(rows))

    @property
    def exact(self) -> Exact | None:
        """Closed-form truth, where there is one: data follow the pair's device there too."""
        if self._exact is None or self.device is None or self.device.type == "cpu":
            return self._exact
        return self._exact.on(self.device)

    # ---- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → unconstrained value, in the order in which Pyro met them. Empty before `initialise`.

        A tensor that goes by several names (tied weights) is here once, under the first in the alphabet.
        """
        return self._own.values

    def constrained(self) -> dict[str, Tensor]:
        """Name → value in the constrained space (a scale is positive), as `at` takes it."""
        return self._own.constrained()

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Name → the tensor that gradients are taken with respect to; it holds the value only inside `scope`."""
        return self._own.leaves

    @property
    def device(self) -> torch.device | None:
        """Where its parameters are, or it was moved, or the modules that it holds are; None where nothing says."""
        if found := next((value.device for value in self._own.values.values()), self._own.where):
            return found
        return next((p.device for module in self.modules for p in module.parameters()), None)

    @property
    def home(self) -> torch.device | None:
        """Where model and guide made its parameters, and would make others: a fit may have moved these."""
        return self._own.home or self.device

    def is_real(self, name: str) -> bool:
        """Whether a parameter is any real number, so that its value is the same constrained and not."""
        constraint = self._own.constraint(name)
        return getattr(constraint, "base_constraint", constraint) is constraints.real

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that model and guide hold."""
        return list(self._own.modules)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """`buffer.i.name` → what the modules hold now; only inside `scope` is that this pair's."""
        return self._own.buffers

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Hands the modules other buffers, inside `scope`."""
        self._own.set_buffers(buffers)

    def state(self) -> dict[str, Tensor]:
        """A snapshot of every parameter (unconstrained) and module buffer, for `load`."""
        return self._own.state()

    @takes(state=Mapped(ATensor(any_kind=True)))
    def load(self, state: Mapping[str, Tensor]) -> Pair:
        """Takes on the values of a snapshot; returns itself."""
        self._own.load(state)
        return self

    @takes(parameters=Mapped(TENSOR))
    def at(self, parameters: Mapping[str, Tensor]) -> Pair:
        """A copy with other values.

        Args:
            parameters: Name → value in the constrained space (a scale is positive), as `Fit.parameters` has them. Others stay.

        Raises:
            BadInput: An unknown name, another shape, or a value that breaks the constraint.
        """
        return self.copy().load(self._own.unconstrained(self.name, parameters))

    def masked(self) -> Pair:
        """A copy for data with gaps: what is NaN where the model observes it is left out of the likelihood; see `vb.fit(..., missing="mask")`."""
        model = without_gaps(self.model)
        if self.word is not None and not self._own.values:  # it asks the model where it is
            return Pair(model, looking_at(self.guide, model), name=self.name)
        twin = Pair(model, self.guide, name=self.name)
        twin._own.share(self._own)
        return twin.load(self.state())

    def adopt(self, names: Iterable[str]) -> Pair:
        """Takes the parameters of those names that Pyro's global store holds now for its own; returns itself."""
        self._own.adopt(names)
        return self

    def copy(self) -> Pair:
        """The same model and guide with parameters of its own, at the same values."""
        twin = copy.copy(self)
        twin._own = Ownership(self.model, self.guide)
        twin._own.share(self._own)
        return twin.load(self.state())

    def guided_by_prior(self, batch: Batch) -> Pair:
        """The same model at the same parameters with its own prior p(z) for a guide: for what needs no recognition model, as `monte_carlo_em`, or asks what a
        model is worth whatever guide came with it, as `log_evidence(method="ais")` does from there.

        Args:
            batch: What model and guide are called with.
        """
        model, batch = self.model, self.beside(batch)
        twin = Pair(model, drawn_from(model), name=self.name)
        if self.word is not None and not self._own.values:  # there is no need to look for the guide's place
            return twin
        self.initialise(batch)
        with self.look(), torch.no_grad(), pyro.poutine.trace(param_only=True) as seen:
            model(*batch.args)
        mine = set(seen.trace.nodes)
        twin._own.share(self._own, mine)
        mine |= twin._own.buffers.keys()
        return twin.load({name: value for name, value in self.state().items() if name in mine})

    def hold(self, module: torch.nn.Module) -> Pair:
        """Counts one more module among those of model and guide, so that its buffers are this pair's; returns itself."""
        self._own.hold(module)
        return self

    def release(self) -> Pair:
        """Counts no module any more that `hold` was given; returns itself."""
        self._own.release()
        return self

    def holds(self, module: torch.nn.Module | None) -> bool:
        """Whether a module is one of those that `hold` was given."""
        return any(module is other for other in self._own.held)

    @takes()
    def to(self, device: str | torch.device) -> Pair:
        """Moves the parameters and buffers; returns itself."""
        self._own.where = torch.device(device)
        return self.load({k: v.to(device) for k, v in self.state().items()})

    def beside(self, batch: Batch) -> Batch:
        """The batch where the parameters are; as it is if there are none."""
        return batch if self.device is None else batch.to(self.device)

    def initialise(self, batch: Batch) -> Pair:
        """Lets model and guide create their parameters, from `rng.default_seed()`; returns itself. Done once."""
        if not self._own.values:
            try:
                batch = self.beside(batch)
                first = next((a.device for a in batch.args if isinstance(a, Tensor)), None)
                with self.look(rng.default_seed()), torch.no_grad(), one_device(self.name, self.device or first):
                    self.run(batch)
            except BaseException:  # half of the parameters is none
                self._own.forget()
                raise
            self._own.look_for_buffers()  # an autoguide builds its parts only now
        return self

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Pyro's param store and the modules' parameters hold this pair's values; afterwards what they held before."""
        with self._own.scope(), one_device(self.name, self.device):
            yield

    @contextmanager
    def look(self, seed: int = 0) -> Iterator[None]:
        """`scope`, for a look that leaves no trace: its draws are a function of `seed`, and what it does to the modules' running statistics is undone."""
        with self._own.scope(keep_buffers=True), one_device(self.name, self.device), rng.seeded(seed):
            yield

    # ---- running ---------------------------------------------------------------------------------------------------

    def scaled(self, total: int | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Model and guide with the sites of the plate `"data"` scaled by N/M: the one place where that happens.

        Args:
            total: N; None leaves scales as they are.
        """
        if total is None:
            return self.model, self.guide
        scale = MinibatchScale(total)
        return scale(self.model), scale(self.guide)

    def run(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """One draw, inside the current scope.

        Returns:
            The traces of the guide and of the model replayed on it, with scales applied.
        """
        model, guide = self.scaled(batch.total)
        batch = self.beside(batch)
        q = pyro.poutine.trace(guide).get_trace(*batch.args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*batch.args)
        return q, p

    def apart(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """Like `run`, but the model draws its latents itself: to compare two that do not fit together."""
        batch = self.beside(batch)
        q, p = (pyro.poutine.trace(fn).get_trace(*batch.args) for fn in (self.guide, self.model))
        return q, p

    def generate(self, batch: Batch, latents: pyro.poutine.Trace | None = None) -> pyro.poutine.Trace:
        """What the model makes when it forgets its observations, inside the current scope.

        Args:
            batch: Its arguments; only their shapes and the covariates among them still matter.
            latents: A guide trace to take latents from (posterior predictive); None draws them from the prior.

        Returns:
            Its trace. What `pyro.deterministic` and `pyro.factor` hold is computed from what was made; a factor does not move the draws.
        """
        model, batch = forgetful(self.model), self.beside(batch)
        if latents is not None:
            model = pyro.poutine.replay(model, trace=latents)
        return pyro.poutine.trace(model).get_trace(*batch.args)
