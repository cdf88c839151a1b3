"""Settings of the simulator highway-env, `env.kwargs.config`: it ignores what it does not know."""

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import gymnasium

from rlnet.config import ConfigError

PACKAGE = "highway_env."


def with_tuples(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments; the shape of images, which the simulator joins to a tuple, as one. YAML has lists alone."""
    return {key: _with_tuples(key, value) for key, value in kwargs.items()}


def _with_tuples(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return with_tuples(value)
    if key == "observation_shape" and isinstance(value, list):
        return tuple(value)
    return [_with_tuples("", one) for one in value] if isinstance(value, list) else value


def check_settings(env: gymnasium.Env, kwargs: Mapping[str, Any]) -> None:
    """Raise ConfigError where a setting of the simulator, or of its observation or action, is none that it reads."""
    simulator: Any = env.unwrapped
    given = kwargs.get("config")
    if not type(simulator).__module__.startswith(PACKAGE) or not isinstance(given, Mapping):
        return
    key, name = "env.kwargs.config", env.spec.id if env.spec is not None else type(simulator).__name__
    code = "".join(_sources(type(simulator)))  # names of rewards stand there, and in no default
    known = simulator.default_config()
    _check(key, [one for one in given if f'"{one}"' not in code], known, name)
    for part in ("observation", "action"):
        own = given.get(part)
        if isinstance(own, Mapping):
            kind = type(getattr(simulator, f"{part}_type"))
            makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
            taken = {name for maker in makers for name in inspect.signature(maker).parameters}
            taken = taken - {"self", "env", "args", "kwargs"} | {"type"}
            _check(f"{key}.{part}", own, taken, str(own.get("type", kind.__name__)))


def _check(key: str, given: Collection[str], known: Collection[str], name: str) -> None:
    for one in given:
        if one not in known:
            near = get_close_matches(str(one), known, 1) or sorted(known)
            raise ConfigError(f"{key}.{one}: {name} has no such setting; use {', '.join(near)}")


def _sources(kind: type) -> Iterator[str]:
    """Source text of the modules of the simulator's classes."""
    for base in kind.__mro__:
        if base.__module__.startswith(PACKAGE):
            yield inspect.getsource(sys.modules[base.__module__])
