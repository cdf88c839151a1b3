"""A Gymnasium environment under test: copies are stepped, and shared random generators are restored."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.object_graph import Insides, global_generators, saved

NOT_MARKOV = "an observation is not a Markov state"
# What an environment may raise when it is tried out.
RAISED = (
    *(ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError, ArithmeticError, AttributeError),
    NotImplementedError,
    OSError,
)


class Result(NamedTuple):
    """The result of a step."""

    observation: Any  # hashable, equal for equal observations
    reward: float
    terminated: bool
    truncated: bool
    precision: float = 0.0  # of the reward's type, relative


def is_harmless(layer: Any) -> bool:
    """Whether a wrapper is one of Gymnasium's that change no step: checks, counters, rendering, time limits."""
    from gymnasium import wrappers as w

    harmless = (w.TimeLimit, w.OrderEnforcing, w.PassiveEnvChecker, w.RecordEpisodeStatistics)
    return type(layer) in (*harmless, w.RecordVideo, w.HumanRendering, w.RenderCollection)


def layers(env: Any) -> list[Any]:
    """The wrappers of an environment from the outside in, and itself."""
    import gymnasium as gym

    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


def step_limit(env: Any) -> int | None:
    """The time limit by TimeLimit wrappers, the specification or the environment's `max_episode_steps`."""
    from gymnasium.wrappers import TimeLimit

    limits: list[Any] = [layer._max_episode_steps for layer in layers(env) if isinstance(layer, TimeLimit)]
    limits += [
        getattr(getattr(env, "spec", None), "max_episode_steps", None) if not limits else None,
        getattr(env.unwrapped, "max_episode_steps", None),
    ]
    return min((int(limit) for limit in limits if isinstance(limit, int | np.integer) and limit > 0), default=None)


class Subject:
    """An environment under test, of which copies are stepped, without wrappers that change no step.

    Args:
        env: the environment, which stays as it is.
        table: an object that copies share among each other, since no step should change it: a large `P`.
    """

    def __init__(self, env: Any, table: Any = None) -> None:
        import gymnasium as gym

        self.name, self._kept = type(env.unwrapped).__name__, []
        while is_harmless(env):  # not even copied: a recorder would write its files
            env = env.env
        memo: dict[int, Any] = {}
        self._env = self.copied(env, memo)
        self.table = memo.get(id(table), table)  # the copies' own: nothing that they do reaches the original
        self._kept = [] if table is None else [self.table]
        self.seen: dict[Any, Any] = {}  # key → what the environment showed, of the spaces that have no numbers
        self._numbered = isinstance(env.observation_space, gym.spaces.Discrete)
        self.action_start = int(getattr(env.action_space, "start", 0))
        seen = self.look(env)
        shared = [*global_generators(), *seen.shared_generators()]
        self.shared = list({id(x): x for x in shared}.values())

    def fresh(self) -> Any:
        """A copy of the environment as it was handed over."""
        import gymnasium as gym

        env: Any = self.copied(self._env)
        layer: Any
        for layer in layers(env):
            while isinstance(layer, gym.Wrapper) and is_harmless(layer.env):
                layer.env = layer.env.env  # type: ignore[attr-defined]  # what is harmless is a wrapper
        if getattr(env.unwrapped, "render_mode", None) == "human":
            env.unwrapped.render_mode = None
        return env

    def copied(self, env: Any, memo: dict[int, Any] | None = None) -> Any:
        """A copy of a copy, its generators included; `memo` then holds what became of each object, by its id."""
        memo = {} if memo is None else memo
        memo |= {id(x): x for x in self._kept}
        try:
            return copy.deepcopy(env, memo)
        except RAISED as error:
            raise NoModelError(f"{self.name} cannot be copied, so its model cannot be tested: {error}") from error

    def look(self, env: Any) -> Insides:
        """The variables and generators of a copy."""
        return Insides(env, self._kept, is_harmless)

    def generators(self, env: Any) -> list[Any]:
        """Every generator that a step of this copy could draw from."""
        return [*self.look(env).generators, *self.shared]

    def reset(self, env: Any, seed: int | None = None) -> Any:
        """Begin an episode; the first observation, hashable."""
        try:
            return self._shown(env.reset(seed=seed)[0])
        except RAISED as error:
            raise NoModelError(f"{self.name}.reset raises {_said(error)}") from error

    def step(self, env: Any, action: int) -> Result:
        """Take an action, counted from 0."""
        try:
            observation, reward, terminated, truncated, _ = env.step(action + self.action_start)
            if not np.isfinite(float(reward)):
                raise NoModelError(f"{self.name}.step gives the reward {reward}, which must be a finite number")
            precision = 1e-6 if getattr(reward, "dtype", None) in (np.float32, np.float16) else 0.0
            return Result(self._shown(observation), float(reward), bool(terminated), bool(truncated), precision)
        except NoModelError:
            raise
        except RAISED as error:
            raise NoModelError(f"{self.name}.step({action + self.action_start}) raises {_said(error)}") from error

    def _shown(self, observation: Any) -> Any:
        key = self.key(observation)
        if not self._numbered and key not in self.seen:
            self.seen[key] = copy.deepcopy(observation)
        return key

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Context manager that restores the shared generators (of numpy, Python, torch, modules)."""
        states = [saved(x)[1] for x in self.shared]
        try:
            yield
        finally:
            for bring_back in states:
                bring_back()

    def key(self, observation: Any) -> Any:
        """A hashable key of an observation: equal for equal observations."""
        if isinstance(observation, np.ndarray | np.generic):
            array = np.asarray(observation)
            return array.item() if array.ndim == 0 else (array.shape, array.dtype.str, array.tobytes())
        if isinstance(observation, dict):
            return tuple((k, self.key(observation[k])) for k in sorted(observation))
        if isinstance(observation, list | tuple):
            return tuple(self.key(x) for x in observation)
        try:
            hash(observation)
        except TypeError as error:
            kind = type(observation).__name__
            raise NoModelError(f"{self.name}: observations of type {kind} cannot be told apart") from error
        return observation


def _said(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
