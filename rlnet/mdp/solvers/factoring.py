"""Solvers by exact evaluations of policies: policy iteration, and the linear programme that finds its first policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlnet.mdp.certificates.undiscounted import undiscounted_bound
from rlnet.mdp.errors import UnboundedValueError
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import System
from rlnet.mdp.operators.linear_systems import SingularChainError
from rlnet.mdp.solvers.linear_programming import linear_programme
from rlnet.mdp.solvers.optimal_actions import discounted_loss, listed_pairs, near_pairs, slack_of
from rlnet.mdp.solvers.policy_iteration import (
    UnboundedLoopError,
    discounted_bound,
    made_proper,
    policy_iteration,
    warm_start,
)
from rlnet.mdp.solvers.protocol import Problem, Result, laid_out
from rlnet.mdp.solvers.value_iteration import Progress

AHEAD = 15  # backups between two evaluations: they take about as long as one


@dataclass(frozen=True)
class PolicyIteration:
    """Policy iteration by LU factors, for models of any size.

    - `programme`: its first policy is that of the linear programme (HiGHS).
    - `warm`: for small models alone, and after a few backups, which may be all that is needed.
    """

    programme: bool = False
    warm: bool = False

    def try_solve(self, problem: Problem, gamma: float, tol: float, progress: Progress) -> Result | None:
        """v*; None for a large model if this solver is `warm`."""
        if self.warm and not problem.small:
            return None
        mdp, system = problem.mdp, problem.system
        if gamma == 1.0:
            v, q, bound = self._undiscounted(system, tol, progress)
            best, loss = listed_pairs(system, v, q, bound, tol)
            return Result(v, *laid_out(mdp, q, best), bound, f"{self._name} (LU)", loss=loss)
        v, bound, done = self._discounted(system, gamma, tol, progress)
        q, slack = system.q(v, gamma), slack_of(v, bound)
        listed = laid_out(mdp, q, near_pairs(mdp.pair_ptr, q, slack))
        return Result(v, *listed, bound, done, loss=discounted_loss(bound, slack, gamma))

    @property
    def _name(self) -> str:
        return "linear_programming" if self.programme else "policy_iteration"

    def _discounted(
        self, system: System, gamma: float, tol: float, progress: Progress
    ) -> tuple[np.ndarray, float, str]:
        """(v [n], bound, what was done) at γ < 1."""
        first, how, acts = None, "LU", len(system.pair_state) > 0
        if self.programme and acts:
            first = linear_programme(system, gamma)
            how = "HiGHS gave up; LU" if first is None else "HiGHS, then LU"
        elif self.warm and acts:
            v, first, bound, sweeps = warm_start(system, gamma, tol)
            progress.sweeps += sweeps
            if bound <= tol:
                progress.report(bound)
                return v, bound, "value_iteration (Jacobi)"
        v, _ = policy_iteration(system, gamma, first, progress, AHEAD if self.warm and acts else 0)
        return v, discounted_bound(system, v, gamma), f"{self._name} ({how})"

    def _undiscounted(self, system: System, tol: float, progress: Progress) -> tuple[np.ndarray, np.ndarray, float]:
        """(v [n], q [P], bound) at γ = 1."""
        proper = made_proper(system)
        smaller, pairs = proper.system, proper.pairs
        try:
            if self.programme and len(pairs):
                first = linear_programme(smaller, 1.0)
                pairs = pairs if first is None else _proper_or(smaller, first, pairs)
            v, pairs = policy_iteration(smaller, 1.0, pairs, progress)
            bound = undiscounted_bound(smaller, v, pairs, tol)
        except UnboundedLoopError as loop:
            raise UnboundedValueError(proper.members(loop.states)) from None
        except SingularChainError as late:
            raise SingularChainError(proper.members(late.args[0])) from None
        v = v[proper.of]
        return v, system.q(v, 1.0), bound


def _proper_or(system: System, pairs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`pairs` if that policy ends from everywhere, else `other`."""
    use = np.zeros(len(system.pair_state), dtype=bool)
    use[pairs] = True
    steps = steps_to_end(system.pair_state, system.transition, system.ends, use)
    return pairs if np.isfinite(steps[system.first_pairs()[0]]).all() else other
