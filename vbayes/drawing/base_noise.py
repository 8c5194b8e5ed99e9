"""Base noise of distributions, and its dependence between K particles.

Every draw with a reparameterised path starts from standard normals or uniforms. By answering the calls for those, K particles can be made
independent, antithetic in pairs, or evenly spread, without any change to model or guide.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..arguments.choice import Choice
from .sobol import sobol

NoiseKind = Literal["iid", "antithetic", "sobol"]
NOISE = Choice(get_args(NoiseKind))


@dataclass(frozen=True)
class Draw:
    """One call for base noise: its kind, shape and type.

    The kinds are "normal", "uniform" and "rows", a permutation as drawn by subsampling plates.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def like(cls, kind: str, like: Tensor) -> Draw:
        return cls(kind, tuple(like.shape), like.dtype)

    def fresh(self, device: torch.device) -> Tensor:
        """Draws from torch's global generator, as the call would have done."""
        if self.kind == "rows":
            return torch.randperm(*self.shape, device=device)
        draw = torch.randn if self.kind == "normal" else torch.rand
        return draw(self.shape, dtype=self.dtype, device=device)


Base = Callable[[str, Tensor], Tensor]
"""("normal" or "uniform", a tensor) → base noise of its shape, type and device."""


IN_PLACE = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_, torch.Tensor.cauchy_)
"""Functions that fill the tensor that they are called on with draws."""


class Intercept(TorchFunctionMode):
    """Answers calls for base noise.

    Args:
        base: Function that answers a call.
        in_place: Whether draws like `x.normal_()` change `x`, as they do without an intercept. If not, they return a
            new tensor, which works under `vmap`, and is correct wherever only the result is used.
    """

    def __init__(self, base: Base, *, in_place: bool = False) -> None:
        super().__init__()
        self._base, self.in_place = base, in_place

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        answer = self._answer(func, args, kwargs)
        if self.in_place and func in IN_PLACE:
            return answer if answer is args[0] else args[0].copy_(answer)
        return answer

    def _answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if func is torch.Tensor.normal_ and not kwargs.get("generator"):
            mean, std = _two(args[1:], kwargs, ("mean", "std"), (0.0, 1.0))
            return self._base("normal", args[0]) * std + mean
        if func is torch.Tensor.uniform_ and not kwargs.get("generator"):
            low, high = _two(args[1:], kwargs, ("from", "to"), (0.0, 1.0))
            return low + (high - low) * self._base("uniform", args[0])
        if func is torch.Tensor.exponential_ and not kwargs.get("generator"):
            (rate,) = args[1:] or (kwargs.get("lambd", 1.0),)
            uniform = self._base("uniform", args[0])  # may be 0, which an exponential never is
            return -torch.log1p(-uniform.clamp(min=torch.finfo(uniform.dtype).tiny)) / rate
        if func is torch.Tensor.cauchy_ and not kwargs.get("generator"):
            median, sigma = _two(args[1:], kwargs, ("median", "sigma"), (0.0, 1.0))
            return median + sigma * torch.tan(math.pi * (self._base("uniform", args[0]) - 0.5))
        if func is torch.normal and len(args) == 2 and all(isinstance(a, Tensor) for a in args) and not kwargs:
            mean, std = torch.broadcast_tensors(*args)
            return mean + std * self._base("normal", mean)
        if func in (torch.randn_like, torch.rand_like):
            like = args[0].to(kwargs["dtype"]) if kwargs.get("dtype") else args[0]
            return self._base("normal" if func is torch.randn_like else "uniform", like)
        if func in (torch.randn, torch.rand) and not kwargs.get("generator"):
            size = kwargs.get("size", args)
            shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
            like = torch.empty(shape, dtype=kwargs.get("dtype"), device=kwargs.get("device"))
            return self._base("normal" if func is torch.randn else "uniform", like)
        if func is torch.bernoulli and not kwargs:
            return (self._base("uniform", args[0]) < args[0]).to(args[0].dtype)
        if func is torch.nn.functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is torch.multinomial and not kwargs.get("generator") and _ones(*args[1:], **kwargs):
            # One draw for each row, by inverting its distribution function.
            below = args[0].cumsum(-1)
            spot = self._base("uniform", args[0][..., :1]) * below[..., -1:]
            return (below <= spot).sum(-1, keepdim=True).clamp(max=args[0].shape[-1] - 1)
        return func(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        return x * (self._base("uniform", x) >= p) / (1 - p)


def _ones(num_samples: int, replacement: bool = False, **_: Any) -> bool:
    return num_samples == 1


def _two(args: tuple[Any, ...], kwargs: Any, names: tuple[str, str], default: tuple[float, float]) -> tuple[Any, Any]:
    given = dict(zip(names, default, strict=True)) | dict(zip(names, args, strict=False))
    given |= {k: v for k, v in kwargs.items() if k in names}
    return given[names[0]], given[names[1]]


# ---- the noise of K particles, drawn one after the other -------------------------------------------------------------


def contexts(kind: NoiseKind, num_particles: int) -> Iterator[AbstractContextManager[Any]]:
    """Yields one context for the draw of each particle; they must be used in this order.

    References:
        Hammersley & Morton 1956 (antithetic); Buchholz, Wenzel & Mandt 2018, Quasi-Monte Carlo variational inference,
        arXiv:1807.01604.
    """
    if kind == "iid" or num_particles == 1:
        yield from (nullcontext() for _ in range(num_particles))
    elif kind == "antithetic":
        for k in range(0, num_particles, 2):
            kept: list[Tensor] = []
            yield Intercept(functools.partial(_keep, kept))
            if k + 1 < num_particles:
                yield Intercept(functools.partial(_reflect, iter(kept)))
    else:
        points: list[tuple[str, Tensor]] = []
        yield Intercept(functools.partial(_first_point, points, num_particles))
        for k in range(1, num_particles):
            yield Intercept(functools.partial(_point, iter(points), k))


def _keep(kept: list[Tensor], kind: str, like: Tensor) -> Tensor:
    kept.append(drawn := Draw.like(kind, like).fresh(like.device))
    return drawn


def _reflect(kept: Iterator[Tensor], kind: str, like: Tensor) -> Tensor:
    return reflected(kind, next(kept))


def _first_point(points: list[tuple[str, Tensor]], num_particles: int, kind: str, like: Tensor) -> Tensor:
    seeds = Draw.like("uniform", like).fresh(like.device)
    before = sum(p[0].numel() for _, p in points)
    points.append((kind, sobol(kind, seeds.reshape(-1), num_particles, before).reshape(num_particles, *like.shape)))
    return points[-1][1][0]


def _point(points: Iterator[tuple[str, Tensor]], k: int, kind: str, like: Tensor) -> Tensor:
    return next(points)[1][k]


# ---- the same for K particles in parallel ------------------------------------------------------------------------------------------


def shared_draws(kind: NoiseKind, draws: Sequence[Draw], num_particles: int) -> tuple[Draw, ...]:
    """The calls for base noise that K particles share, in their order, from the calls of one."""
    if kind == "iid" or num_particles == 1:
        return tuple(draws) * num_particles
    if kind == "antithetic":
        return tuple(draws) * -(-num_particles // 2)
    return tuple(replace(draw, kind="uniform") for draw in draws)


def spread(
    kind: NoiseKind, draws: Sequence[Draw], num_particles: int, normals: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Noise for each of K particles from the noise that they share: the same as from `contexts`, as (K, n) and (K, u).

    Args:
        draws: The calls of one particle.
        normals, uniforms: Flat tensors, as requested by `shared_draws`.
    """
    k = num_particles
    if kind == "iid" or k == 1:
        return normals.view(k, -1) if k else normals, uniforms.view(k, -1)
    if kind == "antithetic":
        pairs = (
            torch.stack([given, reflected(name, given)], 1).flatten(0, 1)[:k]
            for name, given in (("normal", normals.view(-(-k // 2), -1)), ("uniform", uniforms.view(-(-k // 2), -1)))
        )
        return tuple(pairs)  # type: ignore[return-value]
    made: dict[str, list[Tensor]] = {"normal": [], "uniform": []}
    before = 0
    for draw in draws:
        size = math.prod(draw.shape)
        made[draw.kind].append(sobol(draw.kind, uniforms[before : before + size], k, before))
        before += size
    empty = uniforms.new_empty(k, 0)
    return torch.cat([empty, *made["normal"]], 1), torch.cat([empty, *made["uniform"]], 1)


def reflected(kind: str, noise: Tensor) -> Tensor:
    """−ε or 1 − u, which stays below 1."""
    if kind == "normal":
        return -noise
    return (1 - noise).clamp(max=1 - torch.finfo(noise.dtype).eps)
