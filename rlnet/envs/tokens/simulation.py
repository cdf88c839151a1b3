"""Simulation of token tasks whose tree is too large to enumerate: M members × N environments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlnet.envs.simulate import Step
from rlnet.envs.tokens.tree import NOTHING, Tokens
from rlnet.numerics.random_streams import BlockUniform, Streams


class TokenSimulation:
    """M × N completions, one token per step; finished ones begin again with a new prompt.

    Observations are rows of tokens, float32 [M, N, W]. Member m draws prompts from its own stream.

    Args:
        tokens: the task.
        seeds: the M member seeds.
        envs: N.
        reward: what completions are paid by, (prompt, completion) → number.
    """

    mask = None  # every token can always be written
    group = 1  # so many environments in a row begin with the same prompt

    def __init__(self, tokens: Tokens, seeds: Sequence[int], envs: int, reward: Any) -> None:
        self._tokens, self._reward = tokens, reward
        self._numbers = BlockUniform(Streams(seeds, "environment"), (envs,), library=np)
        task = tokens.task
        self._first = len(task.prompts[0]) + 1
        self._rows = tokens.empty
        self._grid = len(seeds), envs
        self._prompt = np.zeros(self._grid, np.int64)
        self._actions = np.full((*self._grid, task.length), NOTHING, np.int64)
        self._age = np.zeros(self._grid, np.int64)
        self._never = np.zeros(self._grid, bool)
        self._always = np.ones(self._grid, bool)

    def _drawn(self) -> np.ndarray:
        u = self._numbers.next()
        if self.group > 1:
            u = np.repeat(u[:, :: self.group], self.group, axis=1)
        return (u * len(self._rows)).astype(np.int64)

    def reset(self, seeds: Sequence[int] | None = None) -> np.ndarray:
        """Begin a completion everywhere; with seeds, the members' streams begin again, too."""
        if seeds is not None:
            self._numbers.reseed(seeds)
        self._prompt, self._age = self._drawn(), np.zeros(self._grid, np.int64)
        self._actions[:] = NOTHING
        return self._observed()

    def _observed(self) -> np.ndarray:
        rows = self._rows[self._prompt]
        room = rows.shape[-1] - self._first
        rows[..., self._first :] = self._actions[..., :room]
        return rows.astype(np.float32)

    def step(self, action: np.ndarray) -> Step:
        """Write a token everywhere, int64 [M, N] in 0 .. V − 1."""
        task = self._tokens.task
        ends = action == len(task.symbols)
        m, n = np.indices(self._grid)
        self._actions[m, n, self._age] = np.where(ends, NOTHING, action)
        self._age += 1
        terminated = ends | (self._age == task.length)
        reward = np.zeros(self._grid, np.float32)
        for place in zip(*np.nonzero(terminated), strict=True):
            prompt = task.prompts[self._prompt[place]]
            text = "".join(task.symbols[k] for k in self._actions[place] if k != NOTHING)
            reward[place] = self._reward(prompt, text)
        successor = self._observed()
        drawn = self._drawn()
        if terminated.any():
            self._prompt = np.where(terminated, drawn, self._prompt)
            self._age = self._age * ~terminated
            self._actions[terminated] = NOTHING
        return Step(successor, reward, terminated, self._never, self._always, self._observed())

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: all that is needed to continue with exactly the same steps."""
        arrays = {"prompt": self._prompt, "actions": self._actions, "age": self._age}
        return {name: torch.from_numpy(x.copy()) for name, x in arrays.items()} | {
            "numbers": self._numbers.state_dict()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._prompt, self._actions, self._age = (state[x].numpy().copy() for x in ("prompt", "actions", "age"))
        self._numbers.load_state_dict(state["numbers"])

    def close(self) -> None:
        """Nothing to release (part of the interface)."""
