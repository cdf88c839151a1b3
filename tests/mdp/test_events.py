"""Probabilities of events, and visits of chains whose factors would fill up."""

from dataclasses import replace

import numpy as np
import pytest
from mdp.test_games import tic_tac_toe, uniform

from rlnet.mdp import FiniteMDP, InvalidMDPError, evaluate, event_model, event_probability, occupancy, solve


def gambler(p: float, goal: int) -> FiniteMDP:
    """A stake of 1 is won with probability p, from 1 .. goal − 1 until ruin or goal."""
    n = goal - 1
    state = np.repeat(np.arange(n), 2)
    step = np.tile([1, -1], n)
    to = state + step
    ends = (to < 0) | (to >= n)
    mdp = FiniteMDP.from_coo(
        state, np.zeros(2 * n, int), to.clip(0, n - 1), np.tile([p, 1 - p], n), np.zeros(2 * n), ends
    )
    up = np.zeros(2 * n, bool)
    up[mdp.terminated] = mdp.next_state[mdp.terminated] == n - 1
    return replace(mdp, events={"goal": up})


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_ruin_has_its_closed_form(p):
    # Feller (1968), XIV.2: from z the goal is reached with ((q/p)^z − 1) / ((q/p)^a − 1), z/a where p = q.
    mdp, z, ratio = gambler(p, 10), np.arange(1, 10), (1 - p) / p
    exact = z / 10 if p == 0.5 else (ratio**z - 1) / (ratio**10 - 1)
    policy = np.zeros(9, int)
    np.testing.assert_allclose(event_probability(mdp, policy, "goal"), exact, atol=1e-9)
    np.testing.assert_allclose(event_probability(mdp, policy, mdp.events["goal"], horizon=3000), exact, atol=1e-9)
    assert event_probability(mdp, policy, "goal", horizon=1)[-1] == pytest.approx(p)
    assert event_probability(mdp, policy, "goal", horizon=0).tolist() == [0.0] * 9


def test_a_win_of_either_player_is_an_event_of_a_game():
    game = tic_tac_toe()
    game = replace(game, events={"win": game.reward > 0})
    # Random tic-tac-toe: the first player wins .585, the second .288, .127 are drawn (255168 games, weighted).
    assert game.start @ event_probability(game, uniform(game), "win") == pytest.approx(0.585 + 0.288, abs=6e-4)
    assert game.start @ solve(event_model(game, "win"), 1.0).v == pytest.approx(1.0)


def test_events_stay_with_a_model_whose_rewards_are_of_many_sizes():
    # It is solved in parts, which have other outcomes.
    arrays = [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
        [1, 0, 0, 0],
        [1.0] * 4,
        [-1.0, -1e12, -1.0, -1e12],
        [False, True, True, True],
    ]
    mdp = FiniteMDP.from_coo(*map(np.array, arrays))
    assert solve(replace(mdp, events={"end": mdp.terminated}), 1.0).v.tolist() == [-2.0, -1.0]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (["x"], "events must be a dict of name: bool [K] = [6], not a list"),
        ({"x": np.zeros(2, bool)}, "events: 'x' must be bool [K] = [6], one for each outcome, not bool [2]"),
        ({"x": np.zeros((6, 1), bool)}, "events: 'x' must be bool [K] = [6], one for each outcome, not bool [6, 1]"),
        ({"x": True}, "events: 'x' must be bool [K] = [6], one for each outcome, not bool []"),
        ({"x": np.ones(6)}, "events: 'x' must be bool [K] = [6], one for each outcome, not float64"),
        ({"x": [0, 1, 2, 0, 0, 0]}, "one for each outcome, not int64, and one of them is 2"),
        ({"x": [0, np.nan, 1, 0, 0, 0]}, "one for each outcome, not float64, and one of them is nan"),
        ({"x": [0.5] * 6}, "one for each outcome, not float64, and one of them is 0.5"),
        ({"x": ["no"] * 6}, "one for each outcome, not <U2, and one of them is 'no'"),
        ({"x": [None] * 6}, "one for each outcome, not object, and one of them is None"),
        ({"x": [[True], [True, False]]}, "not a list of rows that differ in length"),
        ({"x": None}, "events: 'x' must be bool [K] = [6], one for each outcome, not object []"),
        ({"": np.ones(6, bool)}, "events: the name '' must be letters, digits, _ and -, and begin with no digit"),
        ({"a/b": np.ones(6, bool)}, "events: the name 'a/b' must be letters"),
        ({"a,b": np.ones(6, bool)}, "events: the name 'a,b' must be letters"),
        ({3: np.ones(6, bool)}, "events: the name 3 must be letters"),
        (
            {"fall": np.ones(6, bool), "Fall": np.ones(6, bool)},
            "events: the names 'fall' and 'Fall' clash, they differ by capitals alone",
        ),
    ],
)
def test_malformed_events_are_named(events, message):
    mdp = gambler(0.5, 4)
    with pytest.raises(InvalidMDPError) as caught:
        replace(mdp, events=events)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_events_are_read_only_and_may_be_lists():
    mdp = gambler(0.5, 4)
    own = mdp.events["goal"].copy()
    listed = replace(mdp, events={"goal": own.tolist()})
    np.testing.assert_array_equal(listed.events["goal"], own)
    with pytest.raises(ValueError, match="read-only"):
        listed.events["goal"][0] = True


def test_a_set_of_states_is_that_of_the_outcomes_that_lead_there():
    mdp = gambler(0.5, 6)  # from 1 .. 5
    states = np.array([True, False, False, False, False])
    # At a fair game from z down to 1 before 6: (6 − z)/5 (Feller); from 1 itself it has to be entered again.
    found = event_probability(mdp, np.zeros(5, int), states[mdp.next_state] & ~mdp.terminated)
    np.testing.assert_allclose(found[1:], [0.8, 0.6, 0.4, 0.2], atol=1e-9)
    with pytest.raises(InvalidMDPError, match=r"a set of states is .* states\[mdp\.next_state\]"):
        event_probability(mdp, np.zeros(5, int), states)


@pytest.mark.parametrize("horizon", [500, None])
def test_a_probability_is_one_although_rows_sum_to_one_but_for_rounding(horizon):
    mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 0, 0.0, True)]}})
    mdp = replace(mdp, events={"end": mdp.terminated})
    found = event_probability(mdp, np.array([[0.5, 0.5 + 1e-8]]), "end", horizon=horizon)
    assert 1.0 - 1e-7 < found[0] <= 1.0


def test_a_policy_may_depend_on_the_steps_left():
    # Bold: a loss of .3; away: none now, and one of .5 in the next step. In two steps bold and then away is the safest.
    mdp = FiniteMDP.from_outcomes(
        {
            0: {0: [(0.7, 0, 0.0, False), (0.3, 0, -1.0, True)], 1: [(1.0, 1, 0.0, False)]},
            1: {0: [(0.5, 0, 0.0, False), (0.5, 0, -1.0, True)]},
        }
    )
    mdp = replace(mdp, events={"loss": mdp.terminated})
    best = solve(mdp, 1.0, horizon=2)
    assert event_probability(mdp, best.policy, "loss", horizon=2)[0] == pytest.approx(0.3)
    assert event_probability(mdp, np.array([[0, 0], [0, 0], [1, 0]]), "loss", horizon=3)[0] == pytest.approx(0.51)
    assert event_probability(mdp, np.array([1, 0]), "loss", horizon=2)[0] == pytest.approx(0.5)
    for horizon in (3, None):
        with pytest.raises(ValueError, match="policy must be"):
            event_probability(mdp, best.policy, "loss", horizon=horizon)


def test_wrong_arguments_of_event_probability_are_named():
    mdp = gambler(0.5, 4)
    with pytest.raises(InvalidMDPError, match=r"an event must be bool \[K\] = \[6\].* not float64"):
        event_probability(mdp, np.zeros(3, int), np.ones(6))
    for wrong in (-1, 2.5, np.nan, np.inf, "3", True):
        with pytest.raises(ValueError, match="horizon must be a whole number"):
            event_probability(mdp, np.zeros(3, int), "goal", horizon=wrong)


@pytest.mark.slow
def test_visits_of_chains_that_fill_up_agree_with_their_factors():
    rng = np.random.default_rng(0)
    n, k = 2200, 12
    state = np.repeat(np.arange(n), k)
    p = rng.random((n, k))
    p /= p.sum(1, keepdims=True)
    columns = (state, np.zeros(n * k, int), rng.integers(n, size=n * k), p.ravel(), rng.normal(size=n * k))
    mdp = FiniteMDP.from_coo(*columns)
    policy, start = np.zeros(n, int), np.eye(n)[7]
    mdp = mdp.with_start(start)
    visits = occupancy(mdp, policy, 0.95)
    dense = np.eye(n) - 0.95 * mdp.transition.toarray()
    exact = np.linalg.solve(dense.T, start)
    np.testing.assert_allclose(visits, exact / exact.sum(), atol=1e-12)
    own = evaluate(mdp, policy, 0.95)
    assert "sweeps" in own.method
    np.testing.assert_allclose(own.v, np.linalg.solve(dense, mdp.expected_reward), atol=own.error_bound + 1e-9)
