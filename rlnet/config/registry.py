"""What a config can name: environments, algorithms and schedules, ours and those of plugins.

A plugin is a Python module that uses the decorators of this file. It is named on the command line
(`plugins=[my_module]`), or installed with an entry point of the group `rlnet.environments` or `rlnet.algorithms`.
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, dataclass_transform

from hydra.core.config_store import ConfigStore

from rlnet.config.environments import EnvConfig
from rlnet.config.learning import ALGO_SCHEMAS, AlgoConfig, ScheduleConfig
from rlnet.config.settings import ConfigError

Entry = TypeVar("Entry")
EnvClass = TypeVar("EnvClass", bound=type[EnvConfig])
Record = TypeVar("Record")
ScheduleFunction = TypeVar("ScheduleFunction", bound=Callable[..., Any])


class Registry(Generic[Entry]):
    """Entries by name, those of plugins among them.

    Args:
        key: of the config, for messages: "env.kind", "algo" or "schedule".
        packages: the packages whose modules register our own entries; they are imported when they are first needed.
        group: of the entry points of installed plugins; None: there are none.
    """

    def __init__(self, key: str, packages: tuple[str, ...], group: str | None = None) -> None:
        self._key, self._packages, self._group = key, packages, group
        self._entries: dict[str, Entry] = {}
        self._sources: dict[str, str] = {}  # the module that registered each

    def add(self, name: str, entry: Entry, source: str) -> None:
        """Register an entry; a module that is imported anew may register its own again.

        Raises:
            ConfigError: another module has registered the name.
        """
        known = self._sources.get(name, source)
        if known != source:
            raise ConfigError(f"{self._key}={name}: is registered by {known} and by {source}; rename one of them")
        self._entries[name], self._sources[name] = entry, source

    def known(self) -> list[str]:
        """The names registered so far, without importing more."""
        return sorted(self._entries)

    def names(self) -> list[str]:
        """All names, those of installed plugins among them."""
        self.complete()
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        if name not in self._entries:
            self.complete()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self:
            raise ConfigError(f"{self._key}={name}: allowed are {', '.join(self.names()) or 'none'}")
        return self._entries[name]

    def ours(self) -> None:
        """Import the modules of rlnet that register entries."""
        packages, self._packages = self._packages, ()
        for package in packages:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                importlib.import_module(f"{package}.{module.name}")

    def complete(self) -> None:
        """Import all modules that register entries, those of installed plugins among them."""
        self.ours()
        group, self._group = self._group, None
        for point in entry_points(group=group) if group else ():
            import_plugin(point.module)


@dataclass(frozen=True)
class RegisteredAlgorithm(Generic[Record]):
    """An algorithm: how its record is made, and for a plugin the numbers of its config."""

    make: Callable[[], Record]
    settings: type[AlgoConfig]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    exploration: str = "epsilon_greedy"


@dataclass(frozen=True)
class RegisteredSchedule:
    """A schedule: its function, and the class of its numbers."""

    function: Callable[..., Any]
    settings: type[ScheduleConfig]


ENVIRONMENTS: Registry[type[EnvConfig]] = Registry(
    "env.kind", ("rlnet.envs", "rlnet.envs.tabular", "rlnet.envs.control"), "rlnet.environments"
)
ALGORITHMS: Registry[RegisteredAlgorithm] = Registry("algo", (), "rlnet.algorithms")
SCHEDULES: Registry[RegisteredSchedule] = Registry("schedule", ("rlnet.policies",))


@dataclass_transform(kw_only_default=False)
def register_environment(kind: str) -> Callable[[EnvClass], EnvClass]:
    """Decorator of the settings of an environment, which becomes a dataclass with a `build` method.

    `env=KIND` then chooses it with the defaults of the class; a YAML of `configs/env/` may name a preset of it.

    Args:
        kind: the name.

    Raises:
        ConfigError: another module has registered the name.
    """

    def register(cls: EnvClass) -> EnvClass:
        cls.__annotations__["kind"], cls.kind = str, kind
        settings = dataclass(cls)  # the class itself
        ENVIRONMENTS.add(kind, settings, cls.__module__)
        store = ConfigStore.instance()
        store.store(group="schema/env", name=kind, node=settings)
        if not cls.__module__.startswith("rlnet."):
            store.store(group="env", name=kind, node=settings(name=kind))
        return cls

    return register


def register_algorithm(
    name: str, settings: type[AlgoConfig] = AlgoConfig, exploration: str = "epsilon_greedy", **defaults: Any
) -> Callable[[Callable[[], Record]], Callable[[], Record]]:
    """Decorator of a function without arguments that returns an `Algorithm`.

    `algo=NAME` then chooses it.

    Args:
        name: the name.
        settings: the class of its config: AlgoConfig, PredictionConfig, ReplayConfig or EpochsConfig.
        exploration: the default of `exploration=`; "none" for an algorithm with a policy of its own.
        defaults: the numbers of its config, such as `envs`, `rollout`, `hyper`.

    Raises:
        ConfigError: another module has registered the name.
    """

    def register(make: Callable[[], Record]) -> Callable[[], Record]:
        ALGORITHMS.add(name, RegisteredAlgorithm(make, settings, defaults, exploration), make.__module__)
        schema = next(path for path, known in ALGO_SCHEMAS.items() if known is settings)
        lists: list[Any] = [f"/schema/{schema}@_here_"]
        if exploration != "epsilon_greedy":
            lists.append({"override /exploration@_global_.exploration": exploration})
        if schema == "algo/replay":
            lists.append({"/schedule@correction": "correction"})
        node = {"defaults": [*lists, "_self_"], "name": name, **defaults}
        ConfigStore.instance().store(group="algo", name=name, node=node)
        return make

    return register


def register_schedule(name: str, settings: type[ScheduleConfig]) -> Callable[[ScheduleFunction], ScheduleFunction]:
    """Decorator of a pure function (settings, progress) → float [M, 1].

    Args:
        name: `schedule=NAME` chooses it.
        settings: the class of its numbers, as columns [M, 1].

    Raises:
        ConfigError: another module has registered the name.
    """

    def register(function: ScheduleFunction) -> ScheduleFunction:
        SCHEDULES.add(name, RegisteredSchedule(function, settings), function.__module__)
        if not function.__module__.startswith("rlnet."):
            ConfigStore.instance().store(group="schedule", name=name, node=settings(name=name))
        return function

    return register


def import_plugin(module: str) -> None:
    """Import a module that registers environments, algorithms or schedules; the current folder is searched, too.

    Raises:
        ConfigError: it cannot be imported.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except ConfigError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"plugins=[{module}]: cannot be imported from here or from sys.path: {reason}") from error


def import_plugins(modules: Iterable[str]) -> None:
    """`import_plugin` for each."""
    for module in modules:
        import_plugin(module)
