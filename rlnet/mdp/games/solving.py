"""Exact values of games: of optimal play, and of a policy that plays both sides."""

from __future__ import annotations

import time

import numpy as np
import scipy as sp

from rlnet.mdp.errors import ImproperPolicyError, name_states
from rlnet.mdp.games.order import order_of, tables
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.operators.bellman import EPS, ROW_SUM, system_of
from rlnet.mdp.operators.linear_systems import DiscountedSystem
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.value_iteration import Progress, patience, reported


def require_plain(temperature: float, method: str = "auto", device: str = "cpu", verify: bool = False) -> None:
    """Refuse (ValueError) the options that games have no use for."""
    if temperature or method != "auto" or device != "cpu" or verify:
        options = "temperature, method, device and verify"
        raise ValueError(f"a two-player game is solved by its own method: leave {options} at their defaults")


def solve_game(mdp: FiniteMDP, gamma: float, tol: float, progress: Progress) -> Solution:
    """V*, Q* and the optimal actions of a game: `solve` for models with a sign.

    Backward induction where every play ends (one pass, exact but for rounding), else value iteration: the operator is a
    γ-contraction, so that |V − V*| ≤ |TV − V| / (1 − γ), but not monotone, so that there are no one-sided bounds, and
    policy iteration may not converge.

    Raises:
        ImproperPolicyError: γ = 1, and a play can go on for ever.
    """
    system, order = system_of(mdp), order_of(mdp)
    v, q = np.zeros(mdp.n_states), np.zeros(mdp.n_pairs)
    if order.acyclic:
        from rlnet.mdp.solvers.compiled.games import negamax

        negamax(order.states, gamma, v, q, *tables(mdp))
        progress.sweeps = 1
        bound, done = _passed(mdp, v, gamma), "backward induction"
        rest = 1.0 / max(order.moves, 1)
    else:
        _require_discount(mdp, gamma)
        v, bound = _iterated(mdp, gamma, tol, progress)
        q, done = system.q(v, gamma), "value iteration (Jacobi)"
        rest = 1.0 - gamma
    where = mdp.pair_state, mdp.pair_action
    table = _table(mdp, q)
    slack = 2.0 * (bound + system.rounding(v))
    listed = q >= (table.max(axis=1) - slack)[mdp.pair_state]
    policy = np.zeros_like(table)
    policy[where] = listed
    policy /= np.maximum(policy.sum(axis=1, keepdims=True), 1.0)
    met = report_tolerance(bound, tol, progress.interrupted)
    seconds = time.perf_counter() - progress.began
    # A listed action falls short of the best one by two slacks at most, at each of the moves that follow.
    loss = 2.0 * slack / rest if rest > 0.0 else np.inf
    counted = v + 0.0, table, policy, bound, progress.sweeps, seconds, done, gamma, met, progress.interrupted
    return Solution(*counted, policy_loss=loss)


def evaluate_game(mdp: FiniteMDP, matrix: np.ndarray, gamma: float, tol: float, progress: Progress) -> Solution:
    """V^π, Q^π of a checked policy [S, A] that plays both sides: `evaluate` for models with a sign."""
    system, order, where = system_of(mdp), order_of(mdp), (mdp.pair_state, mdp.pair_action)
    weight = matrix[where]
    v, q = np.zeros(mdp.n_states), np.zeros(mdp.n_pairs)
    if order.acyclic:
        from rlnet.mdp.solvers.compiled.games import self_play

        self_play(order.states, gamma, weight, v, q, *tables(mdp))
        bound, done = _passed(mdp, v, gamma), "backward induction"
    else:
        _require_discount(mdp, gamma)
        ptr = np.append(0, np.cumsum(np.diff(mdp.pair_ptr)))
        mix = sp.sparse.csr_matrix((weight, np.arange(mdp.n_pairs), ptr), shape=(mdp.n_states, mdp.n_pairs))
        p, r = sp.sparse.csr_matrix(mix @ system.carried), mix @ system.reward
        factors = DiscountedSystem(p, gamma)
        v = factors.solve(r)
        v += factors.solve(r - (v - gamma * (p @ v)))
        off = float(np.abs(r + gamma * (p @ v) - v).max(initial=0.0)) + mdp.n_actions * system.rounding(v)
        bound, done = off / (1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6))), "LU"
        q = system.q(v, gamma)
    progress.sweeps = 1
    met = report_tolerance(bound, tol)
    seconds = time.perf_counter() - progress.began
    return Solution(v + 0.0, _table(mdp, q), matrix, bound, progress.sweeps, seconds, done, gamma, met)


def _table(mdp: FiniteMDP, q: np.ndarray) -> np.ndarray:
    """Values of pairs [P] as [S, A], −inf where there is none; a draw is 0, not −0."""
    table = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    table[mdp.pair_state, mdp.pair_action] = q + 0.0
    return table


def _passed(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> float:
    """The rounding of one pass: that of a backup, (γ-)discounted, for each move of the longest play."""
    system, moves = system_of(mdp), order_of(mdp).moves
    each = system.rounding(v) + mdp.n_actions * EPS * float(np.abs(v).max(initial=0.0))
    return each * (moves if gamma == 1.0 else min(moves, 1.0 / (1.0 - gamma)))


def _require_discount(mdp: FiniteMDP, gamma: float) -> None:
    if gamma == 1.0:
        states = order_of(mdp).cycles
        error = ImproperPolicyError(
            f"gamma=1: a play may go on for ever from states {name_states(states, mdp.labels)}; use gamma < 1"
        )
        error.states = states
        raise error


def _iterated(mdp: FiniteMDP, gamma: float, tol: float, progress: Progress) -> tuple[np.ndarray, float]:
    """Value iteration until its bound meets `tol`, or rounding leaves nothing to gain."""
    system = system_of(mdp)
    states, begin = system.first_pairs()
    rest = 1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6))
    v, bound, best, stale = np.zeros(mdp.n_states), np.inf, np.inf, 0
    try:
        while bound > tol and stale <= patience(gamma) and not progress.exhausted:
            after = np.zeros_like(v)
            after[states] = np.maximum.reduceat(system.q(v, gamma), begin)
            change = float(np.abs(after - v).max(initial=0.0)) + system.rounding(v)
            v, progress.sweeps = after, progress.sweeps + 1
            bound = change / rest if rest > 0.0 else np.inf
            best, stale = (bound, 0) if bound < 0.99 * best else (best, stale + 1)
            reported(progress, bound)
            if progress.interrupted:
                break
    except KeyboardInterrupt:
        progress.interrupted = True
    return v, bound
