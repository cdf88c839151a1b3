"""Scheduled numbers of a run: exploration, learning rate, correction; one for each member."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.config import OptimizerConfig, ScheduleConfig
from rlnet.policies.schedules import Progress, scheduled


def arrays(config: ScheduleConfig | OptimizerConfig) -> Any:
    """A config with columns of tensors as one with arrays."""
    own = {item.name: getattr(config, item.name) for item in fields(config)}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in own.items() if isinstance(value, Tensor)}
    return replace(config, **arrays)


class Scheduled:
    """Cached value [M, 1] of a schedule, computed again when progress has been made."""

    def __init__(self, config: ScheduleConfig, device: str, factor: np.ndarray | float = 1.0) -> None:
        self._config, self._device, self._factor = config, device, factor
        self._progress: Progress | None = None  # that `_value` is of
        self._value: Tensor | None = None

    def at(self, now: Callable[[], Progress]) -> Tensor:
        """The current value [M, 1], a cached tensor; do not modify in place."""
        if self._value is not None and self._config.name == "constant":
            return self._value
        progress = now()
        if self._value is None or progress is not self._progress:
            value = np.asarray(self._factor * scheduled(self._config, progress), np.float32)
            self._progress, self._value = progress, torch.from_numpy(value).to(self._device)
        return self._value
