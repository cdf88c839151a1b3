"""`env=deep_sea`: a grid in which one way in 2^size pays (Osband et al. 2020, bsuite), as a finite model."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.tabular.grid_map import require_finite
from rlnet.mdp import FiniteMDP


@register_environment("deep_sea")
class DeepSeaConfig(EnvConfig):
    """A dive of `size` steps, each one row down and to the left or the right; to the right costs `move_cost` / size.

    Only who always goes right arrives in the corner, and going right there pays 1. Which action goes right differs
    from cell to cell (`shuffled`), drawn by `instance`. `stochastic`: going right fails with probability 1 / size, and
    then leads straight down.
    """

    gamma: float = 1.0
    size: int = 10
    move_cost: float = 0.01
    shuffled: bool = True
    instance: int = 0
    stochastic: bool = False

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.size >= 1, "env.size", self.size, "must be at least 1")
        require(self.instance >= 0, "env.instance", self.instance, "must be at least 0")
        require_finite("env.move_cost", self.move_cost)

    def outcomes(self) -> dict[str, float]:
        """Two for each cell that can be reached."""
        return {f"env.size={self.size}": float(self.size * (self.size + 1))}

    def build(self) -> Environment:
        """The sea as a finite model; row and column, one-hot, are its features."""
        row, column = np.tril_indices(self.size)
        eye = np.eye(self.size, dtype=np.float32)
        features = np.concatenate([eye[row], eye[column]], axis=1)
        return from_model(self.name, build_deep_sea(self), features, self.max_episode_steps)


def build_deep_sea(config: DeepSeaConfig) -> FiniteMDP:
    """Build the model: the states are the cells that can be reached, column ≤ row, row by row.

    The optimal return is 1 − `move_cost` where nothing fails. bsuite's stochastic variant also adds a reward of mean
    0, N(0, 1), in the two lower corners, which changes no value and is left out.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    size = config.size
    row, column = np.tril_indices(size)
    state = np.arange(len(row))
    goes_right = np.zeros(len(row), int) + 1
    if config.shuffled:
        goes_right = np.random.default_rng(config.instance).integers(2, size=len(row))
    fails = 1 / size if config.stochastic else 0.0
    cost = -config.move_cost / size
    paid = np.where(column == size - 1, 1.0, 0.0)
    over = row == size - 1
    below = np.where(over, 0, (row + 1) * (row + 2) // 2)  # the first state of the next row
    here = np.where(over, state, 0)
    onward = np.where(over, here, below + column + 1)
    down, left = np.where(over, here, below + column), np.where(over, here, below + np.maximum(column - 1, 0))
    parts = [
        (state, 1 - goes_right, left, np.ones(len(row)), np.zeros(len(row)), over),
        (state, goes_right, onward, np.full(len(row), 1 - fails), paid + cost, over),
        (state, goes_right, down, np.full(len(row), fails), paid + cost, over),
    ]
    return FiniteMDP.from_coo(
        *(np.concatenate(columns) for columns in zip(*parts, strict=True)),
        n_states=len(row),
        n_actions=2,
        start=np.eye(1, len(row))[0],
        labels=tuple(map("row {} column {}".format, row, column)),
        shape=(size, size),
        cell=row * size + column,
        action_labels=None if config.shuffled else ("↙", "↘"),
    )
