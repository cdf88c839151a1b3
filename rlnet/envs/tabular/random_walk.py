"""Random walks: states in a row with an exit at each end (S&B Examples 6.2, 7.1 and 9.1)."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.mdp import FiniteMDP


@register_environment("random_walk")
class RandomWalkConfig(EnvConfig):
    """States in a row with an exit at each end; actions left and right, of 1 to `jump` states, equally likely."""

    length: int = 19
    jump: int = 1
    left_reward: float = -1.0
    right_reward: float = 1.0
    groups: int | None = None  # features: neighbours aggregated into so many groups; null: 10, or `length` if less

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.length >= 1, "env.length", self.length, "must be at least 1")
        require(1 <= self.jump <= self.length, "env.jump", self.jump, f"must be in [1, env.length={self.length}]")
        allowed = f"must be in [1, env.length={self.length}], or null"
        require(self.groups is None or 1 <= self.groups <= self.length, "env.groups", self.groups, allowed)

    def outcomes(self) -> dict[str, float]:
        """Each of the two actions leads from each state to `jump` others."""
        return {f"env.length={self.length} env.jump={self.jump}": 2.0 * self.length * self.jump}

    def build(self) -> Environment:
        """The walk as a finite model; its groups of states are the features."""
        return from_model(self.name, build_random_walk(self), group_features(self), self.max_episode_steps)


def build_random_walk(config: RandomWalkConfig) -> FiniteMDP:
    """Build the model of a walk over states 0 .. length − 1; episodes begin in the middle one.

    Action 0 goes left, 1 right, by 1 to `jump` states, each equally likely. Every distance that leads beyond an end
    terminates with that end's reward (the outcome names the end's last state as its successor); all else pays 0.
    Under the uniform policy, jump=1 is Example 7.1, and length=1000, jump=100 is Example 9.1.

    Raises:
        ConfigError: a length, jump or number of groups out of range, or a reward that is not finite.
    """
    check_env(config)
    for name in ("left_reward", "right_reward"):
        value = getattr(config, name)
        require(np.isfinite(value), f"env.{name}", value, "must be a finite number")
    n, jump = config.length, config.jump
    state, action, distance = np.meshgrid(np.arange(n), np.arange(2), np.arange(1, jump + 1), indexing="ij")
    successor = state + np.where(action == 1, distance, -distance)
    inside = (successor >= 0) & (successor < n)
    exits = jump - inside.sum(axis=2)  # [S, 2] distances that lead out: one outcome together
    at, to = np.nonzero(exits)
    ones = np.ones(len(at), dtype=bool)
    columns = (
        (state[inside], at),
        (action[inside], to),
        (successor[inside], np.where(to == 1, n - 1, 0)),
        (np.full(inside.sum(), 1 / jump), exits[at, to] / jump),
        (np.zeros(inside.sum()), np.where(to == 1, config.right_reward, config.left_reward)),
        (np.zeros(inside.sum(), dtype=bool), ones),
    )
    return FiniteMDP.from_coo(
        *(np.concatenate(parts) for parts in columns),
        n_states=n,
        n_actions=2,
        start=np.eye(1, n, (n - 1) // 2)[0],
        labels=tuple(str(number + 1) for number in range(n)),
        shape=(1, n),
        action_labels=("←", "→"),
    )


def group_features(config: RandomWalkConfig) -> np.ndarray:
    """State aggregation: one-hot of the state's group, float32 [S, groups] (S&B Section 9.3)."""
    groups = min(10, config.length) if config.groups is None else config.groups
    group = np.arange(config.length) * groups // config.length
    return np.eye(groups, dtype=np.float32)[group]
