"""Solvers by sweeps, compiled or on a GPU: value iteration, Gauss-Seidel and modified policy iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from rlnet.mdp.certificates.undiscounted import undiscounted_bound
from rlnet.mdp.errors import UnboundedValueError
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import end_components
from rlnet.mdp.model.topological_order import Ordered, ordered, seems_acyclic
from rlnet.mdp.operators.bellman import System
from rlnet.mdp.operators.linear_systems import SingularChainError
from rlnet.mdp.solvers.optimal_actions import discounted_loss, listed_pairs, near_pairs, slack_of
from rlnet.mdp.solvers.policy_iteration import UnboundedLoopError, greedy_and_proper, made_proper, policy_iteration
from rlnet.mdp.solvers.protocol import Problem, Result, laid_out
from rlnet.mdp.solvers.value_iteration import Progress, UndiscountedSweeps, certify, discounted

if TYPE_CHECKING:  # numba is imported by the large problems alone
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

Swept = tuple[np.ndarray, np.ndarray, float, str]  # v [n], q [P], bound, what was done
SORTED = "in topological order"


@dataclass(frozen=True)
class Sweeping:
    """An iterative method, for every model. With `sorts`, states are swept in topological order where there
    are hardly any cycles."""

    method: str
    sorts: bool = False

    def try_solve(self, problem: Problem, gamma: float, tol: float, progress: Progress) -> Result | None:
        """v*, or the best values so far after KeyboardInterrupt."""
        mdp, on_cpu = problem.mdp, problem.device == "cpu"
        sort = self.sorts and on_cpu and seems_acyclic(mdp)
        if gamma == 1.0:
            v, q, bound, done = self._undiscounted(problem, tol, progress, sort)
            best, loss = listed_pairs(problem.system, v, q, bound, tol)
            return Result(v, *laid_out(mdp, q, best), bound, done, loss=loss)
        v, q, bound, done = self._discounted(problem, gamma, tol, progress, sort)
        slack = slack_of(v, bound)
        if on_cpu:
            from rlnet.mdp.solvers.compiled.sweeps import tabulated

            listed = tabulated(mdp, q, slack)
        else:
            listed = laid_out(mdp, q, near_pairs(mdp.pair_ptr, q, slack))
        return Result(v, *listed, bound, done, loss=discounted_loss(bound, slack, gamma))

    def _discounted(self, problem: Problem, gamma: float, tol: float, progress: Progress, sort: bool) -> Swept:
        """(v [n], q [P], bound, what was done) at γ < 1."""
        order = ordered(problem.system) if sort else None
        sweeps = _sweeps(problem.mdp, gamma, problem.device) if order is None else _in_order(order, gamma)
        try:
            sweeps.start()
            bound, done = discounted(sweeps, tol, self.method, progress)
        except KeyboardInterrupt:
            progress.interrupted = True
            bound, done = certify(sweeps), f"{self.method}, interrupted"
        v, q = sweeps.values(), sweeps.action_values()
        if order is None:
            return v, q, bound, done
        return v[order.rank], q[order.pair_rank], bound, f"{done}, {SORTED}"

    def _undiscounted(self, problem: Problem, tol: float, progress: Progress, sort: bool) -> Swept:
        """The same at γ = 1."""
        proper = made_proper(problem.system)
        try:
            v, bound, done = self._swept(proper.system, proper.pairs, problem.device, tol, progress, sort)
        except UnboundedLoopError as loop:
            raise UnboundedValueError(proper.members(loop.states)) from None
        except SingularChainError as late:
            raise SingularChainError(proper.members(late.args[0])) from None
        v = v[proper.of]
        return v, problem.system.q(v, 1.0), bound, done

    def _swept(
        self, system: System, pairs: np.ndarray, device: str, tol: float, progress: Progress, sort: bool
    ) -> tuple[np.ndarray, float, str]:
        """(v [n], bound, what was done) of a problem at γ = 1 in which the policy `pairs` ends from everywhere."""
        from rlnet.mdp.solvers.undiscounted import from_below, reached, undiscounted

        order = ordered(system) if sort else None
        if order is None:
            sweeps, place, number = _sweeps(system, 1.0, device), np.arange(system.n), np.arange(len(system.pair_state))
        else:
            sweeps, place, number = _in_order(order, 1.0), order.rank, order.pair_rank
        first = np.full(system.n, -1, dtype=np.int64)
        first[place[system.first_pairs()[0]]] = number[pairs]
        try:
            bound, done = undiscounted(sweeps, tol, self.method, progress, first, _patience(system, self.method))
            settled = np.isfinite(bound) or progress.exhausted
            if not settled:
                from_below(sweeps, tol, progress, first)
        except KeyboardInterrupt:
            progress.interrupted = True
            bound = reached(sweeps, progress)
            return sweeps.values()[place], bound, f"{self.method}, interrupted"
        if not settled:
            # Exact policy iteration finds the loop that pays, or the value if there is one.
            pairs = greedy_and_proper(system, sweeps.values()[place], pairs)
            v, pairs = policy_iteration(system, 1.0, pairs, progress)
            return v, undiscounted_bound(system, v, pairs, tol), f"{self.method}, then policy_iteration (LU)"
        return sweeps.values()[place], bound, done if order is None else f"{done}, {SORTED}"


def _sweeps(model: FiniteMDP | System, gamma: float, device: str) -> UndiscountedSweeps:
    if device == "cpu":
        from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

        return PackedSweeps(model, gamma)
    from rlnet.mdp.solvers.gpu.sweeps import TorchSweeps

    return cast(UndiscountedSweeps, TorchSweeps(model, gamma, device))  # its v is a tensor, which nobody here reads


def _in_order(order: Ordered, gamma: float) -> PackedSweeps:
    """Sweeps from the ends backwards. The first settles what is acyclic, and over-relaxation would unsettle it."""
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

    sweeps = PackedSweeps(order.system, gamma)
    sweeps.keep_order(relax=not order.acyclic)
    return sweeps


def _patience(system: System, method: str) -> int:
    """Rounds without progress before sweeping is given up for exact policy iteration. Without a reward inside a loop,
    sweeping must settle, but some policy may go on for very long; with one, the loop may pay, or cancel out. A round
    is one sweep of value iteration, dozens or hundreds of the others. Chances that are not tiny carry values through n
    states in n² sweeps; a small model is solved exactly in less time than more of them take."""
    suspects = (system.reward > 0.0) & ~system.ends
    if suspects.any():
        _, inside = end_components(system.pair_state, system.transition, ~system.ends)
        if (suspects & inside).any():
            return 200 if method == "value_iteration" else 10
    return min(1_000 + 50 * system.n**2, 100_000) if method == "value_iteration" else 8
