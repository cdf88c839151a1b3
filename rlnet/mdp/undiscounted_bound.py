"""Bounds on values at γ = 1: a value below v* and one above it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlnet.mdp.direct import UnboundedLoopError, policy_iteration, proper_policy
from rlnet.mdp.linear import DiscountedSystem
from rlnet.mdp.structure import end_components
from rlnet.mdp.system import EPS, System, quotient

DIGITS = 12  # of values, that rounding in their solution leaves alone


def undiscounted_bound(system: System, v: np.ndarray, pairs: np.ndarray) -> float:
    """max |v − v*| at γ = 1 from a value below and one above.

    Below: the policy's own value, v − c w with w its expected steps. Above: any u with Tu ≤ u, since then V^π ≤ u for
    every policy that ends. Such a u solves the problem whose every step pays θ more, if θ exceeds what rounding and
    residual take away; the inequality is checked. Where a loop's rewards cancel there is no such u, and the loop is
    merged into one state first. Infinite where neither was found.
    """
    states, _ = system.first_pairs()
    if len(states) == 0:
        return 0.0
    found = _steps(system, pairs)
    if found is None:
        return np.inf
    steps, least = found
    residual = v[states] - (system.reward[pairs] + system.rows[pairs] @ v)
    below = (float(residual.max()) + system.rounding(v)) / least * float(steps.max())
    above = _above(system, v, pairs, steps)
    return max(below, _above_merged(system, v) if np.isinf(above) else above, 0.0)


def _steps(system: System, pairs: np.ndarray) -> tuple[np.ndarray, float] | None:
    """(w [n], c > 0), w − P w ≥ c for the policy `pairs`: about its expected steps, and 1; None if it hardly ends."""
    states, _ = system.first_pairs()
    p = system.rows[pairs][:, states]
    w = np.zeros(system.n)
    w[states] = DiscountedSystem(p, 1.0).solve(np.ones(len(states)))
    least = float((w[states] - p @ w[states]).min()) - 2 * (system.terms + 8) * EPS * float(w.max())
    return None if least <= 0 or w.min() < 0 else (w, least)


def _above(system: System, v: np.ndarray, pairs: np.ndarray, steps: np.ndarray) -> float:
    """max (u − v) for some u ≥ v*, infinite if none was found. `pairs` ends from everywhere, in about `steps`."""
    states, begin = system.first_pairs()
    rise = np.maximum.reduceat(system.q(v, 1.0), begin) - v[states]
    theta = 4.0 * (float(np.abs(rise).max()) + system.rounding(v)) + np.finfo(float).tiny
    for _ in range(4):
        u = v + theta * steps
        if not _is_above(system, u, states, begin):
            try:
                u, _ = policy_iteration(replace(system, reward=system.reward + theta), 1.0, pairs)
            except UnboundedLoopError:
                return np.inf
        if _is_above(system, u, states, begin):
            return float((u - v).max())
        theta *= 16.0
    return np.inf


def _is_above(system: System, u: np.ndarray, states: np.ndarray, begin: np.ndarray) -> bool:
    """Whether Tu ≤ u, rounding included."""
    backup = np.maximum.reduceat(system.q(u, 1.0), begin)
    return bool((backup + system.rounding(u) <= u[states]).all())


def _above_merged(system: System, v: np.ndarray) -> float:
    """As `_above`, where loops of tied pairs have rewards that cancel.

    Let h be a potential with r + h(s') − h(s) = 0 on the pairs of such loops, exactly as floats. Paying r + P h − h
    instead of r lowers the value of every policy that ends by h, and makes the loops free; each becomes one state, and
    an upper value U of what is left gives u = h + U. Only pairs with one successor are looked at, and their mean
    rewards taken as exact: with more, nothing says that a loop does not gain a rounding error every time round.
    """
    states, begin = system.first_pairs()
    q, own = system.q(v, 1.0), v[system.pair_state]
    tolerance = 8.0 * (float(np.abs(np.maximum.reduceat(q, begin) - v[states]).max()) + system.rounding(v))
    p, one = system.transition, np.diff(system.transition.indptr) == 1
    loops = one & ~system.ends & (q >= own - tolerance)
    component, _ = end_components(system.pair_state, p, loops)
    potential = _potential(v, component)
    loops &= component[system.pair_state] >= 0
    to = p.indices[p.indptr[:-1][loops]]
    loops[loops] &= (p.data[p.indptr[:-1][loops]] == 1.0) & (component[to] == component[system.pair_state[loops]])
    loops[loops] &= _cancels(
        system.reward[loops], potential[p.indices[p.indptr[:-1][loops]]], potential[system.pair_state[loops]]
    )
    component, inside = end_components(system.pair_state, p, loops)
    if not inside.any():
        return np.inf
    potential[component < 0] = 0.0
    lift = potential[system.pair_state]
    free = replace(
        system,
        reward=system.reward + p @ potential - lift,
        magnitude=system.magnitude + p @ np.abs(potential) + np.abs(lift),
        terms=system.terms + 3,
    )
    merged, of, _ = quotient(free, component, inside, stays=False)
    safe, pairs = proper_policy(merged)
    values = np.zeros(merged.n)
    values[of] = v - potential
    found = _steps(merged, pairs) if safe.all() else None
    if found is None:
        return np.inf
    spread = np.abs(values[of] - (v - potential)) + 4.0 * EPS * (np.abs(v) + np.abs(potential))
    return _above(merged, values, pairs, found[0]) + float(spread.max())


def _potential(v: np.ndarray, component: np.ndarray) -> np.ndarray:
    """float [n]: v less its value in the first state of each component, to as many digits as are right; 0 outside."""
    member = np.flatnonzero(component >= 0)
    names, first, of = np.unique(component[member], return_index=True, return_inverse=True)
    h = np.zeros(len(v))
    if len(names):
        scale = float(np.abs(v[member]).max())
        h[member] = np.round(v[member] - v[member[first]][of], DIGITS - int(np.ceil(np.log10(scale + 1.0))))
    return h


def _cancels(reward: np.ndarray, there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """bool: whether reward + there − here is 0 in exact numbers (the difference with its error, Knuth's TwoSum)."""
    difference = there - here
    back = difference - there
    error = (there - (difference - back)) - (here + back)
    return (reward + difference) + error == 0.0
