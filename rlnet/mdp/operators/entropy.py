"""Entropy of policies, and the maximum that it softens."""

import numpy as np


def entropy(policy: np.ndarray) -> np.ndarray:
    """H(π(·|s)) = −Σ_a π log π, float64 [..., S], for a policy [..., S, A]."""
    logs = np.log(policy, out=np.zeros_like(policy), where=policy > 0)
    return -(policy * logs).sum(axis=-1)


def soft_maximum(q: np.ndarray, begin: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(τ log Σ_a exp(q/τ) [m], softmax(q/τ) [P]) of the segments that start at `begin`."""
    if len(q) == 0:
        return np.zeros(0), np.zeros(0)
    counts = np.diff(np.append(begin, len(q)))
    top = np.maximum.reduceat(q, begin)
    weight = np.exp((q - np.repeat(top, counts)) / temperature)
    total = np.add.reduceat(weight, begin)
    return top + temperature * np.log(total), weight / np.repeat(total, counts)
