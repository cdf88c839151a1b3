"""The protocol of solvers: values of a model, or None to leave it to the next solver."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.operators.bellman import System, system_of
from rlnet.mdp.solvers.policy_iteration import DIRECT_STATES
from rlnet.mdp.solvers.value_iteration import Progress


class Problem(NamedTuple):
    """A model and the device on which it is solved."""

    mdp: FiniteMDP
    device: str = "cpu"

    @property
    def system(self) -> System:
        """The Bellman backup of the model."""
        return system_of(self.mdp)

    @property
    def small(self) -> bool:
        """Whether the model is small enough for methods that factor matrices or use no compiled code."""
        return self.device == "cpu" and self.mdp.n_states <= DIRECT_STATES


class Result(NamedTuple):
    """The solution of a model, or of a part of it. S states, A actions."""

    v: np.ndarray  # float64 [S]
    q: np.ndarray  # float64 [S, A], −inf where the action is not available
    policy: np.ndarray  # float64 [S, A], uniform over the listed actions
    bound: float  # max |v − v*|, proved
    done: str  # `Solution.method`
    bounds: np.ndarray | None = None  # float64 [S], of each state; None: `bound`
    loss: float = np.inf  # proved: of every policy over the listed actions


class Solver(Protocol):
    """A solver of the Bellman optimality equation."""

    def try_solve(self, problem: Problem, gamma: float, tol: float, progress: Progress) -> Result | None:
        """v* within `tol`, or as near as this solver comes; None where the model does not suit it.

        Raises ImproperPolicyError or UnboundedValueError with states (int, args[0]) whose value is not finite.
        """
        ...


def laid_out(mdp: FiniteMDP, q: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q [S, A], policy [S, A]) from q and the listed ones among the pairs, [P]."""
    place = mdp.n_actions * mdp.pair_state.astype(np.intp) + mdp.pair_action  # in a flat table: one index is faster
    table = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    table.reshape(-1)[place] = q
    policy = np.zeros((mdp.n_states, mdp.n_actions))
    policy.reshape(-1)[place] = best
    policy /= np.maximum(policy.dot(np.ones(mdp.n_actions)), 1.0)[:, None]
    return table, policy
