"""Rules of k-in-a-row games: held to lines written out as sets of cells, and to positions played by hand."""

import itertools

import numpy as np
import pytest

from rlnet.envs.boards.rules import KInARow, play_moves

TIC_TAC_TOE = KInARow(3, 3, 3, gravity=False)
CONNECT = KInARow(6, 7, 4, gravity=True)
GAMES = [TIC_TAC_TOE, CONNECT, KInARow(3, 4, 3, True), KInARow(5, 4, 4, False), KInARow(2, 5, 3, True)]


def lines(rules):
    """All lines of k cells, as sets of (row, column)."""
    cells = list(itertools.product(range(rules.rows), range(rules.columns)))
    found = [
        frozenset((r + i * dr, c + i * dc) for i in range(rules.k))
        for r, c in cells
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    return [line for line in found if line <= set(cells)]


def play_out(rules, rng):
    """A random game by sets of stones: yields (cells, action, successor, reward, over) of each move."""
    stones, mover = (set(), set()), 0
    board = list(itertools.product(range(rules.rows), range(rules.columns)))

    def seen(by):
        return np.array([(x in stones[by]) - (x in stones[1 - by]) for x in board])

    while True:
        free = [x for x in board if x not in stones[0] | stones[1]]
        if rules.gravity:
            free = [max((x for x in free if x[1] == column), default=None) for column in range(rules.columns)]
            legal = [column for column, x in enumerate(free) if x is not None]
            action = int(rng.choice(legal))
            cell = free[action]
        else:
            legal = [board.index(x) for x in free]
            action = int(rng.choice(legal))
            cell = board[action]
        before = seen(mover)
        stones[mover].add(cell)
        won = any(line <= stones[mover] for line in lines(rules))
        over = won or len(stones[0] | stones[1]) == len(board)
        yield before, legal, action, seen(1 - mover), float(won), over
        if over:
            return
        mover = 1 - mover


@pytest.mark.parametrize("rules", GAMES, ids=lambda rules: rules.name)
def test_moves_agree_with_sets_of_stones(rules):
    rng = np.random.default_rng(0)
    steps = [step for _ in range(60) for step in play_out(rules, rng)]
    cells = np.array([step[0] for step in steps], np.int8)
    legal = np.zeros((len(steps), rules.n_actions), bool)
    for row, step in zip(legal, steps, strict=True):
        row[step[1]] = True
    successor, reward, ended = rules.play(cells, np.array([step[2] for step in steps]))
    np.testing.assert_array_equal(rules.legal(cells), legal)
    np.testing.assert_array_equal(successor, [step[3] for step in steps])
    np.testing.assert_array_equal(reward, [step[4] for step in steps])
    np.testing.assert_array_equal(ended, [step[5] for step in steps])
    assert successor.dtype == np.int8
    assert reward.dtype == np.float32
    assert (reward == 1).any()
    if rules.name != "connect-4 6×7":
        assert (ended & (reward == 0)).any()  # draws were among them


@pytest.mark.parametrize(
    ("rules", "count"), [(TIC_TAC_TOE, 8), (CONNECT, 2), (KInARow(3, 4, 3, False), 4)], ids=lambda x: str(x)
)
def test_symmetries_commute_with_moves(rules, count):
    rng = np.random.default_rng(1)
    steps = [step for _ in range(20) for step in play_out(rules, rng)]
    cells, action = np.array([s[0] for s in steps], np.int8), np.array([s[2] for s in steps])
    successor, reward, ended = rules.play(cells, action)
    images = set()
    for cell, actions in rules.symmetries:
        images.add(tuple(cell))
        np.testing.assert_array_equal(rules.legal(cells[:, cell]), rules.legal(cells)[:, actions])
        image = np.argsort(actions)[action]  # action a of the image is actions[a] of the original
        for got, expected in zip(rules.play(cells[:, cell], image), (successor[:, cell], reward, ended), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert len(images) == count == len(rules.symmetries)
    np.testing.assert_array_equal(rules.symmetries[0][0], np.arange(cells.shape[1]))


def test_positions_by_the_names_of_their_moves():
    cells, reward, over = play_moves(TIC_TAC_TOE, ["a1", "b2", "a2", "B3"])
    np.testing.assert_array_equal(cells.reshape(3, 3), [[0, -1, 0], [1, -1, 0], [1, 0, 0]])
    assert (reward, over) == (0.0, False)
    assert play_moves(TIC_TAC_TOE, ["a1", "b2", "a2", "b3", "a3"])[1:] == (1.0, True)
    cells, reward, over = play_moves(CONNECT, ["4", "4", "5", "5", "6", "6", "7"])
    assert (reward, over) == (1.0, True)
    np.testing.assert_array_equal(cells.reshape(6, 7)[-1], [0, 0, 0, -1, -1, -1, -1])
    assert KInARow(15, 28, 5, False).move_names[27] == "ab15"


def test_a_full_board_without_a_line_is_a_draw():
    moves = ["a1", "b1", "c1", "b2", "b3", "a2", "c2", "c3", "a3"]
    assert play_moves(TIC_TAC_TOE, moves)[1:] == (0.0, True)
    assert play_moves(TIC_TAC_TOE, moves[:-1])[1:] == (0.0, False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KInARow(3, 3, 4, False), "k=4: must be 2 .. 3"),
        (lambda: KInARow(0, 3, 3, False), "rows=0: must be at least 1"),
        (lambda: TIC_TAC_TOE.parse("d1"), "'d1' is no move: must be one of a3 .. c1"),
        (lambda: play_moves(TIC_TAC_TOE, ["a1", "a1"]), "move 2, a1: not legal"),
        (lambda: play_moves(TIC_TAC_TOE, ["a1", "b2", "a2", "b3", "a3", "c1"]), "move 6, c1: the game is over"),
        (lambda: TIC_TAC_TOE.play(np.ones((1, 9), np.int8), np.zeros(1, int)), "position 0: action 0 is not legal"),
        (lambda: CONNECT.play(np.zeros((2, 42), np.int8), np.array([0, 7])), "position 1: action 7 is not legal"),
        (lambda: CONNECT.play(np.zeros((2, 42), np.int8), np.array([0])), r"cells \(2, 42\) and action \(1,\)"),
    ],
)
def test_what_is_no_move_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
