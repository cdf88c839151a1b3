"""Published values, to the digits printed."""

import gymnasium
import numpy as np
import pytest
from mdp_problems import cliff, dense, example_3_5, figure_4_1, random_walk

from rlnet.mdp import FiniteMDP, evaluate, occupancy, solve


def uniform(mdp):
    return mdp.available / np.maximum(mdp.available.sum(axis=1, keepdims=True), 1)


def test_figure_4_1_random_policy():
    mdp = figure_4_1()
    solution = evaluate(mdp, uniform(mdp), 1.0)
    expected = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    np.testing.assert_allclose(solution.v, expected, atol=1e-9)
    assert solution.error_bound < 1e-9
    # The printed greedy policies of the figure: in state 1 only left, in state 3 left and down.
    np.testing.assert_array_equal(solve(mdp, 1.0).policy[1], [0, 0, 0, 1])
    np.testing.assert_array_equal(solve(mdp, 1.0).policy[3], [0, 0, 0.5, 0.5])
    np.testing.assert_allclose(solve(mdp, 1.0).v[[1, 3, 6]], [-1, -3, -3])


def test_example_3_5_random_policy():
    mdp = example_3_5()
    v = evaluate(mdp, uniform(mdp), 0.9).v
    np.testing.assert_allclose(v[:5], [3.309, 8.789, 4.428, 5.322, 1.492], atol=5e-4)
    np.testing.assert_allclose(v[20:], [-1.858, -1.345, -1.229, -1.423, -1.975], atol=5e-4)


def test_example_3_8_optimal():
    solution = solve(example_3_5(), 0.9)
    np.testing.assert_allclose(solution.v[:5], [21.977, 24.419, 21.977, 19.419, 17.477], atol=5e-4)
    # The table prints 12.978 for .9^6 · 24.4194 = 12.97749: to its digits it is off by one.
    np.testing.assert_allclose(solution.v[20:], [14.419, 16.022, 14.419, 12.978, 11.680], atol=6e-4)
    best = 10 / (1 - 0.9**5)
    np.testing.assert_allclose(solution.v[20:], [best * 0.9**k for k in (5, 4, 5, 6, 7)], rtol=1e-12)
    np.testing.assert_array_equal(solution.policy[1], np.full(4, 0.25))  # every action jumps: all are optimal


@pytest.mark.parametrize(("gamma", "value"), [(0.99, 0.542026), (0.9, 0.068891)])
def test_frozen_lake(gamma, value):
    solution = solve(FiniteMDP.from_env(gymnasium.make("FrozenLake-v1")), gamma)
    assert solution.v[0] == pytest.approx(value, abs=5e-7)


def test_gymnasiums_cliff_is_ours():
    theirs = solve(FiniteMDP.from_env(gymnasium.make("CliffWalking-v1")), 1.0)
    ours = solve(cliff(), 1.0)
    np.testing.assert_allclose(theirs.v[:37], ours.v[:37], atol=1e-9)


def test_cliff_optimal_and_epsilon_soft():
    mdp, start, epsilon = cliff(), 36, 0.1
    best = solve(mdp, 1.0)
    assert best.v[start] == pytest.approx(-13, abs=1e-9)
    acts = ~mdp.terminal[:, None]
    ties = np.where(acts, (1 - epsilon) * best.policy + epsilon / 4, 0.0)
    assert evaluate(mdp, ties, 1.0).v[start] == pytest.approx(-50.800, abs=5e-4)
    edge = np.where(acts, (1 - epsilon) * np.eye(4)[best.policy.argmax(axis=1)] + epsilon / 4, 0.0)
    assert evaluate(mdp, edge, 1.0).v[start] == pytest.approx(-45.803, abs=5e-4)


def test_cliff_best_epsilon_soft_policy():
    transition, reward = dense(cliff())
    soft = 0.9 * transition + 0.1 * transition.mean(axis=1, keepdims=True)
    mixed = 0.9 * reward + 0.1 * reward.mean(axis=1, keepdims=True)
    # What ends in `dense` is missing mass; here it goes to the terminal state 47 by hand.
    soft[:, :, 47] += 1.0 - soft.sum(axis=2)
    mdp = FiniteMDP.from_arrays(soft, mixed, terminal=cliff().terminal)
    assert solve(mdp, 1.0).v[36] == pytest.approx(-20.708, abs=5e-4)


def test_random_walk_fixed_points():
    mdp = random_walk()
    policy = np.zeros(1000, dtype=int)
    solution = evaluate(mdp, policy, 1.0)
    assert solution.v[0] == pytest.approx(-0.92196, abs=5e-6)
    weight = occupancy(mdp, policy, 1.0)
    features = np.repeat(np.eye(10), 100, axis=0)
    mc = np.linalg.solve(features.T @ (weight[:, None] * features), features.T @ (weight * solution.v))
    expected_features = mdp.transition @ features
    matrix = features.T @ (weight[:, None] * (features - expected_features))
    td = np.linalg.solve(matrix, features.T @ (weight * mdp.expected_reward))
    for w, error in ((mc, 0.05438), (td, 0.11674)):
        rmsve = np.sqrt((weight * (features @ w - solution.v) ** 2).sum())
        assert rmsve == pytest.approx(error, abs=5e-6)


def test_frozen_lake_within_a_hundred_steps():
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))
    best = solve(mdp, 1.0, horizon=100)
    assert best.v[0, 0] == pytest.approx(0.744190, abs=5e-7)
    assert best.v.shape == (101, 16)
    assert best.policy.shape == (100, 16, 4)
    greedy = solve(mdp, 0.99).policy
    assert evaluate(mdp, greedy, 1.0, horizon=100).v[0, 0] == pytest.approx(0.740165, abs=5e-7)
    assert evaluate(mdp, best.policy, 1.0, horizon=100).v[0, 0] == pytest.approx(0.744190, abs=5e-7)


def test_time_limit_probe_has_the_value_of_the_task_without_limit():
    mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, 1.0, False)]}})
    assert solve(mdp, 0.99).v[0] == pytest.approx(100.0, abs=1e-9)


def test_occupancy_is_discounted_visitation():
    mdp = cliff()
    policy = uniform(mdp)
    transition, _ = dense(mdp)
    chain = np.einsum("sa,sat->st", policy, transition)
    for gamma in (0.0, 0.5, 0.95):
        visits, now = np.zeros(48), mdp.start.copy()
        for t in range(600):
            visits += gamma**t * np.where(mdp.terminal, 0, now)
            now = now @ chain
        np.testing.assert_allclose(occupancy(mdp, policy, gamma), visits / visits.sum(), atol=1e-9)


def test_occupancy_weighs_rewards_into_the_return():
    mdp = cliff()
    policy = uniform(mdp)
    for gamma in (0.9, 1.0):
        weight = occupancy(mdp, policy, gamma)
        _, reward = dense(mdp)
        mean = (weight * (policy * reward).sum(axis=1)).sum()
        # J = (expected number of discounted steps) × (mean reward per visit).
        ones = FiniteMDP.from_outcomes(
            {s: {a: [(1.0, t, 1.0, t == 47)] for a, t in row.items()} for s, row in _targets(mdp).items()}, 48, 4
        )
        steps = evaluate(ones, policy, gamma, tol=1e-6).v[36]
        assert evaluate(mdp, policy, gamma, tol=1e-6).v[36] == pytest.approx(steps * mean, rel=1e-9)


def _targets(mdp):
    index = mdp.pair_index
    return {
        s: {a: int(mdp.next_state[mdp.outcome_ptr[index[s, a]]]) for a in range(4) if index[s, a] >= 0}
        for s in range(48)
    }
