"""Checks of tuned settings: refused on another problem, warned of on a variant of the same one."""

import logging
from contextlib import suppress
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf

from rlnet.config import CONFIGS, Config, ConfigError
from rlnet.envs import GymnasiumConfig, preset

# What makes another variant of the same environment, or another policy to begin with in it.
VARIANTS = (
    "kwargs", "wrappers", "max_episode_steps",
    "skill", "reference_steps", "reference_batch", "reference_rate", "reference_seed",
)  # fmt: skip
_log = logging.getLogger(__name__)


def check_tuned(config: Config, name: str) -> None:
    """Refuse settings that were tuned to another environment or algorithm; warn where it is a variant of the same one.

    What is stepped decides, not what it is called: see `EnvConfig.stepped`. Meant is the environment with the settings
    of its own that the file gives it.

    Args:
        config: of the run.
        name: the choice of `tuned=`.

    Raises:
        ConfigError: `configs/tuned/NAME.yaml` is for another environment or algorithm.
    """
    meant, settings = _meant(name)
    if "algo" in meant and config.algo.name != meant["algo"]:
        _refuse(name, f"algo={config.algo.name}", f"algo={meant['algo']}")
    if "env" not in meant:
        return
    if isinstance(config.env, GymnasiumConfig):
        with suppress(gymnasium.error.Error, ImportError):  # told where the environment is made
            gymnasium.spec(config.env.id)  # what stands before a colon is imported, and registers
    wanted = preset(meant["env"], **settings)
    theirs, ours = wanted.stepped(), config.env.stepped()
    if _without(theirs) != _without(ours):
        changed = [key for key in _without(theirs) if key not in ours or theirs[key] != ours[key]]
        if wanted.title() != config.env.title() or type(wanted) is not type(config.env):
            _refuse(name, config.env.title(), f"env={meant['env']}")
        _refuse(name, f"env.{changed[0]}={ours[changed[0]]}", f"env.{changed[0]}={theirs[changed[0]]}")
    for key in VARIANTS:
        if theirs.get(key) != ours.get(key):
            said = "tuned=%s: these settings were tuned to env=%s with env.%s=%s; here it is %s, which they may not fit"
            _log.warning(said, name, meant["env"], key, theirs.get(key), ours.get(key))


def _meant(name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The environment and the algorithm that a file of configs/tuned chooses, and its settings of the environment."""
    path = CONFIGS / "tuned" / f"{name}.yaml"
    content = OmegaConf.load(path) if path.is_file() else None
    if not isinstance(content, DictConfig):
        return {}, {}
    chosen = [item for item in content.get("defaults", []) if isinstance(item, DictConfig)]
    choices = {str(key).removeprefix("override /"): str(value) for item in chosen for key, value in item.items()}
    return choices, {str(key): value for key, value in content.get("env", {}).items()}


def _without(stepped: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stepped.items() if key not in VARIANTS}


def _refuse(name: str, given: str, meant: str) -> None:
    key = given.partition("=")[0]
    said = f"these settings were tuned to {meant}; leave {key}= out, or leave out tuned="
    raise ConfigError(f"tuned={name} {given}: {said}")
