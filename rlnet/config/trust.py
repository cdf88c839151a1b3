"""Trust in the folders of others: what would run code needs `trust=true`.

Code is run by importing a module that a config names (`network.target`, environments that are not of Gymnasium or
rlnet), by values that are computed (`${oc.env:...}` and other resolvers of OmegaConf), and by unpickling environments.
"""

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import ListConfig

from rlnet.config import Config, ConfigError, ModuleConfig, import_plugins
from rlnet.config.files import REFERENCE, printable

HINT = "add trust=true if you trust this folder"
KEY = re.compile(r"(?:\+{0,2}|~)(\w[\w-]*(?:[./@]\w[\w-]*)*)")  # of an override; ~ takes a key away
OPTION = re.compile(r"\w*")  # of a group: a file of that name in its folder
GROUPS = ("env", "algo", "network", "exploration", "schedule", "optimizer", "tuned")
OF_THE_RUN = ("hydra", "resume", "trust", "search")  # never taken over from a folder


def check_trusted(config: Config, source: str, given: Collection[str] = frozenset()) -> None:
    """Raise ConfigError if a config from an untrusted folder would import code.

    Args:
        config: what was read.
        source: where from, as it begins the message.
        given: keys that the user has given, and so decided.
    """
    network, env = config.network, config.env
    if isinstance(network, ModuleConfig) and "network.target" not in given:
        raise ConfigError(f"{source}: network.target={printable(network.target)} would be imported; {HINT}")
    path = config.algo.options.get("loss")  # of algo=completion_loss
    if path is not None and "algo.options.loss" not in given and not str(path).startswith("rlnet."):
        raise ConfigError(f"{source}: algo.options.loss={printable(str(path))} would be imported; {HINT}")
    for foreign in env.foreign_settings():
        if foreign.partition("=")[0] not in given:
            raise ConfigError(f"{source}: {printable(foreign)} is an environment that others wrote; {HINT}")


def check_plugins(plugins: object, source: str, trust: bool) -> None:
    """Import the plugins that a trusted folder names; ConfigError if it is not trusted, or one is missing."""
    modules = [str(module) for module in plugins] if isinstance(plugins, Sequence | ListConfig) else []
    unknown = [module for module in modules if module not in sys.modules]
    if unknown and not trust:
        raise ConfigError(f"{source}: plugins=[{printable(unknown[0])}] would be imported; {HINT}")
    import_plugins(modules)


def own_overrides(stored: Sequence[object], path: Path, trust: bool) -> list[str]:
    """The overrides that a run was started with, without what is about that start alone: its folder, resume, trust.

    Args:
        stored: as they stand in .hydra/overrides.yaml.
        path: that file, for messages.
        trust: whether values may be computed.

    Raises:
        ConfigError: one is not a setting of a run.
    """
    kept = []
    for item in stored:
        key, equals, value = str(item).partition("=")
        found = KEY.fullmatch(key)
        shown = printable(str(item))[:200]
        if not isinstance(item, str) or found is None or not (equals or key.startswith("~")):
            raise ConfigError(f"{path}: {shown!r} is not a setting of a run")
        name = re.split(r"[./@]", found.group(1))[0]
        if name in OF_THE_RUN:
            continue
        if name == "plugins" and not trust:
            raise ConfigError(f"{path}: {shown!r} would be imported; {HINT}, or give plugins=[...] yourself")
        if name not in GROUPS and "/" in key:
            raise ConfigError(f"{path}: {shown!r} is not a setting of a run")
        if (found.group(1) in GROUPS or "@" in key or "/" in key) and OPTION.fullmatch(value) is None:
            raise ConfigError(f"{path}: {shown!r} names no config of {name}")
        if not trust and "${" in REFERENCE.sub("", value):
            raise ConfigError(f"{path}: {shown!r} would be evaluated; {HINT}")
        kept.append(item)
    return kept
