"""Planning: search trees over a deterministic model, guided by a prior policy and a value function."""

from rlnet.planning.dynamics import Dynamics, NotDeterministicError, RulesDynamics, TableDynamics
from rlnet.planning.reachable_states import policy_where_reachable
from rlnet.planning.symmetries import Symmetries
from rlnet.planning.tree_search import (
    Evaluate,
    Evaluated,
    Found,
    Gumbel,
    Puct,
    gumbel_noise,
    priors,
    root_noise,
    search,
)

__all__ = [
    "Dynamics",
    "Evaluate",
    "Evaluated",
    "Found",
    "Gumbel",
    "NotDeterministicError",
    "Puct",
    "RulesDynamics",
    "Symmetries",
    "TableDynamics",
    "gumbel_noise",
    "policy_where_reachable",
    "priors",
    "root_noise",
    "search",
]
