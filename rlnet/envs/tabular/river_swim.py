"""`env=river_swim`: against the current to the large reward (Strehl & Littman 2008), as a finite model."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.tabular.grid_map import require_finite
from rlnet.mdp import FiniteMDP


@register_environment("river_swim")
class RiverSwimConfig(EnvConfig):
    """States in a row. Action 0 drifts to the left, and pays `left_reward` in the first state; action 1 swims.

    Swimming moves one on with probability `forward` and back with `back`; out of the first state it succeeds with
    `first_forward`, and in the last it holds its place, for `right_reward`, with `last_stay`. Osband, Russo & Van Roy
    (2013) have forward=.35 back=.05 first_forward=.6 last_stay=.6 left_reward=.005, and pay 1 for swimming in the last
    state whatever comes of it: right_reward=1.6667 has the same values.
    """

    gamma: float = 0.95
    max_episode_steps: int | None = 5000  # the river itself has no end
    length: int = 6
    forward: float = 0.3
    back: float = 0.1
    first_forward: float = 0.3
    last_stay: float = 0.3
    left_reward: float = 5.0
    right_reward: float = 10_000.0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.length >= 3, "env.length", self.length, "must be at least 3")
        for name in ("forward", "back", "first_forward", "last_stay"):
            require(
                0 <= getattr(self, name) <= 1, f"env.{name}", getattr(self, name), "must be a probability in [0, 1]"
            )
        allowed = f"and env.back={self.back} must not be above 1 together"
        require(self.forward + self.back <= 1, "env.forward", self.forward, allowed)
        for name in ("left_reward", "right_reward"):
            require_finite(f"env.{name}", getattr(self, name))

    def outcomes(self) -> dict[str, float]:
        """At least two for each state."""
        return {f"env.length={self.length}": 2.0 * self.length}

    def build(self) -> Environment:
        """The river as a finite model; where one is in it, in [0, 1], is its feature."""
        place = np.linspace(0, 1, self.length, dtype=np.float32)[:, None]
        return from_model(self.name, build_river_swim(self), place, self.max_episode_steps)


def build_river_swim(config: RiverSwimConfig) -> FiniteMDP:
    """Build the model. Episodes begin in the second or the third state, equally likely; none ends.

    The reward of the last state is that of the outcome that holds the place there.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    n, last = config.length, config.length - 1
    stay = 1 - config.forward - config.back
    rows = [(0, 0, 0, 1.0, config.left_reward)]
    rows += [(s, 0, s - 1, 1.0, 0.0) for s in range(1, n)]
    rows += [(0, 1, 0, 1 - config.first_forward, 0.0), (0, 1, 1, config.first_forward, 0.0)]
    for s in range(1, last):
        rows += [(s, 1, s - 1, config.back, 0.0), (s, 1, s, stay, 0.0), (s, 1, s + 1, config.forward, 0.0)]
    rows += [(last, 1, last - 1, 1 - config.last_stay, 0.0), (last, 1, last, config.last_stay, config.right_reward)]
    start = np.zeros(n)
    start[1:3] = 0.5
    return FiniteMDP.from_coo(
        *(np.array(column) for column in zip(*rows, strict=True)),
        n_states=n,
        n_actions=2,
        start=start,
        shape=(1, n),
        action_labels=("←", "→"),
    )
