"""Small models at γ = 1 in which steps may be free: dense policy iteration with a bound (Bertsekas & Tsitsiklis 1991).

Every step is paid θ > 0 extra, hardly more than rounding. The policy that is best then has values u ≥ v*, since Tu ≤ u
without θ; what it gets without θ, v, lies θw below, w its expected steps. Of the policies that are best without θ it
takes the most steps: with every action that is, w falls by 1 on average, so that no round of them goes on for ever.
"""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.model.graph import end_components, state_graph
from rlnet.mdp.operators.bellman import EPS, System
from rlnet.mdp.solvers.policy_iteration import made_proper
from rlnet.mdp.solvers.value_iteration import Progress, reported

STATES = (300, 150)  # at most; the second: once free loops are merged
ENTRIES = 100_000  # of the rows of all pairs, at most
THETA = 64.0  # times the rounding error of a backup
ROUNDS = 30
FALLS = 0.5  # by which w has to fall at least; what falls by 1 in exact numbers does


class FreeSteps:
    """A problem at γ = 1 with its free loops merged, m classes of states act, and its pairs [P'] as dense rows."""

    def __init__(self, system: System) -> None:
        proper = made_proper(system)
        self.original, self.system, self.terms = system, proper.system, proper.system.terms
        states, self.begin = self.system.first_pairs()
        self.m, size = len(states), len(self.system.pair_state)
        self.useful = system.n <= STATES[0] and 0 < self.m <= STATES[1] and size * self.m <= ENTRIES
        if not self.useful:
            return
        self.counts = np.diff(np.append(self.begin, size))
        self.rows, self.reward = self.system.transition.toarray()[:, states], self.system.reward
        self.number = np.arange(size)
        self.matrix = np.eye(self.m).repeat(self.counts, axis=0) - self.rows
        # The values of the policy that takes every action as often: greedy for them is good where rewards are rare.
        mean = np.add.reduceat(self.matrix, self.begin) / self.counts[:, None]
        pays = np.add.reduceat(self.reward, self.begin) / self.counts
        factors, pivots, failed = sp.linalg.lapack.dgetrf(mean.T, overwrite_a=1)
        if failed:
            self.useful = False
            return
        self.first = sp.linalg.lapack.dgetrs(factors, pivots, pays, trans=1)[0]
        self._look_at_loops(proper.of, states)

    def _look_at_loops(self, of: np.ndarray, states: np.ndarray) -> None:
        """Where the original states are among the classes, and how the free loops hang together."""
        system = self.original
        place = np.full(self.system.n, self.m)  # of what does not act: behind the others
        place[states] = np.arange(self.m)
        self.place = place[of]
        self.own = system.pair_state
        self.own_begin = system.first_pairs()[1]
        self.own_counts = np.diff(np.append(self.own_begin, len(self.own)))
        _, self.inside = end_components(self.own, system.transition, (system.reward == 0.0) & ~system.ends)
        self.looped = np.zeros(system.n, dtype=bool)
        self.looped[self.own[self.inside]] = True
        within = system.transition[self.inside]
        self.to, self.to_begin = within.indices, within.indptr[:-1]
        self.waiting = self.own[self.inside]
        back = state_graph(self.own, system.transition, self.inside).T
        self.away = sp.sparse.csgraph.shortest_path(back, unweighted=True).astype(np.float32)  # [to, from]

    def solve(self, tol: float, progress: Progress) -> tuple[np.ndarray, np.ndarray, float] | None:
        """(v [m], w [m], max |v − v*|), or None where that is more than `tol`."""
        v, w, theta, at, pays = self.first, 0.0, 0.0, None, np.ones((2, self.m))
        for _ in range(ROUNDS):
            theta = max(theta, THETA * self.system.rounding(v))
            u = v + theta * w
            q = self.rows.dot(u)
            q += self.reward
            top = np.maximum.reduceat(q, self.begin)
            rise = top - u
            if at is not None and float(rise.max()) + self.system.rounding(u) <= 0.0:
                return self._bounded(v, w, theta, at, tol, progress)
            best = np.maximum.reduceat(self.number * (q == top.repeat(self.counts)), self.begin)
            at = best if at is None else np.where(rise > -0.75 * theta, best, at)  # its own: −θ
            pays[0] = self.reward.take(at)
            factors, pivots, failed = sp.linalg.lapack.dgetrf(self.matrix.take(at, 0).T, overwrite_a=1)
            v, w = sp.linalg.lapack.dgetrs(factors, pivots, pays.T, trans=1)[0].T
            progress.sweeps += 1
            if failed or progress.exhausted or not w.min() >= FALLS:  # NaN, too: it never ends, or a loop pays
                return None
        return None

    def _bounded(self, v: np.ndarray, w: np.ndarray, theta: float, at: np.ndarray, tol: float, progress: Progress):
        """The same for values v of the policy `at`, v + θw ≥ v* and about w steps."""
        rows, size = self.rows.take(at, 0), float(w.max())
        least = float((w - rows.dot(w)).min()) - 2 * (self.terms + 8) * EPS * size
        if least <= 0.0:
            return None
        below = float((v - self.reward.take(at) - rows.dot(v)).max()) + self.system.rounding(v)
        bound = max(theta, below / least) * size * (1.0 + 1e-12) + self.system.rounding(v)
        reported(progress, bound)
        return (v, w, bound) if bound <= tol else None

    def listed(self, v: np.ndarray, w: np.ndarray, q: np.ndarray, after: np.ndarray, bound: float, tol: float):
        """What `listing.listed_pairs` says, for v, w [n], q and P w [P]; None where w does not tell.

        It does where w falls by c or more with every candidate that is not inside a free loop: their gaps add up to at
        most the largest times w / c. Inside, nothing is lost.
        """
        top = np.maximum.reduceat(q, self.own_begin)
        tolerance = 2.0 * bound + 32.0 * EPS * float(np.abs(q).max())
        near = q >= (top - tolerance).repeat(self.own_counts)
        judged = near & ~self.inside
        if ((w.take(self.own) - after < FALLS) & judged).any():
            return None
        gap = float((v.take(self.own) - q)[near].max()) + self.original.rounding(v)
        lost = gap * float(w.max()) / FALLS
        if lost > max(tol, 4.0 * bound):
            return None
        busy = (np.abs(v) > tolerance) & self.looped
        if not busy.any():
            return near, bound + lost
        waits = busy.take(self.own)
        exits = self.own[near & ~self.inside & waits]
        steps = np.minimum.reduce(self.away.take(exits, 0), 0, initial=np.inf)
        nearer = np.ones(len(q), dtype=bool)
        nearer[self.inside] = np.minimum.reduceat(steps.take(self.to), self.to_begin) < steps.take(self.waiting)
        return near & (nearer | ~waits), bound + lost


def free_steps(system: System, tol: float, progress: Progress):
    """(v [n], q [P], bound, what is listed (pairs bool [P], loss) or None where w does not tell), or None where other
    methods have to tell.

    Raises what `direct.made_proper` raises.
    """
    kept = system.__dict__.get("_free_steps")
    if kept is None:
        kept = system.__dict__["_free_steps"] = FreeSteps(system)
    found = kept.solve(tol, progress) if kept.useful else None
    if found is None:
        return None
    both = np.zeros((kept.m + 1, 2))
    both[:-1, 0], both[:-1, 1], bound = found
    both = both.take(kept.place, 0)
    after = system.rows @ both
    q = after[:, 0] + system.reward
    v = both[:, 0].copy()
    return v, q, bound, kept.listed(v, both[:, 1], q, after[:, 1], bound, tol)
