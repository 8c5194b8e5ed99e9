"""How draws of gammas, betas and Dirichlets move with their shapes: torch's own approximations, number for number.

The formulas and coefficients are those of ATen's `Distributions.h` (PyTorch, BSD licence; Jankowiak & Obermeyer 2018, arXiv:1806.01851).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.scipy.special import digamma
from torch import Tensor

from .registry import rule

GAMMA = (
    ((0.16009398, -0.094634809, 0.025146376, -0.0030648343), (1, 0.32668115, 0.10406089, 0.0014179084)),
    ((0.53487893, 0.1298071, 0.065735949, -0.0015649758), (0.16639465, 0.020070113, -0.0035938915, -0.00058392623)),
    ((0.040121004, -0.0065914022, -0.0026286047, -0.0013441777), (0.017050642, -0.0021309326, 0.00085092367, -1.5247877e-07)),
)  # fmt: skip
"""By the power of u; the numerator's and the denominator's, by the power of v."""
BETA = (
    (((1.003668233, -0.01061107488, -0.0657888334, 0.01201642863), (0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033),
      (-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013)),
     ((0.221950385, -0.3187676331, 0.01799915743, 0.01074823814), (-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057),
      (0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05)),
     ((-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565), (0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181),
      (0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05))),
    (((1, -0.02924021934, -0.04438342661, 0.007285809825), (0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521),
      (-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149)),
     ((0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273), (0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956),
      (-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05)),
     ((0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05), (0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05),
      (-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06))),
)  # fmt: skip
"""The numerator's and the denominator's, by the powers of u, a and b."""


def _polynomial(x: Any, coefficients: Any) -> Any:
    made = 0.0
    for c in reversed(coefficients):
        made = c + x * made
    return made


@rule("_standard_gamma_grad")
def _gamma(out: Tensor, alpha: Any, x: Any) -> Any:
    """-(d cdf(x; alpha) / d alpha) / pdf(x; alpha)."""
    # In double: near its mode the expansion cancels, and `where` asks for all of them everywhere.
    alpha, x = alpha.astype("float64"), x.astype("float64")
    middle = (0.9 * alpha <= x) & (x <= 1.1 * alpha)
    large = jnp.where(middle, _gamma_at_the_mode(alpha, x), _gamma_large(alpha, x))
    return jnp.where(x < 0.8, _gamma_small(alpha, x), jnp.where(alpha > 8, large, _gamma_between(alpha, x)))


def _gamma_small(alpha: Any, x: Any) -> Any:
    """A Taylor series."""
    numerator, denominator = jnp.ones_like(x), alpha
    first, second = 1 / alpha, 1 / alpha**2
    for i in range(1, 6):
        numerator, denominator = numerator * -x / i, denominator + 1
        first, second = first + numerator / denominator, second + numerator / denominator**2
    power = x**alpha
    density, cdf = x ** (alpha - 1) * jnp.exp(-x), power * first
    made = -((jnp.log(x) - digamma(alpha)) * cdf - power * second) / density
    return jnp.where(jnp.isnan(made), 0.0, made)


def _gamma_at_the_mode(alpha: Any, x: Any) -> Any:
    """Rice's saddle point expansion, where it would be 0 / 0."""
    first = 1 + 24 * alpha * (1 + 12 * alpha)
    second = 1440 * alpha**2 + 6 * x * (53 - 120 * x) - 65 * x * x / alpha + alpha * (107 + 3600 * x)
    return first * second / (1244160 * alpha**4)


def _gamma_large(alpha: Any, x: Any) -> Any:
    denominator = jnp.sqrt(8 * alpha)
    second = denominator / (alpha - x)
    third = (x - alpha - alpha * jnp.log(x / alpha)) ** -1.5
    both = jnp.where(x < alpha, second - third, second + third)
    first = jnp.log(x / alpha) * both - jnp.sqrt(2 / alpha) * (alpha + x) / (alpha - x) ** 2
    stirling = 1 + 1 / (12 * alpha) * (1 + 1 / (24 * alpha))
    return -stirling * x * first / denominator


def _gamma_between(alpha: Any, x: Any) -> Any:
    """A rational function of u and v."""
    u, v = jnp.log(x / alpha), jnp.log(alpha)
    p, q = (_polynomial(u, [_polynomial(v, by_u[part]) for by_u in GAMMA]) for part in (0, 1))
    return jnp.exp(p / q)


@rule("_dirichlet_grad")
def _dirichlet(out: Tensor, x: Any, alpha: Any, total: Any) -> Any:
    """-(d cdf(x; alpha, beta) / d alpha) / pdf(x; alpha, beta) / (1 - x), of a beta with alpha + beta = total."""
    x, alpha, total = (each.astype("float64") for each in (x, alpha, total))
    beta, edge = total - alpha, total * x * (1 - x)
    made = jnp.where((alpha > 6) & (beta > 6), _beta_large(x, alpha, beta), _beta_between(x, alpha, total))
    made = jnp.where((x >= 0.5) & (edge < 0.75), -_beta_of_the_other(1 - x, beta, alpha), made)
    return jnp.where((x <= 0.5) & (edge < 2.5), _beta_small(x, alpha, beta), made)


def _beta_small(x: Any, alpha: Any, beta: Any) -> Any:
    """A Taylor series."""
    factor = digamma(alpha) - digamma(alpha + beta) - jnp.log(x)
    numerator, series = jnp.ones_like(x), 1 / alpha * (factor + 1 / alpha)
    for i in range(1, 11):
        numerator = numerator * (i - beta) * x / i
        series = series + numerator / (alpha + i) * (factor + 1 / (alpha + i))
    made = x * (1 - x) ** -beta * series
    return jnp.where(jnp.isnan(made), 0.0, made)


def _beta_of_the_other(x: Any, alpha: Any, beta: Any) -> Any:
    """The same for beta in place of alpha."""
    factor = digamma(alpha + beta) - digamma(beta)
    numerator, betas, moved, series = jnp.ones_like(x), jnp.ones_like(x), jnp.zeros_like(x), factor / alpha
    for i in range(1, 9):
        numerator = numerator * -x / i
        moved, betas = moved * (beta - i) + betas, betas * (beta - i)
        series = series + numerator / (alpha + i) * (moved + factor * betas)
    made = -((1 - x) ** (1 - beta)) * series
    return jnp.where(jnp.isnan(made), 0.0, made)


def _beta_large(x: Any, alpha: Any, beta: Any) -> Any:
    """Rice's saddle point expansion."""
    total = alpha + beta
    mean = alpha / total
    sd = jnp.sqrt(alpha * beta / (total + 1)) / total
    # Where it would be 0 / 0.
    polynomial = 47 * x * beta**4 + alpha * (
        (43 + 20 * (16 + 27 * beta) * x) * beta**3
        + alpha * (
            3 * (59 + 180 * beta - 90 * x) * beta**2
            + alpha * ((453 + 1620 * beta * (1 - x) - 455 * x) * beta + alpha * (8 * (1 - x) * (135 * beta - 11)))
        )
    )  # fmt: skip
    above = (1 + 12 * alpha) * (1 + 12 * beta) / total**2
    below = 12960 * alpha**3 * beta**2 * (1 + 12 * total)
    at_the_mean = above / (1 - x) * polynomial / below
    prefactor = -x / jnp.sqrt(2 * alpha * beta / total)
    stirling = _stirling(alpha) * _stirling(beta) / _stirling(total)
    apart = alpha * (x - 1) + beta * x
    first = 2 * alpha**2 * (x - 1) + alpha * beta * (x - 1) - x * beta**2
    first = first / (jnp.sqrt(2 * alpha / beta) * total**1.5 * apart**2)
    third = jnp.sqrt(8 * alpha * beta / total) / apart
    base = beta * jnp.log(beta / (total * (1 - x))) + alpha * jnp.log(alpha / (total * x))
    fourth = base**-1.5
    whole = first + 0.5 * jnp.log(alpha / (total * x)) * (third + jnp.where(x < mean, fourth, -fourth))
    near = (mean - 0.1 * sd <= x) & (x <= mean + 0.1 * sd)
    return jnp.where(near, at_the_mean, stirling * prefactor * whole)


def _stirling(a: Any) -> Any:
    return 1 + 1 / (12 * a) + 1 / (288 * a * a)


def _beta_between(x: Any, alpha: Any, total: Any) -> Any:
    """A rational correction to an analytic approximation."""
    u = jnp.log(x)
    a = jnp.log(alpha) - u
    b = jnp.log(total) - a
    p, q = (_polynomial(u, [_polynomial(a, [_polynomial(b, c) for c in by_a]) for by_a in part]) for part in BETA)
    return p / q * x * (digamma(total) - digamma(alpha)) / (total - alpha)
