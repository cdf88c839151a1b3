"""Direct solves of (I − γP) x = b."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spl

DENSE_LIMIT = 150  # states; up to here a dense LU is faster than the set-up of a sparse one


class DiscountedSystem:
    """The LU factors of I − γP for a csr matrix P [n, n] of a chain (rows sum to at most 1)."""

    def __init__(self, p: sp.csr_matrix | np.ndarray, gamma: float) -> None:
        n = p.shape[0]
        self.dense = n <= DENSE_LIMIT
        if self.dense:
            matrix = (p if isinstance(p, np.ndarray) else p.toarray()) * -gamma
            matrix.flat[:: n + 1] += 1.0
            self.factors = scipy.linalg.lu_factor(matrix, overwrite_a=True, check_finite=False)
        else:
            p = sp.csr_matrix(p)
            self.factors = spl.splu((sp.identity(n, format="csc") - gamma * p).tocsc())

    def solve(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """x [n] or [n, k] with (I − γP) x = b, or with the transpose of the matrix."""
        if self.dense:
            return scipy.linalg.lu_solve(self.factors, b, trans=int(transposed), check_finite=False)
        return self.factors.solve(b, trans="T" if transposed else "N")
