"""Environments that do one thing wrong, at one step of their life."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

MISTAKES: dict[str, Any] = {  # name → what stands in place of (which entry of the tuple of `step`, its value)
    "reward_nan": (1, float("nan")),
    "reward_inf": (1, float("-inf")),
    "reward_none": (1, None),
    "reward_huge": (1, 1e300),
    "obs_huge": (0, np.array([0.0, 1e300, 0.0])),
    "text": (1, "1.0"),
    "flag": (2, 1),
    "no_flag": (3, None),
    "obs_nan": (0, np.array([0.0, np.nan, 0.0], np.float32)),
    "obs_inf": (0, np.array([0.0, np.inf, 0.0], np.float32)),
    "shape": (0, np.zeros(1, np.float32)),
    "letters": (0, np.array(["a", "b", "c"])),
    "bounds": (0, np.array([0.0, 7.0, 0.0], np.float32)),
    "beyond": (0, 9),
    "fraction": (0, 2.5),
    "obs_none": (0, None),
}


class Wrong(gymnasium.Env):
    """Episodes of 10 steps; from the step number `at` of its life on it does as `mistake` says."""

    def __init__(self, mistake: str = "", discrete: bool = False, at: int = 25) -> None:
        self.mistake, self.discrete, self.at, self.age, self.time = mistake, discrete, at, 0, 0
        kind = np.float64 if mistake == "obs_huge" else np.float32
        self.observation_space = spaces.Discrete(5) if discrete else spaces.Box(-1, 1, (3,), kind)
        self.action_space = spaces.Discrete(2)

    def _see(self) -> Any:
        return int(self.np_random.integers(5)) if self.discrete else np.full(3, 0.5, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        if self.mistake == "reset" and self.age >= self.at:
            raise KeyError("no room")
        return self._see(), {}

    def step(self, action):
        self.time, self.age = self.time + 1, self.age + 1
        said = [self._see(), 1.0, False, self.time >= 10, {}]
        if self.age < self.at:
            return tuple(said)
        if self.mistake == "raise":
            raise ValueError("5 % of it\nis broken")
        if self.mistake == "four":
            return tuple(said[:4])
        if self.mistake in MISTAKES:
            place, value = MISTAKES[self.mistake]
            said[place] = value
        return tuple(said)


def wrong_vector(num_envs: int = 1, **options: Any) -> SyncVectorEnv:
    """The same as a vector environment of its own, without any checks."""
    return SyncVectorEnv([lambda: Wrong(**options)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


gymnasium.register("Wrong-v0", Wrong)
gymnasium.register("WrongVector-v0", Wrong, vector_entry_point=wrong_vector)
