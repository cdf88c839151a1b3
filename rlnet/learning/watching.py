"""Playing a learned policy step by step in a single environment, for `rlnet watch`."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

from rlnet.config import ConfigError, RunFailed
from rlnet.envs.base import Environment
from rlnet.envs.checks import Checked
from rlnet.envs.faults import EnvironmentFault, fault_of, first_line
from rlnet.envs.playing import single
from rlnet.envs.spaces import MASK
from rlnet.learning.policy import Policy
from rlnet.report.moment import Moment, in_words
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
    env = Checked(single(config, environment, render_mode))
    policy.reseed(seed)
    try:
        for episode in range(episodes):
            yield from _episode(policy, env, episode, seed + episode, sample, most)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"{config.title()}: {first_line(error)}, or pip install 'rlnet[video]'") from error
    except (EnvironmentFault, ValueError) as error:
        raise RunFailed(f"{config.title()}: failed while it was watched: {first_line(error)}") from error
    finally:
        env.close()


def _episode(policy: Policy, env: Any, episode: int, seed: int, sample: bool, most: int) -> Iterator[Moment]:
    environment = policy.trained.problem.environment
    names = names_of(policy, env)
    obs, info = env.reset(seed=seed)
    reward = ret = 0.0
    for step in range(most + 1):
        facts: dict[str, Any] = {"episode": episode + 1, "step": step, "frame": _frame(env), "names": names}
        facts |= {"state": _state(environment, obs), "reward": float(reward), "ret": ret}
        if step == most:
            yield Moment(**facts, action=None, value=None, q=None, policy=None, end="cut here")
            return
        mask = info.get(MASK) if environment.masks and environment.mdp is None else None
        own = policy.chosen(obs, mask, sample=sample)
        action, number = environment.taken(own), None if environment.n_actions is None else int(own)
        yield Moment(**facts, action=action, number=number, **_thought(policy, obs, mask, names, sample))
        obs, reward, terminated, truncated, info = env.step(action)
        ret += float(reward)
        if terminated or truncated:
            facts |= {"step": step + 1, "frame": _frame(env), "state": _state(environment, obs)}
            facts |= {"reward": float(reward), "ret": ret}
            end = "the episode ended" if terminated else "the time limit ended the episode"
            yield Moment(**facts, action=None, value=None, q=None, policy=None, end=end)
            return


def _frame(env: Any) -> Any:
    """What the environment draws, if anything."""
    if env.render_mode in (None, "human"):
        return None
    try:
        return env.render()
    except gymnasium.error.DependencyNotInstalled:
        raise
    except Exception as error:
        raise fault_of("render", error) from error


def _state(environment: Environment, obs: Any) -> int | None:
    """The number of the observed state, counted from 0; None where observations are no states."""
    return None if environment.n_states is None else int(obs) - environment.first_state


def names_of(policy: Policy, env: Any) -> tuple[str, ...]:
    """Names of the discrete actions; none for real ones, products of choices that a policy makes, and very many.

    Args:
        policy: whose actions they are.
        env: in which it acts: without a finite model, those of Atari and of highway-env have names for them.
    """
    environment = policy.trained.problem.environment
    if environment.n_actions is None or environment.n_actions > NAMED:
        return ()
    if environment.mdp is not None:
        return tuple(action_names(environment.mdp))
    given: list[Any] = getattr(env.unwrapped, "get_action_meanings", list)()
    numbered = getattr(getattr(env.unwrapped, "action_type", None), "actions", None)
    if isinstance(numbered, Mapping):
        given = list(numbered.values())
    if len(given) == environment.n_actions and all(isinstance(name, str) for name in given):
        return tuple(name.lower().replace("_", " ") for name in given)
    return tuple(in_words(environment.taken(np.asarray(a))) for a in range(environment.n_actions))


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
    every = np.arange(mdp.n_states) + environment.first_state
    chosen = np.asarray(policy.probabilities(every), np.float64) * mdp.available
    return np.asarray(policy.value(every), np.float64), chosen / np.maximum(chosen.sum(1, keepdims=True), 1e-300)
