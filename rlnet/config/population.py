"""Populations: the grid of settings `vary` × seeds, and the settings of each member.

`vary.gamma=[0.9,0.99] vary.learning_rate=[1e-4,3e-4] seeds=16` makes M = 2·2·16 members: the product of the lists, the
last one fastest, and all seeds of a setting together. Member m does what `alone(config, m)` would do.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config, ConfigError, Settings, leaves, require


def numbers(node: Settings, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Every setting below a config: its path, its value, and whether members may differ in it."""
    for item in fields(node):  # type: ignore[arg-type]  # every class of settings is a dataclass
        path, value = prefix + item.name, getattr(node, item.name)
        mine = item.metadata.get("per_member", False)
        if is_dataclass(value):
            yield from numbers(value, f"{path}.")  # type: ignore[arg-type]  # an instance: settings hold no classes
        elif isinstance(value, dict):
            yield from ((f"{path}.{key}", x, mine) for key, x in leaves(value).items())
        else:
            yield path, value, mine


def varied(config: Config) -> dict[str, list[float]]:
    """`config.vary` by full paths: {"optimizer.learning_rate": [...]}.

    A key is a path, or the end of one where only one setting ends like that (`learning_rate`).

    Raises:
        ConfigError: a key that is no setting, or one that all members must share, or values that are no numbers.
    """
    known = {path: mine for path, _, mine in numbers(replace(config, vary={}, search=None))}
    found: dict[str, list[float]] = {}
    for key, values in leaves(config.vary).items():
        path = _path(key, known, "vary")
        require(path not in found, f"vary.{key}", values, f"{path} is varied already")
        good = isinstance(values, list) and len(values) > 0
        good = good and all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
        require(good, f"vary.{key}", values, "must be a list of numbers, like [0.9, 0.99]")
        allowed = "holds a number twice; use seeds to repeat a setting"
        require(len(set(values)) == len(values), f"vary.{key}", values, allowed)
        found[path] = [float(x) for x in values]
    return found


def path_of(key: str, config: Config, group: str) -> str:
    """The full path of a PER_MEMBER number: of a path, or of the end of one where only one setting ends like that.

    Args:
        key: either of them.
        config: whose settings are meant.
        group: in which the key stands, for messages.

    Raises:
        ConfigError: it is no setting, or one that decides shapes or the course of the program.
    """
    return _path(key, {path: mine for path, _, mine in numbers(replace(config, vary={}, search=None))}, group)


def _path(key: str, known: dict[str, bool], group: str) -> str:
    matches = [path for path in known if path == key] or [path for path in known if path.endswith(f".{key}")]
    allowed = [path for path, mine in known.items() if mine]
    if not matches:
        close = difflib.get_close_matches(key, [*allowed, *(path.rpartition(".")[2] for path in allowed)], n=1)
        hint = f"did you mean {group}.{close[0]}?" if close else f"what can vary is {', '.join(allowed)}"
        raise ConfigError(f"{group}.{key}: there is no such setting; {hint}")
    mine = [path for path in matches if known[path]]
    if not mine:
        raise ConfigError(
            f"{group}.{key}: members of a population share it, because it decides shapes or the course of the program; "
            f"run one after the other instead: train with -m {matches[0]}=...,..."
        )
    if len(mine) > 1:
        raise ConfigError(f"{group}.{key}: could be {' or '.join(mine)}; write the whole path")
    return mine[0]


def settings(config: Config) -> list[dict[str, float]]:
    """The grid of varied settings, by path; `config.seeds` members share each. [{}] where nothing varies."""
    lists = varied(config)
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def constrained(config: Config) -> bool:
    """Whether a run has a chance constraint."""
    return config.constraint.limit is not None or "constraint.limit" in varied(config)


def member_settings(config: Config) -> list[dict[str, float]]:
    """The varied settings of each of the M members."""
    return [setting for setting in settings(config) for _ in range(config.seeds)]


def alone(config: Config, member: int) -> Config:
    """The config of a run with this member alone."""
    setting, seed = settings(config)[member // config.seeds], config.member_seeds[member]
    return with_setting(replace(config, vary={}, seeds=1, seed=seed), setting)


def each_setting(config: Config) -> list[Config]:
    """The config of a single run for each varied setting (that of its first member)."""
    shared = replace(config, vary={}, seeds=1)
    return [with_setting(shared, setting) for setting in settings(config)]


def with_setting(node: Any, setting: Mapping[str, float]) -> Any:
    """A copy of a config, or of a dict in it, with some numbers replaced."""
    changed: dict[str, Any] = {}
    for path, value in setting.items():
        name, _, rest = path.partition(".")
        inner = node[name] if isinstance(node, dict) else getattr(node, name)
        changed[name] = with_setting(changed.get(name, inner), {rest: value}) if rest else value
    return node | changed if isinstance(node, dict) else replace(node, **changed)


def most_parts(config: Config) -> int:
    """The largest number of populations that `split` can divide one into."""
    return max(_sides(config))


def _sides(config: Config) -> list[int]:
    """The lengths of the lists of `vary`, and the number of seeds: their product is M."""
    return [*(len(values) for values in varied(config).values()), config.seeds]


def split(config: Config, count: int) -> list[tuple[Config, list[int]]]:
    """Divide a population into `count` smaller ones: their configs, and the members that each holds.

    The seeds are shared out, or the longest list of `vary` where that is longer.
    """
    lists, sides = varied(config), _sides(config)
    axis = max(range(len(sides)), key=lambda k: (sides[k], k))
    numbering, parts = np.arange(len(config.member_seeds)).reshape(sides), []
    for own in np.array_split(np.arange(sides[axis]), count):
        if axis == len(lists):
            part = replace(config, seed=config.seed + int(own[0]), seeds=len(own), processes=1)
        else:
            key = list(lists)[axis]
            part = replace(config, vary=lists | {key: [lists[key][k] for k in own]}, processes=1)
        parts.append((part, numbering.take(own, axis).ravel().tolist()))
    return parts


def part_of(whole: Any, members: Sequence[int]) -> Any:
    """The part of a state (nested tensors [M, ...]) that belongs to some members; the inverse of `joined`."""
    if isinstance(whole, Mapping):
        return {name: part_of(value, members) for name, value in whole.items()}
    if isinstance(whole, list):
        return [whole[m] for m in members]
    return whole[members] if isinstance(whole, Tensor | np.ndarray) and whole.ndim else whole


def joined(parts: Sequence[Any], members: Sequence[Sequence[int]]) -> Any:
    """Join the states of parts of a population into the state of all members.

    In a state tensors and arrays have the members in front, and lists have one item for each; everything else,
    numbers without axes too, all members share.

    Args:
        parts: mappings, nested to any depth, of the same names.
        members: the numbers of the members of each part.
    """
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts], members) for name in first}
    order = np.argsort(np.concatenate(members))
    if isinstance(first, list):
        every = [item for part in parts for item in part]
        return [every[k] for k in order]
    if isinstance(first, Tensor) and first.ndim:
        return torch.cat(list(parts))[torch.from_numpy(order)]
    return np.concatenate(parts)[order] if isinstance(first, np.ndarray) and first.ndim else first


def column(config: Config, path: str, device: torch.device | str = "cpu") -> Tensor:
    """A setting as a column, one number per member: float32 [M, 1]."""
    own = varied(config)
    if path in own:
        values = [setting[path] for setting in member_settings(config)]
    else:
        value = next(value for name, value, _ in numbers(config) if name == path)
        values = [value] * len(config.member_seeds)
    return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(-1)


def columns(config: Config, group: str, device: torch.device | str = "cpu") -> Any:
    """A group of a config, e.g. "schedule", with its PER_MEMBER numbers as columns [M, 1]; None stays None."""
    node, own = config, varied(config)
    for name in group.split("."):
        node = getattr(node, name)
    changed: dict[str, Any] = {}
    for item in fields(node):
        value, path = getattr(node, item.name), f"{group}.{item.name}"
        if not item.metadata.get("per_member") or (value is None and path not in own):
            continue
        if isinstance(value, dict):
            changed[item.name] = {key: column(config, f"{path}.{key}", device) for key in value}
        else:
            changed[item.name] = column(config, path, device)
    return replace(node, **changed)
