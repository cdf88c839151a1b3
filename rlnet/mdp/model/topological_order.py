"""Topological order of (nearly) acyclic models, in which one sweep settles almost all values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy as sp

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import state_graph
from rlnet.mdp.operators.bellman import System

WALKS = 8
LONG_WAY = 64  # steps; to come back after more than these twice is no small loop
OFTEN = 0.15  # of the steps
ALONE = 0.5  # share of strongly connected components in the states from which their order pays


def seems_acyclic(mdp: FiniteMDP) -> bool:
    """Whether random walks hardly ever revisit a state, so that computing the components is worth its time. Cached.

    A walk of 2 √n steps comes back even in a random graph, after many steps; in a grid it comes back all the time.
    """
    kept = mdp.__dict__.get("_seems_acyclic")
    if kept is None:
        kept = mdp.__dict__["_seems_acyclic"] = _walks_hardly_return(mdp)
    return kept


def _walks_hardly_return(mdp: FiniteMDP) -> bool:
    if mdp.n_pairs == 0 or int(np.diff(mdp.outcome_ptr).max()) == 1:
        return False  # deterministic models have a pass of their own: `rlnet.mdp.solvers.compiled.deterministic`
    rng, limit, steps, back, far = np.random.default_rng(0), 2 * int(np.sqrt(mdp.n_states)) + 8, 1, 0, 0
    for state in mdp.pair_state[rng.integers(mdp.n_pairs, size=WALKS)]:
        s, seen = int(state), dict[int, int]()
        for now, (pick, which) in enumerate(rng.random((limit, 2)).tolist()):
            first, last = int(mdp.pair_ptr[s]), int(mdp.pair_ptr[s + 1])
            if first == last:
                break
            if s in seen:
                back += 1
                far += now - seen[s] > LONG_WAY
            if far >= 2:
                return False
            seen[s] = now
            steps += 1
            i = first + int(pick * (last - first))
            k = int(mdp.outcome_ptr[i]) + int(which * int(mdp.outcome_ptr[i + 1] - mdp.outcome_ptr[i]))
            if mdp.terminated[k]:
                break
            if mdp.next_state[k] == s:
                del seen[s]  # to stay is no cycle
            s = int(mdp.next_state[k])
    return back <= OFTEN * steps


@dataclass(frozen=True, eq=False)
class Ordered:
    """A system with renumbered states."""

    system: System
    rank: np.ndarray  # int [n], the new number of each state
    pair_rank: np.ndarray  # int [P], the new number of each pair
    acyclic: bool  # no state can be come back to, nor stayed in


def ordered(system: System) -> Ordered | None:
    """States in topological order of their strongly connected components (Tarjan 1972), those that end first; None
    where most states are in one component with others, or the given order is such an order already."""
    graph = state_graph(system.pair_state, system.transition, np.ones(len(system.pair_state), dtype=bool))
    count, label = sp.sparse.csgraph.connected_components(graph, connection="strong")
    if count < ALONE * system.n:
        return None
    source = np.repeat(np.arange(system.n), np.diff(graph.indptr))
    along = graph.indices <= source
    if along.all() or (graph.indices >= source).all():
        return None
    if (label[source] < label[graph.indices]).any():  # SciPy numbers them so, but does not promise it
        return None
    rank = np.empty(system.n, dtype=np.int64)
    rank[np.argsort(label, kind="stable")] = np.arange(system.n)
    pairs = np.argsort(rank[system.pair_state], kind="stable")
    pair_rank = np.empty(len(pairs), dtype=np.int64)
    pair_rank[pairs] = np.arange(len(pairs))
    transition = system.transition[pairs]
    transition.indices = rank[transition.indices].astype(transition.indices.dtype)
    transition.has_sorted_indices = False
    renumbered = System(
        rank[system.pair_state[pairs]],
        system.reward[pairs],
        system.magnitude[pairs],
        transition,
        system.ends[pairs],
        system.terms,
    )
    return Ordered(renumbered, rank, pair_rank, count == system.n and not (graph.indices == source).any())
