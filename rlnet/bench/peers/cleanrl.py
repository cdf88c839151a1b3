"""CleanRL's single-file DQN and PPO for CartPole, written again from their documented hyperparameters.

What costs time there is kept: a torch module and optimiser, one environment step for each pass through the policy, a
numpy replay, `Categorical`, minibatches by index. ε is constant and values are not clipped, as in all learners here.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional


class DqnLoop:
    """dqn.py: one environment, a replay, a target network copied every `target` steps."""

    def __init__(self, spec: dict[str, Any]) -> None:
        numbers = spec["numbers"]
        self.n, self.rng = numbers, np.random.default_rng(spec["seed"])
        self.envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")])
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
        self.now, self.step = self.envs.reset(seed=spec["seed"])[0], 0

    def turn(self, steps: int) -> int:
        """Take so many steps."""
        for _ in range(steps):
            self._one()
        return steps

    def _one(self) -> None:
        if self.rng.random() < self.n["epsilon"]:
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
            target = reward + self.n["gamma"] * self.target(following).max(1)[0] * (1 - ended)
        loss = functional.mse_loss(target, self.net(obs).gather(1, action[:, None]).squeeze())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class PpoLoop:
    """ppo.py: separate actor and critic of 64×64 tanh, generalised advantages, clipped objectives."""

    def __init__(self, spec: dict[str, Any]) -> None:
        numbers = spec["numbers"]
        self.n, count, self.rng = numbers, numbers["envs"], np.random.default_rng(spec["seed"])
        self.envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * count)

        def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Module:
            linear = nn.Linear(inputs, outputs)
            nn.init.orthogonal_(linear.weight, gain)
            nn.init.constant_(linear.bias, 0.0)
            return linear

        def network(outputs: int, gain: float) -> nn.Module:
            return nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, outputs, gain))

        self.pi, self.critic = network(2, 0.01), network(1, 1.0)
        self.parameters = [*self.pi.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=numbers["learning_rate"], eps=1e-5)
        length = numbers["rollout"]
        self.obs = torch.zeros(length, count, 4)
        self.action, self.log_prob, self.reward, self.done, self.value = torch.zeros(5, length, count)
        self.now, self.ended = torch.Tensor(self.envs.reset(seed=spec["seed"])[0]), torch.zeros(count)

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
                policy = Categorical(logits=self.pi(self.now))
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
                delta = self.reward[t] + n["gamma"] * following * alive - self.value[t]
                advantages[t] = last = delta + n["gamma"] * n["lambda"] * alive * last
                following, alive = self.value[t], 1 - self.done[t]
        flat = [x.flatten() for x in (self.action, self.log_prob, advantages, advantages + self.value)]
        obs, rows = self.obs.reshape(-1, 4), np.arange(length * n["envs"])
        for _ in range(n["epochs"]):
            self.rng.shuffle(rows)
            for part in np.split(rows, n["minibatches"]):
                self._minibatch(obs[part], *(x[part] for x in flat))

    def _minibatch(self, obs: Tensor, action: Tensor, old: Tensor, advantage: Tensor, ret: Tensor) -> None:
        clip, policy = self.n["clip"], Categorical(logits=self.pi(obs))
        now = self.critic(obs).flatten()
        ratio = (policy.log_prob(action) - old).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
        of_value = 0.5 * ((now - ret) ** 2).mean()
        self.optimizer.zero_grad()
        (loss - self.n["entropy"] * policy.entropy().mean() + 0.5 * of_value).backward()
        nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()

    def actor(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers of the policy."""
        linear = [layer for layer in self.pi if isinstance(layer, nn.Linear)]
        return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]


def make(spec: dict[str, Any]) -> DqnLoop | PpoLoop:
    """The loop of this kind."""
    torch.manual_seed(spec["seed"])
    return PpoLoop(spec) if spec["kind"] == "ppo" else DqnLoop(spec)
