"""TensorBoard's files in the folder of a run."""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rlnet.experiment.checkpoints import writing

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import FileWriter


class Board:
    """Writer of TensorBoard event files; call `close()`.

    It writes in a thread. An `OSError` there is raised again in the next call here, where it names the files; the
    traceback that Python would print of the thread is left out.

    Args:
        folder: where the files go.
        purge: the step from which on TensorBoard forgets what earlier files say; None: none.
    """

    def __init__(self, folder: Path, purge: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a moment to import: the first update need not wait

        self._path = folder / "events.out.tfevents.*"
        self._before, threading.excepthook = threading.excepthook, self._hook
        with writing(self._path):
            self._writer = SummaryWriter(str(folder), flush_secs=10, purge_step=purge)

    def _hook(self, said: threading.ExceptHookArgs) -> None:
        """What Python calls with an exception that ended a thread."""
        if not (isinstance(said.exc_value, OSError) and type(said.thread).__module__.startswith("tensorboard.")):
            self._before(said)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers by name."""
        with writing(self._path):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Log an image [H, W, 3] uint8."""
        with writing(self._path):
            self._writer.add_image(name, image, step, dataformats="HWC")

    def summaries(self, parts: Iterable[Any]) -> None:
        """Messages in TensorBoard's own form."""
        with writing(self._path):
            for part in parts:
                cast("FileWriter", self._writer.file_writer).add_summary(part)

    def close(self) -> None:
        """Write what is buffered, and close."""
        try:
            with writing(self._path):
                self._writer.close()
        finally:
            threading.excepthook = self._before
