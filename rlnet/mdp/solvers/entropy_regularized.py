"""Entropy-regularised problems: V* and Q* with the soft maximum τ·log Σ exp(q/τ) in place of the maximum."""

from __future__ import annotations

import time

import numpy as np
import scipy as sp

from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError, name_states
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import EPS, ROW_SUM, System, system_of
from rlnet.mdp.operators.entropy import soft_maximum
from rlnet.mdp.operators.linear_systems import DiscountedSystem, SingularChainError
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.value_iteration import patience

SOFT_DIRECT_STATES = 20_000  # up to here Newton steps with LU, beyond extrapolated value iteration
NEWTON_STEPS = 200


def soft_solution(mdp: FiniteMDP, gamma: float, temperature: float, tol: float, began: float) -> Solution:
    """V, Q, π of the entropy-regularised problem: v = τ log Σ_a exp(q/τ) (Geist et al. 2019). See `solve`."""
    system = system_of(mdp)
    extra = soft_rounding(mdp, temperature)
    if gamma == 1.0:
        ends = system.ends if system.lost is None else system.ends & ~system.lost
        steps = steps_to_end(system.pair_state, system.transition, ends, np.ones(len(ends), dtype=bool))
        lost = ~np.isfinite(steps) & ~mdp.terminal
        if lost.any():
            names = name_states(np.flatnonzero(lost), mdp.labels)
            raise ImproperPolicyError(f"gamma=1: no policy ends from states {names}, but for rounding; use gamma < 1")
    if gamma == 1.0 or mdp.n_states <= SOFT_DIRECT_STATES:
        v, count = _newton(system, gamma, temperature, mdp)
        bound = _soft_bound(system, v, gamma, temperature, extra)
        done = "soft policy iteration (LU)"
    else:
        v, bound, count = _soft_value_iteration(system, gamma, temperature, tol, extra)
        done = "soft value iteration (Jacobi, span)"
    q = system.q(v, gamma)
    table, policy = np.full((mdp.n_states, mdp.n_actions), -np.inf), np.zeros((mdp.n_states, mdp.n_actions))
    table[mdp.pair_state, mdp.pair_action] = q
    policy[mdp.pair_state, mdp.pair_action] = soft_maximum(q, system.first_pairs()[1], temperature)[1]
    met = report_tolerance(bound, tol)
    seconds = time.perf_counter() - began
    return Solution(v, table, policy, bound, count, seconds, done, gamma, met, temperature=temperature)


def soft_rounding(mdp: FiniteMDP, temperature: float) -> float:
    """Bound on the rounding error of one soft maximum."""
    return 8.0 * EPS * temperature * (1.0 + mdp.n_actions)


def _newton(system: System, gamma: float, temperature: float, mdp: FiniteMDP) -> tuple[np.ndarray, int]:
    """Soft policy iteration, which is Newton's method on a convex operator: it rises to the solution."""
    states, begin = system.first_pairs()
    v, best = np.zeros(system.n), np.inf
    if len(states) == 0:
        return v, 0
    _, weight = soft_maximum(system.reward, begin, temperature)
    for count in range(1, NEWTON_STEPS + 1):
        logs = np.log(weight, out=np.zeros_like(weight), where=weight > 0)
        reward = np.add.reduceat(weight * (system.reward - temperature * logs), begin)
        p = mixed_rows(system, weight)
        # A policy that hardly ends any more makes the matrix singular to working precision: the values left it.
        try:
            solver = DiscountedSystem(p, gamma)
        except SingularChainError:
            break
        x = solver.solve(reward)
        if not np.isfinite(x).all() or np.abs(x).max() > 1e14:
            break
        x += solver.solve(reward - (x - gamma * (p @ x)))
        v = np.zeros(system.n)
        v[states] = x
        top, weight = soft_maximum(system.q(v, gamma), begin, temperature)
        change = float(np.abs(top - x).max())
        if change <= 2.0 * system.rounding(v) or (change >= 0.9 * best and count > 20):
            return v, count
        best = min(best, change)
    growing = np.flatnonzero(np.abs(v) >= 0.5 * np.abs(v).max())
    raise UnboundedValueError(
        f"temperature={temperature:g}: the soft values grow without end in states {name_states(growing, mdp.labels)} "
        "(entropy collected on the way outweighs what a step costs); use gamma < 1 or a lower temperature"
    )


def mixed_rows(system: System, weight: np.ndarray) -> np.ndarray | sp.sparse.csr_matrix:
    """[m, m]: the chain of the policy `weight` [P] over the states that act."""
    states, begin = system.first_pairs()
    if isinstance(system.rows, np.ndarray):
        return np.add.reduceat(weight[:, None] * system.rows, begin)[:, states]
    mix = sp.sparse.csr_matrix(
        (weight, np.arange(len(weight)), np.append(begin, len(weight))), (len(begin), len(weight))
    )
    return (mix @ system.transition).tocsr()[:, states]


def _soft_bound(system: System, v: np.ndarray, gamma: float, temperature: float, extra: float) -> float:
    """γ < 1: residual / (1 − γ). γ = 1: as `undiscounted_bound`, from a value above and the policy's own."""
    states, begin = system.first_pairs()
    if len(states) == 0:
        return 0.0
    top, weight = soft_maximum(system.q(v, gamma), begin, temperature)
    slack = system.rounding(v) + extra
    residual = float(np.abs(top - v[states]).max()) + slack
    if gamma < 1.0:
        return residual / max(1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6)), 1e-300)
    p = mixed_rows(system, weight)
    steps = DiscountedSystem(p, 1.0).solve(np.ones(len(states)))
    least = float((steps - p @ steps).min()) - 2e-15 * float(steps.max()) * (system.terms + 8)
    if least <= 0.0 or steps.min() < 0.0:
        return np.inf
    below = residual * float(steps.max()) / least
    theta = 4.0 * residual
    for _ in range(12):
        u = v.copy()
        u[states] += theta * steps
        raised = soft_maximum(system.q(u, 1.0), begin, temperature)[0]
        if (raised + slack + system.rounding(u) <= u[states]).all():
            return max(below, float((u - v).max()))
        theta *= 4.0
    return np.inf


def _soft_value_iteration(
    system: System, gamma: float, temperature: float, tol: float, extra: float
) -> tuple[np.ndarray, float, int]:
    """MacQueen's bounds hold for every monotone T with T(v + c) = Tv + γc, hence for the soft one."""
    states, begin = system.first_pairs()
    v, count, best, stale = np.zeros(system.n), 0, np.inf, 0
    leaks = bool(system.ends.any()) or len(states) < system.n
    while True:
        new = np.zeros(system.n)
        new[states] = soft_maximum(system.q(v, gamma), begin, temperature)[0]
        low, high = float((new - v).min()), float((new - v).max())
        if leaks:
            low, high = min(low, 0.0), max(high, 0.0)
        rest = 1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6))
        far = max(abs(low), abs(high)) / max(rest, 1e-300)
        floor = 2.0 * (system.rounding(np.array([np.abs(new).max(initial=0.0) + far])) + extra) / max(rest, 1e-300)
        bound = (high - low) / (2.0 * max(rest, 1e-300)) * (1.0 + 1e-12) + floor
        v, count = new, count + 1
        best, stale = (bound, 0) if bound < 0.99 * best else (best, stale + 1)
        if bound <= tol or bound <= 1.1 * floor or stale > (60 if bound < 1e3 * floor else patience(gamma)):
            v[states] += gamma / (1.0 - gamma) * (low + high) / 2.0
            return v, bound, count
