"""The files that a run leaves: metrics.csv, TensorBoard events, values.npz, comparison.json."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.config import Config, leaves
from rlnet.config.optional import chosen
from rlnet.config.population import each_setting, member_settings, settings
from rlnet.experiment.checkpoints import DamagedError, write_whole, writing
from rlnet.experiment.loggers import Logger, start
from rlnet.experiment.tensorboard import Board

if TYPE_CHECKING:
    pass

Row = Mapping[str, np.ndarray]  # scalar name → [M]


class Record:
    """Writes rows of scalars to metrics.csv and to the loggers of the run.

    Args:
        folder: where to.
        config: of the run.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self._config = folder, config
        self._own = [  # what tells the members apart: the first cells of their rows
            {"member": m, "seed": seed, **setting}
            for m, (seed, setting) in enumerate(zip(config.member_seeds, member_settings(config), strict=True))
        ]
        self._names: list[str] | None = None  # the scalars of the rows
        self._purge: int | None = None  # from which step on TensorBoard is to forget what was logged before
        self._file: FileIO | None = None  # nothing waits in a buffer: what is written is there, or an error
        self._written, self._digest = 0, hashlib.sha256()  # bytes of metrics.csv, and their checksum

    def begin(self) -> None:
        """Start an empty metrics.csv, after the loggers have connected."""
        if set(chosen(self._config.logger)) - {"tensorboard"}:
            _ = self._loggers
        self._file = FileIO(self.folder / "metrics.csv", "w")

    def go_on(self, rows: bytes, step: int, *, copied: bool) -> None:
        """Continue a metrics.csv after the rows that a checkpoint knows; later rows are dropped.

        Args:
            rows: see `rows_until`.
            step: of the last one.
            copied: whether they come from another folder, so that TensorBoard gets them too.
        """
        path = self.folder / "metrics.csv"
        if copied:
            path.write_bytes(rows)
        else:
            os.truncate(path, len(rows))
        self._file, self._purge = FileIO(path, "a"), None if copied else step + 1
        self._written = len(rows)
        self._digest.update(rows)
        table = self._table(rows)
        if table:
            self._names = [name for name in table[0] if name != "step" and name not in self._own[0]]
        if copied:
            for group in self._groups(table):
                self._show(max(int(row["step"]) for row in group), self._scalars(group))

    def last_row(self) -> Row:
        """The scalars of the last logged step, [M] each; {} without rows."""
        groups = self._groups(self._table((self.folder / "metrics.csv").read_bytes()))
        return self._scalars(groups[-1]) if groups else {}

    def place(self) -> dict[str, Any]:
        """Length and checksum of metrics.csv (flushed to disk), for a checkpoint."""
        with writing(self.folder / "metrics.csv"):
            os.fsync(self._opened().fileno())
        return {"bytes": self._written, "sha256": self._digest.hexdigest()}

    def _opened(self) -> FileIO:
        if self._file is None:
            raise ValueError(f"{self.folder}: metrics.csv is not open; call `begin` first")
        return self._file

    def row(self, steps: np.ndarray, scalars: Row) -> None:
        """Log one row per member to metrics.csv, and the mean over members to the loggers.

        Args:
            steps: [M], environment steps of each member so far.
            scalars: [M] each; not finite where there is nothing to say. The first row decides the columns; a run that
                an older version began keeps those it has.
        """
        text = io.StringIO(newline="")
        names = list(scalars) if self._names is None else self._names
        table = csv.DictWriter(text, ["step", *self._own[0], *names], restval="")
        if self._names is None:
            table.writeheader()
            self._names = names
        for m, own in enumerate(self._own):
            cells = {name: _cell(values[m]) for name, values in scalars.items() if name in names}
            table.writerow({"step": int(steps[m]), **own, **cells})
        self._append(text.getvalue().encode())
        self._show(int(steps.max()), scalars)

    def _append(self, rows: bytes) -> None:
        """Rows behind those that there are, all of them or none."""
        file, rest = self._opened(), rows
        with writing(self.folder / "metrics.csv"):
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                os.ftruncate(file.fileno(), self._written)
                raise
        self._written += len(rows)
        self._digest.update(rows)

    def _show(self, step: int, scalars: Row) -> None:
        finite = {name: values[np.isfinite(values)] for name, values in scalars.items()}
        means = {name: float(values.mean()) for name, values in finite.items() if len(values)}
        for logger in self._loggers.values():
            logger.scalars(step, means)

    def _table(self, rows: bytes) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(rows.decode(), newline="")))

    def _groups(self, table: list[dict[str, str]]) -> list[list[dict[str, str]]]:
        """The rows of all members that were written together."""
        members = len(self._own)
        return [table[first : first + members] for first in range(0, len(table), members)]

    def _scalars(self, group: list[dict[str, str]]) -> Row:
        return {name: np.array([float(row[name] or "nan") for row in group]) for name in self._names or ()}

    @cached_property
    def _loggers(self) -> dict[str, Logger]:
        described = flat({**asdict(self._config), "resume": None})
        names = chosen(self._config.logger)
        return {name: start(name, self.folder, described, self._purge) for name in names}

    @property
    def shows_images(self) -> bool:
        """Whether there is a logger that images go to."""
        return bool(self._loggers)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Log an image [H, W, 3] uint8."""
        for logger in self._loggers.values():
            logger.image(name, image, step)

    def hparams(self, results: Row) -> None:
        """The settings of the run and its final numbers, means over seeds, for TensorBoard's table of runs.

        Where settings differ between members, each setting is a run of its own there, in a folder below this one.
        """
        from torch.utils.tensorboard.summary import hparams

        own = self._loggers.get("tensorboard")
        if not isinstance(own, Board):
            return
        grid, seeds = settings(self._config), self._config.seeds
        for k, (setting, alone) in enumerate(zip(grid, each_setting(self._config), strict=True)):
            means = {f"final/{name}": float(np.mean(values[k * seeds :][:seeds])) for name, values in results.items()}
            finite = {name: value for name, value in means.items() if math.isfinite(value)}
            name = ",".join(f"{key}={value:.12g}" for key, value in setting.items())
            shown = flat({**asdict(alone), "resume": None, "vary": {}, "seeds": seeds})
            with closing(Board(self.folder / "settings" / name)) if setting else nullcontext(own) as board:
                board.summaries(hparams(shown, finite))
                # TensorBoard looks up the columns of its table among the scalars.
                board.scalars(self._config.steps, finite)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        for logger in vars(self).get("_loggers", {}).values():
            logger.close()


def rows_until(path: Path, place: Mapping[str, Any]) -> bytes:
    """The first rows of a metrics.csv, up to a checkpoint, verified by checksum.

    Args:
        path: of the file.
        place: see `Record.place`.

    Raises:
        DamagedError: the file does not begin with what was written then.
    """
    try:
        with path.open("rb") as file:
            rows = file.read(place["bytes"])
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror})") from error
    if len(rows) < place["bytes"] or hashlib.sha256(rows).hexdigest() != place["sha256"]:
        raise DamagedError(f"{path}: cannot be read: it is damaged, its checksum differs")
    return rows


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as {"env.name": ...}, for tables: plain numbers, truth values and strings."""
    plain = (bool, int, float, str)
    return {name: value if isinstance(value, plain) else str(value) for name, value in leaves(tree).items()}


def jsonable(value: Any) -> Any:
    """Convert numpy numbers for JSON; non-finite ones become "inf", "-inf" or "nan"."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_whole(path, lambda part: part.write_text(json.dumps(jsonable(content), indent=2) + "\n", encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray | float | None]) -> None:
    """Write an .npz file of the arrays that are not None, atomically."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            given: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
            np.savez_compressed(file, **given)

    write_whole(path, write)
