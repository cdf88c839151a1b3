"""Small models in numpy, laid out as one table [A, m]: no compiled code, few and cheap calls."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy as sp

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import max_norm, system_of
from rlnet.mdp.solvers.policy_iteration import DIRECT_STATES, MAX_IMPROVEMENTS
from rlnet.mdp.solvers.small.banded_newton import Bands, newton
from rlnet.mdp.solvers.small.deterministic import Paths
from rlnet.mdp.solvers.small.in_place import suited, swept
from rlnet.mdp.solvers.small.span_value_iteration import LIMIT, mixed
from rlnet.mdp.solvers.value_iteration import ROW_SUM, Progress, reported

DENSE_STATES = 150  # up to here policies are evaluated by a dense LU of the table's rows
DENSE_ENTRIES = 100_000  # of the table's rows, at most
CALL = 10_000  # products that take as long as the calls of a backup
PATHS = "policy_iteration (paths)"
BANDED = "policy_iteration (banded LU)"
WHOLE = 2.0**52  # whole numbers below are added exactly
NEAR_ROUNDING = 64.0  # times the rounding error of a backup: below, an improvement has to be proved


class Table:
    """The pairs of the m states that act as [A, m]; where a state has fewer than A, its first one is repeated.

    `moves`: every pair goes to one state or ends, so that backups need no product. `solves`: policies can be evaluated
    by a dense LU. `small`: the rows are kept as a sparse matrix, for backups and band matrices. A table that can do
    none of it is none: see `table_of`.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.system = system = system_of(mdp)
        self.states, begin = system.first_pairs()
        self.counts = np.diff(np.append(begin, len(system.pair_state)))
        self.width, self.m = int(self.counts.max(initial=0)), len(begin)
        p = system.transition
        goes_on = np.diff(p.indptr)
        self.moves = bool(len(begin)) and int(goes_on.max()) <= 1 and bool((p.data == 1.0).all())
        entries = self.width * self.m
        self.small = 0 < self.m <= DIRECT_STATES
        self.solves = 0 < self.m <= DENSE_STATES and entries * self.m <= DENSE_ENTRIES
        self.wasteful = entries > 2 * len(system.pair_state)
        if not self.useful:
            return
        number = np.arange(self.width)[:, None]
        pairs = (begin + np.where(number < self.counts, number, 0)).ravel()
        ordinal = np.arange(len(system.pair_state)) - np.repeat(begin, self.counts)
        place = ordinal * self.m + np.repeat(np.arange(self.m), self.counts)  # of each pair
        self.source = np.full((mdp.n_states, mdp.n_actions), entries)  # in the flat table; else behind it
        self.source[mdp.pair_state, mdp.pair_action] = place
        self.ones, self.acts = np.ones(self.width), ~mdp.terminal
        self.reward = system.reward[pairs]
        self.columns = np.arange(self.m)
        self.listed = number < self.counts
        self.full = bool(self.listed.all())
        self.whole = self.full and self.source.shape == (self.m, self.width)
        whole = bool((self.reward == np.rint(self.reward)).all()) and max_norm(self.reward) < WHOLE
        self.costs = self.moves and system.terms == 1 and whole and bool((system.reward[~system.ends] < 0.0).all())
        if self.moves:
            number_of = np.full(system.n, self.m)  # where no value waits
            number_of[self.states] = self.columns
            to = np.full(len(goes_on), self.m)
            to[goes_on > 0] = number_of[p.indices]
            every = np.ones(len(goes_on), dtype=bool)
            steps = np.append(steps_to_end(system.pair_state, p, goes_on == 0, every)[self.states], 0.0)
            self.paths = Paths(self.reward, to[pairs], steps)
        elif self.small:  # states that do not act are worth 0
            self.sparse = p[pairs][:, self.states]
            self.bands = Bands(self.sparse, self.reward, self.width)
        if self.solves:
            self.rows, self.gamma = p.toarray()[pairs][:, self.states], -1.0

    @cached_property
    def can_end(self) -> bool:
        """Whether an end can be reached from every state."""
        p, ends, every = self.system.transition, self.system.ends, np.ones(len(self.system.ends), dtype=bool)
        return bool(np.isfinite(steps_to_end(self.system.pair_state, p, ends, every)[self.states]).all())

    @property
    def useful(self) -> bool:
        return (self.moves or self.small) and not self.wasteful

    def at(self, gamma: float) -> None:
        """Prepare the matrices I − γP of all pairs, and of the policy that takes each as often, for this γ."""
        if gamma != self.gamma:
            self.gamma, self.weights = gamma, gamma * self.rows
            self.matrix = np.tile(np.eye(self.m), (self.width, 1)) - self.weights
            self.mean_matrix = self.matrix.reshape(self.width, self.m, self.m).mean(axis=0)
            self.mean_reward = self.reward.reshape(self.width, self.m).mean(axis=0)

    def laid_out(self, x: np.ndarray, q: np.ndarray, top: np.ndarray, bound: float):
        """(v [S], q [S, A], policy [S, A]) from the values [m] of the states that act, q flat [A m] and its maximum.

        As in `rlnet.mdp.solvers.optimal_actions`, those within what the error of v and rounding may hide are listed:
        2γ bound + 2 rounding ≤ 2 bound, since bound ≥ rounding / (1 − γ).
        """
        by_action = q.reshape(self.width, self.m)
        share = (by_action >= top - 2.0 * bound).astype(float)
        if not self.full:
            share *= self.listed
        share /= self.ones.dot(share)
        if self.whole:
            return x, by_action.T, share.T
        v = np.zeros(len(self.source))
        np.place(v, self.acts, x)
        return v, self._spread(q, -np.inf), self._spread(share.ravel(), 0.0)

    def _spread(self, flat: np.ndarray, nothing: float) -> np.ndarray:
        """[S, A] from the flat table [A m], `nothing` where an action is not available."""
        filled = np.empty(len(flat) + 1)
        filled[:-1], filled[-1] = flat, nothing
        return filled.take(self.source)


def table_of(mdp: FiniteMDP) -> Table | None:
    """The table of a model, kept with it; None where it would be of no use."""
    kept = mdp.__dict__.get("_table")
    if kept is None:
        kept = mdp.__dict__["_table"] = Table(mdp)
    return kept if kept.useful else None


def solve_table(table: Table, gamma: float, tol: float, progress: Progress):
    """(v [m], q flat [A m], its maximum [m], bound, what was done), or None where the table cannot tell.

    Policy iteration (S&B ch. 4.3). Where every pair goes to one state or ends, policies are evaluated along paths;
    where states reach their neighbours alone, by band matrices. Else value iteration, where that mixes fast enough.
    """
    if gamma == 1.0 and (table.moves or table.system.cost <= 0.0):
        return _whole_costs(table, progress)
    if gamma == 1.0:
        return _costs(table, tol, progress)
    rest = 1.0 - gamma * (1.0 + ROW_SUM * (table.system.terms + 6))
    if rest <= 0.0:
        return None
    if table.moves:
        x, q, top, change = table.paths.solve(gamma, 0.5 * tol * rest, table.system, progress)
        bound = (change + table.system.rounding(x)) / rest
        reported(progress, bound)
        return x, q, top, bound, PATHS
    bands, given = table.bands, (table.system, gamma, tol, progress)
    found, done = _local(table, gamma, tol, progress)
    if found is None and table.solves:
        found, done = _policy_iteration(table, gamma, tol, progress), "policy_iteration (dense LU)"
    if found is None:
        # In time some five factorizations of bands, ten products of which take as long as one of a backup.
        limit = 0.5 * bands.work / (len(table.sparse.data) + CALL) if bands.useful else LIMIT
        found, done = mixed(table.sparse, table.reward, *given, min(limit, LIMIT)), "value_iteration (Jacobi, span)"
    if found is None and bands.useful and not bands.narrow:
        found, done = newton(bands, *given), BANDED
    return None if found is None else (*found, done)


def _local(table: Table, gamma: float, tol: float, progress: Progress):
    """(v, q, top, bound) where states reach their neighbours alone, or None, and what was done."""
    bands, given = table.bands, (table.system, gamma, tol, progress)
    if suited(bands, table.system):
        found = swept(bands, *given)
        if found is not None:
            return found, "modified_policy_iteration (in place)"
    return newton(bands, *given) if bands.narrow else None, BANDED


def _whole_costs(table: Table, progress: Progress):
    """As `solve_table` at γ = 1, where every step that does not end costs a whole number: then sums are exact, values
    that a backup does not change are v*, and no loop ties. None where some state never ends."""
    if not table.costs or table.paths.stuck:
        return None
    x, q, top, change = table.paths.solve(1.0, 0.0, table.system, progress)
    if change > 0.0 or max_norm(x) > WHOLE:
        return None
    reported(progress, 0.0)
    return x, q, top, 0.0, PATHS


def _costs(table: Table, tol: float, progress: Progress):
    """As `solve_table` at γ = 1, where every step costs something: whoever can end will. None where some state never
    ends, or the bound does not meet `tol`. Pairs within twice the bound of the best never make a loop, since every
    round of one would cost more.
    """
    found, done = None, BANDED
    if table.can_end and table.bands.narrow:
        found, done = _local(table, 1.0, tol, progress)
    elif table.can_end and table.solves:
        found, done = _policy_iteration(table, 1.0, tol, progress), "policy_iteration (dense LU)"
    if found is None or not found[-1] <= min(tol, 0.1 * table.system.cost):
        return None
    return *found, done


def _policy_iteration(table: Table, gamma: float, tol: float, progress: Progress):
    """(v, q, top, bound), from the values of the policy that takes every action as often, whose greedy policy is good
    where rewards are rare. As `direct.policy_iteration` otherwise."""
    table.at(gamma)
    m, system, shape = table.m, table.system, (table.width, table.m)
    matrix, reward, refined = table.mean_matrix, table.mean_reward, False
    at = None
    for _ in range(MAX_IMPROVEMENTS):
        # Fortran's view: the transpose, uncopied.
        factors, pivots, _ = sp.linalg.lapack.dgetrf(matrix.T, overwrite_a=at is not None)
        x = sp.linalg.lapack.dgetrs(factors, pivots, reward, trans=1)[0]
        if refined:
            x += sp.linalg.lapack.dgetrs(factors, pivots, reward - x + table.weights.take(at, 0).dot(x), trans=1)[0]
        q = table.weights.dot(x)
        q += table.reward
        new = q.reshape(shape).argmax(0)
        new *= m
        new += table.columns
        top = q.take(new)
        change, slack = max_norm(top - x), system.rounding(x)
        bound = system.bound(x, change + slack, gamma)
        progress.sweeps += 1
        reported(progress, bound)
        if bound <= tol or progress.exhausted or progress.interrupted:
            break
        if at is None or change > NEAR_ROUNDING * slack:
            at = new
        elif refined:
            # Only what exceeds rounding improves: ties never alternate, so that the iteration ends.
            own = q.take(at)
            better = top > own + (2.0 * slack + 2.0 * max_norm(own - x))
            if not better.any():
                break
            at = np.where(better, new, at)
        refined = refined or change <= NEAR_ROUNDING * slack
        matrix, reward = table.matrix.take(at, 0), table.reward.take(at)
    return x, q, top, bound
