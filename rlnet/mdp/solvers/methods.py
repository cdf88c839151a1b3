"""The methods of `solve`: which solvers each asks, the cheapest first."""

from __future__ import annotations

from rlnet.mdp.solvers.factoring import PolicyIteration
from rlnet.mdp.solvers.protocol import Solver
from rlnet.mdp.solvers.small.table_solvers import SMALL
from rlnet.mdp.solvers.sweeping import Sweeping

ITERATIVE = ("value_iteration", "gauss_seidel", "modified_policy_iteration")

SOLVERS: dict[str, tuple[Solver, ...]] = {
    "auto": (SMALL, PolicyIteration(warm=True), Sweeping("modified_policy_iteration", sorts=True)),
    **{method: (Sweeping(method),) for method in ITERATIVE},
    "policy_iteration": (PolicyIteration(),),
    "linear_programming": (PolicyIteration(programme=True),),
}

METHODS = tuple(SOLVERS)
