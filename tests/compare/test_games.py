"""Scores of policies and values in two-player games."""

import numpy as np
import pytest
from mdp.test_games import random_game, tic_tac_toe, uniform

from rlnet.compare import score
from rlnet.compare.judge import limited_values
from rlnet.compare.member_failures import out_of_range
from rlnet.compare.scores import Truth
from rlnet.mdp import evaluate, solve


def test_a_game_is_scored_by_its_exploitability():
    game = tic_tac_toe()
    best, policy = solve(game, 1.0), uniform(game)
    right = score(game, q=best.q, gamma=1.0)
    assert right["exact/nash_conv"] == 0.0
    assert right["exact/optimal_action_rate"] == 1.0
    assert right["exact/q_rmse"] == 0.0
    assert "cannot be exploited" in right.verdict
    wrong = score(game, pi=policy, v=evaluate(game, policy, 1.0).v, gamma=1.0)
    assert wrong["exact/nash_conv"] == pytest.approx(1.9196594, abs=5e-8)
    assert wrong["exact/return"] == pytest.approx(0.2968253968, abs=1e-10)
    assert wrong["exact/v_rmse"] == pytest.approx(0.0, abs=1e-12)
    assert wrong["exact/optimal_action_rate"] < 0.8
    assert "can be exploited by 1.92" in wrong.verdict
    # What holds for one player alone is not claimed.
    assert not {"exact/regret", "exact/v_bound", "exact/loss_max"} & set(wrong.scalars)


def test_values_of_the_wrong_player_are_seen():
    game = tic_tac_toe()
    best = solve(game, 1.0)
    found = score(game, q=-best.q, gamma=1.0)
    assert found["exact/nash_conv"] == pytest.approx(2.0)
    assert found["exact/bellman_residual"] == 2.0


@pytest.mark.parametrize("cyclic", [False, True])
def test_a_time_limit_counts_moves_of_both_players(cyclic):
    game = random_game(3, cyclic)
    policy = uniform(game)
    for steps in (1, 4):
        own = limited_values(game, 0.9, steps, policy)
        np.testing.assert_allclose(own, evaluate(game, policy, 0.9, horizon=steps).v[0], atol=1e-12)
        np.testing.assert_allclose(limited_values(game, 0.9, steps), solve(game, 0.9, horizon=steps).v[0], atol=1e-12)


def test_values_that_no_play_can_reach_are_told():
    truth = Truth(tic_tac_toe(), solve(tic_tac_toe(), 1.0))
    assert out_of_range(truth, np.full(4520, -1.0), None) == ""
    assert "no play adds up to more than 1" in out_of_range(truth, np.full(4520, 50.0), None)
