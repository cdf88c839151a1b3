"""Simulators under audit, N environments each: rlnet's simulation, one Gymnasium environment, a vector of them.

Nothing is corrected on the way: what a simulator reports on the step of a reset is part of the evidence.
"""

from collections import Counter
from typing import Any, NamedTuple, Protocol, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv

from rlnet.envs.encoding import encoder_of

# Rewards that travel as float32 agree with the model's float64 only so far, relative to max(1, |r|).
SINGLE_PRECISION, DOUBLE_PRECISION = 1e-6, 1e-12


class Seen(NamedTuple):
    """One step of N environments, as reported."""

    next_obs: np.ndarray  # [N] the successor, at an end the final observation
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # bool [N]
    truncated: np.ndarray  # bool [N]
    valid: np.ndarray  # bool [N]: a transition; False: the step was a reset, which takes no action
    obs: np.ndarray  # [N] to act on next
    began: np.ndarray  # bool [N]: `obs` is the first one of an episode


class Source(Protocol):
    """Interface of N environments that can be stepped."""

    name: str
    envs: int  # N
    tolerance: float  # to which rewards are compared
    faults: Counter  # what the simulator did against its own protocol, a sentence → how often

    def reset(self) -> np.ndarray: ...

    def step(self, action: np.ndarray) -> Seen: ...


class Reader:
    """Observations of an environment as the numbers of states, counted from 0, or as rows of numbers.

    Args:
        space: of one observation, as `rlnet.envs.spaces.observed` gives it.
    """

    def __init__(self, space: Any) -> None:
        self._space, self._encoder = space, encoder_of(space)

    def many(self, obs: Any, envs: int) -> np.ndarray:
        """The observations of `envs` environments: int [N], or [N, F]."""
        if isinstance(self._space, Discrete):
            return np.array(obs) - int(self._space.start)
        if self._encoder is not None:
            return self._encoder.rows(obs, envs, "step")
        return np.array(obs, np.float32).reshape(envs, -1)

    def one(self, obs: Any) -> np.ndarray:
        """One observation: int [], or [F]."""
        if isinstance(self._space, Discrete):
            return np.array(obs) - int(self._space.start)
        return np.array(obs, np.float32).ravel() if self._encoder is None else self._encoder.row(obs, "step")


class PopulationSource:
    """rlnet's simulation of a population, M × N environments in one row."""

    def __init__(self, name: str, simulation: Any) -> None:
        self.name, self.envs, self.tolerance = name, simulation.members * simulation.envs, SINGLE_PRECISION
        self.faults: Counter = Counter()
        self._simulation = simulation

    def reset(self) -> np.ndarray:
        """The first observations [N]."""
        return _in_a_row(self._simulation.reset())

    def step(self, action: np.ndarray) -> Seen:
        """Take `action` [N]."""
        step = self._simulation.step(action.reshape(self._simulation.members, -1))
        next_obs, reward, terminated, truncated, valid, obs = (_in_a_row(x) for x in step[:6])
        both = int((terminated & truncated).sum())
        if both:
            self.faults["a step is both terminated and truncated"] += both
        return Seen(next_obs, reward, terminated, truncated, valid, obs, terminated | truncated)


class SingleSource:
    """One Gymnasium environment, which is reset after each end."""

    envs = 1

    def __init__(self, name: str, env: gymnasium.Env, seed: int, tolerance: float = DOUBLE_PRECISION) -> None:
        self.name, self.tolerance = name, tolerance
        self.faults: Counter[str] = Counter()
        self._env, self._seed = env, seed
        self._reader, self._action = Reader(env.observation_space), int(cast(Discrete, env.action_space).start)

    def reset(self) -> np.ndarray:
        """The first observation [1]."""
        return self._reader.one(self._env.reset(seed=self._seed)[0])[None]

    def step(self, action: np.ndarray) -> Seen:
        """Take `action` [1]."""
        next_obs, reward, terminated, truncated, _ = self._env.step(int(action[0]) + self._action)
        ended = bool(terminated or truncated)
        last = self._reader.one(next_obs)
        obs = self._reader.one(self._env.reset()[0]) if ended else last
        columns = (last, float(reward), bool(terminated), bool(truncated), True, obs, ended)
        return Seen(*(np.array([x]) for x in columns))


class VectorSource:
    """A Gymnasium vector environment in the autoreset mode that its metadata names."""

    def __init__(self, name: str, env: VectorEnv, seed: int, tolerance: float = DOUBLE_PRECISION) -> None:
        self.name, self.envs, self.tolerance = name, env.num_envs, tolerance
        self.faults: Counter[str] = Counter()
        self._env, self._seed = env, seed
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        self._pending = np.zeros(env.num_envs, dtype=bool)  # NEXT_STEP: the next step is a reset
        self._reader = Reader(env.single_observation_space)
        self._action = int(cast(Discrete, env.single_action_space).start)

    def reset(self) -> np.ndarray:
        """The first observations [N]."""
        return self._reader.many(self._env.reset(seed=self._seed)[0], self.envs)

    def step(self, action: np.ndarray) -> Seen:
        """Take `action` [N]."""
        said, reward, terminated, truncated, infos = self._env.step(action + self._action)
        flags = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        obs, ended, everywhere = self._reader.many(said, self.envs), flags[0] | flags[1], np.ones(self.envs, dtype=bool)
        if self._mode is AutoresetMode.NEXT_STEP:
            resets, self._pending = self._pending, ended & ~self._pending
            return Seen(obs, np.array(reward), *flags, ~resets, obs, resets)
        final = obs.copy()
        if ended.any() and self._mode is AutoresetMode.SAME_STEP:
            for n in np.flatnonzero(ended).tolist():
                final[n] = self._final(infos, n, obs[n])
        elif ended.any():
            fresh = self._reader.many(self._env.reset(options={"reset_mask": ended})[0], self.envs)
            moved = int(((fresh != obs).reshape(self.envs, -1).any(-1) & ~ended).sum())
            if moved:
                self.faults["a masked reset moves environments that it should leave alone"] += moved
            obs = fresh
        return Seen(final, np.array(reward), *flags, everywhere, obs, ended)

    def _final(self, infos: dict[str, Any], n: int, instead: Any) -> Any:
        final = infos.get("final_obs")
        if final is None or final[n] is None:
            self.faults["an episode ends under SAME_STEP without infos['final_obs']"] += 1
            return instead
        return self._reader.one(final[n])


def _in_a_row(x: np.ndarray) -> np.ndarray:
    """A copy of [M, N, ...] as [M·N, ...]."""
    return x.reshape(-1, *x.shape[2:]).copy()
