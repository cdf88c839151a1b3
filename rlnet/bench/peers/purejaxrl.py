"""PPO as one compiled JAX program, vmapped over seeds, on the CartPole of gymnax: after PureJaxRL (Lu et al. 2022).

How many updates a call does is an argument of the program, so that it is compiled once.
"""

from typing import Any

import gymnax
import jax
import numpy as np
import optax
from jax import numpy as jnp


def _init(key: Any, sizes: tuple[int, ...], last: float) -> list:
    keys, gains = jax.random.split(key, len(sizes) - 1), [2**0.5] * (len(sizes) - 2) + [last]
    layers = zip(keys, gains, sizes[:-1], sizes[1:], strict=True)
    return [(jax.nn.initializers.orthogonal(gain)(k, (i, o)), jnp.zeros(o)) for k, gain, i, o in layers]


def _apply(layers: list, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


class Ppo:
    """M seeds of PPO; a turn is a number of updates in one compiled call."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.n, self.members = spec["numbers"], spec["members"]
        self.env, self.env_params = gymnax.make("CartPole-v1")
        self.optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(self.n["learning_rate"], eps=1e-5))
        self.state = jax.vmap(self._first)(jax.random.split(jax.random.PRNGKey(spec["seed"]), self.members))
        self._many = jax.jit(jax.vmap(self._updates, in_axes=(0, None)))

    def turn(self, steps: int) -> int:
        """At least so many steps of all members together."""
        each = self.n["envs"] * self.n["rollout"] * self.members
        updates = -(-steps // each)
        self.state = jax.block_until_ready(self._many(self.state, updates))
        return updates * each

    def actor(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers of the first member's policy."""
        return [(np.asarray(weight[0]), np.asarray(bias[0])) for weight, bias in self.state[0]["pi"]]

    def _first(self, key: Any) -> tuple:
        key, a, b, c = jax.random.split(key, 4)
        params = {"pi": _init(a, (4, 64, 64, 2), 0.01), "v": _init(b, (4, 64, 64, 1), 1.0)}
        obs, env = jax.vmap(self.env.reset, (0, None))(jax.random.split(c, self.n["envs"]), self.env_params)
        return params, self.optimizer.init(params), obs, env, key

    def _updates(self, state: tuple, count: Any) -> tuple:
        return jax.lax.fori_loop(0, count, lambda _, s: self._update(s), state)

    def _step(self, state: tuple, _: None) -> tuple:
        params, optimizer, obs, env, key = state
        key, a, b = jax.random.split(key, 3)
        logits = _apply(params["pi"], obs)
        action = jax.random.categorical(a, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        keys = jax.random.split(b, self.n["envs"])
        step = jax.vmap(self.env.step, (0, 0, 0, None))
        fresh, env, reward, *ends, _ = step(keys, env, action, self.env_params)  # one flag or two, by its version
        done = jnp.stack(ends).any(0)
        seen = (obs, action, log_prob, reward, done, _apply(params["v"], obs)[:, 0])
        return (params, optimizer, fresh, env, key), seen

    def _update(self, state: tuple) -> tuple:
        n = self.n
        (params, optimizer, obs, env, key), seen = jax.lax.scan(self._step, state, None, n["rollout"])
        states, action, log_prob, reward, done, value = seen

        def backward(carry: tuple, row: tuple) -> tuple:
            following, last = carry
            r, d, v = row
            last = r + n["gamma"] * following * (1 - d) - v + n["gamma"] * n["lambda"] * (1 - d) * last
            return (v, last), last

        first = _apply(params["v"], obs)[:, 0]
        _, advantage = jax.lax.scan(backward, (first, jnp.zeros_like(first)), (reward, done, value), reverse=True)
        batch = (states, action, log_prob, advantage, advantage + value)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def epoch(carry: tuple, _: None) -> tuple:
            params, optimizer, key = carry
            key, shuffle = jax.random.split(key)
            order = jax.random.permutation(shuffle, n["envs"] * n["rollout"])
            parts = jax.tree.map(lambda x: x[order].reshape(n["minibatches"], -1, *x.shape[1:]), flat)
            (params, optimizer), _ = jax.lax.scan(self._minibatch, (params, optimizer), parts)
            return (params, optimizer, key), None

        (params, optimizer, key), _ = jax.lax.scan(epoch, (params, optimizer, key), None, n["epochs"])
        return params, optimizer, obs, env, key

    def _minibatch(self, carry: tuple, part: tuple) -> tuple:
        params, optimizer = carry
        gradient = jax.grad(self._loss)(params, part)
        change, optimizer = self.optimizer.update(gradient, optimizer)
        return (optax.apply_updates(params, change), optimizer), None

    def _loss(self, params: dict, part: tuple) -> Any:
        obs, action, old, advantage, ret = part
        clip, log_pi = self.n["clip"], jax.nn.log_softmax(_apply(params["pi"], obs))
        ratio = jnp.exp(jnp.take_along_axis(log_pi, action[:, None], 1)[:, 0] - old)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage).mean()
        now = _apply(params["v"], obs)[:, 0]
        of_value = 0.5 * ((now - ret) ** 2).mean()
        entropy = -(jnp.exp(log_pi) * log_pi).sum(1).mean()
        return -gain + 0.5 * of_value - self.n["entropy"] * entropy


make = Ppo
