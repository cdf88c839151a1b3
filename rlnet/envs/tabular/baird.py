"""Baird's counterexample: seven states on which off-policy TD diverges (S&B Example 11.1; Baird 1995)."""

import numpy as np

from rlnet.config import EnvConfig, register_environment
from rlnet.envs.base import Environment, from_model
from rlnet.mdp import FiniteMDP


@register_environment("baird")
class BairdConfig(EnvConfig):
    """Baird's counterexample, S&B Example 11.1."""

    def build(self) -> Environment:
        """The seven states as a finite model, with Baird's features."""
        return from_model(self.name, build_baird(), baird_features(), self.max_episode_steps)


def build_baird() -> FiniteMDP:
    """Action 0 (dashed) leads to one of the states 0 .. 5, action 1 (solid) to state 6; every reward is 0."""
    transition = np.zeros((7, 2, 7))
    transition[:, 0, :6] = 1 / 6
    transition[:, 1, 6] = 1.0
    return FiniteMDP.from_arrays(transition, np.zeros((7, 2)))


def baird_features() -> np.ndarray:
    """v(s) = 2·w_s + w_7 for the states 0 .. 5 and w_6 + 2·w_7 for state 6: float32 [7, 8]."""
    features = np.zeros((7, 8), dtype=np.float32)
    features[range(6), range(6)] = 2.0
    features[:6, 7] = 1.0
    features[6, 6:] = 1.0, 2.0
    return features
