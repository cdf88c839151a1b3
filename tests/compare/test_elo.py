"""Elo: published odds, a closed form for two players, recovery and coverage on simulated results."""

import numpy as np
import pytest
from scipy.stats import binomtest

from rlnet.compare.elo import PRIOR, expected_score, ratings


def test_expected_scores_are_those_of_the_published_table():
    """FIDE's Rating Regulations 8.1.2, to two digits."""
    for difference, score in ((0, 0.50), (50, 0.57), (100, 0.64), (200, 0.76), (300, 0.85), (400, 0.91)):
        assert round(float(expected_score(difference)), 2) == score
        assert expected_score(-difference) == pytest.approx(1 - expected_score(difference))
    assert expected_score(400.0) == pytest.approx(10 / 11)


@pytest.mark.parametrize(("wins", "games"), [(30.0, 40), (12.5, 50), (20.0, 20)])
def test_two_players_differ_by_the_log_of_their_odds(wins, games):
    """400·log10(p/(1 − p)), and the interval of a log odds, 1.96·√(1/a + 1/b); with one draw added."""
    found = ratings(np.array([[0.0, games - wins], [wins, 0.0]]))
    a, b = wins + PRIOR / 2, games - wins + PRIOR / 2
    assert found.elo[0] == 0.0
    assert found.elo[1] == pytest.approx(400 * np.log10(a / b), abs=1e-4)
    assert found.half_interval[1] == pytest.approx(1.959964 * 400 / np.log(10) * np.sqrt(1 / a + 1 / b), rel=1e-5)


def played(elo, games, rng):
    points = np.zeros((len(elo), len(elo)))
    for i in range(len(elo)):
        for j in range(i):
            points[i, j] = rng.binomial(games, expected_score(elo[i] - elo[j]))
            points[j, i] = games - points[i, j]
    return points


def test_known_ratings_lie_in_their_intervals_at_the_rate_of_the_intervals():
    true, rng = np.array([0.0, 120.0, -80.0, 260.0]), np.random.default_rng(0)
    found = [ratings(played(true, 60, rng)) for _ in range(150)]
    inside = np.array([np.abs(one.elo - true) <= one.half_interval for one in found])[:, 1:]
    assert binomtest(int(inside[:, 0].sum()), 150, 0.95).pvalue > 1e-3
    assert binomtest(int(inside[:, 2].sum()), 150, 0.95).pvalue > 1e-3
    many = ratings(played(true, 200_000, rng))
    np.testing.assert_allclose(many.elo, true, atol=3.0)


def test_differences_add_up_along_a_chain_and_the_diagonal_does_not_count():
    """Who never meets is compared by way of the third; a game that nobody lost leaves finite ratings."""
    points = np.array([[9.0, 30, 0], [10, 9.0, 30], [0, 10, 9.0]])
    step = 400 * np.log10(10.5 / 30.5)
    np.testing.assert_allclose(ratings(points).elo, [0, step, 2 * step], atol=1e-4)
    assert np.isfinite(ratings(np.array([[0.0, 8.0], [0.0, 0.0]])).elo).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 2)), "fall into 2 groups"),
        (np.ones((2, 3)), r"shape \(2, 3\): must be a square table"),
        (-np.ones((2, 2)), "not negative"),
        (np.full((2, 2), np.nan), "must be a square table of numbers"),
    ],
)
def test_tables_that_are_none_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        ratings(points)
