"""Small models at γ = 1 in which most steps are free: values and listed actions, against every policy there is."""

import numpy as np
import pytest
from mdp.test_agreement import undiscounted_truth
from mdp.test_methods import lake
from mdp_problems import random_mdp

from rlnet.mdp import FiniteMDP, evaluate, solve
from rlnet.mdp.model.graph import end_components
from rlnet.mdp.operators.bellman import system_of


def mostly_free(rng):
    """A random model whose rewards are 0, but for about a third of the pairs, where they are whole."""
    mdp = random_mdp(rng, ends=0.2)
    reward = np.repeat(rng.integers(-2, 3, mdp.n_pairs) * (rng.random(mdp.n_pairs) < 0.3), np.diff(mdp.outcome_ptr))
    names = ("pair_ptr", "pair_action", "outcome_ptr", "next_state", "probability")
    return FiniteMDP(*(getattr(mdp, name) for name in names), reward, mdp.terminated, mdp.start, mdp.n_actions)


@pytest.mark.filterwarnings("ignore:tolerance")  # loops whose rewards cancel are not always proved
@pytest.mark.parametrize("method", ["auto", pytest.param("modified_policy_iteration", marks=pytest.mark.slow)])
def test_values_and_listed_actions_against_every_policy(method):
    rng, told, looped = np.random.default_rng(1), 0, 0
    for _ in range(400):
        mdp = mostly_free(rng)
        if np.prod(np.maximum(np.diff(mdp.pair_ptr), 1)) > 64:
            continue
        truth = undiscounted_truth(mdp)
        if isinstance(truth, type):
            with pytest.raises(truth):
                solve(mdp, 1.0, tol=1e-6, method=method)
            continue
        found = solve(mdp, 1.0, tol=1e-6, method=method)
        told += found.converged
        assert np.abs(found.v - truth).max() <= found.error_bound
        for policy in (found.policy, (found.policy * rng.random(found.policy.shape)).argmax(axis=1)):
            worth = evaluate(mdp, np.where(mdp.terminal, 0, policy) if policy.ndim == 1 else policy, 1.0)
            assert (truth - worth.v).max() <= found.policy_loss + worth.error_bound
        system = system_of(mdp)
        _, inside = end_components(mdp.pair_state, mdp.transition, (system.reward == 0) & ~system.ends)
        looped += inside.any() and np.abs(truth[mdp.pair_state[inside]]).max() > 0.1
    assert told > 50
    assert looped > 5  # free loops that optimal policies must leave


@pytest.mark.parametrize("side", [4, 8, 12])
def test_goal_only_lakes_have_no_loops_left(side):
    mdp = lake(side)
    auto = solve(mdp, 1.0, tol=1e-6, verify=True)
    other = solve(mdp, 1.0, tol=1e-6, method="linear_programming")
    assert np.abs(auto.v - other.v).max() <= auto.error_bound + other.error_bound < 2e-6
    assert auto.policy_loss < 1e-6


@pytest.mark.parametrize("cost", [1e-6, 1e-11])
def test_a_loop_that_costs_less_than_the_bound_is_not_entered(cost):
    """Round 0 and 1 for 1e-11: long waits elsewhere make the bound as large, and the loop looks tied."""
    chain = {s: {0: [(1.0, s + 1, 0.0, False)]} for s in range(2, 101)} | {101: {0: [(1.0, 101, 1.0, True)]}}
    loop = {0: {0: [(1.0, 0, 1.0, True)], 1: [(1.0, 1, -cost, False)]}, 1: {0: [(1.0, 0, 0.0, False)]}}
    solution = solve(FiniteMDP.from_outcomes({**loop, **chain}), 1.0, tol=1e-6)
    assert solution.policy[0, 0] > 0.0
    assert solution.greedy[0] == 0
    assert solution.policy_loss < 1e-6


def test_a_pair_that_may_end_but_hardly_does_is_no_way_out():
    """Waiting 2^14 steps for a reward of 2 loses what the other way is worth more, though each step hardly loses."""
    rest, more = 2.0**-14, 2.0**-26
    wait = [(1.0 - rest, 0, 0.0, False), (rest, 0, 2.0, True)]
    for gain in (more, 2.0**-34):
        mdp = FiniteMDP.from_outcomes({0: {0: wait, 1: [(1.0, 0, 2.0 + gain, True)]}})
        solution = solve(mdp, 1.0, tol=1e-6)
        worst = 2.0 if solution.policy[0, 0] > 0 else 2.0 + gain
        assert solution.v[0] - worst <= solution.policy_loss < 1e-6
