"""mctx's search (PUCT, `muzero_policy`) in the games of pgx, compiled, as pgx's own AlphaZero example calls it."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import pgx


class Turns:
    """Searches from positions after two random moves."""

    def __init__(self, spec: dict[str, Any]) -> None:
        numbers = spec["numbers"]
        self._games, self._simulations = numbers["games"], numbers["simulations"]
        env = pgx.make(spec["kind"])
        step, actions = jax.vmap(env.step), env.num_actions
        size = 1
        for width in env.observation_shape:
            size *= width
        self._key = jax.random.PRNGKey(spec["seed"])
        self._params = [_layers(self._key, [size, *numbers["hidden"], out]) for out in (actions, 1)]

        def forward(params: list, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = obs.reshape(len(obs), -1).astype(jnp.float32)
            return _mlp(params[0], x), _mlp(params[1], x)[:, 0]

        def recurrent(params: list, key: jax.Array, action: jax.Array, state: Any) -> tuple[Any, Any]:
            mover = state.current_player
            state = step(state, action)
            logits, value = forward(params, state.observation)
            logits = jnp.where(state.legal_action_mask, logits, jnp.finfo(logits.dtype).min)
            reward = state.rewards[jnp.arange(len(mover)), mover]
            ended = state.terminated
            value, discount = jnp.where(ended, 0.0, value), jnp.where(ended, 0.0, -1.0)
            out = mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value)
            return out, state

        def search(params: list, key: jax.Array) -> jax.Array:
            first, *keys = jax.random.split(key, 4)
            state = jax.vmap(env.init)(jax.random.split(first, self._games))
            for own in keys[:2]:
                state = step(state, jax.random.categorical(own, jnp.log(state.legal_action_mask)))
            logits, value = forward(params, state.observation)
            root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
            found = mctx.muzero_policy(
                params, keys[2], root, recurrent, self._simulations, invalid_actions=~state.legal_action_mask
            )
            return found.action_weights

        self._search = jax.jit(search)

    def turn(self, steps: int) -> int:
        """About so many simulations."""
        done = 0
        while done < steps:
            self._key, own = jax.random.split(self._key)
            self._search(self._params, own).block_until_ready()
            done += self._games * self._simulations
        return done


def _layers(key: jax.Array, widths: list[int]) -> list[tuple[jax.Array, jax.Array]]:
    layers = []
    for inputs, outputs in pairwise(widths):
        key, own = jax.random.split(key)
        bound = inputs**-0.5
        layers.append((jax.random.uniform(own, (inputs, outputs), minval=-bound, maxval=bound), jnp.zeros(outputs)))
    return layers


def _mlp(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    for k, (weight, bias) in enumerate(layers):
        x = (jax.nn.relu(x) if k else x) @ weight + bias
    return x


make = Turns
