"""Simulation of board games by their rules: M members × N games of self-play, of boards of any size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlnet.envs.boards.rules import Rules
from rlnet.envs.simulate import Step


def planes(cells: np.ndarray) -> np.ndarray:
    """What networks see of positions: the stones of the player who moves, then those of the other, each a plane of the
    board, as float32 [..., 2·C] of 0 and 1 (int8 [..., C])."""
    return np.concatenate((cells > 0, cells < 0), -1).astype(np.float32)


class BoardSimulation:
    """M × N games, one move per step, in which the learner moves for both players; finished games begin again.

    Observations are `planes`, float32 [M, N, 2·C], always in the view of the player who moves. Rewards are those of the
    player who moved. Nothing is drawn at random.

    Args:
        rules: of the game.
        members: M.
        envs: N.
        max_steps: a game is truncated after so many moves; None: never.

    Raises:
        ValueError: a size or limit below 1.
    """

    def __init__(self, rules: Rules, members: int, envs: int, max_steps: int | None = None) -> None:
        for name, value in (("members", members), ("envs", envs), ("max_steps", max_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.rules, self.max_steps, self._grid = rules, max_steps, (members, envs)
        self._start = rules.start()
        self._cells: np.ndarray | None = None  # int8 [M·N, C]; None before the first reset
        self._age = np.zeros(members * envs, np.int64)
        self.mask: np.ndarray | None = None  # bool [M, N, A]
        self._none, self._all = np.zeros(self._grid, bool), np.ones(self._grid, bool)
        self._sign = np.full(self._grid, -1, np.float32)

    @property
    def cells(self) -> np.ndarray:
        """The positions, int8 [M, N, C], in the view of the player who moves. RuntimeError before the first reset."""
        if self._cells is None:
            raise RuntimeError("step before the first reset")
        return self._cells.reshape(*self._grid, -1)

    def reset(self, seeds: Sequence[int] | None = None) -> np.ndarray:
        """Begin a game everywhere; the seeds decide nothing."""
        self._cells = np.tile(self._start, (self._age.size, 1))
        self._age[:] = 0
        return self._observed()

    def _observed(self) -> np.ndarray:
        cells = self.cells
        self.mask = self.rules.legal(cells.reshape(self._age.size, -1)).reshape(*self._grid, -1)
        return planes(cells)

    def step(self, action: np.ndarray) -> Step:
        """Take `action` [M, N] int64 everywhere.

        Raises:
            RuntimeError: before the first `reset`.
            ValueError: an action that is not legal, naming member, environment and legal actions.
        """
        before, (members, envs) = self.cells.reshape(self._age.size, -1), self._grid
        self._check(action)
        cells, reward, ended = self.rules.play(before, action.reshape(-1))
        self._age += 1
        late = self._none.reshape(-1) if self.max_steps is None else (self._age >= self.max_steps) & ~ended
        self._cells = cells
        final = self._observed()
        final_mask, obs = self.mask, final
        over = ended | late
        if over.any():
            # In a terminal position nobody acts: all actions, or there would be none to average over.
            final_mask = final_mask | ended.reshape(members, envs, 1)
            self._cells = np.where(over[:, None], self._start, cells)
            self._age[over] = 0
            obs = self._observed()
        grid = self._grid
        flags = ended.reshape(grid), late.reshape(grid)
        return Step(final, reward.reshape(grid), *flags, self._all, obs, final_mask, self.mask, self._sign)

    def _check(self, action: np.ndarray) -> None:
        assert self.mask is not None
        inside = (action >= 0) & (action < self.rules.n_actions)
        good = inside & np.take_along_axis(self.mask, np.where(inside, action, 0)[..., None], -1)[..., 0]
        if not good.all():
            m, n = np.argwhere(~good)[0].tolist()
            allowed = np.flatnonzero(self.mask[m, n]).tolist()
            raise ValueError(
                f"member {m}, environment {n}: action {int(action[m, n])} is not legal, legal are {allowed}"
            )

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: all that is needed to continue with exactly the same steps."""
        return {
            "cells": torch.from_numpy(self.cells.copy()),
            "age": torch.from_numpy(self._age.reshape(self._grid) + 0),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._cells = state["cells"].numpy().reshape(self._age.size, -1).copy()
        self._age = state["age"].numpy().reshape(-1).copy()
        self._observed()

    def close(self) -> None:
        """Nothing to release (part of the interface)."""
