"""Settings of a search for hyperparameters."""

from dataclasses import dataclass, field
from typing import Any

from rlnet.config.settings import Settings

SAMPLERS, PRUNERS, DIRECTIONS = ("tpe", "random"), ("median", "hyperband", "none"), ("minimize", "maximize")
# Beginnings of the names of scalars of which more is better, and of those of which less is; of others nobody can tell.
MORE = (
    "return/",
    "evaluation/return",
    "evaluation/discounted",
    "exact/return",
    "exact/normalised_return",
    "exact/greedy_return",
    "exact/limited_return",
    "exact/episode_return",
    "exact/reward",
    "exact/true_reward",
    "exact/optimal_action_rate",
    "exact/coverage",
    "exact/pass",
)
LESS = (
    "exact/regret",
    "exact/nash_conv",
    "exact/loss_",
    "exact/v_",
    "exact/q_r",
    "exact/q_max",
    "exact/bellman_residual",
    "exact/frontier_gap",
    "loss/td_error",
)


@dataclass
class SearchConfig(Settings):
    """Settings of a search (`search=optuna`)."""

    sampler: str = "tpe"
    pruner: str = "median"
    trials: int = 20
    objective: str = "exact/regret"
    direction: str | None = None
    space: dict[str, Any] = field(default_factory=dict)  # key: [low, high] or [low, high, log]
    storage: str | None = None
    study: str = "rlnet"
    seed: int = 0

    @property
    def maximized(self) -> bool:
        """Whether more of the objective is better."""
        return self.direction == "maximize" if self.direction else self.objective.startswith(MORE)
