"""Gymnasium's CartPole for M members × N environments in one array.

`CartPoleVectorEnv` draws the starts of all its environments from one random stream, so that a population needs one for
every member. Here all of them move together and each member draws its own starts. A test holds the dynamics to those of
Gymnasium, step by step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.envs.simulate import Step
from rlnet.rng import BlockUniform, Streams

IDS = ("CartPole-v0", "CartPole-v1")
GRAVITY, POLE_MASS, TOTAL_MASS, HALF_LENGTH, FORCE, SECONDS = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
POLE_MOMENT = POLE_MASS * HALF_LENGTH
FAR, STEEP = 2.4, 12 * 2 * np.pi / 360  # beyond either the episode has failed
FIRST = 0.05  # every number of the first state is uniform in ± this


def moved(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The state [4, ...] (position, velocity, angle, angular velocity) one Euler step later (Barto et al. 1983)."""
    _, x_dot, theta, theta_dot = state
    cos, sin = np.cos(theta), np.sin(theta)
    push = (np.where(action == 1, FORCE, -FORCE) + POLE_MOMENT * np.square(theta_dot) * sin) / TOTAL_MASS
    theta_acc = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS))
    x_acc = push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS
    return state + SECONDS * np.array((x_dot, x_acc, theta_dot, theta_acc))


def _first(uniform: Tensor) -> np.ndarray:
    """The first state of episodes, [4, M, N], from uniform numbers [M, 4, N]."""
    return (2 * uniform.numpy().transpose(1, 0, 2) - 1) * FIRST


class CartPoleSimulation:
    """M × N CartPoles. An environment whose episode ended is in a new one at the next step, as `TabularSimulation`.

    Args:
        seeds: the M member seeds.
        envs: N, environments per member.
        max_steps: an episode is truncated after so many steps.
        device: where the tensors live; the carts themselves move on the CPU.
    """

    def __init__(self, seeds: Sequence[int], envs: int, max_steps: int, device: torch.device | str = "cpu") -> None:
        self.max_steps, self.device = max_steps, torch.device(device)
        self._starts = BlockUniform(Streams(seeds, "environment"), (4, envs))
        self._state = np.zeros((4, len(seeds), envs))
        self._age = np.zeros((len(seeds), envs), np.int64)  # steps of the running episodes
        self._valid = torch.ones(len(seeds), envs, dtype=torch.bool, device=self.device)
        self._reward = torch.ones(len(seeds), envs, device=self.device)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        """Begin a new episode everywhere; with M `seeds` start the members' streams again. Returns obs [M, N, 4]."""
        if seeds is not None:
            self._starts.reseed(seeds)
        self._state, self._age = _first(self._starts.next()), np.zeros_like(self._age)
        return self._observation()

    def step(self, action: Tensor) -> Step:
        """Take `action` [M, N] int64, 0 (left) or 1 (right), everywhere."""
        self._state = moved(self._state, action.cpu().numpy())
        self._age += 1
        terminated = (np.abs(self._state[0]) > FAR) | (np.abs(self._state[2]) > STEEP)
        ended = terminated | (self._age >= self.max_steps)
        next_obs = obs = self._observation()
        uniform = self._starts.next()  # drawn whether needed or not: when others end must not decide what comes next
        if ended.any():
            self._state = np.where(ended, _first(uniform), self._state)
            self._age[ended] = 0
            obs = self._observation()
        flags = (torch.from_numpy(x).to(self.device) for x in (terminated, ended & ~terminated))
        return Step(next_obs, self._reward, *flags, self._valid, obs)

    def _observation(self) -> Tensor:
        return torch.from_numpy(self._state.transpose(1, 2, 0).astype(np.float32, order="C")).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with exactly the same steps."""
        arrays = {"state": torch.from_numpy(self._state.copy()), "age": torch.from_numpy(self._age.copy())}
        return {**arrays, "starts": self._starts.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._state, self._age = state["state"].cpu().numpy().copy(), state["age"].cpu().numpy().copy()
        self._starts.load_state_dict(state["starts"])

    def close(self) -> None:
        """Nothing to release; here because other simulations have something."""
