"""Solvers of small models in numpy over a table [A, m] of pairs: policy iteration along paths, by band
matrices or by dense rows, and value iteration where that mixes fast enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy as sp

from rlnet.mdp.operators.bellman import ROW_SUM, max_norm
from rlnet.mdp.solvers.optimal_actions import costly_loss, discounted_loss
from rlnet.mdp.solvers.policy_iteration import MAX_IMPROVEMENTS
from rlnet.mdp.solvers.protocol import Problem, Result
from rlnet.mdp.solvers.small.action_table import WHOLE, Table, spare_tables
from rlnet.mdp.solvers.small.banded_newton import newton
from rlnet.mdp.solvers.small.span_value_iteration import LIMIT, mixed
from rlnet.mdp.solvers.value_iteration import Progress, reported

CALL = 10_000  # products that take as long as the calls of a backup
NEAR_ROUNDING = 64.0  # times the rounding error of a backup: below, an improvement has to be proved

Values = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # v [m], q flat [A m], its maximum [m], bound


@dataclass(frozen=True)
class TableSolver:
    """A solver of small models as a `Table`: the first of its methods that has an answer."""

    methods: Sequence[tuple[Callable[[Table, float, float, Progress], Values | None], str]]  # and `Solution.method`

    def try_solve(self, problem: Problem, gamma: float, tol: float, progress: Progress) -> Result | None:
        """v*; None for a large model, one that would waste a table, and where no method finds an answer: at γ = 1
        where going on may cost nothing."""
        if not problem.small or (gamma == 1.0 and not problem.system.costs):
            return None
        spare = spare_tables(problem.mdp)
        try:
            table = spare.pop()
        except IndexError:
            table = Table(problem.mdp)
        try:
            if not table.useful:
                return None
            for values, done in self.methods:
                found = values(table, gamma, tol, progress)
                if found is not None:
                    return _result(table, gamma, found, done)
            return None
        finally:
            if not spare:
                spare.append(table)


def _result(table: Table, gamma: float, found: Values, done: str) -> Result:
    x, q, top, bound = found
    if gamma < 1.0:
        loss = discounted_loss(bound, 2.0 * bound, gamma)
    else:
        loss = costly_loss(bound, 2.0 * bound, table.system.cost, max_norm(x))
    v, values, policy = table.laid_out(x, q, top, bound)
    return Result(v, values, policy, bound, done, None, loss)


def _settles(table: Table, gamma: float) -> bool:
    """Whether the residual of values bounds their error, and pairs within twice the bound of the best make no loop: at
    γ < 1; at γ = 1 where every step costs something, so that whoever can end will, if all can."""
    if gamma == 1.0:
        return table.system.cost > 0.0 and table.can_end
    return _rest(table, gamma) > 0.0


def _rest(table: Table, gamma: float) -> float:
    """1 − γ, less by how far from 1 the probabilities of a pair may sum."""
    return 1.0 - gamma * (1.0 + ROW_SUM * (table.system.terms + 6))


def _met(found: Values | None, table: Table, gamma: float, tol: float) -> Values | None:
    """What was found; at γ = 1 None where its bound does not meet `tol`, or leaves open what a step costs."""
    if found is None or gamma < 1.0:
        return found
    return found if found[-1] <= min(tol, 0.1 * table.system.cost) else None


def along_paths(table: Table, gamma: float, tol: float, progress: Progress) -> Values | None:
    """Policy iteration (S&B ch. 4.3) where every pair goes to one state or ends, so that policies are paths.

    At γ = 1 where every step that does not end costs a whole number: then sums are exact, values that a backup does
    not change are v*, and no loop ties. None where some state never ends.
    """
    if not table.moves:
        return None
    if gamma == 1.0:
        if not table.costs or table.paths.stuck:
            return None
        x, q, top, change = table.paths.solve(1.0, 0.0, table.system, progress)
        if change > 0.0 or max_norm(x) > WHOLE:
            return None
        bound = 0.0
    else:
        rest = _rest(table, gamma)
        if rest <= 0.0:
            return None
        x, q, top, change = table.paths.solve(gamma, 0.5 * tol * rest, table.system, progress)
        bound = (change + table.system.rounding(x)) / rest
    reported(progress, bound)
    return x, q, top, bound


def by_narrow_bands(table: Table, gamma: float, tol: float, progress: Progress) -> Values | None:
    """Newton's method by narrow band matrices, where transitions are local."""
    if table.moves or not table.bands.narrow or not _settles(table, gamma):
        return None
    return _met(newton(table.bands, table.system, gamma, tol, progress), table, gamma, tol)


def by_wide_bands(table: Table, gamma: float, tol: float, progress: Progress) -> Values | None:
    """Newton's method by wide band matrices, whose factors are costly: tried after `by_mixing`, at γ < 1 alone."""
    if table.moves or gamma == 1.0 or not table.bands.useful or table.bands.narrow or not _settles(table, gamma):
        return None
    return newton(table.bands, table.system, gamma, tol, progress)


def by_mixing(table: Table, gamma: float, tol: float, progress: Progress) -> Values | None:
    """Value iteration bounded by spans, as long as it promises to be faster than factors; γ < 1."""
    if table.moves or gamma == 1.0 or not _settles(table, gamma):
        return None
    # In time some five factorizations of bands, ten products of which take as long as one of a backup.
    bands = table.bands
    limit = 0.5 * bands.work / (len(table.sparse.data) + CALL) if bands.useful else LIMIT
    return mixed(table.sparse, table.reward, table.system, gamma, tol, progress, min(limit, LIMIT))


def by_dense_rows(table: Table, gamma: float, tol: float, progress: Progress) -> Values | None:
    """Policy iteration by a dense LU, from the values of the policy that takes every action as often, whose greedy
    policy is good where rewards are rare."""
    if table.moves or not table.solves or not _settles(table, gamma):
        return None
    table.at(gamma)
    m, system, shape = table.m, table.system, (table.width, table.m)
    x, at, refined = table.first.copy(), None, False
    for _ in range(MAX_IMPROVEMENTS):
        if at is not None:
            x = _evaluated(table, at, refined)
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
    return _met((x, q, top, bound), table, gamma, tol)


def _evaluated(table: Table, at: np.ndarray, refined: bool) -> np.ndarray:
    """The values [m] of the policy of the rows `at` (int [m]) by a dense LU; `refined`: improved by one residual."""
    reward = table.reward.take(at)
    # Fortran's view: the transpose, uncopied.
    factors, pivots, _ = sp.linalg.lapack.dgetrf(table.matrix.take(at, 0).T, overwrite_a=1)
    x = sp.linalg.lapack.dgetrs(factors, pivots, reward, trans=1)[0]
    if refined:
        x += sp.linalg.lapack.dgetrs(factors, pivots, reward - x + table.weights.take(at, 0).dot(x), trans=1)[0]
    return x


SMALL = TableSolver(
    (
        (along_paths, "policy_iteration (paths)"),
        (by_narrow_bands, "policy_iteration (banded LU)"),
        (by_dense_rows, "policy_iteration (dense LU)"),
        (by_mixing, "value_iteration (Jacobi, span)"),
        (by_wide_bands, "policy_iteration (banded LU)"),
    )
)
