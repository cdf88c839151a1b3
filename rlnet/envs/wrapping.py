"""Wrappers of environments from settings: Gymnasium's own by name, or a user's by import path.

`env.wrappers` is a list from the inside out. An item is a name, or a mapping of one name to its arguments:
`env.wrappers=[FlattenObservation,{TimeLimit:{max_episode_steps:100}},my_module.Doubled]`. An argument `func` is the
import path of a function, `package.module.name`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import gymnasium

from rlnet.config import ConfigError, require

KEY = "env.wrappers"
ALLOWED = "must be names of wrappers, each by itself or as {NAME: {argument: value}}"
# By name, why not.
REFUSED = {
    "NormalizeObservation": "its statistics would be those of each copy alone; use network.normalize_observations=true",
    "NormalizeReward": "its statistics would be those of each copy alone; use network.normalize_returns=true",
    "Autoreset": "it hides where episodes end",
}


class Wrapping(NamedTuple):
    """One wrapper."""

    name: str  # of a class of gymnasium.wrappers, or module.Name
    arguments: Mapping[str, Any]

    @property
    def is_foreign(self) -> bool:
        """Whether code of others is imported for it."""
        return "." in self.name or "func" in self.arguments

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
        require(name not in REFUSED, KEY, name, REFUSED.get(name, ""))
        known = isinstance(getattr(gymnasium.wrappers, name, None), type) or _is_path(name)
        names = ", ".join(sorted(n for n in gymnasium.wrappers.__all__ if n not in REFUSED and n != "vector"))
        require(known, KEY, name, f"is no wrapper of Gymnasium, nor module.Name of one; there are {names}")
        func = arguments.get("func", "a.b")
        require(isinstance(func, str) and _is_path(func), KEY, item, "its func must be module.name of a function")
        found.append(Wrapping(name, dict(arguments)))
    return found


def _is_path(name: str) -> bool:
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def wrapped(env: gymnasium.Env, wrappers: Sequence[Any]) -> gymnasium.Env:
    """The environment inside its wrappers.

    Raises:
        ConfigError: one cannot be imported, or refuses its arguments or the environment.
    """
    for one in parsed(wrappers):
        arguments = {key: _imported(value) if key == "func" else value for key, value in one.arguments.items()}
        kind = _imported(one.name) if "." in one.name else getattr(gymnasium.wrappers, one.name)
        try:
            env = kind(env, **arguments)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"{KEY}: {one} cannot be put around {env}: {said}") from error
        require(isinstance(env, gymnasium.Env), KEY, one, f"must return an environment, not {type(env).__name__}")
    return env


def _imported(path: str) -> Any:
    """What `module.name` names."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        raise ConfigError(f"{KEY}={path}: cannot be imported ({type(error).__name__}: {error})") from error
    require(callable(found), KEY, path, "must be a class or a function")
    return found
