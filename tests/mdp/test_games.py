"""Two-player zero-sum games: optimal play, self-play, best responses."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from rlnet.mdp import (
    FiniteMDP,
    ImproperPolicyError,
    InvalidMDPError,
    best_response,
    evaluate,
    game_value,
    nash_conv,
    occupancy,
    solve,
)

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@cache
def tic_tac_toe() -> FiniteMDP:
    """The game in the mover's view (1 own, −1 the other's), by its rules alone."""
    ids, rows = {(0,) * 9: 0}, []
    queue = list(ids)
    for board in queue:
        for a in (a for a in range(9) if not board[a]):
            after = (*board[:a], 1, *board[a + 1 :])
            won = any(all(after[i] == 1 for i in line) for line in LINES)
            seen = tuple(-x for x in after)
            if won or all(after):
                rows.append((ids[board], a, 0, float(won), True))
                continue
            if seen not in ids:
                ids[seen] = len(ids)
                queue.append(seen)
            rows.append((ids[board], a, ids[seen], 0.0, False))
    state, action, following, reward, ended = map(np.array, zip(*rows, strict=True))
    start = np.eye(len(ids))[0]
    return FiniteMDP.from_coo(
        state, action, following, np.ones(len(rows)), reward, ended, start=start, sign=-np.ones(len(rows))
    )


def uniform(game: FiniteMDP) -> np.ndarray:
    return game.available / np.maximum(game.available.sum(1, keepdims=True), 1)


def random_game(seed: int, cyclic: bool) -> FiniteMDP:
    """Chance, unequal numbers of moves, turns that do not always pass, ends."""
    rng, n = np.random.default_rng(seed), 12
    rows = []
    for s in range(n):
        for a in range(int(rng.integers(1, 4))):
            k = int(rng.integers(1, 4))
            p = rng.integers(1, 5, k)
            for weight in p / p.sum():
                to = int(rng.integers(0 if cyclic else min(s + 1, n - 1), n))
                ends = (not cyclic and s == n - 1) or rng.random() < 0.15
                sign = -1 if rng.random() < 0.7 else 1
                rows.append((s, a, to, weight, float(rng.integers(-4, 5)) / 4, ends, sign))
    order, number = rng.permutation(len(rows)), rng.permutation(n)  # from_coo sorts; states stand in no order of play
    state, action, to, p, r, ended, sign = (np.array(column)[order] for column in zip(*rows, strict=True))
    state, to = number[state], number[to]
    return FiniteMDP.from_coo(state, action, to, p, r, ended, n_states=n, sign=sign)


def by_recursion(game: FiniteMDP, gamma: Fraction, policy: np.ndarray | None) -> list[Fraction]:
    """Values of an acyclic game in exact fractions, straight from the definition."""

    @cache
    def value(s: int) -> Fraction:
        found = []
        for i in range(game.pair_ptr[s], game.pair_ptr[s + 1]):
            q = Fraction(0)
            for k in range(game.outcome_ptr[i], game.outcome_ptr[i + 1]):
                after = Fraction(0) if game.terminated[k] else value(int(game.next_state[k]))
                worth = Fraction(game.reward[k]) + gamma * int(game.sign[k]) * after
                q += Fraction(game.probability[k]) * worth
            found.append((q, Fraction(0 if policy is None else policy[s, game.pair_action[i]])))
        if policy is None:
            return max((q for q, _ in found), default=Fraction(0))
        return sum((q * weight for q, weight in found), Fraction(0))

    return [value(s) for s in range(game.n_states)]


def test_tic_tac_toe_has_its_known_values():
    # States, value, value of uniform self-play and its NashConv, counted by OpenSpiel from its own rules.
    game = tic_tac_toe()
    assert game.n_states == 4520
    assert game_value(game) == 0.0
    assert game.start @ evaluate(game, uniform(game), 1.0).v == pytest.approx(0.2968253968, abs=1e-10)
    assert nash_conv(game, uniform(game)) == pytest.approx(1.9196594, abs=5e-8)
    best = solve(game, 1.0)
    assert nash_conv(game, best.policy) == nash_conv(game, best.greedy) == 0.0
    assert best.error_bound < 1e-12
    assert best.policy_loss < 1e-10
    assert set(np.unique(best.v)) == {-1.0, 0.0, 1.0}


def test_a_forgotten_sign_is_as_bad_as_can_be():
    game = tic_tac_toe()
    alone = FiniteMDP(**{name: getattr(game, name) for name in COLUMNS}, n_actions=9)  # everybody helps the first one
    assert nash_conv(game, solve(alone, 1.0).greedy) == 2.0


COLUMNS = ("pair_ptr", "pair_action", "outcome_ptr", "next_state", "probability", "reward", "terminated", "start")


@pytest.mark.parametrize("gamma", [1.0, 0.75])
@pytest.mark.parametrize("seed", range(8))
def test_values_are_those_of_exact_fractions(seed, gamma):
    game = random_game(seed, cyclic=False)
    best = solve(game, gamma)
    exact = by_recursion(game, Fraction(gamma), None)
    assert max(abs(Fraction(v) - x) for v, x in zip(best.v, exact, strict=True)) <= best.error_bound
    policy = np.random.default_rng(seed).integers(1, 5, (game.n_states, game.n_actions)) * game.available
    policy = policy / policy.sum(1, keepdims=True)
    own = evaluate(game, policy, gamma)
    exact = by_recursion(game, Fraction(gamma), own.policy)
    # The rows of floating-point policies sum to 1 within rounding.
    assert max(abs(Fraction(v) - x) for v, x in zip(own.v, exact, strict=True)) <= own.error_bound + 1e-14


@pytest.mark.parametrize("seed", range(8))
def test_best_responses_are_ordinary_problems_and_agree_with_the_pass(seed):
    game = random_game(seed, cyclic=False)
    policy = uniform(game)
    models = [best_response(game, policy, seat) for seat in (0, 1)]
    assert all(model.sign is None for model in models)
    assert sum(game_value_of(model, 1.0) for model in models) == pytest.approx(nash_conv(game, policy), abs=1e-7)
    # Who answers the policy with the policy itself gets what it is worth by self-play, in either seat.
    n = game.n_states
    own = np.zeros((2 * n, game.n_actions))
    own[:n], own[n:, 0] = policy, 1.0
    value = float(game.start @ evaluate(game, policy, 1.0).v)
    worth = [float(model.start @ evaluate(model, own, 1.0).v) for model in models]
    assert worth == pytest.approx([value, -value], abs=1e-9)


def game_value_of(model: FiniteMDP, gamma: float) -> float:
    return float(model.start @ solve(model, gamma).v)


@pytest.mark.parametrize("seed", range(6))
def test_games_without_an_end_are_solved_with_a_discount(seed):
    game = random_game(seed, cyclic=True)
    best = solve(game, 0.9)
    assert best.method.startswith("value iteration")
    assert best.error_bound <= 1e-8
    assert nash_conv(game, best.policy, 0.9) == pytest.approx(0.0, abs=1e-6)
    assert nash_conv(game, uniform(game), 0.9) > 0.01
    # No one-sided improvement helps: each seat gets the value of the game, and no more, against optimal play.
    value = game_value(game, 0.9)
    for seat, sign in ((0, 1), (1, -1)):
        assert game_value_of(best_response(game, best.policy, seat), 0.9) == pytest.approx(sign * value, abs=1e-6)
    policy = uniform(game)
    own = evaluate(game, policy, 0.9)
    # The definition as a linear system, dense.
    p, r = np.zeros((game.n_states, game.n_states)), np.zeros(game.n_states)
    for i in range(game.n_pairs):
        s, weight = game.pair_state[i], policy[game.pair_state[i], game.pair_action[i]]
        for k in range(game.outcome_ptr[i], game.outcome_ptr[i + 1]):
            r[s] += weight * game.probability[k] * game.reward[k]
            p[s, game.next_state[k]] += weight * game.probability[k] * game.sign[k] * (not game.terminated[k])
    exact = np.linalg.solve(np.eye(game.n_states) - 0.9 * p, r)
    np.testing.assert_allclose(own.v, exact, atol=own.error_bound + 1e-12)


def test_a_horizon_bounds_every_game():
    game = tic_tac_toe()
    best = solve(game, 1.0, horizon=9)
    assert np.array_equal(best.v[0], solve(game, 1.0).v)
    assert (solve(game, 1.0, horizon=4).v[0][0], solve(game, 1.0, horizon=0).v[0][0]) == (0.0, 0.0)
    rounds = random_game(0, cyclic=True)
    assert np.abs(solve(rounds, 0.9, horizon=300).v[0] - solve(rounds, 0.9).v).max() < 1e-8


def test_visits_count_the_positions_of_both_players():
    game = tic_tac_toe()
    visits = occupancy(game, uniform(game), 1.0)
    # A uniform game has between five and nine moves: the first position is seen once in each.
    assert 1 / 9 < visits[0] < 1 / 5
    assert visits.sum() == pytest.approx(1.0)


def test_without_discount_a_game_must_end():
    with pytest.raises(ImproperPolicyError, match="gamma=1: a play may go on for ever from states"):
        solve(random_game(0, cyclic=True), 1.0)
    with pytest.raises(ImproperPolicyError, match="use gamma < 1"):
        evaluate(random_game(0, cyclic=True), uniform(random_game(0, cyclic=True)), 1.0)


def test_a_sign_that_never_turns_is_no_game():
    arrays = [[0, 1], [0, 0], [1, 1], [1.0, 1.0], [1.0, 2.0], [False, True]]
    assert FiniteMDP.from_coo(*map(np.array, arrays), sign=np.array([1, -1])).sign is None  # the −1 is at an end
    game = FiniteMDP.from_coo(*map(np.array, arrays), sign=np.array([-1, 1]))
    assert solve(game, 1.0).v.tolist() == [1.0 - 2.0, 2.0]
    with pytest.raises(InvalidMDPError, match="this model has one player"):
        nash_conv(FiniteMDP.from_coo(*map(np.array, arrays)), np.zeros(2, int))


@pytest.mark.parametrize(
    ("sign", "message"),
    [
        ([-1.0], r"sign.*length|common length"),
        ([0, 1], "sign: outcome 0 has 0"),
        ([1, np.nan], "sign: outcome 1 has nan"),
        ([-1, 2], "sign: outcome 1 has 2"),
    ],
)
def test_wrong_signs_are_named(sign, message):
    arrays = [[0, 1], [0, 0], [1, 0], [1.0, 1.0], [1.0, 2.0]]
    with pytest.raises(InvalidMDPError, match=message):
        FiniteMDP.from_coo(*map(np.array, arrays), sign=np.array(sign))


def test_the_opponents_states_of_a_best_response_are_named():
    arrays = [[0, 1], [0, 0], [1, 1], [1.0, 1.0], [1.0, 2.0], [False, True]]
    game = FiniteMDP.from_coo(*map(np.array, arrays), sign=np.array([-1, 1]), labels=("a", "b"))
    model = best_response(game, np.zeros(2, int), 1)
    assert list(model.labels) == ["a", "b", "a, the opponent moves", "b, the opponent moves"]
    assert model.labels[-1] == model.labels[2:][1] == "b, the opponent moves"


def test_options_that_a_game_has_no_use_for_are_refused():
    game = tic_tac_toe()
    for options in ({"temperature": 0.1}, {"method": "policy_iteration"}, {"verify": True}):
        with pytest.raises(ValueError, match="a two-player game is solved by its own method"):
            solve(game, 1.0, **options)
    with pytest.raises(ValueError, match="seat must be 0"):
        best_response(game, uniform(game), 2)
    with pytest.raises(ValueError, match="policy"):
        nash_conv(game, uniform(game) * 0.5)


def test_equal_outcomes_of_different_signs_stay_apart():
    arrays = [[0, 0, 1], [0, 0, 0], [1, 1, 1], [0.5, 0.5, 1.0], [0.0, 0.0, 1.0], [False, False, True]]
    game = FiniteMDP.from_coo(*map(np.array, arrays), sign=np.array([-1, 1, 1]))
    assert game.n_outcomes == 3
    assert solve(game, 1.0).v[0] == 0.0
