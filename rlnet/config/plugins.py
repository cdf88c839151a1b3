"""Import of plugins: Python modules that register environments, algorithms or schedules.

They are those of `plugins=[my_module]` on the command line, and those that installed packages offer as entry points of
the groups `rlnet.environments` and `rlnet.algorithms`.
"""

from collections.abc import Iterable
from typing import Any

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlnet.config.import_paths import import_here
from rlnet.config.registry import ALGORITHMS, ENVIRONMENTS, Registry, has_file
from rlnet.config.settings import ConfigError


def import_plugin(module: str) -> None:
    """Import a module that registers environments, algorithms or schedules; the current folder is searched, too.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        import_here(module)
    except ConfigError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"plugins=[{module}]: cannot be imported from here or from sys.path: {reason}") from error


def import_plugins(modules: Iterable[str]) -> None:
    """`import_plugin` for each."""
    for module in modules:
        import_plugin(module)


def import_named(overrides: Iterable[str]) -> None:
    """Import the plugins that overrides name, before a config can be composed with them.

    These are the modules of `plugins=[...]`, and what is installed under the names of `env=` and `algo=`.

    Raises:
        ConfigError: one cannot be used.
    """
    given = [item.lstrip("+").partition("=")[::2] for item in overrides]
    if modules := [value for key, value in given if key == "plugins"]:
        import_plugins(_module_names(modules[-1]))
    for key, value in given:
        registries: dict[str, Registry[Any]] = {"env": ENVIRONMENTS, "algo": ALGORITHMS}
        registry = registries.get(key)
        if registry is None:
            continue
        for name in map(str.strip, value.split(",")):  # of a sweep: several
            if not has_file(key, name) and name not in registry and registry.faults():
                raise ConfigError(f"{key}={name}: there is none of this name{registry.faults()}")
            registry.warn_of_shadowed(name)


def _module_names(value: str) -> list[str]:
    """The modules of `plugins=VALUE`."""
    try:
        modules = OmegaConf.from_dotlist([f"plugins={value}"]).plugins
    except OmegaConfBaseException:
        modules = None
    if not isinstance(modules, ListConfig) or not all(isinstance(module, str) for module in modules):
        raise ConfigError(f"plugins={value}: must be a list of modules, such as plugins=[my_module]")
    return list(modules)
