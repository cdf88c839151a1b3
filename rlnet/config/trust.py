"""What the folder of a run may decide by itself, and what needs `trust=true`, because it would run code.

Code is run by importing a module that a config names (`network.target`, environments that are not of Gymnasium or
rlnet), by values that are computed (`${oc.env:...}` and other resolvers of OmegaConf), and by unpickling environments.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import gymnasium

from rlnet.config import Config, ConfigError, EnvConfig, GymnasiumConfig, ModuleConfig
from rlnet.config.files import REFERENCE, printable

HINT = "add trust=true if you trust this folder"
OWN = "rlnet/"  # before the ids of our environments
GYMNASIUM = "gymnasium.envs."  # before the modules of Gymnasium's
KEY = re.compile(r"(?:\+{0,2}|~)(\w[\w-]*(?:[./@]\w[\w-]*)*)")  # of an override; ~ takes a key away
OPTION = re.compile(r"\w*")  # of a group: a file of that name in its folder
GROUPS = ("env", "algo", "network", "exploration", "schedule", "optimizer", "tuned")
OF_THE_RUN = ("hydra", "resume", "trust")  # never taken over from a folder


def check_trusted(config: Config, source: str, given: Collection[str] = frozenset()) -> None:
    """Raise ConfigError where a config that comes from a folder would have code imported.

    Args:
        config: what was read.
        source: where from, as it begins the message.
        given: keys that the user has given, and so decided.
    """
    network, env = config.network, config.env
    if isinstance(network, ModuleConfig) and "network.target" not in given:
        raise ConfigError(f"{source}: network.target={printable(network.target)} would be imported; {HINT}")
    if isinstance(env, GymnasiumConfig) and "env.id" not in given and not _built_in(env):
        raise ConfigError(f"{source}: env.id={printable(env.id)} is an environment that others wrote; {HINT}")


def _built_in(env: EnvConfig) -> bool:
    """Whether an environment is of Gymnasium or rlnet; one that is unknown is refused where it is made."""
    if ":" in env.id:  # imports what stands before it
        return False
    if env.id.startswith(OWN):
        return True
    try:
        entry = gymnasium.spec(env.id).entry_point
    except gymnasium.error.Error:
        return True
    return isinstance(entry, str) and entry.startswith(GYMNASIUM)


def own_overrides(stored: Sequence[object], path: Path, trust: bool) -> list[str]:
    """The overrides that a run was started with, without what is about that start alone: its folder, resume, trust.

    Args:
        stored: as they stand in .hydra/overrides.yaml.
        path: that file, for messages.
        trust: whether values may be computed.

    Raises:
        ConfigError: one is no setting of a run.
    """
    kept = []
    for item in stored:
        key, equals, value = str(item).partition("=")
        found = KEY.fullmatch(key)
        shown = printable(str(item))[:200]
        if not isinstance(item, str) or found is None or not (equals or key.startswith("~")):
            raise ConfigError(f"{path}: {shown!r} is no setting of a run")
        name = re.split(r"[./@]", found.group(1))[0]
        if name in OF_THE_RUN:
            continue
        if name not in GROUPS and "/" in key:
            raise ConfigError(f"{path}: {shown!r} is no setting of a run")
        if (found.group(1) in GROUPS or "@" in key or "/" in key) and OPTION.fullmatch(value) is None:
            raise ConfigError(f"{path}: {shown!r} names no config of {name}")
        if not trust and "${" in REFERENCE.sub("", value):
            raise ConfigError(f"{path}: {shown!r} would be computed; {HINT}")
        kept.append(item)
    return kept
