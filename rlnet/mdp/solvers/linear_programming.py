"""Linear programming solver of an MDP (Puterman 1994, §6.9), by SciPy's HiGHS."""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.operators.bellman import System


def linear_programme(system: System, gamma: float) -> np.ndarray | None:
    """Optimal policy by linear programming, int [m]: greedy pairs for the v that minimises Σ v s.t. v ≥ r + γ P v.

    HiGHS works to 1e-7, so the caller finishes with exact evaluations from this policy. None where it finds no such v:
    a loop pays at γ = 1, or the numbers lie too far apart for it.
    """
    from scipy.optimize import linprog  # a slow import that nothing else needs

    states, begin = system.first_pairs()
    rows = np.arange(len(system.pair_state))
    own = sp.sparse.csr_matrix((np.ones(len(rows)), (rows, system.pair_state)), shape=system.transition.shape)
    bounds = np.full((system.n, 2), [-np.inf, np.inf])
    bounds[np.setdiff1d(np.arange(system.n), states)] = 0.0
    result = linprog(
        np.ones(system.n), A_ub=gamma * system.transition - own, b_ub=-system.reward, bounds=bounds, method="highs"
    )
    if result.x is None:
        return None
    q = system.q(result.x, gamma)
    ordinal = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(q))))
    order = np.lexsort((-q, ordinal))
    return order[begin]
