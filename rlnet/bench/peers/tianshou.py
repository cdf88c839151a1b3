"""Tianshou: its trainers with its vector of environments in one process; one seed."""

import importlib
from typing import Any

import gymnasium
from torch import nn

algorithm = importlib.import_module("tianshou.algorithm")
data, env = importlib.import_module("tianshou.data"), importlib.import_module("tianshou.env")
trainer = importlib.import_module("tianshou.trainer")
optim = importlib.import_module("tianshou.algorithm.optim")
common, discrete = (importlib.import_module(f"tianshou.utils.net.{name}") for name in ("common", "discrete"))


class Turns:
    """A learner of Tianshou that learns in turns, each an epoch of its trainer."""

    def __init__(self, spec: dict[str, Any]) -> None:
        n = spec["numbers"]
        count = n["envs"] if spec["kind"] == "ppo" else 1
        envs = env.DummyVectorEnv([lambda: gymnasium.make("CartPole-v1")] * count)
        envs.seed(spec["seed"])
        actions, shape = envs.action_space[0], envs.observation_space[0].shape
        rate = optim.AdamOptimizerFactory(lr=n["learning_rate"])
        if spec["kind"] == "ppo":
            hidden = {"state_shape": shape, "hidden_sizes": [64, 64], "activation": nn.Tanh}
            actor = discrete.DiscreteActor(
                preprocess_net=common.Net(**hidden), action_shape=actions.n, softmax_output=False
            )
            critic = discrete.DiscreteCritic(preprocess_net=common.Net(**hidden))
            reinforce = importlib.import_module("tianshou.algorithm.modelfree.reinforce")
            policy = reinforce.DiscreteActorPolicy(actor=actor, action_space=actions)
            numbers = {"eps_clip": n["clip"], "gae_lambda": n["lambda"], "ent_coef": n["entropy"], "gamma": n["gamma"]}
            self.learner = algorithm.PPO(policy=policy, critic=critic, optim=rate, max_grad_norm=0.5, **numbers)
            self._params, rows = trainer.OnPolicyTrainerParams, n["envs"] * n["rollout"]
            self._numbers = {"collection_step_num_env_steps": rows, "batch_size": rows // n["minibatches"]}
            self._numbers["update_step_num_repetitions"] = n["epochs"]
        else:
            dqn = importlib.import_module("tianshou.algorithm.modelfree.dqn")
            net = common.Net(state_shape=shape, action_shape=actions.n, hidden_sizes=[64, 64])
            policy = dqn.DiscreteQLearningPolicy(model=net, action_space=actions, eps_training=n["epsilon"])
            every = n["target"] // n["train"]
            numbers = {"gamma": n["gamma"], "target_update_freq": every, "is_double": False}
            self.learner = algorithm.DQN(policy=policy, optim=rate, **numbers)
            self._params = trainer.OffPolicyTrainerParams
            self._numbers = {"collection_step_num_env_steps": n["train"], "batch_size": n["batch"]}
            self._numbers["update_step_num_gradient_steps_per_sample"] = 1 / n["train"]
        buffer = data.VectorReplayBuffer(n.get("capacity", 20_000), count)
        self._collector = data.Collector(self.learner, envs, buffer, exploration_noise=spec["kind"] != "ppo")
        self._collector.reset()
        if spec["kind"] != "ppo":
            self._collector.collect(n_step=n["starts"], random=True)

    def turn(self, steps: int) -> int:
        """At least so many steps."""
        quiet = {"max_epochs": 1, "epoch_num_steps": steps, "verbose": False, "show_progress": False}
        self._collector.reset_stat()
        before = self._collector.collect_step
        self.learner.run_training(self._params(training_collector=self._collector, **quiet, **self._numbers))
        return self._collector.collect_step - before


make = Turns
