"""V*, Q* and the optimal actions (S&B ch. 4)."""

from __future__ import annotations

import time

import numpy as np

from rlnet.mdp.checks import check_gamma
from rlnet.mdp.direct import discounted_bound, optimal_pairs, policy_iteration, solve_undiscounted
from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError, name_states
from rlnet.mdp.evaluation import report_tolerance
from rlnet.mdp.model import FiniteMDP
from rlnet.mdp.solution import Solution
from rlnet.mdp.system import system_of

METHODS = ("auto", "policy_iteration")


def solve(mdp: FiniteMDP, gamma: float, *, tol: float = 1e-8, method: str = "auto") -> Solution:
    """The optimal value: v*(s) = max_a q*(s, a), q* = r + γ P v* (S&B eq. 3.19-3.20), with all optimal actions.

    At γ = 1, v* is the best that policies reach which end, or go on for ever without reward. Raises ImproperPolicyError
    where no such policy exists from some states, UnboundedValueError where a loop pays, ValueError for γ outside [0, 1]
    or an unknown method. Warns (ToleranceWarning) where `error_bound` exceeds `tol`.
    """
    began = time.perf_counter()
    gamma = check_gamma(gamma)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    system = system_of(mdp)
    if gamma < 1.0:
        v, _, count = policy_iteration(system, gamma)
        bound = discounted_bound(system, v, gamma)
    else:
        try:
            v, bound, count = solve_undiscounted(system)
        except ImproperPolicyError as error:
            names = name_states(error.args[0], mdp.labels)
            raise ImproperPolicyError(
                f"gamma=1: no policy ends, or stops collecting reward, from states {names}; use gamma < 1"
            ) from None
        except UnboundedValueError as error:
            names = name_states(error.args[0], mdp.labels)
            raise UnboundedValueError(
                f"gamma=1: a policy collects unbounded reward in states {names}; use gamma < 1"
            ) from None
    q = system.q(v, gamma)
    best = optimal_pairs(system, v, q, gamma, bound)
    table = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    table[mdp.pair_state, mdp.pair_action] = q
    policy = np.zeros((mdp.n_states, mdp.n_actions))
    policy[mdp.pair_state[best], mdp.pair_action[best]] = 1.0
    policy /= np.maximum(policy.sum(axis=1, keepdims=True), 1.0)
    met = report_tolerance(bound, tol)
    seconds = time.perf_counter() - began
    return Solution(v, table, policy, bound, count, seconds, "policy_iteration (LU)", gamma, met)
