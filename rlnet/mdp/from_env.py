"""The finite model of a Gymnasium environment: handed out, listed as `P`, or explored."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np

from rlnet.mdp.build import from_coo
from rlnet.mdp.errors import NoModelError
from rlnet.mdp.model import FiniteMDP
from rlnet.mdp.table import from_outcomes


def from_env(env: Any, max_states: int = 100_000) -> FiniteMDP:
    """The model of `env`: `env.unwrapped.mdp`, else its `P` (toy-text), else by exploring it.

    Exploring needs Discrete actions, an environment that can be copied, reset and stepped without chance, and
    observations that tell states apart; all of it is checked. A time limit (TimeLimit, or `truncated`) is no part of
    the model. Raises NoModelError saying why there is none, or that there are more than `max_states` states.
    """
    import gymnasium as gym

    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.RewardWrapper | gym.ActionWrapper):
            raise NoModelError(
                f"{type(layer).__name__} changes rewards or actions: the model inside is another problem"
            )
        layer = layer.env
    inner = env.unwrapped
    if isinstance(getattr(inner, "mdp", None), FiniteMDP):
        return inner.mdp
    table = getattr(inner, "P", None)
    if table is not None:
        return _from_table(inner, table)
    return _explored(env, inner, max_states)


def _from_table(inner: Any, table: Any) -> FiniteMDP:
    if not isinstance(table, dict):
        table = dict(enumerate(table))
    start = getattr(inner, "initial_state_distrib", None)
    start = None if start is None else np.asarray(start, dtype=np.float64)
    n_actions = int(inner.action_space.n)
    mdp = from_outcomes(table, n_states=len(table), n_actions=n_actions, start=start)
    shape = np.shape(inner.desc) if hasattr(inner, "desc") else getattr(inner, "shape", None)
    if shape is None or len(shape) != 2 or int(np.prod(shape)) != mdp.n_states:
        return mdp
    shape = (int(shape[0]), int(shape[1]))
    return replace(mdp, shape=shape, action_labels=_arrows(mdp, shape))


def _arrows(mdp: FiniteMDP, shape: tuple[int, int]) -> tuple[str, ...] | None:
    """The direction in which each action moves on average, None unless every action has its own."""
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    action = mdp.pair_action[pair]
    there, here = (np.stack(np.unravel_index(s, shape)) for s in (mdp.next_state, mdp.pair_state[pair]))
    near = np.abs(there - here).sum(axis=0) <= 1  # a jump (the cliff sends back to the start) shows no direction
    moves = np.zeros((2, mdp.n_actions))
    for axis in (0, 1):
        np.add.at(moves[axis], action[near], ((there - here)[axis] * mdp.probability)[near])
    down, right = moves
    arrows = np.where(np.abs(down) >= np.abs(right), np.where(down > 0, "↓", "↑"), np.where(right > 0, "→", "←"))
    still = (down == 0) & (right == 0)
    return None if still.any() or len(set(arrows)) < len(arrows) else tuple(str(a) for a in arrows)


def _explored(env: Any, inner: Any, max_states: int) -> FiniteMDP:
    import gymnasium as gym

    name = type(inner).__name__
    if not isinstance(env.action_space, gym.spaces.Discrete) or int(env.action_space.start) != 0:
        raise NoModelError(f"{name} has no model (mdp or P), and its actions are {env.action_space}, not Discrete(n)")
    n_actions = int(env.action_space.n)
    root, first = _root(env, name)
    index: dict[Any, int] = {first: 0}
    arrivals, outcomes = {0: 1}, {}
    pending = [(0, root)]
    while pending:
        s, here = pending.pop()
        reached = [_step(here, a, name) for a in range(n_actions)]
        listed = [outcome for _, outcome in reached]
        if outcomes.setdefault(s, listed) != listed:
            raise NoModelError(f"{name}: an observation is no state: the same actions do not always do the same there")
        for after, (key, _, terminated) in reached:
            if key not in index and len(index) >= max_states:
                raise NoModelError(f"{name} has more than max_states={max_states} states")
            there = index.setdefault(key, len(index))
            if not terminated and arrivals.get(there, 0) < 2:
                # A state is visited twice where two ways lead to it, to see that it behaves the same both times.
                arrivals[there] = arrivals.get(there, 0) + 1
                pending.append((there, after))
    rows = [(s, a, index[key], r, end) for s, listed in outcomes.items() for a, (key, r, end) in enumerate(listed)]
    state, action, successor, reward, ended = (np.array(column) for column in zip(*rows, strict=True))
    start = np.zeros(len(index))
    start[0] = 1.0
    return from_coo(
        state,
        action,
        successor,
        np.ones(len(rows)),
        reward,
        ended,
        n_states=len(index),
        n_actions=n_actions,
        start=start,
    )


def _root(env: Any, name: str) -> tuple[Any, Any]:
    """(a copy just reset, the key of its observation); the start must not depend on the seed."""
    keys = []
    for seed in (0, 1, 2):
        root = _copied(env, name)
        keys.append(_key(root.reset(seed=seed)[0], name))
    if len(set(keys)) > 1:
        raise NoModelError(f"{name} has no model (mdp or P) and starts by chance, which exploring cannot enumerate")
    return root, keys[0]


def _step(env: Any, action: int, name: str) -> tuple[Any, tuple[Any, float, bool]]:
    """(a copy after the action, (key, reward, terminated)).

    A step that draws from the environment's generator is refused: two equal outcomes would not show that all are.
    Chance from anywhere else is looked for in a second copy.
    """
    seen = []
    for _ in range(2):
        after = _copied(env, name)
        generator = np.random.default_rng(0)
        untouched = generator.bit_generator.state
        after.unwrapped.np_random = generator
        observation, reward, terminated, _, _ = after.step(action)
        if generator.bit_generator.state != untouched:
            raise NoModelError(f"{name} has no model (mdp or P) and acts by chance: a step draws random numbers")
        seen.append((_key(observation, name), float(reward), bool(terminated)))
    if seen[0] != seen[1]:
        raise NoModelError(f"{name} has no model (mdp or P) and acts by chance: {seen[0]} or {seen[1]}")
    return after, seen[0]


def _copied(env: Any, name: str) -> Any:
    try:
        return copy.deepcopy(env)
    except (TypeError, NotImplementedError, RuntimeError, AttributeError, ValueError) as error:
        raise NoModelError(f"{name} has no model (mdp or P) and cannot be copied: {error}") from error


def _key(observation: Any, name: str) -> Any:
    """Something hashable that is equal for equal observations."""
    if isinstance(observation, np.ndarray | np.generic):
        array = np.asarray(observation)
        return array.item() if array.ndim == 0 else (array.shape, array.dtype.str, array.tobytes())
    if isinstance(observation, dict):
        return tuple((k, _key(observation[k], name)) for k in sorted(observation))
    if isinstance(observation, list | tuple):
        return tuple(_key(x, name) for x in observation)
    try:
        hash(observation)
    except TypeError as error:
        raise NoModelError(f"{name}: observations of type {type(observation).__name__} cannot be told apart") from error
    return observation
