"""Collecting data for a run: its collector, and episodes that are sampled again."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from rlnet.config import AlgoConfig, Config, require
from rlnet.data.collector import Collector
from rlnet.data.interfaces import Choose
from rlnet.data.rollout import Rollout, copied, with_environments
from rlnet.experiment.constrained import constrained
from rlnet.experiment.problem import Problem


def make_collector(config: Config, problem: Problem, gamma: Tensor) -> Collector:
    """Make the environments of a run and the collector that steps them.

    Args:
        config: a checked config.
        problem: what it builds.
        gamma: [M, 1].

    Raises:
        ConfigError: episodes of a group cannot start in the same state.
    """
    algorithm, seeds, watched = problem.algorithm, config.member_seeds, constrained(config)
    device = None if config.device == "cpu" else config.device
    simulation: Any = problem.environment.simulate(seeds, config.algo.envs, device)
    if watched:
        simulation.watch(problem.watched)
    collector = Collector(
        simulation,
        seeds,
        config.algo.envs,
        config.algo.rollout,
        gamma,
        problem.context.actions,
        lookback=0 if algorithm.data.whole_episodes else algorithm.data.lookback,
        whole_episodes=algorithm.data.whole_episodes,
        game=problem.environment.game,
        full=algorithm.data.replay,
        watched=watched,
        searched=None if algorithm.acting.planner is None else problem.context.actions.outputs,
    )
    _begin_together(simulation, config.algo)
    return collector


def _begin_together(simulation: Any, algo: AlgoConfig) -> None:
    """Have the environments of a group start their episodes in the same state."""
    group = algo.options.get("group", 1)
    if group == 1:
        return
    inner = getattr(simulation, "simulation", simulation)  # of one that converts arrays to tensors of a device
    allowed = f"algo={algo.name} compares episodes that start in the same state, which is not supported here; use 1"
    require(hasattr(inner, "group"), "algo.options.group", group, allowed)
    inner.group = group


def resampled(
    rollout: Rollout, collector: Collector, choose: Choose, unwanted: Callable[[Rollout, int], Tensor | None]
) -> tuple[Rollout, list[tuple[Rollout, np.ndarray]]]:
    """Replace episodes by newly sampled ones while an algorithm wants it (dynamic sampling).

    Args:
        rollout: of whole episodes, [T, M, N].
        collector: that collected it.
        choose: the action function that it was collected with.
        unwanted: (rollout, draws so far) → bool [M, N], the episodes to be sampled again; None: none.

    Returns:
        The rollout with the new episodes, and all that was played for it: rollouts and their numbers of steps [M];
        empty where nothing was sampled again.
    """
    which = unwanted(rollout, 0)
    if which is None or not which.any():
        return rollout, []
    kept = copied(rollout)
    played = [(kept, collector.new_steps)]
    while which is not None and which.any():
        draws = len(played)
        again = copied(collector.collect_again(choose, which, draws - 1))
        played.append((again, collector.new_steps))
        kept = with_environments(kept, again, which)
        which = unwanted(kept, draws)
    return kept, played
