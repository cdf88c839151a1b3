"""Backups of small models in numpy, laid out as one table [A, m]: no compiled code, few and cheap calls."""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs

from rlnet.mdp.direct import MAX_IMPROVEMENTS
from rlnet.mdp.iterate import ROW_SUM, Progress
from rlnet.mdp.system import System

DENSE_ENTRIES = 100_000  # [A, m, n] up to which products with a dense table beat gathering successors
GATHERED = 4  # successors per pair up to which gathering them beats a sparse product
DENSE_STATES = 150  # up to here policies are evaluated by a dense LU of the table's rows
CHECK_EVERY = 4  # sweeps between looks at the change, which cost as much as a sweep
WARM_SWEEPS = 32


class Table:
    """The pairs of the m states that act as [A, m]; where a state has fewer than A, its first one is repeated."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.states, begin = system.first_pairs()
        counts = np.diff(np.append(begin, len(system.pair_state)))
        self.width, self.m = int(counts.max()), len(begin)
        number = np.arange(self.width)[:, None]
        self.pairs = begin + np.where(number < counts, number, 0)  # [A, m]
        ordinal = np.arange(len(system.pair_state)) - np.repeat(begin, counts)
        self.place = ordinal * self.m + np.repeat(np.arange(self.m), counts)  # of each pair, in the flat table
        self.reward = system.reward[self.pairs].ravel()
        self.all_act = self.m == system.n
        self.columns = np.arange(self.m)
        rows = system.transition[self.pairs.ravel()]
        self.dense = rows.shape[0] * system.n <= DENSE_ENTRIES
        self.solves = self.dense and self.m <= DENSE_STATES  # policies can be evaluated, too
        self.gamma = -1.0
        if self.dense:
            self.rows = rows.toarray()
            return
        lengths = np.diff(rows.indptr)
        place = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], lengths)
        row = np.repeat(np.arange(len(lengths)), lengths)
        outcomes = max(int(lengths.max(initial=0)), 1)
        self.to = np.zeros((outcomes, len(lengths)), dtype=np.intp)
        self.chance = np.zeros(self.to.shape)
        self.to[place, row], self.chance[place, row] = rows.indices, rows.data

    def at(self, gamma: float) -> None:
        """Prepare for this γ."""
        if gamma != self.gamma:
            weights = gamma * (self.rows if self.dense else self.chance)
            self.gamma, self.weights = gamma, weights

    def q(self, v: np.ndarray) -> np.ndarray:
        """r + γ P v, flat [A m]."""
        if self.dense:
            q = self.weights.dot(v)
        else:
            q = v.take(self.to[0])
            q *= self.weights[0]
            for to, weight in zip(self.to[1:], self.weights[1:], strict=True):
                q += v.take(to) * weight
        q += self.reward
        return q

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Values [n] of all states from those that act."""
        if self.all_act:
            return x
        v = np.zeros(self.system.n)
        v[self.states] = x
        return v


def table_of(system: System) -> Table | None:
    """The table of a model, kept with it; None where a table would be wasteful."""
    kept = system.__dict__.get("_table", 0)
    if kept == 0:
        kept = None
        _, begin = system.first_pairs()
        widest = int(np.diff(np.append(begin, len(system.pair_state))).max(initial=0))
        entries = widest * len(begin)
        if entries and entries <= 2 * len(system.pair_state):
            dense = entries * system.n <= DENSE_ENTRIES
            if dense or int(np.diff(system.transition.indptr).max(initial=0)) <= GATHERED:
                kept = Table(system)
        system.__dict__["_table"] = kept
    return kept


def solve_table(
    table: Table, gamma: float, tol: float, progress: Progress
) -> tuple[np.ndarray, np.ndarray, float, str, np.ndarray]:
    """(v [n], q [P], bound, what was done, greedy pairs [m]) for γ < 1: a few Jacobi backups, which end the matter
    where rewards come early or the model is deterministic, then policy iteration (S&B ch. 4.3) if the table is small.

    Where it is not, the bound may exceed `tol`, and the greedy pairs are where to go on from.
    """
    system, shape = table.system, (table.width, table.m)
    table.at(gamma)
    rest = 1.0 - gamma * (1.0 + ROW_SUM * (system.terms + 6))
    goal = tol * rest
    limit = min(WARM_SWEEPS, table.m // 2 + 2)
    x = np.zeros(table.m)
    v, q, count, done = table.spread(x), table.reward, 1, "value_iteration (Jacobi)"
    while True:
        top = np.maximum.reduce(q.reshape(shape))
        if count % CHECK_EVERY == 0 or count >= limit:
            change = float(np.abs(top - x).max())
            if change < goal or count >= limit:
                break
        x = top
        v = table.spread(x)
        q, count = table.q(v), count + 1
    progress.sweeps += count
    bound = (change + system.rounding(v)) / rest if rest > 0.0 else np.inf
    choice = q.reshape(shape).argmax(axis=0)
    if bound > tol and table.solves:
        v, q, bound, choice = _policy_iteration(table, choice, rest, progress)
        done = "policy_iteration (dense LU)"
    return v, q[table.place], bound, done, table.pairs[choice, table.columns]


def _policy_iteration(table: Table, choice: np.ndarray, rest: float, progress: Progress):
    """As `direct.policy_iteration`, on the table: (v, q, bound, choice)."""
    system, m, columns = table.system, table.m, table.columns
    for _ in range(MAX_IMPROVEMENTS):
        at = choice * m + columns
        rows = table.weights[at]
        matrix = np.negative(rows if table.all_act else rows[:, table.states])
        matrix.flat[:: m + 1] += 1.0
        r = table.reward[at]
        factors, pivots, _ = dgetrf(matrix.T, overwrite_a=1)  # Fortran's view: the transpose, without a copy
        x = dgetrs(factors, pivots, r, trans=1)[0]
        x += dgetrs(factors, pivots, r - x + rows.dot(table.spread(x)), trans=1)[0]
        v = table.spread(x)
        q = table.q(v)
        top = np.maximum.reduce(q.reshape(table.width, m))
        slack, own = system.rounding(v), q[at]
        bound = (float(np.abs(top - x).max()) + slack) / rest if rest > 0.0 else np.inf
        progress.sweeps += 1
        try:
            progress.report(bound)
        except KeyboardInterrupt:
            progress.interrupted = True
        # Only what exceeds rounding improves: ties never alternate, so that the iteration ends.
        better = top > own + (2.0 * slack + 2.0 * float(np.abs(own - x).max()))
        if progress.exhausted or progress.interrupted or not better.any():
            break
        choice = np.where(better, q.reshape(table.width, m).argmax(axis=0), choice)
    return v, q, bound, choice
