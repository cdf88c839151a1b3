"""Base of all settings (attributes are set once), and the errors of bad input (they name the key)."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

PER_MEMBER = {"per_member": True}
# The folder of the YAML files: installed as data of the package, else in the source tree.
_PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")
CONFIGS = next((place for place in _PLACES if place.is_dir()), _PLACES[-1])


class ConfigError(ValueError):
    """Bad input. The message is one sentence that names the key, the value and what is allowed."""


class RunFailed(RuntimeError):
    """A run failed after it began. The message is one sentence that says why and what may help."""


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raise ConfigError 'key=value: allowed' unless `condition` holds (NaN never does)."""
    if not condition:
        raise ConfigError(f"{key}={value}: {allowed}")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"a.b": value}."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


class Settings:
    """Base of all config dataclasses: an attribute can be set once, by the constructor.

    `dataclass(frozen=True)` would say the same, but OmegaConf makes such schemas read-only for overrides too.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to {name!r}: settings do not change after validation")
        object.__setattr__(self, name, value)
