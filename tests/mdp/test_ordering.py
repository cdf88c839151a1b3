"""Acyclic and nearly acyclic models, with states numbered at random: solved in topological order."""

import numpy as np
import pytest
from mdp_problems import random_mdp
from support import quick

from rlnet.mdp import FiniteMDP, solve
from rlnet.mdp.model.topological_order import ordered, seems_acyclic
from rlnet.mdp.operators.bellman import system_of
from rlnet.mdp.solvers import policy_iteration

LAYERS, WIDTH = 400, 20


def layered(seed=0, stay=0.0, back=0.0):
    """(mdp, number of each [layer, place]): 400 layers of 20 states, 2 actions, each to 3 states of the next layer.

    `stay`: the chance of a step to remain where it is; `back`: the share of states in a loop of two with a neighbour.
    """
    rng, n = np.random.default_rng(seed), LAYERS * WIDTH
    number = rng.permutation(n).reshape(LAYERS, WIDTH)
    rows = []
    for layer in range(LAYERS):
        for place in range(WIDTH):
            for a in range(2):
                chance = rng.dirichlet(np.ones(3)) * (1.0 - stay)
                over = layer == LAYERS - 1
                for p in chance:
                    t = number[layer, place] if over else number[layer + 1, rng.integers(WIDTH)]
                    rows.append((number[layer, place], a, t, p, rng.normal(), over))
                if stay:
                    rows.append((number[layer, place], a, number[layer, place], stay, -1.0, False))
            if rng.random() < back and place + 1 < WIDTH:
                for s, t in ((place, place + 1), (place + 1, place)):
                    rows.append((number[layer, s], 2, number[layer, t], 0.5, -0.1, False))
                    rows.append((number[layer, s], 2, number[layer, t], 0.5, -0.1, True))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    state, action, to, chance, reward, over = columns
    # A place may have been given its loop from both sides: its chances are shared.
    total = np.bincount(state * 3 + action, chance)[state * 3 + action]
    mdp = FiniteMDP.from_coo(state, action, to, chance / total, reward, over, n_states=n, n_actions=3)
    return mdp, number


def layer_by_layer(mdp, number, gamma):
    """v* from the last layer to the first, from the expected rewards and transitions."""
    v, q = np.zeros(mdp.n_states), np.zeros(mdp.n_pairs)
    for layer in number[::-1]:
        pairs = np.concatenate([np.arange(mdp.pair_ptr[s], mdp.pair_ptr[s + 1]) for s in layer])
        q[pairs] = mdp.expected_reward[pairs] + gamma * (mdp.transition[pairs] @ v)
        v[layer] = [q[mdp.pair_ptr[s] : mdp.pair_ptr[s + 1]].max() for s in layer]
    return v


@pytest.mark.parametrize("gamma", quick([0.99, 1.0], 1))
def test_an_acyclic_model_takes_a_few_sweeps(gamma):
    mdp, number = layered()
    solution = solve(mdp, gamma, tol=1e-6, verify=True)
    assert "topological" in solution.method
    assert np.abs(solution.v - layer_by_layer(mdp, number, gamma)).max() <= solution.error_bound <= 1e-6
    q = mdp.expected_reward + gamma * (mdp.transition @ solution.v)
    np.testing.assert_allclose(solution.q[mdp.pair_state, mdp.pair_action], q, atol=1e-9)
    if gamma < 1.0:
        assert solution.sweeps <= 8


@pytest.mark.parametrize("gamma", [0.99, 1.0])
@pytest.mark.parametrize("kind", quick([{"stay": 0.3}, {"back": 0.1}, {"stay": 0.2, "back": 0.1}], [{"back": 0.1}]))
def test_a_nearly_acyclic_model_is_solved_in_order_too(gamma, kind):
    mdp, _ = layered(1, **kind)
    solution = solve(mdp, gamma, tol=1e-6, verify=True)
    other = solve(mdp, gamma, tol=1e-6, method="modified_policy_iteration")
    assert "topological" in solution.method
    assert "topological" not in other.method
    assert np.abs(solution.v - other.v).max() <= solution.error_bound + other.error_bound
    assert solution.error_bound <= 1e-6
    assert solution.sweeps < other.sweeps


def test_orders_put_successors_first():
    rng, found = np.random.default_rng(5), 0
    for _ in range(300):
        mdp = random_mdp(rng)
        system = system_of(mdp)
        order = ordered(system)
        if order is None:
            continue
        found += 1
        new = order.system
        np.testing.assert_array_equal(np.sort(order.rank), np.arange(mdp.n_states))
        np.testing.assert_array_equal(new.pair_state, np.sort(new.pair_state))
        v = rng.normal(size=mdp.n_states)
        moved = np.empty_like(v)
        moved[order.rank] = v
        np.testing.assert_allclose(new.q(moved, 0.9)[order.pair_rank], system.q(v, 0.9), atol=1e-9)
    assert found > 30


def test_random_walks_tell_cyclic_models():
    rng, n = np.random.default_rng(0), 20_000
    state = np.repeat(np.arange(n), 3)
    mdp = FiniteMDP.from_coo(state, 0 * state, rng.integers(0, n, 3 * n), np.full(3 * n, 1 / 3), 0.0 * state)
    assert not seems_acyclic(mdp)
    assert seems_acyclic(layered()[0])


def test_the_compiled_walk_back_from_the_ends_chooses_as_the_other_does(monkeypatch):
    rng, compared = np.random.default_rng(4), 0
    for _ in range(200):
        system = system_of(random_mdp(rng, ends=0.3))
        safe, pairs = policy_iteration.proper_policy(system)
        with monkeypatch.context() as patch:
            patch.setattr(policy_iteration, "DIRECT_STATES", 0)
            found = policy_iteration.proper_policy(system)
        np.testing.assert_array_equal(found[0], safe)
        np.testing.assert_array_equal(found[1], pairs)
        compared += safe.all()
    assert compared > 50
