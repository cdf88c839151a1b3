"""Distance of a tuned policy from the reward-KL frontier, from pass rates of prompts measured by sampling.

A reward is 1 or 0, so a prompt is known by the reference policy's pass rate p. The optimum of E[R] − β·KL passes with
q = p·e^{1/β}/(1 − p + p·e^{1/β}) at KL = q·log(q/p) + (1 − q)·log((1 − q)/(1 − p)), one β for all prompts.

Rates that were counted are uncertain, and the frontier is no linear function of them: a prompt that never passed in
few samples is not one that cannot pass. They are drawn from their posterior in the hierarchical model of Gelman et
al., Bayesian Data Analysis, 5.3: passes ~ Binomial(samples, p), p ~ Beta(α, β) over prompts, with a prior uniform in
α/(α + β) and (α + β)^(−1/2). The prompts themselves are fixed: what is said holds for these prompts.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, gammaln

from rlnet.numerics.statistics import wilson

DRAWS = 1000
MOST_NUMBERS = 5_000_000  # draws × prompts; of more prompts there are fewer draws, at least FEWEST
FEWEST = 200
LEVEL = 0.95
STEPS = 60  # of a bisection
LEAST_TILT, MOST_TILT = 1e-9, 700.0  # 1/β
GRID, ZOOMS, LIKELY = 32, 3, 15.0  # points per axis; refinements; log likelihood ratio below which points are left out


@dataclass(frozen=True)
class Rates:
    """Pass rates of P prompts: counted, or known."""

    passes: np.ndarray  # [P]; the rates themselves where there are no samples
    samples: np.ndarray | None = None  # [P], at least 1; None: the rates are known exactly

    @property
    def mean(self) -> np.ndarray:
        """Passes / samples: [P]."""
        return self.passes if self.samples is None else self.passes / self.samples


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Distance:
    """A tuned policy beside the frontier at its divergence; rewards are mean pass rates."""

    kl: float  # the divergence measured, mean over prompts, in nats
    reference: Estimate  # mean pass rate of the reference policy
    tuned: Estimate  # mean pass rate of the tuned policy
    frontier: Estimate  # the largest mean pass rate that is possible at this divergence
    gap: Estimate  # frontier − tuned
    needed_kl: Estimate  # the smallest divergence at which the tuned pass rate is possible; infinite: at none
    never: int  # prompts that the reference policy never passed

    @property
    def above(self) -> bool:
        """Whether the tuned policy lies above the frontier, which cannot be, beyond the interval."""
        return self.gap.high < -1e-9


def mean_rate(rates: Rates, weight: np.ndarray) -> Estimate:
    """The weighted mean of pass rates, with Wilson's interval at the effective number of samples 1/Σ(w²/n).

    For equal weights and samples the interval is at least as wide as prompts of different rates need.

    Args:
        rates: of P prompts.
        weight: [P], sum 1.
    """
    value = float(weight @ rates.mean)
    if rates.samples is None:
        return Estimate(value, value, value)
    size = 1 / float((weight**2 / rates.samples).sum())
    low, high = wilson(min(max(value, 0.0), 1.0) * size, size)
    return Estimate(value, float(low), float(high))


def log_beta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log B(a, b). SciPy's own is −inf in places where denormal numbers count as 0, as they do after training."""
    return gammaln(a) + gammaln(b) - gammaln(a + b)


def posterior(rates: Rates, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Draws of the pass rates given their counts, by the hierarchical model of the module: [draws, P]."""
    if rates.samples is None:
        return np.broadcast_to(rates.mean, (draws, len(rates.mean)))
    counts, times = np.unique(np.stack([rates.passes, rates.samples]), axis=1, return_counts=True)
    passes, failures = counts[0], counts[1] - counts[0]
    ends = np.array([[-12.0, 12.0], [np.log(1e-2), np.log(1e6)]])  # logit of the mean, log of the concentration
    for _ in range(ZOOMS):
        x, y = (np.linspace(low, high, GRID) for low, high in ends)
        mean, size = expit(x)[:, None], np.exp(y)[None, :]
        a, b = mean * size, expit(-x)[:, None] * size
        log_p = np.log(mean) + np.log(expit(-x))[:, None] - y / 2 - times.sum() * log_beta(a, b)
        log_p = log_p + (times * log_beta(a[..., None] + passes, b[..., None] + failures)).sum(-1)
        log_p -= log_p.max()
        likely = [np.flatnonzero((log_p > -LIKELY).any(axis)) for axis in (1, 0)]
        grid = zip((x, y), likely, strict=True)
        ends = np.array([[at[max(k[0] - 1, 0)], at[min(k[-1] + 1, GRID - 1)]] for at, k in grid])
    p = np.exp(log_p).ravel()
    i, j = np.unravel_index(rng.choice(p.size, size=draws, p=p / p.sum()), log_p.shape)
    failed = rates.samples - rates.passes
    return rng.beta(a[i, j][:, None] + rates.passes, b[i, j][:, None] + failed)


def tilt_rates(p: np.ndarray, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q, KL) of the optimum at 1/β = tilt: the closed form of the module, which holds for rates of 0 and 1, too."""
    shrunk = p + (1 - p) * np.exp(-tilt)  # Z·exp(−1/β)
    q = p / shrunk
    return q, np.maximum(-(1 - p) * np.exp(-tilt) / shrunk * tilt - np.log(shrunk), 0.0)


def _bisect(p: np.ndarray, weight: np.ndarray, field: int, value: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(mean q, mean KL) [B] of the optimum at which one of both has a value; at the ends where it lies outside."""
    low, high = np.full(len(p), np.log(LEAST_TILT)), np.full(len(p), np.log(MOST_TILT))
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = tilt_rates(p, np.exp(middle)[:, None])[field] @ weight < value
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    q, kl = tilt_rates(p, np.exp((low + high) / 2)[:, None])
    return q @ weight, kl @ weight


def best_pass_rate(p: np.ndarray, weight: np.ndarray, kl: float) -> np.ndarray:
    """The largest mean pass rate at a mean divergence of at most `kl`: [B] for reference rates p [B, P]."""
    return p @ weight if kl == 0 else _bisect(p, weight, 1, kl)[0]


def needed_divergence(p: np.ndarray, weight: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest mean divergence at which a mean pass rate [B] is possible; infinite where it is not: [B]."""
    found = _bisect(p, weight, 0, target)[1]
    reachable = (p > 0) @ weight
    return np.where(target <= p @ weight, 0.0, np.where(target > reachable + 1e-9, np.inf, found))


def distance(reference: Rates, tuned: Rates, weight: np.ndarray, kl: float, draws: int | None = None) -> Distance:
    """Distance of a tuned policy from the frontier: medians and 95 % intervals over draws of the posterior.

    Args:
        reference, tuned: of the same P prompts.
        weight: [P], probabilities of the prompts.
        kl: mean divergence KL(tuned ‖ reference), in nats, at least 0; taken as exact.
        draws: of the posterior, with a fixed seed; None: 1000, fewer for very many prompts.
    """
    rng = np.random.default_rng(0)
    if reference.samples is None and tuned.samples is None:
        draws = 1
    elif draws is None:
        draws = min(DRAWS, max(FEWEST, MOST_NUMBERS // len(weight)))
    p, q = posterior(reference, rng, draws), posterior(tuned, rng, draws)
    best, reached = best_pass_rate(p, weight, kl), q @ weight

    def summary(values: np.ndarray) -> Estimate:
        ordered, shares = np.sort(values), np.array([0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2])
        ends = ordered[np.rint(shares * (len(values) - 1)).astype(int)]  # nearest draws, infinite ones too
        return Estimate(*(float(x) for x in ends))

    return Distance(
        kl=kl,
        reference=mean_rate(reference, weight),
        tuned=mean_rate(tuned, weight),
        frontier=summary(best),
        gap=summary(best - reached),
        needed_kl=summary(needed_divergence(p, weight, reached)),
        never=int((reference.passes == 0).sum()),
    )
