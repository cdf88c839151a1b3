"""Policies for walks that cover a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.solving import solve


def uniform(mdp: FiniteMDP) -> np.ndarray:
    """The uniform policy [S, A]; in terminal states over all actions."""
    mask = mdp.available | mdp.terminal[:, None]
    return mask / mask.sum(1, keepdims=True)


def directed(mdp: FiniteMDP, tried: np.ndarray) -> np.ndarray:
    """Half uniform, half the optimal policy for a reward that favours rarely tried pairs: [S, A]."""
    bonus = np.repeat((1 + tried) ** -0.5, np.diff(mdp.outcome_ptr))
    aimed = solve(replace(mdp, reward=bonus), 0.95, tol=1e-4).policy
    return np.where(mdp.terminal[:, None], uniform(mdp), 0.5 * (uniform(mdp) + aimed))


def lasting(mdp: FiniteMDP) -> np.ndarray:
    """The policy of the longest episodes (every step pays 1): [S, A]."""
    longest = solve(replace(mdp, reward=np.ones(mdp.n_outcomes)), 0.99, tol=1e-4).policy
    return np.where(mdp.terminal[:, None], uniform(mdp), longest)
