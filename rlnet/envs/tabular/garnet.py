"""`env=garnet`: random problems of a given size (Archibald et al. 1995; Bhatnagar et al. 2009), as finite models."""

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.mdp import FiniteMDP


@register_environment("garnet")
class GarnetConfig(EnvConfig):
    """A random problem G(states, actions, branching); `instance` draws another one of the family."""

    gamma: float = 0.95
    max_episode_steps: int | None = 100  # the problem itself has no end
    states: int = 30
    actions: int = 4
    branching: int = 2
    instance: int = 0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        for name in ("states", "actions"):
            require(getattr(self, name) >= 1, f"env.{name}", getattr(self, name), "must be at least 1")
        allowed = f"must be in [1, env.states={self.states}]"
        require(1 <= self.branching <= self.states, "env.branching", self.branching, allowed)
        require(self.instance >= 0, "env.instance", self.instance, "must be at least 0")

    def outcomes(self) -> dict[str, float]:
        """`branching` for each action of each state."""
        size = f"env.states={self.states} env.actions={self.actions} env.branching={self.branching}"
        return {size: float(self.states) * self.actions * self.branching}

    def build(self) -> Environment:
        """The problem as a finite model; its states have no features but their numbers."""
        return from_model(self.name, build_garnet(self), None, self.max_episode_steps)


def build_garnet(config: GarnetConfig) -> FiniteMDP:
    """Build the model: Bhatnagar, Sutton, Ghavamzadeh & Lee, Natural actor-critic algorithms (2009), section 6.

    Each action of each state has `branching` different successors, any of them equally likely to be among these; their
    probabilities are the lengths of the parts of [0, 1] between branching − 1 uniform cuts. The rewards of outcomes are
    N(0, 1); there they are means around which rewards vary (σ), which changes no value and is left out, as is the
    drift of the problem in time (τ). Episodes begin in any state, equally likely.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    rng = np.random.default_rng(config.instance)
    n, b, pairs = config.states, config.branching, config.states * config.actions
    successors = np.full((pairs, b), -1)
    for k, top in enumerate(range(n - b, n)):  # Floyd's sample without replacement, of all pairs at once
        drawn = rng.integers(top + 1, size=pairs)
        taken = (successors == drawn[:, None]).any(axis=1)
        successors[:, k] = np.where(taken, top, drawn)
    cuts = np.sort(rng.random((pairs, b - 1)), axis=1)
    probability = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    state, action = (np.repeat(x.ravel(), b) for x in np.indices((n, config.actions)))
    rewards = rng.standard_normal(pairs * b)
    return FiniteMDP.from_coo(
        state, action, successors.ravel(), probability.ravel(), rewards, n_states=n, n_actions=config.actions
    )
