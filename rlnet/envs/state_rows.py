"""What is shown in each state of a finite model whose observations are rows of numbers, not indices."""

from typing import Any

import numpy as np

from rlnet.config import RunFailed
from rlnet.envs.encoding import Encoder
from rlnet.envs.faults import EnvironmentFault, shown
from rlnet.mdp import FiniteMDP, NoModelError
from rlnet.mdp.from_env.grid import Grid, GridModel


class StateRows:
    """The observations of the S states of a model as rows, [R, F] different ones: states may look alike.

    Args:
        rows: [S, F] float32 or uint8, in the form in which networks see observations.
    """

    def __init__(self, rows: np.ndarray) -> None:
        plain = np.ascontiguousarray(rows + 0 if rows.dtype.kind == "f" else rows)  # −0 becomes 0
        keys = _bytes_of(plain).view(f"V{plain.shape[1] * plain.itemsize}").ravel()
        _, first, self.of_state = np.unique(
            keys, return_index=True, return_inverse=True
        )  # int64 [S]: row of each state
        self.rows = plain[first]
        self.first = first  # int64 [R]: the first state that looks like this
        rng = np.random.default_rng(0)
        numbers = np.zeros(0, np.uint64)
        while len(np.unique(numbers)) < len(self.rows):  # once, but for an accident
            self._factors = rng.integers(2**63, size=_words(self.rows[:1]).shape[1], dtype=np.uint64)
            numbers = self._numbers(self.rows)
        self._order = np.argsort(numbers)
        self._sorted = numbers[self._order]

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        """A number for each row, equal for equal rows: a hash."""
        words = _words(rows)
        for shift in (32, 23):  # the last bits of floats are often 0
            words = words ^ (words >> np.uint64(shift))
        return (words * self._factors).sum(1, dtype=np.uint64)

    def states(self, rows: np.ndarray) -> np.ndarray:
        """The states, int64 [...], that rows [..., F] look like: the first of those that look alike.

        Raises:
            RunFailed: a row that is shown in no state of the model.
        """
        flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))
        flat = flat + 0 if flat.dtype.kind == "f" else flat
        at = np.minimum(np.searchsorted(self._sorted, self._numbers(flat)), len(self._sorted) - 1)
        found = self._order[at]
        wrong = (self.rows[found] != flat).any(1)
        if wrong.any():
            raise RunFailed(
                f"the observation {shown(flat[int(wrong.argmax())])} belongs to no state of the finite model, so "
                "exact scores would be those of another problem: train with env.truth=none"
            )
        return self.first[found].reshape(rows.shape[:-1])

    def spread(self, visits: np.ndarray) -> np.ndarray:
        """Visits [..., S, A], counted in the first of states that look alike, given to all of these."""
        return visits[..., self.first[self.of_state], :]


class GridRows:
    """The points of a grid as rows; what is observed belongs to the nearest one."""

    def __init__(self, grid: Grid) -> None:
        self.rows, self._grid = grid.points.astype(np.float32), grid
        self.of_state = slice(None)

    def states(self, rows: np.ndarray) -> np.ndarray:
        """The numbers int64 [...] of the points nearest to rows [..., F]."""
        return self._grid.nearest(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:-1])

    def spread(self, visits: np.ndarray) -> np.ndarray:
        """The visits as they are."""
        return visits


def rows_of(mdp: FiniteMDP, encoder: Encoder | None, grid: GridModel | None) -> StateRows | GridRows:
    """The rows of the observations that a model keeps.

    Raises:
        NoModelError: an observation does not have the form of the space.
    """
    if grid is not None:
        return GridRows(grid.grid)
    seen: Any = mdp.observations
    try:
        rows = [np.asarray(x, np.float32).reshape(-1) if encoder is None else encoder.row(x, "model") for x in seen]
    except EnvironmentFault as error:
        raise NoModelError(f"the observations of its states cannot be read: {error}") from error
    return StateRows(np.stack(rows))


def _bytes_of(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)


def _words(rows: np.ndarray) -> np.ndarray:
    """Rows as unsigned words of 8 bytes, [n, W]."""
    raw = _bytes_of(rows)
    return np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8))).view(np.uint64)
