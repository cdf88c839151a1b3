"""Independent verification of a solution: its Bellman residual in extended precision."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP

CHUNK = 1_000_000  # outcomes at a time


def backup_extended(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    """Bellman backup in extended precision, longdouble [P]: q = Σ p (r + γ [not terminated] v(s'))."""
    q = np.empty(mdp.n_pairs, dtype=np.longdouble)
    values, discount = v.astype(np.longdouble), np.longdouble(gamma)
    first = 0
    while first < mdp.n_pairs:
        last = int(np.searchsorted(mdp.outcome_ptr, mdp.outcome_ptr[first] + CHUNK, side="right")) - 1
        last = min(max(last, first + 1), mdp.n_pairs)
        part = slice(int(mdp.outcome_ptr[first]), int(mdp.outcome_ptr[last]))
        worth = mdp.reward[part] + discount * np.where(mdp.terminated[part], 0, values[mdp.next_state[part]])
        starts = (mdp.outcome_ptr[first:last] - mdp.outcome_ptr[first]).astype(np.int64)
        q[first:last] = np.add.reduceat(mdp.probability[part].astype(np.longdouble) * worth, starts)
        first = last
    return q


def residual_extended(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> float:
    """Bellman residual in extended precision, max_s |max_a q(s, a) − v(s)|; terminal states count |v|."""
    best = np.zeros(mdp.n_states, dtype=np.longdouble)
    acts = np.flatnonzero(~mdp.terminal)
    if len(acts):
        best[acts] = np.maximum.reduceat(backup_extended(mdp, v, gamma), mdp.pair_ptr[:-1][acts])
    return float(np.abs(best - v).max())


def verified(mdp: FiniteMDP, v: np.ndarray, gamma: float, bound: float) -> None:
    """Verify a solution: ArithmeticError if the residual contradicts the bound.

    |v − v*| ≤ b forces |Tv − v| ≤ (1 + γ) b, at every γ. For γ < 1 the residual proves a bound of its own,
    |Tv − v| / (1 − γ), and the reported one may not lie below the least error that the residual implies.
    """
    residual = residual_extended(mdp, v, gamma)
    if residual > (1.0 + gamma) * bound * (1.0 + 1e-9):
        raise ArithmeticError(
            f"verification failed: the residual {residual:g} in extended precision contradicts the bound {bound:g}"
        )


def verified_chain(
    mdp: FiniteMDP, policy: np.ndarray, v: np.ndarray, gamma: float, bound: float, bonus: np.ndarray
) -> None:
    """As `verified`, for the values of a policy [S, A] whose steps pay `bonus` [S] more."""
    best = np.zeros(mdp.n_states, dtype=np.longdouble)
    acts = np.flatnonzero(~mdp.terminal)
    if len(acts):
        gains = policy[mdp.pair_state, mdp.pair_action] * backup_extended(mdp, v, gamma)
        best[acts] = np.add.reduceat(gains, mdp.pair_ptr[:-1][acts]) + bonus[acts]
    residual = float(np.abs(best - v).max())
    if residual > (1.0 + gamma) * bound * (1.0 + 1e-9):
        raise ArithmeticError(
            f"verification failed: the residual {residual:g} in extended precision contradicts the bound {bound:g}"
        )
