"""The maximisation bias example (S&B Example 6.7)."""

import numpy as np
import scipy  # its parts are loaded when they are first used

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.mdp import FiniteMDP

ATOMS = 101  # equally likely rewards that stand for a normal distribution; odd, so that the mean is one of them


@register_environment("maximisation_bias")
class MaximisationBiasConfig(EnvConfig):
    """Settings of the maximisation bias example: two states, one with many actions of equal, noisy reward."""

    actions: int = 10  # of state B
    mean: float = -0.1  # of their rewards
    deviation: float = 1.0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.actions >= 2, "env.actions", self.actions, "must be at least 2")
        require(self.deviation >= 0, "env.deviation", self.deviation, "must be at least 0")

    def outcomes(self) -> dict[str, float]:
        """At least one for each action."""
        return {f"env.actions={self.actions}": float(self.actions)}

    def build(self) -> Environment:
        """The two states as a finite model."""
        features = np.eye(2, dtype=np.float32)
        return from_model(self.name, build_maximisation_bias(self), features, self.max_episode_steps)


def build_maximisation_bias(config: MaximisationBiasConfig) -> FiniteMDP:
    """Build the model of S&B Example 6.7: from A (the start), left leads to B and right to the end, both for 0.

    Each of the `actions` of B ends the episode with a reward of the same normal distribution. A finite model has
    finitely many rewards: the distribution is that of its 101 mid-quantiles, moved and stretched so that mean and
    deviation are exact.

    Raises:
        ConfigError: fewer than two actions, or numbers that are not finite.
    """
    check_env(config)
    for name in ("mean", "deviation"):
        value = getattr(config, name)
        require(np.isfinite(value), f"env.{name}", value, "must be a finite number")
    atoms = scipy.special.ndtri((np.arange(ATOMS) + 0.5) / ATOMS)
    rewards = config.mean + config.deviation * atoms / atoms.std()
    actions = config.actions
    return FiniteMDP.from_coo(
        np.r_[0, 0, np.ones(actions * ATOMS, int)],
        np.r_[0, 1, np.repeat(np.arange(actions), ATOMS)],
        np.r_[1, 0, np.ones(actions * ATOMS, int)],
        np.r_[1.0, 1.0, np.full(actions * ATOMS, 1 / ATOMS)],
        np.r_[0.0, 0.0, np.tile(rewards, actions)],
        np.r_[False, True, np.ones(actions * ATOMS, bool)],
        n_states=2,
        n_actions=actions,
        start=np.array([1.0, 0.0]),
        labels=("A", "B"),
    )
