"""Value iteration with span bounds (MacQueen), for small models that mix fast."""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.operators.bellman import EPS, System
from rlnet.mdp.solvers.value_iteration import Progress, certified, reported

TRIAL = 4  # backups between two looks at how fast the bound shrinks
LIMIT = 200  # backups, which take less time than policy iteration by sparse LU


class Backups:
    """Values and their Bellman backups, over m states that each choose one of `width` rows (`Certifiable`)."""

    def __init__(self, rows: sp.sparse.csr_matrix, reward: np.ndarray, system: System, gamma: float) -> None:
        """`rows` csr [width m, m] and `reward` [width m]: state s of choice a is row a m + s."""
        self.rows, self.reward, self.system, self.gamma = rows, reward, system, gamma
        self.terms, self.m = system.terms + 6, rows.shape[1]
        self.leaks = bool(system.ends.any()) or self.m < system.n
        self.v = np.zeros(self.m)

    def backup(self, keep: bool = True) -> tuple[float, float]:
        """Bellman backup v ← Tv, with the action values `q` [width m]; the least and the largest change."""
        self.q = self.rows @ self.v
        self.q *= self.gamma
        self.q += self.reward
        before, self.v = self.v, np.maximum.reduce(self.q.reshape(-1, self.m), 0)
        change = self.v - before
        return float(np.minimum.reduce(change)), float(np.maximum.reduce(change))

    def shift(self, by: float) -> None:
        """Add a constant to all values and action values."""
        self.v += by
        self.q += by

    def rounding(self, further: float = 0.0) -> float:
        """An upper bound on the rounding error of a backup, for values that are `further` larger."""
        return self.system.rounding(self.v) + self.terms * EPS * further


def mixed(
    rows: sp.sparse.csr_matrix,
    reward: np.ndarray,
    system: System,
    gamma: float,
    tol: float,
    progress: Progress,
    limit: float = LIMIT,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """(v [m], q flat [A m], its maximum [m], bound), or None where it seems that `limit` backups do not meet `tol`."""
    sweeps = Backups(rows, reward, system, gamma)
    before, count = np.inf, 0
    while True:
        low, high, bound, _ = certified(sweeps)
        progress.sweeps += 1
        reported(progress, bound)
        if bound <= tol or progress.exhausted or progress.interrupted:
            break
        if count % TRIAL == 0:
            if not (bound < before and count + TRIAL * np.log(bound / tol) / np.log(before / bound) <= limit):
                return None
            before = bound
        count += 1
    sweeps.shift(gamma / (1.0 - gamma) * (low + high) / 2.0)
    return sweeps.v, sweeps.q, sweeps.v, bound
