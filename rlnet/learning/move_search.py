"""The search of a trained policy: how it moves in play, and what it expects."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlnet.algos.algorithm import Plan, Planner
from rlnet.learning.trained import Trained


@dataclass(frozen=True)
class MoveSearch:
    """A search by the networks of M members, as it plays to win: without noise."""

    planner: Planner
    simulations: int

    def __call__(self, obs: Any) -> Plan:
        """What it finds from observations [M, N, ...]."""
        return self.planner(np.asarray(obs), 0, None)


def search_of(trained: Trained, simulations: int | None = None) -> MoveSearch | None:
    """The search by which a trained policy acts; None where its algorithm acts without one.

    Args:
        trained: of M members.
        simulations: of each search; None: as many as in training.
    """
    planner, context = trained.algorithm.acting.planner, trained.context
    if planner is None:
        return None
    if simulations is not None:
        context = replace(context, options={**context.options, "simulations": simulations})
    return MoveSearch(planner(context, trained.params, trained.hyper), context.options["simulations"])
