"""Base class of the settings of environments."""

from dataclasses import dataclass, fields
from re import compile as pattern
from typing import Any

from omegaconf import MISSING

from rlnet.config.settings import Settings, require

NAME = pattern(r"[A-Za-z0-9][\w.-]{0,99}")


@dataclass
class EnvConfig(Settings):
    """Base settings of an environment. Subclasses are registered by `register_environment`, and build themselves."""

    name: str = MISSING
    gamma: float = MISSING  # the discount of the setting in which the problem is usually stated
    max_episode_steps: int | None = None  # a time limit: truncates, never terminates
    kind: str = MISSING  # the name under which the class is registered

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""

    def title(self) -> str:
        """The setting, KEY=VALUE, by which a user knows this environment: it heads messages."""
        return f"env={self.name}"

    @property
    def label(self) -> str:
        """The value of `title`, for headings."""
        return self.title().partition("=")[2]

    def stepped(self) -> dict[str, Any]:
        """What decides the environment that is stepped: equal where two are the same, whatever they are called."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("name", "gamma")}

    def foreign_code(self) -> str | None:
        """The setting, KEY=VALUE, by which code of others would be imported; None where there is none."""
        return None

    def foreign_settings(self) -> list[str]:
        """All settings, KEY=VALUE, by which code of others would be imported."""
        foreign = self.foreign_code()
        return [] if foreign is None else [foreign]

    def outcomes(self) -> dict[str, float]:
        """A lower bound on the outcomes of the model, by the settings that decide it; {} where nothing grows."""
        return {}

    def build(self) -> Any:
        """The `rlnet.envs.Environment` that these settings describe."""
        raise TypeError(f"{type(self).__name__} has no method build(), which makes the environment")


def require_name(key: str, value: str) -> str:
    """The value; ConfigError where a file or folder should not be named after it: it could lead elsewhere."""
    allowed = "must be letters, digits and _ . - alone, a letter or digit first: files are named after it"
    require(NAME.fullmatch(str(value)) is not None, key, repr(value), allowed)
    return value


def check_env(env: EnvConfig) -> None:
    """Raise ConfigError where a number of an environment is out of range."""
    require_name("env.name", env.name)
    limit = env.max_episode_steps
    require(limit is None or limit >= 1, "env.max_episode_steps", limit, "must be at least 1, or null for no limit")
    env.check()
