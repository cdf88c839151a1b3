"""Edge cases of DP: ends, loops at γ = 1, availability, duplicates, ties, scales."""

import re

import numpy as np
import pytest
from mdp_problems import random_mdp

from rlnet.mdp import FiniteMDP, ImproperPolicyError, ToleranceWarning, UnboundedValueError, evaluate, occupancy, solve


def model(outcomes, **options):
    return FiniteMDP.from_outcomes(outcomes, **options)


def loop(pays, leaving):
    """One state: action 0 goes round and pays, action 1 leaves."""
    return model({0: {0: [(1.0, 0, pays, False)], 1: [(1.0, 0, leaving, True)]}})


def test_a_costly_loop_is_left_at_once():
    solution = solve(loop(-1, -5), 1.0)
    assert solution.v[0] == pytest.approx(-5)
    np.testing.assert_array_equal(solution.policy[0], [0, 1])


def test_a_paying_loop_is_unbounded_and_named():
    with pytest.raises(UnboundedValueError, match=r"states 0"):
        solve(loop(1, -5), 1.0)


def test_a_free_loop_must_be_left_for_a_reward():
    solution = solve(loop(0, 1), 1.0)
    assert solution.v[0] == pytest.approx(1)
    np.testing.assert_array_equal(solution.policy[0], [0, 1])
    np.testing.assert_allclose(solution.q[0], [1, 1])


def test_a_free_loop_is_kept_where_leaving_costs():
    solution = solve(loop(0, -1), 1.0)
    assert solution.v[0] == pytest.approx(0)
    np.testing.assert_array_equal(solution.policy[0], [1, 0])


def test_free_loop_of_several_states():
    # 0 ↔ 1 freely, 1 may go to 2, which pays 3 and ends: every state must find its way out.
    mdp = model(
        {
            0: {0: [(1.0, 1, 0, False)], 1: [(1.0, 0, 0, False)]},
            1: {0: [(1.0, 0, 0, False)], 1: [(1.0, 2, 0, False)]},
            2: {0: [(1.0, 2, 3, True)], 1: [(1.0, 0, 0, False)]},
        }
    )
    solution = solve(mdp, 1.0)
    np.testing.assert_allclose(solution.v, 3)
    np.testing.assert_array_equal(solution.policy.argmax(axis=1), [0, 1, 0])
    np.testing.assert_allclose(evaluate(mdp, solution.policy, 1.0).v, 3)


def cancelling(gain, back, leaving):
    """0 → 1 for `gain` and back for `back`, or out of 0 for `leaving`."""
    return model({0: {0: [(1.0, 1, gain, False)], 1: [(1.0, 0, leaving, True)]}, 1: {0: [(1.0, 0, back, False)]}})


@pytest.mark.parametrize("method", ["auto", "modified_policy_iteration", "value_iteration", "linear_programming"])
@pytest.mark.parametrize("leaving", [0.0, 5.0, -0.7])
def test_a_loop_whose_rewards_cancel_is_no_gain_and_that_is_proved(method, leaving):
    for gain in (1.0, 0.1):
        solution = solve(cancelling(gain, -gain, leaving), 1.0, method=method)
        np.testing.assert_allclose(solution.v, [leaving, leaving - gain])
        np.testing.assert_array_equal(solution.policy[0], [0, 1])
        assert np.abs(solution.v - [leaving, leaving - gain]).max() <= solution.error_bound < 1e-12


def test_a_loop_that_cancels_but_for_rounding_is_not_certified():
    # 0.1 + 0.2 − 0.3 is 2.8e-17 in exact numbers: whoever stays long enough gains any amount.
    mdp = model(
        {
            0: {0: [(1.0, 1, 0.1, False)], 1: [(1.0, 0, 0, True)]},
            1: {0: [(1.0, 2, 0.2, False)]},
            2: {0: [(1.0, 0, -0.3, False)]},
        }
    )
    with pytest.warns(ToleranceWarning, match="certified to inf"):
        solution = solve(mdp, 1.0)
    np.testing.assert_allclose(solution.v, [0, -0.1, -0.3])


def test_a_positive_step_inside_a_costly_loop_is_bounded():
    mdp = model(
        {0: {0: [(1.0, 1, 1, False)], 1: [(1.0, 0, 0, True)]}, 1: {0: [(1.0, 0, -2, False)], 1: [(1, 1, 0, 1)]}}
    )
    solution = solve(mdp, 1.0)
    np.testing.assert_allclose(solution.v, [1, 0])
    assert solution.error_bound < 1e-9


def test_states_that_nothing_can_save_are_named():
    mdp = model(
        {0: {0: [(0.5, 1, 0, True), (0.5, 1, 0, False)]}, 1: {0: [(1.0, 1, -1, False)]}, 2: {0: [(1, 2, 0, 1)]}}
    )
    with pytest.raises(ImproperPolicyError, match=r"states 0, 1"):
        solve(mdp, 1.0)
    with pytest.raises(ImproperPolicyError, match=r"round states 1 .* in states 0, 1"):
        evaluate(mdp, np.zeros(3, dtype=int), 1.0)


def test_a_paying_loop_without_exit_is_unbounded():
    with pytest.raises(UnboundedValueError, match=r"states 1"):
        solve(model({0: {0: [(1.0, 0, 0, True)], 1: [(1, 1, 0, 0)]}, 1: {0: [(1.0, 1, 2, False)]}}), 1.0)


def test_evaluate_in_a_free_loop_is_zero_and_costly_is_refused():
    np.testing.assert_allclose(evaluate(loop(0, 1), np.array([0]), 1.0).v, 0)
    np.testing.assert_allclose(evaluate(loop(0, 1), np.array([[0.5, 0.5]]), 1.0).v, 1)
    with pytest.raises(ImproperPolicyError, match="states 0"):
        evaluate(loop(-1, 1), np.array([0]), 1.0)
    with pytest.raises(ImproperPolicyError, match="states 0"):
        occupancy(loop(0, 1), np.array([0]), 1.0)


def test_terminated_into_an_earning_state_stops_there():
    mdp = model({0: {0: [(1.0, 1, 0, True)]}, 1: {0: [(1.0, 1, 1, False)]}})
    np.testing.assert_allclose(solve(mdp, 0.9).v, [0, 10])
    np.testing.assert_allclose(evaluate(mdp, np.zeros(2, dtype=int), 0.9).v, [0, 10])


def test_successors_listed_twice_accumulate():
    mdp = model({0: {0: [(0.5, 1, 2, False), (0.5, 1, 2, False)]}, 1: {0: [(1.0, 1, 1, False)]}})
    np.testing.assert_allclose(solve(mdp, 0.9).v, [11, 10])
    assert mdp.n_outcomes == 2


def test_unavailable_action():
    mdp = FiniteMDP.from_arrays(np.ones((1, 2, 1)), np.array([[1.0, 9.0]]), available=np.array([[True, False]]))
    solution = solve(mdp, 0.9)
    assert solution.q[0, 1] == -np.inf
    np.testing.assert_array_equal(solution.policy, [[1, 0]])
    assert solution.v[0] == pytest.approx(10)


def test_no_action_is_terminal():
    mdp = FiniteMDP.from_arrays(
        np.ones((2, 1, 2)) / 2, np.ones((2, 1)), available=np.array([[True], [False]]), start=np.array([1.0, 0])
    )
    solution = solve(mdp, 0.9)
    np.testing.assert_allclose(solution.v, [1 / (1 - 0.45), 0])
    np.testing.assert_array_equal(solution.policy[1], [0])
    np.testing.assert_array_equal(mdp.terminal, [False, True])


def test_only_terminal_states():
    mdp = model({0: {}}, n_actions=2)
    for gamma in (0.0, 0.5, 1.0):
        assert solve(mdp, gamma).v[0] == 0
        assert evaluate(mdp, np.zeros(1, dtype=int), gamma).v[0] == 0


def test_exact_ties_are_all_reported_and_policy_iteration_ends():
    mdp = FiniteMDP.from_arrays(np.full((3, 4, 3), 1 / 3), np.full((3, 4), 0.1))
    np.testing.assert_array_equal(solve(mdp, 0.99).policy, 0.25)


@pytest.mark.parametrize("states", [1, 3, 200])
@pytest.mark.parametrize("chance", [False, True])
def test_ties_up_to_rounding_are_reported_too(states, chance):
    """0.1 + 0.2 and 0.3 differ by 5.6e-17; 200 states are beyond the dense table, if chance decides."""
    reward = np.tile([0.3, 0.1 + 0.2], (states, 1))
    to = (np.arange(states) + 1) % states
    transition = np.repeat(np.eye(states)[to][:, None], 2, axis=1)
    transition = 0.5 * (transition + np.eye(states)[:, None]) if chance else transition
    solution = solve(FiniteMDP.from_arrays(transition, reward), 0.0)
    np.testing.assert_array_equal(solution.policy, 0.5)
    np.testing.assert_allclose(solution.v, 0.3)


def test_gamma_zero_and_range():
    mdp = loop(2, 1)
    np.testing.assert_allclose(solve(mdp, 0.0).v, 2)
    for gamma in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="gamma"):
            solve(mdp, gamma)
        with pytest.raises(ValueError, match="gamma"):
            evaluate(mdp, np.array([0]), gamma)


def test_rewards_of_very_different_scale():
    mdp = model({0: {0: [(1.0, 1, 1e12, False)]}, 1: {0: [(1.0, 1, 1e-12, True)], 1: [(1.0, 1, 0, True)]}})
    with pytest.warns(ToleranceWarning, match="not reached"):
        solution = solve(mdp, 0.9, tol=1e-8)
    assert not solution.converged
    assert solution.error_bound > 1e-8
    np.testing.assert_allclose(solution.v, [1e12, 1e-12], rtol=1e-12)


def test_long_chain_of_single_actions():
    n = 3000
    i = np.arange(n)
    mdp = FiniteMDP.from_coo(i, 0 * i, np.minimum(i + 1, n - 1), np.ones(n), -np.ones(n), i == n - 1)
    solution = solve(mdp, 1.0)
    np.testing.assert_allclose(solution.v, i - n, rtol=1e-12)


def test_policy_on_an_unavailable_action():
    mdp = FiniteMDP.from_arrays(np.ones((1, 2, 1)), np.ones((1, 2)), available=np.array([[True, False]]))
    with pytest.raises(ValueError, match=r"state 0, action 1: probability 0\.5 is given to an action"):
        evaluate(mdp, np.array([[0.5, 0.5]]), 0.9)
    with pytest.raises(ValueError, match="action 1 is not available in state 0"):
        evaluate(mdp, np.array([1]), 0.9)


@pytest.mark.filterwarnings("ignore::rlnet.mdp.ToleranceWarning")  # what is not proved is passed over
def test_the_optimal_policy_attains_the_optimal_value_at_gamma_one():
    rng, kept = np.random.default_rng(5), 0
    for _ in range(150):
        mdp = random_mdp(rng, ends=0.3)
        try:
            best = solve(mdp, 1.0)
        except (ImproperPolicyError, UnboundedValueError):
            continue
        if not best.converged:
            continue
        kept += 1
        for policy in (best.policy, best.policy.argmax(axis=1)):
            np.testing.assert_allclose(evaluate(mdp, policy, 1.0).v, best.v, atol=1e-7)
    assert kept > 50


def corridor(n, stranded):
    """States 0..n−1, −1 a step, past the last one the end: action 0 goes on with chance .1, action 1 with .9, else a
    step back. `stranded`: one more state that only leads to itself."""
    outcomes = {
        s: {a: [(p, s + 1, -1.0, s + 1 == n), (1 - p, max(s - 1, 0), -1.0, False)] for a, p in enumerate((0.1, 0.9))}
        for s in range(n)
    }
    outcomes[n] = {}
    if stranded:
        outcomes[n + 1] = {0: [(1.0, n + 1, -1.0, False)]}
    return model(outcomes)


def without_chance(rng, rewards, ends):
    """Up to 29 states: every action goes to one state, or ends with probability `ends`."""
    n, actions = int(rng.integers(2, 30)), int(rng.integers(1, 4))
    state, action = np.divmod(np.arange(n * actions), actions)
    kept = (rng.random(len(state)) < 0.8) | (action == 0)
    draws = rng.integers(n, size=len(state)), np.ones(len(state)), rewards(len(state)), rng.random(len(state)) < ends
    columns = [x[kept] for x in (state, action, *draws)]
    return FiniteMDP.from_coo(*columns, n_states=n, n_actions=actions)


@pytest.mark.parametrize("gamma", [0.0, 0.4, 0.9, 0.999])
def test_models_without_chance_are_evaluated_along_their_paths(gamma):
    rng = np.random.default_rng(9)
    for k in range(40):  # without an end, with few and with many; rewards that tie, and others
        draw = (lambda n: rng.integers(-3, 4, size=n).astype(float)) if k % 2 else lambda n: 10.0 * rng.normal(size=n)
        mdp = without_chance(rng, draw, (0.0, 0.03, 0.3)[k % 3])
        other = solve(mdp, gamma, tol=1e-7, method="policy_iteration")  # values are up to 10^4
        for _ in range(2):  # what is kept with the model serves a second time
            best = solve(mdp, gamma, tol=1e-7, verify=True)
            assert best.method == "policy_iteration (paths)"
            assert np.abs(best.v - other.v).max() <= best.error_bound + other.error_bound
            assert best.error_bound <= 2.0 * other.error_bound
            np.testing.assert_array_equal(best.policy, other.policy)


def test_whole_costs_without_chance_are_solved_exactly():
    rng, kinds = np.random.default_rng(8), []
    for _ in range(60):
        mdp = without_chance(rng, lambda n: -rng.integers(1, 6, size=n).astype(float), rng.choice([0.03, 0.2]))
        try:
            other = solve(mdp, 1.0, method="policy_iteration")
        except ImproperPolicyError as error:
            kinds.append("improper")
            with pytest.raises(ImproperPolicyError, match=re.escape(str(error))):
                solve(mdp, 1.0)
            continue
        kinds.append("proper")
        best = solve(mdp, 1.0, verify=True)
        assert best.error_bound == 0.0
        np.testing.assert_array_equal(best.v, np.round(other.v))
        np.testing.assert_allclose(best.v, other.v, atol=other.error_bound)
        np.testing.assert_array_equal(best.policy, other.policy)
    assert min(kinds.count("proper"), kinds.count("improper")) >= 5


def test_a_policy_that_may_end_but_hardly_does_is_no_start():
    # Action 0 everywhere ends with probability 1, after some 9^300 steps: no values to improve upon in floats.
    with pytest.raises(ImproperPolicyError, match="from states 301;"):
        solve(corridor(300, True), 1.0)
    solution = solve(corridor(300, False), 1.0)
    truth, wait = np.zeros(301), 0.0  # expected steps to one further on: w = 1 + .1 (w' + w), w' of the state before
    waits = [wait := (1.0 + 0.1 * wait) / 0.9 for _ in range(300)]
    truth[:300] = -np.cumsum(waits[::-1])[::-1]
    assert np.abs(solution.v - truth).max() <= solution.error_bound < 1e-6
    np.testing.assert_array_equal(solution.policy[:300, 1], 1.0)


@pytest.mark.parametrize("leaving", [1e-17, 1e-30, 1e-300])
def test_a_policy_whose_end_is_lost_in_rounding_is_improper(leaving):
    """1 − 1e-17 is 1: the values would be NaN, so they are refused."""
    outcomes = {0: {0: [(1.0, 1, -1.0, False)], 1: [(1.0, 2, -1.0, True)]}, 1: {0: [(1.0, 0, -1.0, False)]}, 2: {}}
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=3, n_actions=2, start=np.array([1.0, 0.0, 0.0]))
    policy = np.array([[1.0 - leaving, leaving], [1.0, 0.0], [0.0, 0.0]])
    for question in (evaluate, occupancy):
        with pytest.raises(ImproperPolicyError, match="lost in rounding"):
            question(mdp, policy, 1.0)
