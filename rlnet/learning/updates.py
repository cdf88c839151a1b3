"""Optimiser steps for one rollout: on all of it, on minibatches, or on replay batches; and the numbers for the log."""

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.context import Hyper
from rlnet.config import Config, ConfigError, EpochsConfig
from rlnet.data.replay_buffer import Replay
from rlnet.data.rollout import Rollout, minibatches, rows_in_order
from rlnet.learning.training_state import TrainingState

# Names of the scheduled exploration parameter in the log.
SCHEDULED_AS = {
    "epsilon_greedy": "explore/epsilon",
    "softmax": "explore/temperature",
    "count_bonus": "explore/bonus",
    "entropy": "explore/entropy_factor",
}


def learn(state: TrainingState, rollout: Rollout) -> Callable[[], dict[str, Tensor]]:
    """Take the optimiser steps for a rollout: on all of it, on its minibatches, or on replay batches.

    Returns:
        A function that computes, until the next rollout is collected, the metrics of the last step, or where rows are
        learned from one by one their means: [M] each.
    """
    if state.replay is not None:
        return _learn_from_replay(state, rollout)
    metrics = _learn_from_rollout(state, _prepared(state, state.charged(rollout)), state.hyper())
    state.count(rollout)
    return metrics


def _prepared(state: TrainingState, rollout: Rollout) -> Rollout:
    """Add the columns of `Update.prepare` to a rollout."""
    prepare = state.problem.algorithm.update.prepare
    if prepare is None:
        return rollout
    with torch.no_grad():
        extra = prepare(state.problem.context, state.learner.params, rollout, state.hyper())
    return rollout.replace(extra=extra)


def _learn_from_rollout(state: TrainingState, rollout: Rollout, hyper: Hyper) -> Callable[[], dict[str, Tensor]]:
    algorithm, learner, algo, rate = state.problem.algorithm, state.learner, state.config.algo, state.learning_rate
    if algorithm.update.row_by_row:
        steps = [learner.step(row, hyper, rate) for row in rows_in_order(rollout, algorithm.data.lookback)]
        return lambda: _means([step.metrics for step in steps])
    if not isinstance(algo, EpochsConfig):
        step = learner.step(rollout, hyper, rate)
        return lambda: step.metrics
    stops = "stop_at_kl" in hyper and bool((hyper["stop_at_kl"] < torch.inf).any())
    for batch in _epochs(state, rollout, algo):
        step = learner.step(batch, hyper, rate)
        if stops:  # a member whose policy has moved far enough stops until the next rollout
            rate = rate * (1 - step.metrics["stop"]).unsqueeze(-1)
    return lambda: {name: value for name, value in step.metrics.items() if name != "stop"}


def _epochs(state: TrainingState, rollout: Rollout, algo: EpochsConfig) -> Iterator[Rollout]:
    """The minibatches of all epochs."""
    if state.problem.algorithm.data.whole_episodes:  # which stay whole
        yield from repeat(rollout, algo.epochs)
        return
    if algo.minibatches == 1:  # all rows, whose order does not matter
        yield from repeat(next(minibatches(rollout, None, 1)), algo.epochs)
        return
    rows = rollout.weight.shape[0] * rollout.weight.shape[2]
    for order in state.shuffle.permutation(algo.epochs, rows).unbind(1):
        yield from minibatches(rollout, order, algo.minibatches)


def _means(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of metrics [M] over steps, leaving out the steps in which a member had nothing to learn from (NaN)."""
    return {name: torch.stack([metrics[name] for metrics in steps]).nanmean(0) for name in (steps or [{}])[0]}


def _learn_from_replay(state: TrainingState, rollout: Rollout) -> Callable[[], dict[str, Tensor]]:
    learner, replay, algo = state.learner, cast(Replay, state.replay), state.algo
    replay.add(_prepared(state, rollout))
    state.count(rollout)
    first = max(algo.learning_starts, replay.steps * algo.envs)  # a segment of every environment at least
    while len(replay) < first:
        rollout = state.collect()
        replay.add(_prepared(state, rollout))
        state.count(rollout)
    hyper, rate, more = state.hyper(), state.learning_rate, {}
    for _ in range(algo.updates):
        batch = state.charged(replay.sample(state.correction) if replay.prioritised else replay.sample())
        step = learner.step(batch, hyper, rate)
        if replay.prioritised:
            allowed = f"prioritised replay is not supported with algo={algo.name}, whose loss gives no TD errors; use 0"
            if step.error is None:
                raise ConfigError(f"algo.priority={algo.priority}: {allowed}")
            replay.prioritise(batch, step.error)
            more = {"replay/correction": state.correction.squeeze(-1)}
        state.updates += 1
        if learner.target is None:
            continue
        if algo.target_rate is not None:
            learner.follow(algo.target_rate)
        elif state.updates % algo.target_every == 0:
            learner.follow(1.0)
    return lambda: {**step.metrics, **more}


def updates_until(config: Config, steps: Tensor, until: int) -> int:
    """How many updates it takes at least until a member has done `until` steps, or all have done theirs.

    Args:
        steps: [M], of each member so far.
    """
    each = config.algo.envs * config.algo.rollout  # an update adds at most so many
    left = min(until - int(steps.max()), config.steps - int(steps.min()))
    return max(1, -(-left // each))


def logged(state: TrainingState, metrics: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Current metrics for the log, [M] each: episodes, losses, exploration and learning rate.

    Args:
        metrics: of the last update, see `learn`.
    """
    tensors = state.collector.episodes() | dict(metrics)
    if state.config.exploration.name in SCHEDULED_AS:
        tensors[SCHEDULED_AS[state.config.exploration.name]] = state.explore.squeeze(-1)
    if state.learner.layout.noisy:
        tensors["explore/sigma"] = state.learner.layout.deviations(state.learner.theta).abs().mean(1)
    if state.constraint is not None:
        tensors |= state.constraint.logged()
    tensors["optimizer/learning_rate"] = state.learning_rate.squeeze(-1)
    return {name: tensor.double().cpu().numpy() for name, tensor in tensors.items()}
