"""rejax: PPO and DQN as one compiled program, vmapped over seeds, on the CartPole of gymnax.

It takes one step of every environment between updates of DQN, so that an update for ten steps takes ten environments;
the other learners have one, which is an advantage of this one.
"""

import importlib
from typing import Any

import gymnax
import jax

library = importlib.import_module("rejax")


class OneFlag:
    """An environment of gymnax whose step says only that an episode is done, as rejax (0.1.3) expects of it."""

    def __init__(self, name: str) -> None:
        self._env, self.default_params = gymnax.make(name)

    def __getattr__(self, name: str) -> Any:
        if name == "_env":  # while it is being copied there is none yet
            raise AttributeError(name)
        return getattr(self._env, name)

    def step(self, *arguments: Any) -> tuple:
        obs, state, reward, *ends, info = self._env.step(*arguments)  # one flag or two, by its version
        return obs, state, reward, jax.numpy.stack(ends).any(0), info


class Turns:
    """M seeds; a turn is a number of iterations in one compiled call."""

    def __init__(self, spec: dict[str, Any]) -> None:
        n, self.members = spec["numbers"], spec["members"]
        same = {"env": OneFlag("CartPole-v1"), "learning_rate": n["learning_rate"], "gamma": n["gamma"]}
        if spec["kind"] == "ppo":
            numbers = {"num_envs": n["envs"], "num_steps": n["rollout"], "num_epochs": n["epochs"]}
            numbers |= {"num_minibatches": n["minibatches"], "gae_lambda": n["lambda"], "clip_eps": n["clip"]}
            numbers |= {"ent_coef": n["entropy"], "max_grad_norm": 0.5, "agent_kwargs": {"activation": "tanh"}}
            self.algo, self._each = library.PPO.create(**same, **numbers), n["envs"] * n["rollout"]
        else:
            numbers = {"num_envs": n["train"], "num_epochs": 1, "buffer_size": n["capacity"], "batch_size": n["batch"]}
            numbers |= {"fill_buffer": n["starts"], "target_update_freq": n["target"], "polyak": 0.0, "ddqn": False}
            numbers |= {"eps_start": n["epsilon"], "eps_end": n["epsilon"], "agent_kwargs": {"activation": "relu"}}
            self.algo, self._each = library.DQN.create(**same, **numbers), n["train"]
        self.state = jax.vmap(self.algo.init_state)(jax.random.split(jax.random.PRNGKey(spec["seed"]), self.members))
        self._many = jax.jit(jax.vmap(self._iterations, in_axes=(0, None)))

    def _iterations(self, state: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, s: self.algo.train_iteration(s), state)

    def turn(self, steps: int) -> int:
        """At least so many steps of all members together."""
        each = self._each * self.members
        count = -(-steps // each)
        self.state = jax.block_until_ready(self._many(self.state, count))
        return count * each


make = Turns
