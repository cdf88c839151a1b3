"""Huge rewards in one place: elsewhere, values, bounds and policies are those of the model without it."""

import numpy as np
import pytest

from rlnet.mdp import FiniteMDP, ImproperPolicyError, ToleranceWarning, UnboundedValueError, solve
from rlnet.mdp.solving import METHODS


def walk(seed=0, n=12):
    """A random walk of n states to its end, by two actions with ties nowhere."""
    rng = np.random.default_rng(seed)
    rows = {}
    for s in range(n):
        rows[s] = {}
        for a, cost in enumerate(rng.uniform(-2.0, -1.0, size=2)):
            p = rng.uniform(0.4, 0.9)
            rows[s][a] = [(p, s + 1, cost, s == n - 1), (1.0 - p, max(s - 1, 0), cost, False)]
    return rows


def build(rows, n=13):
    return FiniteMDP.from_outcomes(rows, n_states=n, n_actions=4)


def same(found, other, states):
    np.testing.assert_array_equal(found.v[states], other.v[states])
    np.testing.assert_array_equal(found.policy[states], other.policy[states])


@pytest.mark.parametrize("penalty", [-1e8, -1e12, -1e15, -1e30])
@pytest.mark.parametrize("gamma", [0.9, 0.999, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_forbidding_penalty_is_as_good_as_an_action_that_is_not_available(method, gamma, penalty):
    other = solve(build(walk()), gamma, method=method, tol=1e-7)
    for ends in (True, False):  # it may end, or go on
        rows = walk()
        for s in (3, 4, 9):
            rows[s][2] = [(1.0, s + 1, penalty, ends)]
        found = solve(build(rows), gamma, method=method, tol=1e-7, verify=True)
        same(found, other, slice(None))
        assert found.error_bound == other.error_bound <= 1e-7
        assert (found.q[[3, 4, 9], 2] < 0.5 * penalty).all()


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_state_that_pays_a_huge_penalty_spoils_only_those_who_must_enter_it(method, gamma):
    other = solve(build(walk()), gamma, method=method, tol=1e-7)
    rows = walk()
    rows[12] = {0: [(1.0, 12, -1e13, True)]}  # reached by choice from 5, always from 13, by chance from 14
    rows[5][2] = [(1.0, 12, 0.0, False)]
    rows[13] = {0: [(1.0, 12, 0.0, False)]}
    rows[14] = {0: [(0.5, 12, 0.0, False), (0.5, 0, 0.0, False)]}
    rows[11] = {a: [(p, 15, r, True) if t else (p, s, r, t) for p, s, r, t in out] for a, out in rows[11].items()}
    with pytest.warns(ToleranceWarning):
        found = solve(build(rows, 16), gamma, method=method, tol=1e-7)
    same(found, other, slice(0, 12))
    assert (found.bounds[:12] == other.error_bound).all()
    truth = np.array([-1e13, -1e13 * gamma, 0.5 * gamma * (other.v[0] - 1e13)])
    assert (np.abs(found.v[12:15] - truth) <= found.bounds[12:15]).all()
    assert found.error_bound == found.bounds.max() < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_a_huge_prize_counts_only_where_it_can_be_won(method):
    other = solve(build(walk()), 1.0, method=method, tol=1e-7)
    rows = walk()
    rows[11] = {a: [(p, 14, r, True) if t else (p, s, r, t) for p, s, r, t in out] for a, out in rows[11].items()}
    rows[12] = {0: [(1.0, 12, 1e13, True)], 1: [(1.0, 0, 0.0, False)]}
    rows[13] = {0: [(1.0, 12, -1.0, False)], 1: [(1.0, 0, 0.0, False)]}
    with pytest.warns(ToleranceWarning):
        found = solve(build(rows, 15), 1.0, method=method, tol=1e-7)
    same(found, other, slice(0, 12))
    assert (found.bounds[:12] == other.error_bound).all()
    assert (np.abs(found.v[12:14] - [1e13, 1e13 - 1.0]) <= found.bounds[12:14]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_huge_penalty_is_paid_where_nothing_else_ends(method):
    rows = {0: {0: [(1.0, 1, -1.0, False)], 1: [(1.0, 0, -1e12, True)]}, 1: {0: [(1.0, 0, -1.0, False)]}}
    rows[2] = {0: [(1.0, 2, -3.0, True)], 1: [(1.0, 0, 0.0, False)]}
    with pytest.warns(ToleranceWarning):
        found = solve(FiniteMDP.from_outcomes(rows), 1.0, method=method, tol=1e-7)
    assert (np.abs(found.v - [-1e12, -1e12 - 1.0, -3.0]) <= found.bounds).all()
    assert found.bounds[2] < 1e-7
    np.testing.assert_array_equal(found.policy, [[0, 1], [1, 0], [1, 0]])
    rows[0][1] = [(1.0, 0, -1e12, False)]
    with pytest.raises(ImproperPolicyError, match="states 0, 1;"):
        solve(FiniteMDP.from_outcomes(rows), 1.0, method=method)
    rows[0][1] = [(1.0, 1, 1e12, False)]
    with pytest.raises(UnboundedValueError, match="states 0, 1;"):
        solve(FiniteMDP.from_outcomes(rows), 1.0, method=method)


@pytest.mark.parametrize("method", ["auto", "policy_iteration", "linear_programming"])
def test_a_huge_penalty_is_paid_where_avoiding_it_costs_more(method):
    """-1e12 at once, or -9e8 a step for 1e5 steps on average."""
    slow = [(1.0 - 1e-5, 0, -9e8, False), (1e-5, 0, -9e8, True)]
    mdp = FiniteMDP.from_outcomes({0: {0: slow, 1: [(1.0, 0, -1e12, True)]}})
    with pytest.warns(ToleranceWarning):  # which 1e12 in floats cannot meet
        found = solve(mdp, 1.0, method=method, tol=1e-6)
    assert abs(found.v[0] + 1e12) <= found.error_bound < 1.0
    np.testing.assert_array_equal(found.policy, [[0, 1]])
