"""Settings of a finished run, read back from its folder."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from rlnet.config.environments import require_name
from rlnet.config.files import check_folder, read_yaml, reading
from rlnet.config.jobs import SCHEMAS, Config
from rlnet.config.registry import ALGORITHMS, ENVIRONMENTS, SCHEDULES, has_file
from rlnet.config.settings import CONFIGS, ConfigError, require
from rlnet.config.trust import check_plugins, check_trusted
from rlnet.config.validation import from_hydra

_log = logging.getLogger(__name__)


def from_stored(path: Path, trust: bool = False) -> Config:
    """The checked config of a finished run, from its .hydra/config.yaml.

    The file holds plain values; the schema of a group is that of the name under which its choice is registered.

    Args:
        path: of the file.
        trust: whether the config may have code run: see `rlnet.config.trust`. It becomes the `trust` of the config,
            whatever the file says.

    Raises:
        ConfigError: there is no such file, it is not the config of a run, or it needs to be trusted.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file; name the folder of a run")
    check_folder(path.parent.parent)
    stored = read_yaml(path, computed=trust)
    with reading(path, "is not the config of a run"):
        check_plugins(stored.get("plugins"), str(path), trust)
        typed = OmegaConf.structured(Config)
        for group in ("env", "algo", "network", "exploration", "schedule", "optimizer"):
            if group not in stored:
                raise ConfigError(f"{path}: is not the config of a run: it has no {group}")
            if group == "env":
                require(
                    "kind" in stored.env, f"{path}: env.kind", "missing", "was written by an older version of rlnet"
                )
                typed.env = OmegaConf.structured(ENVIRONMENTS[stored.env.kind])
            else:
                typed[group] = OmegaConf.structured(_schema_of(stored[group], group))
        if "correction" in stored.algo:
            typed.algo.correction = OmegaConf.structured(_schema_of(stored.algo.correction, "schedule"))
        typed.optimizer.schedule = OmegaConf.structured(_schema_of(stored.optimizer.schedule, "schedule"))
        for key, value in later_settings(stored.algo).items():
            _log.warning("%s: was written before there was %s; it is taken to be %s", path, key, value)
            OmegaConf.update(stored, key, value)
        stored.trust = trust
        merged = OmegaConf.merge(typed, stored)
        assert isinstance(merged, DictConfig)
        config = from_hydra(merged)
    if not trust:
        check_trusted(config, str(path))
    return config


def later_settings(algo: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and choices of an algorithm that a stored run does not name, with the values of configs/algo/NAME.yaml:
    `algo.options.NAME` or `algo.hyper.NAME` → value.

    Other missing settings are fields with defaults in their schema.

    Args:
        algo: the stored group; not changed.
    """
    name = require_name("algo.name", algo["name"])
    if not has_file("algo", name):
        return {}
    content = read_yaml(CONFIGS / "algo" / f"{name}.yaml")
    own = content.get("algo", content)
    return {
        f"algo.{part}.{key}": value
        for part in ("hyper", "options")
        for key, value in own.get(part, {}).items()
        if key not in algo.get(part, {})
    }


def differences(config: Config, stored: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which a config differs from that of a run: (name, value of the config, value of the run).

    A setting that the run does not name has its default: see `later_settings`.

    Args:
        config: as it is.
        stored: of the run, as dictionaries.
    """
    later = later_settings(stored["algo"])

    def below(name: str, now: Any, before: Any) -> Iterator[tuple[str, Any, Any]]:
        if isinstance(now, Mapping) and isinstance(before, Mapping):
            for key in dict.fromkeys((*now, *before)):
                own = f"{name}.{key}"
                yield from below(own, now.get(key), before.get(key, later.get(own, now.get(key))))
        elif now != before:
            yield name, now, before

    for key, value in asdict(config).items():
        yield from below(key, value, stored.get(key, value))


def _schema_of(node: DictConfig, group: str) -> type:
    """The schema of the choice that a group of settings holds, by its registered name.

    Raises:
        ConfigError: nothing is registered under this name.
    """
    name = require_name(f"{group}.name", node.name)
    if has_file(group, name):  # one of ours, whose YAML begins with its schema
        listed = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8"))["defaults"][0]
        return SCHEMAS[listed.removeprefix("/schema/").partition("@")[0]]
    plugins: dict[str, Any] = {"algo": ALGORITHMS, "schedule": SCHEDULES}
    if group not in plugins:
        raise ConfigError(f"{group}={name}: there is none of this name")
    return plugins[group][name].settings
