"""Small models whose picture is known cell by cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlnet.envs.tabular.grid_map import CellConfig
from rlnet.envs.tabular.gridworld import GridworldConfig, build_gridworld
from rlnet.mdp import FiniteMDP
from rlnet.report import Panel

ARROWS = {"↑": (-1, 0), "→": (0, 1), "↓": (1, 0), "←": (0, -1)}
# Not symmetric in any way: S start, # wall, T terminal. States are numbered in reading order, without the walls.
MAP = ("S.#.", "....", ".T.T")


def grid_model(rows: tuple[str, ...] = MAP, labels: tuple[str, ...] | None = tuple(ARROWS)) -> FiniteMDP:
    """A deterministic grid with four moves; every move costs 1."""
    cells = [(r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark != "#"]
    index = {cell: state for state, cell in enumerate(cells)}
    outcomes: dict = {}
    for (r, c), state in index.items():
        outcomes[state] = {}
        if rows[r][c] != "T":
            for action, (down, right) in enumerate(ARROWS.values()):
                to = index.get((r + down, c + right), state)
                outcomes[state][action] = [(1.0, to, -1.0, rows[cells[to][0]][cells[to][1]] == "T")]
    start = np.array([rows[r][c] == "S" for r, c in cells], dtype=float)
    start = start / start.sum() if start.any() else np.full(len(cells), 1 / len(cells))
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=len(cells), n_actions=4, start=start)
    flat = np.array([r * len(rows[0]) + c for r, c in cells])
    return replace(mdp, shape=(len(rows), len(rows[0])), cell=flat, action_labels=labels)


def plain_model(n_states: int, n_actions: int = 3) -> FiniteMDP:
    """A model without a shape; state i goes to i + 1, the last ends."""
    outcomes = {
        s: {a: [(1.0, min(s + 1, n_states - 1), -1.0, s == n_states - 1)] for a in range(n_actions)}
        for s in range(n_states)
    }
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=n_states, n_actions=n_actions)
    names = ("stay", "go left", "go right")[:n_actions]
    return replace(mdp, labels=tuple(f"[room {s}]" for s in range(n_states)), action_labels=names)


def positions(mdp: FiniteMDP) -> np.ndarray:
    """float [S]: 10·row + column of each state, so that a number says where it belongs."""
    row, col = np.divmod(np.asarray(mdp.cell), mdp.shape[1])
    return 10.0 * row + col


def one_hot(mdp: FiniteMDP, *actions: int) -> np.ndarray:
    """float [S, A]: uniform over some actions, the same in every state."""
    policy = np.zeros((mdp.n_states, mdp.n_actions))
    policy[:, list(actions)] = 1 / len(actions)
    return policy


def three_panels(mdp: FiniteMDP, learned: np.ndarray, exact: np.ndarray) -> list[Panel]:
    """Learned values going right, exact values going up or right, and the error."""
    return [
        Panel("learned V", learned, one_hot(mdp, 1)),
        Panel("exact V*", exact, one_hot(mdp, 0, 1)),
        Panel("error", learned - exact, kind="error"),
    ]


def marked_model() -> FiniteMDP:
    """A gridworld with a cliff (!), a pit (P), a goal (G), a wall (#) and a jump (A to a)."""
    cells = {
        "C": CellConfig(reward=-100.0, send_to="S"),
        "P": CellConfig(terminal=True, reward=-1.0),
        "A": CellConfig(jump_to="a", jump_reward=10.0),
        "a": CellConfig(),
    }
    return build_gridworld(GridworldConfig(name="marked", gamma=0.9, map="..#A\n....\nSCPG\na...", cells=cells))
