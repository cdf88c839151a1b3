"""Who moves in whole episodes: the learned policy in its forms, and the search by which it may act."""

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


def chooser(trained: Trained, policy: str) -> Choose:
    """How a policy chooses: greedy, behaviour or given; see `rlnet.learning.evaluation.evaluate`."""
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
    """Arrays as tensors; copies, since what an environment shows may be read-only."""
    allowed = None if mask is None else torch.from_numpy(np.array(mask)).to(device)
    return Observation(torch.from_numpy(np.array(obs)).to(device), allowed)
