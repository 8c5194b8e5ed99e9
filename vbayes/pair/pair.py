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
from .generation import drawn_from, forgetful, unobserving
from .minibatch_scale import DATA_PLATE as DATA_PLATE
from .minibatch_scale import MinibatchScale
from .missing import looking_at, without_gaps
from .ownership import Ownership


class Pair(Displayable):
    """A Pyro model and guide that own their parameters.

    `model` and `guide` are any Pyro callables with the same arguments: functions that call `pyro.param`, methods of an
    `nn.Module` that calls `pyro.module`, `PyroModule`s, autoguides. The pair stores the values of their parameters, so
    they never change in the caller's param store or in another pair with the same modules; inside
    `with pair.scope():` the store and the modules hold this pair's values.

    Initial values belong to the pair, not to a fit: they are created at the first call, from a fixed seed.

    Args:
        model: p_θ(x, z). Its plate over observations must be named `"data"`.
        guide: q_φ(z|x); or the name of a guide over all continuous latents: "point", "diagonal", "low_rank", "full", "flow" (see `vbayes.guides`, whose objects can be
            passed too), or "auto", which starts as "full" and is replaced by a richer guide in `vb.fit` if necessary. Discrete latents of the model are then summed out.
        name: Name for tables and files; that of the model if not given.
        exact: Exact results in closed form, if available.

    Examples:
        >>> pair = vb.Pair(model)  # a guide is made automatically
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
        self.guide: Callable[..., Any] = guide_of(guide, model) if isinstance(guide, str) else unobserving(guide)
        self.word = guide if isinstance(guide, str) else word_of(guide)
        self.model = model if self.word is None else config_enumerate(model)
        self._exact = exact
        self._own = Ownership(self.model, self.guide)
        self.trained_on: Dataset | None = (
            None  # the data of a fit, whose integer codes for names are used for other data too
        )

    def card(self) -> Card:
        """The parameters, and the exact results that are available."""
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
        """Exact results, if available; data are moved to the pair's device for these too."""
        if self._exact is None or self.device is None or self.device.type == "cpu":
            return self._exact
        return self._exact.on(self.device)

    # ---- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → unconstrained value, in the order in which Pyro met them. Empty before `initialise`.

        A tensor with several names (tied weights) appears once, under the alphabetically first name.
        """
        return self._own.values

    def constrained(self) -> dict[str, Tensor]:
        """Name → value in constrained space (a scale is positive), as accepted by `at`."""
        return self._own.constrained()

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Name → the leaf tensor for gradients, which holds the value only inside `scope`."""
        return self._own.leaves

    @property
    def device(self) -> torch.device | None:
        """Device of its parameters, or to which it was moved, or of its modules; None if undetermined."""
        if found := next((value.device for value in self._own.values.values()), self._own.where):
            return found
        return next((p.device for module in self.modules for p in module.parameters()), None)

    @property
    def home(self) -> torch.device | None:
        """The device where model and guide made the parameters, and would make further ones; a fit may have moved these."""
        return self._own.home or self.device

    def is_real(self, name: str) -> bool:
        """Whether a parameter is unconstrained, so that its constrained and unconstrained values are equal."""
        constraint = self._own.constraint(name)
        return getattr(constraint, "base_constraint", constraint) is constraints.real

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that model and guide hold."""
        return list(self._own.modules)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """`buffer.i.name` → current buffers of the modules, which are this pair's only inside `scope`."""
        return self._own.buffers

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Sets the buffers of the modules; call it inside `scope`."""
        self._own.set_buffers(buffers)

    def state(self) -> dict[str, Tensor]:
        """A snapshot of every parameter (unconstrained) and module buffer, for `load`."""
        return self._own.state()

    @takes(state=Mapped(ATensor(any_kind=True)))
    def load(self, state: Mapping[str, Tensor]) -> Pair:
        """Loads the values of a snapshot; returns the pair itself."""
        self._own.load(state)
        return self

    @takes(parameters=Mapped(TENSOR))
    def at(self, parameters: Mapping[str, Tensor]) -> Pair:
        """Returns a copy of the pair with other parameter values.

        Args:
            parameters: Name → value in constrained space (a scale is positive), as in `Fit.parameters`. Other parameters are kept.

        Raises:
            BadInput: A name is unknown, or a value has the wrong shape or violates its constraint.
        """
        return self.copy().load(self._own.unconstrained(self.name, parameters))

    def masked(self) -> Pair:
        """Returns a copy for data with missing values: observed values that are NaN are left out of the likelihood; see `vb.fit(..., missing="mask")`."""
        model = without_gaps(self.model)
        if self.word is not None and not self._own.values:  # the guide needs the model for its device
            return Pair(model, looking_at(self.guide, model), name=self.name)
        twin = Pair(model, self.guide, name=self.name)
        twin._own.share(self._own)
        return twin.load(self.state())

    def adopt(self, names: Iterable[str]) -> Pair:
        """Takes over parameters of the given names from Pyro's global store; returns the pair itself."""
        self._own.adopt(names)
        return self

    def copy(self) -> Pair:
        """Returns a copy with the same model, guide and parameter values, but its own parameters."""
        twin = copy.copy(self)
        twin._own = Ownership(self.model, self.guide)
        twin._own.share(self._own)
        return twin.load(self.state())

    def guided_by_prior(self, batch: Batch) -> Pair:
        """Returns a pair with the same model and parameters, and its prior p(z) as the guide. Used if no recognition model is needed, as in `monte_carlo_em`, or to evaluate
        a model independently of its guide, as with `log_evidence(method="ais")`.

        Args:
            batch: The arguments that model and guide are called with.
        """
        model, batch = self.model, self.beside(batch)
        twin = Pair(model, drawn_from(model), name=self.name)
        if self.word is not None and not self._own.values:  # the guide need not search for its start
            return twin
        self.initialise(batch)
        with self.look(), torch.no_grad(), pyro.poutine.trace(param_only=True) as seen:
            model(*batch.args)
        mine = set(seen.trace.nodes)
        twin._own.share(self._own, mine)
        mine |= twin._own.buffers.keys()
        return twin.load({name: value for name, value in self.state().items() if name in mine})

    def hold(self, module: torch.nn.Module) -> Pair:
        """Adds a module to those of model and guide, so that the pair owns its buffers; returns the pair itself."""
        self._own.hold(module)
        return self

    def release(self) -> Pair:
        """Removes all modules added by `hold`; returns the pair itself."""
        self._own.release()
        return self

    def holds(self, module: torch.nn.Module | None) -> bool:
        """Whether a module was added by `hold`."""
        return any(module is other for other in self._own.held)

    @takes()
    def to(self, device: str | torch.device) -> Pair:
        """Moves the parameters and buffers to a device; returns the pair itself."""
        self._own.where = torch.device(device)
        return self.load({k: v.to(device) for k, v in self.state().items()})

    def beside(self, batch: Batch) -> Batch:
        """The batch on the device of the parameters; unchanged if there are none."""
        return batch if self.device is None else batch.to(self.device)

    def initialise(self, batch: Batch) -> Pair:
        """Creates the parameters of model and guide, once, with the seed `rng.default_seed()`; returns the pair itself."""
        if not self._own.values:
            try:
                batch = self.beside(batch)
                first = next((a.device for a in batch.args if isinstance(a, Tensor)), None)
                with self.look(rng.default_seed()), torch.no_grad(), one_device(self.name, self.device or first):
                    self.run(batch)
            except BaseException:  # no partial initialisation
                self._own.forget()
                raise
            self._own.look_for_buffers()  # an autoguide creates its parts at the first call
        return self

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Context in which Pyro's param store and the modules hold this pair's values; their earlier values are restored afterwards."""
        with self._own.scope(), one_device(self.name, self.device):
            yield

    @contextmanager
    def look(self, seed: int = 0) -> Iterator[None]:
        """Like `scope`, but without side effects: draws depend only on `seed`, and changes of the modules' running statistics are undone."""
        with self._own.scope(keep_buffers=True), one_device(self.name, self.device), rng.seeded(seed):
            yield

    # ---- running ---------------------------------------------------------------------------------------------------

    def scaled(self, total: int | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Model and guide with the sites in the plate `"data"` scaled by N/M; scaling happens only here.

        Args:
            total: N; None leaves scales unchanged.
        """
        if total is None:
            return self.model, self.guide
        scale = MinibatchScale(total)
        return scale(self.model), scale(self.guide)

    def run(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """Runs guide and model once, inside the current scope.

        Returns:
            The traces of the guide, and of the model replayed on it, with scales applied.
        """
        model, guide = self.scaled(batch.total)
        batch = self.beside(batch)
        q = pyro.poutine.trace(guide).get_trace(*batch.args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*batch.args)
        return q, p

    def apart(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """Like `run`, but the model draws its own latents, to compare a model and guide that do not match."""
        batch = self.beside(batch)
        q, p = (pyro.poutine.trace(fn).get_trace(*batch.args) for fn in (self.guide, self.model))
        return q, p

    def generate(self, batch: Batch, latents: pyro.poutine.Trace | None = None) -> pyro.poutine.Trace:
        """Generates data from the model, ignoring its observations, inside the current scope.

        Args:
            batch: Arguments of the model; only their shapes and the covariates among them matter.
            latents: A guide trace with latents to use (posterior predictive); if None, they are drawn from the prior.

        Returns:
            The model's trace. `pyro.deterministic` and `pyro.factor` sites are computed from the generated values; factors don't affect the draws.
        """
        model, batch = forgetful(self.model), self.beside(batch)
        if latents is not None:
            model = pyro.poutine.replay(model, trace=latents)
        return pyro.poutine.trace(model).get_trace(*batch.args)
