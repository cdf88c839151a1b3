"""`env=chain`: five states in a row, and a tempting way back (Strens 2000), as a finite model."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.tabular.grid_map import require_finite
from rlnet.mdp import FiniteMDP


@register_environment("chain")
class ChainConfig(EnvConfig):
    """States in a row: action 0 goes one on, and pays `goal_reward` in the last, where it stays; action 1 goes back to
    the first for `back_reward`. With probability `slip` an action does what the other one does."""

    gamma: float = 0.95
    max_episode_steps: int | None = 1000  # the chain itself has no end
    length: int = 5
    slip: float = 0.2
    goal_reward: float = 10.0
    back_reward: float = 2.0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.length >= 2, "env.length", self.length, "must be at least 2")
        require(0 <= self.slip <= 1, "env.slip", self.slip, "must be a probability in [0, 1]")
        for name in ("goal_reward", "back_reward"):
            require_finite(f"env.{name}", getattr(self, name))

    def outcomes(self) -> dict[str, float]:
        """At least one for each of two actions."""
        return {f"env.length={self.length}": 2.0 * self.length}

    def build(self) -> Environment:
        """The chain as a finite model; where one is in it, in [0, 1], is its feature."""
        place = np.linspace(0, 1, self.length, dtype=np.float32)[:, None]
        return from_model(self.name, build_chain(self), place, self.max_episode_steps)


def build_chain(config: ChainConfig) -> FiniteMDP:
    """Build the model. Episodes begin in the first state; none ends.

    Always going on earns slip · back_reward + (1 − slip)^length · goal_reward a step on average: 3.6768 by default, the
    optimum.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    n, slip = config.length, config.slip
    state, action = (x.ravel() for x in np.indices((n, 2)))
    onward = np.minimum(state + 1, n - 1), np.where(state == n - 1, config.goal_reward, 0.0)
    back = np.zeros(2 * n, int), np.full(2 * n, config.back_reward)
    goes_on = np.where(action == 0, 1 - slip, slip)
    return FiniteMDP.from_coo(
        np.tile(state, 2),
        np.tile(action, 2),
        np.append(onward[0], back[0]),
        np.append(goes_on, 1 - goes_on),
        np.append(onward[1], back[1]),
        n_states=n,
        n_actions=2,
        start=np.eye(1, n)[0],
        shape=(1, n),
        action_labels=("→", "←"),
    )
