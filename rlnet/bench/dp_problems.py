"""The problems of the DP benchmark, as arrays that any solver can be given. Knows no solver."""

from __future__ import annotations

import numpy as np

MOVES = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)], dtype=np.int32)  # left, down, right, up


def lake(side: int, step: float = 0.0, goal: float = 1.0, holes: float = 0.1) -> dict[str, np.ndarray]:
    """A slippery lake of side² cells: 4 actions × 3 successors; holes and the far corner end the episode."""
    rng = np.random.default_rng(0)
    ends = rng.random(side * side) < holes
    ends[0], ends[-1] = False, True
    slips = (np.arange(4)[:, None] + np.array([-1, 0, 1])) % 4
    return _grid(side, ends, np.zeros(side * side, dtype=bool), MOVES[slips], step, goal)


def costly_lake(side: int) -> dict[str, np.ndarray]:
    """The lake at −1 a step and nothing at the goal: falling into a hole soon is best, and γ = 1 is well-posed."""
    return lake(side, step=-1.0, goal=0.0)


def maze(side: int) -> dict[str, np.ndarray]:
    """A grid without slip, a quarter of it walls, −1 a step, the far corner ends. Cells cut off are walls too."""
    rng = np.random.default_rng(0)
    walls = rng.random((side, side)) < 0.25
    walls[-1, -1] = False
    walls = _cut_off(walls)
    ends = np.zeros(side * side, dtype=bool)
    ends[-1] = True
    return _grid(side, ends, walls.ravel(), MOVES[:, None], -1.0, 0.0)


def garnet(n: int, n_actions: int = 8, branching: int = 10) -> dict[str, np.ndarray]:
    """Random successors and probabilities, normal rewards, nothing ends (Archibald et al. 1995)."""
    rng = np.random.default_rng(0)
    pairs = np.arange(n * n_actions)
    chance = rng.exponential(size=(len(pairs), branching))
    chance /= chance.sum(axis=1, keepdims=True)
    return {
        "state": np.repeat((pairs // n_actions).astype(np.int32), branching),
        "action": np.repeat((pairs % n_actions).astype(np.int32), branching),
        "next_state": rng.integers(0, n, len(pairs) * branching, dtype=np.int32),
        "probability": chance.ravel(),
        "reward": np.repeat(rng.normal(size=len(pairs)), branching),
        "terminated": np.zeros(len(pairs) * branching, dtype=bool),
        "n_states": np.array(n),
        "n_actions": np.array(n_actions),
    }


def toy_text(name: str) -> dict[str, np.ndarray]:
    """The table `P` of a Gymnasium environment."""
    import gymnasium

    table = gymnasium.make(name).unwrapped.P
    rows = [(s, a, t, p, r, d) for s in table for a in table[s] for p, t, r, d in table[s][a]]
    state, action, to, p, r, d = (np.array(x) for x in zip(*rows, strict=True))
    return {
        "state": state,
        "action": action,
        "next_state": to,
        "probability": p,
        "reward": r.astype(float),
        "terminated": d.astype(bool),
        "n_states": np.array(len(table)),
        "n_actions": np.array(len(table[0])),
    }


def _grid(side, ends, walls, moves, step, goal) -> dict[str, np.ndarray]:
    s = np.flatnonzero(~ends & ~walls).astype(np.int32)
    row = np.clip((s // side)[:, None, None] + moves[..., 0], 0, side - 1)
    column = np.clip((s % side)[:, None, None] + moves[..., 1], 0, side - 1)
    to = row * side + column
    to = np.where(walls[to], s[:, None, None], to)
    index = np.cumsum(~walls, dtype=np.int32) - 1  # walls are no states
    del row, column
    outcomes = moves.shape[1]
    to, size = to.ravel(), 4 * outcomes
    return {
        "state": np.repeat(index[s], size),
        "action": np.tile(np.repeat(np.arange(4, dtype=np.int32), outcomes), len(s)),
        "next_state": index[to],
        "probability": np.full(len(to), 1.0 / outcomes),
        "reward": step + goal * (to == side * side - 1),
        "terminated": ends[to],
        "n_states": np.array(int((~walls).sum())),
        "n_actions": np.array(4),
    }


def _cut_off(walls: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    groups, _ = label(~walls)
    return groups != groups[-1, -1]
