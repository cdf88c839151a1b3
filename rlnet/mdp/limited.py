"""Values with a limited number of steps ahead, in the memory of one step."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.operators.bellman import system_of
from rlnet.mdp.operators.entropy import entropy, soft_maximum
from rlnet.mdp.operators.markov_chain import chain_of


def limited_values(
    mdp: FiniteMDP, gamma: float, horizon: int, policy: np.ndarray | None = None, temperature: float = 0.0
) -> np.ndarray:
    """Backward induction over H steps, keeping only the values with all H steps ahead: float [S].

    v_H = 0, v_t = r_π + γ P_π v_{t+1}, or the maximum over actions where the policy is None: what
    `solve(..., horizon=H).v[0]` and `evaluate(..., horizon=H).v[0]` are, in the memory of one step.

    Args:
        gamma: γ in [0, 1].
        horizon: H; where the values settle before, the rest is not computed.
        policy: [S, A], the same at all times.
        temperature: τ; above 0, τ·H(π(·|s)) counts as reward.
    """
    v, system = np.zeros(mdp.n_states), system_of(mdp)
    states, begin = system.first_pairs()
    if len(states) == 0:
        return v
    chain = None if policy is None or mdp.sign is not None else chain_of(mdp, policy)
    weight = None if policy is None else policy[mdp.pair_state, mdp.pair_action]
    if chain is not None:
        reward = chain.r + (temperature * entropy(policy) if policy is not None and temperature > 0 else 0.0)
    for t in range(horizon):
        if chain is not None:
            after = reward + gamma * (chain.p @ v)
        else:
            after, q = np.zeros_like(v), system.q(v, gamma)
            if weight is not None:  # of a game, in which the values of the other player's states change sign
                after[states] = np.add.reduceat(weight * q, begin)
            elif temperature > 0:
                after[states] = soft_maximum(q, begin, temperature)[0]
            else:
                after[states] = np.maximum.reduceat(q, begin)
        # A backup does not expand distances: the changes still to come sum to at most this one times their number.
        settled = np.abs(after - v).max() * (horizon - t) <= 1e-13 * np.abs(after).max()
        v = after
        if settled:
            break
    return v
