"""End components against a search of all subsets of states."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from mdp_problems import random_mdp
from support import quick

from rlnet.mdp.model import graph
from rlnet.mdp.model.graph import end_components
from rlnet.mdp.operators.bellman import system_of


def maximal_components(pair_state, to, use):
    """[(states, pairs)] of the maximal end components, from the definition: the largest sets of states with pairs in
    `use` that lead nowhere else, by which each state reaches each other. `to`: the successors of each pair."""
    found = []
    states = sorted({int(pair_state[i]) for i in use})
    for size in range(len(states), 0, -1):
        for members in itertools.combinations(states, size):
            inner = [i for i in use if pair_state[i] in members and set(to[i]) <= set(members)]
            reach = {s: {s} for s in members}
            for _ in members:
                for i in inner:
                    for s in members:
                        if pair_state[i] in reach[s]:
                            reach[s] |= set(to[i])
            acts = {int(pair_state[i]) for i in inner} == set(members)
            if acts and all(reach[s] == set(members) for s in members) and not any(set(members) <= m for m, _ in found):
                found.append((set(members), set(inner)))
    return found


@pytest.mark.parametrize("trims", quick([0, 1, 20], [1]))
@pytest.mark.parametrize("closed", [0, 64])  # by sparse graphs and by dense ones
def test_end_components_are_the_maximal_ones(trims, closed, monkeypatch):
    monkeypatch.setattr(graph, "TRIMS", trims)
    monkeypatch.setattr(graph, "CLOSED_STATES", closed)
    rng, several = np.random.default_rng(3), 0
    for _ in range(300):
        system = system_of(random_mdp(rng, ends=0.1))
        p = system.transition
        use = ~system.ends & (rng.random(len(system.ends)) < 0.9)
        component, inside = end_components(system.pair_state, p, use)
        to = [p.indices[p.indptr[i] : p.indptr[i + 1]].tolist() for i in range(p.shape[0])]
        wanted = maximal_components(system.pair_state, to, np.flatnonzero(use).tolist())
        names = [name for name in np.unique(component) if name >= 0]
        got = [set(np.flatnonzero(component == name).tolist()) for name in names]
        assert sorted(map(sorted, got)) == sorted(sorted(states) for states, _ in wanted)
        assert set(np.flatnonzero(inside).tolist()) == set().union(*(pairs for _, pairs in wanted))
        several += len(wanted) > 1
    assert several > 10


def test_long_rings_are_one_component_up_to_the_largest_dense_graph():
    for n in (*range(1, 12), 33, 63, 64, 65, 100):
        ring = sp.csr_matrix((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
        component, inside = end_components(np.arange(n), ring, np.ones(n, dtype=bool))
        assert inside.all()
        assert len(np.unique(component)) == 1
        chain = ring[: n - 1]  # without the way back: none
        assert not end_components(np.arange(n - 1), chain, np.ones(n - 1, dtype=bool))[1].any()
