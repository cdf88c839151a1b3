"""Algorithms: one small file each, holding its loss or target and a record `ALGORITHM`."""

from importlib import import_module
from pkgutil import iter_modules

from rlnet.algos.algorithm import Algorithm
from rlnet.algos.context import AlgorithmContext
from rlnet.config import ALGORITHMS, ConfigError

__all__ = ["Algorithm", "AlgorithmContext", "load", "names"]


# Modules that algorithms share.
SHARED = (
    "algorithm",
    "context",
    "eligibility_traces",
    "kl_estimators",
    "loss_terms",
    "returns",
)


def ours() -> list[str]:
    """Names of the built-in algorithms: the files of this folder, without those in `SHARED`."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in SHARED)


def names() -> list[str]:
    """The names of all algorithms, including those of plugins."""
    return sorted({*ours(), *ALGORITHMS.names()})


def load(name: str) -> Algorithm:
    """Load the record of an algorithm by its name.

    Raises:
        ConfigError: there is none of this name, or the installed plugin that should have it cannot be used.
    """
    if name in ours():
        return import_module(f"rlnet.algos.{name}").ALGORITHM
    if name not in ALGORITHMS:
        raise ConfigError(f"algo={name}: allowed are {', '.join(names())}{ALGORITHMS.faults()}")
    return ALGORITHMS[name].make()
