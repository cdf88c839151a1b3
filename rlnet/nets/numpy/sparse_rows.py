"""Features of states that are mostly 0: their entries alone, which a first layer looks up and adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
# Up to one entry in so many numbers, of rows that are long enough, a compiled loop over the entries is faster than a
# product (measured with 64 to 600 features and 64 or 256 units: as fast at 1 in 8, twice as fast at 1 in 16).
SPARSE, LONG = 10, 64


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of features with a 1 behind them for the bias, as entries; products with weights whose last row is a bias.

    Weights and what is written must be contiguous. All calls are for one member, whose numbers they alone decide.
    """

    begin: Array  # int64 [S + 1], of each row's entries
    column: Array  # uint32 [K], whose sign no loop has to look at
    value: Array  # float32 [K]
    weigh: Callable[..., Any]  # see `kernels`
    spread: Callable[..., Any]

    @classmethod
    def of(cls, features: Array) -> SparseRows | None:
        """The entries of features float32 [S, I]; None where a product with all their numbers is faster."""
        states, width = features.shape
        if width < LONG or np.count_nonzero(features) * SPARSE > features.size:
            return None
        from rlnet.nets.numpy.kernels import spread, weigh

        row, entry = np.nonzero(features)
        begin = np.append(0, np.cumsum(np.bincount(row, minlength=states) + 1))
        column, value = np.full(begin[-1], width, np.uint32), np.ones(begin[-1], features.dtype)
        place = np.arange(len(row)) + row  # behind the bias of every row before
        column[place], value[place] = entry, features[row, entry]
        return cls(begin, column, value, weigh, spread)

    def product(self, rows: Array, weight: Array, out: Array) -> None:
        """Features of the rows [R] times weight [I + 1, H], into the first H columns of out [R, ≥ H]."""
        self.weigh(self.begin, self.column, self.value, rows, weight, out)

    def gradient(self, rows: Array, slope: Array, into: Array) -> None:
        """The gradient of `weight` into [I + 1, H], from that of the products: slope [R, ≥ H]."""
        self.spread(self.begin, self.column, self.value, rows, slope, into)
