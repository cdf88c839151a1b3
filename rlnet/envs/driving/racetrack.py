"""`env=racetrack`: a race car around a turn (S&B Exercise 5.12), as a finite model."""

from dataclasses import replace
from functools import partial

import numpy as np
from omegaconf import MISSING

from rlnet.config import ConfigError, EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.driving.drawing import TrackDrawing
from rlnet.envs.tabular.grid_map import Letters, read_map, require_finite
from rlnet.mdp import FiniteMDP

INCREMENTS = [(up, right) for up in (-1, 0, 1) for right in (-1, 0, 1)]  # to the speed upwards and to the right
OFF_TRACK = "off_track"


@register_environment("racetrack")
class RacetrackConfig(EnvConfig):
    """A track of cells: '.' road, '#' beside it, 'S' starting line, 'G' finishing line.

    The car has a speed upwards and one to the right, each in 0 .. `max_speed`, not both 0 but on the starting line. The
    nine actions change each by −1, 0 or 1; with probability `failure` neither changes. Where the way from cell to cell
    crosses the finishing line the episode ends; where it leaves the road first, the car goes back to a random place of
    the starting line and stands. Every step costs.
    """

    map: str = MISSING
    max_speed: int = 4
    failure: float = 0.1
    step_reward: float = -1.0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(1 <= self.max_speed <= 20, "env.max_speed", self.max_speed, "must be in [1, 20]")
        require(0 <= self.failure <= 1, "env.failure", self.failure, "must be a probability in [0, 1]")
        require_finite("env.step_reward", self.step_reward)

    def build(self) -> Environment:
        """The track as a finite model; place and speeds are its features."""
        mdp, features = build_racetrack(self)
        letters = np.array(read_map(self.map, {}).text())
        largest = [*(max(side - 1, 1) for side in letters.shape), self.max_speed, self.max_speed]
        place = np.rint(features * largest).astype(np.int64)
        made = from_model(self.name, mdp, features, self.max_episode_steps)
        return replace(made, drawing=partial(TrackDrawing, letters, place))


def build_racetrack(config: RacetrackConfig) -> tuple[FiniteMDP, np.ndarray]:
    """Build the model, and features float32 [S, 4]: row, column, speed upwards, speed to the right, in [0, 1].

    Its event `off_track` is the set of outcomes in which the car is sent back.

    Raises:
        ConfigError: a map without a starting or a finishing line, with other letters, or a number out of range.
    """
    check_env(config)
    for letter in "".join(config.map.split()):
        require(letter in "S.G#", "env.map", letter, "a track has the letters S, G, . and # alone")
    letters = read_map(config.map, {})
    start, finish, road = (_cells(letters, names) for names in ("S", "G", "S.G"))
    for letter, cells, what in (("S", start, "starting"), ("G", finish, "finishing")):
        if not cells.any():
            raise ConfigError(f"env.map: has no {what} line; write its cells as {letter}")
    (rows, columns), speeds = letters.shape, config.max_speed + 1
    cell, up, right = (part.ravel() for part in np.indices((rows * columns, speeds, speeds)))
    stands = (up == 0) & (right == 0)
    exists = road[cell] & ~finish[cell] & (start[cell] | ~stands)
    states = np.where(exists, np.cumsum(exists) - 1, -1)
    cell, up, right = cell[exists], up[exists], right[exists]
    begins = states[np.flatnonzero(start) * speeds**2]

    parts = []
    for number, (more_up, more_right) in enumerate(INCREMENTS):
        wanted_up, wanted_right = up + more_up, right + more_right
        inside = (wanted_up >= 0) & (wanted_up < speeds) & (wanted_right >= 0) & (wanted_right < speeds)
        at = np.flatnonzero(inside & ((wanted_up + wanted_right > 0) | start[cell]))
        for share, fast_up, fast_right in (
            (1 - config.failure, wanted_up[at], wanted_right[at]),
            (config.failure, up[at], right[at]),
        ):
            to, over, off = _drive(letters, cell[at], fast_up, fast_right, road, finish)
            onward = np.where(over, at, states[(to * speeds + fast_up) * speeds + fast_right])[~off]
            again = np.tile(begins, np.count_nonzero(off))
            parts.append(
                [
                    np.append(at[~off], np.repeat(at[off], len(begins))),
                    np.full(len(onward) + len(again), number),
                    np.append(onward, again),
                    np.append(np.full(len(onward), share), np.full(len(again), share / len(begins))),
                    np.append(np.zeros(len(onward)), np.ones(len(again))),
                    np.append(over[~off], np.zeros(len(again), bool)),
                ]
            )
    outcomes = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # What leaves the road is marked by a reward of 1, which keeps it apart from outcomes that lead to the same state.
    mdp = FiniteMDP.from_coo(
        *outcomes,
        n_states=len(cell),
        n_actions=len(INCREMENTS),
        start=np.bincount(begins, minlength=len(cell)) / len(begins),
        labels=tuple(map("row {} column {} speed {} {}".format, cell // columns, cell % columns, up, right)),
        action_labels=tuple(f"{u:+d} {r:+d}" for u, r in INCREMENTS),
    )
    mdp = replace(mdp, reward=np.full(mdp.n_outcomes, config.step_reward), events={OFF_TRACK: mdp.reward == 1.0})
    place = cell // columns / max(rows - 1, 1), cell % columns / max(columns - 1, 1)
    features = np.stack([*place, up / config.max_speed, right / config.max_speed], axis=1)
    return mdp, features.astype(np.float32)


def _cells(letters: Letters, names: str) -> np.ndarray:
    """bool [rows · columns]: the cells with one of some letters."""
    return letters.table([letter in names for letter in letters.letters])


def _drive(
    letters: Letters, cell: np.ndarray, up: np.ndarray, right: np.ndarray, road: np.ndarray, finish: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cell reached, whether the finishing line was crossed, whether the road was left before) of one step, [n] each.

    The way is the straight line between the middles of the cells, seen at each cell of its longer component.
    """
    columns = letters.shape[1]
    row, column = cell // columns, cell % columns
    length = np.maximum(np.maximum(up, right), 1)
    ended, lost = np.zeros(len(cell), bool), np.zeros(len(cell), bool)
    to = cell.copy()
    for k in range(1, int(length.max(initial=1)) + 1):
        share = np.minimum(k, length) / length
        at_row = row - np.floor(up * share + 0.5).astype(int)
        at_column = column + np.floor(right * share + 0.5).astype(int)
        inside = (at_row >= 0) & (at_column < columns)
        to = np.where(inside, at_row, 0) * columns + np.where(inside, at_column, 0)
        open_ = ~ended & ~lost
        ended |= open_ & inside & finish[to]
        lost |= open_ & ~(inside & road[to])
    return np.where(ended | lost, cell, to), ended, lost
