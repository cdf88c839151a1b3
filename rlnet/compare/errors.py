"""Errors of learned values: root mean squares, maxima, bias."""

import numpy as np

from rlnet.mdp import FiniteMDP


def v_errors(learned: np.ndarray, exact: np.ndarray, weights: np.ndarray, uniform: np.ndarray) -> dict[str, float]:
    """Errors of state values: root mean squares, relative to the exact values too, and the maximum.

    Args:
        learned, exact: [S].
        weights: [S], sum 1, of the weighted means.
        uniform: [S], the uniform distribution over some states, to which the maximum is restricted.
    """
    square = (learned - exact) ** 2
    return {
        "exact/v_rmse": float(np.sqrt(weights @ square)),
        "exact/v_relative": _share(weights @ square, weights @ exact**2),
        "exact/v_rmse_uniform": float(np.sqrt(uniform @ square)),
        "exact/v_max": float(np.sqrt(square[uniform > 0].max(initial=0.0))),
    }


def _share(square: float, size: float) -> float:
    """√(square / size); inf where only the size is 0."""
    return float(np.sqrt(square / size)) if size > 0 else float("inf") if square > 0 else 0.0


def normalised(value: float, random: float, best: float) -> float:
    """Normalised return (value − random) / (best − random): 0 at random, 1 optimal; nan where these do not differ."""
    room = best - random
    return (value - random) / room if 1e-12 * max(abs(best), 1.0) < room < np.inf else np.nan


def q_errors(
    q: np.ndarray, exact: np.ndarray, mdp: FiniteMDP, weights: np.ndarray, uniform: np.ndarray
) -> dict[str, float]:
    """Errors of action values: those of `v_errors`, and the bias.

    A state's error is the mean over its available actions, so that actions that are not taken count too.

    Args:
        q, exact: [S, A].
        mdp: says which actions are available.
        weights, uniform: [S], as of `v_errors`.
    """
    error = np.where(mdp.available, q, 0.0) - np.where(mdp.available, exact, 0.0)
    count = np.maximum(mdp.available.sum(1), 1)
    square, mean = (error**2).sum(1) / count, error.sum(1) / count
    size = (np.where(mdp.available, exact, 0.0) ** 2).sum(1) / count
    return {
        "exact/q_rmse": float(np.sqrt(weights @ square)),
        "exact/q_relative": _share(weights @ square, weights @ size),
        "exact/q_rmse_uniform": float(np.sqrt(uniform @ square)),
        "exact/q_max": float(np.abs(error[uniform > 0]).max(initial=0.0)),
        "exact/q_bias": float(weights @ mean),
    }
