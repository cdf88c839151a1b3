"""Prioritised sampling: draws rows in proportion to priorities that change, by sums over blocks (a flat sum tree).

Rows are grouped in blocks, whose sums are kept. A draw inverts the cumulative sum of the blocks and then that of one
block. With K = √(R/B) of R rows in a block, B draws cost in the order of √(R·B), and so does setting B masses.
"""

import math
from types import ModuleType

import numpy as np
import torch

from rlnet.numerics.random_streams import Array, as_array

_BELOW_ONE = 1 - 2.0**-52


class Priorities:
    """Unnormalised probabilities (masses) of R rows for each of M members, to sample rows from.

    Args:
        mass: initial masses, float64, at least 0.
        batch: B, how many are drawn at a time; affects speed and rounding alone.
        library: numpy or torch, the library of all arrays.
    """

    def __init__(self, mass: Array, batch: int, library: ModuleType) -> None:
        members, rows = mass.shape
        self._library, self._size = library, max(8, 2 ** round(math.log2(rows / batch) / 2))  # K
        count = -(-rows // self._size)
        tensor = torch.as_tensor(mass)
        padded = tensor.new_zeros(members, count * self._size)
        padded[:, :rows] = tensor
        self._blocks = as_array(padded, library).reshape(members * count, self._size)
        self._rows = self._blocks.reshape(-1)
        self._first = as_array(torch.arange(members, device=tensor.device)[:, None] * count, library)  # own blocks
        every = as_array(torch.arange(count, device=tensor.device), library) + self._first
        self._sums, self._least = self._summary(every)

    def set(self, row: Array, mass: Array) -> None:
        """Set the masses [M, n] of rows int64 [M, n]; a row that occurs twice must have equal ones."""
        self._rows[row + self._first * self._size] = mass
        block = row // self._size + self._first
        self._sums.reshape(-1)[block], self._least.reshape(-1)[block] = self._summary(block)

    def draw(self, uniform: Array) -> Array:
        """Draw rows [M, B] with probability mass/sum from uniform numbers [M, B] in [0, 1); never one of mass 0."""
        upto = self._sums.cumsum(-1)
        target = uniform * upto[:, -1:]
        found = torch.searchsorted(torch.as_tensor(upto), torch.as_tensor(target), right=True)
        own = as_array(found, self._library)
        block = own + self._first
        rest = target - (upto.take(block) - self._sums.take(block))
        within = self._gathered(block).cumsum(0)  # [K, M, B]
        # Rounding, and sums that were added in another order, must not lead out of the block, nor to a row of mass 0.
        rest = self._library.minimum(rest * (rest > 0), within[-1] * _BELOW_ONE)
        return own * self._size + (within <= rest).sum(0)

    def least(self) -> Array:
        """The smallest mass above 0 of each member, [M, 1]."""
        return self._library.amin(self._least, -1)[:, None]

    def _summary(self, block: Array) -> tuple[Array, Array]:
        """Of blocks [M, n]: the sums, and the smallest masses above 0."""
        masses = self._gathered(block)
        return masses.sum(0), self._library.amin(self._library.where(masses > 0, masses, math.inf), 0)

    def _gathered(self, block: Array) -> Array:
        """The masses in blocks [M, n]: [K, M, n], since numpy is slow along a short last axis."""
        if self._library is np:
            return self._blocks.take(block, axis=0).transpose(2, 0, 1).copy()
        return self._blocks[block].movedim(-1, 0)
