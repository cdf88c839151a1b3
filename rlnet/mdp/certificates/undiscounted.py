"""Error bounds at γ = 1, by a value function below v* and one above it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlnet.mdp.model.graph import end_components, row_any
from rlnet.mdp.operators.bellman import EPS, System, quotient
from rlnet.mdp.operators.linear_systems import DiscountedSystem, SingularChainError
from rlnet.mdp.solvers.cancelling_loops import exactly_cancel
from rlnet.mdp.solvers.policy_iteration import (
    DIRECT_STATES,
    UnboundedLoopError,
    greedy_and_proper,
    latest,
    policy_iteration,
    proper_policy,
)
from rlnet.mdp.solvers.value_iteration import Progress

PLATEAU = (1e-12, 1e-10, 1e-8)  # of the largest value: how close those lie that are taken as one
IMPROVEMENTS = 100  # of a policy that is paid θ a step; those that go on for 1e10 steps change by rounding for ever
DIGITS = 12  # of values, that rounding in their solution leaves alone


def undiscounted_bound(system: System, v: np.ndarray, pairs: np.ndarray, tol: float) -> float:
    """Bound on max |v − v*| at γ = 1, from a value function below v* and one above.

    Below: the policy's own value, v − c w with w its expected steps. Above: any u with Tu ≤ u, since then V^π ≤ u for
    every policy that ends. Such a u solves the problem whose every step pays θ more, if θ exceeds what rounding and
    residual take away; the inequality is checked. Where policies go on for so long that this makes more than `tol`,
    states of nearly the same value are merged first, and so is a loop whose rewards cancel, where there is no such u.
    Infinite where none was found. SingularChainError where nothing proves that the policy ends: v may be anything.
    """
    states, _ = system.first_pairs()
    if len(states) == 0:
        return 0.0
    found = _steps(system, pairs)
    if found is None:
        raise SingularChainError(latest(system.rows[pairs][:, states], states))
    steps, least = found
    residual = v[states] - (system.reward[pairs] + system.rows[pairs] @ v)
    below = (float(residual.max()) + system.rounding(v)) / least * float(steps.max())
    above = _above(system, v, pairs, steps, system.n <= DIRECT_STATES)
    if above > tol:
        above = min(above, _above_plateaus(system, v, tol))
    if above > tol and system.n > DIRECT_STATES:
        above = min(above, _above(system, v, pairs, steps))
    return max(below, _above_merged(system, v) if np.isinf(above) else above, 0.0)


def _steps(system: System, pairs: np.ndarray) -> tuple[np.ndarray, float] | None:
    """(w [n], c > 0), w − P w ≥ c for the policy `pairs`: about its expected steps, and 1; None if it hardly ends."""
    states, _ = system.first_pairs()
    p = system.rows[pairs][:, states]
    w = np.zeros(system.n)
    w[states] = DiscountedSystem(p, 1.0).solve(np.ones(len(states)))
    least = float((w[states] - p @ w[states]).min()) - 2 * (system.terms + 8) * EPS * float(w.max())
    return None if least <= 0 or w.min() < 0 else (w, least)


def _above(system: System, v: np.ndarray, pairs: np.ndarray, steps: np.ndarray, solve: bool = True) -> float:
    """max (u − v) for some u ≥ v*, infinite if none was found. `pairs` ends from everywhere, in about `steps`. Where
    v + θ steps is not such a u, the problem that pays θ a step is solved, unless that would take long (not `solve`)."""
    states, begin = system.first_pairs()
    rise = np.maximum.reduceat(system.q(v, 1.0), begin) - v[states]
    theta = 4.0 * (float(np.abs(rise).max()) + system.rounding(v)) + np.finfo(float).tiny
    for _ in range(4):
        u = v + theta * steps
        if not _is_above(system, u, states, begin):
            if not solve:
                return np.inf
            try:
                progress = Progress(max_sweeps=IMPROVEMENTS)
                u, _ = policy_iteration(replace(system, reward=system.reward + theta), 1.0, pairs, progress)
            except (UnboundedLoopError, SingularChainError):
                return np.inf
        rise = float((u - v).max())
        if _is_above(system, u, states, begin):
            return rise
        if rise > float(np.abs(v).max()):
            return np.inf  # some policy goes on for so long that a larger θ is of no use
        theta *= 16.0
    return np.inf


def _is_above(system: System, u: np.ndarray, states: np.ndarray, begin: np.ndarray) -> bool:
    """Whether Tu ≤ u, rounding included."""
    backup = np.maximum.reduceat(system.q(u, 1.0), begin)
    return bool((backup + system.rounding(u) <= u[states]).all())


def _above_plateaus(system: System, v: np.ndarray, tol: float) -> float:
    """As `_above`, where a policy may go on for very long without reward among states of nearly the same value.

    A u that is the same in some states satisfies Tu ≤ u for every pair that stays among them, pays nothing and does not
    end, without any θ. So states whose values lie close become one state each, these pairs go, and so do free loops
    that this makes. What the merged problem is worth more counts against the bound. The first that meets `tol`, or the
    least.
    """
    best, scale = np.inf, float(np.abs(v).max())
    for width in PLATEAU:
        found = above_levels(system, v, width * scale)
        best = min(best, found)
        if best <= tol:
            break
    return best


def above_levels(system: System, v: np.ndarray, width: float) -> float:
    """max (u − v) for some u ≥ v*, the same where sorted values lie within `width`; infinite if none was found."""
    order = np.argsort(v, kind="stable")
    level = np.empty(system.n, dtype=np.int64)
    level[order] = np.cumsum(np.diff(v[order], prepend=v[order[0]]) > width)
    p = system.transition
    free = _free(system)
    stays = free & ~row_any(p, level[p.indices] != np.repeat(level[system.pair_state], np.diff(p.indptr)))
    merged, of, _ = quotient(system, level, stays, stays=False)
    component, inside = end_components(merged.pair_state, merged.transition, _free(merged))
    if inside.any():
        merged, further, _ = quotient(merged, component, inside, stays=False)
        of = further[of]
    safe, pairs = proper_policy(merged)
    if not safe.all():
        return np.inf
    try:
        there = np.zeros(merged.n)
        there[of] = v
        values, pairs = policy_iteration(merged, 1.0, greedy_and_proper(merged, there, pairs))
        found = _steps(merged, pairs)
    except (UnboundedLoopError, SingularChainError):
        return np.inf
    if found is None:
        return np.inf
    states, _ = system.first_pairs()
    return _above(merged, values, pairs, found[0]) + float((values[of] - v)[states].max())


def _free(system: System) -> np.ndarray:
    """bool [P]: the pairs that do not end and surely pay nothing: rounding cannot hide a reward in their mean."""
    return ~system.ends & (system.reward <= -(system.terms + 1) * EPS * system.magnitude)


def _above_merged(system: System, v: np.ndarray) -> float:
    """As `_above`, where loops of tied pairs have rewards that cancel.

    Let h be a potential with r + h(s') − h(s) = 0 on the pairs of such loops, exactly as floats. Paying r + P h − h
    instead of r lowers the value of every policy that ends by h, and makes the loops free; each becomes one state, and
    an upper value U of what is left gives u = h + U. Whether a pair cancels is decided exactly, by its outcomes: else
    nothing says that a loop does not gain a rounding error every time round.
    """
    states, begin = system.first_pairs()
    q, own = system.q(v, 1.0), v[system.pair_state]
    tolerance = 8.0 * (float(np.abs(np.maximum.reduceat(q, begin) - v[states]).max()) + system.rounding(v))
    p = system.transition
    loops = ~system.ends & (q >= own - tolerance)
    component, loops = end_components(system.pair_state, p, loops)
    potential = _potential(v, component)
    loops[loops] &= exactly_cancel(system, np.flatnonzero(loops), potential)
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
