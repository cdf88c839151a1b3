"""Small models at γ = 1 with free steps: values, their bound and the optimal actions, against slower methods."""

import numpy as np
import pytest
from mdp.test_agreement import undiscounted_truth
from mdp.test_methods import lake
from mdp_problems import dense, random_mdp

from rlnet.mdp import FiniteMDP, ImproperPolicyError, UnboundedValueError, solve
from rlnet.mdp.model.graph import end_components
from rlnet.mdp.operators.bellman import system_of
from rlnet.mdp.solvers.small.undiscounted import free_steps
from rlnet.mdp.solvers.value_iteration import Progress


def mostly_free(rng):
    """A random model whose rewards are 0, but for about a third of the pairs, where they are whole."""
    mdp = random_mdp(rng, ends=0.2)
    reward = np.repeat(rng.integers(-2, 3, mdp.n_pairs) * (rng.random(mdp.n_pairs) < 0.3), np.diff(mdp.outcome_ptr))
    names = ("pair_ptr", "pair_action", "outcome_ptr", "next_state", "probability")
    return FiniteMDP(*(getattr(mdp, name) for name in names), reward, mdp.terminated, mdp.start, mdp.n_actions)


@pytest.mark.filterwarnings("ignore:tolerance")  # the slower method does not always prove as much
def test_values_bounds_and_optimal_actions_on_random_models():
    rng, looped, told = np.random.default_rng(0), 0, 0
    for _ in range(1500):
        mdp = mostly_free(rng)
        try:
            other = solve(mdp, 1.0, tol=1e-6, method="policy_iteration")
            found = free_steps(system_of(mdp), 1e-6, Progress())
        except (ImproperPolicyError, UnboundedValueError):
            continue
        if found is None or found[3] is None or not other.converged:
            continue
        v, q, bound, (optimal, _) = found
        told += 1
        assert np.abs(v - other.v).max() <= bound + other.error_bound <= 2e-6
        transition, reward = dense(mdp)
        exact = (reward + transition @ v)[mdp.pair_state, mdp.pair_action]
        np.testing.assert_allclose(q, exact, rtol=0, atol=1e-12 * (1.0 + np.abs(v).max()))
        policy = np.zeros((mdp.n_states, mdp.n_actions))
        policy[mdp.pair_state[optimal], mdp.pair_action[optimal]] = 1.0
        np.testing.assert_array_equal(policy > 0, other.policy > 0)
        _, inside = end_components(mdp.pair_state, mdp.transition, (system_of(mdp).reward == 0) & ~system_of(mdp).ends)
        looped += inside.any() and np.abs(v[mdp.pair_state[inside]]).max() > 0.1
    assert told > 500
    assert looped > 50  # free loops that optimal policies must leave


def test_values_lie_within_the_bound_of_every_policy_tried():
    rng, told = np.random.default_rng(1), 0
    for _ in range(400):
        mdp = mostly_free(rng)
        if np.prod(np.maximum(np.diff(mdp.pair_ptr), 1)) > 64:
            continue
        truth = undiscounted_truth(mdp)
        if isinstance(truth, type):
            continue
        found = free_steps(system_of(mdp), 1e-8, Progress())
        if found is not None:
            told += 1
            assert np.abs(found[0] - truth).max() <= found[2]
    assert told > 50


@pytest.mark.parametrize("side", [4, 8, 12])
def test_goal_only_lakes_have_no_loops_left(side):
    mdp = lake(side)
    auto = solve(mdp, 1.0, tol=1e-6, verify=True)
    other = solve(mdp, 1.0, tol=1e-6, method="policy_iteration")
    assert auto.method == "policy_iteration (dense LU)"
    assert np.abs(auto.v - other.v).max() <= auto.error_bound + other.error_bound < 2e-6
    np.testing.assert_array_equal(auto.policy, other.policy)


def test_limits_and_loose_bounds_are_left_to_other_methods():
    system = system_of(lake(8))
    assert free_steps(system, 1e-6, Progress()) is not None
    assert free_steps(system, 1e-6, Progress(max_sweeps=1)) is None
    assert free_steps(system, 1e-15, Progress()) is None
    assert free_steps(system_of(lake(20)), 1e-6, Progress()) is None


def test_a_loop_that_costs_less_than_the_bound_is_looked_at_again():
    """Round 0 and 1 for 1e-11: long waits elsewhere make the bound as large, and the loop looks tied."""
    chain = {s: {0: [(1.0, s + 1, 0.0, False)]} for s in range(2, 101)} | {101: {0: [(1.0, 101, 1.0, True)]}}
    for cost, told in ((1e-6, True), (1e-11, False)):
        loop = {0: {0: [(1.0, 0, 1.0, True)], 1: [(1.0, 1, -cost, False)]}, 1: {0: [(1.0, 0, 0.0, False)]}}
        mdp = FiniteMDP.from_outcomes({**loop, **chain})
        found = free_steps(system_of(mdp), 1e-6, Progress())
        assert (found[3] is not None) == told
        solution = solve(mdp, 1.0, tol=1e-6)
        assert solution.policy[0, 0] == 1.0


def test_a_pair_that_may_end_but_hardly_does_is_no_way_out():
    """Waiting 2^14 steps for a reward of 2 loses what the other way is worth more, though each step hardly loses."""
    rest, more = 2.0**-14, 2.0**-26
    wait = [(1.0 - rest, 0, 0.0, False), (rest, 0, 2.0, True)]
    for gain in (more, 2.0**-34):
        mdp = FiniteMDP.from_outcomes({0: {0: wait, 1: [(1.0, 0, 2.0 + gain, True)]}})
        solution = solve(mdp, 1.0, tol=1e-6)
        worst = 2.0 if solution.policy[0, 0] > 0 else 2.0 + gain
        assert solution.v[0] - worst <= solution.policy_loss < 1e-6
