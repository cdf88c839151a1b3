"""Enumeration of the positions of a board game, and the game as a finite model in the view of the player who moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlnet.envs.boards.rules import Rules
from rlnet.mdp import FiniteMDP
from rlnet.mdp.model.index_type import index_dtype

CHUNK = 2**16  # positions whose moves are played at once
MOST_CELLS = 64  # of a board that is enumerated: its stones are the bits of two words


class TooManyPositions(ValueError):
    """A game has more positions than were asked for."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions of a game in which it goes on, and the moves between them. S positions, P moves.

    Positions are numbered in the order in which they are found, breadth first: the first one is 0, and before any
    position come all that take fewer moves. The moves of position s are `pair_ptr[s]:pair_ptr[s + 1]`.
    """

    rules: Rules
    cells: np.ndarray  # int8 [S, C], in the view of the player who moves
    pair_ptr: np.ndarray  # int64 [S + 1]
    action: np.ndarray  # int [P]
    successor: np.ndarray  # int [P]; of a move that ends the game the position itself
    reward: np.ndarray  # float32 [P], of the player who moves
    ended: np.ndarray  # bool [P]
    parent: np.ndarray  # int64 [S], the move by which a position was first found; −1 of the first one

    def moves(self, state: int) -> list[int]:
        """The actions of a shortest way to a position from the first one."""
        way = []
        while (pair := int(self.parent[state])) >= 0:
            way.append(int(self.action[pair]))
            state = int(np.searchsorted(self.pair_ptr, pair, "right")) - 1
        return way[::-1]


class MoveLists(Sequence[str]):
    """The names of positions, by the moves that lead to them; made when they are read. "start" is the first one."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions.cells)

    def __getitem__(self, state):  # type: ignore[no-untyped-def]  # one name, or of a slice several
        if isinstance(state, slice):
            return tuple(self[k] for k in range(*state.indices(len(self))))
        if not -len(self) <= state < len(self):
            raise IndexError(state)
        names = self._positions.rules.move_names
        return " ".join(names[action] for action in self._positions.moves(state % len(self))) or "start"

    def __iter__(self) -> Iterator[str]:
        found, names = self._positions, self._positions.rules.move_names
        before = np.searchsorted(found.pair_ptr, found.parent, "right") - 1
        known = [""]
        yield "start"
        for state in range(1, len(self)):
            move = names[found.action[found.parent[state]]]
            known.append(f"{known[before[state]]} {move}".lstrip())
            yield known[-1]


def enumerate_positions(rules: Rules, max_states: int, roots: np.ndarray | None = None) -> Positions:
    """All positions of a game in which it goes on, with their moves, from the first one on.

    Args:
        rules: of a board of at most 64 cells.
        max_states: the most positions.
        roots: int8 [B, C], different positions in which the game goes on, to begin from in place of the first one;
            they become the positions 0 .. B − 1.

    Raises:
        TooManyPositions: there are more.
        ValueError: a board of more cells.
    """
    if rules.start().size > MOST_CELLS:
        raise ValueError(f"{rules.name}: has {rules.start().size} cells, at most {MOST_CELLS} are enumerated")
    found = _Found(rules.start()[None] if roots is None else roots)
    counts, actions, successors, rewards, ends = [], [], [], [], []
    done, pairs = 0, 0
    while done < found.count:
        own = found.cells[done : min(done + CHUNK, found.count)]
        row, action = np.nonzero(rules.legal(own))
        after, reward, ended = rules.play(own[row], action)
        successor = done + row
        on = np.flatnonzero(~ended)
        successor[on] = found.number(after[on], pairs + on)
        if found.count > max_states:
            raise TooManyPositions(f"{rules.name}: has more than {max_states:,} positions")
        counts.append(np.bincount(row, minlength=len(own)))
        kinds = index_dtype(rules.n_actions), index_dtype(max_states)
        actions.append(action.astype(kinds[0]))
        successors.append(successor.astype(kinds[1]))
        rewards.append(reward)
        ends.append(ended)
        done, pairs = done + len(own), pairs + len(row)
    ptr = np.append(0, np.cumsum(np.concatenate(counts)))
    action, successor, reward, ended = (np.concatenate(parts) for parts in (actions, successors, rewards, ends))
    cells, parent = found.cells[: found.count].copy(), found.parent[: found.count].copy()
    return Positions(rules, cells, ptr, action, successor, reward, ended, parent)


class _Found:
    """The positions that were found, and a hash table of them."""

    def __init__(self, first: np.ndarray) -> None:
        self.count, room = 0, 1024
        self.cells, self.parent = np.empty((room, first.shape[1]), np.int8), np.empty(room, np.int64)
        self._words = np.empty((2, room), np.uint64)
        self._table = np.full(2 * room, -1)
        self.number(first, np.full(len(first), -1))

    def number(self, cells: np.ndarray, parent: np.ndarray) -> np.ndarray:
        """The numbers [B] of positions [B, C], with new ones entered; `parent` [B] is what led to them."""
        from rlnet.envs.boards.compiled import kernels

        self._make_room(self.count + len(cells))
        words, numbers, first = np.empty((2, len(cells)), np.uint64), np.empty(len(cells), np.int64), parent + 0
        kernels.words(cells, words[0], words[1])
        before, known = self.count, self._words
        self.count = kernels.number(words[0], words[1], self._table, known[0], known[1], before, numbers, first)
        fresh = first[: self.count - before]
        self.cells[before : self.count], self.parent[before : self.count] = cells[fresh], parent[fresh]
        return numbers

    def _make_room(self, count: int) -> None:
        """Room for so many positions; the table stays at most half full."""
        from rlnet.envs.boards.compiled import kernels

        room = len(self.parent)
        if count <= room:
            return
        while room < count:
            room *= 2
        more = room - len(self.parent)
        self.cells = np.concatenate((self.cells, np.empty((more, self.cells.shape[1]), np.int8)))
        self.parent = np.concatenate((self.parent, np.empty(more, np.int64)))
        self._words = np.concatenate((self._words, np.empty((2, more), np.uint64)), axis=1)
        self._table = np.full(2 * room, -1)
        kernels.enter(self._words[0], self._words[1], self.count, self._table)


def game_of(positions: Positions) -> FiniteMDP:
    """The game as a finite model: rewards and values are those of the player who moves, and after every move that does
    not end the game the other player moves next (`sign` −1). States are named by the moves that lead to them; from
    several roots, each as likely to be the start, they have no names."""
    rules, pairs = positions.rules, len(positions.action)
    states, roots = len(positions.cells), int((positions.parent < 0).sum())
    start = np.zeros(states)
    start[:roots] = 1.0 / roots
    return FiniteMDP(
        pair_ptr=positions.pair_ptr,
        pair_action=positions.action,
        outcome_ptr=np.arange(pairs + 1),
        next_state=positions.successor,
        probability=np.ones(pairs),
        reward=positions.reward,
        terminated=positions.ended,
        start=start,
        n_actions=rules.n_actions,
        labels=MoveLists(positions) if roots == 1 else None,
        action_labels=rules.move_names,
        sign=np.full(pairs, -1.0),
    )


def enumerate_game(rules: Rules, max_states: int = 2_000_000) -> FiniteMDP:
    """`game_of` the positions of `enumerate_positions`."""
    return game_of(enumerate_positions(rules, max_states))
