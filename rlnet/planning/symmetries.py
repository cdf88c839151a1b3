"""Symmetries of board games as maps of observations, masks and policies, for data augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rlnet.envs.boards.rules import Rules


class Symmetries:
    """The G symmetries of a board game of C cells and A actions, the identity first.

    Args:
        rules: of the game.
        cells: int8 [S, C], the positions, where they are numbered and observations are their numbers; None:
            observations are planes [2·C].
        device: of the tensors that are mapped.
    """

    def __init__(self, rules: Rules, cells: np.ndarray | None, device: torch.device | str = "cpu") -> None:
        pairs = rules.symmetries
        self.count = len(pairs)
        self._action = torch.as_tensor(np.stack([action for _, action in pairs]), device=device)  # [G, A]
        if cells is None:
            size = pairs[0][0].size
            planes = np.stack([np.concatenate((cell, cell + size)) for cell, _ in pairs])
            self._planes, self._numbers = torch.as_tensor(planes, device=device), None  # [G, 2·C]
        else:
            self._numbers = torch.as_tensor(_images(cells, [cell for cell, _ in pairs]), device=device)  # [G, S]

    def obs(self, which: Tensor, obs: Tensor) -> Tensor:
        """The image of observations [...] or [..., 2·C] under symmetries int64 [...]."""
        if self._numbers is not None:
            return self._numbers[which, obs]
        return obs.gather(-1, self._planes[which])

    def policy(self, which: Tensor, policy: Tensor) -> Tensor:
        """The image of numbers of actions [..., A], of a policy or a mask, under symmetries int64 [...]."""
        return policy.gather(-1, self._action[which])


def _images(cells: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """The number of the image of every position, int64 [G, S].

    Raises:
        ValueError: the image of a position is none of them.
    """
    rows = np.ascontiguousarray(cells).view((np.void, cells.shape[1])).ravel()
    order = np.argsort(rows)
    ordered, found = rows[order], []
    for cell in maps:
        images = np.ascontiguousarray(cells[:, cell]).view(rows.dtype).ravel()
        place = np.minimum(np.searchsorted(ordered, images), len(rows) - 1)
        if (ordered[place] != images).any():
            raise ValueError("a symmetry of these rules maps a position to one that is not of this game")
        found.append(order[place])
    return np.stack(found)
