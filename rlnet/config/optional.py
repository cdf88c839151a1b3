"""Packages that only an extra of rlnet installs, and the loggers that some of them are for."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rlnet.config.settings import ConfigError

LOGGERS = ("tensorboard", "wandb", "mlflow")


def chosen(logger: Any) -> list[str]:
    """The names in `logger=`: one of `LOGGERS`, a list of them, or none.

    Raises:
        ConfigError: another name.
    """
    several = isinstance(logger, Sequence) and not isinstance(logger, str)
    names = [str(name) for name in (logger if several else [logger])]
    if names in (["none"], ["None"]):
        return []
    if set(names) - set(LOGGERS) or len(set(names)) < len(names):
        raise ConfigError(f"logger={logger}: must be {', '.join(LOGGERS)}, none, or a list like [tensorboard,mlflow]")
    return names


def needed(module: str, extra: str, what: str) -> Any:
    """Import a module of a package that is installed only with an extra.

    Args:
        module: its name.
        extra: of rlnet.
        what: asks for it, as it begins the message.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        said = f"{what} needs {package}, which is not installed: pip install 'rlnet[{extra}]'"
        raise ConfigError(said if error.name == package else f"{what} needs {package}: {error}") from error
