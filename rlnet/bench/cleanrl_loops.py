"""CleanRL's single-file DQN and PPO for CartPole, written again from their documented hyperparameters.

What costs time there is kept: a torch module and optimiser, one environment step for each pass through the policy, a
numpy replay, `Categorical`, minibatches by index.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional


class DqnLoop:
    """dqn.py: one environment, a replay, a target network copied every `target` steps."""

    def __init__(self, numbers: dict[str, Any], env: str) -> None:
        self.n, self.total, self.rng = numbers, 500_000, np.random.default_rng(0)
        self.envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(env)])
        size = self.envs.single_observation_space.shape[0]
        actions = self.envs.single_action_space.n

        def network() -> nn.Module:
            return nn.Sequential(nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, actions))

        self.net, self.target = network(), network()
        self.target.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=numbers["learning_rate"])
        capacity = numbers["capacity"]
        self.obs, self.next = np.zeros((2, capacity, size), np.float32)
        self.action, self.reward, self.ended = np.zeros(capacity, np.int64), *np.zeros((2, capacity), np.float32)
        self.now, self.step = self.envs.reset()[0], 0

    def turn(self, steps: int) -> int:
        """Take so many steps."""
        for _ in range(steps):
            self._one()
        return steps

    def _one(self) -> None:
        epsilon = max(0.05, 1 - 0.95 * self.step / (0.5 * self.total))
        if self.rng.random() < epsilon:
            action = np.array([self.envs.single_action_space.sample()])
        else:
            action = self.net(torch.Tensor(self.now)).argmax(1).numpy()
        fresh, reward, terminated, _, _ = self.envs.step(action)
        at = self.step % self.n["capacity"]
        self.obs[at], self.next[at], self.action[at] = self.now[0], fresh[0], action[0]
        self.reward[at], self.ended[at] = reward[0], terminated[0]
        self.now, self.step = fresh, self.step + 1
        if self.step > self.n["starts"] and self.step % self.n["train"] == 0:
            self._update()
        if self.step % self.n["target"] == 0:
            self.target.load_state_dict(self.net.state_dict())

    def _update(self) -> None:
        rows = self.rng.integers(0, min(self.step, self.n["capacity"]), self.n["batch"])
        arrays = (self.obs, self.next, self.action, self.reward, self.ended)
        obs, following, action, reward, ended = (torch.as_tensor(x[rows]) for x in arrays)
        with torch.no_grad():
            target = reward + 0.99 * self.target(following).max(1)[0] * (1 - ended)
        loss = functional.mse_loss(target, self.net(obs).gather(1, action[:, None]).squeeze())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class PpoLoop:
    """ppo.py: separate actor and critic of 64×64 tanh, generalised advantages, clipped objectives."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.n, count, self.rng = numbers, numbers["envs"], np.random.default_rng(0)
        self.envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * count)

        def network(outputs: int) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

        self.actor, self.critic = network(2), network(1)
        self.parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=numbers["learning_rate"], eps=1e-5)
        length = numbers["rollout"]
        self.obs = torch.zeros(length, count, 4)
        self.action, self.log_prob, self.reward, self.done, self.value = torch.zeros(5, length, count)
        self.now, self.ended = torch.Tensor(self.envs.reset()[0]), torch.zeros(count)

    def turn(self, steps: int) -> int:
        """Whole rollouts, at least so many steps."""
        done = 0
        while done < steps:
            self._rollout()
            self._update()
            done += self.n["envs"] * self.n["rollout"]
        return done

    def _rollout(self) -> None:
        for t in range(self.n["rollout"]):
            self.obs[t], self.done[t] = self.now, self.ended
            with torch.no_grad():
                policy = Categorical(logits=self.actor(self.now))
                action = policy.sample()
                self.action[t], self.log_prob[t] = action, policy.log_prob(action)
                self.value[t] = self.critic(self.now).flatten()
            now, reward, terminated, truncated, _ = self.envs.step(action.numpy())
            self.reward[t] = torch.tensor(reward)
            self.now, self.ended = torch.Tensor(now), torch.Tensor(np.logical_or(terminated, truncated))

    def _update(self) -> None:
        n, length = self.n, self.n["rollout"]
        advantages, last = torch.zeros_like(self.reward), torch.zeros(n["envs"])
        with torch.no_grad():
            following, alive = self.critic(self.now).flatten(), 1 - self.ended
            for t in reversed(range(length)):
                delta = self.reward[t] + 0.99 * following * alive - self.value[t]
                advantages[t] = last = delta + 0.99 * n["lambda"] * alive * last
                following, alive = self.value[t], 1 - self.done[t]
        flat = [x.flatten() for x in (self.action, self.log_prob, advantages, advantages + self.value, self.value)]
        obs, rows = self.obs.reshape(-1, 4), np.arange(length * n["envs"])
        for _ in range(n["epochs"]):
            self.rng.shuffle(rows)
            for part in np.split(rows, n["minibatches"]):
                self._minibatch(obs[part], *(x[part] for x in flat))

    def _minibatch(self, obs, action, old, advantage, ret, value) -> None:
        clip, policy = self.n["clip"], Categorical(logits=self.actor(obs))
        now = self.critic(obs).flatten()
        ratio = (policy.log_prob(action) - old).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
        near = value + (now - value).clamp(-clip, clip)
        of_value = 0.5 * torch.max((now - ret) ** 2, (near - ret) ** 2).mean()
        self.optimizer.zero_grad()
        (loss - 0.01 * policy.entropy().mean() + 0.5 * of_value).backward()
        nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()
