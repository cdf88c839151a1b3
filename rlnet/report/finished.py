"""Reading the files of a run for its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import OmegaConf

from rlnet.compare.completions import Completions
from rlnet.compare.population import drawn
from rlnet.config import Config, ConfigError
from rlnet.config.files import check_values, read_json, read_rows, read_values, read_yaml, reading
from rlnet.config.stored import from_stored
from rlnet.envs import Board, Environment, make
from rlnet.experiment.evaluation_files import read_evaluation
from rlnet.mdp import FiniteMDP


@dataclass(frozen=True, eq=False)
class Finished:
    """The content of a run's folder."""

    folder: Path
    config: Config
    overrides: list[str]  # of the command line
    rows: list[dict[str, str]] = field(repr=False)  # metrics.csv
    comparison: dict[str, Any] | None = field(repr=False)  # comparison.json; None without a finite model
    values: dict[str, np.ndarray] = field(repr=False)  # values.npz; {} without a finite model
    diagnosis: dict[str, Any] | None = field(repr=False)  # diagnosis.json, where somebody has asked for it
    # evaluation.json and the arrays of evaluation.npz; None where the run was not evaluated.
    evaluation: tuple[dict[str, Any], dict[str, np.ndarray]] | None = field(repr=False)
    _known: Environment | None = field(default=None, repr=False)  # of the config, where it need not be built again

    @cached_property
    def _environment(self) -> Environment:
        return self._known or make(self.config.env)

    @cached_property
    def step(self) -> int:
        """The last step that was logged."""
        return max(int(row["step"]) for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether the run is complete: otherwise it cannot be compared with others."""
        judged = self.comparison is not None or not any(name.startswith("exact/") for name in self.rows[0])
        return self.step >= self.config.steps and judged

    @property
    def judged(self) -> dict[str, Any]:
        """`comparison`; ConfigError where there is none."""
        if self.comparison is None:
            raise ConfigError(f"{self.folder}: holds no comparison.json: there is no finite model")
        return self.comparison

    @cached_property
    def mdp(self) -> FiniteMDP:
        """The finite model that the run was compared with; ConfigError where there is none."""
        mdp, path = self._environment.mdp, self.folder / "values.npz"
        if mdp is None:
            raise ConfigError(f"{path}: {self.config.env.title()} has no finite model, so it has no exact values")
        check_values(path, self.values, len(self.config.member_seeds), mdp.n_states, mdp.n_actions)
        return mdp

    @property
    def board(self) -> Board | None:
        """The rules of a board game; None in other environments."""
        return self._environment.board

    @property
    def drawing(self) -> Callable[[str], Any] | None:
        """What draws the states of a road or a track, by render mode; None in other environments."""
        return self._environment.drawing

    @cached_property
    def completions(self) -> Completions | None:
        """What is exact about policies that write texts; None in other environments."""
        environment = None if self.comparison is None else self._environment
        if environment is None or environment.tokens is None:
            return None
        reference = self.values.get("pi_reference")
        logs = None if reference is None else np.log(np.maximum(reference, 1e-300))
        return Completions(self.mdp, environment.tokens.shape, logs, environment.true_reward)

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The member whose states are drawn: see `rlnet.compare.population.drawn`."""
        stored = self.judged
        return stored.get("drawn") or drawn(stored["members"], stored["settings"])


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / ".hydra" / "config.yaml").is_file() and (folder / "metrics.csv").is_file()


def has_rows(folder: Path) -> bool:
    """Whether a run has logged something yet."""
    with (folder / "metrics.csv").open("rb") as file:
        return len(file.readline()) > 0 and len(file.readline()) > 0


def read_run(folder: Path, trust: bool = False, environment: Environment | None = None) -> Finished:
    """Read the files of a run.

    Args:
        folder: of the run.
        trust: whether its config may have code run: see `rlnet.config.trust`.
        environment: the one that its config describes, where it need not be built again.

    Raises:
        ConfigError: the folder is not that of a run that has logged something, a file cannot be read, or the folder
            needs to be trusted.
    """
    config = from_stored(folder / ".hydra" / "config.yaml", trust)
    rows = read_rows(folder / "metrics.csv")
    comparison, diagnosis = (_json(folder / f"{name}.json") for name in ("comparison", "diagnosis"))
    values = {} if comparison is None else read_values(folder / "values.npz")
    if not rows:
        raise ConfigError(f"{folder}: its metrics.csv has no rows yet; the run has logged nothing")
    overrides = folder / ".hydra" / "overrides.yaml"
    evaluation = read_evaluation(folder, len(config.member_seeds))
    return Finished(folder, config, _list(overrides), rows, comparison, values, diagnosis, evaluation, environment)


def _json(path: Path) -> dict[str, Any] | None:
    content = read_json(path) if path.exists() else None
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: holds a {type(content).__name__}, not what a run writes there")
    return content


def _list(path: Path) -> list[str]:
    if not path.exists():
        return []
    with reading(path):
        return [str(item) for item in cast(list[Any], OmegaConf.to_container(read_yaml(path, computed=True)))]
