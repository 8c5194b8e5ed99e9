"""Draws the noise behind a discrete draw from its conditional given the draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def behind(site: Any) -> tuple[Tensor, Tensor]:
    """Draws z, from which a site's draw b was made, given b: once as α plus constant noise, once as a function of α and b with other constant noise.

    Returns:
        The same value twice, with the shape of b, differentiable in the site's logits in these two ways.
    """
    logits = site.parameters["logits"]
    if site.family == "bernoulli":
        u = uniform_behind(logits, site.value)
        return logits + torch.logit(u.detach()), logits + torch.logit(u)
    eps = torch.finfo(logits.dtype).eps
    waits = (
        -torch.log(torch.rand_like(logits).clamp(eps, 1 - eps))
    ).log()  # arrival time of each category; the first one is drawn
    alone = (waits * site.value).sum(-1, keepdim=True)
    later = torch.logaddexp(alone, waits - torch.log_softmax(logits, -1))
    bound = -torch.where(site.value > 0.5, alone, later)
    return logits + (bound - logits).detach(), bound


def uniform_behind(logits: Tensor, b: Tensor) -> Tensor:
    """Draws u with b = 1[α + logit(u) > 0] given b, differentiable in α.

    Args:
        logits: α.
        b: Zeros and ones, of the same shape.
    """
    off = torch.sigmoid(-logits)  # b = 1 where u > off
    v = torch.rand_like(logits)
    u = torch.where(b > 0.5, off + v * (1 - off), v * off)
    eps = torch.finfo(u.dtype).eps
    return u.clamp(eps, 1 - eps)
