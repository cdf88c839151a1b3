"""Finite horizons: backward induction over H steps (Puterman 1994, §4.5), for `solve` and `evaluate`."""

from __future__ import annotations

import time

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.operators.bellman import EPS, system_of
from rlnet.mdp.operators.entropy import entropy, soft_maximum
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.entropy_regularized import soft_rounding


def finite_horizon(
    mdp: FiniteMDP,
    gamma: float,
    horizon: int,
    temperature: float,
    policy: np.ndarray | None,
    tol: float,
    began: float,
) -> Solution:
    """Solve or evaluate by backward induction over H steps: v_H = 0, v_t = max_a (r + γ P v_{t+1}).

    Args:
        mdp, gamma, tol: as of `solve`.
        horizon: H.
        temperature: τ of the soft maximum in place of the maximum; 0: the maximum.
        policy: [H, S, A], to be evaluated, in place of the maximum; None: optimal values.
        began: time.perf_counter() at the start.

    Returns:
        v [H + 1, S], q and policy [H, S, A], indexed by the step.
    """
    system, shape = system_of(mdp), (horizon, mdp.n_states, mdp.n_actions)
    v, q, chosen = np.zeros((horizon + 1, mdp.n_states)), np.full(shape, -np.inf), np.zeros(shape)
    states, begin = system.first_pairs()
    where, bound = (mdp.pair_state, mdp.pair_action), 0.0
    for t in range(horizon - 1, -1, -1):
        values = system.q(v[t + 1], gamma)
        step = system.rounding(v[t + 1]) + soft_rounding(mdp, temperature)
        bound = step + gamma * bound
        q[t][where] = values
        if policy is not None:
            weight = policy[t][where]
            gains = weight * values
            v[t, states] = np.add.reduceat(gains, begin) if len(states) else 0.0
            v[t] += temperature * entropy(policy[t])
            bound += mdp.n_actions * EPS * float(np.abs(v[t]).max(initial=0.0) + np.abs(gains).max(initial=0.0))
        elif temperature > 0.0:
            v[t, states], weight = soft_maximum(values, begin, temperature)
        else:
            top = np.maximum.reduceat(values, begin) if len(states) else np.zeros(0)
            v[t, states] = top
            counts = np.diff(np.append(begin, len(values)))
            tied = (values >= np.repeat(top, counts) - 2.0 * bound).astype(float)
            weight = tied / np.repeat(np.add.reduceat(tied, begin), counts) if len(states) else tied
        chosen[t][where] = weight
    met = report_tolerance(bound, tol)
    seconds = time.perf_counter() - began
    # Listed actions fall short of the best by 4 bounds at most, at each of the H steps.
    loss = 4.0 * bound * sum(gamma**t for t in range(horizon)) if policy is None and temperature == 0.0 else np.inf
    done = "backward induction"
    return Solution(v, q, chosen, bound, horizon, seconds, done, gamma, met, temperature=temperature, policy_loss=loss)
