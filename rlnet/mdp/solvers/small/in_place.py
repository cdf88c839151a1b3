"""Modified policy iteration on small models of local moves, with policy sweeps in place (S&B ch. 4.3-4.6)."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.operators.bellman import System, max_norm
from rlnet.mdp.operators.products import overwrites, summed
from rlnet.mdp.solvers.small.banded_newton import AHEAD_FIRST, Bands
from rlnet.mdp.solvers.value_iteration import Progress, reported

RELAXED = 1.35  # by how much sweeps overshoot
SWEEPS = 8  # between two looks at what the last one changed
LIMIT = 32  # looks, after which evaluating a policy is left to other methods
EVALUATED = 0.08  # a policy is swept until a sweep changes this share of what the backup before changed
ENOUGH = 0.4  # the same of the change that would meet the tolerance
PATIENCE = 3  # backups that bring no progress
STATES = (1000, 180)  # from which sweeps beat band matrices; the second: where every step costs


class InPlace:
    """The sweeps v ← v + ω (r + γPv − v) of policies over the m states of a `Bands`, one after the other in place.

    A product y ← y + Ax that may overwrite x does it, row by row, with the rows ω [γP − I, r] and x = y = (v, 1).
    """

    def __init__(self, bands: Bands, gamma: float) -> None:
        p, m = bands.rows, bands.m
        counts = np.diff(p.indptr)
        size, width = len(counts), int(counts.max()) + 2
        row = np.repeat(np.arange(size), counts)
        column = np.arange(len(row)) - np.repeat(p.indptr[:-1], counts)
        self.index = np.repeat(np.arange(size, dtype=np.int32)[:, None] % m, width, axis=1)  # rows are filled up by 0
        self.entries = np.zeros((size, width))
        self.index[row, column], self.entries[row, column] = p.indices, gamma * p.data
        self.entries[:, -2], self.index[:, -1], self.entries[:, -1] = -1.0, m, bands.reward
        self.ptr = np.arange(0, m * width + 1, width, dtype=np.int32)
        self.m, self.gamma = m, gamma
        # What one state overshoots by is handed on: it must die out along the sweep, or it grows beyond all measure.
        back = summed(row, gamma * p.data * (p.indices < row % m), size)
        self.relaxed = RELAXED if RELAXED * float(back.max()) < 1.0 else 1.0

        self.entries *= self.relaxed

    def policy(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(indices, data) of the sweeps of the policy of these rows, int [m]."""
        return self.index.take(rows, 0).ravel(), self.entries.take(rows, 0).ravel()


def in_place_of(bands: Bands, gamma: float) -> InPlace:
    """The sweeps of a model's bands, kept with them for the last γ."""
    kept = bands.__dict__.get("_in_place")
    if kept is None or kept.gamma != gamma:
        kept = bands.__dict__["_in_place"] = InPlace(bands, gamma)
    return kept


def suited(bands: Bands, system: System) -> bool:
    """Whether sweeps may be faster than factors, and SciPy's product can make them."""
    return bands.narrow and bands.m >= STATES[system.cost > 0.0] and overwrites()


def swept(bands: Bands, system: System, gamma: float, tol: float, progress: Progress):
    """(v [m], q flat [A m], its maximum [m], bound), or None where sweeps do not settle soon.

    Each backup is followed by sweeps of the policy that it found, from the values that `banded.newton` starts from too.
    """
    bands.at(gamma)
    if bands.first is None:
        return None
    m, sweeps = bands.m, in_place_of(bands, gamma)
    held = np.ones(m + 1)
    v = held[:m]
    v[:] = bands.first
    for _ in range(AHEAD_FIRST):
        v[:] = bands.backup(v)[1]
    progress.sweeps += AHEAD_FIRST
    best, stale = np.inf, 0
    while True:
        q, top = bands.backup(v)
        change, slack = max_norm(top - v), system.rounding(v)
        bound = system.bound(v, change + slack, gamma)
        progress.sweeps += 1
        reported(progress, bound)
        if bound <= tol or progress.exhausted or progress.interrupted:
            return bands.in_order(v, q, top, bound)
        best, stale = (change, 0) if change < 0.5 * best else (best, stale + 1)
        if stale > PATIENCE or change <= 8.0 * slack:
            return None
        index, data = sweeps.policy(bands.greedy(q, top))
        v[:] = top
        goal = max(EVALUATED * change, ENOUGH * change * (tol / bound))
        sweep = (m, m + 1, sweeps.ptr, index, data, held, v)
        for _ in range(LIMIT):
            for _ in range(SWEEPS - 1):
                bands.product(*sweep)
            before = v.copy()
            bands.product(*sweep)
            progress.sweeps += SWEEPS
            if max_norm(v - before) <= goal or progress.exhausted:
                break
        else:
            return None
