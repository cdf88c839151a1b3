"""Enumerated games: numbers of positions as by the rules of OpenSpiel, and every move held to the rules."""

import numpy as np
import pytest

from rlnet.envs.boards.enumeration import MoveLists, TooManyPositions, enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow, play_moves
from rlnet.mdp import evaluate, game_value, nash_conv

TIC_TAC_TOE = KInARow(3, 3, 3, gravity=False)


def connect(rows, columns, k):
    return KInARow(rows, columns, k, gravity=True)


# Positions in which the game goes on, value, value and NashConv of uniform self-play: plies from OpenSpiel's rules.
KNOWN = [
    (TIC_TAC_TOE, 4520, 0, 0.2968253968, 1.9196594),
    (connect(3, 4, 3), 4631, 1, 0.2901036071, 1.9178241),
    (connect(4, 4, 3), 23_930, 1, 0.2506412323, 1.9666341),
    (connect(4, 4, 4), 134_289, 0, 0.0448843225, 1.9133482),
    pytest.param(connect(5, 4, 4), 1_348_441, 0, 0.077445, 1.9888554, marks=pytest.mark.slow),
    pytest.param(connect(4, 5, 4), 3_100_379, 0, 0.093939, 1.9962109, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(
    ("rules", "count", "value", "uniform", "exploitable"), KNOWN, ids=lambda value: getattr(value, "name", "")
)
def test_games_have_their_known_sizes_and_values(rules, count, value, uniform, exploitable):
    positions = enumerate_positions(rules, max_states=count)
    assert len(positions.cells) == count
    game = game_of(positions)
    policy = game.available / game.available.sum(1, keepdims=True)
    assert game_value(game) == value
    assert evaluate(game, policy, 1.0).v[0] == pytest.approx(uniform, abs=1e-6)
    assert nash_conv(game, policy) == pytest.approx(exploitable, abs=1e-6)


def test_more_positions_than_asked_for_are_refused():
    rules, count = TIC_TAC_TOE, 4520
    with pytest.raises(TooManyPositions, match=f"has more than {count - 1:,} positions"):
        enumerate_positions(rules, max_states=count - 1)


@pytest.mark.parametrize("rules", [TIC_TAC_TOE, connect(3, 4, 3)], ids=lambda rules: rules.name)
def test_moves_are_those_of_the_rules(rules):
    found = enumerate_positions(rules, 10_000)
    state = np.repeat(np.arange(len(found.cells)), np.diff(found.pair_ptr))
    after, reward, ended = rules.play(found.cells[state], found.action)
    np.testing.assert_array_equal(reward, found.reward)
    np.testing.assert_array_equal(ended, found.ended)
    np.testing.assert_array_equal(found.cells[found.successor[~ended]], after[~ended])
    np.testing.assert_array_equal(found.successor[ended], state[ended])
    legal = np.zeros((len(found.cells), rules.n_actions), bool)
    legal[state, found.action] = True
    np.testing.assert_array_equal(legal, rules.legal(found.cells))
    assert len(np.unique(found.cells, axis=0)) == len(found.cells)
    stones = np.count_nonzero(found.cells, axis=1)
    assert (np.diff(stones) >= 0).all()  # breadth first
    assert not (found.cells.sum(1) > 0).any()  # the mover never has more stones


def test_positions_are_named_by_the_moves_that_lead_to_them():
    found = enumerate_positions(TIC_TAC_TOE, 5000)
    names = MoveLists(found)
    assert names[0] == "start"
    assert len(names) == 4520
    for state in range(0, 4520, 37):
        np.testing.assert_array_equal(
            play_moves(TIC_TAC_TOE, names[state].split() if state else [])[0], found.cells[state]
        )
    assert names[-1] == names[4519] == tuple(names)[-1] == names[4518:][1]
    assert list(names) == [names[state] for state in range(4520)]
    with pytest.raises(IndexError):
        names[4520]


def test_positions_that_return_are_known():
    """A game whose stones move in a ring, so that positions come again: as many as there are."""

    class Ring(KInARow):
        def start(self):
            return np.array([1, -1, 0, 0], np.int8)

        def legal(self, cells):
            return np.ones((len(cells), 1), bool)

        def play(self, cells, action):
            return -np.roll(cells, 1, axis=1), np.zeros(len(cells), np.float32), np.zeros(len(cells), bool)

        @property
        def n_actions(self):
            return 1

    found = enumerate_positions(Ring(1, 4, 2, True), 100)
    assert len(found.cells) == 4
    assert found.successor.tolist() == [1, 2, 3, 0]


def test_boards_that_are_too_large_are_refused():
    with pytest.raises(ValueError, match="has 70 cells, at most 64 are enumerated"):
        enumerate_positions(KInARow(7, 10, 4, True), 10)
