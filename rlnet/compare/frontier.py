"""The reward-KL frontier: how much reward a policy can earn at a divergence KL(π ‖ π_ref) from a reference policy.

A problem is given by classes of completions: for each of P prompts K different rewards, `reward` [P, K], and their
probabilities under the reference policy, `mass` [P, K], whose rows sum to 1; and by `weight` [P], the probabilities of
the prompts. What earns the same is treated alike by every optimum, so classes are enough. E[R] − β·KL is largest at
π* ∝ π_ref·exp(R/β), where it is β·log Σ π_ref·exp(R/β).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import xlogy

BETAS = (-30.0, 30.0)  # logarithms, in units of the range of the rewards


class Tilted(NamedTuple):
    """The optimum of E[R] − β·KL, means over prompts."""

    objective: float
    reward: float
    kl: float


def tilted(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, beta: float) -> Tilted:
    """π* ∝ π_ref·exp(R/β): what it earns, and how far it is from the reference.

    Args:
        reward, mass, weight: see the module.
        beta: above 0; infinity gives the reference.
    """
    top = np.where(mass > 0, reward, -np.inf).max(1, keepdims=True)
    chosen = mass * np.exp(np.where(mass > 0, reward - top, 0.0) / beta)
    chosen /= chosen.sum(1, keepdims=True)
    mean = (chosen * reward).sum(1)
    kl = (xlogy(chosen, chosen) - xlogy(chosen, np.where(mass > 0, mass, 1.0))).sum(1)
    earned, far = float(weight @ mean), max(float(weight @ kl), 0.0)
    return Tilted(earned - (beta * far if far > 0 else 0.0), earned, far)


def best_reward(reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, kl: float) -> tuple[float, float]:
    """The largest mean reward at a mean divergence of at most `kl`, and the β whose optimum it is.

    Args:
        reward, mass, weight: see the module.
        kl: at least 0, in nats.
    """
    size = float(np.ptp(np.where(mass > 0, reward, reward.max())) or 1.0)
    low, high = (size * np.exp(x) for x in BETAS)
    if kl >= tilted(reward, mass, weight, low).kl:
        return tilted(reward, mass, weight, low).reward, low
    if kl <= tilted(reward, mass, weight, high).kl:
        return float(weight @ (mass * reward).sum(1)), float("inf")
    log_beta = brentq(lambda x: tilted(reward, mass, weight, size * np.exp(x)).kl - kl, *BETAS, xtol=1e-12, rtol=1e-14)
    beta = size * float(np.exp(log_beta))
    return tilted(reward, mass, weight, beta).reward, beta


def frontier(
    reward: np.ndarray, mass: np.ndarray, weight: np.ndarray, points: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(β, KL, reward) along the frontier, from the reference to the best completions: [points] each."""
    size = float(np.ptp(np.where(mass > 0, reward, reward.max())) or 1.0)
    most = tilted(reward, mass, weight, size * np.exp(BETAS[0])).kl
    found = [best_reward(reward, mass, weight, kl) for kl in most * np.linspace(0, 1, points) ** 2]
    kl = most * np.linspace(0, 1, points) ** 2
    return np.array([beta for _, beta in found]), kl, np.array([earned for earned, _ in found])
