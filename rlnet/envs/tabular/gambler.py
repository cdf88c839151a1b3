"""`env=gamblers_problem`: stakes on a coin until the goal or ruin (S&B Example 4.3), as a finite model."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.mdp import FiniteMDP


@register_environment("gamblers_problem")
class GamblerConfig(EnvConfig):
    """A gambler with 1 .. `goal` − 1 dollars stakes some of them on a coin; reaching the goal pays 1."""

    gamma: float = 1.0
    goal: int = 100
    heads: float = 0.4  # the probability that the stake is won

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.goal >= 2, "env.goal", self.goal, "must be at least 2 dollars")
        require(0 <= self.heads <= 1, "env.heads", self.heads, "must be a probability in [0, 1]")

    def outcomes(self) -> dict[str, float]:
        """Two for each stake: Σ_s min(s, goal − s) is about goal²/4."""
        return {f"env.goal={self.goal}": self.goal**2 / 2 - 1}

    def build(self) -> Environment:
        """The game as a finite model; the capital, as a share of the goal, is its feature."""
        mdp = build_gambler(self)
        capital = (np.arange(1, self.goal) / self.goal).astype(np.float32)[:, None]
        return from_model(self.name, mdp, capital, self.max_episode_steps)


def build_gambler(config: GamblerConfig) -> FiniteMDP:
    """Build the model: state s is a capital of s + 1 dollars, action a a stake of a + 1, at most what reaches the goal.

    Nothing lies between ruin or goal and the end of the episode, so they are no states. The stake of nothing, which
    the book allows, only passes the time, and is left out. Episodes begin with any capital, equally likely. The
    optimal value of `heads` < 1/2 is that of bold play, min(s, goal − s) (Dubins & Savage, How to Gamble If You Must);
    of 1/2 it is s/goal whatever is staked; above, that of stakes of one dollar.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    goal, heads = config.goal, config.heads
    capital, stake = (x.ravel() + 1 for x in np.indices((goal - 1, goal // 2)))
    possible = stake <= np.minimum(capital, goal - capital)
    capital, stake = (np.repeat(x[possible], 2) for x in (capital, stake))
    wins = np.tile([True, False], len(capital) // 2)
    after = capital + np.where(wins, stake, -stake)
    over = (after == 0) | (after == goal)
    return FiniteMDP.from_coo(
        capital - 1,
        stake - 1,
        np.where(over, capital, after) - 1,
        np.where(wins, heads, 1 - heads),
        (after == goal).astype(float),
        over,
        n_states=goal - 1,
        n_actions=goal // 2,
        labels=tuple(f"{dollars} dollars" for dollars in range(1, goal)),
        action_labels=tuple(map(str, range(1, goal // 2 + 1))),
    )
