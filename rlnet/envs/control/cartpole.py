"""Gymnasium's CartPole for M members × N environments in one array.

`CartPoleVectorEnv` draws the starts of all its environments from one random stream, so that a population needs one for
every member. Here all of them move together and each member draws its own starts. The dynamics are those of Gymnasium.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlnet.envs.simulate import Step
from rlnet.numerics.random_streams import BlockUniform, Streams

IDS = ("CartPole-v0", "CartPole-v1")
GRAVITY, POLE_MASS, TOTAL_MASS, HALF_LENGTH, FORCE, SECONDS = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
POLE_MOMENT = POLE_MASS * HALF_LENGTH
FAR, STEEP = 2.4, 12 * 2 * np.pi / 360  # beyond either the episode has failed
FIRST = 0.05  # every number of the first state is uniform in ± this
# Up to so many environments move one by one in numbers of Python, with the same results: faster than numpy calls on
# tiny arrays.
FEW = 6


def moved(state: Any, cos: Any, sin: Any, force: Any) -> tuple[Any, Any, Any, Any]:
    """CartPole dynamics: (position, velocity, angle, angular velocity) one Euler step later (Barto et al. 1983).

    Args:
        state: of one environment as numbers, or of many as arrays.
        cos, sin: of its angle.
        force: ± FORCE.
    """
    x, x_dot, theta, theta_dot = state
    push = (force + POLE_MOMENT * (theta_dot * theta_dot) * sin) / TOTAL_MASS
    theta_acc = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS))
    x_acc = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS
    return (
        x + SECONDS * x_dot,
        x_dot + SECONDS * x_acc,
        theta + SECONDS * theta_dot,
        theta_dot + SECONDS * theta_acc,
    )


class CartPoleSimulation:
    """Simulation of M × N CartPoles. After an end the next step is in a new episode, as in `TabularSimulation`.

    Args:
        seeds: the M member seeds.
        envs: N, environments per member.
        max_steps: an episode is truncated after so many steps.
    """

    mask = None  # both actions are always available

    def __init__(self, seeds: Sequence[int], envs: int, max_steps: int) -> None:
        self.max_steps = max_steps
        self._starts = BlockUniform(Streams(seeds, "environment"), (4, envs), library=np)
        self._shape = shape = len(seeds), envs
        self.few = len(seeds) * envs <= FEW
        self._state = np.zeros((4, *shape))  # where there are many
        self._numbers: list[tuple[float, ...]] = []  # where there are few: the state of each
        self._now, self._began = 0, np.zeros(shape, np.int64)  # steps so far, and when the running episodes began
        self._limit = max_steps  # before it no episode is too long
        self._none, self._all, self._reward = np.zeros(shape, bool), np.ones(shape, bool), np.ones(shape, np.float32)

    def reset(self, seeds: Sequence[int] | None = None) -> np.ndarray:
        """Begin a new episode everywhere; with M `seeds` start the members' streams again. Returns obs [M, N, 4]."""
        if seeds is not None:
            self._starts.reseed(seeds)
        self._began[:], self._limit = self._now, self._now + self.max_steps
        self._set(_first(self._starts.next().transpose(1, 0, 2)))
        return self._observation()

    def step(self, action: np.ndarray) -> Step:
        """Take `action` [M, N] int64, 0 (left) or 1 (right), everywhere."""
        failed = self._move_few(action) if self.few else self._move(action)
        self._now += 1
        obs, cut = self._observation(), self._none
        if self._now >= self._limit:
            self._limit = int(self._began.min()) + self.max_steps
            cut = (self._now - self._began >= self.max_steps) & ~failed
        elif failed is self._none:
            self._starts.skip()  # numbers are drawn, needed or not: when others end must not decide what comes next
            return Step(obs, self._reward, failed, failed, self._all, obs)
        self._restart(failed | cut, self._starts.next())
        return Step(obs, self._reward, failed, cut, self._all, self._observation())

    def _move(self, action: np.ndarray) -> np.ndarray:
        """Move everywhere; whether each has failed: bool [M, N], the array `_none` where none has."""
        theta = self._state[2]
        self._state = np.array(moved(self._state, np.cos(theta), np.sin(theta), action * (2 * FORCE) - FORCE))
        failed = (np.abs(self._state[0]) > FAR) | (np.abs(self._state[2]) > STEEP)
        return failed if np.count_nonzero(failed) else self._none

    def _move_few(self, action: np.ndarray) -> np.ndarray:
        """The same, environment by environment."""
        numbers: list[tuple[float, ...]] = []
        failed = []
        for before, right in zip(self._numbers, action.ravel().tolist(), strict=True):
            theta = before[2]
            # Cosines of numpy also here: those of Python may be rounded to another last bit.
            state = moved(before, float(np.cos(theta)), float(np.sin(theta)), FORCE if right else -FORCE)
            numbers.append(state)
            failed.append(abs(state[0]) > FAR or abs(state[2]) > STEEP)
        self._numbers = numbers
        return np.array(failed).reshape(self._shape) if True in failed else self._none

    def _restart(self, ended: np.ndarray, uniform: np.ndarray) -> None:
        """Begin new episodes where others ended."""
        state, (m, n) = self._where(), ended.nonzero()
        state[:, m, n] = _first(uniform[m, :, n].T)
        self._began[m, n] = self._now
        self._set(state)

    def _where(self) -> np.ndarray:
        """The state [4, M, N]."""
        return np.array(self._numbers).T.reshape(4, *self._shape) if self.few else self._state

    def _set(self, state: np.ndarray) -> None:
        self._state = state
        if self.few:
            self._numbers = list(map(tuple, state.reshape(4, -1).T.tolist()))

    def _observation(self) -> np.ndarray:
        """[M, N, 4]."""
        if self.few:
            return np.array(self._numbers, np.float32).reshape(*self._shape, 4)
        return self._state.transpose(1, 2, 0).astype(np.float32, order="C")

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, exact to the next step; all tensors with the members in front."""
        arrays = {"state": self._where().swapaxes(0, 1).copy(), "age": self._now - self._began}
        return {name: torch.from_numpy(x) for name, x in arrays.items()} | {"starts": self._starts.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._now, self._limit = 0, 0
        self._began = -state["age"].cpu().numpy()
        self._set(state["state"].cpu().numpy().swapaxes(0, 1).copy())
        self._starts.load_state_dict(state["starts"])

    def close(self) -> None:
        """Nothing to release (part of the interface)."""


def _first(uniform: np.ndarray) -> np.ndarray:
    """The first state of episodes, from uniform numbers."""
    return (2 * uniform - 1) * FIRST
