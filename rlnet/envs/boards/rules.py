"""Rules of two-player board games on batches of positions, and the games in which k stones in a row win.

A position is a row of cells, numbered row by row from the top left, in the view of the player who moves: +1 a stone of
that player, −1 one of the other, 0 empty. B positions, C cells, A actions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


class Rules(Protocol):
    """Rules of a two-player zero-sum board game in which the players move in turn."""

    @property
    def name(self) -> str:
        """The name of the game, with its size."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the board; C = rows · columns."""

    @property
    def n_actions(self) -> int:
        """A."""

    @property
    def move_names(self) -> tuple[str, ...]:
        """The name of each action, as people write it."""

    @property
    def symmetries(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The symmetries of the game as pairs (cell int64 [C], action int64 [A]), the identity first.

        `cells[:, cell]` is an equivalent position, in which action a does what `action[a]` does in the original: a
        policy π [B, A] of the original becomes `π[:, action]`.
        """

    def start(self) -> np.ndarray:
        """The first position: int8 [C]."""

    def legal(self, cells: np.ndarray) -> np.ndarray:
        """The legal actions of positions [B, C] in which the game goes on: bool [B, A]."""

    def play(self, cells: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play action [B] in positions [B, C] in which the game goes on.

        Returns:
            int8 [B, C]: the next positions, in the view of the player who moves then.
            float32 [B]: the rewards of the player who moved; the other player's are their negatives.
            bool [B]: whether the game is over.

        Raises:
            ValueError: an action that is not legal.
        """

    def parse(self, move: str) -> int:
        """The action of this name.

        Raises:
            ValueError: there is none.
        """


@dataclass(frozen=True)
class KInARow:
    """The game in which k stones in a row (along a row, a column or a diagonal) win: +1 to the player who completes
    the line, 0 while the game goes on and for a full board without a line (a draw).

    Tic-tac-toe is 3 × 3 with k = 3, Connect Four 6 × 7 with k = 4 and gravity, Gomoku 15 × 15 with k = 5.

    Args:
        rows, columns: the board.
        k: stones in a row that win (more are a line too).
        gravity: a stone falls to the lowest empty cell of its column, and actions are columns; else they are cells.

    Raises:
        ValueError: a size below 1, or no line of k stones fits on the board.
    """

    rows: int
    columns: int
    k: int
    gravity: bool

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        longest = max(self.rows, self.columns)
        if not 2 <= self.k <= longest:
            raise ValueError(f"k={self.k}: must be 2 .. {longest}, so that a line fits on {self.rows}×{self.columns}")

    @property
    def name(self) -> str:
        """The name of the game, with its size."""
        if (self.rows, self.columns, self.k, self.gravity) == (3, 3, 3, False):
            return "tic-tac-toe"
        return f"{'connect' if self.gravity else 'in-a-row'}-{self.k} {self.rows}×{self.columns}"

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def n_actions(self) -> int:
        """A: columns with gravity, else cells."""
        return self.columns if self.gravity else self.rows * self.columns

    @cached_property
    def move_names(self) -> tuple[str, ...]:
        """With gravity the columns 1, 2, …; else the cells a1 (bottom left), b1, …, as in chess and Gomoku."""
        if self.gravity:
            return tuple(str(column + 1) for column in range(self.columns))
        return tuple(
            f"{_letters(column)}{self.rows - row}" for row in range(self.rows) for column in range(self.columns)
        )

    @cached_property
    def symmetries(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The mirror image with gravity; else all reflections and rotations of the board. See `Rules.symmetries`."""
        board = np.arange(self.rows * self.columns).reshape(self.shape)
        if self.gravity:
            columns = np.arange(self.columns)
            return ((board.ravel(), columns), (board[:, ::-1].ravel(), columns[::-1].copy()))
        turns = range(4) if self.rows == self.columns else (0, 2)
        images = [np.rot90(side, turn).ravel() for side in (board, board[:, ::-1]) for turn in turns]
        return tuple((image, image) for image in images)

    def start(self) -> np.ndarray:
        """The empty board: int8 [C]."""
        return np.zeros(self.rows * self.columns, np.int8)

    def legal(self, cells: np.ndarray) -> np.ndarray:
        """Empty cells, or columns that are not full: bool [B, A]."""
        return cells[:, : self.n_actions] == 0

    def play(self, cells: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Put a stone of the player who moves; see `Rules.play`."""
        from rlnet.envs.boards.compiled import kernels

        successor = np.empty((len(cells), self.rows * self.columns), np.int8)
        reward, ended = np.empty(len(cells), np.float32), np.empty(len(cells), bool)
        cells, action = np.ascontiguousarray(cells, np.int8), np.ascontiguousarray(action, np.int64)
        if cells.shape != successor.shape or action.shape != reward.shape:
            raise ValueError(f"cells {cells.shape} and action {action.shape} must be [B, {successor.shape[1]}] and [B]")
        wrong = kernels.play(cells, action, self.rows, self.columns, self.k, self.gravity, successor, reward, ended)
        if wrong >= 0:
            legal = np.flatnonzero(self.legal(cells[wrong : wrong + 1])[0]).tolist()
            raise ValueError(f"position {wrong}: action {action[wrong]} is not legal, legal are {legal}")
        return successor, reward, ended

    def parse(self, move: str) -> int:
        """The action of this name.

        Raises:
            ValueError: there is none.
        """
        names = self.move_names
        if move.strip().lower() not in names:
            raise ValueError(f"{move!r} is no move: must be one of {names[0]} .. {names[-1]}")
        return names.index(move.strip().lower())


def _letters(column: int) -> str:
    """a .. z, aa, ab, …"""
    head, tail = divmod(column, 26)
    return (_letters(head - 1) if head else "") + "abcdefghijklmnopqrstuvwxyz"[tail]


def play_moves(rules: Rules, moves: Iterable[str]) -> tuple[np.ndarray, float, bool]:
    """Play named moves from the first position.

    Returns:
        cells int8 [C] in the view of the player who moves then, the reward of the player who moved last, and whether
        the game is over.

    Raises:
        ValueError: a name that is none, a move that is not legal, or one after the end.
    """
    cells, reward, over = rules.start(), 0.0, False
    for number, move in enumerate(moves, 1):
        if over:
            raise ValueError(f"move {number}, {move}: the game is over")
        action = rules.parse(move)
        if not rules.legal(cells[None])[0, action]:
            raise ValueError(f"move {number}, {move}: not legal there")
        successor, rewards, ends = rules.play(cells[None], np.array([action]))
        cells, reward, over = successor[0], float(rewards[0]), bool(ends[0])
    return cells, reward, over
