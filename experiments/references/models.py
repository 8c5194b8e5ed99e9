"""The models of the reference posteriors; sites have the names of the reference's parameters.

Each function takes a `Language` and returns a model in it, whose arguments are data columns of any float type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .languages import Array, Language

Model = Callable[..., None]


def flat_regression(ppl: Language) -> Model:
    """y ~ N(Xβ, σ²) under flat priors on β and on σ > 0 (Gelman & Hill 2007, chapters 3, 4 and 7)."""
    return _regression(ppl, lambda X: ppl.flat(X.shape[1]), lambda X: ppl.flat_positive())


def half_cauchy_regression(ppl: Language) -> Model:
    """The same regression with σ ~ C⁺(0, 2.5)."""
    return _regression(ppl, lambda X: ppl.flat(X.shape[1]), lambda X: ppl.dist.HalfCauchy(ppl.like(X, (), 2.5)))


def normal_regression(ppl: Language) -> Model:
    """The same regression with β ~ N(0, 10²) and σ ~ N⁺(0, 10²)."""
    sigma = _half_normal(ppl, 10.0)
    return _regression(ppl, lambda X: ppl.normal(X, 10.0, X.shape[1]), sigma)


def _half_normal(ppl: Language, scale: float) -> Callable[[Array], Any]:
    return lambda like: ppl.dist.HalfNormal(ppl.like(like, (), scale))


def _regression(ppl: Language, beta: Callable[[Array], Any], sigma: Callable[[Array], Any]) -> Model:
    def model(X: Array, y: Array) -> None:
        b = ppl.sample("beta", beta(X))
        scale = ppl.sample("sigma", sigma(X))
        with ppl.plate("data", len(y)):
            ppl.sample("y", ppl.dist.Normal(X @ b, scale), obs=y)

    return model


def autoregression(ppl: Language) -> Model:
    """y_t ~ N(α + Σ_k β_k y_{t−k}, σ²); α, β ~ N(0, 10²), σ ~ C⁺(0, 2.5) (Stan User's Guide, autoregressive models).

    The columns of `lagged` are y_{t−1}, …, y_{t−K}.
    """

    def model(lagged: Array, y: Array) -> None:
        alpha = ppl.sample("alpha", ppl.normal(y, 10.0))
        beta = ppl.sample("beta", ppl.normal(y, 10.0, lagged.shape[1]))
        sigma = ppl.sample("sigma", ppl.dist.HalfCauchy(ppl.like(y, (), 2.5)))
        with ppl.plate("data", len(y)):
            ppl.sample("y", ppl.dist.Normal(alpha + lagged @ beta, sigma), obs=y)

    return model


def diamonds(ppl: Language) -> Model:
    """y ~ N(a + Xb, σ²) with centred columns; b ~ N(0, 1), a ~ t₃(8, 10), σ ~ t₃⁺(0, 10) (Bürkner 2017, brms' priors)."""

    def student(like: Array, location: float) -> Any:
        return ppl.dist.StudentT(*(ppl.like(like, (), value) for value in (3.0, location, 10.0)))

    def model(X: Array, y: Array) -> None:
        b = ppl.sample("b", ppl.normal(y, 1.0, X.shape[1]))
        intercept = ppl.sample("Intercept", student(y, 8.0))
        sigma = ppl.sample("sigma", ppl.dist.FoldedDistribution(student(y, 0.0)))
        with ppl.plate("data", len(y)):
            ppl.sample("y", ppl.dist.Normal(intercept + X @ b, sigma), obs=y)

    return model


def eight_schools(ppl: Language) -> Model:
    """θ_j = μ + τ t_j, y_j ~ N(θ_j, s_j²); μ ~ N(0, 5²), τ ~ C⁺(0, 5), t ~ N(0, 1) (Rubin 1981; Gelman et al. 2013, 5.5)."""

    def model(y: Array, s: Array) -> None:
        mu = ppl.sample("mu", ppl.normal(y, 5.0))
        tau = ppl.sample("tau", ppl.dist.HalfCauchy(ppl.like(y, (), 5.0)))
        with ppl.plate("data", len(y)):
            t = ppl.sample("t", ppl.dist.Normal(ppl.like(y, (), 0.0), ppl.like(y, (), 1.0)))
            ppl.sample("y", ppl.dist.Normal(mu + tau * t, s), obs=y)

    return model


def gaussian_process(ppl: Language) -> Model:
    """y ~ N(0, α² exp(−(x − x')²/2ρ²) + σ I): σ is a variance; ρ ~ Γ(25, 4), α ~ N⁺(0, 2²), σ ~ N⁺(0, 1) (Stan User's Guide)."""

    def model(x: Array, y: Array) -> None:
        rho = ppl.sample("rho", ppl.dist.Gamma(ppl.like(y, (), 25.0), ppl.like(y, (), 4.0)))
        alpha = ppl.sample("alpha", _half_normal(ppl, 2.0)(y))
        sigma = ppl.sample("sigma", _half_normal(ppl, 1.0)(y))
        apart = (x[:, None] - x[None, :]) / rho
        covariance = alpha**2 * ppl.exp(-0.5 * apart**2) + sigma * ppl.eye(len(y), y)
        ppl.sample("y", ppl.dist.MultivariateNormal(0 * y, covariance_matrix=covariance), obs=y)

    return model


def hidden_markov(ppl: Language) -> Model:
    """A hidden Markov model of two states with transition probabilities θ₁ and θ₂ (uniform on the simplex) and emissions N(μ_k, 1).

    0 < μ₁ < μ₂ have priors N(3, 1) and N(10, 1); the first state contributes no probability (Stan User's Guide, hidden Markov models).
    The states are summed out.
    """

    def model(y: Array) -> None:
        uniform = ppl.dist.Dirichlet(ppl.like(y, (2,), 1.0))
        rows = [ppl.sample(name, uniform) for name in ("theta1", "theta2")]
        mu = ppl.sample("mu", ppl.dist.ImproperUniform(ppl.constraints.positive_ordered_vector, (), (2,)))
        one = ppl.like(y, (), 1.0)
        ppl.factor(
            "prior of mu", sum(ppl.normal(y, 1.0, location=m).log_prob(mu[k]) for k, m in enumerate((3.0, 10.0)))
        )
        emitted = ppl.dist.Normal(mu, one).log_prob(y[:, None])
        steps = ppl.log(ppl.stack(rows)) + emitted[1:, None, :]
        ppl.factor("y", ppl.logsumexp(ppl.logsumexp(emitted[0][:, None] + _product(ppl, steps), -1), -1))

    return model


def _product(ppl: Language, matrices: Array) -> Array:
    """Elementwise logarithm (K, K) of the product of matrices, given their elementwise logarithms (n, K, K); multiplies in pairs, so that 100 matrices take 7 rounds."""
    while len(matrices) > 1:
        even = len(matrices) // 2 * 2
        first, second = matrices[0:even:2], matrices[1:even:2]
        pairs = ppl.logsumexp(first[:, :, :, None] + second[:, None, :, :], -2)
        matrices = ppl.cat([pairs, matrices[even:]])
    return matrices[0]
