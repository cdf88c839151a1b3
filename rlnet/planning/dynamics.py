"""Deterministic models for tree search: batched transitions (states, actions) → (successors, rewards, signs) in numpy.

A state is a row of an array: an index of a finite model, or the cells of a board. The `sign` of a
step is +1 where the same player moves next, −1 where the other player of a zero-sum game does, and 0 where the episode
ended: γ·sign is the weight of the successor's value in the value of the mover, as in `returns.boundaries`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from rlnet.envs.boards.rules import Rules
from rlnet.envs.boards.simulation import planes
from rlnet.envs.state_rows import StateRows
from rlnet.mdp import FiniteMDP


class NotDeterministicError(ValueError):
    """A finite model has actions with several outcomes."""


class Moved(NamedTuple):
    """Result of a step in B states."""

    state: np.ndarray  # [B, ...] successors; of an episode that ended any state
    reward: np.ndarray  # float64 [B], of the player who moved
    sign: np.ndarray  # float64 [B]: +1, −1, or 0 where the episode ended


class Dynamics(Protocol):
    """Interface of a deterministic model for tree search."""

    @property
    def n_actions(self) -> int:
        """A."""

    def states(self, obs: np.ndarray) -> np.ndarray:
        """Convert observations [..., *] to states [..., *]."""

    def observations(self, state: np.ndarray) -> np.ndarray:
        """Convert states to observations, the inputs of networks."""

    def available(self, state: np.ndarray) -> np.ndarray:
        """The available actions of states [B, ...]: bool [B, A]."""

    def step(self, state: np.ndarray, action: np.ndarray) -> Moved:
        """Take the available action [B] in states [B, ...]."""


class TableDynamics:
    """Dynamics of a deterministic `FiniteMDP` of one or two players, as lookup tables.

    Args:
        mdp: the model.
        rows: what is shown in each state, a row of its own; None: its number.

    Raises:
        NotDeterministicError: an action has several outcomes.
    """

    def __init__(self, mdp: FiniteMDP, rows: StateRows | None = None) -> None:
        happens = mdp.probability > 0
        count = np.add.reduceat(happens, mdp.outcome_ptr[:-1], dtype=np.int64) if mdp.n_pairs else np.zeros(0, np.int64)
        if (count > 1).any():
            pair = int((count > 1).argmax())
            where = f"state {mdp.pair_state[pair]}, action {mdp.pair_action[pair]}"
            raise NotDeterministicError(f"{where} has {count[pair]} outcomes")
        self._rows, outcome = rows, np.flatnonzero(happens)
        sign = np.ones(mdp.n_outcomes) if mdp.sign is None else mdp.sign
        self.n_actions = mdp.n_actions
        self.pair = np.ascontiguousarray(mdp.pair_index, dtype=np.int64)  # [S, A], −1 where not available
        self.successor = mdp.next_state[outcome].astype(np.int64)  # [P]
        self.reward = np.ascontiguousarray(mdp.reward[outcome])  # [P]
        self.sign = np.where(mdp.terminated[outcome], 0.0, sign[outcome]).astype(np.float64)  # [P]

    def states(self, obs: np.ndarray) -> np.ndarray:
        """See `Dynamics`; observations are state indices, or rows."""
        return obs if self._rows is None else self._rows.states(obs)

    def observations(self, state: np.ndarray) -> np.ndarray:
        """See `Dynamics`; observations are state indices, or rows."""
        return state if self._rows is None else self._rows.rows[self._rows.of_state[state]]

    def available(self, state: np.ndarray) -> np.ndarray:
        """See `Dynamics`; states are indices [B]."""
        return self.pair[state] >= 0

    def step(self, state: np.ndarray, action: np.ndarray) -> Moved:
        """See `Dynamics`; states are indices [B]."""
        pair = self.pair[state, action]
        return Moved(self.successor[pair], self.reward[pair], self.sign[pair])


class RulesDynamics:
    """Dynamics of a board game from its rules; the players move in turn, states are cells [B, C]."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    @property
    def n_actions(self) -> int:
        """A."""
        return self._rules.n_actions

    def states(self, obs: np.ndarray) -> np.ndarray:
        """Cells int8 [..., C] from observations, planes [..., 2·C]."""
        mine, theirs = np.split(obs, 2, axis=-1)
        return (mine - theirs).astype(np.int8)

    def observations(self, state: np.ndarray) -> np.ndarray:
        """Observations of cells: planes float32 [..., 2·C]."""
        return planes(state)

    def available(self, state: np.ndarray) -> np.ndarray:
        """See `Dynamics`."""
        return self._rules.legal(state)

    def step(self, state: np.ndarray, action: np.ndarray) -> Moved:
        """See `Dynamics`."""
        cells, reward, ended = self._rules.play(state, action)
        return Moved(cells, reward.astype(np.float64), np.where(ended, 0.0, -1.0))
