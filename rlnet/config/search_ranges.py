"""Ranges of the hyperparameters that a search varies, and the check of its settings."""

import math
from dataclasses import dataclass
from typing import Any

from rlnet.config.jobs import Config
from rlnet.config.population import path_of, varied
from rlnet.config.search import DIRECTIONS, LESS, MORE, PRUNERS, SAMPLERS
from rlnet.config.settings import leaves, require


@dataclass(frozen=True)
class Range:
    """Search range of a hyperparameter."""

    low: float
    high: float
    log: bool  # on a logarithmic scale


def check_search(config: Config) -> dict[str, Range]:
    """Check the settings of a search; the ranges by full path of the key.

    Raises:
        ConfigError: a setting that cannot be used, a key that is no number of a run, or one that decides shapes.
    """
    own = config.search
    assert own is not None
    for key, value, names in (
        ("sampler", own.sampler, SAMPLERS),
        ("pruner", own.pruner, PRUNERS),
        ("direction", own.direction, (*DIRECTIONS, None)),
    ):
        require(value in names, f"search.{key}", value, f"allowed are {', '.join(str(x or 'null') for x in names)}")
    allowed = "more of it may be better or worse; say which by search.direction=maximize or search.direction=minimize"
    known = own.direction is not None or own.objective.startswith(MORE + LESS)
    require(known, "search.objective", own.objective, allowed)
    require(own.trials >= 1, "search.trials", own.trials, "must be at least 1")
    require(own.seed >= 0, "search.seed", own.seed, "must be a non-negative integer")
    allowed = "a search goes on by itself when it is started again with the same hydra.run.dir; leave resume= out"
    require(config.resume is None, "resume", config.resume, allowed)
    allowed = "must be one range or more, like search.space.learning_rate=[1e-4,1e-1,log]"
    require(bool(own.space), "search.space", dict(own.space), allowed)
    found: dict[str, Range] = {}
    for key, given in leaves(own.space).items():
        path = path_of(key, config, "search.space")
        require(path not in found, f"search.space.{key}", given, f"{path} has a range already")
        require(path not in varied(config), f"search.space.{key}", given, f"{path} is varied; leave one of both out")
        found[path] = _range(f"search.space.{key}", given)
    return found


def _range(key: str, given: Any) -> Range:
    allowed = "must be a range [low, high], or [low, high, log] for a logarithmic scale"
    good = isinstance(given, list) and (len(given) == 2 or (len(given) == 3 and given[2] == "log"))
    good = good and all(isinstance(x, int | float) and not isinstance(x, bool) for x in given[:2])
    require(good and all(math.isfinite(x) for x in given[:2]), key, given, allowed)
    low, high, log = float(given[0]), float(given[1]), len(given) == 3
    require(low < high, key, given, "the first number must be below the second")
    require(not log or low > 0, key, given, "a logarithmic scale needs numbers above 0")
    return Range(low, high, log)
