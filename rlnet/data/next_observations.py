"""Next observations of a ring of large observations: those of the following rows, or kept where they differ."""

from math import prod

import numpy as np


class NextObservations:
    """The field `next_obs` of a ring, of which only what is not in the ring of `obs` takes memory.

    The next observation of a step is the observation of the following one, but for the newest row and for ends of
    episodes. That is not taken from the flags of a row: what is written is compared.

    Args:
        obs: the ring of observations, [slots, M, N, ...].
    """

    def __init__(self, obs: np.ndarray) -> None:
        self._obs = obs
        self._own: dict[int, np.ndarray] = {}  # flat number of a row → its next observation
        self._differs = np.zeros(obs.shape[:3], dtype=bool)  # the rows that are in `_own`

    def write(self, rows: np.ndarray, begin: int) -> None:
        """Write the next observations [T, M, N, ...] of the rows from slot `begin` on, whose observations are there."""
        slots, each = len(self._obs), prod(self._obs.shape[1:3])
        before = (begin - 1) % slots
        for cell in np.flatnonzero(self._differs[before]).tolist():
            if np.array_equal(self._own[before * each + cell], self._obs[begin].reshape(each, -1)[cell]):
                self._forget(before, cell)
        for t, row in enumerate(rows):
            slot, flat = (begin + t) % slots, row.reshape(each, -1)
            differs = np.ones(each, dtype=bool)
            if t + 1 < len(rows):
                differs = (flat != self._obs[(slot + 1) % slots].reshape(each, -1)).any(1)
            for cell in np.flatnonzero(self._differs[slot].reshape(-1) & ~differs).tolist():
                self._forget(slot, cell)
            for cell in np.flatnonzero(differs).tolist():
                self._own[slot * each + cell] = flat[cell].astype(self._obs.dtype)
            self._differs[slot] = differs.reshape(self._differs.shape[1:])

    def _forget(self, slot: int, cell: int) -> None:
        del self._own[slot * prod(self._obs.shape[1:3]) + cell]
        self._differs[slot].reshape(-1)[cell] = False

    def take(self, at: np.ndarray) -> np.ndarray:
        """The next observations of the rows with the flat numbers `at`, [..., F]: the numbers of one side by side."""
        each, count = prod(self._obs.shape[1:3]), self._differs.size
        rows = taken(self._obs, (at + each) % count)
        flat = rows.reshape(at.size, -1)
        for k in np.flatnonzero(self._differs.reshape(-1)[at.reshape(-1)]).tolist():
            flat[k] = self._own[int(at.reshape(-1)[k])]
        return rows

    def first(self, held: int) -> np.ndarray:
        """Those of the first `held` rows, [held, M, N, ...]."""
        shape = self._differs[:held].shape
        return self.take(np.arange(prod(shape)).reshape(shape))


def taken(ring: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rows of a ring [slots, M, N, ...] with the flat numbers `at` [...]."""
    inner = ring.shape[3:]
    # As pieces of memory numpy copies them several times faster than as rows of numbers.
    pieces = ring.reshape(-1).view(np.dtype((np.void, ring.itemsize * prod(inner)))).take(at)
    return pieces.view(ring.dtype).reshape(*at.shape, *inner)
