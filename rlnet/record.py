"""The files that a run leaves: metrics.csv, TensorBoard events, values.npz, comparison.json, checkpoint.pt."""

import csv
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import OmegaConf

from rlnet.config import Config, ConfigError, leaves
from rlnet.members import each_setting, member_settings, settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = Mapping[str, np.ndarray]  # scalar name → [M]


class Record:
    """Writes rows of scalars to metrics.csv and to TensorBoard.

    Args:
        folder: where to; must not hold a run yet.
        config: of the run; written beside the rest where Hydra has not done so.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        if (folder / "metrics.csv").exists():
            raise ConfigError(f"hydra.run.dir={folder}: already holds a run; choose a folder without one")
        self.folder, self._config = folder, config
        self._own = [  # what tells the members apart: the first cells of their rows
            {"member": m, "seed": seed, **setting}
            for m, (seed, setting) in enumerate(zip(config.member_seeds, member_settings(config), strict=True))
        ]
        stored = folder / ".hydra" / "config.yaml"
        if not stored.exists():
            stored.parent.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(OmegaConf.create(asdict(config)), stored)
        self._file = (folder / "metrics.csv").open("w", newline="", encoding="utf-8")
        self._csv: csv.DictWriter | None = None

    @cached_property
    def _board(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter  # takes a moment to import: the first update need not wait

        return SummaryWriter(str(self.folder), flush_secs=10)

    def row(self, steps: np.ndarray, scalars: Row) -> None:
        """One row per member to metrics.csv, and the mean over members to TensorBoard.

        Args:
            steps: [M], environment steps of each member so far.
            scalars: [M] each; not finite where there is nothing to say. The first row decides the columns.
        """
        if self._csv is None:
            self._csv = csv.DictWriter(self._file, ["step", *self._own[0], *scalars], restval="")
            self._csv.writeheader()
        for m, own in enumerate(self._own):
            cells = {name: _cell(values[m]) for name, values in scalars.items()}
            self._csv.writerow({"step": int(steps[m]), **own, **cells})
        self._file.flush()
        for name, values in scalars.items():
            finite = values[np.isfinite(values)]
            if len(finite):
                self._board.add_scalar(name, float(finite.mean()), int(steps.max()))

    def replay(self, path: Path, until: int) -> None:
        """Begin with the rows of another run's metrics.csv up to a step: what a resumed run had done before."""
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= until]
        for first in range(0, len(rows), len(self._own)):
            group = rows[first : first + len(self._own)]
            names = [name for name in group[0] if name != "step" and name not in self._own[0]]
            scalars = {name: np.array([float(row[name] or "nan") for row in group]) for name in names}
            self.row(np.array([int(row["step"]) for row in group]), scalars)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture [H, W, 3] uint8 to TensorBoard."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def hparams(self, results: Row) -> None:
        """The settings of the run and its final numbers, means over seeds, for TensorBoard's table of runs.

        Where settings differ between members, each setting is a run of its own there, in a folder below this one.
        """
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        grid, seeds = settings(self._config), self._config.seeds
        for k, (setting, alone) in enumerate(zip(grid, each_setting(self._config), strict=True)):
            means = {f"final/{name}": float(np.mean(values[k * seeds :][:seeds])) for name, values in results.items()}
            finite = {name: value for name, value in means.items() if math.isfinite(value)}
            name = ",".join(f"{key}={value:g}" for key, value in setting.items())
            board = SummaryWriter(str(self.folder / "settings" / name)) if setting else self._board
            shown = {"resume": None, "vary": {}, "seeds": seeds}
            for summary in hparams(flat({**asdict(alone), **shown}), finite):
                board.file_writer.add_summary(summary)
            if setting:
                board.close()

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if "_board" in vars(self):
            self._board.close()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as {"env.name": ...}, for tables: plain numbers, truth values and strings."""
    plain = (bool, int, float, str)
    return {name: value if isinstance(value, plain) else str(value) for name, value in leaves(tree).items()}


def jsonable(value: Any) -> Any:
    """Numbers of numpy as JSON has them; what JSON has no number for becomes "inf", "-inf" or "nan"."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    _whole(path, lambda part: part.write_text(json.dumps(jsonable(content), indent=2) + "\n", encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray | None]) -> None:
    """Write an .npz file of the arrays that are there, whole or not at all."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})

    _whole(path, write)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    _whole(path, lambda part: torch.save(dict(state), part))


def _whole(path: Path, write: Any) -> None:
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)
