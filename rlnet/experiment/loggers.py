"""Loggers of a run beside metrics.csv: TensorBoard, Weights & Biases, MLflow."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlnet.config import ConfigError, RunFailed
from rlnet.config.files import read_json
from rlnet.config.optional import chosen, needed
from rlnet.experiment.checkpoints import write_whole
from rlnet.experiment.tensorboard import Board


class Logger(Protocol):
    """Interface of a logger: takes scalars and images of a run."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by name."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Log an image [H, W, 3] uint8."""

    def close(self) -> None:
        """Write what is buffered, and close."""


def check_installed(logger: Any) -> None:
    """Raise ConfigError where the package of a chosen logger is not installed."""
    for name in chosen(logger):
        if name != "tensorboard":
            needed(name, name, f"logger={name}")


def start(name: str, folder: Path, settings: Mapping[str, Any], purge: int | None) -> Logger:
    """Start a logger for the run in a folder, or go on with that of the run.

    Args:
        name: one of `rlnet.config.optional.LOGGERS`.
        folder: of the run.
        settings: of the run, for its description.
        purge: as of `Board`.
    """
    if name == "tensorboard":
        return Board(folder, purge)
    return (WandbLogger if name == "wandb" else MlflowLogger)(folder, settings)


@contextmanager
def _told(name: str, kind: type[ConfigError] | type[RunFailed] = RunFailed) -> Iterator[None]:
    """What a service says against logging ends the run in one sentence: a `kind` of error."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise kind(f"logger={name}: cannot log ({type(error).__name__}: {said}); logger=none does without") from error


class _Known:
    """The identity of a run at a service, kept in the folder of the run: it goes on under the same one."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._name = folder / ".hydra" / "loggers.json", name

    def get(self) -> str | None:
        found = read_json(self._path) if self._path.is_file() else {}
        value = found.get(self._name) if isinstance(found, dict) else None
        return value if isinstance(value, str) else None

    def put(self, identity: str) -> None:
        found = read_json(self._path) if self._path.is_file() else {}
        text = json.dumps({**found, self._name: identity}) + "\n"
        write_whole(self._path, lambda part: part.write_text(text, encoding="utf-8"))


class WandbLogger:
    """A run of Weights & Biases; its project is WANDB_PROJECT, or rlnet."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._wandb, known = needed("wandb", "wandb", "logger=wandb"), _Known(folder, "wandb")
        with _told("wandb", ConfigError):
            project = os.environ.get("WANDB_PROJECT", "rlnet")
            own = {"project": project, "name": folder.name, "dir": str(folder), "config": dict(settings)}
            self._run = self._wandb.init(**own, id=known.get(), resume="allow")
            known.put(str(self._run.id))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        with _told("wandb"):
            self._run.log(dict(values), step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """See `Logger`."""
        with _told("wandb"):
            self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """See `Logger`."""
        with _told("wandb"):
            self._run.finish()


class MlflowLogger:
    """A run of MLflow, where MLFLOW_TRACKING_URI says; its experiment is MLFLOW_EXPERIMENT_NAME, or rlnet."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        mlflow, known = needed("mlflow", "mlflow", "logger=mlflow"), _Known(folder, "mlflow")
        with _told("mlflow", ConfigError):
            self._client = mlflow.MlflowClient()
            self._id = known.get()
            if self._id is None:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rlnet")
                experiment = self._client.get_experiment_by_name(name)
                place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
                self._id = self._client.create_run(place, run_name=folder.name).info.run_id
                for key, value in settings.items():
                    self._client.log_param(self._id, key, str(value)[:500])
                known.put(self._id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Logger`."""
        with _told("mlflow"):
            for name, value in values.items():
                self._client.log_metric(self._id, name, value, step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """See `Logger`."""
        with _told("mlflow"):
            self._client.log_image(self._id, image, f"{name}_{step}.png")

    def close(self) -> None:
        """See `Logger`."""
        with _told("mlflow"):
            self._client.set_terminated(self._id)
