"""Markov chain of a policy: values and visits by one factorisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy as sp

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import row_any
from rlnet.mdp.operators.bellman import EPS, System, system_of
from rlnet.mdp.operators.linear_systems import DENSE_LIMIT, DiscountedSystem

KEPT_STATES = 20_000  # a model up to this size keeps its last chain: a policy is judged by its values and its visits

Matrix: TypeAlias = "np.ndarray | sp.sparse.csr_matrix"


class Chain:
    """r_π [n], P_π [n, n] (dense where that is small) and ends bool [n] of a policy with probability `weight` [P]."""

    def __init__(self, system: System, weight: np.ndarray) -> None:
        states, begin = system.first_pairs()
        if system.n <= DENSE_LIMIT and isinstance(system.rows, np.ndarray) and len(begin):
            self.r, self.p, self.ends = np.zeros(system.n), np.zeros((system.n, system.n)), np.zeros(system.n, bool)
            self.p[states] = np.add.reduceat(weight[:, None] * system.rows, begin)
            self.r[states] = np.add.reduceat(weight * system.reward, begin)
            self.ends[states] = np.logical_or.reduceat(system.ends & (weight > 0.0), begin)
        else:
            used = np.flatnonzero(weight)
            counts = np.bincount(system.pair_state[used], minlength=system.n)
            ptr = np.concatenate([[0], np.cumsum(counts)])
            mix = sp.sparse.csr_matrix((weight[used], used, ptr), shape=(system.n, len(weight)))
            self.r, self.p = mix @ system.reward, (mix @ system.transition).tocsr()
            self.ends = row_any(mix, system.ends[used])
        self._factors: tuple[float, DiscountedSystem] | None = None

    def solver(self, gamma: float) -> DiscountedSystem:
        """The factors of I − γ P_π over all states; the last ones are kept."""
        kept = self._factors
        if kept is None or kept[0] != gamma:
            kept = self._factors = (gamma, DiscountedSystem(self.p, gamma))
        return kept[1]


def chain_of(mdp: FiniteMDP, policy: np.ndarray) -> Chain:
    """The Markov chain of a checked policy, float [S, A]."""
    kept = mdp.__dict__.get("_last_chain")
    if kept is not None and np.array_equal(kept[0], policy):
        return kept[1]
    chain = Chain(system_of(mdp), policy[mdp.pair_state, mdp.pair_action])
    if mdp.n_states <= KEPT_STATES:
        mdp.__dict__["_last_chain"] = (policy.copy(), chain)
    return chain


def part(p: Matrix, index: np.ndarray) -> Matrix:
    """Submatrix: the rows and columns `index` (int) of a square matrix."""
    return p[np.ix_(index, index)] if isinstance(p, np.ndarray) else p[index][:, index]


def chain_values(
    r: np.ndarray, chain: Chain, gamma: float, live: np.ndarray | None, rounding: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, float, bool]:
    """(v [n], bound, whether dense): v = r + γ P v on the states in `live` (None: all), 0 elsewhere.

    The bound is the residual times ‖(I − γP)⁻¹‖∞. With w ≥ 0 and w − γPw ≥ c > 0, which is checked, that norm is at
    most max w / c; w is the expected (discounted) number of steps to the end, a second right-hand side.
    """
    index = None if live is None or live.all() else np.flatnonzero(live)
    p, r_live = (chain.p, r) if index is None else (part(chain.p, index), r[index])
    v = np.zeros(len(r))
    if len(r_live) == 0:
        return v, 0.0, True
    solver = chain.solver(gamma) if index is None else DiscountedSystem(p, gamma)
    b = np.stack([r_live, np.ones(len(r_live))], axis=1)
    x = solver.solve(b)
    x += solver.solve(b - (x - gamma * (p @ x)))
    after = gamma * (p @ x)
    values, steps = x[:, 0], x[:, 1]
    residual = float(np.abs(r_live + after[:, 0] - values).max()) + rounding(values)
    terms = len(r_live) if isinstance(p, np.ndarray) else int(np.diff(p.indptr).max(initial=0))
    margin = float((steps - after[:, 1]).min()) - 2 * (terms + 8) * EPS * float(np.abs(steps).max())
    v[slice(None) if index is None else index] = values
    bound = residual * float(steps.max()) / margin if margin > 0 and steps.min() >= 0 else np.inf
    return v, bound, solver.dense


def reachable(graph: Matrix, start: np.ndarray, backward: bool = False) -> np.ndarray:
    """bool [n]: the states that paths of the graph, or against its edges, reach from `start` (bool [n]) and itself."""
    if isinstance(graph, np.ndarray):
        edges = (graph if backward else graph.T) != 0.0
        reached = start
        while True:
            wider = reached | edges[:, reached].any(axis=1)
            if np.array_equal(wider, reached):
                return wider
            reached = wider
    graph = graph.T.tocsr() if backward else graph
    n = graph.shape[0]
    sources = np.flatnonzero(start)
    ptr = np.append(graph.indptr, graph.nnz + len(sources))
    wider = sp.sparse.csr_matrix(
        (np.ones(graph.nnz + len(sources)), np.concatenate([graph.indices, sources]), ptr), shape=(n + 1, n + 1)
    )
    order = sp.sparse.csgraph.breadth_first_order(wider, n, return_predecessors=False)
    reached = np.zeros(n + 1, dtype=bool)
    reached[order] = True
    return reached[:n]
