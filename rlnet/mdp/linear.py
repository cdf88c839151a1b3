"""Direct solves of (I − γP) x = b."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.linalg import LinAlgWarning
from scipy.linalg.lapack import dgetrf, dgetrs

DENSE_LIMIT = 150  # states; up to here a dense LU is faster than the set-up of a sparse one


class DiscountedSystem:
    """The LU factors of I − γP for a csr matrix P [n, n] of a chain (rows sum to at most 1)."""

    def __init__(self, p: sp.csr_matrix | np.ndarray, gamma: float) -> None:
        n = p.shape[0]
        self.dense = n <= DENSE_LIMIT
        if self.dense:
            matrix = (p if isinstance(p, np.ndarray) else p.toarray()) * -gamma
            matrix.flat[:: n + 1] += 1.0
            # LAPACK itself: its wrappers take longer than it does on a small matrix. It sees the transpose, uncopied.
            self.factors, self.pivots, failed = dgetrf(matrix.T, overwrite_a=1)
            if failed:
                warnings.warn("the matrix of the chain is exactly singular", LinAlgWarning, stacklevel=2)
        else:
            p = sp.csr_matrix(p)
            self.factors = spl.splu((sp.identity(n, format="csc") - gamma * p).tocsc())

    def solve(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """x [n] or [n, k] with (I − γP) x = b, or with the transpose of the matrix."""
        if self.dense:
            return dgetrs(self.factors, self.pivots, b, trans=int(not transposed))[0]
        return self.factors.solve(b, trans="T" if transposed else "N")
