"""The scores: exact in, zero out; known errors in, those errors out."""

import numpy as np
import pytest
from support import composed, random_mdp

from rlnet.compare import Tables, Truth, judge_policy, reachable, score_member, score_population
from rlnet.experiment.problem import build
from rlnet.mdp import FiniteMDP, evaluate, occupancy, solve

GAMMA = 0.9


def test_the_exact_solution_scores_zero():
    mdp = random_mdp(0)
    best = solve(mdp, GAMMA)
    s = score_member(Truth(mdp, best), best.policy, "optimal", v=best.v, q=best.q).scalars
    for name in ("v_rmse", "v_max", "q_rmse", "q_max", "q_bias", "bellman_residual", "regret", "v_rmse_uniform"):
        assert s[f"exact/{name}"] == pytest.approx(0, abs=1e-9), name
    assert s["exact/optimal_action_rate"] == pytest.approx(1)
    assert s["exact/return"] == pytest.approx(mdp.start @ best.v)


def test_known_errors_are_measured():
    mdp = random_mdp(1)
    best = solve(mdp, GAMMA)
    alive = ~mdp.terminal
    s = score_member(Truth(mdp, best), best.policy, "optimal", v=best.v + 0.3 * alive, q=best.q - 0.2).scalars
    assert s["exact/v_rmse"] == pytest.approx(0.3)
    assert s["exact/v_max"] == pytest.approx(0.3)
    assert s["exact/q_rmse"] == pytest.approx(0.2)
    assert s["exact/q_bias"] == pytest.approx(-0.2)
    worse = best.v.copy()
    worst = np.flatnonzero(alive & reachable(mdp))[0]
    worse[worst] += 1.0
    s = score_member(Truth(mdp, best), best.policy, "optimal", v=worse).scalars
    assert s["exact/v_max"] == pytest.approx(1.0)
    assert s["exact/v_rmse_uniform"] == pytest.approx((1 / (alive & reachable(mdp)).sum()) ** 0.5)
    assert s["exact/bellman_residual"] > 0.05


def test_a_state_that_only_ends_lead_to_is_not_reached():
    """Gymnasium's Taxi names 100 such states: nothing acts there, so they belong into no score and no coverage."""
    outcomes = {0: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 2, 0.0, False)]}, 1: {0: [(1.0, 2, 1.0, False)]}}
    outcomes[2] = {0: [(1.0, 0, 0.0, False)]}
    mdp = FiniteMDP.from_outcomes(outcomes, start=np.eye(3)[0])
    assert reachable(mdp).tolist() == [True, False, True]
    visits = np.array([[1, 1], [0, 0], [1, 0]])
    best = solve(mdp, GAMMA)
    found = score_member(Truth(mdp, best), best.policy, "optimal", q=best.q, visits=visits)
    assert found.scalars["exact/coverage"] == 1.0


def some_policy(mdp: FiniteMDP, seed: int) -> np.ndarray:
    policy = np.random.default_rng(seed).random((mdp.n_states, mdp.n_actions)) * mdp.available
    return policy / policy.sum(1, keepdims=True).clip(1e-9)


def test_errors_are_weighted_by_the_discounted_visitation_of_the_judged_policy():
    mdp = random_mdp(1)
    best, policy = solve(mdp, GAMMA), some_policy(mdp, 1)
    visits = occupancy(mdp, policy, GAMMA)
    reach = ~mdp.terminal & reachable(mdp)
    optimal_share = (policy * (best.policy > 0)).sum(1)
    for state in np.flatnonzero(reach):
        v, q = best.v.copy(), best.q.copy()
        v[state] += 0.5
        action = np.flatnonzero(mdp.available[state])[0]
        q[state, action] -= 0.5
        s = score_member(Truth(mdp, best), policy, "optimal", v=v, q=q).scalars
        count = mdp.available[state].sum()
        assert s["exact/v_rmse"] == pytest.approx(0.5 * visits[state] ** 0.5, abs=1e-9)
        assert s["exact/q_rmse"] == pytest.approx(0.5 * (visits[state] / count) ** 0.5, abs=1e-9)
        assert s["exact/q_rmse_uniform"] == pytest.approx(0.5 * (1 / reach.sum() / count) ** 0.5, abs=1e-9)
        assert s["exact/q_bias"] == pytest.approx(-0.5 * visits[state] / count, abs=1e-9)
        assert s["exact/optimal_action_rate"] == pytest.approx(visits @ optimal_share)
        assert s["exact/error_bound"] >= best.error_bound


def test_what_cannot_be_reached_and_what_is_terminal_does_not_count():
    """State 1 of this model is never reached, state 2 is terminal: errors there are nobody's."""
    mdp = loop_or_leave(-1.0)
    best = solve(mdp, GAMMA)
    v, q = best.v + [0.0, 9.0, 9.0], best.q.copy()
    q[1] += 9.0
    visits = np.array([[1, 0], [5, 5], [0, 0]])
    s = score_member(Truth(mdp, best), best.policy, "optimal", v=v, q=q, visits=visits).scalars
    for name in ("v_max", "v_rmse_uniform", "q_max", "q_rmse_uniform", "v_rmse", "q_rmse"):
        assert s[f"exact/{name}"] == pytest.approx(0, abs=1e-9), name
    assert s["exact/coverage"] == 0.5
    out = score_member(Truth(mdp, best), best.policy, "optimal", v=v)
    assert out.v[2] == 0.0


def test_values_that_a_q_implies_are_its_maximum_or_its_mean_under_the_policy():
    mdp = random_mdp(1)
    best, policy = solve(mdp, GAMMA), some_policy(mdp, 2)
    q = np.where(mdp.available, np.random.default_rng(0).normal(size=best.q.shape), -np.inf)
    finite = np.where(mdp.available, q, 0.0)
    of_optimal = score_member(Truth(mdp, best), policy, "optimal", q=q).v
    np.testing.assert_allclose(of_optimal[~mdp.terminal], q.max(1)[~mdp.terminal])
    np.testing.assert_allclose(score_member(Truth(mdp, best), policy, "policy", q=q).v, (policy * finite).sum(1))


def test_each_member_of_a_population_is_scored_by_its_own_tables():
    mdp = random_mdp(1)
    solutions = [solve(mdp, 0.5), solve(mdp, GAMMA)]
    tables = Tables(np.stack([some_policy(mdp, k) for k in range(2)]), v=np.random.default_rng(0).normal(size=(2, 6)))
    out = score_population([Truth(mdp, solution) for solution in solutions], tables, "policy")
    for m, solution in enumerate(solutions):
        alone = score_member(Truth(mdp, solution), tables.policy[m], "policy", v=tables.v[m])
        for name, value in alone.scalars.items():
            assert out.scalars[name][m] == value, name
        np.testing.assert_array_equal(out.v_exact[m], alone.v_exact)


def test_a_prediction_is_compared_with_the_value_of_its_policy():
    mdp = random_mdp(2)
    policy = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    exact = evaluate(mdp, policy, GAMMA)
    out = score_member(Truth(mdp, solve(mdp, GAMMA)), policy, "policy", v=exact.v, q=exact.q)
    assert out.scalars["exact/v_rmse"] == pytest.approx(0, abs=1e-9)
    assert out.scalars["exact/bellman_residual"] == pytest.approx(0, abs=1e-9)
    assert out.scalars["exact/regret"] > 0.01
    np.testing.assert_allclose(out.v_exact, exact.v)


def test_coverage_counts_reachable_available_pairs():
    mdp = random_mdp(3)
    best = solve(mdp, GAMMA)
    pairs = mdp.available & reachable(mdp)[:, None]
    visits = np.zeros_like(pairs, dtype=np.int64)
    chosen = np.argwhere(pairs)[:3]
    visits[tuple(chosen.T)] = 7
    s = score_member(Truth(mdp, best), best.policy, "optimal", q=best.q, visits=visits).scalars
    assert s["exact/coverage"] == pytest.approx(3 / pairs.sum())


def loop_or_leave(loop_reward: float) -> FiniteMDP:
    """State 0: action 0 stays, action 1 leaves for 5 less. State 1, never reached from 0: only loops at −1."""
    return FiniteMDP.from_outcomes(
        {
            0: {0: [(1.0, 0, loop_reward, False)], 1: [(1.0, 2, -5.0, True)]},
            1: {0: [(1.0, 1, -1.0, False)], 1: [(1.0, 2, -2.0, True)]},
            2: {},
        },
        n_states=3,
        n_actions=2,
        start=np.array([1.0, 0.0, 0.0]),
    )


def test_without_discount_an_endless_policy_has_an_infinite_regret():
    mdp = loop_or_leave(-1.0)
    best = solve(mdp, 1.0)
    stay = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    s = score_member(Truth(mdp, best), stay, "optimal", q=best.q).scalars
    assert s["exact/return"] == -np.inf
    assert s["exact/regret"] == np.inf
    assert np.isfinite(s["exact/q_rmse"])


def test_without_discount_an_endless_loop_elsewhere_does_not_touch_the_return():
    """State 1 loops for ever at a cost, but the start does not lead there: J(π) = −5."""
    mdp = loop_or_leave(-1.0)
    best = solve(mdp, 1.0)
    policy = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert judge_policy(mdp, policy, best).value == pytest.approx(-5.0)


def test_a_free_loop_is_worth_nothing_and_weighs_where_it_goes():
    mdp = loop_or_leave(0.0)
    stay = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    judged = judge_policy(mdp, stay, solve(mdp, 1.0))
    assert judged.value == 0.0
    assert judged.weights.tolist() == [1.0, 0.0, 0.0]


def test_wrong_shapes_and_words_are_refused():
    mdp = random_mdp(4)
    best = solve(mdp, GAMMA)
    with pytest.raises(ValueError, match=r"v has shape \(3,\), the model needs \(6,\)"):
        score_member(Truth(mdp, best), best.policy, "optimal", v=np.zeros(3))
    with pytest.raises(ValueError, match="against='best': allowed are 'optimal', 'policy'"):
        score_member(Truth(mdp, best), best.policy, "best")


def test_judged_against_what_is_learned():
    for algo, against in (("td0", "policy"), ("mc", "policy"), ("sarsa", "policy"), ("q_learning", "optimal")):
        assert build(composed(f"algo={algo}", "env=random_walk")).against == against
