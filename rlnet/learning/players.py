"""Action functions of trained policies in evaluation: greedy, with exploration, given, or by tree search."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import Plan, Planner
from rlnet.data.rollout import Observation
from rlnet.learning.trained import Trained

Choose = Callable[[Observation, Tensor], Tensor]  # (observations, uniform numbers) → actions


@dataclass(frozen=True)
class MoveSearch:
    """Tree search by the networks of M members without exploration noise."""

    planner: Planner
    simulations: int

    def __call__(self, obs: Any) -> Plan:
        """Search from observations [M, N, ...]."""
        return self.planner(np.asarray(obs), 0, None)


def search_of(trained: Trained, simulations: int | None = None) -> MoveSearch | None:
    """Make the tree search by which a trained policy acts; None where its algorithm has none.

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


def chooser(trained: Trained, policy: str) -> Choose:
    """Make the action function of a policy: `greedy`, `behaviour` (with exploration) or `given`."""
    sample = trained.context.actions.sample
    search = search_of(trained) if policy == "greedy" else None
    if search is not None:

        def searching(seen: Observation, uniform: Tensor) -> Tensor:
            return sample(torch.from_numpy(search(seen.obs.cpu().numpy()).policy).to(uniform.device), uniform)

        return searching
    if policy == "behaviour":
        return lambda seen, uniform: sample(trained.acting(seen), uniform)
    if policy == "given":
        return lambda seen, uniform: sample(trained.given(seen), uniform)

    def greedy(seen: Observation, uniform: Tensor) -> Tensor:
        probabilities = trained.greedy(seen)  # ties are broken at random, as the exact scores have it
        return trained.best(seen) if probabilities is None else sample(probabilities, uniform)

    return greedy


def observation(obs: Any, mask: Any, device: torch.device) -> Observation:
    """Convert observations and masks to tensors, by copies: observations may be read-only arrays."""
    allowed = None if mask is None else torch.from_numpy(np.array(mask)).to(device)
    return Observation(torch.from_numpy(np.array(obs)).to(device), allowed)
