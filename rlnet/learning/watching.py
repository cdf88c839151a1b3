"""Playing a learned policy step by step in a single environment, for `rlnet watch`."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlnet.config import ConfigError, RunFailed
from rlnet.envs.faults import first_line
from rlnet.envs.playing import single
from rlnet.envs.spaces import MASK
from rlnet.learning.policy import Policy
from rlnet.report.moment import Moment
from rlnet.report.panels import action_names

NAMED = 18  # actions up to which they are named


def watched(
    policy: Policy, *, render_mode: str | None, episodes: int, seed: int, sample: bool, most: int
) -> Iterator[Moment]:
    """Play episodes; yields a `Moment` for every observation, the final one of an episode included.

    Args:
        policy: the policy that acts.
        render_mode: of the environment, see `rlnet.envs.playing`; None: nothing is drawn.
        episodes: how many.
        seed: of the first episode and of the random numbers of `sample`.
        sample: whether actions are drawn as in training, exploration included.
        most: steps of an episode, at most.

    Raises:
        ConfigError: the environment cannot be watched, or drawn like this.
        RunFailed: it failed while it was played.
    """
    trained = policy.trained
    environment, config = trained.problem.environment, trained.config.env
    env = single(config, environment, render_mode)
    policy.reseed(seed)
    try:
        for episode in range(episodes):
            yield from _episode(policy, env, episode, seed + episode, sample, most)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"{config.title()}: {first_line(error)}, or pip install 'rlnet[video]'") from error
    except (gymnasium.error.Error, ImportError, RuntimeError, ValueError, OSError, AttributeError, TypeError) as error:
        raise RunFailed(f"{config.title()}: failed while it was watched: {first_line(error)}") from error
    finally:
        env.close()


def _episode(policy: Policy, env: Any, episode: int, seed: int, sample: bool, most: int) -> Iterator[Moment]:
    environment = policy.trained.problem.environment
    names, drawn = names_of(policy), env.render_mode not in (None, "human")
    obs, info = env.reset(seed=seed)
    reward = ret = 0.0
    for step in range(most + 1):
        seen, mask = _as_learned(env, obs), info.get(MASK) if environment.masks else None
        mask = None if environment.mdp is not None else mask
        facts: dict[str, Any] = {
            "episode": episode + 1,
            "step": step,
            "frame": env.render() if drawn else None,
            "state": int(seen) if environment.n_states is not None else None,
            "reward": float(reward),
            "ret": ret,
            "names": names,
        }
        if step == most:
            yield Moment(**facts, action=None, value=None, q=None, policy=None, end="cut here")
            return
        action = policy(seen, mask, sample=sample)
        yield Moment(**facts, action=action, **_thought(policy, seen, mask, names, sample))
        obs, reward, terminated, truncated, info = env.step(_taken(environment, action))
        ret += float(reward)
        if terminated or truncated:
            facts |= {"step": step + 1, "frame": env.render() if drawn else None, "reward": float(reward), "ret": ret}
            facts["state"] = int(_as_learned(env, obs)) if environment.n_states is not None else None
            end = "the episode ended" if terminated else "the time limit ended the episode"
            yield Moment(**facts, action=None, value=None, q=None, policy=None, end=end)
            return


def _taken(environment: Any, action: np.ndarray) -> Any:
    taken = environment.taken(action)
    return int(taken) if np.ndim(taken) == 0 and np.asarray(taken).dtype.kind in "iu" else taken


def _as_learned(env: Any, obs: Any) -> Any:
    """The observation as a policy takes it: states are counted from 0."""
    return int(obs) - int(env.observation_space.start) if isinstance(env.observation_space, spaces.Discrete) else obs


def names_of(policy: Policy) -> tuple[str, ...]:
    """Names of the discrete actions; none for real ones, products of choices, and very many."""
    environment = policy.trained.problem.environment
    if environment.n_actions is None or environment.n_actions > NAMED:
        return ()
    if environment.mdp is not None:
        return tuple(action_names(environment.mdp))
    return tuple(str(a) for a in range(environment.n_actions))


def _thought(policy: Policy, seen: Any, mask: Any, names: tuple[str, ...], sample: bool) -> dict[str, Any]:
    """V(s), Q(s, ·) and π(·|s), as far as the algorithm has them."""
    trained = policy.trained
    roles = {role.kind for role in trained.algorithm.roles}
    discrete = bool(names)
    return {
        "value": float(policy.value(seen, mask)) if roles & {"v", "q"} else None,
        "q": np.asarray(policy.q(seen, mask)) if discrete and "q" in roles else None,
        "policy": np.asarray(policy.probabilities(seen, mask, sample=sample)) if discrete else None,
    }


def value_map(policy: Policy) -> tuple[np.ndarray, np.ndarray] | None:
    """V [S] and π [S, A] of every state of a model that has a map; None without one."""
    environment = policy.trained.problem.environment
    mdp = environment.mdp
    roles = {role.kind for role in policy.trained.algorithm.roles}
    if mdp is None or mdp.shape is None or environment.n_states is None or not roles & {"v", "q"}:
        return None
    every = np.arange(mdp.n_states)
    chosen = np.asarray(policy.probabilities(every), np.float64) * mdp.available
    return np.asarray(policy.value(every), np.float64), chosen / np.maximum(chosen.sum(1, keepdims=True), 1e-300)
