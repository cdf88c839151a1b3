"""Direct solves of (I − γP) x = b."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.linalg.lapack import dgetrf, dgetrs

from rlnet.mdp.errors import ImproperPolicyError

DENSE_LIMIT = 150  # states; up to here a dense LU is faster than the set-up of a sparse one


NEVER_ENDS = "gamma=1: the policy ends with a probability that is lost in rounding; use gamma < 1"


class SingularChainError(ImproperPolicyError):
    """I − P is singular to working precision."""


class DiscountedSystem:
    """The LU factors of I − γP for a csr matrix P [n, n] of a chain (rows sum to at most 1).

    Raises:
        SingularChainError: at γ = 1, a chain that hardly ever ends.
    """

    def __init__(self, p: sp.csr_matrix | np.ndarray, gamma: float) -> None:
        n = p.shape[0]
        self.dense = n <= DENSE_LIMIT
        if self.dense:
            matrix = (p if isinstance(p, np.ndarray) else p.toarray()) * -gamma
            matrix.flat[:: n + 1] += 1.0
            # LAPACK itself: its wrappers take longer than it does on a small matrix. It sees the transpose, uncopied.
            self.factors, self.pivots, failed = dgetrf(matrix.T, overwrite_a=1)
            if failed:
                raise SingularChainError(NEVER_ENDS)
        else:
            p = sp.csr_matrix(p)
            try:
                self.factors = spl.splu((sp.identity(n, format="csc") - gamma * p).tocsc())
            except RuntimeError as error:  # SuperLU's way to say so
                raise SingularChainError(NEVER_ENDS) from error

    def solve(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """x [n] or [n, k] with (I − γP) x = b, or with the transpose of the matrix."""
        if self.dense:
            return dgetrs(self.factors, self.pivots, b, trans=int(not transposed))[0]
        return self.factors.solve(b, trans="T" if transposed else "N")
