"""Checks of what other people's environments return, so that their mistakes are reported as such.

`Checked` looks at one environment, wherever it runs; `fault_in` at what many of them gave, in whole arrays.
"""

import math
from copy import deepcopy
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from rlnet.envs.actions import Actions
from rlnet.envs.encoding import encoder_of
from rlnet.envs.faults import EnvironmentFault, array_of, fault_of, shown
from rlnet.envs.infos import truth
from rlnet.envs.limits import held, why_not_held
from rlnet.envs.masks import checked_mask, split
from rlnet.envs.spaces import MASK, observed
from rlnet.numerics.random_streams import Array

VECTOR = ("final_obs", "final_info")  # keys that vector environments write into infos


class Five(gymnasium.Wrapper):
    """Wrapper that checks that a step returns five values and a reset two."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return _tuple("reset", self.env.reset(seed=seed, options=options), 2, "(observation, info)")

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        said = self.env.step(action)
        return _tuple("step", said, 5, "(observation, reward, terminated, truncated, info)")


class Checked(gymnasium.Wrapper):
    """Wrapper that turns exceptions and invalid results of an environment into an `EnvironmentFault`.

    Its infos hold what is read of them: the `action_mask`, whether the event happened, and where there is one the names
    of all else, for a message. Vector environments cannot take others, of changing types and shapes, together.

    Args:
        env: with all its wrappers.
        event: the key of the infos that tells the event that is watched.
    """

    def __init__(self, env: gymnasium.Env, event: str | None = None) -> None:
        inner = env
        while isinstance(inner, gymnasium.Wrapper) and isinstance(inner.env, gymnasium.Wrapper):
            inner = inner.env
        if isinstance(inner, gymnasium.Wrapper):
            inner.env = Five(inner.env)
        else:
            env = Five(env)
        super().__init__(env)
        space, self._parts = observed(env.observation_space)
        self._encoder = encoder_of(space)
        self._actions = Actions(env.action_space).outputs
        self._shape = space.shape if isinstance(space, spaces.Box) else None
        self._dtype: Any = space.dtype
        self._space: Any = space
        self._event = event

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            obs, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise fault_of("reset", error) from error
        info = self._read("reset", info)
        self._look("reset", obs, info)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise fault_of("step", error) from error
        info = self._read("step", info)
        self._look("step", obs, info)
        if not _is_finite(reward):
            raise EnvironmentFault(f"its step gave the reward {shown(reward)}, which must be a finite number")
        if type(terminated) is not bool or type(truncated) is not bool:
            for name, flag in (("terminated", terminated), ("truncated", truncated)):
                if np.asarray(flag).dtype != np.bool_ or np.size(flag) != 1:
                    raise EnvironmentFault(f"its step gave {name}={shown(flag)}, which must be True or False")
        if terminated or truncated:  # a reset in the same step may write into the environment's own arrays
            obs = deepcopy(obs)
            info = info | {MASK: deepcopy(info[MASK])} if MASK in info else info
        return obs, cast(float, reward), terminated, truncated, info

    def _read(self, what: str, info: Any) -> dict[str, Any]:
        """What is read of an info."""
        if not isinstance(info, dict):
            raise EnvironmentFault(f"its {what} gave the info {shown(info)}, which must be a dict")
        found = {} if info.get(MASK) is None else {MASK: info[MASK]}
        if self._event is None:
            return found
        names = {str(name): True for name in info if name not in (*VECTOR, MASK)}
        event = {self._event: truth(self._event, info[self._event])} if self._event in info else {}
        return names | found | event

    def _look(self, what: str, obs: Any, info: dict[str, Any]) -> None:
        """The form of an observation and a mask; what numbers an observation holds is left to `fault_in`."""
        mask = info.get(MASK)
        if self._parts:
            obs, mask = split(obs, self._parts, what)
        if mask is not None and self._actions is not None:
            checked_mask(mask, (self._actions,))
        if self._encoder is not None:
            self._encoder.check(obs, what)
        elif self._shape is None:
            if type(obs) is not int and not (isinstance(obs, np.integer | np.ndarray) and _whole(obs)):
                raise EnvironmentFault(f"its {what} gave the observation {shown(obs)}, not an integer of {self._space}")
            if not self._space.start <= int(obs) < self._space.start + self._space.n:
                raise EnvironmentFault(f"its {what} gave the observation {shown(obs)}, which is not in {self._space}")
        elif type(obs) is not np.ndarray or obs.shape != self._shape or obs.dtype is not self._dtype:
            array = array_of(obs)
            if array.dtype.kind not in "biuf":
                raise EnvironmentFault(f"its {what} gave the observation {shown(obs)}, which is not numeric")
            if array.shape != self._shape:
                raise EnvironmentFault(
                    f"its {what} gave an observation of shape {array.shape}, its space says {self._shape}"
                )
            if self._dtype.kind in "iu" and not (array.astype(self._dtype) == array).all():
                raise EnvironmentFault(
                    f"its {what} gave the {array.dtype} observation {shown(obs)}, its space says {self._dtype}"
                )


def fault_in(space: spaces.Space, obs: Array) -> tuple[int, int, str] | None:
    """The first invalid observation: (member, environment, what is wrong with it).

    Args:
        space: of one observation.
        obs: [M, N, ...] as the environments gave them: numbers, or indices that count from the start of the space.
    """
    if isinstance(space, spaces.Discrete):
        wrong = (obs < space.start) | (obs >= space.start + space.n)
        said = f"which is not in {space}"
    elif obs.dtype.kind != "f" or (obs.dtype.itemsize < 8 and math.isfinite(obs.sum(dtype=np.float64))):
        return None
    else:
        wrong, said = ~held(obs).reshape(*obs.shape[:2], -1).all(-1), f"which {why_not_held(obs)}"
    if not wrong.any():
        return None
    m, n = (int(k[0]) for k in np.nonzero(wrong))
    return m, n, f"its observation is {shown(obs[m, n])}, {said}"


def reward_fault(reward: Array) -> tuple[int, int, str] | None:
    """The first reward of [M, N] that is no finite number: (member, environment, what is wrong with it)."""
    if (good := held(reward)).all():
        return None
    m, n = (int(k[0]) for k in np.nonzero(~good))
    return m, n, f"its step gave the reward {reward[m, n]:g}, which {why_not_held(reward)}"


def _tuple(what: str, said: Any, length: int, of: str) -> Any:
    if type(said) is not tuple or len(said) != length:
        form = f"a tuple of {len(said)}" if isinstance(said, tuple) else f"{shown(said)}, not a tuple"
        raise EnvironmentFault(f"its {what} returned {form}, it must return {of}")
    return said


def _is_finite(reward: Any) -> bool:
    try:
        return math.isfinite(reward)
    except (TypeError, ValueError, OverflowError):
        return False


def _whole(obs: Any) -> bool:
    return obs.ndim == 0 and obs.dtype.kind in "iu"
