"""Data with gaps: whether what is missing stays out of the log-density and its gradient, as a mask is to see to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.dataset import Batch, Dataset
from ..errors import BadData
from ..validation import no_warnings_of_nan, validation
from .pair import Pair
from .sites import Layout, Term, kind, sites

FEW = 100  # rows without a gap that are looked at beside one with gaps


def check_gaps(pair: Pair, data: Dataset, batch_size: int | None) -> None:
    """Raises `BadData` where NaN or infinite values of the data reach the log-density or its gradient: nothing can be learnt from them.

    Args:
        pair: Initialised by this look, if it is not.
        data: Where the pair is.
        batch_size: M, where the pair is to see so many rows at a time.
    """
    rows, where = data.gaps()
    if not len(rows):
        return
    index = None
    if batch_size is not None:
        others = torch.arange(len(data), device=rows.device)
        index = torch.cat([rows, others[~torch.isin(others, rows)]])[:batch_size].to(data.first.device)
    require_masked(pair, data.batch(pair.model, index), where)


def require_masked(pair: Pair, batch: Batch, where: str) -> None:
    """`check_gaps` of some rows.

    Args:
        batch: What model and guide are called with.
        where: The gaps are, a sentence's beginning.
    """
    try:
        pair.initialise(batch)
        with pair.look(), torch.enable_grad(), validation(False), no_warnings_of_nan():
            q, p = pair.run(batch)
            shared = Layout(q, p)
            terms = [(site, Term.of(site, shared).sum_to(())) for site in [*sites(q), *sites(p)]]
            leaves = pair.leaves
            total = sum(term.sum() for _, term in terms)
            gradients: tuple[Tensor | None, ...] = ()
            if isinstance(total, Tensor) and total.requires_grad:
                gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except (ValueError, RuntimeError, IndexError, TypeError, NotImplementedError):
        return  # it fails with or without gaps, and who looks next says why
    for site, term in terms:
        if not (torch.isfinite(term).all() if kind(site) == "data" else not term.isnan().any()):
            raise BadData(
                f"{where}, which reach the log-density of site {site['name']!r} of pair {pair.name!r}. Drop those rows or fill them in; or leave those places out in the model: "
                "with pyro.poutine.mask(mask=~x.isnan()): pyro.sample(..., obs=x.nan_to_num())."
            )
    for name, gradient in zip(leaves, gradients, strict=False):
        if gradient is not None and gradient.isnan().any():
            raise BadData(
                f"{where}. Masked out of the log-density of pair {pair.name!r}, they reach the gradient of {name!r} nevertheless, where NaN times 0 is NaN. Fill those places "
                "in before anything is computed from them, the mask as it is: obs=x.nan_to_num()."
            )
