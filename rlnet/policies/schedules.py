"""Schedules (constant, linear, exponential, cosine, piecewise, by episodes): pure functions of training progress."""

from typing import NamedTuple

import numpy as np

from rlnet.config import (
    SCHEDULES,
    ConstantConfig,
    EpisodesConfig,
    PiecewiseConfig,
    RampConfig,
    ScheduleConfig,
    register_schedule,
)


class Progress(NamedTuple):
    """Progress of each member, from which schedules are computed (in numpy on every device)."""

    done: np.ndarray  # float32 [M, 1], the share of its steps in [0, 1]
    episodes: np.ndarray  # int64 [M, 1], episodes that it has finished


@register_schedule("constant", ConstantConfig)
def constant(config: ConstantConfig, progress: Progress) -> np.ndarray:
    """Constant schedule: always `value`."""
    return np.zeros_like(progress.done) + config.value


def _way(config: RampConfig, progress: Progress) -> np.ndarray:
    """The share of the decay from `start` to `end` that is done, in [0, 1]."""
    return np.minimum(progress.done / config.fraction, 1.0)


@register_schedule("linear", RampConfig)
def linear(config: RampConfig, progress: Progress) -> np.ndarray:
    """Linear schedule from `start` to `end` over the first `fraction` of the run, then `end`."""
    return config.start + (config.end - config.start) * _way(config, progress)


@register_schedule("exponential", RampConfig)
def exponential(config: RampConfig, progress: Progress) -> np.ndarray:
    """Exponential schedule start·(end/start)^x, x the share of the first `fraction` of the run."""
    return config.start * (config.end / config.start) ** _way(config, progress)


@register_schedule("cosine", RampConfig)
def cosine(config: RampConfig, progress: Progress) -> np.ndarray:
    """Cosine schedule from `start` to `end` (Loshchilov & Hutter 2017, eq. 5)."""
    return config.end + (config.start - config.end) * 0.5 * (1 + np.cos(np.pi * _way(config, progress)))


@register_schedule("piecewise", PiecewiseConfig)
def piecewise(config: PiecewiseConfig, progress: Progress) -> np.ndarray:
    """Piecewise linear schedule; constant before the first and after the last point."""
    at, values = np.array(config.at), np.array(config.values)
    # Between points k and k + 1 the line has gone `part` of the way.
    length = np.maximum(at[1:] - at[:-1], 1e-12)
    part = ((progress.done[..., None] - at[:-1]) / length).clip(0, 1)
    return values[0] + (part * (values[1:] - values[:-1])).sum(-1)


@register_schedule("episodes", EpisodesConfig)
def episodes(config: EpisodesConfig, progress: Progress) -> np.ndarray:
    """Schedule by episodes: max(end, start·decay^k) after k finished episodes."""
    return np.maximum(config.start * config.decay**progress.episodes, config.end)


def scheduled(config: ScheduleConfig, progress: Progress) -> np.ndarray:
    """Evaluate a schedule.

    Args:
        config: settings of the schedule, numbers or arrays [M, 1].
        progress: of each member.

    Returns:
        float32 [M, 1].

    Raises:
        ConfigError: there is no schedule of this name.
    """
    return SCHEDULES[config.name].function(config, progress).astype(np.float32)
