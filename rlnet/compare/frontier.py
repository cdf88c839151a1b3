"""The reward-KL frontier: how much reward a policy can earn at a divergence KL(π ‖ π_ref) from a reference policy.

A problem is given by classes of completions: for each of P prompts K rewards, `reward` [P, K], and their probabilities
under the reference policy, `mass` [P, K], whose rows sum to 1 and are padded with 0; and by `weight` [P], the
probabilities of the prompts. What earns the same is treated alike by every optimum, so classes are enough. E[R] − β·KL
is largest at π* ∝ π_ref·exp(R/β), where it is β·log Z, Z = Σ π_ref·exp(R/β). Divergences are in nats.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import xlogy

FLAT, SHARP = 1e13, 700.0  # β in ranges of rewards: as good as the reference; gaps between rewards in β: the best alone


class Tilted(NamedTuple):
    """The optimum of E[R] − β·KL, means over prompts."""

    objective: float  # E[R] − β·KL = β·log Z
    reward: float  # E[R]
    kl: float  # KL(π* ‖ π_ref)
    log_partition: float  # log Z


class TiltedPrompts(NamedTuple):
    """The optimum of E[R] − β·KL of each prompt: the fields of `Tilted`, and the policy."""

    objective: np.ndarray  # [P]
    reward: np.ndarray  # [P]
    kl: np.ndarray  # [P]
    log_partition: np.ndarray  # [P]
    chosen: np.ndarray  # [P, K], the probabilities of the classes under π*


class BestOfN(NamedTuple):
    """The best of n completions of the reference policy, means over prompts."""

    reward: float
    kl: float  # to the reference policy
    bound: float  # log n − (n − 1)/n, which is at least `kl`


def tilted_prompts(reward: np.ndarray, mass: np.ndarray, beta: float) -> TiltedPrompts:
    """π* ∝ π_ref·exp(R/β) of each prompt; at β = 0, log Z is its limit, infinite unless the best reward is 0.

    Args:
        reward, mass: see the module.
        beta: 0 gives the best completions alone, infinity the reference.

    Raises:
        ValueError: β is below 0 or no number.
    """
    if not beta >= 0:
        raise ValueError(f"beta={beta}: must be at least 0")
    top = np.where(mass > 0, reward, -np.inf).max(1)
    below = np.where(mass > 0, reward - top[:, None], 0.0)  # at most 0
    with np.errstate(divide="ignore", over="ignore"):
        exponent = np.where(below < 0, below / np.where(below < 0, beta, 1.0), 0.0)
        scale = np.where(top == 0, 0.0, top / beta if beta > 0 else np.copysign(np.inf, top))
    tilt = mass * np.exp(exponent)
    partition = tilt.sum(1)
    chosen = tilt / partition[:, None]
    # log Σ mass·exp(exponent); near 1 it is the small difference from 1 that counts
    near = np.log1p(np.maximum((mass * np.expm1(exponent)).sum(1), -0.9))
    log_z = np.where(partition > 0.5, near, np.log(partition))
    earned = (chosen * np.where(mass > 0, reward, 0.0)).sum(1)
    kl = np.maximum((chosen * np.where(chosen > 0, exponent, 0.0)).sum(1) - log_z, 0.0)
    objective = earned if np.isinf(beta) else top + beta * log_z
    return TiltedPrompts(objective, earned, kl, scale + log_z, chosen)


def tilted(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, beta: float) -> Tilted:
    """π* ∝ π_ref·exp(R/β): what it earns, and how far it is from the reference. Arguments: see `tilted_prompts`."""
    some = weight > 0  # 0 times an infinite log Z is no number
    found = tilted_prompts(reward[some], mass[some], beta)
    with np.errstate(invalid="ignore"):  # at β = 0, log Z of both signs has no mean
        return Tilted(*(float(weight[some] @ x) for x in found[:4]))


def best_reward(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, kl: float) -> tuple[float, float]:
    """The largest mean reward at a mean divergence of at most `kl`, and the β whose optimum it is.

    All prompts share one β, the Lagrange multiplier of the constraint: it is infinite at kl = 0, and 0 from the
    divergence on at which only the best completions are left.

    Args:
        reward, mass, weight: see the module.
        kl: at least 0, in nats.

    Raises:
        ValueError: the divergence is below 0 or no number.
    """
    if not kl >= 0:
        raise ValueError(f"kl={kl}: must be at least 0")
    beta = _beta_where("kl", kl, reward, mass, weight)
    return tilted(reward, mass, weight, beta).reward, beta


def needed_kl(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, target: float) -> float:
    """The smallest mean divergence at which a mean reward of `target` is possible: the inverse of `best_reward`.

    0 where the reference earns as much, infinite where no policy does that stays where the reference policy is.
    """
    best = tilted(reward, mass, weight, 0.0)
    if target > best.reward:
        return best.kl if np.isclose(target, best.reward, rtol=1e-12, atol=1e-12) else float("inf")
    return tilted(reward, mass, weight, _beta_where("reward", target, reward, mass, weight)).kl


def _beta_where(field: str, value: float, reward: np.ndarray, mass: np.ndarray, weight: np.ndarray) -> float:
    """The β at which a field of `Tilted` that falls with β has a value; 0 or infinity where the value lies outside."""
    ordered = np.sort(np.where(weight[:, None] * mass > 0, reward, np.nan), axis=1)  # nan last
    gaps = np.diff(ordered, axis=1)
    gaps = gaps[gaps > 0]

    def excess(log_beta: float) -> float:
        return getattr(tilted(reward, mass, weight, float(np.exp(log_beta))), field) - value

    if not gaps.size:  # nothing to choose
        return float("inf")
    low, high = float(np.log(gaps.min() / SHARP)), float(np.log(np.nanmax(ordered - ordered[:, :1]) * FLAT))
    if excess(low) <= 0:
        return 0.0
    if excess(high) >= 0:
        return float("inf")
    return float(np.exp(brentq(excess, low, high, xtol=1e-12, rtol=1e-14)))


def frontier(
    reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, points: int = 50
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(β, KL, reward) along the frontier, from the reference to the best completions: [points] each.

    Args:
        reward, mass, weight: see the module.
        points: their divergences grow quadratically, as the reward grows like their root near the reference.
    """
    kl = tilted(reward, mass, weight, 0.0).kl * np.linspace(0, 1, points) ** 2
    found = [best_reward(reward, mass, weight, float(x)) for x in kl]
    return np.array([beta for _, beta in found]), kl, np.array([earned for earned, _ in found])


def best_of_n(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, n: int) -> BestOfN:
    """The best of n completions that are drawn from the reference policy, ties broken at random; exact.

    With F(r) the probability that a completion earns at most r, a class of completions that earn r is chosen with
    q(r) = F(r)ⁿ − F(r−)ⁿ; within it the reference policy decides, so that KL = Σ q·log(q/p). The well-known
    log n − (n − 1)/n is an upper bound of it (Beirami et al., Theoretical guarantees on the best-of-n alignment policy,
    2024), approached where no two completions earn the same and each of them is rare.

    Args:
        reward, mass, weight: see the module; equal rewards of a prompt are one class.
        n: at least 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: must be at least 1")
    earned, far = np.zeros(len(mass)), np.zeros(len(mass))
    for i, (values, share) in enumerate(zip(reward, mass, strict=True)):
        level, index = np.unique(values[share > 0], return_inverse=True)
        p = np.bincount(index, share[share > 0])
        q = _best_levels(p, n)
        earned[i], far[i] = q @ level, (xlogy(q, q) - xlogy(q, p)).sum()
    return BestOfN(float(weight @ earned), float(weight @ far), float(weight.sum() * (np.log(n) - (n - 1) / n)))


def _best_levels(p: np.ndarray, n: int) -> np.ndarray:
    """The probability that the best of n earns each reward, F(r)ⁿ − F(r−)ⁿ, of rewards in rising order."""
    at_most = np.cumsum(p)
    with np.errstate(divide="ignore"):
        return (at_most / at_most[-1]) ** n * -np.expm1(n * np.log1p(-p / at_most))


def best_of_n_law(reward: np.ndarray, probability: np.ndarray, n: int) -> np.ndarray:
    """The law of the best of n completions of one prompt, ties broken at random: [Y] → [Y].

    Args:
        reward: of every completion.
        probability: of every completion, above 0 for at least one.
        n: at least 1.
    """
    _, index = np.unique(np.where(probability > 0, reward, -np.inf), return_inverse=True)
    p = np.bincount(index, probability)
    with np.errstate(invalid="ignore", divide="ignore"):
        return probability * np.where(p > 0, _best_levels(p, n) / p, 0.0)[index]


def pass_at_k(p: np.ndarray | float, k: int) -> np.ndarray:
    """The probability that at least one of k completions passes, 1 − (1 − p)ᵏ, where each does with probability p."""
    with np.errstate(divide="ignore"):
        return -np.expm1(k * np.log1p(-np.asarray(p, dtype=np.float64)))


def estimated_pass_at_k(passes: np.ndarray | int, samples: np.ndarray | int, k: int) -> np.ndarray:
    """The unbiased estimate of pass@k from c of n completions that passed: 1 − C(n − c, k)/C(n, k).

    Chen et al., Evaluating large language models trained on code (2021), equation 1.

    Args:
        passes: c, from 0 to n.
        samples: n, at least k.
        k: at least 1.

    Raises:
        ValueError: there are fewer than k samples, or more passes than samples.
    """
    c, n = np.broadcast_arrays(np.asarray(passes, dtype=np.float64), np.asarray(samples, dtype=np.float64))
    if k < 1 or (n < k).any() or (c < 0).any() or (c > n).any():
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples, and passes from 0 to their number")
    none = np.ones(c.shape)
    for i in range(k):
        none = none * np.maximum(n - c - i, 0) / (n - i)
    return 1 - none
