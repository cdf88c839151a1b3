"""Wrappers of environments from settings: Gymnasium's own by name, or a user's by import path.

`env.wrappers` is a list from the inside out. An item is a name, or a mapping of one name to its arguments:
`env.wrappers=[FlattenObservation,{TimeLimit:{max_episode_steps:100}},my_module.Doubled]`. The arguments `func`,
`observation_space` and `action_space` are import paths, `package.module.name`. Lists become tuples, or where they are
limits (`min_obs`, ...) arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlnet.config import ConfigError, require
from rlnet.config.import_paths import import_here
from rlnet.envs.faults import first_line

KEY = "env.wrappers"
ALLOWED = "must be names of wrappers, each by itself or as {NAME: {argument: value}}"
HOME = "gymnasium.wrappers."  # may stand in front of the names of Gymnasium's own
VECTOR = "vector"
PATHS = {"func": "a function", "observation_space": "a Space", "action_space": "a Space"}  # arguments by import path
LIMITS = ("min_obs", "max_obs", "min_action", "max_action", "min_reward", "max_reward")
KEPT = {"TransformObservation": "observation_space", "TransformAction": "action_space"}  # null: the space stays
# By name, why not.
ARRAYS = "rlnet steps environments that give and take arrays of numpy; others belong into a wrapper of your own"
DRAWS = "it would draw all of training; play the policy afterwards, by rlnet watch RUN_DIR (render=human, gif or mp4)"
REFUSED = {
    "NormalizeObservation": "its statistics would be those of each copy alone; use network.normalize_observations=true",
    "NormalizeReward": "its statistics would be those of each copy alone; use network.normalize_returns=true",
    "Autoreset": "it hides where episodes end",
    **dict.fromkeys(("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"), ARRAYS),
    **dict.fromkeys(("HumanRendering", "RenderCollection", "RecordVideo"), DRAWS),
}


class Wrapping(NamedTuple):
    """One wrapper."""

    name: str  # of a class of gymnasium.wrappers, or module.Name
    arguments: Mapping[str, Any]

    @property
    def is_foreign(self) -> bool:
        """Whether code of others is imported for it."""
        return "." in self.name or any(self.arguments.get(key) is not None for key in PATHS)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments.items())})"


def parsed(wrappers: Sequence[Any]) -> list[Wrapping]:
    """The wrappers that a setting describes. Imports nothing.

    Raises:
        ConfigError: an item has another form, or names no wrapper of Gymnasium.
    """
    found = []
    for item in wrappers:
        one = {item: None} if isinstance(item, str) else item
        require(isinstance(one, Mapping) and len(one) == 1, KEY, item, ALLOWED)
        ((name, arguments),) = one.items()
        arguments = {} if arguments is None else arguments
        form = isinstance(name, str) and isinstance(arguments, Mapping) and all(isinstance(k, str) for k in arguments)
        require(form, KEY, item, ALLOWED)
        name = name.removeprefix(HOME)
        _check_name(name)
        for key in PATHS.keys() & arguments.keys():
            path, null = arguments[key], key != "func"
            fits = (isinstance(path, str) and _is_path(path)) or (null and path is None)
            require(fits, KEY, item, f"its {key} must be module.name of {PATHS[key]}" + (", or null" if null else ""))
        found.append(Wrapping(name, dict(arguments)))
    return found


def _check_name(name: str) -> None:
    """Raise ConfigError unless it is a wrapper of Gymnasium that can be used, or the import path of another."""
    names = [one for one in gymnasium.wrappers.__all__ if one != VECTOR]
    if name.startswith(f"{VECTOR}."):
        alone = name.removeprefix(f"{VECTOR}.")
        why = REFUSED.get(alone, f"use {alone}" if alone in names else "")
        why = f": {why}" if why else ""
        require(False, KEY, name, f"is for vector environments, wrappers are put around single ones{why}")
    require(name not in REFUSED, KEY, name, REFUSED.get(name, ""))
    usable = ", ".join(sorted(set(names) - set(REFUSED)))
    allowed = f"is no wrapper of Gymnasium, nor module.Name of one; there are {usable}"
    require(name in names or _is_path(name), KEY, name, allowed)


def _is_path(name: str) -> bool:
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def wrapped(env: gymnasium.Env, wrappers: Sequence[Any]) -> gymnasium.Env:
    """The environment inside its wrappers.

    Raises:
        ConfigError: one cannot be imported, or refuses its arguments or the environment.
    """
    for one in parsed(wrappers):
        kind = _imported(one.name) if "." in one.name else _of_gymnasium(one)
        arguments = {key: _argument(key, value) for key, value in one.arguments.items()}
        if one.name in KEPT:
            arguments.setdefault(KEPT[one.name], None)
        try:
            env = kind(env, **arguments)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"{KEY}: {one} cannot be put around {env}: {said}") from error
        require(isinstance(env, gymnasium.Env), KEY, one, f"must return an environment, not {type(env).__name__}")
    return env


def _of_gymnasium(one: Wrapping) -> Any:
    try:
        return getattr(gymnasium.wrappers, one.name)
    except ImportError as error:
        raise ConfigError(f"{KEY}={one.name}: cannot be imported ({first_line(error)})") from error


def _argument(key: str, value: Any) -> Any:
    """An argument in the form in which wrappers take it."""
    if key == "func":
        return _imported(value)
    if key in PATHS:
        return None if value is None else _imported(value, gymnasium.Space)
    if not isinstance(value, list):
        return value
    return np.asarray(value) if key in LIMITS else tuple(_argument("", own) for own in value)


def _imported(path: str, kind: type | None = None) -> Any:
    """What `module.name` names: something that can be called, or an object of a kind."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_here(module), name)
    except Exception as error:
        raise ConfigError(f"{KEY}={path}: cannot be imported ({type(error).__name__}: {error})") from error
    if kind is None:
        require(callable(found), KEY, path, "must be a class or a function")
    else:
        require(isinstance(found, kind), KEY, path, f"must be a {kind.__name__}")
    return found
