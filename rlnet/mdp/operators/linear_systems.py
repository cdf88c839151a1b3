"""Direct solves of (I − γP) x = b."""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.errors import ImproperPolicyError
from rlnet.mdp.operators.products import summed

DENSE_LIMIT = 150  # states; up to here a dense LU is faster than the set-up of another
BAND_PRODUCTS = 3000  # for each state in the LU of a band matrix, up to which it is clearly faster than a sparse one

FILLING_STATES = 2000  # from which the LU factors of a chain with many successors take longer than iterations
MANY_SUCCESSORS = 10  # of a state, on average: grids and trees have fewer, and their factors stay sparse
ITERATIONS, BEGINNINGS = 500, 5  # of a Krylov method, and how often it begins again where it broke down

NEVER_ENDS = "gamma=1: the policy ends with a probability that is lost in rounding; use gamma < 1"


class SingularChainError(ImproperPolicyError):
    """I − P is singular to working precision; args[0] holds the states (int) that hardly end, or a sentence."""


class DiscountedSystem:
    """The LU factors of I − γP for a csr matrix P [n, n] of a chain (rows sum to at most 1).

    Raises:
        SingularChainError: at γ = 1, a chain that hardly ever ends.
    """

    def __init__(self, p: sp.sparse.csr_matrix | np.ndarray, gamma: float) -> None:
        n = p.shape[0]
        self.dense, self.band = n <= DENSE_LIMIT, None
        if self.dense:
            matrix = (p if isinstance(p, np.ndarray) else p.toarray()) * -gamma
            matrix.flat[:: n + 1] += 1.0
            # LAPACK itself: its wrappers take longer than it does on a small matrix. It sees the transpose, uncopied.
            self.factors, self.pivots, failed = sp.linalg.lapack.dgetrf(matrix.T, overwrite_a=1)
            if failed:
                raise SingularChainError(NEVER_ENDS)
            return
        p = sp.sparse.csr_matrix(p)
        own = np.repeat(np.arange(n), np.diff(p.indptr))
        far = p.indices - own
        above, below = max(int(far.max(initial=0)), 1), max(int(-far.min(initial=0)), 1)
        if above * below <= BAND_PRODUCTS:
            self.band = above, below
            # LAPACK sees the transpose, in whose columns the first `above` places are for what pivoting would fill.
            diagonal, depth = above + below, 2 * above + below + 1
            matrix = summed(own * depth + diagonal + far, -gamma * p.data, n * depth).reshape(n, depth)
            matrix[:, diagonal] += 1.0
            self.factors, self.pivots, failed = sp.linalg.lapack.dgbtrf(matrix.T, above, below, overwrite_ab=1)
            if failed:
                raise SingularChainError(NEVER_ENDS)
        else:
            try:
                self.factors = sp.sparse.linalg.splu((sp.sparse.identity(n, format="csc") - gamma * p).tocsc())
            except RuntimeError as error:  # SuperLU's way to say so
                raise SingularChainError(NEVER_ENDS) from error

    def solve(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Solve (I − γP) x = b for x [n] or [n, k], or with the transposed matrix."""
        if self.dense:
            return sp.linalg.lapack.dgetrs(self.factors, self.pivots, b, trans=int(not transposed))[0]
        if self.band:
            return sp.linalg.lapack.dgbtrs(self.factors, *self.band, b, self.pivots, trans=int(not transposed))[0]
        return self.factors.solve(b, trans="T" if transposed else "N")


def fills_up(p: sp.sparse.csr_matrix | np.ndarray) -> bool:
    """Whether the LU factors of a chain are likely to be dense: many states, each with many successors all over."""
    return not isinstance(p, np.ndarray) and p.shape[0] > FILLING_STATES and p.nnz > MANY_SUCCESSORS * p.shape[0]


def discounted_visits(p: sp.sparse.csr_matrix, begin: np.ndarray, gamma: float) -> np.ndarray | None:
    """x = begin + γ Pᵀ x for γ < 1 without factors, float [n], by BiCGSTAB (van der Vorst 1992); None where it does not
    come within 1e-12 of the sum of all visits, as the residual proves: ‖x − x*‖₁ ≤ ‖residual‖₁ / (1 − γ). It may break
    down early (a product of two residuals that is 0), and then begins again from where it is."""
    n = p.shape[0]
    back = p.T.tocsr()
    system = sp.sparse.linalg.LinearOperator((n, n), matvec=lambda x: x - gamma * (back @ x), dtype=np.float64)
    x, least = begin, 1e-12 * (1.0 - gamma)
    for _ in range(BEGINNINGS):
        x, failed = sp.sparse.linalg.bicgstab(system, begin, x0=x, rtol=1e-15, atol=0.0, maxiter=ITERATIONS)
        if np.abs(begin + gamma * (back @ x) - x).sum() <= least * np.abs(x).sum():
            return x
        if failed >= 0:  # no breakdown: it is too slow
            break
    return None
