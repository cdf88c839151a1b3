"""Making environments from their settings; settings of Gymnasium environments."""

import os
import sys
from collections.abc import Sequence
from dataclasses import field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from omegaconf import MISSING

from rlnet.config import ConfigError, EnvConfig, RunFailed, check_env, register_environment, require
from rlnet.config.import_paths import search_here
from rlnet.envs.actions import Actions
from rlnet.envs.adapter import GymnasiumSimulation
from rlnet.envs.base import Environment, Simulation, from_model
from rlnet.envs.control.cartpole import CartPoleSimulation
from rlnet.envs.driving.simulator import check_settings, with_tuples
from rlnet.envs.encoding import encoder_of, layout_of
from rlnet.envs.ended_processes import close
from rlnet.envs.faults import EnvironmentFault, fault_of, first_line, silent
from rlnet.envs.models import TRUTHS, model_of
from rlnet.envs.presets import preset, preset_names
from rlnet.envs.simulate import OnDevice
from rlnet.envs.spaces import MASK, check_mask_space, observed
from rlnet.envs.state_rows import rows_of
from rlnet.envs.stepping import Recipe, stepping_of, vector_of
from rlnet.envs.tabular.gridworld import grid_features
from rlnet.envs.wrapping import parsed, wrapped
from rlnet.mdp.model.validation import require_kind

if TYPE_CHECKING:
    from rlnet.mdp.from_env.from_gymnasium import Believed

# The extra that installs what an environment needs: packages that presets import; modules of Gymnasium that need one.
PACKAGES = {"ale_py": "atari", "minigrid": "minigrid", "highway_env": "highway"}
EXTRAS = {"gymnasium.envs.box2d": "box2d", "gymnasium.envs.mujoco": "mujoco", **PACKAGES}


def make(config: EnvConfig) -> Environment:
    """Make the environment of a config.

    A Gymnasium environment with Discrete observations whose model `FiniteMDP.from_env` finds, and believes, is
    simulated from that model, with the time limit of its registration; any other by its own code, in
    `GymnasiumSimulation`, and so is one whose own code truncates episodes. The limit `config.max_episode_steps`
    replaces that of the registration.

    Raises:
        ConfigError: a value that cannot be used, an id that is not registered, a dependency that is not installed, or
            spaces that are not supported.
        TypeError: `config` is of no known kind.
    """
    require_kind(config, isinstance(config, EnvConfig), "config must be an EnvConfig, such as preset(NAME)")
    check_env(config)
    return config.build()


@register_environment("gymnasium")
class GymnasiumConfig(EnvConfig):
    """Settings of any registered Gymnasium environment; its finite model is used where it has one."""

    gamma: float = 0.99
    id: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[Any] = field(default_factory=list)  # from the inside out, see `rlnet.envs.wrapping`
    stepping: str = "auto"  # batched: all members at once (CartPole); vector: Gymnasium's own form; sync; async
    event: str | None = None  # the key of its infos that tells an event, like crashed: counted in evaluations
    truth: str = "auto"  # the finite model: auto, explore, grid, none
    max_states: int = 100_000  # of a model that is explored
    grid: int = 401  # points along each number of a state, of an approximate model

    def check(self) -> None:
        """Raise ConfigError where `wrappers` names none, an event is no key, or a number is out of range."""
        parsed(self.wrappers)
        _register(self.id)
        require(self.truth in TRUTHS, "env.truth", self.truth, f"allowed are {', '.join(TRUTHS)}")
        require(self.grid >= 2, "env.grid", self.grid, "must be at least 2 points along each number of a state")
        require(self.max_states >= 1, "env.max_states", self.max_states, "must be at least 1")
        allowed = "must be the key of the infos that tells it, like crashed, or null"
        require(self.event is None or bool(str(self.event).strip()), "env.event", repr(self.event), allowed)

    def title(self) -> str:
        """`env=NAME` for what configs/env/NAME.yaml describes; `env.id=ID` where another id was given."""
        ours = self.name in preset_names() and getattr(preset(self.name), "id", None) == self.id
        return super().title() if ours else f"env.id={self.id}"

    def stepped(self) -> dict[str, Any]:
        """Identity of the stepped code: what is registered under the id, and its arguments. Imports nothing."""
        spec = gymnasium.registry.get(self.id.rpartition(":")[2])
        if spec is None:
            return {name: getattr(self, name) for name in ("kind", "id", "kwargs", "wrappers", "max_episode_steps")}
        limit = spec.max_episode_steps if self.max_episode_steps is None else self.max_episode_steps
        made: dict[str, Any] = {"kwargs": {**spec.kwargs, **self.kwargs}, "wrappers": spec.additional_wrappers}
        if self.wrappers:
            made["wrappers"] = (*spec.additional_wrappers, *map(str, parsed(self.wrappers)))
        return {"kind": self.kind, "code": _code(spec.entry_point), **made, "max_episode_steps": limit}

    def foreign_code(self) -> str | None:
        """The id, unless it belongs to Gymnasium or rlnet, or to a package of which a preset is made."""
        package, colon, _ = self.id.partition(":")
        if colon and package not in PACKAGES:  # imports what stands before it
            return f"env.id={self.id}"
        try:
            entry = gymnasium.spec(self.id).entry_point if not colon else f"{package}."
        except gymnasium.error.Error:
            return None
        ours = ("gymnasium.envs.", "rlnet.envs.", *(f"{name}." for name in PACKAGES))
        known = isinstance(entry, str) and entry.startswith(ours)
        return None if known else f"env.id={self.id}"

    def foreign_settings(self) -> list[str]:
        """The id and the wrappers, as far as they are of others."""
        foreign = [str(one) for one in parsed(self.wrappers) if one.is_foreign]
        return [*super().foreign_settings(), *(f"env.wrappers={one}" for one in foreign[:1])]

    def build(self) -> Environment:
        """See `make`."""
        return _gymnasium(self)


def _register(name: str) -> None:
    """Import the packages of presets, one by one, until an unknown id is registered."""
    for package in PACKAGES if ":" not in name else ():
        if name in gymnasium.registry:
            return
        if find_spec(package) is not None:
            import_module(package)


def _code(entry_point: Any) -> str:
    """`module:name` of what makes an environment: where it is defined, as far as that is loaded."""
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        found = getattr(sys.modules.get(module), name, None)
        return entry_point if found is None else _code(found)
    return f"{entry_point.__module__}:{getattr(entry_point, '__qualname__', entry_point)}"


def _gymnasium(config: GymnasiumConfig) -> Environment:
    from rlnet.mdp.from_env.tested_env import step_limit

    env = _made(config)
    try:
        observations, parts = observed(env.observation_space)
        n_states = int(observations.n) if isinstance(observations, spaces.Discrete) else None
        try:
            actions = Actions(env.action_space)
            layout, encoder = None if n_states is not None else layout_of(observations), encoder_of(observations)
            check_mask_space(env.observation_space, actions)
        except ValueError as error:
            raise ConfigError(f"env.id={config.id}: {error}") from error
        max_steps = step_limit(env)
        model, why = model_of(env, config, actions, partial(_made, config))
        grid = None if model is None else model.grid
        rows = None if model is None or n_states is not None else rows_of(model.mdp, encoder, grid)
        masks = bool(parts) or (actions.bounds is None and model is None and _gives_masks(env))
        _refuse_game(env, config, model)
    finally:
        try:
            env.close()
        except Exception as error:
            raise RunFailed(f"env.id={config.id}: {fault_of('close', error)}") from error
    mdp = None if model is None else model.mdp
    features = None if mdp is None or mdp.shape is None else grid_features(mdp)
    if model is not None and rows is None and not model.truncates:
        allowed = f"{config.id} is simulated from its finite model, which gives no infos; use null"
        require(config.event is None, "env.event", config.event, allowed)
        simulated = from_model(config.name, model.mdp, features, max_steps)
        return replace(simulated, actions=actions, space=env.observation_space, tried=model.tried)
    recipe = Recipe(config.id, made_with(config), config.wrappers, config.event)
    stepping = stepping_of(config.stepping, recipe, env, infos=config.event is not None)
    available = None if mdp is None or rows is not None else mdp.available | mdp.terminal[:, None]
    available = None if available is None or available.all() else available

    def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
        simulation: CartPoleSimulation | GymnasiumSimulation
        if stepping == "batched":
            simulation = CartPoleSimulation(seeds, envs, cast(int, max_steps))  # which its ids have
        else:
            vectors = _vectors(recipe, len(seeds), envs, stepping)
            simulation = GymnasiumSimulation(vectors, seeds, config.id, masks=masks, available=available)
        return simulation if device is None else OnDevice(simulation, device)

    shape = () if layout is None else (layout.length,)
    about = config.name, mdp, actions.n, actions.bounds, n_states, shape, features, max_steps, build
    told: dict[str, Any] = {"masks": masks or available is not None, "no_model": why, "grid": grid}
    told |= {"space": env.observation_space, "events": () if config.event is None else (config.event,)}
    told |= {"processes": stepping == "async", "tried": "" if model is None else model.tried}
    return Environment(*about, layout=layout, encoder=encoder, actions=actions, states=rows, **told)


def _vectors(recipe: Recipe, members: int, envs: int, stepping: str) -> list[VectorEnv]:
    """A vector environment for each member; RunFailed where one cannot be made, though one environment could."""
    made: list[VectorEnv] = []
    try:
        with silent():
            for _ in range(members):
                made.append(vector_of(recipe, envs, stepping))
    except Exception as error:
        for vector in made:
            close(vector)
        where = "in a process of its own (env.stepping=async)" if stepping == "async" else "once more"
        told = (
            first_line(error) if isinstance(error, EnvironmentFault) else f"{type(error).__name__}: {first_line(error)}"
        )
        said = "" if isinstance(error, EOFError | ConnectionError) else f": {told}"
        raise RunFailed(f"env.id={recipe.id}: cannot be made {where}{said}") from error
    return made


def _refuse_game(env: gymnasium.Env, config: GymnasiumConfig, model: "Believed | None") -> None:
    """Refuse (ConfigError) a game of two players that would be stepped by its own code, which tells no sign."""
    simulated = model is not None and not model.truncates
    game = getattr(env.unwrapped, "game", False) or (model is not None and model.mdp.sign is not None)
    allowed = (
        "is a game of two players that is not simulated from a model; use env=tic_tac_toe, env=connect or env=game"
    )
    require(simulated or not game, "env.id", config.id, allowed)


def _gives_masks(env: gymnasium.Env) -> bool:
    """Whether the first `info["action_mask"]` of an environment says which actions are available."""
    try:
        return MASK in env.reset(seed=0)[1]
    except Exception:  # noqa: BLE001 (what fails here fails again, and is told, when a run resets it)
        return False


def _made(config: GymnasiumConfig) -> gymnasium.Env:
    """One environment with its wrappers; ConfigError where it cannot be made."""
    require("max_episode_steps" not in config.kwargs, "env.kwargs", config.kwargs, "give env.max_episode_steps instead")
    try:
        env = gymnasium.make(config.id, **made_with(config))
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(f"env.id={config.id}: {_missing(config, error) or first_line(error)}") from error
    except ConfigError:
        raise
    except Exception as error:
        refused = f"env.kwargs={config.kwargs}: {config.id} refuses them"
        title = refused if config.kwargs else f"env.id={config.id}: cannot be made"
        raise ConfigError(f"{title}: {type(error).__name__}: {first_line(error)}") from error
    check_settings(env, config.kwargs)
    return wrapped(env, config.wrappers)


def made_with(config: GymnasiumConfig) -> dict[str, Any]:
    """The keyword arguments of `gymnasium.make`.

    Where there is no display, pictures are drawn in memory: SDL (pygame) would print a line "error: XDG_RUNTIME_DIR".
    """
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if ":" in config.id:
        search_here()
    limit = config.max_episode_steps
    return with_tuples(config.kwargs) | ({} if limit is None else {"max_episode_steps": limit})


def _missing(config: GymnasiumConfig, error: Exception) -> str:
    """What to install where an error is due to a package of a known extra; else empty."""
    if not isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled):
        return ""
    package, colon, _ = config.id.partition(":")
    spec = gymnasium.registry.get(config.id)
    place = package if colon else str(spec.entry_point) if spec is not None else ""
    extra = next((extra for name, extra in EXTRAS.items() if place.startswith(name)), None)
    said = first_line(error).partition(",")[0].partition(". ")[0]
    return "" if extra is None else f"a package is missing ({said}): pip install 'rlnet[{extra}]'"
