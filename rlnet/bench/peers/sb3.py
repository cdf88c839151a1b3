"""Stable-Baselines3, and sbx, which is the same with networks in JAX; one seed, on the CPU."""

from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env

ENVS = {"ppo": ("CartPole-v1", {}), "dqn": ("CartPole-v1", {}), "lake": ("FrozenLake-v1", {"map_name": "8x8"})}
ENVS["grid"] = ("rlnet/Gridworld-v0", {"preset": "gridworld"})


class Turns:
    """A learner of Stable-Baselines3 that learns in turns."""

    def __init__(self, spec: dict[str, Any], library: Any = stable_baselines3) -> None:
        n, (name, options) = spec["numbers"], ENVS[spec["kind"]]
        same = {"learning_rate": n["learning_rate"], "gamma": n["gamma"], "seed": spec["seed"], "device": "cpu"}
        same["policy_kwargs"] = {"net_arch": [64, 64]}
        if spec["kind"] == "ppo":
            numbers = {"n_steps": n["rollout"], "batch_size": n["envs"] * n["rollout"] // n["minibatches"]}
            numbers |= {"n_epochs": n["epochs"], "gae_lambda": n["lambda"], "ent_coef": n["entropy"]}
            numbers |= {"clip_range": n["clip"]}
            self.model = library.PPO("MlpPolicy", make_vec_env(name, n["envs"], seed=spec["seed"]), **numbers, **same)
        else:
            if spec["kind"] == "grid":
                import rlnet.envs  # noqa: F401 (registers the environment)
            numbers = {"batch_size": n["batch"], "buffer_size": n["capacity"], "learning_starts": n["starts"]}
            numbers |= {"train_freq": n["train"], "target_update_interval": n["target"]}
            numbers |= {"exploration_initial_eps": n["epsilon"], "exploration_final_eps": n["epsilon"]}
            self.model = library.DQN("MlpPolicy", gymnasium.make(name, **options), **numbers, **same)
        self._first = True

    def turn(self, steps: int) -> int:
        """At least so many steps."""
        before = 0 if self._first else self.model.num_timesteps
        self.model.learn(steps, reset_num_timesteps=self._first)
        self._first = False
        return self.model.num_timesteps - before

    def actor(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers of the policy."""
        policy = self.model.policy
        linear = [*[layer for layer in policy.mlp_extractor.policy_net if hasattr(layer, "weight")], policy.action_net]
        return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]


make = Turns
