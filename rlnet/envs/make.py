"""From the config of an environment to what the rest of the program needs of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from rlnet.config import (
    BairdConfig,
    ConfigError,
    EnvConfig,
    GridworldConfig,
    GymnasiumConfig,
    MaximisationBiasConfig,
    RandomWalkConfig,
    check_env,
    require,
)
from rlnet.envs.adapter import GymnasiumSimulation, action_bounds, observation_shape
from rlnet.envs.baird import baird_features, build_baird
from rlnet.envs.cartpole import IDS, CartPoleSimulation
from rlnet.envs.gridworld import build_gridworld, grid_features
from rlnet.envs.maximisation_bias import build_maximisation_bias
from rlnet.envs.random_walk import build_random_walk, group_features
from rlnet.envs.simulate import OnDevice, TabularSimulation
from rlnet.mdp import FiniteMDP, NoModelError

Simulation = TabularSimulation | GymnasiumSimulation | CartPoleSimulation | OnDevice
STEPPING = ("auto", "batched", "vector", "sync", "async")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Environment:
    """What an environment is, apart from being stepped. S states, A actions of D components, F features."""

    name: str
    mdp: FiniteMDP | None = field(repr=False)  # the finite model, where there is one
    n_actions: int | None  # A, where actions are discrete
    action_bounds: tuple[np.ndarray, np.ndarray] | None  # lowest and highest, [D] float32 each, where they are real
    n_states: int | None  # S, where observations are state indices
    observation_shape: tuple[int, ...]  # of one observation: () for an index, else (F,)
    features: np.ndarray | None = field(repr=False)  # [S, F] float32, the inputs of a linear network
    max_steps: int | None  # the time limit of an episode
    _build: Callable[[Sequence[int], int, torch.device | str | None], Simulation] = field(repr=False)

    def simulate(self, seeds: Sequence[int], envs: int, device: torch.device | str | None = None) -> Simulation:
        """M = len(seeds) members × N = `envs` environments, ready for `reset`; with tensors, or (None) with arrays."""
        return self._build(seeds, envs, device)


def make(config: EnvConfig) -> Environment:
    """The environment that `config` describes.

    A Gymnasium environment with Discrete observations whose model `FiniteMDP.from_env` finds is simulated from that
    model, with the time limit of its registration; any other by its own code, in `GymnasiumSimulation`. The limit
    `config.max_episode_steps` replaces that of the registration.

    Raises:
        ConfigError: a value that cannot be used, an id that is not registered, a dependency that is not installed, or
            spaces that are not supported.
        TypeError: `config` is of no known kind.
    """
    check_env(config)
    if isinstance(config, GridworldConfig):
        mdp = build_gridworld(config)
        return from_model(config.name, mdp, grid_features(mdp), config.max_episode_steps)
    if isinstance(config, RandomWalkConfig):
        return from_model(config.name, build_random_walk(config), group_features(config), config.max_episode_steps)
    if isinstance(config, MaximisationBiasConfig):
        return from_model(
            config.name, build_maximisation_bias(config), np.eye(2, dtype=np.float32), config.max_episode_steps
        )
    if isinstance(config, BairdConfig):
        return from_model(config.name, build_baird(), baird_features(), config.max_episode_steps)
    if isinstance(config, GymnasiumConfig):
        return _gymnasium(config)
    raise TypeError(f"no environment is made from a {type(config).__name__}")


def from_model(name: str, mdp: FiniteMDP, features: np.ndarray | None, max_steps: int | None) -> Environment:
    """An environment that is simulated from its model; features [S, F] for linear networks, and a time limit."""

    def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
        return TabularSimulation(mdp, seeds, envs, max_steps=max_steps, device=device)

    return Environment(name, mdp, mdp.n_actions, None, mdp.n_states, (), features, max_steps, build)


def _gymnasium(config: GymnasiumConfig) -> Environment:
    env = _made(config)
    key = "env.id"
    try:
        actions, observations = env.action_space, env.observation_space
        try:
            shape, bounds = observation_shape(observations), action_bounds(actions)
        except ValueError as error:
            raise ConfigError(f"{key}={config.id}: {error}") from error
        max_steps = config.max_episode_steps
        if max_steps is None:
            limits = (env.spec.max_episode_steps, getattr(env.unwrapped, "max_episode_steps", None))
            max_steps = min((limit for limit in limits if limit is not None), default=None)
        finite = bounds is None and isinstance(observations, spaces.Discrete)
        mdp = _model(env, config.id) if finite else None
    finally:
        env.close()
    if mdp is not None:
        return from_model(config.name, mdp, None if mdp.shape is None else grid_features(mdp), max_steps)
    stepping = _stepping(config, env)

    def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
        if stepping == "batched":
            simulation = CartPoleSimulation(seeds, envs, max_steps)
        else:
            simulation = GymnasiumSimulation([_vector(config, envs, stepping) for _ in seeds], seeds)
        return simulation if device is None else OnDevice(simulation, device)

    n_states = int(observations.n) if isinstance(observations, spaces.Discrete) else None
    n_actions = int(actions.n) if bounds is None else None
    return Environment(config.name, None, n_actions, bounds, n_states, shape, None, max_steps, build)


def _stepping(config: GymnasiumConfig, env: gymnasium.Env) -> str:
    """How the environments of a population move: as `config.stepping` says, or (auto) the fastest way that there is."""
    key, value = "env.stepping", config.stepping
    require(value in STEPPING, key, value, f"allowed are {', '.join(STEPPING)}")
    possible = {
        "batched": config.id in IDS and not config.kwargs,
        "vector": env.spec.vector_entry_point is not None and not env.spec.additional_wrappers,
        "sync": True,
        "async": True,
    }
    if value == "auto":
        return next(name for name, can in possible.items() if can)
    can = ", ".join(["auto", *(name for name, can in possible.items() if can)])
    require(possible[value], key, value, f"env.id={config.id} can be stepped by: {can}")
    return value


def _made(config: GymnasiumConfig) -> gymnasium.Env:
    """One environment, every reason why there is none as a ConfigError."""
    require("max_episode_steps" not in config.kwargs, "env.kwargs", config.kwargs, "give env.max_episode_steps instead")
    try:
        return gymnasium.make(config.id, **config.kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"env.id={config.id}: {_sentence(error)}") from error
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        if not config.kwargs:
            raise
        raise ConfigError(
            f"env.kwargs={config.kwargs}: {config.id} refuses them: {type(error).__name__}: {_sentence(error)}"
        ) from error


def _sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _model(env: gymnasium.Env, name: str) -> FiniteMDP | None:
    try:
        return FiniteMDP.from_env(env)
    except NoModelError as error:
        _log.info("%s is simulated by its own code: %s", name, error)
        return None


def _vector(config: GymnasiumConfig, envs: int, stepping: str) -> VectorEnv:
    """N sub-environments: in the environment's own vector form, one after the other, or in processes of their own."""
    options: dict[str, Any] = dict(config.kwargs)
    if config.max_episode_steps is not None:
        options["max_episode_steps"] = config.max_episode_steps
    if stepping == "vector":
        return gymnasium.make_vec(config.id, envs, vectorization_mode="vector_entry_point", **options)
    # Without reset steps in between, every step is a transition.
    vector_kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(config.id, envs, vectorization_mode=stepping, vector_kwargs=vector_kwargs, **options)
