"""Sites of the model that are summed out: those marked for enumeration that the guide does not have.

If the model draws such a site from its prior, neither the draw nor densities at it depend on the data. Here the model is run with all values of the site
at once, as in Pyro's `TraceEnum_ELBO`, and summed over them; or they are drawn from their conditional given everything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree, contract_to_tensor
from pyro.poutine import Trace
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ..errors import Unsuitable
from ..pair.sites import Layout, Term, plates, sites, summed_out
from .given import Given

Factors = OrderedDict[frozenset[str], list[Tensor]]


def model_terms(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], q: Trace, p: Trace, layout: Layout
) -> list[Term]:
    """The log-densities of a model's run, site by site; all sites that depend on summed-out ones form one term, summed over these.

    Args:
        model, args, kwargs: The model and its arguments.
        q: The guide's draw.
        p: The model's run at it.
        layout: Layout of the two.

    Raises:
        Unsuitable: The sites to be summed out differ in scale.
    """
    if not summed_out(q, p):
        return [Term.of(site, layout) for site in sites(p)]
    return Summed(model, args, kwargs, q, p).terms(layout)


class Summed:
    """A model's run at a guide's draw, with all values of the sites that are summed out.

    Args:
        model, args, kwargs, q, p: As for `model_terms`.

    Attributes:
        names: The sites that are summed out.
    """

    def __init__(
        self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], q: Trace, p: Trace
    ) -> None:
        self.names, self._q, self._p = summed_out(q, p), q, p
        self._args, self._kwargs = args, kwargs
        self._replayed = pyro.poutine.replay(model, trace=q)
        depth = max((-frame.dim for site in sites(q) + sites(p) for frame in plates(site)), default=0)
        # Pyro's handler must see each site before its value is set, to record which sums a density belongs to.
        known: dict[str, Any] = {
            str(site["name"]): site["value"] for site in q.nodes.values() if site["type"] == "sample"
        }
        with Given(known):
            marked = EnumMessenger(-1 - depth)(_Marked(self.names)(model))
            every = pyro.poutine.trace(marked).get_trace(*args, **kwargs)
        self._run = prune_subsample_sites(every)
        self._run.compute_log_prob()
        self._run.pack_tensors()
        symbols = set(self._run.plate_to_symbol.values())
        used = [set(site["packed"]["unscaled_log_prob"]._pyro_dims) for site in sites(self._run)]
        self._symbols = set[str]().union(*used) - symbols

    @cached_property
    def touched(self) -> list[str]:
        """The other sites whose density depends on those that are summed out."""
        return [s["name"] for s in sites(self._run) if s["name"] not in self.names and self._values_of(s)]

    def terms(self, layout: Layout) -> list[Term]:
        """The terms, as in `model_terms`."""
        tied = self._tied
        free = [site for site in sites(self._run) if not self._values_of(site)]
        scales = {float(site["scale"]) for site in tied}
        if len(scales) > 1:
            raise Unsuitable(
                f"Sites {', '.join(repr(s['name']) for s in tied)} depend on the same summed-out site, but have different scales {', '.join(f'{s:g}' for s in sorted(scales))}. "
                "Wanted: one common scale, as a sum of densities with different powers is not a density. Use one poutine.scale around all of them."
            )
        found = [Term.of(site, layout) for site in free]
        name, scale = " + ".join(s["name"] for s in tied), tied[0]["scale"]
        for ordinal, terms in contract_tensor_tree(self._factors(tied), set(self._symbols)).items():
            stack = tuple(f for f in self._frames.values() if self._run.plate_to_symbol[f.name] in ordinal)
            summed = {"name": name, "cond_indep_stack": stack, "mask": None, "scale": scale}
            found += [Term(summed, layout, self._shaped(term, stack)) for term in terms]
        return found

    def log_p(self) -> Tensor:
        """() log p(x, z), scaled, of all sites together."""
        layout = Layout(self._q, self._p)
        return layout.total(self.terms(layout)).sum() * layout.scale

    def together(self, q: Trace) -> tuple[Trace, Trace]:
        """The guide's trace with the `drawn` sites added, for simulating data, and the model's run at them."""
        found = q.copy()
        for name in self.names:
            found.add_node(name, **self.drawn.nodes[name])
        return found, self.drawn

    @cached_property
    def drawn(self) -> Trace:
        """The model's run at a draw of the summed-out sites from their joint conditional, given the guide's draw and the data.

        They are drawn one after the other, each given those before it, with the rest summed out. (Pyro's `infer_discrete` does not support one-hot sites.)
        """
        model = _Drawn(self)(self._replayed)
        return pyro.poutine.trace(model).get_trace(*self._args, **self._kwargs)

    def probabilities(self) -> dict[str, Tensor]:
        """Site → (*plates, values) probability of each of its values, given the guide's draw and the data."""
        factors = self._factors(self._tied)
        return {name: self._logits(name, factors, self._symbols).softmax(-1) for name in self.names}

    def log_likelihood(self, site: Any) -> Tensor:
        """An observed site's log-density for each of its rows, with sites that belong to a single row summed out.

        If rows or sites depend on each other through summed-out sites, a row's likelihood is defined only at given values of these; then it is the one at `drawn`.

        Args:
            site: A site of the model's run.
        """
        name = site["name"]
        mine: Any = self._run.nodes[name]
        if not self._values_of(mine):
            return log_likelihood(mine)
        symbols, members = self._values_of(mine), [mine]
        others = [s for s in sites(self._run) if s["name"] != name and self._values_of(s)]
        while more := [s for s in others if s not in members and self._values_of(s) & symbols]:
            members += more
            symbols = symbols.union(*(self._values_of(s) for s in more))
        alone = all(s is mine or s["name"] in self.names for s in members)
        if not alone or any(self._ordinal(s) != self._ordinal(mine) for s in members):
            return log_likelihood(self.drawn.nodes[name])
        summed = contract_to_tensor(self._factors(members), symbols, target_ordinal=self._ordinal(mine))
        return self._shaped(summed, plates(mine))

    # ---- Pyro's packed tensors -------------------------------------------------------------------------------------

    @cached_property
    def _tied(self) -> list[Any]:
        """The sites that depend on each other through sites that are summed out."""
        return [site for site in sites(self._run) if self._values_of(site)]

    def _logits(self, name: str, factors: Factors, symbols: set[str]) -> Tensor:
        """(*plates, values) log-probabilities of a site's values up to a constant, with everything else in `symbols` summed out."""
        site: Any = self._run.nodes[name]
        symbol, dim = site["infer"]["_enumerate_symbol"], site["infer"]["_enumerate_dim"]
        logits = contract_to_tensor(factors, set(symbols), target_ordinal=self._ordinal(site), target_dims={symbol})
        logits = self._shaped(logits, plates(site)).unsqueeze(-1).transpose(-1, dim - 1)
        rank = max((-frame.dim for frame in plates(site)), default=0)
        return logits.reshape(logits.shape[logits.dim() - 1 - rank :])

    @cached_property
    def _frames(self) -> dict[str, Any]:
        return {frame.name: frame for site in sites(self._run) for frame in plates(site)}

    def _values_of(self, site: Any) -> set[str]:
        """The dimensions of a site's density that run over values of summed-out sites."""
        return self._symbols & set(site["packed"]["unscaled_log_prob"]._pyro_dims)

    def _ordinal(self, site: Any) -> frozenset[str]:
        """A site's plates, except those with a single row, which are not dimensions of packed tensors and have no size in Pyro's sums."""
        return frozenset(self._run.plate_to_symbol[frame.name] for frame in plates(site) if frame.size != 1)

    def _factors(self, tied: list[Any]) -> Factors:
        """Plates → densities. Masks are applied inside the sum, except at summed-out sites, whose probabilities add up to one."""
        found: Factors = OrderedDict()
        for site in sorted(tied, key=lambda s: s["name"] in self.names):
            value = site["packed"]["unscaled_log_prob"]
            if site["name"] not in self.names:
                value = packed.scale_and_mask(value, mask=site["packed"]["mask"])
            found.setdefault(self._ordinal(site), []).append(value)
        return found

    def _shaped(self, value: Tensor, stack: Any) -> Tensor:
        """A tensor with its plates at the model's dimensions, each in full size."""
        plain = packed.unpack(value, self._run.symbol_to_dim)
        rank = max([plain.dim(), *(-frame.dim for frame in stack)])
        shape = [1] * (rank - plain.dim()) + list(plain.shape)
        for frame in stack:
            shape[frame.dim] = frame.size
        return plain.expand(shape)


class _Marked(Messenger):
    """Marks exactly the given sites for parallel enumeration; sites that already have a value keep it."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def _pyro_sample(self, msg: Any) -> None:
        msg["infer"] = {k: v for k, v in msg["infer"].items() if k not in ("enumerate", "num_samples")}
        if msg["name"] in self._names:
            msg["infer"]["enumerate"] = "parallel"


class _Drawn(Messenger):
    """Uses draws from their conditional for the summed-out sites; factors then have their values at these draws."""

    def __init__(self, summed: Summed) -> None:
        super().__init__()
        self._summed = summed
        self._factors, self._symbols = summed._factors(summed._tied), set(summed._symbols)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self._summed.names or msg["done"]:
            return
        logits = self._summed._logits(msg["name"], self._factors, self._symbols)
        index = torch.distributions.Categorical(logits=logits).sample()
        values = msg["fn"].enumerate_support(expand=False)
        msg["value"], msg["done"] = values.reshape(len(values), *msg["fn"].event_shape)[index], True
        known: Any = self._summed._run.nodes[msg["name"]]
        symbol = known["infer"]["_enumerate_symbol"]
        chosen = packed.pack(index, known["infer"]["_dim_to_symbol"])
        for terms in self._factors.values():
            terms[:] = [packed.gather(t, chosen, symbol) if symbol in t._pyro_dims else t for t in terms]  # type: ignore[attr-defined]
        self._symbols.remove(symbol)


def log_likelihood(site: Any) -> Tensor:
    """A site's log-density at its value over its plates, unscaled, with its mask."""
    log_p = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return torch.as_tensor(pyro.distributions.util.scale_and_mask(log_p, mask=site["mask"]))
