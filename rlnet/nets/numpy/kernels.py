"""Numba kernels of a first layer whose inputs are mostly 0. Imported when the first such network is made.

Rows are named before the loops over units, so that these can be vectorised: that makes it five times as fast.
"""

from __future__ import annotations

from numba import njit

compiled = njit(nogil=True, cache=True)


@compiled
def weigh(begin, column, value, rows, weight, out):
    """Each row r of `rows`: the sum of value·weight[column] over its entries, into the first places of out[r]."""
    width = weight.shape[1]
    for r in range(len(rows)):
        to, first, last = out[r], begin[rows[r]], begin[rows[r] + 1]
        row, factor = weight[column[first]], value[first]
        for h in range(width):
            to[h] = factor * row[h]
        for k in range(first + 1, last):
            row, factor = weight[column[k]], value[k]
            for h in range(width):
                to[h] += factor * row[h]


@compiled
def spread(begin, column, value, rows, slope, into):
    """The gradient of `weigh`: into[column] is the sum of value·slope[r] over all entries in that column."""
    width = into.shape[1]
    into[:] = 0
    for r in range(len(rows)):
        of = slope[r]
        for k in range(begin[rows[r]], begin[rows[r] + 1]):
            row, factor = into[column[k]], value[k]
            for h in range(width):
                row[h] += factor * of[h]
