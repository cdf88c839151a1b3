"""Registries of environments, algorithms and schedules, and the decorators that add to them.

A plugin is a Python module that uses these decorators. It is named on the command line (`rlnet.config.plugins`), or
installed with an entry point of the group `rlnet.environments` or `rlnet.algorithms`:
`two_doors = my_package.envs:TwoDoors`, whose name is the one that is registered. An installed plugin is imported when
its name is asked for, and not before.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, dataclass_transform

from rlnet.config.environments import EnvConfig
from rlnet.config.hydra_versions import store
from rlnet.config.schemas import ALGO_SCHEMAS, AlgoConfig, ScheduleConfig
from rlnet.config.settings import CONFIGS, ConfigError

_log = logging.getLogger(__name__)

Entry = TypeVar("Entry")
EnvClass = TypeVar("EnvClass", bound=type[EnvConfig])
Record = TypeVar("Record")
ScheduleFunction = TypeVar("ScheduleFunction", bound=Callable[..., Any])


class Registry(Generic[Entry]):
    """A registry: entries by name, including those of plugins.

    Args:
        key: of the config, for messages: "env.kind", "algo" or "schedule".
        packages: the packages whose modules register our own entries; they are imported when they are first needed.
        group: of the configs, `configs/GROUP/`.
        advice: what a plugin has to do so that a name is registered, for messages.
    """

    def __init__(self, key: str, packages: tuple[str, ...], group: str, advice: str = "") -> None:
        self._key, self._packages, self._group, self._advice = key, packages, group, advice
        self._entries: dict[str, Entry] = {}
        self._sources: dict[str, str] = {}  # the module that registered each
        self._faults: dict[str, str] = {}  # entry point → why it cannot be used, in half a sentence

    @cached_property
    def _points(self) -> list[EntryPoint]:
        """The entry points of installed plugins."""
        groups = {"env": "rlnet.environments", "algo": "rlnet.algorithms"}
        return list(entry_points(group=groups[self._group])) if self._group in groups else []

    def add(self, name: str, entry: Entry, source: str) -> None:
        """Register an entry; a module that is imported again may register its own again.

        Raises:
            ConfigError: another module has registered the name, or a config of rlnet has it.
        """
        known = self._sources.get(name, source)
        if known == source and not _is_ours(source) and has_file(self._group, name):
            known = "rlnet"
        if known != source:
            raise ConfigError(f"{self._key}={name}: is registered by {known} and by {source}; rename one of them")
        self._entries[name], self._sources[name] = entry, source

    def known(self) -> list[str]:
        """The names registered so far, without importing more."""
        return sorted(self._entries)

    def names(self) -> list[str]:
        """All names, including those of installed plugins."""
        self.complete()
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of this name; an installed plugin that should have it is imported.

        Raises:
            ConfigError: that plugin cannot be used.
        """
        if name not in self._entries:
            self.ours()
        if name not in self._entries:
            self._import_installed(name)
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            ConfigError: there is none, or the installed plugin that should have it cannot be used.
        """
        if name not in self:
            raise ConfigError(f"{self._key}={name}: allowed are {', '.join(self.names()) or 'none'}{self.faults()}")
        return self._entries[name]

    def ours(self) -> None:
        """Import the modules of rlnet that register entries."""
        packages, self._packages = self._packages, ()
        for package in packages:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                importlib.import_module(f"{package}.{module.name}")

    def complete(self) -> None:
        """Import all modules that register entries; `faults` lists installed plugins that cannot be used."""
        self.ours()
        for point in self._points:
            self._load(point)

    def faults(self) -> str:
        """A clause about installed plugins that could not be imported, to be appended to a sentence; else empty."""
        return "".join(f"; {point} {fault}" for point, fault in self._faults.items())

    def warn_of_shadowed(self, name: str) -> None:
        """Warn of installed plugins whose name is taken by another entry."""
        for point in self._points:
            module = self._sources.get(name, "rlnet" if has_file(self._group, name) else point.module)
            if point.name == name and not _within(module, point.module):
                _log.warning("%s=%s is defined by %s; %s is ignored", self._group, name, module, _described(point))

    def _import_installed(self, name: str) -> None:
        """Import the installed plugins that may register a name: the one that says so, or else all."""
        named = [point for point in self._points if point.name == name]
        if len(named) > 1:
            both = " and ".join(map(_described, named))
            raise ConfigError(f"{self._group}={name}: is defined by {both}; uninstall one of them")
        for point in named:
            self._load(point)
            fault = self._faults.get(_described(point))
            if fault is None and name not in self._entries:
                fault = f"registers nothing of this name: {self._advice.format(name=name)}"
            if fault is not None:
                raise ConfigError(f"{self._group}={name}: {_described(point)} {fault}")
        if not named:
            self.complete()

    def _load(self, point: EntryPoint) -> None:
        """Import an entry point; an error is kept for `faults`."""
        try:
            point.load()
        except ConfigError as error:
            fault = f"cannot be used: {error}"
        except Exception as error:  # noqa: BLE001 (a plugin may raise anything; `faults` tells it)
            said = " ".join(str(error).split())
            fault = f"cannot be imported: {type(error).__name__}" + (f": {said}" if said else "")
        else:
            registered = any(_within(source, point.module) for source in self._sources.values())
            if registered or point.name in self._entries:
                return
            fault = f"registers nothing: {self._advice.format(name=point.name)}"
        self._faults[_described(point)] = fault


def _is_ours(module: str) -> bool:
    return _within(module, "rlnet")


def _within(module: str, package: str) -> bool:
    """Whether a module is a package or a part of it."""
    return module == package or module.startswith(f"{package}.")


def has_file(group: str, name: str) -> bool:
    """Whether a config of rlnet has this name."""
    return (CONFIGS / group / f"{name}.yaml").is_file()


def _described(point: EntryPoint) -> str:
    """An entry point and its package, for messages."""
    package = "a package without a name" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"the entry point '{point.name} = {point.value}' of {package}"


@dataclass(frozen=True)
class RegisteredAlgorithm(Generic[Record]):
    """A registered algorithm: its factory, and for a plugin the defaults of its config."""

    make: Callable[[], Record]
    settings: type[AlgoConfig]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    exploration: str = "epsilon_greedy"


@dataclass(frozen=True)
class RegisteredSchedule:
    """A registered schedule: its function and the class of its settings."""

    function: Callable[..., Any]
    settings: type[ScheduleConfig]


ENVIRONMENTS: Registry[type[EnvConfig]] = Registry(
    "env.kind",
    ("rlnet.envs", "rlnet.envs.tabular", "rlnet.envs.control", "rlnet.envs.tokens", "rlnet.envs.boards"),
    "env",
    'decorate the class of its settings with @register_environment("{name}")',
)
ALGORITHMS: Registry[RegisteredAlgorithm] = Registry(
    "algo", (), "algo", 'decorate the function that returns its record with @register_algorithm("{name}")'
)
SCHEDULES: Registry[RegisteredSchedule] = Registry("schedule", ("rlnet.policies",), "schedule")


@dataclass_transform(kw_only_default=False)
def register_environment(kind: str) -> Callable[[EnvClass], EnvClass]:
    """Class decorator that registers an environment; its settings become a dataclass with a `build` method.

    `env=KIND` then chooses it with the defaults of the class, unless a YAML of `configs/env/` has that name; the YAMLs
    there name presets of it.

    Args:
        kind: the name.

    Raises:
        ConfigError: another module has registered the name.
    """

    def register(cls: EnvClass) -> EnvClass:
        cls.__annotations__["kind"], cls.kind = str, kind
        settings = dataclass(cls)  # the class itself
        ENVIRONMENTS.add(kind, settings, cls.__module__)
        store(kind, settings, "schema/env")
        if not has_file("env", kind):
            store(kind, settings(name=kind), "env")
        return cls

    return register


def register_algorithm(
    name: str, settings: type[AlgoConfig] = AlgoConfig, exploration: str = "epsilon_greedy", **defaults: Any
) -> Callable[[Callable[[], Record]], Callable[[], Record]]:
    """Decorator that registers an algorithm: of a function without arguments that returns an `Algorithm`.

    `algo=NAME` then chooses it.

    Args:
        name: the name.
        settings: the class of its config: AlgoConfig, PredictionConfig, ReplayConfig or EpochsConfig.
        exploration: the default of `exploration=`; "none" for an algorithm with a policy of its own.
        defaults: the numbers of its config, such as `envs`, `rollout`, `hyper`.

    Raises:
        ConfigError: another module has registered the name, or a class of settings that is none of these.
    """
    if settings not in ALGO_SCHEMAS.values():
        allowed = ", ".join(schema.__name__ for schema in ALGO_SCHEMAS.values())
        raise ConfigError(f"algo={name}: its settings are {settings.__name__}; allowed are {allowed}")

    def register(make: Callable[[], Record]) -> Callable[[], Record]:
        ALGORITHMS.add(name, RegisteredAlgorithm(make, settings, defaults, exploration), make.__module__)
        schema = next(path for path, known in ALGO_SCHEMAS.items() if known is settings)
        lists: list[Any] = [f"/schema/{schema}@_here_"]
        if exploration != "epsilon_greedy":
            lists.append({"override /exploration@_global_.exploration": exploration})
        if schema == "algo/replay":
            lists.append({"/schedule@correction": "correction"})
        node = {"defaults": [*lists, "_self_"], "name": name, **defaults}
        store(name, node, "algo")
        return make

    return register


def register_schedule(name: str, settings: type[ScheduleConfig]) -> Callable[[ScheduleFunction], ScheduleFunction]:
    """Decorator that registers a schedule: of a pure function (settings, progress) → float [M, 1].

    Args:
        name: `schedule=NAME` chooses it.
        settings: the class of its numbers, as columns [M, 1].

    Raises:
        ConfigError: another module has registered the name.
    """

    def register(function: ScheduleFunction) -> ScheduleFunction:
        SCHEDULES.add(name, RegisteredSchedule(function, settings), function.__module__)
        if not _is_ours(function.__module__):
            store(name, settings(name=name), "schedule")
        return function

    return register
