"""Numba kernels of k-in-a-row games. Imported when the first move is played."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True)


@compiled
def landing(cells, action, rows, columns, gravity):
    """The cell into which an action puts a stone, −1 where there is none."""
    if not gravity:
        return action if 0 <= action < rows * columns and cells[action] == 0 else -1
    if not 0 <= action < columns:
        return -1
    for row in range(rows - 1, -1, -1):
        if cells[row * columns + action] == 0:
            return row * columns + action
    return -1


@compiled
def completes(cells, cell, rows, columns, k):
    """Whether the mover's stone in `cell` stands in a line of k of its own."""
    row, column = cell // columns, cell % columns
    for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
        count = 1
        for way in (-1, 1):
            r, c = row + way * dr, column + way * dc
            while 0 <= r < rows and 0 <= c < columns and cells[r * columns + c] == 1:
                count += 1
                r, c = r + way * dr, c + way * dc
        if count >= k:
            return True
    return False


@compiled
def play(cells, action, rows, columns, k, gravity, successor, reward, ended):
    """Fill the successors [B, C] in the next mover's view, rewards [B] and ends [B]; the first row with an action that
    is not legal, or −1."""
    for i in range(len(action)):
        cell = landing(cells[i], action[i], rows, columns, gravity)
        if cell < 0:
            return i
        empty = 0
        for j in range(rows * columns):
            successor[i, j] = cells[i, j]
            empty += cells[i, j] == 0
        successor[i, cell] = 1
        won = completes(successor[i], cell, rows, columns, k)
        for j in range(rows * columns):
            successor[i, j] = -successor[i, j]
        reward[i] = 1.0 if won else 0.0
        ended[i] = won or empty == 1
    return -1


@compiled
def words(cells, own, other):
    """Fill the cells of the mover's stones, and of the other's, as bits of two numbers per position: uint64 [B]."""
    for i in range(len(cells)):
        mine, theirs = np.uint64(0), np.uint64(0)
        for j in range(cells.shape[1]):
            bit = np.uint64(1) << np.uint64(j)
            if cells[i, j] > 0:
                mine |= bit
            elif cells[i, j] < 0:
                theirs |= bit
        own[i], other[i] = mine, theirs


@compiled
def place(own, other, size):
    """Where the search for a position begins in a hash table of `size` places, a power of two."""
    mixed = own * np.uint64(0x9E3779B97F4A7C15) ^ (other + np.uint64(0x7F4A7C15)) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.int64(mixed & np.uint64(size - 1))


@compiled
def number(own, other, table, known_own, known_other, count, numbers, first):
    """Number positions: those that are known by their number, new ones from `count` on, which are entered.

    `table` int64 holds the number of a position at its place or behind it, −1 where there is none; it must have room.
    Fills `numbers` [B] and `first` (row of the batch, for each new position in order); returns the new count.
    """
    size, fresh = len(table), 0
    for i in range(len(own)):
        at = place(own[i], other[i], size)
        while table[at] >= 0 and not (known_own[table[at]] == own[i] and known_other[table[at]] == other[i]):
            at = (at + 1) & (size - 1)
        if table[at] < 0:
            table[at], known_own[count], known_other[count], first[fresh] = count, own[i], other[i], i
            count += 1
            fresh += 1
        numbers[i] = table[at]
    return count


@compiled
def enter(known_own, known_other, count, table):
    """Enter the first `count` known positions into an empty table."""
    size = len(table)
    for i in range(count):
        at = place(known_own[i], known_other[i], size)
        while table[at] >= 0:
            at = (at + 1) & (size - 1)
        table[at] = i
