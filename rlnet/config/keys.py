"""The keys of a composed config: those of its schemas, all of them and no others."""

import difflib
from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, OmegaConf

from rlnet.config.settings import ConfigError


def check_keys(node: DictConfig, prefix: str = "") -> None:
    """Check that no key was added to a group of settings by `+KEY=VALUE`, and none removed by `~KEY`.

    Args:
        node: the composed config, or a group in it.
        prefix: of the names of its keys, such as `env.`.

    Raises:
        ConfigError: the first key that its schema does not know, or that is not there.
    """
    schema = OmegaConf.get_type(node)
    if is_dataclass(schema):
        known, there = {item.name for item in fields(schema)}, {str(key) for key in node}
        for key in sorted(there - known):
            close = difflib.get_close_matches(key, known, n=1)
            said = f"did you mean {prefix}{close[0]}?" if close else f"allowed here are {', '.join(sorted(known))}"
            raise ConfigError(f"{prefix}{key}: there is no such key; {said}")
        for key in sorted(known - there):
            raise ConfigError(f"{prefix}{key}: has no value; leave out ~{prefix}{key}")
    for name, value in node.items_ex(resolve=False):
        if isinstance(value, DictConfig) and not (value._is_none() or value._is_missing() or value._is_interpolation()):
            check_keys(value, f"{prefix}{name!s}.")
