"""A pair: a generative model p_θ(x, z) and a guide q_φ(z|x), and the parameters of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints, transform_to

from .. import rng
from ..data.dataset import Batch
from ..errors import BadInput
from ..summaries.card import Card, Displayable, counted, first_few
from .modules import reachable_modules

DATA_PLATE = "data"


@dataclass(frozen=True)
class Exact:
    """Closed-form truth about a pair, for the same arguments as its model.

    The functions run inside the pair's scope, so they may read its parameters with `pyro.param`.

    Args:
        elbo: (*batch) → () ELBO in nats, differentiable in the parameters.
        log_evidence: (*batch) → () log p(x) in nats.
        posterior: (*batch) → site name → distribution over all its plates.
        log_evidence_per_datum: (*batch) → (N,) nats of each row by itself, where rows are independent; they add up to `log_evidence`.
    """

    elbo: Callable[..., Tensor]
    log_evidence: Callable[..., Tensor]
    posterior: Callable[..., Mapping[str, Any]]
    log_evidence_per_datum: Callable[..., Tensor] | None = None


class Pair(Displayable):
    """A Pyro model and guide with parameters of their own.

    `model` and `guide` are any Pyro callables with the same arguments: functions that call `pyro.param`, methods of an
    `nn.Module` that calls `pyro.module`, `PyroModule`s, autoguides. The pair keeps the values of their parameters, so
    neither the caller's param store nor another pair over the same modules ever sees them change; inside
    `with pair.scope():` the store and the modules hold this pair's values.

    Initial values belong to the pair, not to a fit: they are made at the first call, from a fixed seed.

    Args:
        model: p_θ(x, z). Its plate over observations is named `"data"`.
        guide: q_φ(z|x).
        name: For tables and files; the model's own name if not given.
        exact: Closed-form truth, where there is one.

    Examples:
        >>> pair = vb.Pair(model, AutoNormal(model))
        >>> fit = vb.fit(pair, data, steps=1000)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *,
        name: str | None = None,
        exact: Exact | None = None,
    ) -> None:
        self.model, self.guide, self.exact = model, guide, exact
        self.name = name or str(getattr(model, "__name__", type(model).__name__))
        # The tensors that model and guide hold in their hands (shared by every copy of the pair) ...
        self._leaves: dict[str, Tensor] = {}
        self._constraints: dict[str, Any] = {}
        # ... and the numbers that this pair puts into them.
        self._values: dict[str, Tensor] = {}
        self._modules = reachable_modules(model, guide)
        self._held_beside: list[torch.nn.Module] = []
        self.inside_scope = False
        self._buffers = self._read_buffers()

    def card(self) -> Card:
        """Its parameters, and what is known of it in closed form."""
        numbers = sum(value.numel() for value in self._values.values())
        rows = [
            (
                "parameters",
                f"{counted(numbers, 'number')} in {first_few(self._values, 2)}" if self._values else "none yet",
            )
        ]
        if self.exact is not None:
            known = [name.replace("_", " ") for name, value in vars(self.exact).items() if value is not None]
            rows.append(("exact", ", ".join(known)))
        return Card(f"Pair: {self.name}", tuple(rows))

    # ---- parameters ------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name → unconstrained value, in the order in which Pyro met them. Empty before `initialise`.

        A tensor that goes by several names (tied weights) is here once, under the first in the alphabet.
        """
        return dict(self._values)

    def constrained(self) -> dict[str, Tensor]:
        """Name → value in the constrained space (a scale is positive), as `at` takes it."""
        with self.scope():
            return {name: value.detach().clone() for name, value in pyro.get_param_store().items()}

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Name → the tensor that gradients are taken with respect to; it holds the value only inside `scope`."""
        return {name: self._leaves[name] for name in self._values}

    def is_real(self, name: str) -> bool:
        """Whether a parameter is any real number, so that its value is the same constrained and not."""
        constraint = self._constraints.get(name, constraints.real)
        return getattr(constraint, "base_constraint", constraint) is constraints.real

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that model and guide hold."""
        return list(self._modules)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """`buffer.i.name` → what the modules hold now; only inside `scope` is that this pair's."""
        return {f"buffer.{i}.{name}": self._modules[i].get_buffer(name) for i, name in self._buffers}

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Hands the modules other buffers, inside `scope`."""
        self._set_buffers({(int(k.split(".", 2)[1]), k.split(".", 2)[2]): b for k, b in buffers.items()})

    def state(self) -> dict[str, Tensor]:
        """A snapshot of every parameter (unconstrained) and module buffer, for `load`."""
        buffers = {f"buffer.{i}.{k}": b.clone() for (i, k), b in self._buffers.items()}
        return {k: v.detach().clone() for k, v in self._values.items()} | buffers

    def snapshot_of_buffers(self) -> dict[str, Tensor]:
        """The part of `state` that is the modules' buffers."""
        return {k: v for k, v in self.state().items() if k.startswith("buffer.")}

    def load(self, state: Mapping[str, Tensor]) -> Pair:
        """Takes on the values of a snapshot; returns itself."""
        for key, value in state.items():
            if key.startswith("buffer."):
                _, i, name = key.split(".", 2)
                self._buffers[int(i), name] = value.detach().clone()
            else:
                self._values[key] = value.detach().clone()
        return self

    def at(self, parameters: Mapping[str, Tensor]) -> Pair:
        """A copy with other values.

        Args:
            parameters: Name → value in the constrained space (a scale is positive), as `Fit.parameters` has them. Others stay.

        Raises:
            BadInput: An unknown name, another shape, or a value that breaks the constraint.
        """
        state: dict[str, Tensor] = {}
        for name, value in parameters.items():
            if name not in self._values:
                raise BadInput(f"Pair {self.name!r} has no parameter {name!r}. It has: {', '.join(self._values)}.")
            constraint, old = self._constraints.get(name, constraints.real), self._values[name]
            if not constraint.check(value).all():
                raise BadInput(f"Parameter {name!r} = {value.tolist()} of pair {self.name!r} is not in {constraint}.")
            state[name] = transform_to(constraint).inv(value).to(old)
            if state[name].shape != old.shape:
                raise BadInput(
                    f"Parameter {name!r} of pair {self.name!r} has shape {tuple(value.shape)}, {tuple(state[name].shape)} unconstrained. "
                    f"Wanted: {tuple(old.shape)} unconstrained."
                )
        return self.copy().load(state)

    def adopt(self, names: Iterable[str]) -> Pair:
        """Takes the parameters of those names that Pyro's global store holds now for its own; returns itself."""
        state = pyro.get_param_store().get_state()
        self._leaves = {name: state["params"][name] for name in names}
        self._constraints = {name: state["constraints"][name] for name in names}
        self._values = self._held(self._leaves)
        return self

    def _held(self, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values in some leaves, each under the first of its names."""
        names: dict[int, list[str]] = {}
        for name, leaf in leaves.items():
            names.setdefault(id(leaf), []).append(name)
        return {min(same): self._leaves[same[0]].data for same in names.values()}

    def copy(self) -> Pair:
        """The same model and guide with parameters of its own, at the same values."""
        twin = Pair(self.model, self.guide, name=self.name, exact=self.exact)
        twin._leaves, twin._constraints = dict(self._leaves), dict(self._constraints)
        for module in self._held_beside:
            twin.hold(module)
        return twin.load(self.state())

    def guided_by_prior(self, batch: Batch) -> Pair:
        """The same model at the same parameters with its own prior p(z) for a guide: for what needs no recognition model, as `monte_carlo_em`, or asks what a
        model is worth whatever guide came with it, as `log_evidence(method="ais")` does from there.

        Args:
            batch: What model and guide are called with.
        """
        self.initialise(batch)
        model = self.model

        def prior(*args: Any) -> None:
            with pyro.poutine.block(hide_fn=lambda msg: msg["type"] == "sample" and msg["is_observed"]):
                model(*args)

        twin = Pair(model, prior, name=self.name)
        with self.scope(), rng.seeded(0), torch.no_grad(), pyro.poutine.trace(param_only=True) as seen:
            model(*batch.args)
        mine = set(seen.trace.nodes)
        twin._leaves = {name: leaf for name, leaf in self._leaves.items() if name in mine}
        twin._constraints = {name: self._constraints[name] for name in self._constraints if name in mine}
        return twin.load(
            {name: value for name, value in self.state().items() if name.startswith("buffer.") or name in mine}
        )

    def hold(self, module: torch.nn.Module) -> Pair:
        """Counts one more module among those of model and guide, so that its buffers are this pair's; returns itself."""
        if all(module is not other for other in self._modules):
            self._modules.append(module)
            self._held_beside.append(module)
            self._buffers = self._read_buffers() | self._buffers
        return self

    def to(self, device: str | torch.device) -> Pair:
        """Moves the parameters and buffers; returns itself."""
        return self.load({k: v.to(device) for k, v in self.state().items()})

    def initialise(self, batch: Batch) -> Pair:
        """Lets model and guide create their parameters, from a fixed seed; returns itself. Done once."""
        if not self._values:
            try:
                with self.scope(), rng.seeded(0), torch.no_grad():
                    self.run(batch)
            except BaseException:  # half of the parameters is none
                self._values, self._leaves, self._constraints = {}, {}, {}
                raise
            self._buffers = self._read_buffers() | self._buffers  # an autoguide builds its parts only now
        return self

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Pyro's param store and the modules' parameters hold this pair's values; afterwards what they held before."""
        store, mine = pyro.get_param_store(), self.leaves
        before, self.inside_scope = self.inside_scope, True
        met = {id(leaf) for leaf in mine.values()}
        unmet = [p for module in self._modules for p in module.parameters() if id(p) not in met]
        with (
            pyro.settings.context(module_local_params=False),
            store.scope(
                {
                    "params": {name: leaf for name, leaf in self._leaves.items() if id(leaf) in met},
                    "constraints": dict(self._constraints),
                }
            ),
        ):
            outside = {id(leaf): (leaf.data, leaf.grad) for leaf in (*mine.values(), *unmet)}
            buffers = {key: self._modules[key[0]].get_buffer(key[1]) for key in self._buffers}
            for name, leaf in mine.items():
                leaf.grad, leaf.data = None, self._values[name]
            for leaf in unmet:  # a model may come to them later
                leaf.grad, leaf.data = None, leaf.data.clone()
            self._set_buffers(self._buffers)
            try:
                yield
            finally:
                self.inside_scope = before
                self._buffers = {(i, k): self._modules[i].get_buffer(k) for i, k in self._buffers}
                self._set_buffers(buffers)
                state = store.get_state()
                self._constraints |= state["constraints"]
                self._leaves |= state["params"]
                held = self._held(state["params"])
                self._values = {k: v for k, v in self._values.items() if k not in state["params"]} | held
                for leaf in (*state["params"].values(), *unmet):
                    value, gradient = outside.get(id(leaf), (leaf.data.clone(), None))
                    leaf.grad = None
                    leaf.data = value
                    leaf.grad = gradient

    def _read_buffers(self) -> dict[tuple[int, str], Tensor]:
        return {
            (i, name): buffer.clone()
            for i, module in enumerate(self._modules)
            for name, buffer in module.named_buffers()
        }

    def _set_buffers(self, buffers: Mapping[tuple[int, str], Tensor]) -> None:
        for (i, name), value in buffers.items():
            owner, _, last = name.rpartition(".")
            self._modules[i].get_submodule(owner)._buffers[last] = value

    # ---- running ---------------------------------------------------------------------------------------------------

    def scaled(self, total: int | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Model and guide with the sites of the plate `"data"` scaled by N/M: the one place where that happens.

        Args:
            total: N; None leaves scales as they are.
        """
        if total is None:
            return self.model, self.guide
        scale = _MinibatchScale(total)
        return scale(self.model), scale(self.guide)

    def run(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """One draw, inside the current scope.

        Returns:
            The traces of the guide and of the model replayed on it, with scales applied.
        """
        model, guide = self.scaled(batch.total)
        q = pyro.poutine.trace(guide).get_trace(*batch.args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*batch.args)
        return q, p

    def apart(self, batch: Batch) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace]:
        """Like `run`, but the model draws its latents itself: to compare two that do not fit together."""
        q, p = (pyro.poutine.trace(fn).get_trace(*batch.args) for fn in (self.guide, self.model))
        return q, p

    def generate(self, batch: Batch, latents: pyro.poutine.Trace | None = None) -> pyro.poutine.Trace:
        """What the model makes when it forgets its observations, inside the current scope.

        Args:
            batch: Its arguments; only their shapes and the covariates among them still matter.
            latents: A guide trace to take latents from (posterior predictive); None draws them from the prior.
        """
        model = pyro.poutine.uncondition(self.model)
        if latents is not None:
            model = pyro.poutine.replay(model, trace=latents)
        return pyro.poutine.trace(model).get_trace(*batch.args)


class _MinibatchScale(Messenger):
    """Multiplies the scale of sites in an unscaled plate `"data"` of size M by N/M."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total

    def _pyro_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            # A plate that was told its full size (`size=` with a subsample) has scaled its sites already.
            if frame.name == DATA_PLATE and frame.full_size in (None, frame.size) and frame.size < self.total:
                msg["scale"] = msg["scale"] * (self.total / frame.size)
