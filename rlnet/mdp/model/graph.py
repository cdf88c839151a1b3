"""Graph algorithms on models: reachability of the end and end components, needed at γ = 1."""

from __future__ import annotations

import numpy as np
import scipy as sp

DENSE_STATES = 150
CLOSED_STATES = 64  # up to here products of the dense graph find strong components faster than a sparse one is set up
TRIMS = 20  # rounds between two searches for components


def state_graph(pair_state: np.ndarray, successors: sp.sparse.csr_matrix, use: np.ndarray) -> sp.sparse.csr_matrix:
    """Adjacency matrix, csr [S, S]: an edge s → s' for every successor of the pairs in `use` (bool [P])."""
    counts = np.diff(successors.indptr)
    edge = np.repeat(use, counts)
    source = np.repeat(pair_state, counts)[edge]
    n = successors.shape[1]
    graph = sp.sparse.csr_matrix(
        (np.ones(len(source), dtype=np.int8), (source, successors.indices[edge])), shape=(n, n)
    )
    graph.data[:] = 1
    return graph


def steps_to_end(
    pair_state: np.ndarray, successors: sp.sparse.csr_matrix, ends: np.ndarray, use: np.ndarray
) -> np.ndarray:
    """Distance to the end, float [S]: the fewest steps in which the pairs in `use` can end; inf if never.

    `ends` bool [P]: the pairs that may end at once.
    """
    n = successors.shape[1]
    if n <= DENSE_STATES:
        return _steps_dense(pair_state, successors, ends, use)
    graph = state_graph(pair_state, successors, use).tocoo()
    exits = np.unique(pair_state[ends & use])
    rows = np.concatenate([graph.col, np.full(len(exits), n)])
    columns = np.concatenate([graph.row, exits])
    backward = sp.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n + 1, n + 1))
    return sp.sparse.csgraph.dijkstra(backward, indices=n, unweighted=True)[:n]


def _steps_dense(
    pair_state: np.ndarray, successors: sp.sparse.csr_matrix, ends: np.ndarray, use: np.ndarray
) -> np.ndarray:
    """The same, level by level: the set-up of a sparse graph takes longer than a small one's levels."""
    leads = _dense_graph(pair_state, successors, use)
    steps, level, count = np.full(len(leads), np.inf), np.zeros(len(leads), dtype=bool), 1
    level[pair_state[ends & use]] = True
    while level.any():
        steps[level] = count
        level = (leads.dot(level) > 0.0) & (steps == np.inf)
        count += 1
    return steps


def _dense_graph(pair_state: np.ndarray, successors: sp.sparse.csr_matrix, use: np.ndarray) -> np.ndarray:
    """float32 [S, S]: `state_graph` as an array."""
    counts, n = np.diff(successors.indptr), successors.shape[1]
    edge = use.repeat(counts)
    leads = np.zeros((n, n), dtype=np.float32)
    leads[pair_state.repeat(counts)[edge], successors.indices[edge]] = 1.0
    return leads


def _strong_components(pair_state: np.ndarray, successors: sp.sparse.csr_matrix, use: np.ndarray) -> np.ndarray:
    """int [S]: a number for each state, the same where states reach each other by the pairs in `use`."""
    n = successors.shape[1]
    if n > CLOSED_STATES:
        return sp.sparse.csgraph.connected_components(state_graph(pair_state, successors, use), connection="strong")[1]
    reach = _dense_graph(pair_state, successors, use)
    np.fill_diagonal(reach, 1.0)
    for _ in range(n.bit_length()):  # paths of up to 1, 2, 4, ... steps
        reach = np.minimum(reach.dot(reach), 1.0)
    return (reach * reach.T).argmax(axis=1)


def row_any(matrix: sp.sparse.csr_matrix, per_entry: np.ndarray) -> np.ndarray:
    """Row-wise any, bool [rows], of `per_entry` (bool [nnz]) over the stored entries of a matrix."""
    hits = np.concatenate([[0], np.cumsum(per_entry)])
    return hits[matrix.indptr[1:]] > hits[matrix.indptr[:-1]]


def row_min(matrix: sp.sparse.csr_matrix, per_entry: np.ndarray) -> np.ndarray:
    """Row-wise minimum, float [rows], of `per_entry` (float [nnz]) over the stored entries; inf without any."""
    out = np.full(matrix.shape[0], np.inf)
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if len(filled):
        out[filled] = np.minimum.reduceat(per_entry, matrix.indptr[:-1][filled])
    return out


def sure_to_end(
    pair_state: np.ndarray, successors: sp.sparse.csr_matrix, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(safe bool [S], steps float [S], use bool [P]): the states from which some policy ends with probability 1.

    The greatest set that can be left towards the end while no action used can fall out of it; `use` are the pairs that
    stay inside it, `steps` the fewest steps to the end by them.
    """
    n = successors.shape[1]
    safe, use = np.ones(n, dtype=bool), np.ones(len(pair_state), dtype=bool)
    while True:
        steps = steps_to_end(pair_state, successors, ends, use)
        reached = np.isfinite(steps)
        if (reached == safe).all():
            return safe, steps, use
        safe = reached
        use = safe[pair_state] & ~row_any(successors, ~safe[successors.indices])


def end_components(
    pair_state: np.ndarray, successors: sp.sparse.csr_matrix, use: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(component int [S], −1 outside; inside bool [P]): the maximal end components of the pairs in `use`.

    An end component is a set of states with actions by which a policy stays in it for ever and gets from each of its
    states to each other. `use` must hold no pair that may end the episode. (de Alfaro 1997, ch. 3.)
    """
    inside = use.copy()
    if not inside.any():
        return np.full(successors.shape[1], -1), inside
    source = np.repeat(pair_state, np.diff(successors.indptr))
    while True:
        for _ in range(TRIMS):  # pairs that may fall out of the states which still have one: cheaper than components
            here = np.zeros(successors.shape[1], dtype=bool)
            here[pair_state[inside]] = True
            leaves = inside & row_any(successors, ~here[successors.indices])
            if not leaves.any():
                break
            inside &= ~leaves
        if not inside.any():
            return np.full(successors.shape[1], -1), inside
        label = _strong_components(pair_state, successors, inside)
        leaves = inside & row_any(successors, label[successors.indices] != label[source])
        if not leaves.any():
            member = np.zeros(successors.shape[1], dtype=bool)
            member[pair_state[inside]] = True
            return np.where(member, label, -1), inside
        inside &= ~leaves
