"""Environment configs by name or from keyword arguments, for use without Hydra: `gymnasium.make`, notebooks, tests.

The files of `configs/env/` are the one place where a preset is defined.
"""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from rlnet.config import CONFIGS, ENVIRONMENTS, ConfigError, EnvConfig
from rlnet.envs.tabular.gridworld import GridworldConfig
from rlnet.envs.tabular.random_walk import RandomWalkConfig

_FOLDER = CONFIGS / "env"
# Of the learner and of the run, not of the environment itself.
_NOT_BUILT_FROM = ("name", "gamma", "max_episode_steps", "kind")


def preset_names() -> list[str]:
    """The names of the files of `configs/env/`; `env=` and `preset=` know kinds of environments, too."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def preset(name: str, **overrides: Any) -> EnvConfig:
    """The config of `configs/env/<name>.yaml`, or of a kind of environments, with some of its values replaced.

    Raises:
        ConfigError: an unknown name, or a key or type that the config does not have.
    """
    if name not in preset_names() and name in ENVIRONMENTS:
        return build(ENVIRONMENTS[name], {"name": name}, overrides)
    if name not in preset_names():
        allowed = sorted({*preset_names(), *ENVIRONMENTS.known()})
        raise ConfigError(f"preset={name}: allowed are {', '.join(allowed)}{ENVIRONMENTS.faults()}")
    composed = OmegaConf.load(_FOLDER / f"{name}.yaml")
    assert isinstance(composed, DictConfig)
    kind, _, _ = composed.pop("defaults")[0].removeprefix("/schema/env/").partition("@")
    return build(ENVIRONMENTS[kind], composed, overrides)


def build(schema: type, *parts: Any) -> Any:
    """The settings of class `schema` from dictionaries, later ones first; key and type errors as ConfigError."""
    try:
        parts = tuple(_plain(part) if isinstance(part, dict) else part for part in parts)
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), *parts))
    except OmegaConfBaseException as error:
        key = f"env.{error.full_key}" if error.full_key else "env"
        reason = str(error).split("\n")[0]
        if isinstance(error, ConfigKeyError) and is_dataclass(error.object_type):
            reason += f", allowed are {', '.join(item.name for item in fields(error.object_type))}"
        raise ConfigError(f"{key}: {reason}") from error


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options with numpy's numbers as Python's, which OmegaConf wants."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()}


def gridworld_config(preset_name: str | None, options: dict[str, Any]) -> GridworldConfig:
    """The config of `gymnasium.make("rlnet/Gridworld-v0", ...)`: a preset, changed by fields of GridworldConfig.

    Without a preset: the fields alone if there is a map among them, else the preset `gridworld`.
    """
    _require_fields(GridworldConfig, options)
    if preset_name is None and "map" in options:
        return build(GridworldConfig, {"name": "custom", "gamma": 1.0}, options)
    config = preset(preset_name or "gridworld", **options)
    if not isinstance(config, GridworldConfig):
        raise ConfigError(f"preset={preset_name}: is not a gridworld but a {type(config).__name__}")
    return config


def random_walk_config(options: dict[str, Any]) -> RandomWalkConfig:
    """The config of `gymnasium.make("rlnet/RandomWalk-v0", ...)`: fields of RandomWalkConfig."""
    _require_fields(RandomWalkConfig, options)
    return build(RandomWalkConfig, {"name": "random_walk", "gamma": 1.0}, options)


def _require_fields(schema: type, options: dict[str, Any]) -> None:
    allowed = [item.name for item in fields(schema) if item.name not in _NOT_BUILT_FROM]
    for name in options:
        if name not in allowed:
            raise ConfigError(f"{name}={options[name]}: no such setting; allowed are {', '.join(allowed)}")
