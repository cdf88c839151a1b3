"""The settings of board games, and the environments that they describe: self-play of both players by one learner."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from omegaconf import MISSING

from rlnet.config import EnvConfig, register_environment, require
from rlnet.envs.base import Environment, Simulation, from_model
from rlnet.envs.boards.board import Board
from rlnet.envs.boards.enumeration import MOST_CELLS, TooManyPositions, enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow
from rlnet.envs.boards.simulation import BoardSimulation, planes
from rlnet.envs.simulate import OnDevice

MOST_FEATURES = 10**8  # numbers of all states together
MOST_BOARD = 1000  # cells


@register_environment("board")
class BoardConfig(EnvConfig):
    """Two players put stones on a board in turn; k of one's own in a row win: +1, for the other player −1; a draw is 0.

    As long as there are at most `max_states` positions it is a finite model; beyond, the same without one.
    """

    gamma: float = 1.0
    rows: int = MISSING
    columns: int = MISSING
    k: int = MISSING  # stones in a row that win
    gravity: bool = MISSING  # stones fall to the lowest empty cell of a column, and actions are columns; else cells
    max_states: int = 2_000_000

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        for name in ("rows", "columns", "max_states"):
            require(getattr(self, name) >= 1, f"env.{name}", getattr(self, name), "must be at least 1")
        allowed = f"must be at most {MOST_BOARD} cells with env.columns={self.columns}"
        require(self.rows * self.columns <= MOST_BOARD, "env.rows", self.rows, allowed)
        longest = max(self.rows, self.columns)
        allowed = f"must be in [2, {longest}]: a line of k has to fit on the board of {self.rows}×{self.columns}"
        require(2 <= self.k <= longest, "env.k", self.k, allowed)

    def rules(self) -> KInARow:
        """The rules of the game."""
        return KInARow(self.rows, self.columns, self.k, self.gravity)

    def build(self) -> Environment:
        """The game as a finite model, or without one a simulation of the same."""
        rules, limit = self.rules(), self.max_episode_steps
        why = f"boards of more than {MOST_CELLS} cells are not enumerated"
        if self.rows * self.columns <= MOST_CELLS:
            try:
                positions = enumerate_positions(rules, self.max_states)
            except TooManyPositions:
                why = f"{rules.name} has more positions than env.max_states={self.max_states:,}"
            else:
                cells = positions.cells
                features = planes(cells) if 2 * cells.size <= MOST_FEATURES else None
                made = from_model(self.name, game_of(positions), features, limit)
                return replace(made, board=Board(rules, cells))

        def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
            simulation = BoardSimulation(rules, len(seeds), envs, limit)
            return simulation if device is None else OnDevice(simulation, device)

        shape = (2 * self.rows * self.columns,)
        about = self.name, None, rules.n_actions, None, None, shape, None, limit, build, why
        return Environment(*about, masks=True, game=True, board=Board(rules, None))
