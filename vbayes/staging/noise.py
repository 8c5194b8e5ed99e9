"""Base randomness, pulled out of the distributions that ask for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Draw:
    """One call for base noise: of which kind, shape and type."""

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def fresh(self, device: torch.device) -> Tensor:
        """From torch's own generator, as the call would have drawn it."""
        draw = torch.randn if self.kind == "normal" else torch.rand
        return draw(self.shape, dtype=self.dtype, device=device)


Noise = tuple[Tensor, Tensor]
"""(R, n) standard normals and (R, u) uniforms on (0, 1), or one replica of them: (n,), (u,)."""


class Recorder(TorchFunctionMode):
    """Answers calls for base noise with fresh draws, and notes what was asked.

    Handed noise, it answers with that instead, in the order of the calls: the same noise gives the same numbers, staged
    or eager.

    Args:
        noise: To answer with.
        in_place: Let draws like `x.normal_()` change `x`, as they do without a recorder. If not, they are answered by a
            new tensor: that is what lets `vmap` through, and right wherever only the result is used.
    """

    def __init__(self, noise: Noise | None = None, *, in_place: bool = False) -> None:
        super().__init__()
        self.noise, self.in_place = noise, in_place
        self.draws: list[Draw] = []
        self._used = {"normal": 0, "uniform": 0}

    @property
    def sizes(self) -> tuple[int, int]:
        """How many standard normals and uniforms were asked for."""
        return self._used["normal"], self._used["uniform"]

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        answer = self._answer(func, args, kwargs)
        if self.in_place and func in (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_):
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
            uniform = self._base("uniform", args[0])  # which is 0 now and then, as an exponential never is
            return -torch.log1p(-uniform.clamp(min=torch.finfo(uniform.dtype).tiny)) / rate
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
            # One draw from each row, by inverting its distribution function.
            below = args[0].cumsum(-1)
            spot = self._base("uniform", args[0][..., :1]) * below[..., -1:]
            return (below <= spot).sum(-1, keepdim=True).clamp(max=args[0].shape[-1] - 1)
        return func(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        return x * (self._base("uniform", x) >= p) / (1 - p)

    def _base(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(draw := Draw(kind, tuple(like.shape), like.dtype))
        start = self._used[kind]
        self._used[kind] = stop = start + like.numel()
        if self.noise is None:
            return draw.fresh(like.device)
        return self.noise[kind == "uniform"][start:stop].view(like.shape).to(like.dtype)


def _ones(num_samples: int, replacement: bool = False, **_: Any) -> bool:
    return num_samples == 1


def _two(args: tuple[Any, ...], kwargs: Any, names: tuple[str, str], default: tuple[float, float]) -> tuple[Any, Any]:
    given = dict(zip(names, default, strict=True)) | dict(zip(names, args, strict=False))
    given |= {k: v for k, v in kwargs.items() if k in names}
    return given[names[0]], given[names[1]]


def draw_noise(sizes: tuple[int, int], replicas: int, like: Tensor, generator: torch.Generator | None = None) -> Noise:
    """Noise for `replicas` runs, from a generator; torch's own if None."""
    normals, uniforms = (
        fresh((replicas, size), dtype=like.dtype, device=like.device, generator=generator)
        for fresh, size in zip((torch.randn, torch.rand), sizes, strict=True)
    )
    return normals, uniforms


class FreshNoise:
    """Noise for one run after the other, from torch's own generator: the numbers that Pyro would draw there.

    Args:
        draws: The calls of one run.
        like: Of the type and device of the noise.
    """

    def __init__(self, draws: Sequence[Draw], like: Tensor) -> None:
        self._held: dict[str, Tensor] = {}
        self._parts: list[tuple[Draw, Tensor]] = []
        for kind in ("normal", "uniform"):
            sizes = [math.prod(draw.shape) if draw.kind == kind else 0 for draw in draws]
            self._held[kind] = like.new_empty(sum(sizes))
            parts = self._held[kind].split(sizes)
            self._parts += [(draw, part) for draw, part in zip(draws, parts, strict=True) if draw.kind == kind]
        self._parts.sort(key=lambda part: next(i for i, draw in enumerate(draws) if draw is part[0]))

    def __call__(self) -> Noise:
        """(n,) normals and (u,) uniforms, in the same memory each time."""
        for draw, part in self._parts:
            if draw.dtype != part.dtype:
                part.copy_(draw.fresh(part.device).view(-1))
            elif draw.kind == "normal":
                part.normal_()
            else:
                part.uniform_()
        return self._held["normal"], self._held["uniform"]
