"""Exact results for a pair, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments.function import FUNCTION
from ..arguments.instance import Instance
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..data.dataset import Batch


@takes(elbo=FUNCTION, log_evidence=FUNCTION, posterior=FUNCTION, log_evidence_per_datum=Optional(FUNCTION))
@dataclass(frozen=True)
class Exact:
    """Exact results for a pair in closed form, as functions of the same arguments as its model.

    The functions run inside the pair's scope, so they may read its parameters with `pyro.param`.

    Args:
        elbo: (*batch) → () ELBO in nats, differentiable in the parameters.
        log_evidence: (*batch) → () log p(x) in nats.
        posterior: (*batch) → site name → distribution over all its plates.
        log_evidence_per_datum: (*batch) → (N,) log p(x) of each row in nats, if rows are independent; they add up to `log_evidence`.
    """

    elbo: Callable[..., Tensor]
    log_evidence: Callable[..., Tensor]
    posterior: Callable[..., Mapping[str, Any]]
    log_evidence_per_datum: Callable[..., Tensor] | None = None

    def on(self, device: torch.device) -> Exact:
        """The same for arguments on any device, which are brought to this one."""

        def there(fn: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args: fn(*Batch(args).to(device).args)

        return Exact(**{name: fn and there(fn) for name, fn in vars(self).items()})


EXACT = Optional(Instance(Exact, "a vb.Exact", "vb.Exact(elbo, log_evidence, posterior)"))
