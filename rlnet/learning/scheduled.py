"""Current values of the schedules of a run: exploration, learning rate, β of prioritised replay."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config, OptimizerConfig, ReplayConfig, ScheduleConfig
from rlnet.config.population import columns
from rlnet.policies.schedules import Progress, scheduled


class Scheduled:
    """Current value of one schedule for each member: `value` [M, 1], as of the last `update`."""

    def __init__(self, config: ScheduleConfig, device: str, factor: np.ndarray | float = 1.0) -> None:
        self._config, self._device, self._factor = config, device, factor
        self.changes = config.name != "constant"
        self.value: Tensor

    def update(self, progress: Progress) -> None:
        """Bring the value up to date, as a new tensor."""
        value = np.asarray(self._factor * scheduled(self._config, progress), np.float32)
        self.value = torch.from_numpy(value).to(self._device)


class Schedules:
    """Current values of all schedules of a run; None where the run has no such schedule."""

    def __init__(self, config: Config) -> None:
        device, algo = config.device, config.algo
        rate = _arrays(columns(config, "optimizer")).learning_rate
        self.learning_rate = Scheduled(_arrays(columns(config, "optimizer.schedule")), device, rate)
        self.explore = self.correction = None
        if config.schedule.name != "none":
            self.explore = Scheduled(_arrays(columns(config, "schedule")), device)
        if isinstance(algo, ReplayConfig):
            self.correction = Scheduled(_arrays(columns(config, "algo.correction")), device)
        self._steps, every = config.steps, (self.learning_rate, self.explore, self.correction)
        self._following = [number for number in every if number is not None]

    def update(self, steps: np.ndarray, episodes: np.ndarray) -> None:
        """Bring the numbers up to date.

        Args:
            steps: int64 [M], done by each member.
            episodes: int64 [M], finished by each member.
        """
        if self._following:
            done = np.minimum(steps / self._steps, 1.0).astype(np.float32)
            progress = Progress(done[:, None], episodes[:, None].copy())
            for number in self._following:
                number.update(progress)
            self._following = [number for number in self._following if number.changes]


def _arrays(config: ScheduleConfig | OptimizerConfig) -> Any:
    """A config with columns of tensors as one with arrays."""
    own = {item.name: getattr(config, item.name) for item in fields(config)}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in own.items() if isinstance(value, Tensor)}
    return replace(config, **arrays)
