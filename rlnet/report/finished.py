"""A finished run as its files tell it: what the report is made from."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from rlnet.config import Config, ConfigError
from rlnet.envs import make
from rlnet.mdp import FiniteMDP
from rlnet.validate import from_stored


@dataclass(frozen=True, eq=False)
class Finished:
    """A run's folder, read."""

    folder: Path
    config: Config
    overrides: list[str]  # of the command line
    rows: list[dict[str, str]] = field(repr=False)  # metrics.csv
    comparison: dict[str, Any] | None = field(repr=False)  # comparison.json; None without a finite model
    values: dict[str, np.ndarray] | None = field(repr=False)  # values.npz, likewise
    diagnosis: dict[str, Any] | None = field(repr=False)  # diagnosis.json, where somebody has asked for it

    @cached_property
    def mdp(self) -> FiniteMDP | None:
        return None if self.comparison is None else make(self.config.env).mdp

    @cached_property
    def shown(self) -> tuple[int, str]:
        """(member, score): whose states are drawn. Of those of the setting that comes nearest to its optimum, the one
        whose score is the median: the regret, or the error of V where all have the same regret."""
        grid = self.comparison["settings"]
        reached = [float(row["aggregate"]["exact/normalised_return"]["iqm"]) for row in grid]
        best = grid[int(np.argmax(np.nan_to_num(reached, nan=-np.inf)))]["settings"]
        members = [member for member in self.comparison["members"] if member["settings"] == best]
        for name in ("exact/regret", "exact/v_rmse"):
            scores = np.array([float(member["scores"].get(name, 0.0)) for member in members])
            if (scores != scores[0]).any():
                break
        return members[int(np.argsort(scores, kind="stable")[(len(scores) - 1) // 2])]["member"], name


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / ".hydra" / "config.yaml").is_file() and (folder / "metrics.csv").is_file()


def read_run(folder: Path) -> Finished:
    """A run's files.

    Raises:
        ConfigError: the folder is not that of a run that has logged something, or a file cannot be read.
    """
    config = from_stored(folder / ".hydra" / "config.yaml")
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        comparison, diagnosis = (_json(folder / f"{name}.json") for name in ("comparison", "diagnosis"))
        values = None
        if comparison is not None:
            with np.load(folder / "values.npz") as stored:
                values = dict(stored)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ConfigError(f"{folder}: its files cannot be read ({error})") from error
    if not rows:
        raise ConfigError(f"{folder}: its metrics.csv has no rows yet; the run has logged nothing")
    overrides = folder / ".hydra" / "overrides.yaml"
    return Finished(folder, config, _list(overrides), rows, comparison, values, diagnosis)


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _list(path: Path) -> list[str]:
    from omegaconf import OmegaConf

    return [str(item) for item in OmegaConf.load(path)] if path.is_file() else []
