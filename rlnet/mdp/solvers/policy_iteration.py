"""Policy iteration with exact evaluations (S&B ch. 4.3), its bounds, and policies that end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy as sp

from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError
from rlnet.mdp.model.graph import end_components, steps_to_end, sure_to_end
from rlnet.mdp.operators.bellman import EPS, ROW_SUM, System, max_norm, quotient
from rlnet.mdp.operators.linear_systems import DiscountedSystem, SingularChainError
from rlnet.mdp.solvers.paying_loops import paying_states, with_escape
from rlnet.mdp.solvers.value_iteration import Progress

MAX_IMPROVEMENTS = 10_000
WARM_SWEEPS = 30
LATE_STEPS = 200  # after which the states are named from which a chain that hardly ends is likeliest to be going on
DIRECT_STATES = 3000  # up to here auto solves by NumPy and SciPy, and numba is neither imported nor compiled


class UnboundedLoopError(Exception):
    """Policy iteration at γ = 1 found a loop of positive reward through `states` (int)."""

    def __init__(self, states: np.ndarray) -> None:
        super().__init__(f"a loop pays in states {states}")
        self.states = states


def policy_iteration(
    system: System,
    gamma: float,
    pairs: np.ndarray | None = None,
    progress: Progress | None = None,
    ahead: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Policy iteration from the policy `pairs`, or the one greedy for rewards: (v [n], pair of each state int [m]).

    At γ = 1 `pairs` must end from everywhere; then so does every later policy, unless a loop pays: where an improvement
    makes a policy that never ends, its mean reward in the loop is the mean improvement there, which is positive. That
    is UnboundedLoopError. (Bertsekas & Tsitsiklis 1991, prop. 2-3.)

    `ahead`: at γ < 1 the new policy is greedy not for the values of the old one but for what this many backups make of
    them, T^k v ≥ v; a better value then spreads by as many steps with every evaluation.
    """
    states, begin = system.first_pairs()
    v = np.zeros(system.n)
    progress = Progress() if progress is None else progress
    if len(states) == 0:
        return v, begin
    pairs, seen = best_pairs(system.reward, begin) if pairs is None else pairs, set()
    try:
        for _ in range(MAX_IMPROVEMENTS):
            p = system.rows[pairs][:, states]
            try:
                solver = DiscountedSystem(p, gamma)
            except SingularChainError:
                raise SingularChainError(latest(p, states)) from None
            x = solver.solve(system.reward[pairs])
            x += solver.solve(system.reward[pairs] - (x - gamma * (p @ x)))
            v[states] = x
            progress.sweeps += 1
            progress.report(np.inf)
            q = system.q(v, gamma)
            # Only what exceeds rounding improves: ties never alternate, so that the iteration ends.
            slack = system.slack(v, gamma)
            best = best_pairs(q - slack, begin)
            if ahead and float((q[best] - x).max()) > 64.0 * system.rounding(v) and not progress.exhausted:
                pairs = best_pairs(_backed_up(system, v, q, gamma, ahead), begin)
                continue
            better = q[best] - slack[best] > q[pairs] + slack[pairs] + 2.0 * np.abs(q[pairs] - x)
            seen.add(hash(pairs.tobytes()))
            if not better.any() or progress.exhausted:
                break
            new = np.where(better, best, pairs)
            last, pairs = pairs, new if gamma < 1.0 else _still_ends(system, new, pairs, states)
            if (pairs != new)[better].all() or hash(pairs.tobytes()) in seen:
                pairs = last  # whose values v are
                break
    except KeyboardInterrupt:
        progress.interrupted = True
    return v, pairs


def latest(p: sp.sparse.csr_matrix | np.ndarray, states: np.ndarray) -> np.ndarray:
    """The states (int) of a chain that hardly ends from which it is likeliest to be going on."""
    left = np.ones(len(states))
    for _ in range(LATE_STEPS):
        left = p @ left
    return states[left >= 0.5 * left.max()]


def warm_start(system: System, gamma: float, tol: float) -> tuple[np.ndarray, np.ndarray, float, int]:
    """A few Jacobi backups, γ < 1: (v [n], greedy pair of each state that acts, bound, sweeps).

    Where rewards come early or the model is deterministic they suffice; elsewhere policy iteration from their greedy
    policy needs far fewer linear solves.
    """
    states, begin = system.first_pairs()
    v, bound = np.zeros(system.n), np.inf
    q = system.q(v, gamma)
    rest, count = 1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6)), 0
    while count < WARM_SWEEPS:
        count += 1
        top = np.maximum.reduceat(q, begin)
        change = float(np.abs(top - v[states]).max())
        v[states] = top
        q = system.q(v, gamma)
        if change <= tol * rest:
            bound = discounted_bound(system, v, gamma)
            if bound <= tol:
                break
    return v, best_pairs(q, begin), bound, count


def _backed_up(system: System, v: np.ndarray, q: np.ndarray, gamma: float, count: int) -> np.ndarray:
    """q [P] after `count` Jacobi backups of the values v [n], whose q is given."""
    states, begin = system.first_pairs()
    u = v.copy()
    for _ in range(count):
        u[states] = np.maximum.reduceat(q, begin)
        q = system.q(u, gamma)
    return q


def greedy_and_proper(system: System, v: np.ndarray, proper: np.ndarray) -> np.ndarray:
    """The pairs greedy for v [n] at γ = 1, int [m], or those of `proper`, which ends, where these would never end.

    UnboundedLoopError where they go round a loop that pays.
    """
    states, begin = system.first_pairs()
    return _still_ends(system, best_pairs(system.q(v, 1.0), begin), proper, states)


def best_pairs(q: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """The first pair of largest q in each segment."""
    top = np.maximum.reduceat(q, begin)
    lengths = np.diff(np.append(begin, len(q)))
    hit = np.flatnonzero(q == np.repeat(top, lengths))
    return hit[np.searchsorted(hit, begin)]


def _still_ends(system: System, new: np.ndarray, old: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The improved policy `new` int [m], or `old`, which ends from everywhere, in the states from which it would not.

    UnboundedLoopError where it goes round a loop that pays. Otherwise the loop is worth no more than leaving it, and
    only rounding made it look better.
    """
    while True:
        use = np.zeros(len(system.pair_state), dtype=bool)
        use[new] = True
        stuck = ~np.isfinite(steps_to_end(system.pair_state, system.transition, system.ends, use)[states])
        if not stuck.any():
            return new
        p = sp.sparse.csr_matrix(system.rows[new][:, states])
        _, label = sp.sparse.csgraph.connected_components(p, connection="strong")
        source = np.repeat(np.arange(len(states)), np.diff(p.indptr))
        leaves = np.zeros(label.max() + 1, dtype=bool)
        leaves[label[source[label[source] != label[p.indices]]]] = True
        for loop in np.unique(label[stuck & ~leaves[label]]):
            inside = np.flatnonzero(label == loop)
            if _pays(p[inside][:, inside], system.reward[new[inside]]):
                raise UnboundedLoopError(states[inside])
        new = np.where(stuck, old, new)


def _pays(p: sp.sparse.csr_matrix, r: np.ndarray) -> bool:
    """Whether the mean reward of a recurrent chain is positive beyond rounding."""
    n = p.shape[0]
    share = np.ones(n)  # the time spent in each state, relative to the first: x = x P
    if n > 1:
        share[1:] = sp.sparse.linalg.spsolve((sp.sparse.identity(n - 1) - p[1:, 1:].T).tocsc(), p[:1, 1:].toarray()[0])
    return bool(share @ r > 64.0 * EPS * (share @ np.abs(r)))


def proper_policy(system: System) -> tuple[np.ndarray, np.ndarray]:
    """(safe bool [n], pair int [m] of each state with pairs): a policy that ends from every safe state.

    Breadth-first from the end: the chosen pair never leaves safety, and is the likeliest to bring each state nearer.
    (Any that may would do in exact numbers; with a small chance at each of many steps it ends too late for floats.)
    Ends that are lost in rounding do not count.
    """
    states, begin = system.first_pairs()
    if system.n > DIRECT_STATES:
        from rlnet.mdp.solvers.compiled.deterministic import back_from_ends

        p, pairs = system.transition, np.empty(len(states), dtype=np.int64)
        ends = system.ends if system.lost is None else system.ends & ~system.lost
        if back_from_ends(system.pair_state, p.indptr, p.indices, p.data, ends, begin, pairs, system.n):
            return np.ones(system.n, dtype=bool), pairs
    has_pairs = np.zeros(system.n, dtype=bool)
    has_pairs[states] = True
    ends = system.ends if system.lost is None else system.ends & ~system.lost
    safe, steps, use = sure_to_end(system.pair_state, system.transition, ends)
    p = system.transition
    source = np.repeat(system.pair_state, np.diff(p.indptr))
    nearer = sp.sparse.csr_matrix((p.data * (steps[p.indices] < steps[source]), p.indices, p.indptr), shape=p.shape)
    ending = np.where(system.ends, 1.0 - p.sum(axis=1).A1, 0.0)
    chance = nearer.sum(axis=1).A1 + np.maximum(ending, 0.0)
    chance[~use] = -1.0
    return safe | ~has_pairs, best_pairs(chance, begin)


@dataclass(frozen=True, eq=False)
class Proper:
    """A well-posed problem at γ = 1: loops without reward merged, and a policy that ends from everywhere."""

    system: System
    of: np.ndarray  # int [n], the merged state of each state
    pairs: np.ndarray  # int [m], the pair of each merged state that has any, in their order
    component: np.ndarray  # int [n], the free loop of each state, −1 outside
    inside: np.ndarray | None  # bool [P], the pairs of free loops; None where there is none

    def members(self, states: np.ndarray) -> np.ndarray:
        """The original states behind merged ones."""
        return np.flatnonzero(np.isin(self.of, states))


def made_proper(system: System) -> Proper:
    """Merge loops without reward into one state each, which may also stay for ever at 0. Cached with the system.

    Raises ImproperPolicyError, SingularChainError or UnboundedValueError with the states (args[0]) from which no policy
    ends, or only with a chance that is lost in rounding.
    """
    kept = system.__dict__.get("_proper")
    if kept is None:
        kept = system.__dict__["_proper"] = _made_proper(system)
    return kept


def _made_proper(system: System) -> Proper:
    free = (system.reward == 0.0) & ~system.ends
    if system.lost is not None:
        free |= system.lost & (system.magnitude == 0.0)
    component, inside = end_components(system.pair_state, system.transition, free)
    if inside.any():
        smaller, of, _ = quotient(system, component, inside)
    else:
        smaller, of = system, np.arange(system.n)
    safe, pairs = proper_policy(smaller)
    proper = Proper(smaller, of, pairs, component, inside if inside.any() else None)
    _refuse_paying(smaller, proper, bool(safe.all()))
    if not safe.all():
        lost = smaller.lost is not None
        if lost and sure_to_end(smaller.pair_state, smaller.transition, smaller.ends)[0][~safe].any():
            raise SingularChainError(proper.members(np.flatnonzero(~safe)))
        raise ImproperPolicyError(proper.members(np.flatnonzero(~safe)))
    return proper


def _refuse_paying(system: System, proper: Proper, safe: bool) -> None:
    """UnboundedValueError with the states of the loops that pay. Large ones that sweeps cannot tell are left to the
    methods, if those can tell: all states are `safe`."""
    paying, unsure, states = paying_states(system)
    if len(paying):
        raise UnboundedValueError(proper.members(paying))
    for part, at in zip(unsure, states, strict=True):
        if safe and part.n > DIRECT_STATES:
            continue
        escape = with_escape(part, np.arange(part.n))
        try:
            policy_iteration(escape, 1.0, proper_policy(escape)[1])
        except UnboundedLoopError as loop:
            raise UnboundedValueError(proper.members(at[loop.states])) from None


def discounted_bound(system: System, v: np.ndarray, gamma: float) -> float:
    """Error bound max |v − v*| ≤ (‖Tv − v‖ + rounding) / (1 − γ), T the optimal backup, a γ-contraction."""
    states, begin = system.first_pairs()
    if len(states) == 0:
        return 0.0
    residual = np.maximum.reduceat(system.q(v, gamma), begin) - v[states]
    return system.bound(v, max_norm(residual) + system.rounding(v), gamma)
