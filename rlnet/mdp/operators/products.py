"""Matrix products and greedy choices of small models without the overhead of argument checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import scipy as sp


@cache
def csr_product() -> Callable[..., None]:
    """SciPy's loop (n_rows, n_columns, indptr, indices, data, x, y): y [n_rows] += A x, A csr. Checks nothing."""
    try:
        from scipy.sparse._sparsetools import csr_matvec
    except ImportError:  # it is not part of SciPy's interface
        return _product
    return csr_matvec


def _product(
    n_rows: int,
    n_columns: int,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    y += sp.sparse.csr_matrix((data, indices, indptr), shape=(n_rows, n_columns)) @ x


def greedy_rows(q: np.ndarray, top: np.ndarray, number: np.ndarray) -> np.ndarray:
    """int [m]: in each column of q [A, m], whose largest value is `top` [m], the `number` (int [A, m], rising with the
    row) of one that attains it."""
    return np.maximum.reduce(number * (q == top), 0)


def summed(place: np.ndarray, amount: np.ndarray, size: int) -> np.ndarray:
    """float64 [size]: the amounts added up by their places (int). `np.bincount` of nothing would hold integers."""
    return np.bincount(place, amount, size).astype(np.float64, copy=False)
