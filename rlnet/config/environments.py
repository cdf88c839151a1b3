"""The settings of environments."""

from dataclasses import dataclass, field
from re import compile as pattern
from typing import Any

from omegaconf import MISSING

from rlnet.config.settings import Settings, require

NAME = pattern(r"[A-Za-z0-9][\w.-]{0,99}")


@dataclass
class CellConfig(Settings):
    """What a letter of a gridworld map means."""

    reward: float | None = None  # on entering the cell, in place of env.step_reward
    wall: bool = False
    start: bool = False  # episodes begin in one of the start cells, each equally likely
    terminal: bool = False  # entering ends the episode
    send_to: str | None = None  # entering moves the agent on, in the same step, to the one cell with this letter
    jump_to: str | None = None  # every action taken here leads to the one cell with this letter
    jump_reward: float = 0.0  # the reward of that jump


@dataclass
class EnvConfig(Settings):
    """Common to all environments."""

    name: str = MISSING
    gamma: float = MISSING  # the discount of the setting in which the problem is usually stated
    max_episode_steps: int | None = None  # a time limit: truncates, never terminates


@dataclass
class GridworldConfig(EnvConfig):
    """A map of characters: '#' wall, '.' free, 'S' start, 'G' goal; `cells` says what further letters mean."""

    map: str = MISSING
    cells: dict[str, CellConfig] = field(default_factory=dict)
    step_reward: float = 0.0  # reward of every step, unless the entered cell has its own
    bump_reward: float | None = None  # reward of a step off the map or into a wall; null: the same as step_reward
    slip: float = 0.0  # probability of moving at a right angle to the chosen direction (half of it to each side)
    wind: list[int] = field(default_factory=list)  # cells that a step from each column is blown upwards
    diagonal: bool = False  # eight moves instead of four


@dataclass
class RandomWalkConfig(EnvConfig):
    """States in a row with an exit at each end; actions left and right, of 1 to `jump` states, equally likely."""

    length: int = 19
    jump: int = 1
    left_reward: float = -1.0
    right_reward: float = 1.0
    groups: int | None = None  # features: neighbours aggregated into so many groups; null: 10, or `length` if less


@dataclass
class MaximisationBiasConfig(EnvConfig):
    """Two states, of which one has many actions with equal, noisy rewards: S&B Example 6.7."""

    actions: int = 10  # of state B
    mean: float = -0.1  # of their rewards
    deviation: float = 1.0


@dataclass
class BairdConfig(EnvConfig):
    """Baird's counterexample, S&B Example 11.1."""


@dataclass
class GymnasiumConfig(EnvConfig):
    """Any registered Gymnasium environment; its finite model is used where it has one."""

    id: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    stepping: str = "auto"  # batched: all members at once (CartPole); vector: Gymnasium's own form; sync; async


def check_env(env: EnvConfig) -> None:
    """Raise ConfigError where a number of an environment is out of range."""
    allowed = "must be letters, digits and _ . - alone, a letter or digit first: files are named after it"
    require(NAME.fullmatch(env.name) is not None, "env.name", repr(env.name), allowed)
    limit = env.max_episode_steps
    require(limit is None or limit >= 1, "env.max_episode_steps", limit, "must be at least 1, or null for no limit")
    if isinstance(env, GridworldConfig):
        require(0 <= env.slip <= 1, "env.slip", env.slip, "must be a probability in [0, 1]")
    if isinstance(env, MaximisationBiasConfig):
        require(env.actions >= 2, "env.actions", env.actions, "must be at least 2")
        require(env.deviation >= 0, "env.deviation", env.deviation, "must be at least 0")
    if isinstance(env, RandomWalkConfig):
        require(env.length >= 1, "env.length", env.length, "must be at least 1")
        require(1 <= env.jump <= env.length, "env.jump", env.jump, f"must be in [1, env.length={env.length}]")
        allowed = f"must be in [1, env.length={env.length}], or null"
        require(env.groups is None or 1 <= env.groups <= env.length, "env.groups", env.groups, allowed)
