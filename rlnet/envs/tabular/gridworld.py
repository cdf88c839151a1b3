"""Gridworlds: finite models from maps of characters.

Built from whole arrays, one pass per direction: the number of cells decides the memory, not a Python loop.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import MISSING

from rlnet.config import ConfigError, EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.tabular.grid_map import CellConfig, Letters, read_map, require_finite
from rlnet.mdp import FiniteMDP
from rlnet.mdp.cells import EntryRewards


@register_environment("gridworld")
class GridworldConfig(EnvConfig):
    """Settings of a gridworld: a map of '#' wall, '.' free, 'S' start, 'G' goal; `cells` defines further letters."""

    map: str = MISSING
    cells: dict[str, CellConfig] = field(default_factory=dict)
    step_reward: float = 0.0  # reward of every step, unless the entered cell has its own
    bump_reward: float | None = None  # reward of a step off the map or into a wall; null: the same as step_reward
    slip: float = 0.0  # probability of moving at a right angle to the chosen direction (half of it to each side)
    wind: list[int] = field(default_factory=list)  # cells that a step from each column is blown upwards
    diagonal: bool = False  # eight moves instead of four

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(0 <= self.slip <= 1, "env.slip", self.slip, "must be a probability in [0, 1]")

    def build(self) -> Environment:
        """The map as a finite model; a cell's row and column are its features."""
        mdp = build_gridworld(self)
        return from_model(self.name, mdp, grid_features(mdp), self.max_episode_steps)


ACTION_LABELS = ("↑", "→", "↓", "←", "↗", "↘", "↙", "↖")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, 1), (1, 1), (1, -1), (-1, -1))  # (rows, columns)
LABELLED_STATES = 10_000  # names are for error messages and small tables; millions of strings would cost gigabytes
BLOCK = 10_000  # cells whose outcomes are made at once


@dataclass(frozen=True)
class _Cells:
    """What happens in each cell: arrays over the flat cells."""

    wall: np.ndarray  # bool
    terminal: np.ndarray  # bool
    reward: np.ndarray  # float, on entering
    lands: np.ndarray  # int, where an agent that enters comes to stand
    jump: np.ndarray  # int, where every action leads; −1: actions move
    jump_reward: np.ndarray  # float
    state: np.ndarray  # int, the number of the state; −1: nobody can stand there (walls, cells with send_to)


def _read_cells(letters: Letters, step_reward: float) -> _Cells:
    meanings = letters.meanings
    wall = letters.table([cell.wall for cell in meanings])
    sends = letters.table([cell.send_to is not None for cell in meanings])
    occupied = ~(wall | sends)
    state = np.where(occupied, np.cumsum(occupied, dtype=np.int32) - 1, -1)
    lands = np.arange(len(wall), dtype=np.int32)
    target = {"send_to": [-1] * len(meanings), "jump_to": [-1] * len(meanings)}
    for number, (letter, cell) in enumerate(zip(letters.letters, meanings, strict=True)):
        for name in target:
            if getattr(cell, name) is not None:
                target[name][number] = _target(letters, letter, name)
    sent = letters.table(target["send_to"], np.int32)
    return _Cells(
        wall=wall,
        terminal=letters.table([cell.terminal for cell in meanings]),
        reward=letters.table([step_reward if cell.reward is None else cell.reward for cell in meanings], float),
        lands=np.where(sends, sent, lands),
        jump=letters.table(target["jump_to"], np.int32),
        jump_reward=letters.table([cell.jump_reward for cell in meanings], float),
        state=state,
    )


def _target(letters: Letters, letter: str, name: str) -> int:
    """The cell that `letter` sends or jumps to, checked to be one where an agent can stand."""
    key, to = f"env.cells.{letter}.{name}", getattr(letters.meanings[letters.letters.index(letter)], name)
    cell = letters.only_cell(to, key)
    there = letters.meanings[letters.kind[cell]]
    require(not there.wall, key, to, "leads into a wall")
    require(there.send_to is None, key, to, "leads to a cell that sends on; name the cell where it ends")
    require(not (name == "send_to" and there.terminal), key, to, "leads to a terminal cell; make the cell terminal")
    return cell


def _slips(n_actions: int, slip: float) -> tuple[np.ndarray, np.ndarray]:
    """(moves int [A, K], probability [K]): action a makes move moves[a, k] with probability[k]."""
    straight = np.arange(n_actions)
    first = straight // 4 * 4  # moves 0-3 and 4-7 both go clockwise: a right angle is one further, or one back
    sides = [first + (straight - first + turn) % 4 for turn in (1, -1)]
    moves, probability = np.stack([straight, *sides], axis=1), np.array([1 - slip, slip / 2, slip / 2])
    return moves[:, probability > 0], probability[probability > 0]


def _land(
    config: GridworldConfig, cells: _Cells, shape: tuple[int, int], at: np.ndarray, move: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(cell [n], reward [n]) of one move from each of the flat cells `at` [n], without slipping."""
    rows, columns = shape
    row, column = at // columns, at % columns
    to_row, to_column = row + move[0], column + move[1]
    off = (to_row < 0) | (to_row >= rows) | (to_column < 0) | (to_column >= columns)
    stays = off
    if config.wind:
        # Example 6.5: wind and move add up, and who would leave the map comes to stand at its edge.
        wind = np.array(config.wind, dtype=np.int32)[column]
        to_row, to_column = np.clip(to_row - wind, 0, rows - 1), np.clip(to_column, 0, columns - 1)
        stays = off & (wind == 0)
    entered = np.where(stays, at, to_row * columns + to_column)
    bumped = off | cells.wall[entered]
    entered = np.where(cells.wall[entered], at, entered)
    bump_reward = config.step_reward if config.bump_reward is None else config.bump_reward
    reward = np.where(bumped & (entered == at), bump_reward, cells.reward[entered])
    return cells.lands[entered], reward


def build_gridworld(config: GridworldConfig) -> FiniteMDP:
    """Build the finite model of a gridworld.

    States are the cells where an agent can stand, row by row: walls and cells with `send_to` have none, terminal cells
    are states without actions. Actions are up, right, down, left (0-3) and, with `diagonal`, ↗ ↘ ↙ ↖ (4-7).

    - A move succeeds with probability 1 − slip; with slip/2 each it goes to one of the two sides at a right angle.
    - Entering a cell pays its `reward`, else `step_reward`. A move off the map or into a wall leaves the agent where
      it is and pays `bump_reward` (null: `step_reward`). A diagonal move may pass between two walls.
    - `wind[c]` carries every move from column c that many rows up (negative: down), at most to the edge of the map
      (S&B Example 6.5).
    - `send_to`: entering pays and moves on to the target in the same step (Example 6.6).
    - `jump_to`: every action leads to the target and pays `jump_reward` (Example 3.5).
    - Episodes begin in a start cell, each equally likely; without one in any cell that is not terminal.

    Raises:
        ConfigError: see `read_map`; also a range, a target that is missing, ambiguous or not to be stood on, a
            wind that does not fit the map, or no cell to start from.
    """
    check_env(config)
    for name in ("step_reward", "bump_reward"):
        require_finite(f"env.{name}", getattr(config, name))
    letters = read_map(config.map, config.cells)
    columns = letters.shape[1]
    allowed = f"needs one number per column of the map ({columns}), or none"
    require(len(config.wind) in (0, columns), "env.wind", config.wind, allowed)
    cells = _read_cells(letters, config.step_reward)
    stand = np.flatnonzero(cells.state >= 0)
    start = letters.table([cell.start for cell in letters.meanings], float)[stand]
    if not start.any():
        start = (~cells.terminal[stand]).astype(float)
    if not start.any():
        raise ConfigError("env.map: has no cell to start from; a free cell is written '.', a start 'S'")
    few = len(stand) <= LABELLED_STATES
    n_actions = 8 if config.diagonal else 4
    return FiniteMDP(
        **_outcomes(config, cells, letters.shape, n_actions),
        start=start / start.sum(),
        n_actions=n_actions,
        labels=tuple(f"row {c // columns}, column {c % columns}" for c in stand.tolist()) if few else None,
        shape=letters.shape,
        cell=stand,
        action_labels=ACTION_LABELS[:n_actions],
        entry=EntryRewards(np.where(cells.wall, np.nan, cells.reward), config.step_reward),
    )


def _outcomes(config: GridworldConfig, cells: _Cells, shape: tuple[int, int], n_actions: int) -> dict[str, Any]:
    """The arrays of the model from `pair_ptr` to `terminated`, in their order: every state has every action."""
    acts = (cells.state >= 0) & ~cells.terminal
    at = np.flatnonzero(acts).astype(np.int32)  # [n] cells with actions
    size = len(at) * _slips(n_actions, config.slip)[0].size
    landed, probability, reward = np.empty(size, dtype=np.int32), np.empty(size), np.empty(size)
    counts, end = np.empty(len(at) * n_actions, dtype=np.int32), 0
    for first in range(0, len(at), BLOCK):  # so that what is written in strides stays in the processor's cache
        some, *columns = _block(config, cells, shape, at[first : first + BLOCK], n_actions)
        counts[first * n_actions : first * n_actions + len(some)] = some
        begin, end = end, end + len(columns[0])
        landed[begin:end], probability[begin:end], reward[begin:end] = columns
    landed = landed[:end]
    actions = np.where(acts, n_actions, 0)[cells.state >= 0]
    return {
        "pair_ptr": np.concatenate([[0], np.cumsum(actions)]),
        "pair_action": np.tile(np.arange(n_actions, dtype=np.int32), len(at)),
        "outcome_ptr": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        "next_state": cells.state[landed],
        "probability": probability[:end],
        "reward": reward[:end],
        "terminated": cells.terminal[landed],
    }


def _block(
    config: GridworldConfig, cells: _Cells, shape: tuple[int, int], at: np.ndarray, n_actions: int
) -> tuple[np.ndarray, ...]:
    """(outcomes of each pair [n A]; of each outcome the cell, the probability, the reward) of the cells `at` [n]."""
    moves, chance = _slips(n_actions, config.slip)  # [A, K], [K]
    shape_out = (len(at), *moves.shape)  # [n, A, K]
    landed, reward = np.empty(shape_out, dtype=np.int32), np.empty(shape_out)
    probability = np.broadcast_to(chance, shape_out).copy()
    for move in range(n_actions):
        cell, gain = _land(config, cells, shape, at, MOVES[move])
        for action, outcome in np.argwhere(moves == move):
            landed[:, action, outcome], reward[:, action, outcome] = cell, gain
    jumps = np.flatnonzero(cells.jump[at] >= 0)
    landed[jumps], reward[jumps] = cells.jump[at[jumps], None, None], cells.jump_reward[at[jumps], None, None]
    _merge(landed, reward, probability)
    kept = probability > 0
    return kept.sum(axis=2).ravel(), landed[kept], probability[kept], reward[kept]


def _merge(landed: np.ndarray, reward: np.ndarray, probability: np.ndarray) -> None:
    """Add up equal outcomes of a pair, in place: all of [n, A, K]; the later one is left with probability 0."""
    outcomes = landed.shape[2]
    for later in range(1, outcomes):
        for earlier in range(later):
            same = (landed[..., later] == landed[..., earlier]) & (reward[..., later] == reward[..., earlier])
            probability[..., earlier] += np.where(same, probability[..., later], 0.0)
            probability[..., later] = np.where(same, 0.0, probability[..., later])


def grid_features(mdp: FiniteMDP) -> np.ndarray:
    """x, y, x², xy, y² of each state's cell, float32 [S, 5], with x and y in [−1, 1] (S&B 9.5.1). Needs `mdp.shape`."""
    cell = np.arange(mdp.n_states) if mdp.cell is None else mdp.cell
    if mdp.shape is None:
        raise ValueError("the model has no shape, so its states have no coordinates")
    rows, columns = mdp.shape
    x, y = (2.0 * i / max(n - 1, 1) - (n > 1) for i, n in ((cell % columns, columns), (cell // columns, rows)))
    return np.stack([x, y, x * x, x * y, y * y], axis=1).astype(np.float32)
