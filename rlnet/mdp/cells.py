"""Kinds of grid cells (floor, wall, exit, hazard, jump), from which every picture of a model is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rlnet.mdp.model.finite_mdp import FiniteMDP

# Where an action leads, as (rows down, columns right); the dot stays where it is.
DIRECTIONS: dict[str, tuple[int, int]] = {
    "↑": (-1, 0),
    "→": (0, 1),
    "↓": (1, 0),
    "←": (0, -1),
    "↗": (-1, 1),
    "↘": (1, 1),
    "↙": (1, -1),
    "↖": (-1, -1),
    "·": (0, 0),
}
USUAL = 5.0  # median absolute deviations: rewards of steps that differ by less do not stand out


class Kind(IntEnum):
    """Kind of a cell. "Pays" and "costs" compare with an ordinary step, which may itself cost something."""

    FLOOR = 0
    WALL = 1  # nobody gets here
    END = 2  # an episode ends here, at the reward of an ordinary step
    GAIN = 3  # an episode ends here, and that pays
    LOSS = 4  # an episode ends here, and that costs
    HAZARD = 5  # entering costs, and the episode goes on: a puddle, or a cliff that sends back to the start
    BONUS = 6  # entering pays, and the episode goes on
    JUMP = 7  # every action leads to the same place, or entering moves on to another cell


@dataclass(frozen=True, eq=False)
class EntryRewards:
    """Rewards for entering the cells of a drawing.

    Attributes:
        cell: float [rows · columns], the reward on entering each cell, also where the agent cannot stay; NaN: a wall,
            or nobody enters.
        step: the reward of an ordinary step.
        spread: how far from `step` the reward of an ordinary step may lie.
    """

    cell: np.ndarray
    step: float
    spread: float = 0.0


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a drawing.

    Attributes:
        acts: bool [rows, columns], whether an agent chooses actions there, so that the cell has a value.
        kind: int8 [rows, columns], values of `Kind`.
        reward: float [rows, columns]: on entering (on leaving, for a jump and for an exit that is no cell of its own),
            its mean where it depends on the way; NaN for floor and walls.
    """

    acts: np.ndarray
    kind: np.ndarray
    reward: np.ndarray

    @property
    def marked(self) -> np.ndarray:
        """bool [rows, columns]: cells that are neither floor nor wall."""
        return (self.kind != Kind.FLOOR) & (self.kind != Kind.WALL)

    def found(self) -> list[tuple[Kind, list[float]]]:
        """The kinds that occur, apart from floor, each with its different rewards in ascending order."""
        kinds = [kind for kind in Kind if kind is not Kind.FLOOR and bool((self.kind == kind).any())]
        rewards = [self.reward[self.kind == kind] for kind in kinds]
        return [
            (kind, sorted({float(f"{r:.6g}") for r in paid[np.isfinite(paid)].tolist()}))
            for kind, paid in zip(kinds, rewards, strict=True)
        ]


def cells_of(mdp: FiniteMDP) -> Cells:
    """The cells of a model's drawing; a model without a shape is one row of its states.

    From the model's `entry` where it has one. Without: from its outcomes. The reward of a cell is then the mean of
    those that lead there from a cell beside it, and the ordinary step has the median. A cell that nobody comes to
    stand on is a hazard where the actions that point at it lead somewhere else, and a wall where they lead nowhere.
    """
    rows, columns = mdp.shape or (1, mdp.n_states)
    place = np.arange(mdp.n_states) if mdp.cell is None else mdp.cell
    steps = _Steps(mdp)
    ends, jumps = _ends(steps), _jumps(steps)
    entry = _inferred(steps, ends, jumps, rows * columns, place) if mdp.entry is None else mdp.entry

    excess = entry.cell - entry.step
    margin = entry.spread + 1e-9 * max(1.0, float(np.nanmax(np.abs(entry.cell), initial=0.0)))
    pays, costs = excess > margin, excess < -margin
    stays = np.zeros(rows * columns, dtype=bool)
    stays[place] = True
    kind = np.select(
        [np.isnan(entry.cell) & ~stays, costs, pays, ~stays],
        [Kind.WALL, Kind.HAZARD, Kind.BONUS, Kind.JUMP],
        Kind.FLOOR,
    ).astype(np.int8)
    reward = np.where((kind == Kind.FLOOR) | (kind == Kind.WALL), np.nan, entry.cell)
    kind[place[jumps]], reward[place[jumps]] = Kind.JUMP, steps.mean(steps.any)[jumps]

    def exits(cells: np.ndarray, paid: np.ndarray) -> None:
        more = np.nan_to_num(paid - entry.step)
        kind[cells] = np.select([more > margin, more < -margin], [Kind.GAIN, Kind.LOSS], Kind.END)
        reward[cells] = paid

    outside = steps.terminated & ~ends[steps.to] & steps.reached[steps.at] & ~ends[steps.at]
    leaving = np.unique(steps.at[outside])
    exits(place[leaving], steps.mean(outside)[leaving])
    exits(place[ends], entry.cell[place[ends]])
    acts = np.zeros(rows * columns, dtype=bool)
    acts[place] = ~ends & (steps.reached | (mdp.entry is not None) | np.isnan(entry.cell[place]))
    return Cells(*(x.reshape(rows, columns) for x in (acts, kind, reward)))


def few_starts(mdp: FiniteMDP, start: np.ndarray | None = None) -> np.ndarray:
    """The states worth marking as start: those of `start` float [S] (default: the model's), unless they are most."""
    states = np.flatnonzero((mdp.start if start is None else np.asarray(start)) > 0)
    return states if 2 * len(states) < max(mdp.n_states, 3) else states[:0]


class _Steps:
    """The outcomes of a model as flat arrays: state, pair, successor."""

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))  # int [K]
        self.at, self.to = mdp.pair_state[self.pair], mdp.next_state
        self.reward, self.terminated = mdp.reward, mdp.terminated
        self.any = np.ones(mdp.n_outcomes, dtype=bool)
        self.moves = self.at != self.to
        self.reached = mdp.start > 0  # bool [S]: states where somebody can come to stand
        self.reached[self.to[self.moves]] = True

    def mean(self, which: np.ndarray, into: bool = False) -> np.ndarray:
        """float [S]: the mean reward of some outcomes, bool [K], of each state (or into it); NaN without one."""
        state, weight = (self.to if into else self.at)[which], self.mdp.probability[which]
        total = np.bincount(state, weight * self.reward[which], minlength=self.mdp.n_states)
        mass = np.bincount(state, weight, minlength=self.mdp.n_states)
        with np.errstate(invalid="ignore"):
            return total / mass


def _ends(steps: _Steps) -> np.ndarray:
    """bool [S]: terminal states, and those that are only ever entered by outcomes that terminate."""
    entered = np.zeros(steps.mdp.n_states, dtype=bool)
    entered[steps.to[steps.terminated & steps.moves]] = True
    entered[steps.to[~steps.terminated & steps.moves]] = False
    return steps.mdp.terminal | (entered & (steps.mdp.start == 0))


def _jumps(steps: _Steps) -> np.ndarray:
    """bool [S]: states with several actions that all lead to the same other state for the same reward."""
    mdp = steps.mdp
    first = np.zeros(mdp.n_states, dtype=np.int64)
    acts = ~mdp.terminal
    first[acts] = mdp.outcome_ptr[mdp.pair_ptr[:-1][acts]]
    lead = first[steps.at]
    alike = (steps.to == steps.to[lead]) & (steps.reward == steps.reward[lead]) & steps.moves
    every = acts & (np.diff(mdp.pair_ptr) > 1)
    every[steps.at[~alike]] = False
    return every


def _inferred(steps: _Steps, ends: np.ndarray, jumps: np.ndarray, size: int, place: np.ndarray) -> EntryRewards:
    """Rewards for entering each cell, inferred from the outcomes of the model."""
    steady = steps.moves & ~jumps[steps.at] & steps.reached[steps.at] & ~(steps.terminated & ~ends[steps.to])
    target = _targets(steps, place)
    into = steps.mean(steady & (place[steps.to] == target), into=True)
    into = np.where(np.isnan(into), steps.mean(steady, into=True), into)
    floor = into[~ends & ~np.isnan(into)]
    if len(floor) == 0:
        floor = steps.reward[~steps.terminated] if (~steps.terminated).any() else np.zeros(1)
    step = float(np.median(floor))
    entry = EntryRewards(np.full(size, np.nan), step, USUAL * float(np.median(np.abs(floor - step))))
    entry.cell[place] = into
    acting = steps.reached & ~ends & ~jumps
    _add_hazards(entry, steps, place, np.where(acting[steps.at], target, -1), steps.reached | ends)
    return entry


def _targets(steps: _Steps, place: np.ndarray) -> np.ndarray:
    """int [K]: the cell at which the action of each outcome points; -1 off the drawing, or without directions."""
    mdp = steps.mdp
    labels = mdp.action_labels or ()
    if mdp.shape is None or not labels or not all(label in DIRECTIONS for label in labels):
        return np.full(mdp.n_outcomes, -1)
    rows, columns = mdp.shape
    way = np.array([DIRECTIONS[label] for label in labels])[mdp.pair_action[steps.pair]]
    row, column = (x[steps.at] + way[:, i] for i, x in enumerate(np.divmod(place, columns)))
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return np.where(inside, row * columns + column, -1)


def _add_hazards(entry: EntryRewards, steps: _Steps, place: np.ndarray, target: np.ndarray, stood: np.ndarray) -> None:
    """Add to `entry` the rewards of cells that are entered but never stood on (a cliff).

    Whoever is sent towards such a cell (`target` int [K], -1: not counted) is thrown to where no move leads, or is paid
    unlike a step; at least as probably as nothing happens, which tells the cell from a wall beside it on a floor that
    slips. A wall that costs throws nobody. `stood` bool [S]: states that are cells of their own.
    """
    mdp, odd = steps.mdp, np.abs(steps.reward - entry.step) > entry.spread + 1e-9
    columns = (mdp.shape or (1, mdp.n_states))[1]
    row, column = np.divmod(place, columns)
    moves = {DIRECTIONS[label] for label in mdp.action_labels or () if label in DIRECTIONS}
    down, right = row[steps.to] - row[steps.at], column[steps.to] - column[steps.at]
    known = np.zeros(mdp.n_outcomes, dtype=bool)
    for rows_down, columns_right in moves:
        known |= (down == rows_down) & (right == columns_right)
    free = np.ones(len(entry.cell), dtype=bool)
    free[place[stood]] = False
    sent = (target >= 0) & free[target]
    thrown = sent & np.where(steps.moves, ~known | odd, odd)
    still = sent & ~steps.moves & ~odd
    mass = [np.bincount(steps.pair[x], mdp.probability[x], minlength=mdp.n_pairs) for x in (thrown, still)]
    wall = sent & ((mass[0] == 0) | (mass[0] < mass[1] - 1e-9))[steps.pair]
    void = np.zeros(len(entry.cell), dtype=bool)
    void[target[thrown & steps.moves]] = True
    void[target[wall]] = False
    these = thrown & void[target]
    weight = np.bincount(target[these], mdp.probability[these], minlength=len(void))
    total = np.bincount(target[these], (mdp.probability * steps.reward)[these], minlength=len(void))
    entry.cell[void] = total[void] / weight[void]
